"""What do many waiting monitors cost in one process: jobs that look, and snooze until the next look?"""

import asyncio
import time

from benchmarks import support
from benchmarks.support import Figures
from durably import JobContext, JobQueueService, Snooze

CONCURRENCY = 64


async def measure(url: str, *, monitors: int, interval: float) -> Figures:
    """Memory for each, percent of one core, and the looks taken as a share of those due."""
    looks = 0
    async with JobQueueService(url, concurrency=CONCURRENCY) as queue:

        async def monitor(job: JobContext) -> None:
            nonlocal looks
            looks += 1
            raise Snooze(interval)

        queue.register_handler("monitor", monitor)
        before = support.resident_bytes()
        await support.fill(queue, monitors, type="monitor")
        await queue.start_processing()
        while looks < monitors:
            await asyncio.sleep(0.01)
        await asyncio.sleep(interval / 2)
        cpu, begun, seen = time.process_time(), time.perf_counter(), looks
        await asyncio.sleep(2 * interval)
        cpu, elapsed = time.process_time() - cpu, time.perf_counter() - begun
        return {
            "monitor_bytes": (support.resident_bytes() - before) / monitors,
            "monitors_cpu_percent": cpu / elapsed * 100,
            "monitors_looks_of_due": (looks - seen) / (monitors * elapsed / interval),
        }
