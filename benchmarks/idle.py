"""What does a worker cost that has nothing to do?"""

import asyncio
import time

from durably import JobContext, JobQueueService


async def measure(url: str, *, seconds: float) -> dict[str, float]:
    """Percent of one core."""

    async def noop(job: JobContext) -> None:
        return

    async with JobQueueService(url, concurrency=8) as queue:
        queue.register_handler("noop", noop)
        await queue.start_processing()
        await queue.wait((await queue.add_job("noop")).id, timeout=10)
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        busy = (time.process_time() - cpu) / (time.perf_counter() - wall)
    return {"idle_cpu_percent": busy * 100}
