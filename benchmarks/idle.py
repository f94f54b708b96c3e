"""What does a worker cost that has nothing to do: CPU, statements, writes?"""

import asyncio
import time

from benchmarks.support import Figures
from benchmarks.traffic import Statements, written
from durably import JobContext, JobQueueService


async def measure(url: str, *, seconds: float) -> Figures:
    """Percent of one core; statements and bytes written, a minute."""
    statements = Statements(url)

    async def noop(job: JobContext) -> None:
        return

    async with JobQueueService(url, concurrency=8) as queue:
        queue.register_handler("noop", noop)
        await queue.start_processing()
        await queue.wait((await queue.add_job("noop")).id, timeout=10)
        await asyncio.sleep(min(1.0, seconds))  # what the job has left to be done
        before = await written(url)
        statements.seen = 0
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        seen = statements.seen
        grown = await written(url) - before
    return {
        "idle_cpu_percent": cpu / wall * 100,
        "idle_statements_per_min": seen / wall * 60,
        "idle_written_bytes_per_min": grown / wall * 60,
    }
