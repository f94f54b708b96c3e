"""``durably demo`` as a user runs it: the promises kept, a failure told, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory and a folder for temporary files that can be looked through afterwards."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "work")


def start(*args: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "durably", "demo", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def play(*args: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, summary and what was said on stderr."""
    with start("--json", *args) as process:
        try:
            out, said = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, json.loads(out), said


def left_behind(tmp_path: Path) -> list[str]:
    """Files, and processes that work below *tmp_path*."""
    files = [str(path) for path in (tmp_path / "tmp").iterdir()]
    processes = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            folder = (process / "cwd").readlink()
        except OSError:
            continue  # it has just ended, or is somebody else's
        if folder.is_relative_to(tmp_path / "tmp") and int(process.name) != os.getpid():
            processes.append((process / "cmdline").read_text())
    return files + processes


def test_every_promise_is_kept_although_things_go_wrong(tmp_path: Path) -> None:
    """All ready, each rented and billed once, every webhook verified, one terminal event each."""
    code, summary, said = play()
    assert (code, summary["ok"], summary["problems"]) == (0, True, []), said
    assert [one["name"] for one in summary["instances"]] == ["demo-1", "demo-2", "demo-3"]
    for one in summary["instances"]:
        assert (one["status"], one["creates"], one["billed"]) == ("ready", 1, 1)
        assert one["webhooks"] == one["verified"] >= 2
        assert one["terminal_events"] == ["instance.ready"]
        assert one["seconds"] > 0
    assert (summary["kills"], summary["faults_met"]) == (1, 5)
    assert summary["seconds"] < 60
    assert "the service was killed (SIGKILL)" in said
    assert left_behind(tmp_path) == []
    assert list(Path.cwd().iterdir()) == []


def test_an_instance_that_cannot_become_ready_fails_the_demonstration(tmp_path: Path) -> None:
    """Exit code 1, the reason on stderr and in the summary, and no GPU of it is billed."""
    code, summary, said = play("--instances", "2", "--fault", "create:status_error:count=1")
    assert (code, summary["ok"]) == (1, False)
    [failed] = [one for one in summary["instances"] if one["status"] != "ready"]
    assert (failed["status"], failed["billed"]) == ("failed", 0)
    assert failed["terminal_events"] == ["instance.failed"]
    [problem] = summary["problems"]
    assert problem.startswith(f"{failed['name']} is failed, not ready: ")
    assert said.splitlines()[-1] == f"error: {problem}"
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_that_was_started(tmp_path: Path, number: signal.Signals) -> None:
    """Stopped in the middle it leaves neither processes nor files."""
    with start() as process:
        try:
            assert process.stdout is not None
            while "the service runs again" not in (line := process.stdout.readline()):
                assert line, process.communicate()[1]
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 1
    assert said == "error: stopped by a signal; what was started is ended and removed\n"
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("--fault", "create"), "error: a fault is written route:kind"),
        (("--instances", "0"), "error: invalid value for '--instances': 0 is not in the range"),
    ],
)
def test_a_wrong_flag_starts_nothing(tmp_path: Path, args: tuple[str, ...], problem: str) -> None:
    """Flags are checked before anything is started."""
    with start(*args) as process:
        out, said = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert said.startswith(problem)
    assert len(said.splitlines()) == 1
    assert left_behind(tmp_path) == []
