"""The field's known bugs, each put into a copy of the project: do our tests catch it?

``python -m chaos.gauntlet [NAME…]`` says for each which test failed and after how long. A bug that no
test catches within a minute is a hole in the tests, and the exit code is 1.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from chaos.copies import copy_project

LONGEST_S = 60.0


class Edit(NamedTuple):
    """One change of a file: *old* is there exactly once."""

    file: str
    old: str
    new: str


class Bug(NamedTuple):
    """A bug that a queue of the field has, or had."""

    name: str
    story: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    """What pytest is given; it stops at the first failure."""


_TRANSITIONS = "src/durably/domain/transitions.py"
_SQLITE = "src/durably/stores/sqlite/session.py"
_SQLITE_STORE = "src/durably/stores/sqlite/store.py"
_POSTGRES = "src/durably/stores/postgres/session.py"
_POSTGRES_STORE = "src/durably/stores/postgres/store.py"
_WORKER = "src/durably/engine/worker.py"
_MEMORY_TESTS, _SQLITE_TESTS = "tests/stores/test_memory.py", "tests/stores/test_sqlite.py"
_POSTGRES_TESTS = "tests/stores/test_postgres.py"

BUGS = (
    Bug(
        "late-outcome-by-id",
        "An outcome is accepted by the job's id alone, also from a worker that was rescued long ago",
        (
            Edit(
                _TRANSITIONS,
                "record.state in LEASED and record.token == token",
                "record.state in LEASED",
            ),
        ),
        (_MEMORY_TESTS,),
    ),
    Bug(
        "late-outcome-by-id-sqlite",
        "The same in the statement that completes many jobs at once on SQLite",
        (
            Edit(
                _SQLITE,
                "seq = ref AND token = claim AND state IN (2, 3)",
                "seq = ref AND state IN (2, 3)",
            ),
        ),
        (_SQLITE_TESTS,),
    ),
    Bug(
        "late-outcome-by-id-sqlite-untold",
        "The same in the one that completes jobs whose start was never told",
        (
            Edit(
                _SQLITE,
                "AND token = :token AND state = 2",
                "AND state = 2",
            ),
        ),
        (_SQLITE_TESTS,),
    ),
    Bug(
        "late-outcome-by-id-postgres",
        "The same in the statement that completes many jobs at once on PostgreSQL",
        (
            Edit(
                _POSTGRES,
                'USING given WHERE {by} AND token = claim"',
                'USING given WHERE {by}"',
            ),
        ),
        (_POSTGRES_TESTS,),
    ),
    Bug(
        "rescue-reads-then-writes-sqlite",
        "The rescuer takes the jobs of a worker that has renewed since it was looked at",
        (
            Edit(
                _SQLITE_STORE,
                "if row is None or (row != seen and not self._liveness.is_dead(seen.id)):",
                "if row is None:",
            ),
        ),
        (_SQLITE_TESTS,),
    ),
    Bug(
        "rescue-reads-then-writes-postgres",
        "The same on PostgreSQL",
        (
            Edit(
                _POSTGRES_STORE,
                "if not rows or not _is_dead(rows[0], session.now):",
                "if not rows:",
            ),
        ),
        (_POSTGRES_TESTS,),
    ),
    Bug(
        "claim-beyond-its-limit",
        "A claim takes more than it asked for, as when its LIMIT is run again under a join",
        (
            Edit(
                "src/durably/domain/claiming.py",
                "        if taken >= claim.start + claim.reserve:\n            return\n",
                "",
            ),
        ),
        (_MEMORY_TESTS,),
    ),
    Bug(
        "complete-then-enqueue",
        "Follow-ups are added after the outcome was recorded: a death in between loses them",
        (
            Edit(
                _WORKER,
                "        self._outbox.append(outcome)\n        if outcome.kind is not _RET",
                "        changes, later = outcome.changes, outcome.changes.jobs\n"
                "        if later:\n"
                "            changes = msgspec.structs.replace(changes, jobs=())\n"
                "            outcome = msgspec.structs.replace(outcome, changes=changes)\n"
                "            self._late = self._loop.create_task(self._store.enqueue(later))\n"
                "        self._outbox.append(outcome)\n        if outcome.kind is not _RET",
            ),
        ),
        ("tests/faults/test_nth_failure.py",),
    ),
    Bug(
        "unique-key-resets",
        "Adding a job whose unique key is taken makes the job that has it pending again",
        (
            Edit(
                _SQLITE,
                "            if holder:\n                return holder[0].to_job()\n"
                "        return self._insert_all([draft], parent)[0].to_job()",
                "            if holder:\n"
                "                self._run('UPDATE durably_jobs SET state = 1 WHERE seq = ?',"
                " (holder[0].seq,))\n"
                "                return holder[0].to_job()\n"
                "        return self._insert_all([draft], parent)[0].to_job()",
            ),
        ),
        (
            _SQLITE_TESTS,
            "tests/engine/test_unique_keys.py",
            "tests/simulation/test_rule_machine.py",
        ),
    ),
    Bug(
        "heartbeat-on-the-loop",
        "Leases are renewed on the event loop: a handler that blocks it loses them and runs twice",
        (
            Edit(
                "src/durably/domain/clock.py",
                "        return _ThreadTicker(seconds, call, name)\n",
                "        return _LoopTicker(seconds, call)\n\n\n"
                "class _LoopTicker:\n"
                "    def __init__(self, seconds: float, call: Callable[[], None]) -> None:\n"
                "        self._seconds, self._call = seconds, call\n"
                "        self._next()\n\n"
                "    def _next(self) -> None:\n"
                "        loop = asyncio.get_running_loop()\n"
                "        self._handle = loop.call_later(self._seconds, self._tick)\n\n"
                "    def _tick(self) -> None:\n"
                "        self._call()\n"
                "        self._next()\n\n"
                "    def stop(self) -> None:\n"
                "        self._handle.cancel()\n",
            ),
        ),
        ("tests/engine/test_leases.py",),
    ),
    Bug(
        "unknown-type-fails",
        "A job of a type that this process does not know fails instead of waiting for one that does",
        (
            Edit(
                _WORKER,
                "            if handler is None:\n",
                "            if handler is None and claimed.lease.type:\n"
                "                self._outbox.append(Outcome(claimed.lease, OutcomeKind.CANCELLED))\n"
                "                self._wake.set()\n"
                "                continue\n"
                "            if handler is None:\n",
            ),
            Edit(
                "src/durably/stores/memory.py",
                "            claimed = self._claim(worker, me, claim, now) if claim else ()\n",
                "            known = {lane.type for lane in claim.lanes} if claim else set()\n"
                "            others = {Lane(q, t, 9) for q, t, _, _ in self._lanes if t not in known}\n"
                "            if claim:\n"
                "                claim = msgspec.structs.replace(claim, lanes=(*claim.lanes, *others))\n"
                "            claimed = self._claim(worker, me, claim, now) if claim else ()\n",
            ),
        ),
        ("tests/engine/test_stats.py", "tests/engine/test_explain.py"),
    ),
    Bug(
        "lost-wake-up",
        "After its connection was lost a worker listens again, but does not look for what it missed",
        (
            Edit(
                "src/durably/stores/postgres/listener.py",
                "lambda *_: self._heard())\n            self._heard()\n",
                "lambda *_: self._heard())\n",
            ),
        ),
        ("tests/processes/test_postgres.py", "-k", "listener"),
    ),
    Bug(
        "bad-row-blocks-the-batch",
        "One payload that cannot be read stops the batch that was claimed with it",
        (
            Edit(
                _WORKER,
                "            attempt = Attempt(",
                "            handler.payload(claimed.record.payload)\n            attempt = Attempt(",
            ),
        ),
        ("tests/engine/test_payloads.py",),
    ),
    Bug(
        "create-without-looking",
        "After a create call without an answer another one is made without looking what the first made",
        (
            Edit(
                "src/durably/instances/create.py",
                "        if found := first_made(await self.provider.list(name=name)):\n"
                "            return await self._keep([one.id for one in found])\n",
                "",
            ),
        ),
        ("tests/instances/test_workflow.py", "tests/instances/test_workflow_chaos.py"),
    ),
)


class Caught(NamedTuple):
    """What became of a bug."""

    bug: Bug
    test: str
    """The first test that failed; empty when none did."""
    seconds: float


def run(bug: Bug) -> Caught:
    """Put *bug* into a copy and run its tests."""
    with tempfile.TemporaryDirectory(prefix="durably-gauntlet-") as folder:
        copy = Path(folder)
        copy_project(copy)
        for edit in bug.edits:
            apply(copy, edit)
        started = time.monotonic()
        output = _pytest(copy, bug.tests)
        seconds = time.monotonic() - started
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    return Caught(bug, found[1] if found else "", seconds)


def apply(copy: Path, edit: Edit) -> None:
    """Make one change; ValueError when the code has moved on."""
    path = copy / edit.file
    text = path.read_text()
    if text.count(edit.old) != 1:
        raise ValueError(f"{edit.file} has this {text.count(edit.old)} times: {edit.old!r}")
    path.write_text(text.replace(edit.old, edit.new))


def _pytest(copy: Path, tests: tuple[str, ...]) -> str:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-n",
        "2",
        # Python 3.11 cannot parse a source file for a traceback after a RecursionError was caught.
        "--tb=native",
        *tests,
    ]
    environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        # It is bytes also where text was asked for (subprocess's documentation).
        return bytes(late.stdout or b"").decode()
    return done.stdout


def main() -> None:
    """Run the named bugs, or all; a line of a table for each."""
    parser = argparse.ArgumentParser(prog="python -m chaos.gauntlet", description=__doc__)
    parser.add_argument("names", nargs="*", help="which bugs; all of them by default")
    names = parser.parse_args().names
    if unknown := set(names) - {bug.name for bug in BUGS}:
        parser.error(f"no such bug: {', '.join(sorted(unknown))}")
    print("| bug | caught by | s |\n|---|---|---:|")
    missed = 0
    for bug in BUGS:
        if names and bug.name not in names:
            continue
        caught = run(bug)
        missed += not caught.test
        test = f"`{caught.test}`" if caught.test else "**nothing**"
        print(f"| {bug.story} (`{bug.name}`) | {test} | {caught.seconds:.0f} |", flush=True)
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
