"""What the jobs of a storm do, and what must become of them."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Protocol

from chaos.checker import Promise
from durably import Fail, JobContext, JobPriority, JobQueueService, NewJob, Snooze, SyncJobContext

PROMISES = {
    "plain": Promise(),
    "child": Promise(),
    "long": Promise(),
    "ordered": Promise(),
    "limited": Promise(at_once=2),
    "threaded": Promise(stoppable=False),
    "flaky": Promise(attempts=2, wishes=1),
    "sleepy": Promise(wishes=1),
    "stepping": Promise(),
    "following": Promise(follow_ups=1),
    "completing": Promise(follow_ups=1, effects=1),
    "hopeless": Promise(status="failed", follow_ups=1),
}
ORDERED = "ordered"
"""The queue of the jobs whose order is looked at."""
WEIGHTS = {
    "plain": 8,
    "long": 3,
    "limited": 1,
    "threaded": 1,
    "flaky": 1,
    "sleepy": 1,
    "stepping": 1,
    "following": 2,
    "completing": 2,
    "hopeless": 1,
}


class Book(Protocol):
    """Where what happens is written down; see `history.Event` for the fields."""

    def say(self, what: str, *, pid: int | None = None, **fields: str | int) -> None:
        """Write down one event."""
        ...


def new_job(random: Random, key: str, weights: dict[str, int] = WEIGHTS) -> NewJob:
    """A job of any type."""
    [kind] = random.choices([*weights], [*weights.values()])
    return NewJob(kind, {"key": key}, priority=random.choice([*JobPriority]))


_Handler = Callable[[JobContext, str], Awaitable[object]]


class Work:
    """Handlers of every sort, which write down what they do. Their result is the run's name.

    Args:
        history: where they write it down.
        random: how long they take.
        pid: of their process.
        sql: whether the store has SQL for the handlers' own use.
    """

    def __init__(self, history: Book, random: Random, *, pid: int, sql: bool = True) -> None:
        self._history = history
        self._random = random
        self._pid = pid
        self._sql = sql
        self._numbers = itertools.count(1)

    def register(self, queue: JobQueueService) -> None:
        """All of them."""
        for kind in ("child", "limited", "ordered"):
            queue.register_handler(
                kind, self._told(self.plain), max_concurrency=PROMISES[kind].at_once
            )
        for handler in (self.plain, self.long, self.flaky, self.sleepy, self.stepping):
            queue.register_handler(handler.__name__, self._told(handler))
        for handler in (self.following, self.completing, self.hopeless):
            queue.register_handler(handler.__name__, self._told(handler))
        queue.register_handler("threaded", self.threaded)

    def _start(self, job: "JobContext | SyncJobContext") -> str:
        run = f"{self._pid}-{next(self._numbers)}"
        priority = int(job.priority) if job.type == "ordered" else 0
        self._history.say("start", job=job.id, type=job.type, run=run, priority=priority)
        return run

    def _told(self, handler: _Handler) -> Callable[[JobContext], Awaitable[str]]:
        async def run_and_tell(job: JobContext) -> str:
            run, how = self._start(job), "error"
            try:
                await handler(job, run)
                self._history.say("effect", job=job.id, run=run)
                how = "ok"
            except (Snooze, Fail, ConnectionError):
                how = "again"
                raise
            except asyncio.CancelledError:
                how = "cancelled"
                raise
            finally:
                self._history.say("end", job=job.id, run=run, how=how)
            return run

        return run_and_tell

    def threaded(self, job: SyncJobContext) -> str:
        """In a thread, which nobody can stop."""
        run = self._start(job)
        time.sleep(0.05)
        self._history.say("end", job=job.id, run=run, how="ok")
        return run

    async def plain(self, job: JobContext, run: str) -> None:
        """Short work."""
        await asyncio.sleep(self._random.uniform(0, 0.02))

    async def long(self, job: JobContext, run: str) -> None:
        """Work that faults meet."""
        await asyncio.sleep(self._random.uniform(0.3, 1.0))

    async def flaky(self, job: JobContext, run: str) -> None:
        """Fails at the first attempt."""
        await asyncio.sleep(0.01)
        if job.attempts == 1:
            raise ConnectionError("not yet")

    async def sleepy(self, job: JobContext, run: str) -> None:
        """Wants to run again, once."""
        if job.progress is None:
            await job.set_progress(0.5, "asleep")
            raise Snooze(0.2)

    async def stepping(self, job: JobContext, run: str) -> None:
        """Two durable steps."""
        for number in range(2):
            done: int = await job.step(f"step {number}", partial(_slowly, number))
            assert done == number

    async def following(self, job: JobContext, run: str) -> None:
        """A follow-up that commits with the outcome."""
        job.add_job("child", {"parent": job.id})
        await asyncio.sleep(self._random.uniform(0, 0.05))

    async def completing(self, job: JobContext, run: str) -> None:
        """Its own SQL and a follow-up in the transaction of its outcome."""
        async with job.complete(run) as tx:
            if self._sql:
                await tx.execute("INSERT INTO chaos_effects (job, run) VALUES (?, ?)", job.id, run)
            tx.add_job("child", {"parent": job.id})

    async def hopeless(self, job: JobContext, run: str) -> None:
        """Fails for good, and says so with a follow-up."""
        job.add_job("child", {"parent": job.id})
        raise Fail("never")


async def _slowly(number: int) -> int:
    await asyncio.sleep(0.01)
    return number
