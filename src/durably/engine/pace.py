"""How many jobs to claim ahead of a free slot, and the figures of what has run."""

from durably.domain.histogram import bucket_of
from durably.store import ACTIVITY_WINDOW_S, Activity

AHEAD_S = 0.010
"""So much work is claimed ahead: a newer job of higher priority waits for no more than twice it."""
AHEAD_LONGEST_S = 0.020
"""When no slot has become free for so long, what was claimed ahead is given back."""
AHEAD_MOST = 512


class Pace:
    """Measures how many jobs end each second, to claim `AHEAD_S` of work ahead and no more."""

    def __init__(self) -> None:
        self._ended = 0
        self._since = 0.0
        self._rate = 0.0

    def ended(self) -> None:
        """A job has ended."""
        self._ended += 1

    def ahead(self, now: float, *, busy: bool) -> int:
        """How many jobs may be claimed ahead. *busy*: all slots were taken since the last call."""
        elapsed = now - self._since
        if self._ended and elapsed > 0:
            measured = self._ended / elapsed
            # While slots stood empty the rate shows what came in, not what could be done.
            self._rate = measured if busy else max(self._rate, measured)
        self._ended = 0
        self._since = now
        return min(int(self._rate * AHEAD_S), AHEAD_MOST)

    def slow_down(self) -> None:
        """What was claimed ahead has not been started in time: measure afresh."""
        self._rate = 0.0


class Figures:
    """What this worker has finished, in windows of `ACTIVITY_WINDOW_S`."""

    def __init__(self) -> None:
        self._window = -1
        self._finished = self._attempts = self._failed = 0
        self._wait: dict[int, int] = {}
        self._run: dict[int, int] = {}

    def add(self, now_us: int, *, wait_s: float, run_s: float, final: bool, failed: bool) -> None:
        """An attempt has ended."""
        window = now_us // (ACTIVITY_WINDOW_S * 1_000_000)
        if window != self._window:
            self._window = window
            self._finished = self._attempts = self._failed = 0
            self._wait, self._run = {}, {}
        self._attempts += 1
        self._finished += final
        self._failed += failed
        waited, ran = bucket_of(wait_s), bucket_of(run_s)
        self._wait[waited] = self._wait.get(waited, 0) + 1
        self._run[ran] = self._run.get(ran, 0) + 1

    def activity(self) -> Activity | None:
        """The window so far."""
        if self._window < 0:
            return None
        return Activity(
            self._window,
            self._finished,
            self._attempts,
            self._failed,
            dict(self._wait),
            dict(self._run),
        )
