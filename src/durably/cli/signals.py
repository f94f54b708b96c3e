"""The event loop of the commands that take their time, and Ctrl-C and SIGTERM for them."""

import asyncio
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from durably.cli.errors import Failure
from durably.daemons import Stop

_T = TypeVar("_T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOPPING = (*_SIGNALS, signal.SIGHUP)
SWITCH_INTERVAL_S = 0.0005
"""So long a thread waits for the interpreter while another one works. The thread that writes to SQLite
comes back from it many times in one transaction; with Python's 5 ms it and the event loop would take
turns instead of working side by side."""


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run *main* on uvloop where it is installed, which is faster, else on asyncio's own loop."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


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


async def until_stopped(work: Coroutine[Any, Any, _T]) -> _T:
    """Do *work*; the first signal ends it in good order, further ones do not hurry that."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    signals = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]

    def stop() -> None:
        for number in signals:
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        raise Failure("stopped by a signal; what was started is ended and removed") from None
