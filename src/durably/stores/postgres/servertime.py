"""The server's time, without asking for it in every transaction."""

import time
from collections.abc import Callable

from durably.stores.postgres.database import Connection

DATABASE_TIME = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
ASKED_EVERY_S = 1.0


class ServerTime:
    """Asks the server now and then, and counts on from its answer by our own monotonic clock.

    It is off by less than the round trip that asked; a clock that somebody sets is followed within
    a second.

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
        if before - self._asked_at > ASKED_EVERY_S:
            answer: int = await connection.fetchval(f"SELECT {DATABASE_TIME}")
            after = self._monotonic()
            self._began_us = answer - int((before + after) / 2 * 1e6)
            self._asked_at = after
            return answer
        return self._began_us + int(before * 1e6)
