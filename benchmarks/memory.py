"""What memory does a pending job cost its worker, and what does a worker hold after many jobs?"""

import asyncio

from benchmarks import support
from benchmarks.support import Figures
from durably import JobContext, JobQueueService

CONCURRENCY = 64
WARM = 1_000
STEP = 2_000


async def measure(url: str, *, pending: int, jobs: int) -> Figures:
    """Bytes for each of *pending* jobs; megabytes of the worker before and after *jobs*.

    What is finished is kept for a day; ``memory://`` keeps it in the process.
    """
    async with JobQueueService(url, concurrency=CONCURRENCY) as queue:
        done = first = 0

        async def noop(job: JobContext) -> None:
            nonlocal done
            done += 1

        queue.register_handler("noop", noop)
        await queue.start_processing()
        for target in [WARM, *range(WARM + STEP, jobs + 1, STEP)]:
            await support.fill(queue, target - done)
            while done < target:
                await asyncio.sleep(0.001)
            if target == WARM:
                first = support.resident_bytes()
        last = support.resident_bytes()
        await support.fill(queue, pending, queue="nobodys")
        waiting = support.resident_bytes() - last
    return {
        "pending_bytes_per_job": waiting / pending,
        "worker_mb": first / 2**20,
        "worker_after_mb": last / 2**20,
    }
