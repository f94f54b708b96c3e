"""What every benchmark shares: stores, repetitions, medians, and where the numbers came from."""

import asyncio
import json
import multiprocessing
import os
import platform
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.postgres import binaries, running_server

import durably
from durably import JobQueueService, NewJob
from durably.cli.signals import run
from durably.engine import resident

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAYLOAD = {"i": 1, "t": 0.0, "pad": "x" * 72}
"""About 100 bytes of JSON; the peers get the same."""
NO_SERVER = "PostgreSQL is not installed and is left out: `make services` installs it"

Figures = dict[str, float]
Measure = Callable[[str], Coroutine[Any, Any, Figures]]
"""Measures the empty store of a URL."""
Summary = dict[str, Any]
"""Median, min, max, n and every value."""

processes = multiprocessing.get_context("forkserver")
"""Where measurements and their workers run: each in a process that begins with imports only."""


@contextmanager
def stores() -> Iterator[dict[str, Callable[[Path], str]]]:
    """Store name to what makes the URL of an empty one out of a temporary folder.

    PostgreSQL is a private server with default settings, gone afterwards.
    """
    found: dict[str, Callable[[Path], str]] = {
        "memory": lambda _: "memory://",
        "sqlite": lambda folder: f"sqlite:///{folder}/bench.db",
    }
    programs = binaries()
    if programs is None:
        print(NO_SERVER, file=sys.stderr)
        yield found
        return
    with running_server(programs) as server:
        address = server.url
        found["postgres"] = lambda folder: f"{address}?schema=bench_{folder.name[-8:].lower()}"
        yield found


def ask(
    measure: Measure,
    where: dict[str, Callable[[Path], str]],
    *,
    repetitions: int,
    told: Callable[[str, dict[str, Summary]], None],
) -> dict[str, dict[str, Summary]]:
    """Measure every store in turn, *repetitions* times interleaved; medians and spread."""
    found: dict[str, list[Figures]] = {name: [] for name in where}
    for _ in range(repetitions):
        for name, url in where.items():
            found[name].append(_afresh(measure, url))
    answer = {name: summary(rows) for name, rows in found.items()}
    for name, figures in answer.items():
        told(name, figures)
    return answer


def _afresh(measure: Measure, url: Callable[[Path], str]) -> Figures:
    """One measurement in a process and a store of its own."""
    folder = Path(tempfile.mkdtemp(prefix="durably-bench-"))
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=_child, args=(sender, measure, url(folder)))
    process.start()
    sender.close()
    try:
        answer: Figures = receiver.recv()
    except EOFError:
        raise RuntimeError("a measurement has failed; see above") from None
    finally:
        process.join()
        shutil.rmtree(folder)
    return answer


def _child(sender: Any, measure: Measure, url: str) -> None:
    sender.send(run(measure(url)))


def end_in_good_order() -> None:
    """Have SIGTERM end the program by an exception, so that the server it has started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def summary(rows: Sequence[Figures]) -> Summary:
    """Median and spread of each figure."""
    return {
        figure: {
            "median": statistics.median(row[figure] for row in rows),
            "min": min(row[figure] for row in rows),
            "max": max(row[figure] for row in rows),
            "n": len(rows),
            "all": [row[figure] for row in rows],
        }
        for figure in rows[0]
    }


def show(question: str, subject: str, figures: dict[str, Summary]) -> None:
    """Print a line for each figure."""
    for figure, values in figures.items():
        print(
            f"{question:<12} {subject:<14} {figure:<28} median {values['median']:>12,.3f}"
            f"   ({values['min']:,.3f} to {values['max']:,.3f}, n={values['n']:.0f})",
            flush=True,
        )


def percentiles(name: str, seconds: Sequence[float]) -> Figures:
    """The 50th, 95th and 99th of *seconds*, in milliseconds; the first tenth is warming up."""
    ordered = sorted(seconds[len(seconds) // 10 :])
    if not ordered:
        raise RuntimeError(f"nothing was measured: {name}")
    return {f"{name}_p{p}_ms": ordered[len(ordered) * p // 100] * 1e3 for p in (50, 95, 99)}


async def fill(service: JobQueueService, jobs: int, *, type: str = "noop", **options: Any) -> None:
    """Add *jobs*, a thousand at a time."""
    job = NewJob(type, PAYLOAD, **options)
    for start in range(0, jobs, 1_000):
        await service.add_jobs([job] * min(1_000, jobs - start))


async def completed(queue: JobQueueService, jobs: int) -> None:
    """Wait until the store has recorded so many outcomes."""
    while (await queue.get_stats()).completed_jobs < jobs:
        await asyncio.sleep(0.001)


def resident_bytes() -> int:
    """The memory of this process that is in RAM."""
    held = resident.resident_bytes()
    assert held is not None, "this system does not say"
    return held


def machine() -> dict[str, str]:
    """Where and with what the numbers were made."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _said("git", "describe", "--always", "--dirty") or "unknown",
        "durably": durably.__version__,
        "python": sys.version.split()[0],
        "loop": _loop(),
        "sqlite": sqlite3.sqlite_version,
        "postgres": _postgres(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.2f}",
    }


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _loop() -> str:
    try:
        return f"uvloop {metadata.version('uvloop')}"
    except metadata.PackageNotFoundError:
        return "asyncio"


def _postgres() -> str:
    programs = binaries()
    version = "" if programs is None else _said(str(programs / "postgres"), "--version")
    return " ".join(version.split()[2:3]) or "none"


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def save(answers: dict[str, Any], folder: Path, settings: dict[str, Any]) -> Path:
    """Write the results as JSON; where."""
    folder.mkdir(parents=True, exist_ok=True)
    found = machine()
    path = folder / f"{found['at'].replace(':', '').partition('+')[0]}.json"
    document = {"machine": found, "settings": settings, "answers": answers}
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path
