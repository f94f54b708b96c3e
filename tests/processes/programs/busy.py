"""Enqueues and works as fast as it can; each accepted job, start and end is a line on disk."""

import asyncio
import sys

from tests.processes.programs.reporting import orders, say

from durably import JobContext, JobQueueService


async def plain(job: JobContext) -> None:
    """A job that is completed by the short way: no changes come with its outcome."""
    say("started", id=job.id)
    await asyncio.sleep(0.001 * job.payload)
    say("ended", id=job.id)


async def noted(job: JobContext) -> None:
    """A job whose completion appends an event in the same transaction."""
    job.changes.emit("finished", job.id, None)
    job.changes.put("finished", job.id, None)
    await plain(job)


async def produce(queue: JobQueueService, end: asyncio.Event) -> None:
    number = 0
    while not end.is_set():
        number += 1
        job = await queue.add_job(("plain", "noted")[number % 2], number % 4)
        say("accepted", id=job.id)
        # As fast as it is worked off, so that the kill meets every part of the work.
        await queue.wait(job.id) if number % 8 == 0 else None


async def is_busy(queue: JobQueueService) -> bool:
    stats = await queue.get_stats()
    return stats.pending_jobs + stats.processing_jobs > 0


async def main(url: str) -> None:
    async with JobQueueService(url, concurrency=4) as queue:
        queue.register_handler("plain", plain)
        queue.register_handler("noted", noted)
        await queue.start_processing()
        say("ready")
        end = asyncio.Event()
        async with asyncio.TaskGroup() as producers:
            for _ in range(3):
                producers.create_task(produce(queue, end))
            await (await orders()).read()
            end.set()
        while await is_busy(queue):
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
