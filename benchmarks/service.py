"""How long does a POST take, and how many are accepted, while jobs run in the same process?"""

import asyncio
import json
import re
import statistics
import sys
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from benchmarks.support import Figures

CONNECTIONS = 32
RUNNING = 32
_HERE = Path(__file__).parent


async def measure(url: str, *, jobs: int) -> Figures:
    """Accepted jobs per second and the times of their answers, saturated; a client command's time."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "durably", "serve", "busy:queue", "--port", "0", "--timeout", "0"),
        *("--store", url),
        cwd=_HERE,
        env={"DURABLY_STORE": url, "PATH": "/usr/bin:/bin", "NOVITA_API_KEY": "unused",
             "NOVITA_API_BASE_URL": "http://127.0.0.1:9"},
        stderr=PIPE,
    )  # fmt: skip
    try:
        port = await listening_port(process)
        answer = await _Client.connected(port)
        for _ in range(RUNNING):
            await answer.post(b'{"type":"busy"}')
        while b'"processingJobs":32' not in await answer.get(b"/api/stats"):
            await asyncio.sleep(0.02)
        await _load(port, jobs // 10)  # warm
        started = time.perf_counter()
        times = sorted(await _load(port, jobs))
        elapsed = time.perf_counter() - started
        return {
            "http_accepted_per_s": len(times) / elapsed,
            "http_post_p50_ms": times[len(times) // 2] * 1000,
            "http_post_p99_ms": times[len(times) * 99 // 100] * 1000,
            "command_url_ms": await _command(port) * 1000,
        }
    finally:
        process.terminate()
        await process.communicate()


async def listening_port(process: Process) -> int:
    """Where ``durably serve`` listens, once it does."""
    assert process.stderr is not None
    said = ""
    while line := (await process.stderr.readline()).decode():
        said += line
        if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise RuntimeError(said)


class _Client:
    """One connection that is kept open."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._head = f"HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()

    @classmethod
    async def connected(cls, port: int) -> "_Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port), port)

    async def post(self, body: bytes) -> None:
        length = str(len(body)).encode()
        self._writer.write(
            b"POST /api/jobs " + self._head + b"Content-Type: application/json\r\n"
            b"Content-Length: " + length + b"\r\n\r\n" + body
        )
        await self._answer(b" 202 ")

    async def get(self, path: bytes) -> bytes:
        self._writer.write(b"GET " + path + b" " + self._head + b"\r\n")
        return await self._answer(b" 200 ")

    async def _answer(self, status: bytes) -> bytes:
        head = await self._reader.readuntil(b"\r\n\r\n")
        if status not in head[:16]:
            raise RuntimeError(head.decode())
        found = re.search(rb"content-length: (\d+)", head)
        assert found is not None
        return await self._reader.readexactly(int(found[1]))

    def close(self) -> None:
        self._writer.close()


async def _load(port: int, jobs: int) -> list[float]:
    """Seconds of each POST, from 32 connections that wait for nothing but their answers."""
    left, times = jobs, []
    body = json.dumps({"type": "noop", "payload": {}, "delay": 3600}).encode()

    async def ask() -> None:
        nonlocal left
        client = await _Client.connected(port)
        while left > 0:
            left -= 1
            started = time.perf_counter()
            await client.post(body)
            times.append(time.perf_counter() - started)
        client.close()

    await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))
    return times


async def _command(port: int) -> float:
    """Seconds of ``durably stats`` on the server, from start to end of the process."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "durably", "stats", "--url", f"http://127.0.0.1:{port}"),
            stdout=PIPE,
        )
        await process.communicate()
        if process.returncode:
            raise RuntimeError("durably stats has failed")
        times.append(time.perf_counter() - started)
    return statistics.median(times)
