"""The benchmarks run; what they measure is not judged here."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks import support
from benchmarks.continuous import window
from benchmarks.peers.protocol import SETTLER, Tally
from benchmarks.run import MEASURES, SIZES, WHERE
from tests.postgres import binaries

ROOT = Path(__file__).parent.parent.parent


def measured(folder: Path, module: str, *args: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", module, "--out", str(folder), *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [result] = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize("store", ["memory", "sqlite", "postgres"])
def test_every_question_is_answered_for_every_store(tmp_path: Path, store: str) -> None:
    """One tiny measurement of each question, saved as JSON with machine and versions."""
    if store == "postgres" and binaries() is None:
        pytest.skip("PostgreSQL is not installed: `make services` installs it")
    result = measured(tmp_path, "benchmarks.run", "--size", "smoke", "--store", store)

    asked = {name for name in MEASURES if store in WHERE.get(name, {store})}
    assert asked == {name for name, answer in result["answers"].items() if answer}
    for question in asked:
        for figure, values in result["answers"][question][store].items():
            assert values["min"] <= values["median"] <= values["max"], figure
    assert {"commit", "python", "sqlite", "postgres", "cores"} <= set(result["machine"])
    assert result["settings"]["size"] == "smoke"


async def test_a_rate_is_that_of_at_least_one_job() -> None:
    """A pause of the machine longer than the time asked for is measured, not taken for a rate of none."""
    done = support.processes.Value("q", 7, lock=False)
    measuring = asyncio.create_task(window(done, seconds=0))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not measuring.done()

    done.value += 1
    assert await measuring > 0


def test_every_size_names_every_question() -> None:
    """No question is left out of `make bench`, `bench-quick` or `bench-long`."""
    assert {name: set(MEASURES) for name in SIZES} == {n: set(s) for n, s in SIZES.items()}


SMALL = ("benchmarks.peers.run", "--scale", "0.001", "--repetitions", "1", "--seconds", "0.3")


def test_peers_are_measured_beside_durably(tmp_path: Path) -> None:
    """On one machine: what Durably does and what is written by hand, neither of which fails."""
    result = measured(
        tmp_path, *SMALL, "--store", "memory", "--store", "sqlite", "durably", "by hand"
    )

    assert result["settings"]["failed"] == {}
    assert set(result["answers"]["peers_memory"]) == {"durably", "by hand"}
    assert {"process_2_per_s", "start_p99_ms"} <= set(result["answers"]["peers_sqlite"]["durably"])


def test_each_process_counts_once_as_ready(tmp_path: Path) -> None:
    """Whoever waits for three must not wait for ever because two were ready at the same moment."""
    tally = Tally(tmp_path / "tally", new=True)
    for process in (0, 0, SETTLER):
        tally.ready(process)

    assert tally.are_ready(2)
    assert not tally.are_ready(3)


def test_peers_on_a_server_also_have_to_last(tmp_path: Path) -> None:
    """PostgreSQL: in short, then for a while alone and beside an old snapshot."""
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed: `make services` installs it")
    result = measured(tmp_path, *SMALL, "--store", "postgres", "by hand")

    assert result["settings"]["failed"] == {}
    assert set(result["answers"]) == {"peers_postgres", "peers_continuous", "peers_pinned"}
