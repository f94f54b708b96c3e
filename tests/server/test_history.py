"""The history: minutes that are written once, survive restarts, and add up."""

from tests.server.support import running

from durably import JobContext, JobQueueService
from durably.domain.histogram import bucket_of
from durably.server.history import History, Range
from durably.store import ACTIVITY_WINDOW_S, Activity, Counted, StoreStats
from durably.testing import VirtualClock


class Figures(JobQueueService):
    """A queue whose figures are the test's."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__("memory://", clock=clock)
        self.windows: list[Activity] = []
        self.counts: tuple[Counted, ...] = ()
        self._virtual = clock

    def ran(self, jobs: int, *, failed: int = 0, ago_s: int = 0) -> None:
        """So many attempts have ended *ago_s* seconds ago."""
        window = (self._virtual.now_us() // 1_000_000 - ago_s) // ACTIVITY_WINDOW_S
        wait = {bucket_of(0.25): jobs}
        self.windows.append(Activity(window, jobs - failed, jobs, failed, wait, wait))

    async def get_figures(self) -> StoreStats:
        return StoreStats(counts=self.counts, activity=tuple(self.windows), late_outcomes=0)


async def pass_minutes(clock: VirtualClock, *histories: History, minutes: int = 1) -> None:
    """Let time pass, with a look every 15 s as the service has it."""
    for _ in range(minutes * 4):
        await clock.advance(15)
        for history in histories:
            await history.look()


async def test_each_minute_is_written_with_what_happened_in_it() -> None:
    """Ends, attempts, failures, percentiles and how many waited; empty minutes are zero."""
    clock = VirtualClock()
    async with Figures(clock) as queue:
        history = History(queue, clock)
        queue.counts = (Counted("q", "a", 1, 7), Counted("q", "a", 0, 2), Counted("q", "b", 3, 1))
        queue.ran(10, failed=4)
        await pass_minutes(clock, history, minutes=3)
        view = await history.view(Range.HOUR)
        assert (view.step, len(view.at), view.at[-1] - view.at[0]) == (60, 60, 59 * 60)
        assert [n for n in view.attempts if n] == [10]
        at = view.attempts.index(10)
        assert (view.finished[at], view.failed[at]) == (6, 4)
        assert view.wait_p50[at] is not None
        assert abs((view.wait_p50[at] or 0) - 0.25) < 0.0125
        assert view.wait_p50[at - 1] is None
        assert (view.ready[-1], view.scheduled[-1], view.processing[-1]) == (7, 2, 1)
        assert view.ready[0] is None


async def test_the_history_survives_a_restart() -> None:
    """Another server on the store shows the same."""
    clock = VirtualClock()
    async with Figures(clock) as queue:
        first = History(queue, clock)
        queue.ran(10)
        await pass_minutes(clock, first, minutes=2)
        assert await History(queue, clock).view(Range.HOUR) == await first.view(Range.HOUR)


async def test_two_servers_write_a_minute_once() -> None:
    """Nothing is counted twice, in minutes or hours, whoever is first."""
    clock = VirtualClock()
    async with Figures(clock) as queue:
        one, two = History(queue, clock), History(queue, clock)
        queue.ran(10)
        await pass_minutes(clock, one, two, minutes=6)
        for history in (one, two):
            for chosen in (Range.HOUR, Range.DAY):
                assert sum((await history.view(chosen)).attempts) == 10
        await pass_minutes(clock, one, two, minutes=60)
        assert sum((await one.view(Range.WEEK)).attempts) == 10


async def test_what_happened_while_no_server_looked_is_found_out() -> None:
    """Up to four minutes back; how many waited then is not invented."""
    clock = VirtualClock()
    async with Figures(clock) as queue:
        await clock.advance(600)
        queue.ran(5, ago_s=150)
        history = History(queue, clock)
        await history.look()
        view = await history.view(Range.HOUR)
        assert sum(view.attempts) == 5
        assert view.ready[view.attempts.index(5)] is None


async def test_a_day_and_a_week_add_minutes_up() -> None:
    """Five minutes a point and an hour a point; nothing is lost between them."""
    clock = VirtualClock()
    async with Figures(clock) as queue:
        history = History(queue, clock)
        for _ in range(130):
            queue.ran(1)
            await pass_minutes(clock, history)
        await clock.advance(3_600)
        await history.look()
        day, week = await history.view(Range.DAY), await history.view(Range.WEEK)
        assert (day.step, len(day.at), week.step, len(week.at)) == (300, 288, 3_600, 168)
        assert sum(day.attempts) == sum(week.attempts)
        assert sum(day.attempts) >= 129
        assert max(day.attempts) == 5


async def test_the_last_minutes_are_shown_as_workers_report_them() -> None:
    """Ten seconds a point, for five minutes, without waiting for a minute's end."""
    clock = VirtualClock()
    async with Figures(clock) as queue:
        history = History(queue, clock)
        queue.counts = (Counted("q", "a", 1, 7),)
        queue.ran(3)
        await history.look()
        await clock.advance(20)
        view = await history.view(Range.LIVE)
        assert (view.step, view.at[-1] - view.at[0]) == (10, 280)
        assert sum(view.finished) == 3
        assert (view.ready[0], view.ready[-1]) == (None, 7)


