"""How long from the call of `add_job` to the first line of the handler, on an idle queue?"""

import asyncio
import time

from durably import JobContext, JobQueueService


async def measure(url: str, *, jobs: int) -> dict[str, float]:
    """Percentiles in milliseconds, one job each 10 ms."""
    waits: list[float] = []
    async with JobQueueService(url, concurrency=8) as queue:

        async def stamp(job: JobContext) -> None:
            waits.append(time.perf_counter() - job.payload)

        queue.register_handler("stamp", stamp)
        await queue.start_processing()
        for _ in range(jobs):
            added = await queue.add_job("stamp", time.perf_counter())
            await queue.wait(added.id, timeout=10)
            await asyncio.sleep(0.01)
    waits = sorted(waits[jobs // 10 :])
    return {
        "latency_p50_ms": waits[len(waits) // 2] * 1e3,
        "latency_p95_ms": waits[int(len(waits) * 0.95)] * 1e3,
        "latency_p99_ms": waits[int(len(waits) * 0.99)] * 1e3,
    }
