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
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from chaos.history import History
from chaos.work import ORDERED, Work, new_job
from durably import (
    DurablyError,
    JobQueueService,
    NewJob,
    RetryPolicy,
)

HOUR_US = 3_600_000_000
RETRY = RetryPolicy(max_attempts=50, base_delay=0.1, max_delay=1.0)
"""Of workers and producers, who say how often a job may fail: a store that is down spends attempts."""


class Settings(msgspec.Struct, kw_only=True, frozen=True):
    """What the processes of one storm have in common."""

    seed: int
    slots: int = 8
    lease_s: float = 3.0
    pause_s: float = 0.1
    """Between two calls of a producer, on average."""


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
        retry=RETRY,
    ) as queue:
        Work(history, random, pid=os.getpid()).register(queue)
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
        history.say("adding", key=key)
        return key, new_job(random, key)

    async with JobQueueService(url, retry=RETRY) as queue:
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


def end_with_the_storm() -> None:
    """Nothing of a storm outlives it, however that ends (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    end_with_the_storm()
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
