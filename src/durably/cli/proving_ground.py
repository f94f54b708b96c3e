"""Where ``durably bench`` measures: a store of its own beside the named one, removed at the end.

An SQLite file lies in a new folder next to the named file, so on the same disk; on PostgreSQL it is a
new schema of the same database. The named store is never opened.
"""

import asyncio
import os
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from durably.cli.bottleneck import Costs
from durably.domain.clock import SystemClock
from durably.store import Store
from durably.stores import open_store

_PROBES = 200
"""At most so many, and for half a second."""
_PROBE_S = 0.5
_PAGE = 4096


class Ground(msgspec.Struct, frozen=True):
    """An empty store that is open, and what its disk or server takes by itself."""

    store: Store
    place: str
    """For people."""
    sync_ms: float | None = None
    round_trip_ms: float | None = None
    commit_ms: float | None = None

    def completed(self, costs: Costs) -> Costs:
        """*costs* with what was probed."""
        return msgspec.structs.replace(
            costs,
            sync_ms=self.sync_ms,
            round_trip_ms=self.round_trip_ms,
            commit_ms=self.commit_ms,
        )


@asynccontextmanager
async def ground(url: str) -> AsyncIterator[Ground]:
    """An empty store where that of *url* is.

    Raises:
        DurablyError: there can be none.
    """
    if url.startswith("sqlite"):
        made = _beside_file(url)
    elif url.startswith("postgres"):
        made = _in_database(url)
    else:
        made = _in_memory()
    async with made as found:
        await found.store.open()
        try:
            yield found
        finally:
            await found.store.close()


@asynccontextmanager
async def _in_memory() -> AsyncIterator[Ground]:
    yield Ground(open_store("memory://", clock=SystemClock()), "memory")


@asynccontextmanager
async def _beside_file(url: str) -> AsyncIterator[Ground]:
    from durably.stores.sqlite.database import check_place, path_of

    path = path_of(url)
    check_place(path)
    folder = _new_folder(path.parent)
    try:
        store = open_store(f"sqlite:///{folder}/bench.db", clock=SystemClock())
        sync_ms = await asyncio.to_thread(_sync_ms, folder / "probe")
        yield Ground(store, f"a file in {folder.parent}", sync_ms=sync_ms)
    finally:
        shutil.rmtree(folder)


def _new_folder(beside: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix="durably-bench-", dir=beside.resolve()))


def _sync_ms(path: Path) -> float:
    """The median of writing a page and waiting until the disk has it."""
    times: list[float] = []
    with path.open("wb", buffering=0) as file:
        end = time.perf_counter() + _PROBE_S
        while len(times) < _PROBES and (not times or time.perf_counter() < end):
            begun = time.perf_counter()
            file.write(bytes(_PAGE))
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begun)
    path.unlink()
    return statistics.median(times) * 1e3


@asynccontextmanager
async def _in_database(url: str) -> AsyncIterator[Ground]:
    from durably.stores.postgres.database import address_of, connect, translating

    schema = f"durably_bench_{secrets.token_hex(6)}"
    own = _with_schema(url, schema)
    address = address_of(own)._replace(pooled=True)
    connection = await connect(address)
    try:
        async with translating(address):
            await connection.execute(f"CREATE SCHEMA {schema}")
            try:
                await connection.execute(f"CREATE TABLE {schema}.probe (n integer)")
                add = f"INSERT INTO {schema}.probe VALUES (1)"  # noqa: S608  # our own name
                yield Ground(
                    open_store(own, clock=SystemClock()),
                    f"a schema of {address.shown}",
                    round_trip_ms=await _median_ms(lambda: connection.execute("SELECT 1")),
                    commit_ms=await _median_ms(lambda: connection.execute(add)),
                )
            finally:
                await connection.execute(f"DROP SCHEMA {schema} CASCADE")
    finally:
        await connection.close()


def _with_schema(url: str, schema: str) -> str:
    """The same database, where a schema may be made.

    >>> _with_schema("postgresql://ann@db/jobs?upgrade=no&ssl=require", "bench")
    'postgresql://ann@db/jobs?ssl=require&schema=bench'
    """
    parts = urlsplit(url)
    named = dict(parse_qsl(parts.query))
    named.pop("upgrade", None)
    return urlunsplit(parts._replace(query=urlencode({**named, "schema": schema})))


async def _median_ms(ask: Callable[[], Awaitable[object]]) -> float:
    times: list[float] = []
    end = time.perf_counter() + _PROBE_S
    while len(times) < _PROBES and (not times or time.perf_counter() < end):
        begun = time.perf_counter()
        await ask()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3
