"""Waiting for what happens instead of sleeping: notices of a store, or any condition."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from durably.engine.queue import JobQueueService
from durably.store import Notice, NoticeKind, Store


@asynccontextmanager
async def capture(
    source: JobQueueService | Store, kind: NoticeKind, *, count: int = 1, timeout: float = 10.0
) -> AsyncIterator[list[Notice]]:
    """Notices of *kind* during the block, whose end waits until there are enough.

    ``async with capture(queue, NoticeKind.FINISHED, count=3)`` ends when three jobs have become
    final: finished jobs are counted by their ids, notices of another kind each.

    Args:
        source: a store, or a service, whose store is listened to.
        kind: other notices are ignored.
        count: how many must come, from the start of the block.
        timeout: real seconds to wait after the block.

    Raises:
        TimeoutError: too few have come.
    """
    notices: list[Notice] = []
    enough = asyncio.Event()

    def listen(notice: Notice) -> None:
        if notice.kind is kind:
            notices.append(notice)
        if _count(notices, kind) >= count:
            enough.set()

    store = source._store if isinstance(source, JobQueueService) else source  # noqa: SLF001  # the service does not lend it to users
    unsubscribe = store.subscribe(listen)
    try:
        yield notices
        try:
            async with asyncio.timeout(timeout):
                await enough.wait()
        except TimeoutError:
            came = _count(notices, kind)
            raise TimeoutError(
                f"expected {count} notices of kind {kind} within {timeout:g} s, got {came}"
            ) from None
    finally:
        unsubscribe()


def _count(notices: list[Notice], kind: NoticeKind) -> int:
    if kind is NoticeKind.FINISHED:
        return len({job_id for notice in notices for job_id in notice.ids})
    return len(notices)


async def until(
    condition: Callable[[], bool | Awaitable[bool]],
    *,
    timeout: float = 10.0,
    interval: float = 0.005,
) -> None:
    """Look at *condition* (plain or async) until it holds: for what another process brings about.

    Args:
        condition: what must come to hold.
        timeout: real seconds.
        interval: real seconds between looks.

    Raises:
        TimeoutError: it did not hold in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while not await _holds(condition):
        if loop.time() > deadline:
            raise TimeoutError(f"did not come to hold within {timeout:g} s: {condition}")
        await asyncio.sleep(interval)


async def _holds(condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    answer = condition()
    return await answer if inspect.isawaitable(answer) else bool(answer)
