"""The evidence for the promises: every long run, written down under ``docs/evidence/``.

``python -m chaos.evidence [NAME …]`` runs the commands below and writes for each what it printed,
with the command that repeats it, the versions and the commit. Exit code 1 when a promise was
broken; the file then says so.
"""

import argparse
import datetime as dt
import os
import platform
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.postgres import binaries

import durably

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "evidence"

#: What a file is called (without ending) → what is run.
RUNS = {
    "storm-sqlite": "python -m chaos.storm --store sqlite --events 10000 --seed 5",
    "storm-postgres": "python -m chaos.storm --store postgres --events 10000 --seed 5",
    "provisioning-sqlite": "python -m chaos.provisioning --store sqlite --creates 2000 --seed 5",
    "provisioning-postgres": (
        "python -m chaos.provisioning --store postgres --creates 2000 --seed 5"
    ),
    "simulation": "python -m chaos.simulate --seeds 10000",
    "gauntlet": "python -m chaos.gauntlet",
}


def write(name: str) -> bool:
    """Run *name* and write its file; True when every promise was kept."""
    command = RUNS[name]
    done = subprocess.run(
        [sys.executable, *command.split()[1:]],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
        check=False,
    )
    # A table is to be seen as one; everything else as it was printed.
    output = done.stdout.rstrip()
    body = output if output.startswith("|") else f"```\n{output}\n```"
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.md").write_text(
        f"# {name.replace('-', ', ')}\n\n{_circumstances(command)}\n\n{body}\n"
    )
    return done.returncode == 0


def _circumstances(command: str) -> str:
    day = dt.datetime.now(dt.UTC).date()
    programs = binaries()
    postgres = programs.parent.name if programs else "none"
    return (
        f"`{command}`, {day}, commit {_commit()}: durably {durably.__version__}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"PostgreSQL {postgres}, {os.cpu_count()} cores."
    )


def _commit() -> str:
    """The commit that is measured, ``+`` when the program differs from it."""
    changed = _git("status", "--porcelain", "--", "src", "chaos", "tests")
    return _git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> None:
    """Run the named ones, or all of them (half an hour)."""
    parser = argparse.ArgumentParser(prog="python -m chaos.evidence", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(RUNS)}; all by default")
    names = parser.parse_args().names
    if unknown := set(names) - set(RUNS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(RUNS)}")
    kept = [write(name) for name in names or RUNS]
    sys.exit(not all(kept))


if __name__ == "__main__":
    main()
