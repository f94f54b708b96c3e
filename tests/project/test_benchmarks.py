"""The benchmarks run; what they measure is not judged here."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_every_benchmark_runs_and_saves_its_result(tmp_path: Path, postgres_url: str) -> None:
    """One small repetition of each question for every store, saved as JSON with the machine."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--quick", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "DURABLY_BENCH_POSTGRES": postgres_url.partition("?")[0]},
        check=False,
    )

    assert done.returncode == 0, done.stderr
    [result] = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    questions = {"enqueue", "throughput", "latency", "idle", "service", "continuous", "pinned"}
    assert questions == set(result["answers"])
    assert {"memory", "sqlite", "postgres"} == set(result["answers"]["throughput"])
    assert {"postgres"} == set(result["answers"]["pinned"])
    assert "python" in result["machine"]
