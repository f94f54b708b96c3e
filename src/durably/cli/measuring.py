"""What ``durably bench`` measures: adding, running and waiting, on an empty store."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from durably.cli.bottleneck import Costs
from durably.domain.job import NewJob
from durably.engine.context import JobContext
from durably.engine.queue import JobQueueService
from durably.store import Store

CONCURRENCY = 64
"""Producers, and slots of the worker."""
BULK = 1_000
MOST = 100_000
"""Of jobs that are added in one way, so that the store stays small."""
PAYLOAD = {"i": 1, "t": 0.0, "pad": "x" * 72}
"""About 100 bytes of JSON."""
_LATENCY_QUEUE = "latency"
_PAUSE_S = 0.01


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs per second, and milliseconds from `add_job` to the handler's first line."""

    add_one_at_a_time_per_s: float
    add_concurrently_per_s: float
    add_in_bulk_per_s: float
    claim_to_outcome_per_s: float
    latency_p50_ms: float
    latency_p99_ms: float


class Others:
    """What other programs take of the machine while this one measures."""

    def __init__(self) -> None:
        self._begun = _looked()

    def cores(self) -> float | None:
        """How many cores they have kept busy; None where the system does not tell."""
        now = _looked()
        if self._begun is None or now is None:
            return None
        wall, busy, own = (after - before for before, after in zip(self._begun, now, strict=True))
        return max(busy - own, 0.0) / wall


def _looked() -> tuple[float, float, float] | None:
    """Seconds: of the clock, of CPU that everybody has used, of CPU that this process has."""
    try:
        ticks = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, ticks)
    busy = user + nice + system + irq + softirq + steal
    return time.perf_counter(), busy / os.sysconf("SC_CLK_TCK"), time.process_time()


async def measure(store: Store, seconds: float, told: Callable[[str], None]) -> tuple[Speed, Costs]:
    """All of it, in about so many seconds; *told* hears what is going on."""
    async with JobQueueService(store, concurrency=CONCURRENCY) as queue:
        told("adding one at a time")
        alone = await _added(queue, seconds * 0.15, producers=1)
        told(f"adding by {CONCURRENCY} producers")
        together = await _added(queue, seconds * 0.2, producers=CONCURRENCY)
        told(f"adding {BULK:,} at a time")
        bulk = await _added_in_bulk(queue, seconds * 0.2)
        told("running jobs")
        costs = await _run(queue, seconds * 0.25)
    told("waiting for single jobs")
    waits = sorted(await _waits(store, seconds * 0.2))
    speed = Speed(
        add_one_at_a_time_per_s=alone,
        add_concurrently_per_s=together,
        add_in_bulk_per_s=bulk,
        claim_to_outcome_per_s=1e6 / costs.job_us,
        latency_p50_ms=waits[len(waits) // 2] * 1e3,
        latency_p99_ms=waits[len(waits) * 99 // 100] * 1e3,
    )
    return speed, costs


async def _added(queue: JobQueueService, seconds: float, *, producers: int) -> float:
    added = 0
    begun = time.perf_counter()

    async def produce() -> None:
        nonlocal added
        while True:
            await queue.add_job("noop", PAYLOAD)
            added += 1
            if added >= MOST or time.perf_counter() - begun >= seconds:
                return

    await asyncio.gather(*(produce() for _ in range(producers)))
    return added / (time.perf_counter() - begun)


async def _added_in_bulk(queue: JobQueueService, seconds: float) -> float:
    batch = [NewJob("noop", PAYLOAD)] * BULK
    added = 0
    begun = time.perf_counter()
    while added < MOST and (not added or time.perf_counter() - begun < seconds):
        await queue.add_jobs(batch)
        added += BULK
    return added / (time.perf_counter() - begun)


async def _run(queue: JobQueueService, seconds: float) -> Costs:
    """Work off what was added, for so long at most."""

    async def noop(_: JobContext) -> None:
        return

    queue.register_handler("noop", noop)
    jobs = (await queue.get_stats()).pending_jobs
    thread, process, begun = time.thread_time(), time.process_time(), time.perf_counter()
    await queue.start_processing()
    while True:
        await asyncio.sleep(0.005)
        done = (await queue.get_stats()).completed_jobs
        elapsed = time.perf_counter() - begun
        if done == jobs or (done and elapsed >= seconds):
            break
    thread, process = time.thread_time() - thread, time.process_time() - process
    await queue.stop_processing()
    return Costs(
        job_us=elapsed / done * 1e6,
        python_us=thread / done * 1e6,
        threads_us=max(process - thread, 0.0) / done * 1e6,
    )


async def _waits(store: Store, seconds: float) -> list[float]:
    """Seconds from `add_job` to the handler's first line, one job each 10 ms."""
    waits: list[float] = []
    begun = asyncio.Event()

    async def stamp(job: JobContext) -> None:
        waits.append(time.monotonic() - job.payload)
        begun.set()

    # What is left of the other jobs lies in another queue.
    async with JobQueueService(store, queues=(_LATENCY_QUEUE,)) as queue:
        queue.register_handler("stamp", stamp)
        await queue.start_processing()
        end = time.monotonic() + seconds
        while not waits or time.monotonic() < end:
            begun.clear()
            await queue.add_job("stamp", time.monotonic(), queue=_LATENCY_QUEUE)
            await begun.wait()
            await asyncio.sleep(_PAUSE_S)
    return waits
