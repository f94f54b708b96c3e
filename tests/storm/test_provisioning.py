"""GPUs under fire, a short while; 2,000 requests by `make provisioning`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_every_request_ends_with_one_gpu_or_none(tmp_path: Path) -> None:
    """Lost replies, list lag, no stock, failing receivers, killed workers: nothing is left billed."""
    done = subprocess.run(
        [sys.executable, "-m", "chaos.provisioning", "--creates", "60"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]
    assert "one billed GPU or none" in done.stdout
    assert "60 asked for" in done.stdout
    assert " 0 kills" not in done.stdout
