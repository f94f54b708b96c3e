"""How many no-op jobs a second, from claim to recorded outcome, with 1, 2, 4 and 8 processes?"""

import asyncio
import time
from multiprocessing.synchronize import Barrier
from typing import Any

from benchmarks import support
from benchmarks.support import Figures
from durably import JobContext, JobQueueService
from durably.cli.signals import run

CONCURRENCY = 64


async def measure(url: str, *, jobs: int, most: int = 8) -> Figures:
    """Jobs per second until the store holds no unfinished job; *most* processes at most.

    In memory there is one process only; eight are asked of SQLite, where they wait for one file.
    """
    if url == "memory://":
        return {"jobs_per_s": await _alone(url, jobs)}
    counts = [count for count in (1, 2, 4, 8) if count <= most]
    if not url.startswith("sqlite") and 8 in counts:
        counts.remove(8)
    figures: Figures = {}
    done = 0
    async with JobQueueService(url) as queue:
        for count in counts:
            # So many that each process takes many turns, and that its start matters little.
            share = jobs * max(1, count // 2)
            done += share
            await support.fill(queue, share)
            figures |= await _together(url, queue, count, share, done)
            if count > 1:
                rate = figures[f"jobs_{count}_processes_per_s"]
                figures[f"total_{count}_of_1"] = rate / figures["jobs_per_s"]
    return figures


async def _alone(url: str, jobs: int) -> float:
    async with JobQueueService(url, concurrency=CONCURRENCY) as queue:
        finished = asyncio.Event()
        left = jobs

        async def noop(job: JobContext) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                finished.set()

        queue.register_handler("noop", noop)
        await support.fill(queue, jobs)
        started = time.perf_counter()
        await queue.start_processing()
        await finished.wait()
        # The end of a quick job may be the first that the store hears of its start.
        await support.completed(queue, jobs)
        return jobs / (time.perf_counter() - started)


async def _together(url: str, queue: JobQueueService, count: int, jobs: int, done: int) -> Figures:
    """*count* processes that begin at once.

    A worker's share is of what was done since all had begun: each registers first, one after the
    other, and who comes first would seem to be favoured.
    """
    counted: Any = support.processes.Array("q", count, lock=False)
    begin, end = (support.processes.Barrier(count + 1) for _ in range(2))
    workers = [
        support.processes.Process(target=_work, args=(url, counted, at, begin, end), daemon=True)
        for at in range(count)
    ]
    for worker in workers:
        worker.start()
    await asyncio.to_thread(begin.wait)
    started = time.perf_counter()
    before = [0] * count
    while (ended := sum(counted)) < jobs:
        if not all(before) and ended < jobs / 2:
            before = list(counted)
        await asyncio.sleep(0.001)
    await support.completed(queue, done)
    rate = jobs / (time.perf_counter() - started)
    await asyncio.to_thread(end.wait)
    for worker in workers:
        await asyncio.to_thread(worker.join)
    name = "jobs_per_s" if count == 1 else f"jobs_{count}_processes_per_s"
    if count == 1:
        return {name: rate}
    shares = [all_told - early for all_told, early in zip(counted, before, strict=True)]
    return {name: rate, f"slowest_of_fastest_{count}": min(shares) / max(shares)}


def _work(url: str, counted: Any, at: int, begin: Barrier, end: Barrier) -> None:
    async def main() -> None:
        async def noop(job: JobContext) -> None:
            counted[at] += 1

        async with JobQueueService(url, concurrency=CONCURRENCY) as queue:
            queue.register_handler("noop", noop)
            await asyncio.to_thread(begin.wait)
            await queue.start_processing()
            await asyncio.to_thread(end.wait)

    run(main())
