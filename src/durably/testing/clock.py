"""A clock that stands still until told to move. Threads of a store are outside its power."""

import asyncio
import heapq
import itertools
import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from durably.domain.clock import Ticker, to_us
from durably.domain.outcome import check_seconds

SETTLE_TURNS = 50
"""So many turns of the event loop let woken tasks act, and those that they wake."""
_START = datetime(2026, 1, 1, tzinfo=UTC)
_MONOTONIC_START_S = 1_000.0


class VirtualClock:
    """A `Clock` for tests: wall and monotonic time move together, and only in `advance`.

    Args:
        start: the wall time at first, an aware datetime.
    """

    def __init__(self, start: datetime = _START) -> None:
        self._start_us = to_us(start)
        self._passed_us = 0
        self._number = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Timeout]] = []
        self._tickers: list[_Ticker] = []

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        return self._start_us + self._passed_us

    def monotonic(self) -> float:
        """Seconds; 1,000 at first."""
        return _MONOTONIC_START_S + self._passed_us / 1e6

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        """Wait until *event* is set, at most until *timeout* seconds have been advanced."""
        if event.is_set():
            return True
        limit = asyncio.timeout(None if timeout is None or timeout > 0 else 0)
        try:
            async with limit:
                if timeout is None or timeout <= 0:
                    return await event.wait()
                entry = (self._due(timeout), next(self._number), limit)
                heapq.heappush(self._waiting, entry)
                try:
                    return await event.wait()
                finally:
                    self._forget(entry)
        except TimeoutError:
            return event.is_set()

    def every(self, seconds: float, call: Callable[[], None], name: str) -> Ticker:
        """Repeat *call* in `advance`, in a thread, so that it may block as the real one may."""
        ticker = _Ticker(seconds, call, name, self._due(seconds), self._tickers.remove)
        self._tickers.append(ticker)
        return ticker

    async def advance(self, seconds: float) -> None:
        """Let *seconds* pass: step by step to each time at which somebody waits, in order.

        Before the first step and after each one the event loop makes `SETTLE_TURNS` turns, so that
        tasks that were woken act, and wait again, at that very time. A call of `every` is awaited.
        What a task has asked of another thread (SQLite's writer) may still be on its way when this
        returns: wait for what it brings about with `until` or `capture`.
        """
        end = self._passed_us + round(check_seconds("seconds", seconds) * 1e6)
        await self._settle()
        while (due := self._next_due()) is not None and due <= end:
            self._passed_us = max(self._passed_us, due)
            await self._fire()
            await self._settle()
        self._passed_us = end

    def _due(self, seconds: float) -> int:
        return self._passed_us + max(1, math.ceil(seconds * 1e6))

    def _next_due(self) -> int | None:
        times = [ticker.due for ticker in self._tickers]
        if self._waiting:
            times.append(self._waiting[0][0])
        return min(times, default=None)

    async def _fire(self) -> None:
        """Wake and call whoever is due now."""
        loop = asyncio.get_running_loop()
        while self._waiting and self._waiting[0][0] <= self._passed_us:
            heapq.heappop(self._waiting)[-1].reschedule(loop.time())
        for ticker in tuple(self._tickers):
            if ticker.due <= self._passed_us:
                await ticker.tick()

    async def _settle(self) -> None:
        for _ in range(SETTLE_TURNS):
            await asyncio.sleep(0)

    def _forget(self, entry: tuple[int, int, asyncio.Timeout]) -> None:
        if entry in self._waiting:
            self._waiting.remove(entry)
            heapq.heapify(self._waiting)


class _Ticker:
    def __init__(
        self,
        seconds: float,
        call: Callable[[], None],
        name: str,
        due: int,
        forget: Callable[["_Ticker"], None],
    ) -> None:
        self.due = due
        self._every_us = max(1, math.ceil(seconds * 1e6))
        self._call = call
        self._name = name
        self._forget = forget
        # Reentrant: a call may stop its own ticker.
        self._calling = threading.RLock()
        self._stopped = False

    async def tick(self) -> None:
        self.due += self._every_us
        await asyncio.to_thread(self._run)

    def _run(self) -> None:
        with self._calling:
            if not self._stopped:
                self._call()

    def stop(self) -> None:
        with self._calling:
            if not self._stopped:
                self._stopped = True
                self._forget(self)

    def __repr__(self) -> str:
        return f"<ticker {self._name}>"
