"""How long from the call of `add_job` to the first line of the handler, on an idle queue?"""

import asyncio
import time
from multiprocessing.connection import Connection

from benchmarks import support
from benchmarks.support import Figures
from durably import JobContext, JobQueueService
from durably.cli.signals import run

PAUSE_S = 0.01


async def measure(url: str, *, jobs: int) -> Figures:
    """Percentiles of one job each 10 ms, in one process and from one process to another."""
    inside = support.percentiles("latency", await _inside(url, jobs))
    if url == "memory://":
        return inside
    return inside | support.percentiles("latency_across", await _across(url, jobs))


async def _inside(url: str, jobs: int) -> list[float]:
    waits: list[float] = []
    async with JobQueueService(url, concurrency=8) as queue:

        async def stamp(job: JobContext) -> None:
            waits.append(time.monotonic() - job.payload)

        queue.register_handler("stamp", stamp)
        await queue.start_processing()
        await _add(queue, jobs)
        await support.completed(queue, jobs)
    return waits


async def _across(url: str, jobs: int) -> list[float]:
    ours, theirs = support.processes.Pipe()
    worker = support.processes.Process(target=_work, args=(url, jobs, theirs), daemon=True)
    worker.start()
    await asyncio.to_thread(ours.recv)
    async with JobQueueService(url) as queue:
        await _add(queue, jobs)
        waits: list[float] = await asyncio.to_thread(ours.recv)
    worker.join()
    return waits


async def _add(queue: JobQueueService, jobs: int) -> None:
    for _ in range(jobs):
        await queue.add_job("stamp", time.monotonic())
        await asyncio.sleep(PAUSE_S)


def _work(url: str, jobs: int, to: "Connection[object, object]") -> None:
    async def main() -> None:
        waits: list[float] = []
        enough = asyncio.Event()

        async def stamp(job: JobContext) -> None:
            waits.append(time.monotonic() - job.payload)
            if len(waits) == jobs:
                enough.set()

        async with JobQueueService(url, concurrency=8) as queue:
            queue.register_handler("stamp", stamp)
            await queue.start_processing()
            to.send("ready")
            await enough.wait()
            to.send(waits)

    run(main())
