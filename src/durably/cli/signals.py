"""Ctrl-C and SIGTERM for the commands that run until they are stopped."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from durably.daemons import Stop

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """While the block lasts, signals ask for the end instead of forcing it."""
    loop, stop = asyncio.get_running_loop(), Stop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.ask)
    try:
        yield stop
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
