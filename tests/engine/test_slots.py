import asyncio
from collections.abc import Callable
from contextvars import ContextVar

from tests.engine.support import LONG_S

from durably import Job, JobContext, JobQueueService, JobStatus, NewJob

left_behind: ContextVar[str] = ContextVar("left_behind", default="nothing")


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
    seen: list[str] = []

    async def leaves(job: JobContext) -> None:
        seen.append(left_behind.get())
        left_behind.set("something")

    async def waits(job: JobContext) -> None:
        await asyncio.sleep(0)
        await leaves(job)

    await run(url, ["leaves", "waits"] * 50, leaves=leaves, waits=waits)

    assert seen == ["nothing"] * 100


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
