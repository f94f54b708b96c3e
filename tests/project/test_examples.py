"""Every example prints what its last comment says."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_an_example_prints_its_output(path: Path) -> None:
    """The lines after `# Output:` are printed, in any order where jobs run side by side."""
    expected = path.read_text().partition("# Output:\n")[2]
    lines = sorted(line.removeprefix("# ") for line in expected.splitlines())

    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert lines
    assert lines == sorted(done.stdout.splitlines())
