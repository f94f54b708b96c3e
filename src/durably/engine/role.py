"""The shape of every background role: one thing done now and then, until stopped."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from durably.domain.clock import Clock

_log = logging.getLogger("durably")


class Role:
    """Calls `run_once` every *interval* seconds; logs what goes wrong and goes on.

    Args:
        name: for logs.
        interval: seconds between the end of one run and the start of the next.
        run_once: the role's work, which tests call directly.
        clock: where the waiting comes from.
    """

    def __init__(
        self, name: str, interval: float, run_once: Callable[[], Awaitable[object]], clock: Clock
    ) -> None:
        self._name = name
        self._interval = interval
        self._run_once = run_once
        self._clock = clock
        self._stopped = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"durably-{name}")

    async def _run(self) -> None:
        while not await self._clock.wait(self._stopped, self._interval):
            try:
                await self._run_once()
            except Exception:  # noqa: BLE001  # one bad run must not end the role
                _log.exception("%s failed; it tries again in %g s", self._name, self._interval)

    async def stop(self) -> None:
        """End after the run that is under way."""
        self._stopped.set()
        await asyncio.wait([self._task])  # a loop that closes may have cancelled it
