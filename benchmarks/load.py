"""How long do jobs wait at 70 % of what one process can add and run at once?"""

import asyncio
import time

from benchmarks import support
from benchmarks.support import Figures
from durably import JobContext, JobQueueService

SHARE = 0.7
PRODUCERS = 64
CONCURRENCY = 64
BACKLOG = 1_000
TICK_S = 0.005


async def measure(url: str, *, seconds: float) -> Figures:
    """The rate at capacity, then percentiles from the moment a job was due to its handler's start."""
    waits: list[float] = []
    async with JobQueueService(url, concurrency=CONCURRENCY) as queue:

        async def stamp(job: JobContext) -> None:
            waits.append(time.monotonic() - job.payload)

        queue.register_handler("stamp", stamp)
        await queue.start_processing()
        begun = time.monotonic()
        added = await _closed(queue, seconds / 2, waits)
        while len(waits) < added:
            await asyncio.sleep(0.001)
        capacity = added / (time.monotonic() - begun)
        waits.clear()
        added = await _open(queue, seconds, capacity * SHARE)
        while len(waits) < added:
            await asyncio.sleep(0.001)
    return {"capacity_per_s": capacity, **support.percentiles("loaded", waits)}


async def _closed(queue: JobQueueService, seconds: float, waits: list[float]) -> int:
    """As many as 64 producers can add while the jobs run too; the backlog is bounded."""
    added = 0
    end = time.monotonic() + seconds

    async def produce() -> None:
        nonlocal added
        while time.monotonic() < end:
            if added - len(waits) >= BACKLOG:
                await asyncio.sleep(0.001)
            else:
                added += 1
                await queue.add_job("stamp", time.monotonic())

    await asyncio.gather(*(produce() for _ in range(PRODUCERS)))
    return added


async def _open(queue: JobQueueService, seconds: float, rate: float) -> int:
    """Jobs at a steady rate, each stamped with when it was due, however late it could be added."""
    begun = time.monotonic()
    added = 0
    async with asyncio.TaskGroup() as group:
        while (now := time.monotonic()) < begun + seconds:
            while begun + added / rate <= now:
                group.create_task(_add(queue, begun + added / rate))
                added += 1
            await asyncio.sleep(TICK_S)
    return added


async def _add(queue: JobQueueService, due: float) -> None:
    await queue.add_job("stamp", due)
