"""One peer on an empty store of its own: where that is, and the processes that use it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.postgres import Server

from benchmarks import support
from benchmarks.peers.protocol import Tally

ENVIRONMENT = support.ROOT / "benchmarks" / ".venvs" / "peers"
REQUIREMENTS = Path(__file__).parent / "requirements.txt"
STORES = ("memory", "sqlite", "postgres")
LONGEST_S = 300.0


class Entry(NamedTuple):
    """A peer in the run."""

    name: str
    store: str
    adapter: str
    """``module:class`` in this folder."""
    jobs: int
    """So many that it has something to do for a second or two."""
    bulk: bool = True
    """Whether it can add several at a time."""
    concurrent: bool = True
    """Whether many producers in one process can."""
    own: bool = False
    """Whether it runs in our environment, and not in the peers'."""
    lasting: bool = False
    """Whether it also has to work for a while, alone and beside an old snapshot."""


class Trial:
    """A peer on an empty store of its own."""

    def __init__(self, entry: Entry, place: str, folder: Path) -> None:
        self._entry = entry
        self._place = place
        self._file = folder / "tally"
        self.renew()

    def renew(self) -> None:
        """Count from nothing."""
        self.tally = Tally(self._file, new=True)

    def start(self, verb: str, number: int = 0) -> "subprocess.Popen[str]":
        """Begin a process that does *verb*."""
        python = sys.executable if self._entry.own else str(ENVIRONMENT / "bin/python")
        return subprocess.Popen(
            [python, "-m", "benchmarks.peers.drive", self._entry.adapter, self._place,
             str(self._file), verb, str(number)],
            cwd=support.ROOT,
            stdout=subprocess.DEVNULL if verb == "work" else subprocess.PIPE,
            start_new_session=True,
            text=True,
        )  # fmt: skip

    def do(self, verb: str, number: int = 0) -> Any:
        """Have a process do *verb* and give its answer."""
        return self.answer(self.start(verb, number))

    def answer(self, process: "subprocess.Popen[str]") -> Any:
        """What a process says at its end."""
        try:
            said, _ = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{self._entry.name} took longer than {LONGEST_S:g} s") from None
        finally:
            end(process)
        if process.returncode:
            raise RuntimeError(f"{self._entry.name} has failed; see above")
        return json.loads(said.splitlines()[-1])

    def wait_for(self, count: int, processes: Sequence["subprocess.Popen[str]"]) -> None:
        """Return when so many are ready, unless one of *processes* ends before."""
        while not self.tally.are_ready(count):
            if any(process.poll() is not None for process in processes):
                raise RuntimeError(f"a process of {self._entry.name} has ended; see above")
            time.sleep(0.002)

    @contextmanager
    def workers(self, count: int) -> Iterator[list["subprocess.Popen[str]"]]:
        """Workers that have begun, ended with the block."""
        processes = [self.start("work", at) for at in range(count)]
        try:
            self.wait_for(count, processes)
            yield processes
        finally:
            for process in processes:
                end(process)


def cpu_s(processes: Sequence["subprocess.Popen[str]"]) -> float:
    """Seconds of CPU that *processes* have used, without what they have started."""
    used = 0.0
    for process in processes:
        # The name, which may hold anything, ends with the last bracket.
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


def end(process: "subprocess.Popen[str]") -> None:
    """Kill a process of ours with all that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Places:
    """Where an empty store may be."""

    def __init__(self, server: Server | None) -> None:
        self._server = server
        self._made = 0

    @property
    def stores(self) -> tuple[str, ...]:
        """Those that can be had here."""
        return STORES if self._server else STORES[:2]

    @contextmanager
    def place(self, store: str) -> Iterator[tuple[str, Path]]:
        """A place for one trial, and a folder."""
        folder = Path(tempfile.mkdtemp(prefix="durably-peers-"))
        self._made += 1
        name = f"peer_{self._made}"
        try:
            if store != "postgres":
                yield ("" if store == "memory" else str(folder)), folder
                return
            assert self._server is not None
            self._server.run("psql", self._server.url, "-c", f"CREATE DATABASE {name}")
            try:
                yield self._server.url.rpartition("/")[0] + f"/{name}", folder
            finally:
                with suppress(subprocess.CalledProcessError):
                    drop = f"DROP DATABASE {name} WITH (FORCE)"
                    self._server.run("psql", self._server.url, "-c", drop)
        finally:
            shutil.rmtree(folder)


def install() -> None:
    """Make the peers' environment, unless it is what requirements.txt says."""
    installed = ENVIRONMENT / "installed.txt"
    wanted = REQUIREMENTS.read_text()
    if installed.exists() and installed.read_text() == wanted:
        return
    print("installing the peers", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
    pip = [str(ENVIRONMENT / "bin/python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", "-r", str(REQUIREMENTS)], check=True)
    installed.write_text(wanted)
