"""What can be run: a handler with its options, and the handlers of one service."""

import inspect
from collections.abc import Callable
from typing import Any

from durably.domain.errors import PayloadError
from durably.domain.outcome import check_seconds
from durably.domain.payload import Shape, check_text, decode
from durably.domain.retry import RetryPolicy
from durably.engine.drafts import TYPE_LONGEST, check_count


class Handler:
    """The function of one job type and how it is run.

    Args:
        type: the job type.
        function: called with the job's context; in a thread unless it is async.
        payload_type: what the payload is converted to; PayloadError where it does not fit.
        timeout: seconds for each attempt; None: no limit.
        retry: instead of the service's policy.
        max_concurrency: so many at a time in this service; None: as many as it has slots.
    """

    def __init__(
        self,
        type: str,
        function: Callable[..., Any],
        *,
        payload_type: Any = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        max_concurrency: int | None = None,
    ) -> None:
        self.type = check_text("type", type, longest=TYPE_LONGEST)
        if not callable(function):
            raise TypeError(f"handler must be callable, got {function!r}")
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise TypeError(f"retry must be a RetryPolicy, got {retry!r}")
        self.function = function
        self.shape = None if payload_type is None else Shape(payload_type)
        self.timeout = None if timeout is None else check_seconds("timeout", timeout)
        if self.timeout == 0:
            raise ValueError("timeout must be more than 0 seconds, got 0")
        self.retry = retry
        self.max_concurrency = (
            None
            if max_concurrency is None
            else check_count("max_concurrency", max_concurrency, most=1_000_000)
        )
        self.is_async = _is_async(function)

    def payload(self, text: str) -> Any:
        """The payload as the handler wants it; PayloadError where it does not fit."""
        return decode(text) if self.shape is None else self.shape.decode(text)


def _is_async(function: Callable[..., Any]) -> bool:
    call = getattr(function, "__call__", function)  # noqa: B004  # an object with an async __call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


class Handlers:
    """The handlers of one service, and what follows from them for new jobs."""

    def __init__(self, retry: RetryPolicy) -> None:
        self._default = retry
        self._by_type: dict[str, Handler] = {}
        self._tasks: dict[str, Callable[..., Any] | None] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called after each registration."""

    def register(self, handler: Handler, task: Callable[..., Any] | None = None) -> None:
        """Add a handler, or replace the one of its type. *task* is the function it was made of."""
        self._by_type[handler.type] = handler
        self._tasks[handler.type] = task
        self.changed()

    def check_free(self, type: str, function: Callable[..., Any]) -> None:
        """Refuse a task whose name another function has: one would silently replace the other."""
        holder = self._tasks.get(type)
        if holder is not None and _origin(holder) != _origin(function):
            raise ValueError(
                f"another function is already the task {type!r}: {'.'.join(_origin(holder))};"
                ' give this one a name of its own: @queue.task("name")'
            )

    def get(self, type: str) -> Handler | None:
        """The handler of a type."""
        return self._by_type.get(type)

    def all(self) -> list[Handler]:
        """Every handler, in the order of registration."""
        return list(self._by_type.values())

    def policy(self, handler: Handler) -> RetryPolicy:
        """How its failures are retried."""
        return handler.retry or self._default

    def max_attempts(self, type: str) -> int:
        """What a new job of the type gets by default."""
        handler = self._by_type.get(type)
        return (self.policy(handler) if handler else self._default).max_attempts

    def check_payload(self, type: str, text: str) -> None:
        """Refuse a payload that does not fit a type known here (PayloadError)."""
        handler = self._by_type.get(type)
        if handler is not None and handler.shape is not None:
            try:
                handler.shape.decode(text)
            except PayloadError as error:
                raise PayloadError(f"{type}: {error}") from None


def _origin(function: Callable[..., Any]) -> tuple[str, str]:
    return (function.__module__, getattr(function, "__qualname__", repr(function)))
