"""Does throughput last, with one process that adds and one that works, also beside an old snapshot?"""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from benchmarks import support
from benchmarks.support import Figures
from durably import JobContext, JobQueueService, NewJob
from durably.cli.signals import run

PENDING = 4_000
"""So many jobs the feeder keeps waiting."""
CONCURRENCY = 64
WINDOWS = 6
BATCH = 500
TICK_S = 0.02
UNBOUNDED = math.inf
STEADY_PER_S = 2_000.0
SHARE = 0.7
"""Of the peak."""


async def measure(url: str, *, seconds: float) -> Figures:
    """Jobs per second over all and in each sixth of the time, and the last sixth as a share of the first."""
    async with _running(url) as (done, _):
        windows = [await window(done, seconds / WINDOWS) for _ in range(WINDOWS)]
    return _lasting(windows)


async def measure_pinned(url: str, *, seconds: float) -> Figures:
    """What is kept up while somebody holds a REPEATABLE READ transaction (PostgreSQL), and after it.

    Jobs come at 2,000 a second, then at 70 % of the peak of the same run, each time for *seconds*
    beside a snapshot of its own. After each as many as can be done come for a fifth of that: the last
    third of it tells whether the peak has recovered.
    """
    figures: Figures = {}
    async with _running(url) as (done, rate):
        peak = await window(done, seconds / 5)
        for name, offered in (("steady", STEADY_PER_S), ("share", peak * SHARE)):
            rate.value = offered
            await window(done, seconds / 15)  # what came before is done
            snapshot = await _old_snapshot(url)
            windows = [await window(done, seconds / WINDOWS) for _ in range(WINDOWS)]
            await snapshot.close()
            rate.value = UNBOUNDED
            *_, released = [await window(done, seconds / 15) for _ in range(3)]
            lasting = _lasting(windows)
            figures |= {
                f"{name}_offered_per_s": offered,
                f"{name}_done_of_offered": lasting["continuous_per_s"] / offered,
                f"{name}_last_of_offered": windows[-1] / offered,
                f"{name}_released_of_peak": released / peak,
                **{key: rate for key, rate in lasting.items() if key.startswith("window")},
            }
    return {"peak_per_s": peak, **figures}


async def window(done: "Synchronized[int]", seconds: float) -> float:
    """Jobs done per second: in *seconds*, or in the time that the first of them takes, if that is longer."""
    before, started = done.value, time.perf_counter()
    await asyncio.sleep(seconds)
    while done.value == before:
        await asyncio.sleep(0.001)
    return (done.value - before) / (time.perf_counter() - started)


def _lasting(windows: list[float]) -> Figures:
    return {
        "continuous_per_s": sum(windows) / WINDOWS,
        **{f"window_{at}_per_s": rate for at, rate in enumerate(windows, 1)},
        "last_of_first": windows[-1] / windows[0],
    }


@asynccontextmanager
async def _running(
    url: str,
) -> AsyncIterator[tuple["Synchronized[int]", "Synchronized[float]"]]:
    """A process that adds and one that works, once the first job is done.

    Gives how many jobs are done, and how many come in a second, which may be changed.
    """
    done: Synchronized[int] = support.processes.Value("q", 0, lock=False)
    stop: Synchronized[int] = support.processes.Value("b", 0, lock=False)
    rate: Synchronized[float] = support.processes.Value("d", UNBOUNDED, lock=False)
    processes = [
        support.processes.Process(target=work, args=(url, done, stop), daemon=True),
        support.processes.Process(target=feed, args=(url, done, stop, rate), daemon=True),
    ]
    async with JobQueueService(url):
        pass  # the schema is there before both come
    for process in processes:
        process.start()
    while not done.value:
        await asyncio.sleep(0.01)
    yield done, rate
    stop.value = 1
    for process in processes:
        await asyncio.to_thread(process.join)


async def _old_snapshot(url: str) -> Any:
    import asyncpg

    connection = await asyncpg.connect(url.partition("?")[0])
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await connection.fetchval("SELECT count(*) FROM pg_class")
    return connection


def work(url: str, done: "Synchronized[int]", stop: "Synchronized[int]") -> None:
    """The process that runs the jobs."""

    async def main() -> None:
        async def noop(_: JobContext) -> None:
            done.value += 1

        async with JobQueueService(url, concurrency=CONCURRENCY) as queue:
            queue.register_handler("noop", noop)
            await queue.start_processing()
            while not stop.value:
                await asyncio.sleep(0.01)

    run(main())


def feed(
    url: str,
    done: "Synchronized[int]",
    stop: "Synchronized[int]",
    rate: "Synchronized[float]",
) -> None:
    """The process that adds them: at *rate*, but never far more than are done."""

    async def main() -> None:
        added, owed, last = 0, 0.0, time.monotonic()
        async with JobQueueService(url) as queue:
            while not stop.value:
                now, per_s = time.monotonic(), rate.value
                least = BATCH if per_s == UNBOUNDED else max(1, int(per_s * TICK_S))
                # What could not be added in time is not added later: the rate is that of now.
                owed = least if per_s == UNBOUNDED else min(owed + (now - last) * per_s, 5 * least)
                last = now
                count = min(int(owed), PENDING - (added - done.value))
                if count < least:
                    await asyncio.sleep(0.002)
                    continue
                await queue.add_jobs([NewJob("noop", support.PAYLOAD) for _ in range(count)])
                added += count
                owed -= count

    run(main())
