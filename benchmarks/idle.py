"""What does a worker cost that has nothing to do: CPU, statements, writes?"""

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

from benchmarks.support import Figures
from durably import JobContext, JobQueueService


async def measure(url: str, *, seconds: float) -> Figures:
    """Percent of one core; statements and bytes written, a minute."""
    statements = _Statements()
    statements.watch(url)

    async def noop(job: JobContext) -> None:
        return

    async with JobQueueService(url, concurrency=8) as queue:
        queue.register_handler("noop", noop)
        await queue.start_processing()
        await queue.wait((await queue.add_job("noop")).id, timeout=10)
        await asyncio.sleep(min(1.0, seconds))  # what the job has left to be done
        written = await _written(url)
        statements.seen = 0
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        seen = statements.seen
        written = await _written(url) - written
    return {
        "idle_cpu_percent": cpu / wall * 100,
        "idle_statements_per_min": seen / wall * 60,
        "idle_written_bytes_per_min": written / wall * 60,
    }


class _Statements:
    """Counts what the drivers of this process are asked."""

    def __init__(self) -> None:
        self.seen = 0

    def watch(self, url: str) -> None:
        """Have every connection made from now on tell of its statements."""
        if url.startswith("sqlite"):
            self._watch_sqlite()
        elif url.startswith("postgres"):
            self._watch_postgres()

    def _count(self, _: object) -> None:
        self.seen += 1

    def _watch_sqlite(self) -> None:
        connect: Any = sqlite3.connect

        def watched(*args: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **options)
            connection.set_trace_callback(self._count)
            return connection

        sqlite3.connect = watched  # type: ignore[assignment]  # its overloads

    def _watch_postgres(self) -> None:
        import asyncpg

        connect: Any = asyncpg.connect

        async def watched(*args: Any, **options: Any) -> Any:
            connection = await connect(*args, **options)
            connection.add_query_logger(self._count)
            return connection

        asyncpg.connect = watched


async def _written(url: str) -> int:
    """Bytes so far: that this process has given to write calls, or of the server's log."""
    if url.startswith("postgres"):
        import asyncpg

        connection = await asyncpg.connect(url.partition("?")[0])
        try:
            log = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
            return int(await connection.fetchval(log))
        finally:
            await connection.close()
    return _written_here()


def _written_here() -> int:
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["wchar"])
