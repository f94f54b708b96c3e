"""Takes turns in a turnstile, with a disk write in each, until so many have been taken by all."""

import os
import signal
import sys
from pathlib import Path

from tests.processes.programs.reporting import say

from durably.stores.sqlite.locks import Turnstile


def take_turns(folder: Path, number: int, total: int) -> None:
    """Append *number* as a byte to the file of all turns; the first turn waits for the test."""
    turnstile = Turnstile(folder)
    turns = os.open(folder / "turns", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    say("ready")
    os.read(0, 1)
    taken = 0
    while taken < total:
        with turnstile:
            os.write(turns, bytes([number]))
            os.fsync(turns)
            taken = os.fstat(turns).st_size


def stay_inside(folder: Path) -> None:
    """Enter, say so, and never leave."""
    with Turnstile(folder):
        say("inside")
        signal.pause()


def wait_outside(folder: Path) -> None:
    """Say so when it is no longer outside."""
    with Turnstile(folder):
        say("inside")


if __name__ == "__main__":
    place = Path(sys.argv[2])
    if sys.argv[1] == "take":
        take_turns(place, int(sys.argv[3]), int(sys.argv[4]))
    else:
        {"stay": stay_inside, "wait": wait_outside}[sys.argv[1]](place)
