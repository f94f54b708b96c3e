"""A storm of a minute over each real store; longer ones by `make chaos`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.postgres import binaries

ROOT = Path(__file__).parent.parent.parent
STORM_S = 60
LONGEST_S = 300


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_every_promise_is_kept_in_a_storm(kind: str, tmp_path: Path) -> None:
    """Kills, stops, clocks, locks, a full disk, a server that restarts, a network that fails."""
    if kind == "postgres" and binaries() is None:
        pytest.skip("PostgreSQL is not installed: `make services` installs it")
    storm = [sys.executable, "-m", "chaos.storm", "--store", kind, "--seconds", str(STORM_S)]
    done = subprocess.run(
        [*storm, "--events", "1000000", "--keep", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]
    assert "every promise was kept" in done.stdout
    for word, least in (("jobs", 500), ("faults", 20)):
        count = re.search(rf"{word} +(\d+)", done.stdout)
        assert count is not None
        assert int(count[1]) > least
