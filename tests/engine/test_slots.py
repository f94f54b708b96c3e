import asyncio
from collections.abc import Callable
from contextvars import ContextVar

import pytest
from tests.engine.support import LONG_S

from durably import Job, JobContext, JobQueueService, JobStatus, NewJob
from durably.testing import VirtualClock

left_behind: ContextVar[object] = ContextVar("left_behind", default="nothing")


class Incomparable:
    """As arrays are: comparing two of them has no answer."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value is ambiguous")


async def run(url: str, types: list[str], **handlers: Callable[..., object]) -> list[Job]:
    """Run jobs of *types* in 8 slots; as they came out, in the order in which they were added."""
    async with JobQueueService(url, concurrency=8) as queue:
        for name, handler in handlers.items():
            queue.register_handler(name, handler)
        jobs = await queue.add_jobs([NewJob(name) for name in types])
        await queue.start_processing()
        return [await queue.wait(job.id, timeout=LONG_S) for job in jobs]


async def test_what_a_handler_leaves_in_its_context_is_not_the_next_ones(
    url: str,
) -> None:
    """Neither of one that returns at once nor of one that has waited."""
    seen: list[object] = []

    async def leaves(job: JobContext) -> None:
        seen.append(left_behind.get())
        left_behind.set("something")

    async def waits(job: JobContext) -> None:
        await asyncio.sleep(0)
        await leaves(job)

    await run(url, ["leaves", "waits"] * 50, leaves=leaves, waits=waits)

    assert seen == ["nothing"] * 100


@pytest.mark.parametrize("value", [list, Incomparable])
async def test_a_value_that_equals_the_one_before_is_left_behind_all_the_same(
    url: str, value: Callable[[], object]
) -> None:
    """Each job begins with the very value that was there at the start, whatever a job has put there.

    It may be equal to that, or refuse to be compared.
    """
    there = value()
    seen: list[bool] = []

    async def leaves(job: JobContext) -> None:
        seen.append(left_behind.get() is there)
        left_behind.set(value())

    before = left_behind.set(there)
    try:
        await run(url, ["leaves"] * 50, leaves=leaves)
    finally:
        left_behind.reset(before)

    assert seen == [True] * 50


async def test_who_cancels_its_own_task_and_returns_harms_nobody(url: str) -> None:
    """It has completed, and the next job does not meet the cancellation at its first await."""

    async def cancels(job: JobContext) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def victim(job: JobContext) -> None:
        await asyncio.sleep(0)

    jobs = await run(url, ["cancels", "victim"] * 50, cancels=cancels, victim=victim)

    assert {job.status for job in jobs} == {JobStatus.COMPLETED}
    assert {job.attempts for job in jobs} == {1}


async def test_who_cancels_its_task_later_harms_nobody(
    url: str,
) -> None:
    """A handler that has waited had a task of its own, and whatever still holds that holds no other."""
    tasks: list[asyncio.Task[None]] = []

    async def leaves(job: JobContext) -> None:
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)

    async def victim(job: JobContext) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)

    jobs = await run(url, ["leaves", "victim"] * 50, leaves=leaves, victim=victim)

    assert {job.status for job in jobs} == {JobStatus.COMPLETED}
    assert {job.attempts for job in jobs} == {1}


async def test_handlers_that_return_at_once_leave_the_loop_its_turns(
    url: str,
) -> None:
    """However many there are, others on the event loop get on in between."""
    turns = 0
    others: set[int] = set()

    async def quick(job: JobContext) -> None:
        others.add(turns)

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.get_running_loop().create_task(other())
    try:
        await run(url, ["quick"] * 3_000, quick=quick)
    finally:
        beside.cancel()

    assert len(others) > 5


async def test_handlers_that_wait_soon_fill_all_slots(
    url: str,
) -> None:
    """Eight slots run eight handlers at a time."""
    all_here = asyncio.Barrier(8)

    async def meets(job: JobContext) -> None:
        await all_here.wait()

    jobs = await run(url, ["meets"] * 64, meets=meets)

    assert {job.status for job in jobs} == {JobStatus.COMPLETED}


async def test_handlers_that_wait_fill_all_slots_from_one_claim(url: str) -> None:
    """Without asking the store again: time stands still, and only a turn of the loop passes."""
    all_here = asyncio.Barrier(8)

    async def meets(job: JobContext) -> None:
        await all_here.wait()

    async with JobQueueService(url, concurrency=8, clock=VirtualClock()) as queue:
        queue.register_handler("meets", meets)
        jobs = await queue.add_jobs([NewJob("meets")] * 8)
        await queue.start_processing()
        try:
            async with asyncio.timeout(LONG_S):
                ended = [await queue.wait(job.id) for job in jobs]
        finally:
            await queue.shutdown(0)

    assert {job.status for job in ended} == {JobStatus.COMPLETED}
