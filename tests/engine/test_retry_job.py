"""retry_job: a person runs a finished job again."""

import asyncio
from typing import Any

import pytest
from tests.engine.support import happened

from durably import (
    Fail,
    Job,
    JobContext,
    JobNotFoundError,
    JobQueueService,
    JobStateError,
    JobStatus,
    PayloadError,
)


async def finished(queue: JobQueueService, handler: Any, **options: Any) -> Job:
    """A finished job; the service has stopped."""
    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a", **options)).id, timeout=5)
    await queue.stop_processing()
    return job


async def test_a_failed_job_gets_as_many_attempts_again(queue: JobQueueService) -> None:
    """Its history stays, attempts are counted on."""

    async def handler(job: JobContext) -> None:
        raise ValueError(f"attempt {job.attempts}")

    job = await finished(queue, handler, max_attempts=2)
    again = await queue.retry_job(job.id)
    await queue.start_processing()
    done = await queue.wait(job.id, timeout=5)

    assert (job.status, job.attempts) == (JobStatus.FAILED, 2)
    assert (again.id, again.status, again.attempts) == (job.id, JobStatus.PENDING, 2)
    assert again.max_attempts == 4
    assert again.errors == job.errors
    assert (again.completed_at, again.next_retry_at, again.result) == (None, None, None)
    assert again.created_at == job.created_at
    assert (done.status, done.attempts, done.max_attempts) == (JobStatus.FAILED, 4, 4)
    assert [e.attempt for e in done.errors] == [1, 2, 3, 4]


async def test_attempts_that_were_left_are_not_added(queue: JobQueueService) -> None:
    """A job that failed for good at its first of three attempts gets three more."""

    async def handler(job: JobContext) -> str:
        if job.attempts == 1:
            raise Fail("the address is wrong")
        if job.attempts < 4:
            raise ValueError("the line is busy")
        return "sent"

    job = await finished(queue, handler)
    again = await queue.retry_job(job.id)
    await queue.start_processing()
    done = await queue.wait(job.id, timeout=5)

    assert again.max_attempts == 4
    assert (done.status, done.attempts, done.result) == (JobStatus.COMPLETED, 4, "sent")
    assert done.error is None


async def test_it_can_be_done_again_and_again(queue: JobQueueService) -> None:
    """Each time as many attempts as the enqueue gave."""

    async def handler(job: JobContext) -> None:
        raise ValueError

    job = await finished(queue, handler, max_attempts=2)
    await queue.start_processing()
    for times in (2, 3):
        await queue.retry_job(job.id)
        done = await queue.wait(job.id, timeout=5)

        assert (done.attempts, done.max_attempts) == (2 * times, 2 * times)


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.CANCELLED])
async def test_completed_and_cancelled_jobs_run_again(
    queue: JobQueueService, status: JobStatus
) -> None:
    """Every final status can be left this way."""
    runs: list[bool] = []

    async def handler(job: JobContext) -> int:
        runs.append(job.cancelled)
        return len(runs)

    if status is JobStatus.CANCELLED:
        job = await queue.cancel_job((await queue.add_job("a", delay=60)).id)
        queue.register_handler("a", handler)
    else:
        job = await finished(queue, handler)
    again = await queue.retry_job(job.id)
    await queue.start_processing()
    done = await queue.wait(job.id, timeout=5)

    assert (again.status, again.result, again.cancelled) == (JobStatus.PENDING, None, False)
    assert (again.error, again.run_at) == (None, None)
    assert (done.status, done.result) == (JobStatus.COMPLETED, len(runs))
    assert runs[-1] is False


async def test_an_edited_payload_clears_the_steps(queue: JobQueueService) -> None:
    """Without one they stay; with one, None included, they are forgotten."""
    calls: list[Any] = []

    async def handler(job: JobContext) -> Any:
        def one() -> Any:
            calls.append(job.payload)
            return job.payload

        return await job.step("one", one)

    job = await finished(queue, handler, payload=1)
    await queue.start_processing()
    for options, payload, result, count in (
        ({}, 1, 1, 1),
        ({"payload": 2}, 2, 2, 2),
        ({"payload": None}, None, None, 3),
        ({}, None, None, 3),
    ):
        again = await queue.retry_job(job.id, **options)
        done = await queue.wait(job.id, timeout=5)

        assert again.payload == payload
        assert (done.payload, done.result, len(calls)) == (payload, result, count)


async def test_a_wrong_payload_changes_nothing(queue: JobQueueService) -> None:
    """PayloadError, and the job is as it was."""
    job = await queue.cancel_job((await queue.add_job("a", 1)).id)
    for payload in (object(), "x" * 1_048_576, float("nan")):
        with pytest.raises(PayloadError):
            await queue.retry_job(job.id, payload=payload)

    assert await queue.get_job(job.id) == job


async def test_only_finished_jobs_can_be_retried(queue: JobQueueService) -> None:
    """Pending, scheduled and processing: JobStateError."""
    running, go = asyncio.Event(), asyncio.Event()

    async def handler(job: JobContext) -> None:
        running.set()
        await go.wait()

    queue.register_handler("a", handler)
    await queue.start_processing()
    jobs = [
        await queue.add_job("a"),
        await queue.add_job("nobody's"),
        await queue.add_job("a", delay=60),
    ]
    await happened(running)
    for job in jobs:
        with pytest.raises(JobStateError, match=job.id):
            await queue.retry_job(job.id)
        with pytest.raises(JobStateError, match=job.id):
            await queue.retry_job(job.id, payload=1)
    go.set()

    with pytest.raises(JobNotFoundError, match="'unknown'"):
        await queue.retry_job("unknown")


async def test_it_takes_its_place_anew(queue: JobQueueService) -> None:
    """Ready since the retry: those that were ready before run first."""
    seen: list[Any] = []

    async def handler(job: JobContext) -> None:
        seen.append(job.payload)

    first = await queue.cancel_job((await queue.add_job("a", "retried")).id)
    await queue.add_job("a", "waiting")
    await queue.retry_job(first.id)
    queue.register_handler("a", handler)
    await queue.start_processing()
    await queue.wait(first.id, timeout=5)

    assert seen == ["waiting", "retried"]
