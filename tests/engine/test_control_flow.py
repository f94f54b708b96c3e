"""Retry, Snooze, Cancel and Fail, and the follow-up jobs that commit with the outcome."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.engine.support import until

from durably import (
    Cancel,
    Fail,
    Job,
    JobContext,
    JobPriority,
    JobQueueService,
    JobStatus,
    PayloadError,
    Retry,
    Snooze,
    SyncJobContext,
)

Raise = Callable[[], BaseException]


async def run(queue: JobQueueService, handler: Any, **options: Any) -> Job:
    """A job of type parent, run to its end with *handler*."""
    queue.register_handler("parent", handler, **options)
    await queue.start_processing()
    return await queue.wait((await queue.add_job("parent")).id, timeout=5)


async def children(queue: JobQueueService) -> list[Any]:
    return [job.payload for job in await queue.get_jobs(type="child")]


# Retry


async def test_retry_is_a_failed_attempt_with_a_delay_of_its_own(queue: JobQueueService) -> None:
    """`raise Retry(delay=…)`: the attempt is spent, the next is exactly that far away."""

    async def handler(job: JobContext) -> None:
        raise Retry(delay=77.5)

    queue.register_handler("parent", handler)
    await queue.start_processing()
    added = await queue.add_job("parent")
    job = await until(queue, added.id, lambda job: bool(job.errors))

    assert (job.status, job.attempts) == (JobStatus.PENDING, 1)
    assert job.next_retry_at is not None
    assert job.next_retry_at - job.errors[0].at == timedelta(seconds=77.5)
    assert (job.errors[0].kind, job.error) == ("error", job.errors[0].message)


async def test_retry_without_delay_asks_the_policy(queue: JobQueueService) -> None:
    """`raise Retry()` waits as long as any failure would; attempts run out as ever."""
    runs: list[int] = []

    async def handler(job: JobContext) -> None:
        runs.append(job.attempts)
        raise Retry("not yet")

    job = await run(queue, handler)

    assert runs == [1, 2, 3]
    assert (job.status, job.error) == (JobStatus.FAILED, "not yet")


# Snooze


async def test_snooze_spends_no_attempt(queue: JobQueueService) -> None:
    """Snoozed more often than it has attempts, it still runs; no error is noted."""
    runs: list[int] = []

    async def handler(job: JobContext) -> str:
        runs.append(job.attempts)
        if len(runs) < 6:
            raise Snooze(0.001)
        return "done"

    job = await run(queue, handler)

    assert runs == [1] * 6
    assert (job.status, job.attempts, job.errors, job.error) == (JobStatus.COMPLETED, 1, (), None)


async def test_a_snoozed_job_is_scheduled(queue: JobQueueService) -> None:
    """Pending, no slot held, its attempt given back, `run_at` says when."""

    async def handler(job: JobContext) -> None:
        raise Snooze(300)

    queue.register_handler("parent", handler)
    await queue.start_processing()
    added = await queue.add_job("parent")
    job = await until(queue, added.id, lambda job: job.run_at is not None)
    other = await queue.add_job("parent", max_attempts=1)
    await until(queue, other.id, lambda job: job.run_at is not None)
    stats = await queue.get_stats()

    assert (job.status, job.attempts, job.next_retry_at) == (JobStatus.PENDING, 0, None)
    assert job.processed_at is not None
    assert job.run_at is not None
    assert timedelta(seconds=300) <= job.run_at - job.processed_at < timedelta(seconds=305)
    assert (stats.pending_jobs, stats.scheduled_jobs, stats.processing_jobs) == (2, 2, 0)


async def test_snooze_and_failures_mix(queue: JobQueueService) -> None:
    """Attempts count failures only; the numbers in `errors` follow them."""
    runs = 0

    async def handler(job: JobContext) -> None:
        nonlocal runs
        runs += 1
        if runs % 2:
            raise Snooze(0)
        raise ValueError(runs)

    job = await run(queue, handler)

    assert (job.status, job.attempts, runs) == (JobStatus.FAILED, 3, 6)
    assert [(e.attempt, e.message) for e in job.errors] == [(1, "2"), (2, "4"), (3, "6")]


# Cancel and Fail


async def test_cancel_ends_the_job_as_cancelled(queue: JobQueueService) -> None:
    """`raise Cancel("why")`: no more attempts, the reason is kept, it is no failure."""

    async def handler(job: JobContext) -> None:
        raise Cancel("nobody wants it")

    job = await run(queue, handler)

    assert (job.status, job.error, job.attempts) == (JobStatus.CANCELLED, "nobody wants it", 1)
    assert job.errors == ()
    assert job.completed_at is not None
    assert (await queue.get_stats()).error_rate == 0


async def test_fail_is_permanent(queue: JobQueueService) -> None:
    """`raise Fail("why")`: failed at once, attempts left or not."""

    async def handler(job: JobContext) -> None:
        raise Fail("no such address")

    job = await run(queue, handler)

    assert (job.status, job.error, job.attempts) == (JobStatus.FAILED, "no such address", 1)
    assert [(e.attempt, e.kind, e.message) for e in job.errors] == [(1, "error", "no such address")]


def test_each_says_what_was_asked_for() -> None:
    """Also where it is raised outside of a handler, and ends in a traceback."""
    assert str(Retry()) == "retry requested"
    assert str(Retry("why", delay=1)) == "why"
    assert str(Snooze(5)) == "snooze 5 s"
    assert str(Cancel()) == "cancelled by its handler"
    assert str(Fail()) == "failed by its handler"


@pytest.mark.parametrize("error", [Cancel("why"), Fail("why"), Retry("why"), Snooze(0)])
async def test_threads_raise_them_too(queue: JobQueueService, error: Exception) -> None:
    """A plain function decides the same way."""

    def handler(job: SyncJobContext) -> str:
        if not seen:
            seen.append(job.id)
            raise error
        return "done"

    seen: list[str] = []
    job = await run(queue, handler)

    if isinstance(error, Cancel):
        assert (job.status, job.error) == (JobStatus.CANCELLED, "why")
    elif isinstance(error, Fail):
        assert (job.status, job.error) == (JobStatus.FAILED, "why")
    else:
        assert (job.status, job.result) == (JobStatus.COMPLETED, "done")
        assert job.attempts == (2 if isinstance(error, Retry) else 1)


# Follow-up jobs


COMMITTED: dict[str, Raise | None] = {
    "return": None,
    "Fail": lambda: Fail("why"),
    "Cancel": lambda: Cancel("why"),
}
DROPPED: dict[str, Raise] = {
    "exception": lambda: ValueError("why"),
    "base exception": lambda: SystemExit(1),
    "cancelled itself": asyncio.CancelledError,
}


@pytest.mark.parametrize("end", COMMITTED.values(), ids=COMMITTED)
async def test_follow_ups_commit_with_the_outcome(
    queue: JobQueueService, end: Raise | None
) -> None:
    """On return, Fail and Cancel the jobs that the handler added are there."""

    async def handler(job: JobContext) -> None:
        job.add_job("child", 1)
        await job.add_job("child", 2, priority=JobPriority.LOW, tags=["t"])
        if end is not None:
            raise end()

    await run(queue, handler)
    first, second = await queue.get_jobs(type="child")

    assert (first.payload, first.status, first.max_attempts) == (1, JobStatus.PENDING, 3)
    assert (second.payload, second.priority, second.tags) == (2, JobPriority.LOW, ("t",))


@pytest.mark.parametrize("end", [lambda: Snooze(0), lambda: Retry("why", delay=0)])
async def test_follow_ups_commit_at_each_snooze_and_retry(
    queue: JobQueueService, end: Raise
) -> None:
    """Each time the handler says so, what it has added is committed; nothing twice."""
    runs: list[list[Any]] = []

    async def handler(job: JobContext) -> None:
        runs.append(await children(queue))
        job.add_job("child", len(runs))
        if len(runs) < 3:
            raise end()

    await run(queue, handler)

    assert runs == [[], [1], [1, 2]]
    assert await children(queue) == [1, 2, 3]


@pytest.mark.parametrize("end", DROPPED.values(), ids=DROPPED)
async def test_follow_ups_are_dropped_with_a_failed_attempt(
    queue: JobQueueService, end: Raise
) -> None:
    """On any other exception nothing of what the attempt added is there."""

    async def handler(job: JobContext) -> None:
        job.add_job("child", job.attempts)
        if job.attempts < 3:
            raise end()

    job = await run(queue, handler)

    assert job.status is JobStatus.COMPLETED
    assert await children(queue) == [3]


@pytest.mark.parametrize("in_thread", [False, True])
async def test_follow_ups_are_dropped_at_a_timeout(queue: JobQueueService, in_thread: bool) -> None:
    """The same when the attempt's time is up, also if the thread then returns normally."""
    go = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def handler(job: JobContext) -> None:
        job.add_job("child", job.attempts)
        if job.attempts == 1:
            await asyncio.Event().wait()

    def thread(job: SyncJobContext) -> None:
        job.add_job("child", job.attempts)
        if job.attempts == 1:
            asyncio.run_coroutine_threadsafe(go.wait(), loop).result(5)

    queue.register_handler("parent", thread if in_thread else handler, timeout=0.05)
    await queue.start_processing()
    added = await queue.add_job("parent")
    await until(queue, added.id, lambda job: bool(job.errors))
    go.set()
    job = await queue.wait(added.id, timeout=5)

    assert (job.status, [e.kind for e in job.errors]) == (JobStatus.COMPLETED, ["timeout"])
    assert await children(queue) == [2]


