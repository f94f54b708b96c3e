"""get_stats: counts of every status, rates and percentiles (Q8)."""

import asyncio
import time
from typing import Any

import pytest
from tests.engine.support import happened, until

from durably import (
    Cancel,
    JobContext,
    JobPriority,
    JobQueueService,
    NewJob,
    QueueStats,
    Snooze,
)
from durably.domain.clock import to_us
from durably.store import Oldest, Store
from durably.testing import until as eventually


async def nothing(job: JobContext) -> None: ...


async def test_an_empty_store_has_zeros(queue: JobQueueService) -> None:
    """No NaN, no None; registered types appear with 0."""
    queue.register_handler("mail", nothing)
    queue.register_handler("report", nothing)
    stats = await queue.get_stats()

    assert stats == QueueStats(
        total_jobs=0,
        pending_jobs=0,
        processing_jobs=0,
        completed_jobs=0,
        failed_jobs=0,
        cancelled_jobs=0,
        scheduled_jobs=0,
        jobs_by_type={"mail": 0, "report": 0},
        throughput=0.0,
        error_rate=0.0,
        wait_p50=0.0,
        wait_p95=0.0,
        wait_p99=0.0,
        run_p50=0.0,
        run_p95=0.0,
        run_p99=0.0,
        late_outcomes=0,
        unhandled_types=(),
    )


async def test_it_is_known_since_when_jobs_wait(queue: JobQueueService) -> None:
    """The first of each queue and type, whether a handler is known or not; none for what has run."""
    queue.register_handler("done", nothing)
    await queue.start_processing()
    await queue.wait((await queue.add_job("done")).id, timeout=5)
    first = await queue.add_job("unknown")
    await queue.add_job("unknown", priority=JobPriority.HIGH)
    await queue.add_job("unknown", delay=60, queue="other")

    since = (Oldest("default", "unknown", to_us(first.created_at)),)
    assert await queue.oldest_ready() == since


async def test_every_status_is_counted(queue: JobQueueService) -> None:
    """Pending includes scheduled; types are counted over all statuses."""
    running, go = asyncio.Event(), asyncio.Event()

    async def block(job: JobContext) -> None:
        running.set()
        await go.wait()

    async def fail(job: JobContext) -> None:
        raise ValueError

    queue.register_handler("done", nothing)
    queue.register_handler("fail", fail)
    queue.register_handler("block", block)
    queue.register_handler("never used", nothing)
    await queue.start_processing()
    for name in ("done", "done", "fail"):
        await queue.wait((await queue.add_job(name, max_attempts=1)).id, timeout=5)
    for _ in range(3):
        await queue.cancel_job((await queue.add_job("unknown")).id)
    await queue.add_job("block")
    await happened(running)
    await queue.add_jobs([NewJob("done")] * 4 + [NewJob("done", delay=60)] * 5)
    stats = await queue.get_stats()
    go.set()

    assert (stats.total_jobs, stats.pending_jobs, stats.scheduled_jobs) == (16, 9, 5)
    assert (stats.processing_jobs, stats.completed_jobs) == (1, 2)
    assert (stats.failed_jobs, stats.cancelled_jobs) == (1, 3)
    assert stats.jobs_by_type == {"done": 11, "fail": 1, "block": 1, "unknown": 3, "never used": 0}


async def test_counts_are_right_after_everything_that_can_happen(queue: JobQueueService) -> None:
    """Retries, snoozes, unique keys, a person's retry and clean-up keep the counts exact."""
    runs = 0

    async def handler(job: JobContext) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise Snooze(0)
        if runs == 2:
            raise ValueError
        if job.payload == "cancel":
            raise Cancel("why")

    queue.register_handler("a", handler)
    await queue.start_processing()
    first = await queue.add_job("a", unique_key="k")
    await queue.wait(first.id, timeout=5)
    await queue.retry_job(first.id)
    await queue.wait(first.id, timeout=5)
    gone = await queue.wait((await queue.add_job("a", "cancel")).id, timeout=5)
    stats = await queue.get_stats()
    await asyncio.sleep(0.001)
    await queue.cleanup(0)
    empty = await queue.get_stats()

    assert gone.id != first.id
    assert (stats.total_jobs, stats.completed_jobs, stats.cancelled_jobs) == (2, 1, 1)
    assert (stats.pending_jobs, stats.processing_jobs, stats.scheduled_jobs) == (0, 0, 0)
    assert (empty.total_jobs, empty.jobs_by_type) == (0, {"a": 0})


