"""``durably bench``: what it measures, what it says of it, and that it leaves nothing behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.cli.support import Jobs, Run

from durably.cli.bottleneck import Costs, Limit, judge
from durably.cli.measuring import Others

SPEEDS = {
    "add_one_at_a_time_per_s",
    "add_concurrently_per_s",
    "add_in_bulk_per_s",
    "claim_to_outcome_per_s",
    "latency_p50_ms",
    "latency_p99_ms",
}


def bench(run: Run, store: str) -> dict[str, Any]:
    result = run("bench", "--json", "--seconds", "1", "--store", store)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    assert set(document["speed"]) == SPEEDS
    assert all(value > 0 for value in document["speed"].values())
    assert document["verdict"]["advice"]
    return document


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


def test_a_file_beside_the_store_is_measured_and_removed(
    run: Run, jobs: Jobs, tmp_path: Path
) -> None:
    """The named store is as before, and nothing else is there."""
    before, kept = files(tmp_path), (tmp_path / "durably.db").read_bytes()
    document = bench(run, "sqlite:///durably.db")
    assert document["place"] == f"a file in {tmp_path}"
    assert document["costs"]["sync_ms"] > 0
    assert document["costs"]["job_us"] > document["costs"]["python_us"] > 0
    assert files(tmp_path) == before
    assert (tmp_path / "durably.db").read_bytes() == kept


def test_a_store_that_is_not_there_is_not_made(run: Run, tmp_path: Path) -> None:
    """The folder is what is measured."""
    bench(run, "sqlite:///new.db")
    assert files(tmp_path) == set()


def test_memory_is_limited_by_python(run: Run) -> None:
    """There is nothing else."""
    document = bench(run, "memory://")
    assert document["verdict"]["limit"] == "python"
    assert document["costs"]["sync_ms"] is None


def test_a_schema_of_its_own_is_measured_and_removed(run: Run, postgres_url: str) -> None:
    """Also where the URL forbids changing the named schema."""

    async def schemas() -> list[str]:
        connection = await asyncpg.connect(postgres_url.partition("?")[0])
        try:
            return [row[0] for row in await connection.fetch("SELECT nspname FROM pg_namespace")]
        finally:
            await connection.close()

    before = asyncio.run(schemas())
    document = bench(run, f"{postgres_url}&upgrade=no")
    assert document["place"].startswith("a schema of postgresql://postgres@127.0.0.1")
    assert 0 < document["costs"]["round_trip_ms"]
    assert 0 < document["costs"]["commit_ms"]
    assert asyncio.run(schemas()) == before


def test_it_prints_figures_and_one_sentence(run: Run) -> None:
    """For people: a line for each figure, then the limit and the way out."""
    result = run("bench", "--seconds", "1", "--store", "sqlite:///new.db")
    assert (result.exit_code, result.stderr) == (0, "")
    figures, _, said = result.stdout.partition("\n\n")
    assert [line.split("  ")[0] for line in figures.splitlines()] == [
        "measured in",
        "add, one at a time",
        "add, 64 producers",
        "add, 1,000 at a time",
        "claim to outcome",
        "add to start p50 p99",
        "time of a job",
        "SQLite's CPU a job",
        "disk sync",
    ]
    assert " is the limit: " in said.splitlines()[0]


def test_other_programs_are_counted() -> None:
    """What another process computes is not taken for ours."""
    others = Others()
    program = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)
    cores = others.cores()
    assert cores is not None
    assert cores > 0


def test_a_disturbed_machine_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who measures beside other programs is asked to measure again."""
    for cores, told in ((1.5, True), (0.1, False), (None, False)):
        monkeypatch.setattr(Others, "cores", lambda _, cores=cores: cores)
        result = run("bench", "--seconds", "1", "--store", "memory://")
        assert ("other programs kept 1.5 cores busy" in result.stdout) is told


@pytest.mark.parametrize(
    ("args", "said", "exit_code"),
    [
        (("--store", "sqlite:///none/x.db"), "the folder of the store does not exist: none", 1),
        (("--store", "redis://x"), "no store is known for 'redis:'", 2),
        (("--store", "postgresql://x@127.0.0.1:1/x"), "127.0.0.1", 1),
        (("--seconds", "0"), "0.0 is not in the range 1<=x<=3600", 2),
        (("--seconds", "soon"), "'soon' is not a valid float", 2),
    ],
)
def test_a_mistake_is_one_line(run: Run, args: tuple[str, ...], said: str, exit_code: int) -> None:
    """Named, with the value; no stack trace."""
    result = run("bench", *args)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_signal_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM in the middle: exit code 1, one line, no files."""
    process = subprocess.Popen(
        [sys.executable, "-m", "durably", "bench", "--store", "sqlite:///new.db"],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not any("bench.db" in name for name in files(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, len(said.splitlines())) == (1, 1)
    assert "stopped by a signal" in said
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("limit", "costs"),
    [
        (Limit.PYTHON, Costs(job_us=30, python_us=20, threads_us=15, sync_ms=0.1)),
        (Limit.DATABASE, Costs(job_us=60, python_us=15, threads_us=35, sync_ms=0.1)),
        (Limit.DISK, Costs(job_us=400, python_us=20, threads_us=20, sync_ms=12.0)),
        (
            Limit.PYTHON,
            Costs(job_us=30, python_us=20, threads_us=0, round_trip_ms=0.1, commit_ms=1),
        ),
        (
            Limit.DATABASE,
            Costs(job_us=90, python_us=20, threads_us=0, round_trip_ms=2, commit_ms=3),
        ),
        (Limit.DISK, Costs(job_us=90, python_us=20, threads_us=0, round_trip_ms=0.1, commit_ms=9)),
    ],
)
def test_the_limit_is_what_most_of_the_time_goes_to(limit: Limit, costs: Costs) -> None:
    """CPU of the loop, of SQLite, or waiting for a disk or a server."""
    verdict = judge(costs)
    assert verdict.limit is limit
    assert f"{limit.value} is the limit" in verdict.advice.lower()
    assert ";" in verdict.advice
