"""How many jobs a second can be added: one after the other, by 64 producers, and in bulk?"""

import asyncio
import time
from collections.abc import Iterator

from benchmarks.support import PAYLOAD, Figures, fill
from durably import JobQueueService

PRODUCERS = 64


async def measure(url: str, *, jobs: int) -> Figures:
    """Jobs per second, durable when counted; a tenth of *jobs* is enough one after the other."""
    async with JobQueueService(url) as queue:
        await _produce(queue, iter(range(100)))
        singly = await _rate(queue, producers=1, jobs=max(jobs // 10, 1))
        concurrent = await _rate(queue, producers=PRODUCERS, jobs=jobs)
        started = time.perf_counter()
        await fill(queue, jobs)
        bulk = jobs / (time.perf_counter() - started)
    return {
        "enqueue_single_per_s": singly,
        "enqueue_64_per_s": concurrent,
        "enqueue_bulk_per_s": bulk,
    }


async def _rate(queue: JobQueueService, *, producers: int, jobs: int) -> float:
    left = iter(range(jobs))
    started = time.perf_counter()
    await asyncio.gather(*(_produce(queue, left) for _ in range(producers)))
    return jobs / (time.perf_counter() - started)


async def _produce(queue: JobQueueService, left: Iterator[int]) -> None:
    for _ in left:
        await queue.add_job("noop", PAYLOAD)
