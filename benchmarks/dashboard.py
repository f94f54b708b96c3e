"""What does the dashboard cost: the first look at a full store, and many who watch?"""

import asyncio
import os
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path

from benchmarks import support
from benchmarks.growth import finish
from benchmarks.service import listening_port
from benchmarks.support import Figures
from durably import JobQueueService, SystemClock, open_store

TOPICS = b"topic=shell&topic=overview&topic=history%3Frange%3Dhour"
LOOKS = 20
_HERE = Path(__file__).parent
_TICKS = os.sysconf("SC_CLK_TCK")


async def measure(url: str, *, jobs: int, viewers: int, seconds: float) -> Figures:
    """Milliseconds until a page has its data, of *jobs*; the service's CPU beside *viewers*.

    While they watch, a job is added every 100 ms, so that every look shows something new.
    """
    store = open_store(url, clock=SystemClock())
    async with JobQueueService(store) as queue:
        await support.fill(queue, jobs // 2)
        await finish(store, jobs - jobs // 2)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "durably", "serve", "--no-worker", "--port", "0"),
            *("--store", url),
            cwd=_HERE,
            env={"PATH": "/usr/bin:/bin"},
            stderr=PIPE,
        )
        try:
            port = await listening_port(process)
            first = await _look(port)
            looks = sorted([await _look(port) for _ in range(LOOKS)])
            idle = await _cpu_share(process.pid, seconds / 2)
            watched, told = await _watched(port, process.pid, queue, viewers, seconds)
            return {
                "first_look_ms": first * 1000,
                "look_p50_ms": statistics.median(looks) * 1000,
                "unwatched_cpu_percent": idle * 100,
                "watched_cpu_percent": watched * 100,
                "told_per_viewer_per_s": told,
            }
        finally:
            process.terminate()
            await process.communicate()


async def _look(port: int) -> float:
    """Seconds until the overview's data has come."""
    begun = time.perf_counter()
    reader, writer = await _follow(port)
    told = 0
    while told < 3:
        told += (await reader.readline()).startswith(b"data: {")
    taken = time.perf_counter() - begun
    writer.close()
    return taken


async def _follow(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    writer.write(b"GET /api/live?" + TOPICS + b" HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port)
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head[:16]:
        raise RuntimeError(head.decode())
    return reader, writer


async def _watched(
    port: int, pid: int, queue: JobQueueService, viewers: int, seconds: float
) -> tuple[float, float]:
    """The share of a core that the service needs while they watch, and how often each is told."""
    streams = [await _follow(port) for _ in range(viewers)]
    told = [0]
    tasks = [asyncio.ensure_future(_drain(reader, told)) for reader, _ in streams]
    adding = asyncio.ensure_future(_add(queue))
    await asyncio.sleep(1.0)  # let each have its first state
    try:
        before = told[0]
        share = await _cpu_share(pid, seconds)
        return share, (told[0] - before) / seconds / viewers
    finally:
        for task in (*tasks, adding):
            task.cancel()
        await asyncio.gather(*tasks, adding, return_exceptions=True)
        for _, writer in streams:
            writer.close()


async def _drain(reader: asyncio.StreamReader, told: list[int]) -> None:
    while line := await reader.readline():
        told[0] += line.startswith(b"event: ")


async def _add(queue: JobQueueService) -> None:
    while True:
        await queue.add_job("noop")
        await asyncio.sleep(0.1)


async def _cpu_share(pid: int, seconds: float) -> float:
    begun, before = time.perf_counter(), _cpu_s(pid)
    await asyncio.sleep(seconds)
    return (_cpu_s(pid) - before) / (time.perf_counter() - begun)


def _cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