async def test_follow_ups_of_a_cancelled_job_are_dropped(queue: JobQueueService) -> None:
    """A handler that is interrupted by cancel_job has not said that it is done."""
    running = asyncio.Event()

    async def handler(job: JobContext) -> None:
        job.add_job("child")
        running.set()
        await asyncio.Event().wait()

    queue.register_handler("parent", handler)
    await queue.start_processing()
    added = await queue.add_job("parent")
    async with asyncio.timeout(5):
        await running.wait()
    await queue.cancel_job(added.id)
    job = await queue.wait(added.id, timeout=5)

    assert job.status is JobStatus.CANCELLED
    assert await children(queue) == []


async def test_follow_ups_are_not_visible_before(queue: JobQueueService) -> None:
    """Neither listed, nor counted, nor run while the handler runs, with and without await."""
    seen: list[Any] = []

    async def child(job: JobContext) -> None:
        seen.append("child ran")

    async def handler(job: JobContext) -> None:
        first = job.add_job("child")
        second = await job.add_job("child")
        await asyncio.sleep(0.05)
        stats = await queue.get_stats()
        seen.append((await children(queue), stats.total_jobs))
        seen.append([await queue.get_job(j.id) for j in (first, second)])

    queue.register_handler("child", child)
    await run(queue, handler)
    for job in await queue.get_jobs(type="child"):
        await queue.wait(job.id, timeout=5)

    assert seen == [([], 1), [None, None], "child ran", "child ran"]


