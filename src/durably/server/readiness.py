"""Whether the service is of use now."""

import asyncio

from durably import JobQueueService


class Readiness:
    """What stands in the way.

    Args:
        queue: must be able to do its work.
        workers: whether jobs are to run in this process.
    """

    def __init__(self, queue: JobQueueService, *, workers: bool) -> None:
        self._queue = queue
        self._workers = workers
        self.draining = asyncio.Event()
        """Set when the service is about to end: whoever is waited with is answered now."""

    def drain(self) -> None:
        """The service is about to end."""
        self.draining.set()

    async def reasons(self) -> tuple[str, ...]:
        """One sentence each; nothing when it is ready."""
        if self.draining.is_set():
            return ("the service is shutting down",)
        return await self._queue.health(workers=self._workers)