async def test_a_scheduled_job_that_is_due_is_not_scheduled(queue: JobQueueService) -> None:
    """Once its time has come it is only pending."""
    await queue.add_job("a", delay=0.3)
    before = await queue.get_stats()
    await asyncio.sleep(0.31)
    after = await queue.get_stats()

    assert (before.pending_jobs, before.scheduled_jobs) == (1, 1)
    assert (after.pending_jobs, after.scheduled_jobs) == (1, 0)


async def test_throughput_and_error_rate(queue: JobQueueService) -> None:
    """Final jobs per second over 300 s; failed attempts by attempts."""

    async def handler(job: JobContext) -> None:
        if job.payload:
            raise ValueError

    queue.register_handler("a", handler)
    await queue.start_processing()
    for bad in (False, True):
        jobs = [await queue.add_job("a", bad) for _ in range(3)]
        for job in jobs:
            await queue.wait(job.id, timeout=5)
    stats = await queue.get_stats()

    # Three completed at once, three failed with three attempts each.
    assert stats.throughput == pytest.approx(6 / 300)
    assert stats.error_rate == pytest.approx(9 / 12)


async def test_percentiles(queue: JobQueueService) -> None:
    """How long jobs waited for their slot, and how long handlers ran."""

    async def handler(job: JobContext) -> None:
        await asyncio.sleep(job.payload)

    queue.register_handler("a", handler)
    jobs = await queue.add_jobs([NewJob("a", s) for s in [0.001] * 18 + [0.2] * 2])
    await asyncio.sleep(0.1)
    await queue.start_processing()
    for job in jobs:
        await queue.wait(job.id, timeout=5)
    stats = await queue.get_stats()

    assert 0.001 * 0.9 <= stats.run_p50 < 0.1
    assert 0.2 * 0.9 <= stats.run_p95 <= stats.run_p99 < 0.5
    assert 0.1 * 0.9 <= stats.wait_p50 <= stats.wait_p95 <= stats.wait_p99 < 3


async def test_figures_are_of_all_services(store: Store) -> None:
    """Whoever asks sees what every service has done."""
    async with JobQueueService(store) as one, JobQueueService(store) as two:
        for queue, name in ((one, "a"), (two, "b")):
            queue.register_handler(name, nothing)
            await queue.start_processing()
        for name in "aabb":
            await one.wait((await one.add_job(name)).id, timeout=5)
        # A service reports its own figures with its outcomes.
        seen = [await queue.get_stats() for queue in (one, two)]

    for stats in seen:
        assert stats.completed_jobs == 4
        assert stats.throughput == pytest.approx(4 / 300)
        assert stats.jobs_by_type == {"a": 2, "b": 2}


async def test_an_unknown_type_is_an_ordinary_type(queue: JobQueueService) -> None:
    """A type without a handler is counted with a number and named as unhandled."""
    await queue.start_processing()
    await queue.add_jobs([NewJob("who?")] * 2)
    stats = await queue.get_stats()

    assert stats.jobs_by_type == {"who?": 2}
    assert stats.unhandled_types == ("who?",)


async def test_a_snapshot_of_figures_is_ones_own(queue: JobQueueService) -> None:
    """Changing the dictionary of an answer changes no other answer."""
    queue.register_handler("a", nothing)
    stats: Any = await queue.get_stats()
    stats.jobs_by_type["a"] = 99

    assert (await queue.get_stats()).jobs_by_type == {"a": 0}


async def test_processing_counts_what_really_runs(url: str) -> None:
    """With many slots and jobs claimed ahead: never more than the slots."""
    most = 0
    async with JobQueueService(url, concurrency=3) as queue:

        async def handler(job: JobContext) -> None:
            nonlocal most
            if job.payload % 50 == 0:
                most = max(most, (await queue.get_stats()).processing_jobs)

        queue.register_handler("a", handler)
        jobs = await queue.add_jobs([NewJob("a", n) for n in range(1000)])
        await queue.start_processing()
        await until(queue, jobs[-1].id, lambda job: job.status.is_final)
        for job in jobs:
            await queue.wait(job.id, timeout=5)

    assert 1 <= most <= 3


async def test_run_times_are_told_however_coarse_the_loops_own_time_is(
    queue: JobQueueService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of uvloop moves in whole milliseconds, and only between turns."""
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "time", lambda: time.monotonic() // 0.05 * 0.05)

    async def brief(job: JobContext) -> None:
        ends_at = time.perf_counter() + 0.001
        while time.perf_counter() < ends_at:
            pass

    queue.register_handler("brief", brief)
    await queue.start_processing()
    for job in [await queue.add_job("brief") for _ in range(20)]:
        await queue.wait(job.id, timeout=10)

    async def told() -> bool:
        return (await queue.get_stats()).run_p50 > 0

    await eventually(told)
    assert 0.0009 <= (await queue.get_stats()).run_p50 <= 0.04
