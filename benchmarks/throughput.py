"""How many no-op async jobs a second, from claim to recorded outcome, in one process?"""

import asyncio
import time

from support import PAYLOAD

from durably import JobContext, JobQueueService, NewJob

CONCURRENCY = 64


async def measure(url: str, *, jobs: int) -> dict[str, float]:
    """Jobs per second until the store holds no unfinished job."""
    async with JobQueueService(url, concurrency=CONCURRENCY) as queue:
        done = asyncio.Event()
        left = jobs

        async def noop(job: JobContext) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                done.set()

        queue.register_handler("noop", noop)
        for _ in range(jobs // 1_000):
            await queue.add_jobs([NewJob(type="noop", payload=PAYLOAD)] * 1_000)
        started = time.perf_counter()
        await queue.start_processing()
        await done.wait()
        # The end of a quick job may be the first that the store hears of its start.
        while (await queue.get_stats()).completed_jobs < jobs:
            await asyncio.sleep(0)
        elapsed = time.perf_counter() - started
    return {"jobs_per_s": jobs / elapsed}
