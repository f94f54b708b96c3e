"""Looking at jobs: get, find, stats; and being told: notices, opening and closing."""

import asyncio
from random import Random

import pytest

from durably.domain.bulk import BulkAction
from durably.domain.clock import to_us
from durably.domain.errors import JobNotFoundError, StoreClosedError
from durably.domain.job import Job, JobPriority, JobStatus, State
from durably.domain.outcome import Lease
from durably.domain.search import Search
from durably.store import Notice, NoticeKind, Oldest, Store
from durably.testing.clock import VirtualClock
from durably.testing.conformance.control import each_unknown_id
from durably.testing.conformance.support import (
    LEASE_S,
    OUTCOMES,
    add,
    changes,
    check_counts,
    claim_of,
    completed,
    die,
    draft,
    everything,
    info,
    look,
    put,
    renew,
    report,
    reserved,
    retried,
    run_to,
    running,
    take_one,
)
from durably.testing.events import capture


class Reading:
    """What a store shows and tells."""

    @each_unknown_id
    async def test_any_unknown_text_is_no_job(self, store: Store, unknown: str) -> None:
        """`get` gives None and `find` nothing; paging after it raises JobNotFoundError."""
        await add(store)

        assert await store.get(unknown) is None
        assert await store.find(type=unknown) == []
        assert await store.find(queue=unknown) == []
        assert await store.events(subject=unknown) == []
        assert await store.steps(unknown) == {}
        assert await store.children(unknown) == []
        with pytest.raises(JobNotFoundError):
            await store.find(after=unknown)

    async def test_a_snapshot_shares_nothing(self, store: Store) -> None:
        """Whoever changes a payload that was read changes no job."""
        job = await add(store, payload={"a": []})
        job.payload["a"].append(1)
        (await look(store, job)).payload["a"].append(2)

        assert (await look(store, job)).payload == {"a": []}

    async def test_jobs_are_listed_by_priority_then_age(self, store: Store) -> None:
        """Whatever their status; the limit cuts the end off."""
        random = Random(3)  # noqa: S311  # the same jobs each time
        jobs = [await add(store, priority=random.randint(1, 4)) for _ in range(30)]
        worker = await store.register(info())
        for _ in range(10):
            await report(store, worker, completed(await take_one(store, worker, start=1)))
        ids = [job.id for job in sorted(jobs, key=lambda job: -job.priority)]

        assert ids == [job.id for job in await store.find()]
        assert ids[:7] == [job.id for job in await store.find(limit=7)]

    async def test_filters_are_combined(self, store: Store) -> None:
        """Every combination of status, type and queue gives exactly what matches all of it."""
        jobs = await self._assorted(store)

        for status in (None, *JobStatus):
            for kind in (None, "a", "b", "unknown"):
                for queue in (None, "p", "q", "unknown"):
                    expected = [
                        job
                        for job in jobs
                        if status in (None, job.status)
                        and kind in (None, job.type)
                        and queue in (None, job.queue)
                    ]
                    found = await store.find(status=status, type=kind, queue=queue, limit=500)
                    assert found == expected, (status, kind, queue)

    @pytest.mark.parametrize("status", [None, JobStatus.PENDING, JobStatus.FAILED])
    async def test_pages_make_up_the_whole(self, store: Store, status: JobStatus | None) -> None:
        """Each page begins after the last job of the one before: nothing is missing or double."""
        jobs = await self._assorted(store)
        paged: list[Job] = []
        while page := await store.find(
            status=status, limit=7, after=paged[-1].id if paged else None
        ):
            paged += page

        assert paged == [job for job in jobs if status in (None, job.status)]

    async def test_pages_are_stable(self, store: Store) -> None:
        """What happens to jobs between two pages moves no other job from one to the next."""
        jobs = [await add(store) for _ in range(9)]
        worker = await store.register(info())
        first = await store.find(limit=3)
        await report(store, worker, completed(await take_one(store, worker, start=1)))
        await take_one(store, worker, start=1)
        await add(store, priority=JobPriority.HIGH)
        second = await store.find(limit=3, after=first[-1].id)
        third = await store.find(limit=3, after=second[-1].id)

        paged = [job.id for job in (*first, *second, *third)]
        assert paged == [job.id for job in jobs]

    async def test_a_page_may_begin_after_any_job(self, store: Store) -> None:
        """Also after one that the filter leaves out."""
        first = await add(store, "a")
        second = await add(store, "b", priority=JobPriority.LOW)
        third = await add(store, "b", priority=JobPriority.HIGH)

        assert await store.find(type="b", after=first.id) == [second]
        assert await store.find(type="b", after=third.id) == [second]

    async def _assorted(self, store: Store) -> list[Job]:
        """Jobs of every status, priority, two types and two queues, as `find` should list them."""
        random = Random(5)  # noqa: S311  # the same jobs each time
        worker = await store.register(info())
        for kind in "ab":
            for queue in "pq":
                await store.enqueue(
                    [draft(kind, queue=queue, priority=random.randint(1, 4)) for _ in range(14)]
                )
        done = await store.exchange(
            worker, claim=claim_of("a", "b", queues=("p", "q"), start=36, reserve=6)
        )
        ended = random.sample(done.claimed, 30)
        await report(store, worker, *(random.choice(OUTCOMES)(c.lease, delay_s=9) for c in ended))
        listed = sorted(
            [await look(store, job) for job in await everything(store)],
            key=lambda job: (-job.priority, job.id),
        )
        assert {job.status for job in listed} == set(JobStatus)
        return listed

    # Figures

    async def test_figures_follow_every_change(self, store: Store, clock: VirtualClock) -> None:
        """After long random use by several workers the counts equal a recount, time and again."""
        drive = Drive(store, clock, seed=11)
        for _ in range(15):
            for _ in range(20):
                await drive.step()
            await check_counts(store, clock)

    async def test_scheduled_jobs_are_counted_apart(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """They are in a state of their own until their time has come; nobody need claim them."""
        await add(store, delay=10)
        await add(store)
        before = {(c.state, c.count) for c in (await store.stats()).counts}
        await clock.advance(10)
        after = {(c.state, c.count) for c in (await store.stats()).counts}

        assert before == {(State.SCHEDULED, 1), (State.READY, 1)}
        assert after == {(State.READY, 2)}

    async def test_a_claimed_job_is_counted_where_it_stands(self, store: Store) -> None:
        """Reserved and running jobs have states of their own, by queue and type."""
        await reserved(store, "a", queue="default")
        await running(store, "b")
        await running(store, "b")
        counts = {(c.queue, c.type, c.state): c.count for c in (await store.stats()).counts}

        assert counts == {
            ("default", "a", State.RESERVED): 1,
            ("default", "b", State.RUNNING): 2,
        }

    async def test_the_oldest_ready_job_is_known_by_queue_and_type(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Whatever its priority; scheduled, leased and final jobs are none."""
        first = await add(store, "b", priority=JobPriority.LOW)
        worker, _ = await running(store, "a")
        await clock.advance(1)
        second = await add(store, "a", queue="p")
        await add(store, "b", priority=JobPriority.CRITICAL)
        await add(store, "c", delay=60)
        await store.cancel((await add(store, "d")).id)
        found = await store.oldest_ready()
        await take_one(store, worker, "b", start=1)
        later = await store.oldest_ready()
        await take_one(store, worker, "b", start=1)

        assert found == (
            Oldest("default", "b", to_us(first.created_at)),
            Oldest("p", "a", to_us(second.created_at)),
        )
        assert later == found
        assert await store.oldest_ready() == found[1:]

    async def test_what_has_become_ready_is_the_oldest_from_then(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """A delayed, retried, rescued or returned job; pausing its queue changes nothing."""
        await add(store, delay=10)
        await clock.advance(30)
        due = clock.now_us() - 20_000_000
        await add(store)
        delayed = await store.oldest_ready()
        worker = await store.register(info())
        await report(store, worker, retried(await take_one(store, worker, start=1), 5))
        await store.cancel((await take_one(store, worker, start=1)).job_id)
        waiting = await store.oldest_ready()
        await clock.advance(6)
        await store.pause("default", paused=True)
        again = await store.oldest_ready()
        await store.pause("default", paused=False)
        await take_one(store, worker, start=1)
        none = await store.oldest_ready()
        await die(store, clock)
        died = clock.now_us()
        rescued = await store.oldest_ready()
        other = await store.register(info())
        await take_one(store, other, start=1)
        await clock.advance(1)
        await store.resign(other)

        assert delayed == (Oldest("default", "work", due),)
        assert waiting == none == ()
        assert again == (Oldest("default", "work", due + 25_000_000),)
        assert rescued == await store.oldest_ready() == (Oldest("default", "work", died),)

    async def test_the_oldest_ready_job_follows_every_change(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """After long random use there is one for each queue and type with ready jobs, no other."""
        drive = Drive(store, clock, seed=11)
        for _ in range(10):
            for _ in range(20):
                await drive.step()
            oldest = await store.oldest_ready()
            counts = (await store.stats()).counts
            ready = sorted((c.queue, c.type) for c in counts if c.state == State.READY)

            assert [(o.queue, o.type) for o in oldest] == ready
            assert all(o.ready_at_us <= clock.now_us() for o in oldest)

    # Notices

    async def test_a_new_job_is_noticed(self, store: Store) -> None:
        """READY comes after the job is stored."""
        async with capture(store, NoticeKind.READY):
            await add(store)

    async def test_the_end_of_a_job_is_noticed(self, store: Store) -> None:
        """FINISHED names the jobs that have become final, however they did."""
        worker = await store.register(info())
        async with capture(store, NoticeKind.FINISHED, count=4) as notices:
            ids = {
                (await run_to(store, worker, status)).id for status in JobStatus if status.is_final
            }
            job = await add(store)
            await store.cancel(job.id)

        assert {*ids, job.id} == {job_id for notice in notices for job_id in notice.ids}

    async def test_complete_is_noticed(self, store: Store) -> None:
        """FINISHED comes for what `complete` has committed, READY for its follow-ups."""
        _, lease = await running(store)
        outcome = completed(lease, changes=changes(draft()))
        async with (
            capture(store, NoticeKind.FINISHED) as finished,
            capture(store, NoticeKind.READY),
            store.complete(lease, lambda: outcome),
        ):
            pass

        assert finished[0].ids == (lease.job_id,)

    async def test_control_is_noticed(self, store: Store) -> None:
        """A cancel, a pause and a resume are CONTROL: workers look again."""
        worker, lease = await running(store)
        for control in (
            lambda: store.cancel(lease.job_id),
            lambda: store.pause("default", paused=True),
            lambda: store.pause("default", paused=False),
            lambda: store.write(changes(cancel=[lease.job_id])),
        ):
            async with capture(store, NoticeKind.CONTROL):
                await control()
        await report(store, worker, completed(lease))

    async def test_what_is_ready_again_is_noticed(self, store: Store, clock: VirtualClock) -> None:
        """READY comes for due, returned, rescued and retried jobs too."""
        worker = await store.register(info())
        job = await add(store, delay=5)
        await clock.advance(5)
        async with capture(store, NoticeKind.READY):
            await store.exchange(worker)
        await take_one(store, worker)
        async with capture(store, NoticeKind.READY):
            await store.exchange(worker, held=())
        await take_one(store, worker)
        await clock.advance(LEASE_S + 1)
        async with capture(store, NoticeKind.READY):
            await store.rescue()
        await store.cancel(job.id)
        async with capture(store, NoticeKind.READY):
            await store.retry(job.id)

    async def test_a_listener_can_leave(self, store: Store) -> None:
        """After its unsubscribe nothing is told any more, to it alone."""
        heard: list[Notice] = []
        store.subscribe(heard.append)()
        async with capture(store, NoticeKind.READY):
            await add(store)

        assert heard == []

    async def test_whoever_is_told_can_see_it(self, store: Store) -> None:
        """When a notice comes, what it tells of has been committed."""
        seen: asyncio.Future[JobStatus] = asyncio.get_running_loop().create_future()
        worker, lease = await running(store)

        async def look_now() -> None:
            seen.set_result((await look(store, lease)).status)

        tasks = []

        def listen(notice: Notice) -> None:
            if notice.kind is NoticeKind.FINISHED:
                tasks.append(asyncio.get_running_loop().create_task(look_now()))

        unsubscribe = store.subscribe(listen)
        await report(store, worker, completed(lease))

        async with asyncio.timeout(10):
            assert await seen is JobStatus.COMPLETED
        await asyncio.gather(*tasks)
        unsubscribe()

    # Opening and closing

    async def test_every_opening_needs_its_close(self, store: Store) -> None:
        """A store opened twice works until it was closed twice."""
        await store.open()
        await store.close()

        await add(store)

    async def test_a_closed_store_refuses(self, store: Store) -> None:
        """After the last close every operation raises StoreClosedError."""
        worker, lease = await running(store)
        await store.close()
        calls = [
            lambda: store.enqueue([draft()]),
            lambda: store.enqueue([draft()], changes(put("a"))),
            lambda: store.register(info()),
            lambda: store.announce(worker, info()),
            lambda: store.exchange(worker),
            lambda: store.exchange(worker, outcomes=[completed(lease)]),
            lambda: store.checkpoint(lease, step=("a", "1")),
            lambda: store.steps(lease.job_id),
            lambda: store.complete(lease, lambda: completed(lease)).__aenter__(),
            store.rescue,
            lambda: store.resign(worker),
            lambda: store.write(changes(put("a"))),
            lambda: store.record("thing", "a"),
            lambda: store.records("thing"),
            lambda: store.count_records("thing"),
            store.events,
            lambda: store.cancel(lease.job_id),
            lambda: store.retry(lease.job_id),
            lambda: store.delete(lease.job_id),
            lambda: store.act(BulkAction.RETRY, [lease.job_id]),
            lambda: store.pause("default", paused=True),
            store.paused,
            lambda: store.cleanup(0),
            lambda: store.get(lease.job_id),
            store.find,
            lambda: store.search(Search(), limit=1),
            lambda: store.match_ids(Search(), limit=1),
            lambda: store.children(lease.job_id),
            store.stats,
            store.oldest_ready,
            store.workers,
        ]
        try:
            for call in calls:
                with pytest.raises(StoreClosedError):
                    await call()
        finally:
            await store.open()

        assert await store.count_records("thing") == 0


class Drive:
    """Uses a store at random: several workers, every operation on jobs, time passing.

    Args:
        store: what is used.
        clock: the store's.
        seed: the same seed does the same, on every store.
    """

    def __init__(self, store: Store, clock: VirtualClock, seed: int) -> None:
        self._store = store
        self._clock = clock
        self._random = Random(seed)  # noqa: S311  # repeatable on purpose
        self._workers: list[int] = []
        self._leases: list[Lease] = []
        self._ids: list[str] = []

    async def step(self) -> None:
        """One operation."""
        doing = (self._add, self._add, self._claim, self._claim, self._end, self._control)
        rare = (self._time, self._die, self._leave, self._clean, self._act)
        await self._random.choice((*doing, *doing, *rare))()

    async def _add(self) -> None:
        pick = self._random.choice
        drafts = [
            draft(
                pick("ab"),
                queue=pick("pq"),
                priority=pick(list(JobPriority)),
                delay=pick((0.0, 0.0, 3.0, 60.0)),
                unique_key=pick((None, "k", "l")),
            )
            for _ in range(pick((1, 2, 5)))
        ]
        self._ids += [new.id for new in drafts]
        await self._store.enqueue(drafts)

    async def _claim(self) -> None:
        if len(self._workers) < 3:
            self._workers.append(await self._store.register(info()))
        claim = claim_of(
            "a", "b", queues=("p", "q"), start=self._random.randint(0, 3), reserve=2, limit=3
        )
        done = await self._store.exchange(self._random.choice(self._workers), claim=claim)
        self._leases += [claimed.lease for claimed in done.claimed]

    async def _end(self) -> None:
        if self._workers and self._leases:
            leases = self._random.choices(self._leases, k=3)
            await self._store.exchange(
                self._random.choice(self._workers),
                started=leases[:1],
                outcomes=[
                    self._random.choice(OUTCOMES)(
                        lease,
                        delay_s=self._random.choice((0.0, 5.0)),
                        changes=changes(draft("a", queue="p", unique_key="k"))
                        if self._random.random() < 0.3
                        else changes(),
                    )
                    for lease in leases[1:]
                ],
            )

    async def _control(self) -> None:
        known = [job for job in self._random.choices(self._ids, k=2) if await self._store.get(job)]
        for job_id in known:
            job = await look(self._store, job_id)
            if not job.status.is_final:
                await self._store.cancel(job_id)
            elif job.unique_key is None:
                await self._store.retry(job_id)

    async def _act(self) -> None:
        ids = self._random.choices(self._ids, k=4) if self._ids else []
        await self._store.act(self._random.choice(list(BulkAction)), ids)

    async def _time(self) -> None:
        await self._clock.advance(self._random.choice((0.5, 4.0, 20.0)))

    async def _die(self) -> None:
        await self._clock.advance(LEASE_S + 1)
        for worker in self._workers[1:]:
            await renew(self._store, worker)
        await self._store.rescue()
        del self._workers[:1]

    async def _leave(self) -> None:
        if self._workers:
            await self._store.resign(self._workers.pop())

    async def _clean(self) -> None:
        await self._store.cleanup(60.0)