async def test_a_follow_up_knows_its_id(queue: JobQueueService) -> None:
    """What add_job of the context gives names the job that will be."""
    promised: list[str] = []

    async def handler(job: JobContext) -> None:
        promised.append(job.add_job("child").id)

    await run(queue, handler)

    assert [job.id for job in await queue.get_jobs(type="child")] == promised


async def test_follow_ups_run(url: str) -> None:
    """A chain of jobs, each adding the next, runs to its end without waiting for an interval."""

    async def handler(job: JobContext) -> None:
        if job.payload > 0:
            job.add_job("chain", job.payload - 1, unique_key=f"link {job.payload}")
        else:
            last.set()

    last = asyncio.Event()
    async with JobQueueService(url, processing_interval=60) as queue:
        queue.register_handler("chain", handler)
        await queue.start_processing()
        await queue.add_job("chain", 50)
        async with asyncio.timeout(5):
            await last.wait()


async def test_a_wrong_follow_up_raises_in_the_handler(queue: JobQueueService) -> None:
    """Options are checked where they are given; the handler may go on."""
    raised: list[type[BaseException]] = []

    async def handler(job: JobContext) -> None:
        wrong: list[dict[str, Any]] = [
            {"type": ""},
            {"type": "child", "delay": -1},
            {"type": "child", "payload": object()},
            {"type": "child", "connection": None},
            {"type": "child", "nonsense": 1},
        ]
        for options in wrong:
            try:
                job.add_job(**options)
            except (TypeError, ValueError) as error:
                raised.append(type(error))

    job = await run(queue, handler)

    assert job.status is JobStatus.COMPLETED
    assert raised == [ValueError, ValueError, PayloadError, TypeError, TypeError]
    assert await children(queue) == []


async def test_a_thread_adds_follow_ups(queue: JobQueueService) -> None:
    """A plain function uses the same call."""

    def handler(job: SyncJobContext) -> None:
        job.add_job("child", "from a thread")

    await run(queue, handler)

    assert await children(queue) == ["from a thread"]


async def test_the_services_add_job_in_a_handler_is_independent(queue: JobQueueService) -> None:
    """`queue.add_job` commits at once, whatever becomes of the attempt."""

    async def handler(job: JobContext) -> None:
        await queue.add_job("child", job.attempts)
        raise Fail("why") if job.attempts == 2 else ValueError("why")

    await run(queue, handler)

    assert await children(queue) == [1, 2]


@pytest.mark.parametrize("control", [Retry, Fail, Cancel])
def test_a_reason_that_is_no_text_is_refused(control: type[Exception]) -> None:
    """`Retry(5)` is no delay of 5 s: it says so instead of dropping it."""
    with pytest.raises(TypeError, match=r"reason must be a str .* got 5"):
        control(5)
