"""Handlers that harm their process in ways that no test process survives."""

import asyncio

from tests.processes.support import Family

from durably import JobQueueService, JobStatus


async def test_who_holds_the_interpreter_loses_the_job(url: str, family: Family) -> None:
    """Nothing of that process runs, so that its lease ends: another one does the job, once."""
    async with JobQueueService(url) as queue:
        stuck = await family.worker(url, lease=1.0)
        job = await queue.add_job("holds_the_interpreter")
        await stuck.expect("holding", id=job.id)
        other = await family.worker(url, lease=1.0)
        done = await queue.wait(job.id, timeout=60)

        assert (done.result, done.crashes, done.attempts) == (other.pid, 1, 1)
        assert (await queue.wait((await queue.add_job("quick")).id)).result == other.pid
        await stuck.kill()


async def test_a_lack_of_memory_fails_the_attempt_only(url: str, family: Family) -> None:
    """The handler gets its MemoryError; the process works on."""
    worker = await family.worker(url)
    async with JobQueueService(url) as queue:
        job = await queue.add_job("eats_memory", max_attempts=1)
        done = await queue.wait(job.id, timeout=60)

        assert (done.status, done.crashes, done.error) == (JobStatus.FAILED, 0, "MemoryError")
        assert (await queue.wait((await queue.add_job("quick")).id)).result == worker.pid
    assert await asyncio.wait_for(worker.end(), 60) == 0
