"""The benchmarks run; what they measure is not judged here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.run import MEASURES, SIZES, WHERE
from tests.postgres import binaries

ROOT = Path(__file__).parent.parent.parent


def measured(folder: Path, *args: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", "--size", "smoke", "--out", str(folder), *args],
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
    result = measured(tmp_path, "--store", store)

    asked = {name for name in MEASURES if store in WHERE.get(name, {store})}
    assert asked == {name for name, answer in result["answers"].items() if answer}
    for question in asked:
        for figure, values in result["answers"][question][store].items():
            assert values["min"] <= values["median"] <= values["max"], figure
    assert {"commit", "python", "sqlite", "postgres", "cores"} <= set(result["machine"])
    assert result["settings"]["size"] == "smoke"


def test_every_size_names_every_question() -> None:
    """No question is left out of `make bench`, `bench-quick` or `bench-long`."""
    assert {name: set(MEASURES) for name in SIZES} == {n: set(s) for n, s in SIZES.items()}
