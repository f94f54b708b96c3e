"""Waiting for what the tests of the engine wait for: a state of a job, never a time."""

import asyncio
from collections.abc import Callable

from durably import Job, JobQueueService

LONG_S = 10.0
"""No test waits longer; a busy machine needs some of it."""


async def until(queue: JobQueueService, job_id: str, holds: Callable[[Job], bool]) -> Job:
    """The job as soon as *holds* is true of it."""
    async with asyncio.timeout(LONG_S):
        while True:
            job = await queue.get_job(job_id)
            assert job is not None
            if holds(job):
                return job
            await asyncio.sleep(0)


async def happened(event: asyncio.Event) -> None:
    """Until *event* is set."""
    async with asyncio.timeout(LONG_S):
        await event.wait()


async def gone(queue: JobQueueService, job_id: str) -> None:
    """Until the job has been removed."""
    async with asyncio.timeout(LONG_S):
        while await queue.get_job(job_id) is not None:  # nothing tells of it
            await asyncio.sleep(0.01)
