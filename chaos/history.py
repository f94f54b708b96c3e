"""What happened, as the processes wrote it down: one JSON object a line."""

import os
import time
from pathlib import Path

import msgspec

_NOW = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds of a clock that all processes of the machine share, and that nobody sets."""
    return time.clock_gettime(_NOW)


class Event(msgspec.Struct, omit_defaults=True, frozen=True, kw_only=True):
    """One line. What it means is in *what*; the other fields are given where they make sense.

    ``adding`` and ``accepted`` (by a producer: *key*, and the *job* that it became), ``start``,
    ``effect`` and ``end`` (by a worker: *job*, *run*, *how*), ``fault`` and ``healed`` (by the nemesis:
    *how*, and *pid* of whom it struck, 0 for everybody), ``calm`` (no faults from here on).
    """

    t: float
    what: str
    pid: int = 0
    job: str = ""
    type: str = ""
    key: str = ""
    run: str = ""
    """Names one execution of a handler."""
    how: str = ""
    """Of an end: ok, again (its own wish), error, cancelled. Of a fault: its kind."""
    priority: int = 0


class History:
    """The side of those who write.

    Args:
        path: of the file, which several processes append to.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(self, what: str, *, pid: int | None = None, **fields: str | int) -> None:
        """Append one line. *pid* is by default our own.

        The kernel has it when this returns, which is enough: processes are killed, machines are not.
        To sync it would stop the event loop that is watched. A kill during the write may cut it where a page of the file ends: each begins a new line.
        """
        event = Event(t=now(), what=what, pid=os.getpid() if pid is None else pid, **fields)  # type: ignore[arg-type]  # by name
        os.write(self._file, b"\n" + msgspec.json.encode(event) + b"\n")


def read(path: Path) -> list[Event]:
    """All whole lines, in the order of their times."""
    decoder = msgspec.json.Decoder(Event)
    lines = path.read_bytes().splitlines()
    return sorted(
        (decoder.decode(line) for line in lines if line.endswith(b"}")), key=lambda event: event.t
    )
