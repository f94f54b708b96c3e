"""How many jobs a second can be added: by 64 producers, one at a time each, and in bulk?"""

import asyncio
import time

from support import PAYLOAD

from durably import JobQueueService, NewJob

PRODUCERS = 64
BULK = 1_000


async def measure(url: str, *, jobs: int) -> dict[str, float]:
    """Jobs per second, durable when counted."""
    async with JobQueueService(url) as queue:
        left = iter(range(jobs))

        async def produce() -> None:
            for _ in left:
                await queue.add_job("noop", PAYLOAD)

        started = time.perf_counter()
        await asyncio.gather(*(produce() for _ in range(PRODUCERS)))
        singly = time.perf_counter() - started
        batch = [NewJob(type="noop", payload=PAYLOAD)] * BULK
        started = time.perf_counter()
        for _ in range(jobs // BULK):
            await queue.add_jobs(batch)
        bulk = time.perf_counter() - started
    return {"enqueue_64_per_s": jobs / singly, "enqueue_bulk_per_s": jobs // BULK * BULK / bulk}
