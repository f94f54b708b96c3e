"""What ``durably doctor`` looks at: each check is ok, warn or fail, and says the way out."""

import shutil
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import durably
from durably import app
from durably.domain.errors import StoreError
from durably.engine.queue import JobQueueService
from durably.engine.stats import QueueStats
from durably.settings import Settings
from durably.store import WorkerState
from durably.stores.sqlite.database import connect, file_system, path_of, translated

_SQLITE_FIXED = (3, 51, 3)
_FREE_LEAST = 256 * 1024 * 1024
if TYPE_CHECKING:
    from durably.stores.postgres.database import ServerFigures

_EXTRAS = {
    "cli": ("click", "rich"),
    "instances": ("aiohttp", "standardwebhooks", "yarl"),
    "postgres": ("asyncpg",),
    "server": ("litestar", "prometheus-client", "uvicorn"),
}


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    name: str
    verdict: Verdict = Verdict.OK
    found: str
    way_out: str = ""
    """What to do about it; empty when nothing need be done."""


async def examine(settings: Settings) -> list[Check]:
    """Look at this installation and at the store of *settings*, which is not created."""
    checks = [_python(), _sqlite(), *_extras(), _clock(), _redaction(settings)]
    try:
        if reason := await app.missing_store(settings.store):
            way_out = "it is made by the first program that opens it; check DURABLY_STORE"
            return [*checks, _failed(reason, way_out)]
        async with app.open_queue(settings) as queue:
            checks += [check async for check in _store(settings, queue)]
    except StoreError as error:
        checks.append(_failed(str(error), "check the file, its folder and who may write them"))
    return checks


def _failed(found: str, way_out: str) -> Check:
    return Check(name="store", verdict=Verdict.FAIL, found=found, way_out=way_out)


async def _store(settings: Settings, queue: JobQueueService) -> AsyncIterator[Check]:
    yield Check(name="store", found=f"{queue.store_url} can be read and written")
    if settings.store.startswith("sqlite:"):
        for check in _file(path_of(settings.store)):
            yield check
    if settings.store.startswith("postgres"):
        for check in await _server(settings.store):
            yield check
    yield _workers(await queue.workers())
    yield _jobs(await queue.get_stats())
    with suppress(ModuleNotFoundError):  # without the extra there is no such service
        yield await _webhook_secret(settings, queue)


def _python() -> Check:
    release = ".".join(map(str, sys.version_info[:3]))
    return Check(
        name="versions",
        found=f"durably {durably.__version__}, python {release}, msgspec {version('msgspec')}",
    )


def _redaction(settings: Settings) -> Check:
    names = ", ".join(settings.redact) or "none, see DURABLY_REDACT"
    return Check(name="redaction", found=f"fields that the HTTP API does not show: {names}")


def _sqlite() -> Check:
    found = f"SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < _SQLITE_FIXED:
        found += (
            " has the WAL-reset bug that 3.51.3 fixed: a commit beside a checkpoint may damage the"
            " file; Durably's checkpoint lock covers its own processes, not other programs"
        )
    return Check(name="sqlite", found=found)


def _extras() -> Iterator[Check]:
    for extra, packages in _EXTRAS.items():
        installed = {package: _version(package) for package in packages}
        missing = [package for package, release in installed.items() if release is None]
        name = f"extra {extra}"
        if missing:
            yield Check(
                name=name,
                verdict=Verdict.WARN,
                found=f"not installed: {', '.join(missing)}",
                way_out=f'pip install "durably[{extra}]"',
            )
        else:
            found = ", ".join(f"{package} {release}" for package, release in installed.items())
            yield Check(name=name, found=found)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _clock() -> Check:
    if hasattr(time, "CLOCK_BOOTTIME"):
        return Check(name="clock", found="leases use CLOCK_BOOTTIME, which counts suspend")
    return Check(
        name="clock",
        verdict=Verdict.WARN,
        found="leases use CLOCK_MONOTONIC, which stands still during suspend",
        way_out="after a suspend the jobs of a process that died meanwhile are rescued later",
    )


