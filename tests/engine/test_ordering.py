"""Which job runs next and how many run at once (Q1, Q2, Q9, Q12)."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest
from tests.engine.support import happened

from durably import JobContext, JobPriority, JobQueueService, JobStatus, NewJob, RetryPolicy
from durably.store import Store

Handler = Callable[[JobContext], Awaitable[None]]


class Meter:
    """A handler that counts how many of it run at once."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    async def __call__(self, job: JobContext) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(3):
            await asyncio.sleep(0)
        self.now -= 1


class Order:
    """A handler that notes the payloads it is run with."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    async def __call__(self, job: JobContext) -> None:
        self.seen.append(job.payload)


async def finish(queue: JobQueueService, ids: list[str]) -> None:
    for job_id in ids:
        await queue.wait(job_id, timeout=20)


async def test_concurrency_one_is_strictly_sequential(queue: JobQueueService) -> None:
    """One job at a time, whatever its type, async or in a thread, retried or not."""
    running = threading.Semaphore(1)
    overlaps: list[str] = []

    def enter(job: object) -> bool:
        if not running.acquire(blocking=False):
            overlaps.append(repr(job))
            return False
        return True

    async def on_loop(job: JobContext) -> None:
        if enter(job):
            await asyncio.sleep(0.001)
            running.release()
        if job.attempts == 1:
            raise ValueError("once")

    def in_thread(job: object) -> None:
        if enter(job):
            time.sleep(0.001)
            running.release()

    queue.register_handler("loop", on_loop)
    queue.register_handler("thread", in_thread)
    jobs = await queue.add_jobs([NewJob("loop"), NewJob("thread")] * 10)
    await queue.start_processing()
    await finish(queue, [job.id for job in jobs])

    assert overlaps == []


async def test_twenty_instant_jobs_take_no_twenty_intervals(queue: JobQueueService) -> None:
    """The next job starts when the last one ends, not at the next tick of 1 s."""
    meter = Meter()
    queue.register_handler("a", meter)
    jobs = await queue.add_jobs([NewJob("a")] * 20)
    began = time.monotonic()
    await queue.start_processing()
    await finish(queue, [job.id for job in jobs])

    assert time.monotonic() - began < 2
    assert meter.most == 1


@pytest.mark.parametrize("concurrency", [2, 5])
async def test_so_many_jobs_really_run_at_once(url: str, concurrency: int) -> None:
    """Each handler waits until all slots are taken: fewer would hang, more would be seen."""
    together = asyncio.Barrier(concurrency)
    meter = Meter()

    async def handler(job: JobContext) -> None:
        meter.now += 1
        meter.most = max(meter.most, meter.now)
        await together.wait()
        meter.now -= 1

    async with JobQueueService(url, concurrency=concurrency) as queue:
        queue.register_handler("a", handler)
        jobs = await queue.add_jobs([NewJob("a")] * concurrency * 4)
        await queue.start_processing()
        await finish(queue, [job.id for job in jobs])

    assert meter.most == concurrency


async def test_the_bound_holds_for_a_large_backlog(url: str) -> None:
    """A thousand short jobs with three slots: never four at once."""
    meter = Meter()
    async with JobQueueService(url, concurrency=3) as queue:
        queue.register_handler("a", meter)
        jobs = await queue.add_jobs([NewJob("a")] * 1000)
        await queue.start_processing()
        await finish(queue, [job.id for job in jobs])

    assert meter.most == 3


async def test_a_type_can_have_a_bound_of_its_own(url: str) -> None:
    """`max_concurrency` holds over all queues; other types use the free slots."""
    limited, free = Meter(), Meter()
    async with JobQueueService(url, concurrency=6, queues=("a", "b", "c")) as queue:
        queue.register_handler("limited", limited, max_concurrency=2)
        queue.register_handler("free", free)
        jobs = await queue.add_jobs(
            [
                NewJob(kind, queue=name)
                for _ in range(30)
                for name in "abc"
                for kind in ("limited", "free")
            ]
        )
        await queue.start_processing()
        await finish(queue, [job.id for job in jobs])

    assert limited.most == 2
    assert 2 < free.most <= 6


async def test_the_bounds_of_types_can_be_looked_at(url: str) -> None:
    """A worker says them of itself; types without one are not among them."""
    async with JobQueueService(url, concurrency=6) as queue:
        queue.register_handler("limited", Meter(), max_concurrency=2)
        queue.register_handler("free", Meter())
        await queue.start_processing()
        [worker] = await queue.workers()

    assert worker.info.limits == {"limited": 2}


async def test_a_bound_is_respected_while_earlier_ones_run(url: str) -> None:
    """Two slots, a type bound to one: the second job waits although a slot is free."""
    started: list[object] = []
    go = asyncio.Event()
    first = asyncio.Event()

    async def limited(job: JobContext) -> None:
        started.append(job.payload)
        first.set()
        await go.wait()

    async with JobQueueService(url, concurrency=2) as queue:
        queue.register_handler("limited", limited, max_concurrency=1)
        queue.register_handler("free", Order())
        await queue.start_processing()
        one = await queue.add_job("limited", 1)
        async with asyncio.timeout(5):
            await first.wait()
        two = await queue.add_job("limited", 2)
        await finish(queue, [(await queue.add_job("free")).id for _ in range(5)])
        assert started == [1]
        go.set()
        await finish(queue, [one.id, two.id])

    assert started == [1, 2]


async def test_higher_priority_first_then_insertion_order(queue: JobQueueService) -> None:
    """Strict at the claim; equals keep the order in which they were added, across types."""
    order = Order()
    queue.register_handler("a", order)
    queue.register_handler("b", order)
    for n in range(3):
        for priority in (
            JobPriority.LOW,
            JobPriority.CRITICAL,
            JobPriority.NORMAL,
            JobPriority.HIGH,
        ):
            await queue.add_job("ab"[n % 2], [int(priority), n], priority=priority)
    last = await queue.add_job("a", "last", priority=JobPriority.LOW)
    await queue.start_processing()
    await finish(queue, [last.id])

    assert order.seen == [[p, n] for p in (4, 3, 2, 1) for n in range(3)] + ["last"]


async def test_among_equals_the_one_ready_longest_runs_first(queue: JobQueueService) -> None:
    """A delayed job takes its place by when it became ready, not by when it was added."""
    order = Order()
    queue.register_handler("a", order)
    delayed = await queue.add_job("a", "delayed", delay=0.05)
    await queue.add_job("a", "ready before")
    assert delayed.run_at is not None
    await asyncio.sleep(0.06)
    last = await queue.add_job("a", "ready after")
    await queue.start_processing()
    await finish(queue, [last.id])

    assert order.seen == ["ready before", "delayed", "ready after"]


async def test_a_retried_job_queues_behind_those_that_were_ready(url: str) -> None:
    """A retry becomes ready when its delay ends: it does not overtake its equals."""
    seen: list[object] = []

    async def handler(job: JobContext) -> None:
        seen.append(job.payload)
        if job.payload == "x" and job.attempts == 1:
            raise ValueError("once")

    async with JobQueueService(url, retry=_no_delay()) as queue:
        queue.register_handler("a", handler)
        jobs = await queue.add_jobs([NewJob("a", "x"), NewJob("a", "y"), NewJob("a", "z")])
        await queue.start_processing()
        await finish(queue, [job.id for job in jobs])

    assert seen == ["x", "y", "z", "x"]


def _no_delay() -> RetryPolicy:
    return RetryPolicy(base_delay=0, jitter=0)


async def test_with_one_slot_nothing_is_claimed_ahead(queue: JobQueueService) -> None:
    """A CRITICAL job that is added while a handler runs is the next, however many wait."""
    seen: list[object] = []

    async def handler(job: JobContext) -> None:
        seen.append(job.payload)
        if job.payload == 150:
            await queue.add_job("a", "critical", priority=JobPriority.CRITICAL)

    queue.register_handler("a", handler)
    jobs = await queue.add_jobs([NewJob("a", n) for n in range(300)])
    await queue.start_processing()
    await finish(queue, [job.id for job in jobs])

    assert seen[151] == "critical"


@pytest.mark.parametrize("slow", [0.005, 0.015, 0.06])
async def test_jobs_claimed_ahead_hold_a_critical_one_up_for_20_ms_at_most(
    url: str, slow: float
) -> None:
    """The pace is learnt from fast jobs; then slow ones come, and a CRITICAL one among them."""
    slots = 2
    starts: list[float] = []
    first_slow = asyncio.Event()
    critical = asyncio.Event()

    async def quick(job: JobContext) -> None: ...

    async def slowly(job: JobContext) -> None:
        starts.append(time.monotonic())
        first_slow.set()
        await asyncio.sleep(slow)

    async def urgent(job: JobContext) -> None:
        critical.set()

    async with JobQueueService(url, concurrency=slots) as queue:
        for name, handler in (("quick", quick), ("slow", slowly), ("urgent", urgent)):
            queue.register_handler(name, handler)
        await queue.add_jobs([NewJob("quick")] * 3000 + [NewJob("slow")] * 400)
        await queue.start_processing()
        async with asyncio.timeout(20):
            await first_slow.wait()
            await queue.add_job("urgent", priority=JobPriority.CRITICAL)
            added, before = time.monotonic(), len(starts)
            await critical.wait()
            waited, ahead = time.monotonic() - added, len(starts) - before
        await queue.shutdown(0)

    # Each slot may start what was claimed ahead for 20 ms, and must end what it runs then.
    assert ahead <= slots * (1 + 0.020 / slow), f"{ahead} jobs ran first, {waited:.3f} s"


async def test_a_critical_job_takes_the_first_slot_that_is_free() -> None:
    """Also when long jobs have been claimed ahead for that slot."""
    gates = [asyncio.Event(), asyncio.Event()]
    waiting: list[asyncio.Event] = []
    both = asyncio.Event()
    seen: list[str] = []
    two_more = asyncio.Event()

    async def quick(job: JobContext) -> None: ...

    async def gate(job: JobContext) -> None:
        waiting.append(gates[job.payload])
        if len(waiting) == 2:
            both.set()
        await gates[job.payload].wait()

    async def note(job: JobContext) -> None:
        seen.append(job.type)
        if len(seen) == 2:
            two_more.set()
        await asyncio.sleep(0.2)

    async with JobQueueService("memory://", concurrency=2) as queue:
        for name, handler in (("quick", quick), ("gate", gate), ("long", note), ("urgent", note)):
            queue.register_handler(name, handler)
        await queue.add_jobs([NewJob("quick")] * 3000 + [NewJob("gate", 0), NewJob("gate", 1)])
        await queue.add_jobs([NewJob("long")] * 400)
        await queue.start_processing()
        await happened(both)
        await queue.add_job("urgent", priority=JobPriority.CRITICAL)
        # The worker is told of it at its next step, well before the 20 ms are over.
        await asyncio.sleep(0.01)
        for event in gates:
            event.set()
        await happened(two_more)
        await queue.shutdown(0)

    assert seen[0] == "urgent"


async def test_a_job_claimed_ahead_shows_as_pending_and_is_returned_at_stop(store: Store) -> None:
    """No attempt is spent on what has not started; after a stop others can run it at once."""
    go = asyncio.Event()
    blocked: set[str] = set()
    both = asyncio.Event()

    async def quick(job: JobContext) -> None: ...

    async def blocker(job: JobContext) -> None:
        blocked.add(job.id)
        if len(blocked) == 2:
            both.set()
        await go.wait()

    async with (
        JobQueueService(store, concurrency=2) as one,
        JobQueueService(store, concurrency=4) as two,
    ):
        for queue in (one, two):
            queue.register_handler("quick", quick)
        one.register_handler("blocker", blocker)
        await one.add_jobs([NewJob("quick")] * 2000 + [NewJob("blocker")] * 2)
        late = await one.add_jobs([NewJob("quick")] * 300)
        await one.start_processing()
        async with asyncio.timeout(20):
            await both.wait()
        processing = {job.id for job in await one.get_jobs(status=JobStatus.PROCESSING)}
        pending = await one.get_jobs(status=JobStatus.PENDING, limit=1000)
        await one.stop_processing()
        await two.start_processing()
        done = [await two.wait(job.id, timeout=20) for job in late]
        go.set()
        await one.shutdown()

    assert processing == blocked
    assert {job.id for job in pending} == {job.id for job in late}
    assert {(job.attempts, job.processed_at) for job in pending} == {(0, None)}
    assert {(job.status, job.attempts) for job in done} == {(JobStatus.COMPLETED, 1)}


async def test_low_priority_waits_for_ever_unless_it_ages(url: str) -> None:
    """Strict by default; with `aging`, waiting is worth priority: so many seconds a level."""
    async with JobQueueService(url) as queue:
        assert await _first_of_old_low_and_new_critical(queue) == "critical"


@pytest.fixture
async def aging(url: str) -> JobQueueService:
    return JobQueueService(url, aging=0.02)


async def test_with_aging_an_old_low_job_overtakes(aging: JobQueueService) -> None:
    """Three levels at 0.02 s are worth 0.06 s: a LOW job that old goes before a CRITICAL one."""
    async with aging as queue:
        assert await _first_of_old_low_and_new_critical(queue) == "low"


async def test_with_aging_priority_still_counts(aging: JobQueueService) -> None:
    """Of two jobs as old as each other the higher one runs first."""
    order = Order()
    async with aging as queue:
        queue.register_handler("a", order)
        jobs = await queue.add_jobs(
            [
                NewJob("a", "low", priority=JobPriority.LOW),
                NewJob("a", "high", priority=JobPriority.HIGH),
            ]
        )
        await queue.start_processing()
        await finish(queue, [job.id for job in jobs])

    assert order.seen == ["high", "low"]


async def test_aging_orders_what_is_claimed_ahead_too(url: str) -> None:
    """With several slots and a learnt pace, old LOW jobs still go before new CRITICAL ones."""
    order = Order()
    async with JobQueueService(url, aging=0.02, concurrency=2) as queue:
        queue.register_handler("a", order)
        await queue.add_jobs([NewJob("a", "quick", priority=JobPriority.LOW)] * 1500)
        jobs = await queue.add_jobs([NewJob("a", "old", priority=JobPriority.LOW)] * 20)
        await asyncio.sleep(0.1)
        jobs += await queue.add_jobs([NewJob("a", "new", priority=JobPriority.CRITICAL)] * 20)
        await queue.start_processing()
        await finish(queue, [job.id for job in jobs])

    assert order.seen == ["quick"] * 1500 + ["old"] * 20 + ["new"] * 20


async def _first_of_old_low_and_new_critical(queue: JobQueueService) -> object:
    order = Order()
    queue.register_handler("a", order)
    low = await queue.add_job("a", "low", priority=JobPriority.LOW)
    await asyncio.sleep(0.1)
    await queue.add_job("a", "critical", priority=JobPriority.CRITICAL)
    await queue.start_processing()
    await finish(queue, [low.id])
    return order.seen[0]


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_with_aging_low_priority_does_not_starve(url: str, concurrency: int) -> None:
    """CRITICAL jobs that each add another never let the queue run dry; the LOW one runs."""
    fed = True

    async def critical(job: JobContext) -> None:
        if fed:
            await job.add_job("critical", priority=JobPriority.CRITICAL)
        await asyncio.sleep(0)

    async def low(job: JobContext) -> None: ...

    async with JobQueueService(url, aging=0.02, concurrency=concurrency) as queue:
        queue.register_handler("critical", critical)
        queue.register_handler("low", low)
        await queue.add_jobs([NewJob("critical", priority=JobPriority.CRITICAL)] * 300)
        job = await queue.add_job("low", priority=JobPriority.LOW)
        await queue.start_processing()
        done = await queue.wait(job.id, timeout=10)
        fed = False
        await queue.shutdown(0)

    assert done.status is JobStatus.COMPLETED
