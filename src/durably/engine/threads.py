"""Threads for sync handlers: daemons, so that a handler that hangs cannot keep the program alive.

`concurrent.futures` joins its threads when the interpreter exits; a job that never returns would
then hang every deploy. Here it is left behind, and the lease takes care of it.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

_Call = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Threads:
    """Runs calls in threads that are made when needed and kept for the next."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._idle = 0
        self._count = 0

    def run(self, call: Callable[[], Any]) -> "asyncio.Future[Any]":
        """Start *call*; the future of its result. Cancelling the future does not stop the call."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        context = copy_context()
        if self._idle > 0:
            self._idle -= 1
        else:
            self._count += 1
            name = f"durably-job-{self._count}"
            threading.Thread(target=self._main, args=(loop,), name=name, daemon=True).start()
        self._calls.put((lambda: context.run(call), future))
        return future

    def close(self) -> None:
        """Let idle threads end; busy ones end after their call."""
        for _ in range(self._count):
            self._calls.put(None)
        self._count = self._idle = 0

    def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        while (item := self._calls.get()) is not None:
            call, future = item
            result, error = None, None
            try:
                result = call()
            except BaseException as caught:  # noqa: BLE001  # the job's, whatever it is
                error = caught
            # A loop that has been closed waits for nothing any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._settle, future, result, error)
            del call, future, item, result, error

    def _settle(
        self, future: "asyncio.Future[Any]", result: Any, error: BaseException | None
    ) -> None:
        self._idle += 1
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            # A future refuses StopIteration, and a SystemExit must not end the loop.
            future.set_exception(error if _fits_future(error) else _Foreign(error))


class _Foreign(Exception):  # noqa: N818  # carries any BaseException through a future
    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def _fits_future(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, StopIteration)


def original(error: BaseException) -> BaseException:
    """What the call raised, given what its future raised."""
    return error.error if isinstance(error, _Foreign) else error
