"""How many jobs to claim ahead of a free slot, and the figures of what has run."""

from durably.domain.histogram import bucket_of
from durably.store import ACTIVITY_WINDOW_S, Activity

AHEAD_S = 0.004
"""So much work is claimed ahead at least."""
AHEAD_MOST_S = 0.020
"""So much at most: a newer job of higher priority waits for it."""
BEGUN_WITHIN_S = 0.020
"""What was claimed ahead has at least so long to find a slot."""
AHEAD_MOST = 400
"""Jobs at most: a turn at the store must not last long, for others wait for theirs."""
_NEW_SHARE = 1 / 4
"""Of the newest measurement in the rate."""
_MEASURED_S = 0.001
"""Few jobs that end sooner say nothing of what many would take."""
_ROUND_TRIPS = 2.2
"""So many exchanges' worth is at hand: the slots work on one half while the next is fetched.

What an exchange costs whatever it holds (a commit, a round trip) is shared by the more jobs, the
more it takes. Beyond two the claims grow for as long as the exchanges are what limits the rate.
"""
ACTIVITY_EVERY_S = 1.0
"""How often a busy worker tells what it has finished."""
_FEW = 32
"""So many outcomes bear the cost of telling each time."""


class Pace:
    """Measures how many jobs end each second, to claim `ahead_s` of work ahead and no more."""

    def __init__(self) -> None:
        self._ended = 0
        self._since = 0.0
        self._rate = 0.0
        self._round_trip = 0.0
        self._starved_since: float | None = 0.0

    def starved(self, now: float) -> None:
        """Everything that was here has ended; the next exchange may bring more."""
        self._starved_since = now

    def fed(self, now: float) -> None:
        """There is something to do. What the time before would say is how long exchanges take."""
        if self._starved_since is not None:
            self._since += now - max(self._starved_since, self._since)
            self._starved_since = None

    def exchanged(self, seconds: float) -> None:
        """How long an exchange took."""
        self._round_trip += (seconds - self._round_trip) / 8

    @property
    def patience_s(self) -> float:
        """How long work at hand may hold up an exchange, which then tells and takes the more.

        Not at all where exchanges are short: then nobody stands in the way, and the slots and the
        store should work at the same time.
        """
        return max(0.0, self._round_trip - AHEAD_S) / 4

    @property
    def ahead_s(self) -> float:
        """How much work to claim ahead, in seconds."""
        return min(max(AHEAD_S, self._round_trip * _ROUND_TRIPS), AHEAD_MOST_S)

    @property
    def ahead_longest_s(self) -> float:
        """When no slot has become free for so long, what was claimed ahead is given back."""
        return max(2 * self.ahead_s, BEGUN_WITHIN_S)

    def ended(self) -> None:
        """A job has ended."""
        self._ended += 1

    def ahead(self, now: float, held: int, *, busy: bool) -> int:
        """How many jobs to claim ahead now.

        Half of what should be at hand at most: with all of it at once the slots would have nothing
        to do during every second exchange.

        Args:
            now: seconds, on the same clock each time.
            held: so many wait here.
            busy: there were more jobs than slots since the last call.
        """
        until = now if self._starved_since is None else self._starved_since
        elapsed = until - self._since
        if self._ended and elapsed > 0:
            measured = self._ended / max(elapsed, _MEASURED_S)
            # While jobs were few the rate shows what came in, not what could be done.
            if busy and self._rate:
                self._rate += (measured - self._rate) * _NEW_SHARE
            else:
                self._rate = max(self._rate, measured)
        self._ended = 0
        self._since = now
        most = min(int(self._rate * self.ahead_s), AHEAD_MOST)
        return max(0, min(most - held, (most + 1) // 2))

    def slow_down(self) -> None:
        """What was claimed ahead has not been started in time: measure afresh."""
        self._rate = 0.0


class Figures:
    """What this worker has finished, in windows of `ACTIVITY_WINDOW_S`, and what of it is told."""

    def __init__(self) -> None:
        self._window = -1
        self._begin()
        self._past: Activity | None = None
        """A window that has ended before all of it was told."""
        self._told_at = 0.0

    def _begin(self) -> None:
        self._finished = self._attempts = self._failed = self._told = 0
        self._wait: dict[int, int] = {}
        self._run: dict[int, int] = {}

    def add(self, now_us: int, wait_s: float, run_s: float, final: bool, failed: bool) -> None:
        """An attempt has ended."""
        window = now_us // (ACTIVITY_WINDOW_S * 1_000_000)
        if window != self._window:
            if self._attempts > self._told:
                self._past = self._activity()
            self._window = window
            self._begin()
        self._attempts += 1
        self._finished += final
        self._failed += failed
        waited, ran = bucket_of(wait_s), bucket_of(run_s)
        self._wait[waited] = self._wait.get(waited, 0) + 1
        self._run[ran] = self._run.get(ran, 0) + 1

    def due_at(self) -> float | None:
        """When there is something to tell; None when all is told."""
        if self._past is None and self._attempts == self._told:
            return None
        return self._told_at + ACTIVITY_EVERY_S

    def to_tell(self, now: float, outcomes: int) -> Activity | None:
        """What to tell in an exchange that reports so many outcomes."""
        due_at = self.due_at()
        if due_at is None or (outcomes > _FEW and now < due_at):
            return None
        return self._past or self._activity()

    def told(self, activity: Activity, now: float) -> None:
        """It has arrived."""
        self._told_at = now
        if activity is self._past:
            self._past = None
        elif activity.window == self._window:
            self._told = activity.attempts

    def _activity(self) -> Activity:
        return Activity(
            self._window,
            self._finished,
            self._attempts,
            self._failed,
            dict(self._wait),
            dict(self._run),
        )
