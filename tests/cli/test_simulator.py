"""``durably simulator``: what it refuses, and that it serves until it is told to stop."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from tests.cli.support import Run

from durably.cli.simulator import _DURATIONS, _settings
from durably.instances.simulator import SimulatorSettings, StatusDurations


@contextmanager
def running(*args: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "durably", "simulator", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def answer(url: str, key: str = "sim-key") -> Any:
    with urlopen(Request(url, headers={"Authorization": f"Bearer {key}"}), timeout=10) as reply:
        return json.load(reply)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped(number: signal.Signals) -> None:
    """The base URL is the first line; both signals end it in good order with exit code 0."""
    with running() as (process, url):
        assert url.startswith("http://127.0.0.1:")
        assert answer(f"{url}/clusters")["data"]
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert said.startswith("control: http://127.0.0.1:")
    assert len(said.splitlines()) == 1


def test_flags_reach_the_provider(tmp_path: Path) -> None:
    """Key, faults of flags and of a file in order, and the settings file under them."""
    (tmp_path / "sim.toml").write_text(
        "page_size = 3\nlatency = 0.5\n[[faults]]\nkind = 'reset'\nroute = 'delete'\n"
    )
    (tmp_path / "faults.txt").write_text("# bursts\nlist:error:status=503,count=2  # twice\n\n")
    args = ("--settings", "sim.toml", "--latency", "0", "--api-key", "other")
    faults = ("--fault", "create:lost_reply:count=1", "--faults", "faults.txt")
    with running(*args, *faults) as (_, url):
        assert answer(f"{url}/clusters", "other")
        control = url.partition("/gpu-instance")[0] + "/control/faults"
        rules = answer(control)
    assert [(rule["route"], rule["kind"], rule["count"]) for rule in rules] == [
        ("delete", "reset", None),
        ("create", "lost_reply", 1),
        ("list", "error", 2),
    ]


def test_flags_change_only_what_they_name() -> None:
    """Without flags the settings are the simulator's own; a duration changes one status."""
    nothing: dict[str, Any] = {"port": None, "not_found": None}
    assert _settings(None, nothing, (), []) == SimulatorSettings()
    assert StatusDurations.__struct_fields__ == _DURATIONS
    changed = _settings(None, {"seed": 4, "not_found": "404"}, ("pulling=0.25",), [])
    assert (changed.seed, changed.not_found, changed.durations.pulling) == (4, "404", 0.25)
    assert changed.durations.creating == SimulatorSettings().durations.creating


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("--port", "70000"), "Expected `int` <= 65535 - at `$.port`"),
        (("--latency", "-1"), "Expected `float` >= 0.0 - at `$.latency`"),
        (("--list-lag", "nan"), "Expected `float` >= 0.0 - at `$.list_lag`"),
        (("--duration", "pulling"), "--duration needs STATUS=SECONDS, got 'pulling'"),
        (("--duration", "sleeping=1"), "--duration needs one of to_create, creating,"),
        (("--duration", "pulling=-2"), "Expected `float` >= 0.0 - at `$.durations.pulling`"),
        (("--fault", "create"), "a fault is written route:kind"),
        (("--fault", "create:lost_reply:often=1"), "often"),
        (("--not-found", "418"), "'418' is not one of '400', '404'"),
        (("--faults", "nowhere.txt"), "No such file or directory: 'nowhere.txt'"),
        (("--settings", "nowhere.toml"), "No such file or directory: 'nowhere.toml'"),
        (("--settings", "."), "Is a directory"),
    ],
)
def test_a_wrong_flag_is_one_line(run: Run, args: tuple[str, ...], problem: str) -> None:
    """Ranges, names and files are checked before anything is served."""
    result = run("simulator", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert problem in line


def test_a_wrong_settings_file_names_file_and_setting(run: Run, tmp_path: Path) -> None:
    """A range in a file is checked as in a flag; the message names both."""
    (tmp_path / "sim.json").write_text('{"page_size": 0}')
    result = run("simulator", "--settings", "sim.json")
    assert result.exit_code == 2
    assert "$.page_size" in result.stderr
    assert "'sim.json'" in result.stderr


def test_a_port_that_is_taken_is_one_line(run: Run) -> None:
    """A second simulator on the same port fails and says why."""
    with running() as (_, url):
        port = url.partition("//")[2].partition("/")[0].rpartition(":")[2]
        result = run("simulator", "--port", port)
    assert (result.exit_code, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert port in line
