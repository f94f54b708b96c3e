"""wait: the job once it is final, wherever it ended."""

import asyncio
import time
from typing import Any

import pytest
from tests.engine.support import LONG_S, happened

from durably import (
    Cancel,
    Fail,
    JobContext,
    JobNotFoundError,
    JobQueueService,
    JobStatus,
    NewJob,
)
from durably.store import Store
from durably.testing import VirtualClock


@pytest.mark.parametrize(
    ("end", "status"),
    [(None, JobStatus.COMPLETED), (Fail("why"), JobStatus.FAILED), (Cancel(), JobStatus.CANCELLED)],
)
async def test_every_final_status_ends_it(
    queue: JobQueueService, end: Exception | None, status: JobStatus
) -> None:
    """The job comes back as it then is, equal to what get_job gives."""

    async def handler(job: JobContext) -> str:
        if end is not None:
            raise end
        return "done"

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert job.status is status
    assert await queue.get_job(job.id) == job


async def test_a_final_job_is_answered_at_once(queue: JobQueueService) -> None:
    """Without processing, and with a timeout of 0."""
    job = await queue.cancel_job((await queue.add_job("a")).id)

    assert await queue.wait(job.id) == job
    assert await queue.wait(job.id, 0) == job


@pytest.mark.parametrize("timeout", [0, 0.05, 0.2])
async def test_it_ends_at_its_timeout(queue: JobQueueService, timeout: float) -> None:
    """TimeoutError, which names the job; not before and not much later."""
    job = await queue.add_job("a")
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=job.id):
        await queue.wait(job.id, timeout=timeout)

    assert timeout <= time.monotonic() - began + 0.001 < timeout + 1
    assert await queue.get_job(job.id) == job


async def test_it_can_be_given_up(queue: JobQueueService) -> None:
    """Cancelling who waits changes nothing else; others go on waiting."""
    go = asyncio.Event()

    async def handler(job: JobContext) -> str:
        await go.wait()
        return "done"

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.add_job("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await queue.wait(job.id)
    waiting = [asyncio.ensure_future(queue.wait(job.id)) for _ in range(3)]
    go.set()

    assert {done.result for done in await asyncio.gather(*waiting)} == {"done"}


async def test_an_unknown_id_raises(queue: JobQueueService) -> None:
    """At once, timeout or not."""
    for arguments in ((), (5,)):
        with pytest.raises(JobNotFoundError, match="unknown"):
            await queue.wait("unknown", *arguments)


async def test_it_waits_through_retries(queue: JobQueueService) -> None:
    """A failed attempt is no end."""

    async def handler(job: JobContext) -> int:
        if job.attempts < 3:
            raise ValueError
        return job.attempts

    queue.register_handler("a", handler)
    await queue.start_processing()

    assert (await queue.wait((await queue.add_job("a")).id, timeout=5)).result == 3


async def _ended_elsewhere(worker: JobQueueService, other: JobQueueService) -> Any:
    go, running = asyncio.Event(), asyncio.Event()

    async def handler(job: JobContext) -> str:
        running.set()
        await go.wait()
        return "done elsewhere"

    worker.register_handler("a", handler)
    await worker.start_processing()
    waiting = asyncio.ensure_future(other.wait((await other.add_job("a")).id, timeout=5))
    await happened(running)
    go.set()
    return (await waiting).result


async def test_a_job_that_another_service_ends(store: Store) -> None:
    """Two services share a store object."""
    async with JobQueueService(store) as worker, JobQueueService(store) as other:
        assert await _ended_elsewhere(worker, other) == "done elsewhere"


async def test_a_job_that_ends_behind_another_connection(sqlite_url: str) -> None:
    """Two services share a file: as if it were another process."""
    async with JobQueueService(sqlite_url) as worker, JobQueueService(sqlite_url) as other:
        assert await _ended_elsewhere(worker, other) == "done elsewhere"


class _StillClock(VirtualClock):
    """Time does not pass: who waits is woken by an event, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = asyncio.Event()

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        self.waited.set()
        return await super().wait(event, timeout)


async def test_the_end_itself_wakes_all_who_wait(url: str) -> None:
    """Nobody has to look again after a while; who waits for another job goes on waiting."""
    clock = _StillClock()
    async with JobQueueService(url, clock=clock) as queue, asyncio.timeout(LONG_S):
        job, other = await queue.add_jobs([NewJob("a")] * 2)
        loop = asyncio.get_running_loop()
        waiting = []
        for id in (job.id, job.id, other.id):
            clock.waited.clear()
            waiting.append(loop.create_task(queue.wait(id)))
            await clock.waited.wait()
        await queue.cancel_job(job.id)
        ended = await asyncio.gather(*waiting[:2])

        assert {job.status for job in ended} == {JobStatus.CANCELLED}
        assert not waiting[2].done()
        await queue.cancel_job(other.id)
        assert (await waiting[2]).id == other.id


async def test_statistics_include_what_was_waited_for(queue: JobQueueService) -> None:
    """Counters have every outcome that wait has returned."""

    async def handler(job: JobContext) -> None: ...

    queue.register_handler("a", handler)
    await queue.start_processing()
    for n in range(1, 30):
        await queue.wait((await queue.add_job("a")).id, timeout=5)

        assert (await queue.get_stats()).completed_jobs == n
