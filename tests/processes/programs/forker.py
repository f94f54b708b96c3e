"""Forks while it works, or while it is in the turnstile; the forked child stays until input ends."""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.processes.programs.reporting import say

from durably import DurablyError, JobContext, JobQueueService
from durably.stores.sqlite.locks import Turnstile


def fork_by_os(child: Callable[[], None]) -> Callable[[], object]:
    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(0)
    return lambda: os.waitpid(pid, 0)


def fork_by_multiprocessing(child: Callable[[], None]) -> Callable[[], object]:
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    return process.join


FORKS = {"os": fork_by_os, "multiprocessing": fork_by_multiprocessing}
"""Each runs its argument in a forked child and gives the function that waits for its end."""


CHILDREN = 8


def stay() -> None:
    """Live until the test closes standard input, which the child has inherited."""
    say("forked")
    while os.read(0, 1):
        pass


async def fork_at_work(url: str, way: str) -> None:
    """Fork from a handler, then wait to be killed."""

    async def hold(job: JobContext) -> None:
        FORKS[way](stay)
        await asyncio.Event().wait()

    async with JobQueueService(url, lease=300) as queue:
        queue.register_handler("hold", hold)
        await queue.start_processing()
        await asyncio.Event().wait()


async def use_in_child(url: str, way: str) -> None:
    """Use a service in a child that was forked after the service was opened."""
    queue = JobQueueService(url)

    async def tried(name: str, call: Callable[[], Awaitable[object]]) -> None:
        try:
            await asyncio.wait_for(call(), 3)
        except (DurablyError, TimeoutError) as error:
            say("refused", call=name, error=type(error).__name__)

    async def use() -> None:
        # Twice: the first must not leave the second waiting.
        await tried("add_job", lambda: queue.add_job("quick"))
        await tried("add_job", lambda: queue.add_job("quick"))
        await tried("get_job", lambda: queue.get_job("1"))
        await tried("get_stats", queue.get_stats)
        await tried("start_processing", queue.start_processing)

    async with queue:
        await queue.add_job("quick")
        join = FORKS[way](lambda: asyncio.run(use()))
        await asyncio.to_thread(join)
        say("accepted", id=(await queue.add_job("quick")).id)


async def open_in_children(url: str, way: str) -> None:
    """While this process writes, fork children that open the store; leave it before they do."""

    async def add(count: int) -> None:
        async with JobQueueService(url) as queue:
            for _ in range(count):
                say("accepted", id=(await queue.add_job("quick")).id)
            say("half done")
            await asyncio.to_thread(os.read, 0, 1)
            for _ in range(count):
                say("accepted", id=(await queue.add_job("quick")).id)

    async def keep_adding(queue: JobQueueService) -> None:
        while True:
            say("accepted", id=(await queue.add_job("quick")).id)

    # Forks also meet a service that has been closed, and is still there.
    async with JobQueueService(url) as closed:
        await closed.add_job("quick")
    async with JobQueueService(url) as queue:
        busy = asyncio.ensure_future(keep_adding(queue))
        joins = []
        for _ in range(CHILDREN):
            await queue.add_job("quick")
            joins.append(FORKS[way](lambda: asyncio.run(add(20))))
        busy.cancel()
    say("half done")
    for join in joins:
        join()


def fork_in_turnstile(folder: str, way: str) -> None:
    """Fork and die while inside."""
    with Turnstile(Path(folder)):
        FORKS[way](stay)
        signal.pause()


if __name__ == "__main__":
    case, place, way = sys.argv[1:]
    if case == "turnstile":
        fork_in_turnstile(place, way)
    else:
        asyncio.run(
            {"work": fork_at_work, "use": use_in_child, "open": open_in_children}[case](place, way)
        )
