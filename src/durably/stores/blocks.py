"""Who is inside a block of `Store.complete`: any other write from there would wait for it for ever."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_around: ContextVar[tuple[object, ...]] = ContextVar("durably_blocks", default=())
"""The blocks that this context was made in, over or not."""


class Blocks:
    """The blocks of one store that are open.

    A task that was started inside a block keeps its context when the block is over; what it writes
    then waits for nothing.
    """

    def __init__(self) -> None:
        self._open: set[object] = set()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Inside, `around` is true."""
        block = object()
        self._open.add(block)
        before = _around.set((*_around.get(), block))
        try:
            yield
        finally:
            _around.reset(before)
            self._open.discard(block)

    @property
    def around(self) -> bool:
        """Whether the caller is inside one of them."""
        return bool(self._open) and not self._open.isdisjoint(_around.get())
