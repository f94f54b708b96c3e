"""What every benchmark shares: stores, repetitions, medians, and where the numbers came from."""

import asyncio
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import durably

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "local"
PAYLOAD = {"i": 1, "t": 0.0, "pad": "x" * 72}
"""About 100 bytes of JSON, as the peers' drivers use."""

Measure = Callable[[str], Coroutine[Any, Any, dict[str, float]]]


SERVER = os.environ.get("DURABLY_BENCH_POSTGRES")
"""The URL of an empty database that may be filled; without it PostgreSQL is not measured."""


def stores() -> dict[str, Callable[[Path], str]]:
    """Store name to URL in a folder, or in a schema of the folder's name."""
    found: dict[str, Callable[[Path], str]] = {
        "memory": lambda _: "memory://",
        "sqlite": lambda folder: f"sqlite:///{folder}/bench.db",
    }
    if SERVER is not None:
        found["postgres"] = lambda folder: f"{SERVER}?schema=bench_{folder.name[-8:].lower()}"
    return found


def run(question: str, measure: Measure, *, repetitions: int, only: list[str]) -> dict[str, Any]:
    """Measure every store in turn, *repetitions* times interleaved; medians and spread."""
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(repetitions):
        for name, url in stores().items():
            if name in only:
                folder = Path(tempfile.mkdtemp(prefix="durably-bench-"))
                try:
                    found.setdefault(name, []).append(asyncio.run(measure(url(folder))))
                finally:
                    shutil.rmtree(folder)
    answer = {name: _summary(rows) for name, rows in found.items()}
    for name, figures in answer.items():
        for figure, values in figures.items():
            print(
                f"{question:<12} {name:<8} {figure:<28} median {values['median']:>12,.3f}"
                f"   ({values['min']:,.3f} to {values['max']:,.3f}, n={values['n']:.0f})",
                flush=True,
            )
    return answer


def _summary(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        figure: {
            "median": statistics.median(row[figure] for row in rows),
            "min": min(row[figure] for row in rows),
            "max": max(row[figure] for row in rows),
            "n": len(rows),
        }
        for figure in rows[0]
    }


def machine() -> dict[str, str]:
    """Where and with what the numbers were made."""
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "durably": durably.__version__,
        "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
        "system": platform.platform(),
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.2f}",
    }


def save(answers: dict[str, Any], folder: Path) -> Path:
    """Write the results as JSON; where."""
    folder.mkdir(parents=True, exist_ok=True)
    found = machine()
    path = folder / f"{found['at'].replace(':', '')}.json"
    path.write_text(json.dumps({"machine": found, "answers": answers}, indent=2) + "\n")
    return path
