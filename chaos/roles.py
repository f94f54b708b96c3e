"""What producers and workers do: ``python -m chaos.roles ROLE URL HISTORY SETTINGS``.

A worker ends in good order at SIGTERM. At SIGUSR1 its wall clock jumps an hour ahead, at SIGUSR2 an
hour back, at SIGHUP it is right again.
"""

import asyncio
import ctypes
import itertools
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from chaos.checker import Promise
from chaos.history import History
from durably import (
    DurablyError,
    Fail,
    JobContext,
    JobPriority,
    JobQueueService,
    NewJob,
    RetryPolicy,
    Snooze,
    SyncJobContext,
)

PROMISES = {
    "plain": Promise(),
    "child": Promise(),
    "long": Promise(),
    "ordered": Promise(),
    "limited": Promise(at_once=2),
    "threaded": Promise(stoppable=False),
    "flaky": Promise(attempts=2),
    "sleepy": Promise(),
    "stepping": Promise(),
    "following": Promise(follow_ups=1),
    "completing": Promise(follow_ups=1, effects=1),
    "hopeless": Promise(status="failed", follow_ups=1),
}
ORDERED = "ordered"
"""The queue of the jobs whose order is looked at."""
_WEIGHTS = {
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
HOUR_US = 3_600_000_000


class Settings(msgspec.Struct, kw_only=True, frozen=True):
    """What the processes of one storm have in common."""

    seed: int
    slots: int = 8
    lease_s: float = 3.0
    pause_s: float = 0.1
    """Between two calls of a producer, on average."""


# Workers

_Handler = Callable[[JobContext, str], Awaitable[object]]


class _Work:
    """Handlers of every sort, which write down what they do. Their result is the run's name."""

    def __init__(self, history: History, random: Random) -> None:
        self._history = history
        self._random = random
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
        run = f"{os.getpid()}-{next(self._numbers)}"
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
            await tx.execute("INSERT INTO chaos_effects (job, run) VALUES (?, ?)", job.id, run)
            tx.add_job("child", {"parent": job.id})

    async def hopeless(self, job: JobContext, run: str) -> None:
        """Fails for good, and says so with a follow-up."""
        job.add_job("child", {"parent": job.id})
        raise Fail("never")


async def _slowly(number: int) -> int:
    await asyncio.sleep(0.01)
    return number


async def work(url: str, history: History, settings: Settings) -> None:
    """A worker process, until SIGTERM."""
    random, stop = Random(f"{settings.seed}-{os.getpid()}"), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    _let_the_clock_jump(loop)
    async with JobQueueService(
        url,
        concurrency=settings.slots,
        lease=settings.lease_s,
        processing_interval=0.5,
        queues=("default", ORDERED),
        retry=RetryPolicy(max_attempts=50, base_delay=0.1, max_delay=1.0),
    ) as queue:
        _Work(history, random).register(queue)
        await _insist(queue.start_processing)
        history.say("ready")
        await stop.wait()
        await queue.shutdown(2.0)


def _let_the_clock_jump(loop: asyncio.AbstractEventLoop) -> None:
    """As if somebody set the machine's clock."""
    right, offset_us = time.time_ns, 0

    def jump(by_us: int) -> None:
        nonlocal offset_us
        offset_us = by_us

    time.time_ns = lambda: right() + offset_us * 1_000  # that is the fault
    loop.add_signal_handler(signal.SIGUSR1, jump, HOUR_US)
    loop.add_signal_handler(signal.SIGUSR2, jump, -HOUR_US)
    loop.add_signal_handler(signal.SIGHUP, jump, 0)


async def _insist(call: Callable[[], Awaitable[Any]]) -> None:
    """Try until the store can be reached."""
    while True:
        try:
            await call()
        except DurablyError:
            await asyncio.sleep(0.2)
        else:
            return


# Producers


async def produce(url: str, history: History, settings: Settings) -> None:
    """A producer process, until it is killed. What it asks for and gets no answer to, it leaves."""
    random, numbers = Random(f"{settings.seed}-{os.getpid()}"), itertools.count(1)
    _let_the_clock_jump(asyncio.get_running_loop())

    def new() -> tuple[str, NewJob]:
        key = f"{os.getpid()}-{next(numbers)}"
        [kind] = random.choices([*_WEIGHTS], [*_WEIGHTS.values()])
        history.say("adding", key=key)
        return key, NewJob(kind, {"key": key}, priority=random.choice([*JobPriority]))

    async with JobQueueService(url) as queue:
        while True:
            asked = [new() for _ in range(1 if random.random() < 0.7 else random.randrange(2, 30))]
            try:
                if len(asked) == 1:
                    [(_, job)] = asked
                    added = [await queue.add_job(job.type, job.payload, priority=job.priority)]
                else:
                    added = await queue.add_jobs([job for _, job in asked])
            except DurablyError:
                await asyncio.sleep(0.1)
                continue
            for (key, _), stored in zip(asked, added, strict=True):
                history.say("accepted", key=key, job=stored.id)
            await asyncio.sleep(random.expovariate(1 / settings.pause_s))


def _end_with_the_storm() -> None:
    """Nothing of a storm outlives it, however that ends (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    _end_with_the_storm()
    role, url, path, text = sys.argv[1:]
    main = {"worker": work, "producer": produce}[role]
    while True:
        try:
            asyncio.run(main(url, History(Path(path)), msgspec.json.decode(text, type=Settings)))
        except DurablyError as error:
            # The store cannot be reached: a service manager would start it again.
            print(f"{role} {os.getpid()}: {error}", file=sys.stderr, flush=True)
            time.sleep(0.3)
        else:
            break
