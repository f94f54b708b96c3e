"""Renews the leases of one worker from a thread that a blocked event loop cannot stop."""

import logging
import threading
from collections.abc import Callable

from durably.domain.clock import Clock
from durably.engine.resident import resident_bytes
from durably.store import Store

_log = logging.getLogger("durably")
_BEAT = 0.1
_RENEW_AT = 1 / 3
_GIVE_UP_AT = 0.9
"""Shares of the lease: how often to look, when to renew, when to stop handlers before it ends."""


class Heartbeat:
    """Beats every tenth of the lease; renews only while jobs are held.

    Args:
        worker: the registration to renew.
        lease: seconds.
        lost: called from the heartbeat's thread when the leases are lost, or about to be.
        watch: called from another thread at each beat while leases are held.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        worker: int,
        lease: float,
        lost: Callable[[], None],
        watch: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._worker = worker
        self._lease = lease
        self._lost = lost
        self._watch = watch
        self._lock = threading.Lock()
        self._renewed_at = clock.monotonic()
        self._holding = False
        self._asked_at: float | None = None
        # Two threads: a renewal that hangs must not hide that the lease runs out.
        self._tickers = (
            clock.every(lease * _BEAT, self.beat, f"durably-heartbeat-{worker}"),
            clock.every(lease * _BEAT, self.watch, f"durably-watch-{worker}"),
        )

    def claimed(self, asked_at: float) -> None:
        """A claim that was asked for at *asked_at* (monotonic) leaves at least two thirds."""
        with self._lock:
            self._holding = True
            self._renewed_at = max(self._renewed_at, asked_at - self._lease * _RENEW_AT)

    def idle(self) -> None:
        """Nothing is held: nothing to renew."""
        with self._lock:
            self._holding = False

    def beat(self) -> None:
        """Renew if it is time; say so when it can no longer be done in time."""
        started = self._clock.monotonic()
        if self.age() < self._lease * _RENEW_AT:
            return
        self._asked_at = started
        try:
            alive = self._store.renew(self._worker, resident_bytes())
        except Exception:  # noqa: BLE001  # whatever it is, the lease is running out
            _log.exception("worker %s could not renew its leases", self._worker)
            self._give_up_in_time()
            return
        finally:
            self._asked_at = None
        if not alive:
            self._lost()
            return
        with self._lock:
            self._renewed_at = max(self._renewed_at, started)

    def watch(self) -> None:
        """Give up in time when a renewal hangs; look at the event loop.

        One that has just begun may succeed, even after the lease has ended: the machine slept, and
        nobody has taken the jobs.
        """
        asked_at = self._asked_at
        if asked_at is not None and self._clock.monotonic() - asked_at >= self._lease * _BEAT:
            self._give_up_in_time()
        if self._holding:
            self._watch()

    def _give_up_in_time(self) -> None:
        if self.age() >= self._lease * _GIVE_UP_AT:
            self._lost()

    def stop(self) -> None:
        """Beat no more."""
        for ticker in self._tickers:
            ticker.stop()

    def age(self) -> float:
        """Seconds since the leases were renewed; 0 while nothing is held."""
        with self._lock:
            return self._clock.monotonic() - self._renewed_at if self._holding else 0.0
