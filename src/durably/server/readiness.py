"""Whether the service is of use now."""

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
        self._draining = False

    def drain(self) -> None:
        """The service is about to end."""
        self._draining = True

    async def reasons(self) -> tuple[str, ...]:
        """One sentence each; nothing when it is ready."""
        if self._draining:
            return ("the service is shutting down",)
        return await self._queue.health(workers=self._workers)
