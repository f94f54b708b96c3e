"""cancel_job: of pending, running and finished jobs, async and in threads (Q6)."""

import asyncio
import threading
from typing import Any

import msgspec
import pytest
from tests.engine.support import happened, until

from durably import (
    Job,
    JobContext,
    JobQueueService,
    JobStateError,
    JobStatus,
    NewJob,
    RetryPolicy,
    Snooze,
    SyncJobContext,
)
from durably.store import Exchanged, Store
from durably.stores.memory import MemoryStore


async def start(queue: JobQueueService, handler: Any) -> Job:
    """A job of *handler*, added to a service that processes."""
    queue.register_handler("a", handler)
    await queue.start_processing()
    return await queue.add_job("a")


@pytest.mark.parametrize("options", [{}, {"delay": 60}])
async def test_a_pending_job_is_cancelled_at_once(
    queue: JobQueueService, options: dict[str, Any]
) -> None:
    """Ready or scheduled: final on return, and never run."""
    ran: list[str] = []

    async def handler(job: JobContext) -> None:
        ran.append(job.id)

    job = await queue.add_job("a", **options)
    cancelled = await queue.cancel_job(job.id)
    queue.register_handler("a", handler)
    await queue.start_processing()
    await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert job.id not in ran
    assert cancelled == await queue.get_job(job.id)
    assert (cancelled.status, cancelled.cancelled) == (JobStatus.CANCELLED, True)
    assert (cancelled.attempts, cancelled.errors) == (0, ())
    assert cancelled.completed_at is not None
    assert cancelled.processed_at is None


async def test_a_job_that_waits_for_its_retry_is_cancelled_at_once(url: str) -> None:
    """Its history stays."""

    async def handler(job: JobContext) -> None:
        raise ValueError("first")

    async with JobQueueService(url, retry=RetryPolicy(base_delay=60)) as queue:
        job = await start(queue, handler)
        await until(queue, job.id, lambda job: bool(job.errors))
        cancelled = await queue.cancel_job(job.id)

    assert (cancelled.status, cancelled.attempts) == (JobStatus.CANCELLED, 1)
    assert [e.message for e in cancelled.errors] == ["first"]
    assert cancelled.next_retry_at is None


async def test_a_running_async_handler_is_interrupted(queue: JobQueueService) -> None:
    """Processing with `cancelled` true until the handler has ended, then cancelled."""
    running, unwinding, go = asyncio.Event(), asyncio.Event(), asyncio.Event()
    told: list[bool] = []

    async def handler(job: JobContext) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.append(job.cancelled)
            unwinding.set()
            await go.wait()

    job = await start(queue, handler)
    await happened(running)
    answer = await queue.cancel_job(job.id)
    await happened(unwinding)
    meanwhile = await queue.get_job(job.id)
    go.set()
    done = await queue.wait(job.id, timeout=5)

    assert (answer.status, answer.cancelled) == (JobStatus.PROCESSING, True)
    assert meanwhile is not None
    assert (meanwhile.status, meanwhile.cancelled) == (JobStatus.PROCESSING, True)
    assert told == [True]
    assert (done.status, done.cancelled, done.errors) == (JobStatus.CANCELLED, True, ())
    assert done.completed_at is not None


async def test_the_interruption_comes_at_once(url: str) -> None:
    """Not at the next processing interval."""
    running = asyncio.Event()

    async def handler(job: JobContext) -> None:
        running.set()
        await asyncio.Event().wait()

    async with JobQueueService(url, processing_interval=60) as queue:
        job = await start(queue, handler)
        await happened(running)
        await queue.cancel_job(job.id)
        done = await queue.wait(job.id, timeout=2)

    assert done.status is JobStatus.CANCELLED


async def test_a_handler_that_returns_all_the_same_is_completed(queue: JobQueueService) -> None:
    """It caught the interruption and has done its work: result and follow-ups count."""
    running = asyncio.Event()

    async def handler(job: JobContext) -> str:
        job.add_job("child")
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done all the same"
        return "never"

    job = await start(queue, handler)
    await happened(running)
    await queue.cancel_job(job.id)
    done = await queue.wait(job.id, timeout=5)

    assert (done.status, done.result) == (JobStatus.COMPLETED, "done all the same")
    assert (done.error, done.attempts) == (None, 1)
    assert len(await queue.get_jobs(type="child")) == 1


