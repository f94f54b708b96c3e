"""Says which line of a handler blocks the event loop, from a thread that it cannot block."""

import asyncio
import logging
import sys
import sysconfig
import threading
import traceback
from pathlib import Path

from durably.domain.clock import Clock

_log = logging.getLogger("durably")
BLOCKED_AFTER_S = 1.0
"""A loop that has not answered for so long is blocked."""
_NOT_THEIRS = tuple(
    str(Path(sysconfig.get_path(name))) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


class LoopWatch:
    """Asks the event loop now and then for a sign of life. Made in the loop; `look` is for a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._thread = threading.get_ident()
        self._asked_at: float | None = None
        self._said = False

    def look(self) -> None:
        """Ask, or say what keeps the loop from answering; once while it is blocked."""
        asked_at = self._asked_at  # read once: the loop may answer while this thread computes
        if asked_at is None:
            self._asked_at = self._clock.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:
                return  # the loop is closed
        elif not self._said and self._clock.monotonic() - asked_at >= BLOCKED_AFTER_S:
            self._said = True
            frames = traceback.extract_stack(sys._current_frames()[self._thread])  # noqa: SLF001  # documented
            theirs = [f for f in frames if not f.filename.startswith(_NOT_THEIRS)] or frames
            _log.warning(
                "the event loop has been blocked for %.1f s by %s:%s, in %s: no other handler of this"
                " process gets on, nor does its shutdown; make it wait with `await`, or be a plain"
                " function, which runs in a thread\n%s",
                self._clock.monotonic() - asked_at,
                theirs[-1].filename,
                theirs[-1].lineno,
                theirs[-1].name,
                "".join(traceback.format_list(frames)),
            )

    def _answer(self) -> None:
        if self._said and self._asked_at is not None:
            blocked_s = self._clock.monotonic() - self._asked_at
            _log.warning("the event loop goes on after %.1f s", blocked_s)
        self._asked_at, self._said = None, False