async def test_the_last_point_is_as_long_as_the_others() -> None:
    """What goes on evenly shows no fall at the end of a day or a week."""
    clock = VirtualClock()
    async with Figures(clock) as queue:
        history = History(queue, clock)
        for _ in range(150):
            queue.ran(10)
            await pass_minutes(clock, history)
        for chosen, each in ((Range.HOUR, 10), (Range.DAY, 50), (Range.WEEK, 600)):
            view = await history.view(chosen)
            assert view.attempts[-1] == each, chosen


async def test_old_minutes_are_removed_and_hours_stay() -> None:
    """After a day minutes are only in their hours."""
    clock = VirtualClock()
    async with Figures(clock) as queue:
        history = History(queue, clock)
        queue.ran(10)
        await pass_minutes(clock, history, minutes=2)
        written = await queue.count_records("history_minute")
        assert written >= 2
        await history.prune()
        assert await queue.count_records("history_minute") == written
        await clock.advance(26 * 3_600)
        await history.prune()
        assert await queue.count_records("history_minute") == 0
        assert sum((await history.view(Range.WEEK)).attempts) == 10


async def test_the_growth_of_the_backlog_is_what_came_beyond_what_ended() -> None:
    """Jobs a second over the last looks; none is invented before there are two."""
    clock = VirtualClock()
    async with Figures(clock) as queue:
        history = History(queue, clock)
        assert history.growth() == 0
        await history.look()
        assert history.growth() == 0
        await clock.advance(15)
        queue.counts = (Counted("q", "a", 1, 30), Counted("q", "a", 4, 500))
        await history.look()
        assert history.growth() == 2.0


async def test_the_growth_forgets_what_was_before_the_store_was_away() -> None:
    """Only looks of the last 300 s count, however few there are."""
    clock = VirtualClock()
    async with Figures(clock) as queue:
        history = History(queue, clock)
        await history.look()
        await clock.advance(3_600)
        queue.counts = (Counted("q", "a", 1, 1_000),)
        await history.look()
        assert history.growth() == 0
        await clock.advance(20)
        await history.look()
        assert history.growth() == 0


async def test_jobs_for_later_are_no_growth_before_their_time() -> None:
    """A hundred thousand for tomorrow need no slots today."""
    clock = VirtualClock()
    async with Figures(clock) as queue:
        history = History(queue, clock)
        await history.look()
        await clock.advance(15)
        queue.counts = (Counted("q", "a", 0, 100_000),)
        await history.look()
        assert history.growth() == 0
        await clock.advance(15)
        queue.counts = (Counted("q", "a", 0, 99_940), Counted("q", "a", 1, 60))
        await history.look()
        assert history.growth() == 2.0


async def test_a_real_queue_has_a_history() -> None:
    """What a worker does appears on the page of the last five minutes."""
    async with running() as api:
        api.queue.register_handler("noop", _noop)
        await api.final(await api.job())
        view = await api.service.history.view(Range.LIVE)
        assert len(view.at) == len(view.finished) > 20


async def _noop(job: JobContext) -> None:
    del job
