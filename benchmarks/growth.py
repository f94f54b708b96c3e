"""Does it get slower with what lies there: jobs nobody runs, scheduled ones, finished ones?"""

import asyncio
import time

import msgspec
import uuid_utils

from benchmarks import support
from benchmarks.support import Figures
from durably import JobContext, JobQueueService, SystemClock, open_store
from durably.domain.job import JobRecord, State
from durably.store import Part, Store

CONCURRENCY = 64
BATCH = 1_000
YEAR_S = 365 * 86_400.0
LATENCIES = 1 / 10
"""So many of the jobs are added one by one: fewer than thousands have no 99th percentile to speak of."""
MEMORY_MOST = 100_000
_FIRST_SEQ = 1_000_000_000
"""Beyond the numbers of all jobs that are added otherwise."""


async def measure(url: str, *, pending: int, scheduled: int, finished: int, jobs: int) -> Figures:
    """Adding, starting and throughput on the empty store, then beside all that.

    Half of the pending jobs are of a type that the worker has no handler for, the others in a queue
    where it does not look. In memory, where all of it lies in this process, less will do.
    """
    if url == "memory://":
        pending, scheduled, finished = (min(n, MEMORY_MOST) for n in (pending, scheduled, finished))
    store = open_store(url, clock=SystemClock())
    async with JobQueueService(store) as queue:
        empty = await _costs(store, jobs)
        await support.fill(queue, pending // 2, type="unknown")
        await support.fill(queue, pending // 2, queue="other")
        await support.fill(queue, scheduled, delay=YEAR_S)
        await finish(store, finished)
        full = await _costs(store, jobs)
    return {
        **{f"empty_{name}": value for name, value in empty.items()},
        **{f"full_{name}": value for name, value in full.items()},
        "full_of_empty": full["jobs_per_s"] / empty["jobs_per_s"],
    }


async def finish(store: Store, jobs: int) -> None:
    """Put in jobs that have ended just now, the way `durably copy` does."""
    now = SystemClock().now_us()
    template = JobRecord(
        0, "", "noop", "default", 2, State.COMPLETED, now, now, 3, 3, "{}",
        attempts=1, processed_at=now, completed_at=now,
    )  # fmt: skip
    for start in range(0, jobs, BATCH):
        rows = [
            msgspec.structs.astuple(
                msgspec.structs.replace(template, seq=_FIRST_SEQ + at, id=str(uuid_utils.uuid7()))
            )
            for at in range(start, min(start + BATCH, jobs))
        ]
        await store.load(Part.JOBS, rows)


async def _costs(store: Store, jobs: int) -> Figures:
    """Times of adding one job and of its start, and jobs per second from a backlog."""
    adds: list[float] = []
    starts: list[float] = []
    done = 0

    async def stamp(job: JobContext) -> None:
        starts.append(time.monotonic() - job.payload)

    async def noop(job: JobContext) -> None:
        nonlocal done
        done += 1

    async with JobQueueService(store, concurrency=CONCURRENCY) as queue:
        queue.register_handler("stamp", stamp)
        queue.register_handler("noop", noop)
        await queue.start_processing()
        for _ in range(int(jobs * LATENCIES)):
            begun = time.monotonic()
            await queue.add_job("stamp", begun)
            adds.append(time.monotonic() - begun)
            while len(starts) < len(adds):
                await asyncio.sleep(0.0005)
        await queue.stop_processing()
        before = (await queue.get_stats()).completed_jobs
        await support.fill(queue, jobs)
        begun = time.perf_counter()
        await queue.start_processing()
        await support.completed(queue, before + jobs)
        rate = jobs / (time.perf_counter() - begun)
    return {
        **support.percentiles("add", adds),
        **support.percentiles("start", starts),
        "jobs_per_s": rate,
    }