@pytest.mark.parametrize("end", [ValueError("meanwhile"), Snooze(0), SystemExit(1)])
async def test_any_other_end_is_cancelled(queue: JobQueueService, end: BaseException) -> None:
    """A cancelled job is not run again, whatever its handler raises on its way out."""
    running = asyncio.Event()
    runs: list[int] = []

    async def handler(job: JobContext) -> None:
        runs.append(job.attempts)
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise end from None

    job = await start(queue, handler)
    await happened(running)
    await queue.cancel_job(job.id)
    done = await queue.wait(job.id, timeout=5)

    assert (done.status, runs) == (JobStatus.CANCELLED, [1])
    assert (await queue.get_stats()).pending_jobs == 0


async def test_a_second_cancel_changes_nothing(queue: JobQueueService) -> None:
    """While the handler unwinds it may be asked again; it is interrupted once."""
    running, unwinding, go = asyncio.Event(), asyncio.Event(), asyncio.Event()
    interruptions: list[str] = []

    async def handler(job: JobContext) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            unwinding.set()
            try:
                await go.wait()
            except asyncio.CancelledError:
                interruptions.append("again")

    job = await start(queue, handler)
    await happened(running)
    await queue.cancel_job(job.id)
    await happened(unwinding)
    again = await queue.cancel_job(job.id)
    go.set()
    done = await queue.wait(job.id, timeout=5)

    assert (again.status, again.cancelled) == (JobStatus.PROCESSING, True)
    assert interruptions == []
    assert done.status is JobStatus.CANCELLED


@pytest.mark.parametrize("returns", [True, False])
async def test_a_thread_is_asked(queue: JobQueueService, returns: bool) -> None:
    """It reads `cancelled`; returning completes the job, raising cancels it."""
    running, loop = asyncio.Event(), asyncio.get_running_loop()
    asked = threading.Event()

    def handler(job: SyncJobContext) -> str:
        loop.call_soon_threadsafe(running.set)
        while not job.cancelled:
            asked.wait(0.001)
        if returns:
            return "done"
        raise ValueError("stopped")

    job = await start(queue, handler)
    await happened(running)
    answer = await queue.cancel_job(job.id)
    done = await queue.wait(job.id, timeout=5)

    assert (answer.status, answer.cancelled) == (JobStatus.PROCESSING, True)
    if returns:
        assert (done.status, done.result) == (JobStatus.COMPLETED, "done")
    else:
        assert (done.status, done.attempts) == (JobStatus.CANCELLED, 1)


async def test_a_coroutine_from_a_plain_function_is_interrupted(queue: JobQueueService) -> None:
    """It runs on the loop, so it can be."""
    running = asyncio.Event()

    async def handle(job: JobContext) -> None:
        running.set()
        await asyncio.Event().wait()

    job = await start(queue, lambda job: handle(job))  # noqa: PLW0108  # a plain function, on purpose
    await happened(running)
    await queue.cancel_job(job.id)
    done = await queue.wait(job.id, timeout=5)

    assert done.status is JobStatus.CANCELLED


async def test_another_service_may_ask(store: Store) -> None:
    """The request is in the store; the service that runs the job sees it at once."""
    running = asyncio.Event()

    async def handler(job: JobContext) -> None:
        running.set()
        await asyncio.Event().wait()

    async with (
        JobQueueService(store, processing_interval=60) as worker,
        JobQueueService(store) as other,
    ):
        job = await start(worker, handler)
        await happened(running)
        await other.cancel_job(job.id)
        done = await other.wait(job.id, timeout=2)

    assert done.status is JobStatus.CANCELLED


async def test_another_service_on_the_file_may_ask(sqlite_url: str) -> None:
    """Two services with a connection each: the nudge reaches the worker."""
    running = asyncio.Event()

    async def handler(job: JobContext) -> None:
        running.set()
        await asyncio.Event().wait()

    async with (
        JobQueueService(sqlite_url, processing_interval=60) as worker,
        JobQueueService(sqlite_url) as other,
    ):
        job = await start(worker, handler)
        await happened(running)
        await other.cancel_job(job.id)
        done = await other.wait(job.id, timeout=5)

    assert done.status is JobStatus.CANCELLED


