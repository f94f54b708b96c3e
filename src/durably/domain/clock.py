"""Where time comes from. Everything else asks a Clock; `durably.testing.VirtualClock` stands still."""

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Ticker(Protocol):
    """A call that is repeated until stopped."""

    def stop(self) -> None:
        """Make no further call; returns when none is under way."""
        ...


class Clock(Protocol):
    """Wall time for what people read, monotonic time for leases, and waiting."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back and go on during suspend; comparable on one machine."""
        ...

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        """Wait until *event* is set, at most *timeout* seconds; whether it is set."""
        ...

    def every(self, seconds: float, call: Callable[[], None], name: str) -> Ticker:
        """Repeat *call*, first after *seconds*, from a thread that no event loop can block."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000

    monotonic = staticmethod(partial(time.clock_gettime, _BOOTTIME))
    """CLOCK_BOOTTIME where present (it counts suspend), else CLOCK_MONOTONIC; seconds."""

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        """Wait until *event* is set, at most *timeout* seconds."""
        if event.is_set():
            return True
        try:
            async with asyncio.timeout(timeout):
                return await event.wait()
        except TimeoutError:
            return event.is_set()

    def every(self, seconds: float, call: Callable[[], None], name: str) -> Ticker:
        """Repeat *call* from a daemon thread."""
        return _ThreadTicker(seconds, call, name)


class _ThreadTicker:
    def __init__(self, seconds: float, call: Callable[[], None], name: str) -> None:
        self._stopped = threading.Event()
        self._seconds = seconds
        self._call = call
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self._call()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not threading.current_thread():
            self._thread.join()


def to_datetime(microseconds: int) -> datetime:
    """The aware UTC datetime of *microseconds* since 1970."""
    return _EPOCH + timedelta(0, 0, microseconds)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime; ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError(f"need an aware datetime, for example with tzinfo=UTC, got {moment!r}")
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
