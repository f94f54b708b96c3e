"""The stores that a storm rages over: a SQLite file, a private PostgreSQL server."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncpg
from tests.postgres import Server, binaries, running_server

_EFFECTS = "CREATE TABLE chaos_effects (job TEXT NOT NULL, run TEXT NOT NULL)"
_DISK_MB = {"sqlite": 96, "postgres": 512}


class Place(Protocol):
    """Where the store lies, and what can be done to it."""

    url: str
    """For the storm itself, with nothing between."""
    port: int
    """Of its server; 0 without one."""
    disk: "Disk | None"
    """Its own small disk, when one could be made."""

    async def prepare(self) -> None:
        """Make the table for the handlers' own SQL."""
        ...

    async def effects(self) -> list[tuple[str, str]]:
        """What the handlers' own SQL has written: job and run."""
        ...

    def through(self, port: int) -> str:
        """The URL for a process that reaches the server through a proxy."""
        ...

    async def restart(self) -> None:
        """Stop the server at once, as a power cut does, and start it again."""
        ...

    async def revive(self) -> None:
        """Start the server if it has given up."""
        ...

    async def end_sessions(self, count: int) -> None:
        """End some of the server's sessions."""
        ...

    async def hog(self, seconds: float) -> None:
        """Keep all others from writing."""
        ...


class Disk:
    """A small disk of its own (tmpfs), which can be filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no room."""
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 20))
            except OSError:
                pass  # it is full, which was the aim

    def free(self) -> None:
        """Make room again."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def _folder(kind: str) -> Iterator[tuple[Path, Disk | None]]:
    """A folder, on a disk of its own where the user may mount one."""
    path = Path(tempfile.mkdtemp(prefix="durably-chaos-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB[kind]}m", "tmpfs", str(path)]
    mounted = (
        os.geteuid() == 0
        and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    )
    try:
        yield path, Disk(path) if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(path)], check=False)
        shutil.rmtree(path, ignore_errors=True)


class SQLitePlace:
    """A file."""

    port = 0

    def __init__(self, file: Path, disk: Disk | None) -> None:
        self.url = f"sqlite:///{file}"
        self.disk = disk
        self._file = file

    async def prepare(self) -> None:
        """See `Place.prepare`."""
        self._run(_EFFECTS)

    async def effects(self) -> list[tuple[str, str]]:
        """See `Place.effects`."""
        return self._run("SELECT job, run FROM chaos_effects")

    def through(self, port: int) -> str:  # there is no server
        """See `Place.through`."""
        return self.url

    async def restart(self) -> None:
        """See `Place.restart`: there is no server."""

    async def revive(self) -> None:
        """See `Place.revive`: there is no server."""

    async def end_sessions(self, count: int) -> None:
        """See `Place.end_sessions`: there are none."""

    async def hog(self, seconds: float) -> None:
        """See `Place.hog`."""
        with closing(sqlite3.connect(self._file, timeout=10, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(seconds)
            connection.execute("ROLLBACK")

    def _run(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(self._file, timeout=10)) as connection:
            found = connection.execute(sql).fetchall()
            connection.commit()
            return found


class PostgresPlace:
    """A private server."""

    def __init__(self, server: Server, disk: Disk | None) -> None:
        self.url = server.url
        self.port = server.port
        self.disk = disk
        self._server = server
        self._turn = asyncio.Lock()

    async def prepare(self) -> None:
        """See `Place.prepare`."""
        await self._run(_EFFECTS)

    async def effects(self) -> list[tuple[str, str]]:
        """See `Place.effects`."""
        return [(row[0], row[1]) for row in await self._run("SELECT job, run FROM chaos_effects")]

    def through(self, port: int) -> str:
        """See `Place.through`."""
        return self.url.replace(str(self.port), str(port))

    async def restart(self) -> None:
        """See `Place.restart`."""
        async with self._turn:
            await asyncio.to_thread(self._restart)

    async def revive(self) -> None:
        """See `Place.revive`."""
        async with self._turn:
            while not await asyncio.to_thread(self._server.is_running):
                await asyncio.to_thread(self._restart)

    def _restart(self) -> None:
        # With a full disk it does not start: whoever frees the disk revives it.
        with contextlib.suppress(subprocess.CalledProcessError):
            self._server.restart()

    async def end_sessions(self, count: int) -> None:
        """See `Place.end_sessions`."""
        await self._run(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            f" ORDER BY random() LIMIT {count}) AS chosen"
        )

    async def hog(self, seconds: float) -> None:
        """See `Place.hog`."""
        connection = await asyncpg.connect(self.url)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE durably.jobs IN SHARE MODE")
                await asyncio.sleep(seconds)
        finally:
            await connection.close()

    async def _run(self, sql: str) -> list[Any]:
        connection = await asyncpg.connect(self.url)
        try:
            return list(await connection.fetch(sql))
        finally:
            await connection.close()


@asynccontextmanager
async def place(kind: str) -> AsyncIterator[Place]:
    """A new store of a kind: ``sqlite`` or ``postgres``."""
    with _folder(kind) as (folder, disk):
        if kind == "sqlite":
            yield SQLitePlace(folder / "jobs.db", disk)
            return
        programs = binaries()
        if programs is None:
            raise SystemExit("PostgreSQL is not installed: `make services` installs it")
        with running_server(programs, folder) as server:
            yield PostgresPlace(server, disk)
