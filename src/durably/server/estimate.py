"""When a new instance will probably be ready: after the median of the latest creations."""

from datetime import datetime, timedelta
from statistics import median

from durably import Clock
from durably.instances import JobWorkerService

_SAMPLE = 50
_GOOD_FOR_S = 60.0
_FIRST_GUESS_S = 300.0
"""While no instance has ever become ready."""


class Estimate:
    """Keeps the median for a minute, so that a burst of requests asks the store once."""

    def __init__(self, instances: JobWorkerService, clock: Clock) -> None:
        self._instances = instances
        self._clock = clock
        self._seconds = _FIRST_GUESS_S
        self.forget()

    def forget(self) -> None:
        """Ask the store at the next request."""
        self._until = -1.0

    async def ready_time(self, now: datetime) -> datetime:
        """The estimate for an instance asked for *now*."""
        if self._clock.monotonic() >= self._until:
            self._until = self._clock.monotonic() + _GOOD_FOR_S
            page = await self._instances.list(limit=_SAMPLE)
            took = [
                (one.ready_at - one.created_at).total_seconds()
                for one in page.instances
                if one.ready_at is not None and one.operation_at == one.created_at
            ]
            if took:
                self._seconds = median(took)
        return now + timedelta(seconds=self._seconds)
