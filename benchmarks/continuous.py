"""Does throughput last, with one process that adds and one that works, also beside an old snapshot?"""

import asyncio
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


async def measure(url: str, *, seconds: float) -> Figures:
    """Jobs per second over all and in each sixth of the time, and the last sixth as a share of the first."""
    async with _running(url) as done:
        windows = [await _window(done, seconds / WINDOWS) for _ in range(WINDOWS)]
    return _lasting(windows)


async def measure_pinned(url: str, *, seconds: float) -> Figures:
    """The same while somebody holds a REPEATABLE READ transaction (PostgreSQL), beside before and after.

    Before it and after it a fifth of the time each is measured in the same run; of the time after it
    the last third tells whether the rate has recovered.
    """
    async with _running(url) as done:
        clean = await _window(done, seconds / 5)
        snapshot = await _old_snapshot(url)
        windows = [await _window(done, seconds / WINDOWS) for _ in range(WINDOWS)]
        await snapshot.close()
        *_, released = [await _window(done, seconds / 15) for _ in range(3)]
    lasting = _lasting(windows)
    return {
        **lasting,
        "clean_per_s": clean,
        "pinned_of_clean": lasting["continuous_per_s"] / clean,
        "released_of_clean": released / clean,
    }


def _lasting(windows: list[float]) -> Figures:
    return {
        "continuous_per_s": sum(windows) / WINDOWS,
        **{f"window_{at}_per_s": rate for at, rate in enumerate(windows, 1)},
        "last_of_first": windows[-1] / windows[0],
    }


@asynccontextmanager
async def _running(url: str) -> AsyncIterator["Synchronized[int]"]:
    """A process that adds and one that works; gives how many jobs are done, once the first is."""
    done: Synchronized[int] = support.processes.Value("q", 0, lock=False)
    stop: Synchronized[int] = support.processes.Value("b", 0, lock=False)
    processes = [
        support.processes.Process(target=part, args=(url, done, stop), daemon=True)
        for part in (work, feed)
    ]
    async with JobQueueService(url):
        pass  # the schema is there before both come
    for process in processes:
        process.start()
    while not done.value:
        await asyncio.sleep(0.01)
    yield done
    stop.value = 1
    for process in processes:
        await asyncio.to_thread(process.join)


async def _window(done: "Synchronized[int]", seconds: float) -> float:
    before, started = done.value, time.perf_counter()
    await asyncio.sleep(seconds)
    return (done.value - before) / (time.perf_counter() - started)


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


def feed(url: str, done: "Synchronized[int]", stop: "Synchronized[int]") -> None:
    """The process that adds them."""

    async def main() -> None:
        added = 0
        async with JobQueueService(url) as queue:
            while not stop.value:
                if added - done.value < PENDING:
                    await queue.add_jobs([NewJob("noop", support.PAYLOAD) for _ in range(500)])
                    added += 500
                else:
                    await asyncio.sleep(0.002)

    run(main())