async def test_a_final_job_cannot_be_cancelled(queue: JobQueueService) -> None:
    """JobStateError, and nothing changes."""

    async def handler(job: JobContext) -> str:
        return "done"

    done = await queue.wait((await start(queue, handler)).id, timeout=5)
    gone = await queue.cancel_job((await queue.add_job("nobody's")).id)
    for job in (done, gone):
        with pytest.raises(JobStateError, match=job.id):
            await queue.cancel_job(job.id)

        assert await queue.get_job(job.id) == job


class CancelsAtOnce(MemoryStore):
    """Somebody cancels each job between its claim and its first step."""

    async def exchange(self, worker: int, **options: Any) -> Exchanged:
        result = await super().exchange(worker, **options)
        ids = tuple(claimed.lease.job_id for claimed in result.claimed)
        for job_id in ids:
            await self.cancel(job_id)
        return msgspec.structs.replace(result, cancel=(*result.cancel, *ids))


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_cancel_before_the_first_step(in_thread: bool) -> None:
    """The handler never starts; the job is cancelled and its slot free."""
    ran: list[str] = []

    async def on_loop(job: JobContext) -> None:
        ran.append(job.id)

    def thread(job: SyncJobContext) -> None:
        ran.append(job.id)

    async with JobQueueService(CancelsAtOnce()) as queue:
        queue.register_handler("a", thread if in_thread else on_loop)
        await queue.start_processing()
        for _ in range(3):
            done = await queue.wait((await queue.add_job("a")).id, timeout=5)

            assert done.status is JobStatus.CANCELLED
    assert ran == []


async def test_many_at_once_while_they_run(url: str) -> None:
    """Jobs waiting, claimed ahead, starting and running: each is cancelled or completed."""

    async def handler(job: JobContext) -> None:
        await asyncio.sleep(0.001)

    async with JobQueueService(url, concurrency=4) as queue:
        queue.register_handler("a", handler)
        jobs = await queue.add_jobs([NewJob("a")] * 400)
        await queue.start_processing()
        asked = 0
        for job in reversed(jobs):
            try:
                await queue.cancel_job(job.id)
                asked += 1
            except JobStateError:
                continue
        done = [await queue.wait(job.id, timeout=10) for job in jobs]
        stats = await queue.get_stats()

    cancelled = [job for job in done if job.status is JobStatus.CANCELLED]
    assert asked > 0
    assert {job.status for job in done} <= {JobStatus.CANCELLED, JobStatus.COMPLETED}
    assert stats.cancelled_jobs == len(cancelled) > 0
    assert all((job.attempts == 0) == (job.processed_at is None) for job in done)


async def test_jobs_claimed_ahead_are_cancelled_unspent(url: str) -> None:
    """A job that never started has made no attempt."""
    started: set[str] = set()
    go = asyncio.Event()
    blocked = asyncio.Event()

    async def quick(job: JobContext) -> None:
        started.add(job.id)

    async def blocker(job: JobContext) -> None:
        blocked.set()
        await go.wait()

    async with JobQueueService(url, concurrency=2) as queue:
        queue.register_handler("quick", quick)
        queue.register_handler("blocker", blocker, timeout=None)
        await queue.add_jobs([NewJob("quick")] * 2000 + [NewJob("blocker")] * 2)
        late = await queue.add_jobs([NewJob("quick")] * 30)
        await queue.start_processing()
        await happened(blocked)
        await asyncio.gather(*(queue.cancel_job(job.id) for job in late), return_exceptions=True)
        done = [await queue.wait(job.id, timeout=10) for job in late if job.id not in started]
        go.set()

    never_ran = [job for job in done if job.id not in started]
    assert len(never_ran) >= 20
    assert {(j.status, j.attempts, j.processed_at) for j in never_ran} == {
        (JobStatus.CANCELLED, 0, None)
    }


async def test_cancel_then_shutdown(store: Store) -> None:
    """A cancelled job whose handler does not end in time is cancelled, not returned."""
    running = asyncio.Event()

    async def handler(job: JobContext) -> None:
        running.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if job.cancelled and stop:
                    raise

    stop: list[bool] = []
    async with JobQueueService(store) as watcher:
        async with JobQueueService(store) as queue:
            job = await start(queue, handler)
            await happened(running)
            await queue.cancel_job(job.id)
            stop.append(True)
            await queue.shutdown(0)
        done = await watcher.wait(job.id, timeout=5)

    assert done.status is JobStatus.CANCELLED