def _file(path: Path) -> Iterator[Check]:
    """Looks while the store is open, so that these connections are never its last."""
    with translated(path), closing(connect(path)) as connection:
        (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    good = journal == "wal" and synchronous == 2
    yield Check(
        name="durability",
        verdict=Verdict.OK if good else Verdict.FAIL,
        found=f"journal_mode={journal}, synchronous={synchronous} (2 is FULL)",
        way_out="" if good else "put the store on a local file system that takes WAL",
    )
    kind = file_system(path.parent.resolve(), Path("/proc/self/mountinfo"))
    yield Check(name="file system", found=kind or "this system does not tell")
    yield _size(path)


async def _server(url: str) -> list[Check]:
    """What the server of a store says of itself."""
    from durably.stores.postgres.database import server_figures

    figures = await server_figures(url)
    safe = figures.synchronous_commit != "off"
    crowded = figures.connections > 0.8 * figures.connections_most
    return [
        Check(name="server", found=f"PostgreSQL {figures.version}, schema {figures.schema}"),
        Check(
            name="durability",
            verdict=Verdict.OK if safe else Verdict.FAIL,
            found=f"synchronous_commit={figures.synchronous_commit}",
            way_out="" if safe else "a power loss loses accepted jobs: set synchronous_commit=on",
        ),
        Check(
            name="connections",
            verdict=Verdict.WARN if crowded else Verdict.OK,
            found=f"{figures.connections} of {figures.connections_most}",
            way_out="raise max_connections: a process of ours needs up to seven" if crowded else "",
        ),
        *_pooler(figures),
        Check(
            name="dead tuples",
            found=f"{figures.dead_tuples:,} beside {figures.live_tuples:,} jobs",
        ),
    ]


def _pooler(figures: "ServerFigures") -> Iterator[Check]:
    """Whether what needs a session has a way to one."""
    if figures.direct is False or (figures.pooled and figures.direct is None):
        found = "it stands between" if figures.direct is None else "the direct address is one too"
        yield Check(
            name="pooler",
            verdict=Verdict.WARN,
            found=f"{found}: a dead process is noticed only when its lease ends, and new jobs when"
            " workers look by themselves",
            way_out="add &direct=postgresql://user@server/db to the store's URL, past the pooler",
        )
    elif figures.pooled:
        yield Check(name="pooler", found="it stands between; LISTEN and locks go past it")


def _size(path: Path) -> Check:
    log = path.with_name(f"{path.name}-wal")
    free = shutil.disk_usage(path.parent).free
    low = free < _FREE_LEAST
    return Check(
        name="size",
        verdict=Verdict.WARN if low else Verdict.OK,
        found=f"{_mb(path)} and {_mb(log)} of log; {free / 1e6:,.0f} MB free",
        way_out="make room: a full disk refuses every new job" if low else "",
    )


def _mb(path: Path) -> str:
    return f"{(path.stat().st_size if path.exists() else 0) / 1e6:,.1f} MB"


def _workers(workers: list[WorkerState]) -> Check:
    dead = [worker for worker in workers if not worker.alive]
    found = f"{len(workers) - len(dead)} live, {len(dead)} dead"
    if not dead:
        return Check(name="workers", found=found)
    held = sum(worker.held for worker in dead)
    return Check(
        name="workers",
        verdict=Verdict.WARN,
        found=f"{found}, which hold {held} jobs",
        way_out="start a worker: it rescues them before it is ready",
    )


def _jobs(figures: QueueStats) -> Check:
    found = f"{figures.pending_jobs:,} pending, {figures.processing_jobs:,} processing"
    if not figures.unhandled_types:
        return Check(name="jobs", found=found)
    return Check(
        name="jobs",
        verdict=Verdict.WARN,
        found=f"{found}; no live worker has a handler for {', '.join(figures.unhandled_types)}",
        way_out="start a worker that has these handlers",
    )


async def _webhook_secret(settings: Settings, queue: JobQueueService) -> Check:
    name = "webhook secret"
    if settings.webhook_secret is not None:
        return Check(name=name, found="set by DURABLY_WEBHOOK_SECRET, not shown")
    kept = await app.kept_webhook_secret(queue)
    return Check(name=name, found=kept or "made when the instance service first starts")
