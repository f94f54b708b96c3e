"""The engine in the simulated world; more seeds by `make simulate`."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SEEDS = 200


def simulate(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "chaos.simulate", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_promise_is_kept_for_many_seeds() -> None:
    """Kills, stops, lost replies and any order of tasks: the checker finds nothing."""
    done = simulate("--seeds", str(SEEDS))

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS} seeds" in done.stdout


def test_a_seed_can_be_replayed() -> None:
    """The same events at the same times, whatever else differs between two runs of Python."""
    first, again = (simulate("--show", "7", PYTHONHASHSEED=seed).stdout for seed in ("1", "2"))

    assert first == again
    assert first.count('"start"') > 30
    assert '"how":"stop"' in first or '"how":"kill"' in first


def test_seeds_differ() -> None:
    """Another seed is another story."""
    assert simulate("--show", "7").stdout != simulate("--show", "8").stdout
