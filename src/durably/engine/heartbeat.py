"""Renews the leases of one worker from a thread that a blocked event loop cannot stop."""

import logging
import threading
from collections.abc import Callable

from durably.domain.clock import Clock
from durably.store import Store

_log = logging.getLogger("durably")
_RENEW_AT = 1 / 3
_GIVE_UP_AT = 0.9
"""Shares of the lease: when it is renewed, and when handlers are stopped before it ends."""


class Heartbeat:
    """Beats every tenth of the lease; renews only while jobs are held.

    Args:
        worker: the registration to renew.
        lease: seconds.
        lost: called from the heartbeat's thread when the leases are lost, or about to be.
    """

    def __init__(
        self, store: Store, clock: Clock, worker: int, lease: float, lost: Callable[[], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._worker = worker
        self._lease = lease
        self._lost = lost
        self._lock = threading.Lock()
        self._renewed_at = clock.monotonic()
        self._holding = False
        # Two threads: a renewal that hangs must not hide that the lease runs out.
        self._tickers = (
            clock.every(lease / 10, self.beat, f"durably-heartbeat-{worker}"),
            clock.every(lease / 10, self.watch, f"durably-watch-{worker}"),
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
        """Renew if it is time."""
        started = self._clock.monotonic()
        if self._age() < self._lease * _RENEW_AT:
            return
        try:
            alive = self._store.renew(self._worker)
        except Exception:  # noqa: BLE001  # whatever it is, `watch` looks after the lease
            _log.exception("worker %s could not renew its leases", self._worker)
            return
        if not alive:
            self._lost()
            return
        with self._lock:
            self._renewed_at = max(self._renewed_at, started)

    def watch(self) -> None:
        """Say so when the lease can no longer be renewed in time."""
        if self._age() >= self._lease * _GIVE_UP_AT:
            self._lost()

    def stop(self) -> None:
        """Beat no more."""
        for ticker in self._tickers:
            ticker.stop()

    def _age(self) -> float:
        """Seconds since the lease was renewed; 0 while nothing is held."""
        with self._lock:
            return self._clock.monotonic() - self._renewed_at if self._holding else 0.0
