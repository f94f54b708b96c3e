"""What a process asks of its database, and what is written for it."""

import sqlite3
from pathlib import Path
from typing import Any


class Statements:
    """Counts what the drivers of this process are asked, by all connections made from now on."""

    def __init__(self, url: str) -> None:
        self.seen = 0
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


async def written(url: str) -> int:
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
