"""From where on a claim reads each lane.

A claimed job leaves a dead entry in the index until a vacuum, and under somebody's old snapshot for
longer. In a lane the entries stand in the order in which jobs became ready, so that the dead gather
before the head: a claim that passed them all would take longer and longer. It starts at the frontier
instead, shortly before the head that was last seen.

The frontier is a hint. A job may become ready behind it: its transaction was long, or it was given
back, which moves the frontier of the process that did so. The lanes are therefore read from their
beginning now and then, for at most a twentieth of the time however long it takes.
"""

import time
from collections.abc import Callable

Key = tuple[str, str, bool, int]
"""Queue, type, whether suspect, priority."""
_MARGIN_US = 20_000
"""So long a transaction may last and its jobs are still found at once."""
_SHARE = 20
_SELDOM_S = 0.25


class Frontier:
    """The frontiers of all lanes, and of the scheduled jobs.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._ready: dict[Key, int] = {}
        self._scheduled = 0
        self._next = self._affordable = 0.0
        self._began: float | None = None

    def start(self, *, anxious: bool = False) -> bool:
        """A claim begins: whether it reads everything. *anxious*: it has found nothing so far."""
        now = self._clock()
        whole = now >= (self._affordable if anxious else self._next)
        self._began = now if whole else None
        return whole

    def end(self) -> None:
        """What `start` began has been read."""
        if self._began is not None:
            now = self._clock()
            self._affordable = now + _SHARE * (now - self._began)
            self._next = max(self._affordable, now + _SELDOM_S)
            self._began = None

    def ready(self, key: Key) -> int:
        """The ready time to start from."""
        return 0 if self._began is not None else self._ready.get(key, 0)

    def scheduled(self) -> int:
        """The same for scheduled jobs."""
        return 0 if self._began is not None else self._scheduled

    def saw(self, key: Key, head: int) -> None:
        """The first job of a lane became ready at *head*; of an empty one: now."""
        self._ready[key] = head - _MARGIN_US

    def saw_scheduled(self, head: int, now: int) -> None:
        """The first scheduled job is due at *head*; others may be scheduled before it from *now* on."""
        self._scheduled = min(head, now) - _MARGIN_US

    def back(self, key: Key, ready_at: int) -> None:
        """A job has become ready as of *ready_at*."""
        if ready_at < self._ready.get(key, 0):
            self._ready[key] = ready_at
