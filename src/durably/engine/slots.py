"""So many handlers at a time: which attempts run, and the tasks that run them."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context

from durably.engine.executor import Attempt

AT_ONCE_S = 0.001
"""So long handlers that return at once may keep the event loop from coming round."""


class Slots:
    """Runs attempts, at most so many at a time.

    A task costs more than many a handler. So one task runs one attempt after the other for as long
    as their handlers return at once: without having waited for anything, and without having left
    a context variable or a cancellation of their task behind. After any other one it ends, so that
    what a job did to its task or its context does not reach the next job.

    Args:
        most: how many run at a time.
        waiting: how many attempts there are to begin.
        take: begins the next attempt; None when there is none after all.
        left: told when nothing of an attempt runs any more.
    """

    def __init__(
        self,
        most: int,
        *,
        waiting: Callable[[], int],
        take: Callable[[], Attempt | None],
        left: Callable[[Attempt], None],
    ) -> None:
        self._most = most
        self._waiting = waiting
        self._take = take
        self._left = left
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        """What every job begins in: nothing a job before it has left there."""
        self._values = tuple(self._context.items())
        self._opening: set[asyncio.Task[None]] = set()
        """Slots that have not come to their first attempt."""
        self._ticking = False
        self._turn = 0
        self._fresh: list[Attempt] = []
        """Begun in this turn of the event loop."""
        self._emptied: asyncio.Event | None = None
        self.running: dict[Attempt, None] = {}

    def until_idle(self) -> asyncio.Event:
        """Set once nothing runs."""
        self._emptied = asyncio.Event()
        if not self.running:
            self._emptied.set()
        return self._emptied

    @property
    def free(self) -> int:
        """How many more could run."""
        return max(0, self._most - len(self.running))

    def fill(self, most: int = 1) -> None:
        """Open a slot, or up to *most*, for what waits.

        One is enough where handlers return at once; `_tick` opens more when it sees them wait.
        """
        wanted = min(most, self._most - len(self.running), self._waiting()) - len(self._opening)
        for _ in range(wanted):
            slot = self._loop.create_task(
                self._work(), name="durably-slot", context=self._context.copy()
            )
            self._opening.add(slot)

    async def _work(self) -> None:
        """One slot: attempts one after the other, while their handlers return at once."""
        task = asyncio.current_task()
        assert task is not None
        self._opening.discard(task)
        turn, until = self._turn, self._loop.time() + AT_ONCE_S
        while len(self.running) < self._most and (attempt := self._take()) is not None:
            attempt.task = task
            self.running[attempt] = None
            self._fresh.append(attempt)
            if not self._ticking:
                self._ticking = True
                self._loop.call_soon(self._tick)
            try:
                await attempt.run()
            finally:
                self._end(attempt)
            if turn != self._turn or self._loop.time() > until or not self._is_clean(task):
                break
        self.fill()

    def _is_clean(self, task: "asyncio.Task[None]") -> bool:
        """Whether the attempts of *task* have left it and its context as they found them.

        The values must be the same ones: equal ones may be compared by anything, or not at all.
        """
        left = copy_context()
        if task.cancelling() or len(left) != len(self._values):
            return False
        return not self._values or all(
            left.get(variable, left) is value for variable, value in self._values
        )

    def _tick(self) -> None:
        """The event loop has come round: what has begun and still runs is waiting for something."""
        self._ticking = False
        self._turn += 1
        self.fill(max(1, 2 * self.look()))

    def look(self) -> int:
        """Tell attempts of this turn that they have not ended at once; how many."""
        waiting = [attempt for attempt in self._fresh if attempt in self.running]
        self._fresh.clear()
        for attempt in waiting:
            attempt.waits()
        return len(waiting)

    def _end(self, attempt: Attempt) -> None:
        del self.running[attempt]
        if self._emptied is not None and not self.running:
            self._emptied.set()
        self._left(attempt)
