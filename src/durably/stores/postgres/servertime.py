"""The server's time, without asking for it in every transaction."""

import time
from collections.abc import Callable

from durably.stores.postgres.database import Connection

DATABASE_TIME = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
ASKED_EVERY_S = 1.0
ROUND_TRIP_LONGEST_S = 0.5
"""Of an answer that is counted on from. After a longer one nobody knows how old it is."""
_TRIES = 2


class ServerTime:
    """Asks the server now and then, and counts on from its answer by our own monotonic clock.

    It is off by less than half the round trip that asked; a clock that somebody sets is followed
    within a second. When the process, the machine or the network stood still on the way, it asks
    again: a clock that is ahead takes the leases of living workers for ended, one that is behind
    makes leases that others do. From a server that is always so slow it takes the last answer, for
    this once: that is behind, never ahead.

    Args:
        monotonic: seconds that go on during suspend.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._asked_at = float("-inf")
        self._began_us = 0
        """The server's time when our own clock showed nought."""

    async def now_us(self, connection: Connection) -> int:
        """Microseconds since 1970."""
        before = self._monotonic()
        if before - self._asked_at <= ASKED_EVERY_S:
            return self._began_us + int(before * 1e6)
        answer = 0
        for _ in range(_TRIES):
            before = self._monotonic()
            answer = await connection.fetchval(f"SELECT {DATABASE_TIME}")
            after = self._monotonic()
            if after - before <= ROUND_TRIP_LONGEST_S:
                self._began_us = answer - int((before + after) / 2 * 1e6)
                self._asked_at = after
                break
        return answer
