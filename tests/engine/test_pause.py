"""pause and resume: kept in the store, for every worker."""

import asyncio
from typing import Any

import pytest
from tests.engine.support import happened

from durably import JobContext, JobPriority, JobQueueService, JobStatus
from durably.store import Store


async def echo(job: JobContext) -> Any:
    return job.payload


async def test_a_paused_queue_waits(queue: JobQueueService) -> None:
    """Jobs can be added, none starts until the queue is resumed, then in their order."""
    seen: list[Any] = []

    async def note(job: JobContext) -> None:
        seen.append(job.payload)

    queue.register_handler("a", note)
    await queue.start_processing()
    await queue.pause("default")
    await queue.add_job("a", 1)
    last = await queue.add_job("a", 2)
    await queue.add_job("a", "urgent", priority=JobPriority.CRITICAL)
    with pytest.raises(TimeoutError):
        await queue.wait(last.id, timeout=0.15)
    assert seen == []
    assert queue.is_processing

    await queue.resume("default")
    await queue.wait(last.id, timeout=5)
    assert seen == ["urgent", 1, 2]


async def test_other_queues_go_on(url: str) -> None:
    """Only the named queue waits."""
    async with JobQueueService(url, queues=("fast", "slow")) as queue:
        queue.register_handler("a", echo)
        await queue.start_processing()
        await queue.pause("slow")
        held = await queue.add_job("a", queue="slow", priority=JobPriority.CRITICAL)
        for n in range(3):
            done = await queue.wait((await queue.add_job("a", n, queue="fast")).id, timeout=5)
            assert done.result == n

        assert await queue.get_job(held.id) == held


async def test_what_runs_is_not_disturbed(queue: JobQueueService) -> None:
    """A pause lets running jobs end; their retries wait."""
    running, go = asyncio.Event(), asyncio.Event()
    runs: list[int] = []

    async def handler(job: JobContext) -> str:
        runs.append(job.attempts)
        running.set()
        await go.wait()
        if job.attempts == 1:
            raise ValueError("once")
        return "done"

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.add_job("a")
    await happened(running)
    await queue.pause("default")
    go.set()
    with pytest.raises(TimeoutError):
        await queue.wait(job.id, timeout=0.15)
    assert runs == [1]
    await queue.resume("default")

    assert (await queue.wait(job.id, timeout=5)).result == "done"


async def test_both_are_idempotent(queue: JobQueueService) -> None:
    """Pausing twice needs one resume; resuming what is not paused does nothing."""
    queue.register_handler("a", echo)
    await queue.start_processing()
    await queue.resume("default")
    await queue.resume("never heard of")
    await queue.pause("default")
    await queue.pause("default")
    await queue.resume("default")

    assert (await queue.wait((await queue.add_job("a", 1)).id, timeout=5)).result == 1


async def test_it_holds_for_every_service(store: Store) -> None:
    """Any service pauses and resumes for all."""
    async with JobQueueService(store) as worker, JobQueueService(store) as other:
        worker.register_handler("a", echo)
        await worker.start_processing()
        await other.pause("default")
        job = await other.add_job("a", 1)
        with pytest.raises(TimeoutError):
            await other.wait(job.id, timeout=0.1)
        await other.resume("default")

        assert (await other.wait(job.id, timeout=5)).result == 1


async def test_it_outlasts_the_service(sqlite_url: str) -> None:
    """A pause is kept in the store until it is undone, also over a restart."""
    async with JobQueueService(sqlite_url) as queue:
        await queue.pause("default")
        job = await queue.add_job("a", 1)
    async with JobQueueService(sqlite_url) as queue:
        queue.register_handler("a", echo)
        await queue.start_processing()
        with pytest.raises(TimeoutError):
            await queue.wait(job.id, timeout=0.1)
        await queue.resume("default")

        assert (await queue.wait(job.id, timeout=5)).status is JobStatus.COMPLETED


async def test_jobs_of_a_paused_queue_can_be_steered(queue: JobQueueService) -> None:
    """Cancel and retry work as ever."""
    await queue.pause("default")
    job = await queue.add_job("a")

    assert (await queue.cancel_job(job.id)).status is JobStatus.CANCELLED
    assert (await queue.retry_job(job.id)).status is JobStatus.PENDING
