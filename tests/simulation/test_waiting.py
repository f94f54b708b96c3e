import asyncio

import pytest

from durably import JobQueueService
from durably.store import NoticeKind
from durably.stores.memory import MemoryStore
from durably.testing import capture, until


async def test_capture_waits_for_what_its_block_brings_about() -> None:
    """Three finished jobs end it, however many notices tell of them."""
    async with JobQueueService("memory://", concurrency=3) as queue:
        queue.register_handler("work", lambda job: job.payload)
        await queue.start_processing()
        async with capture(queue, NoticeKind.FINISHED, count=3) as notices:
            jobs = [await queue.add_job("work", n) for n in range(3)]

        assert {job_id for notice in notices for job_id in notice.ids} == {job.id for job in jobs}


async def test_capture_says_what_was_missing() -> None:
    """TimeoutError tells how many came of how many."""
    async with JobQueueService("memory://") as queue:
        job = await queue.add_job("nobody")
        with pytest.raises(TimeoutError, match=r"expected 2 notices of kind finished .* got 1"):
            async with capture(queue, NoticeKind.FINISHED, count=2, timeout=0.02):
                await queue.cancel_job(job.id)


async def test_capture_passes_on_what_its_block_raises() -> None:
    """It then waits for nothing, and listens no more."""
    store = MemoryStore()
    with pytest.raises(TimeoutError, match="mine"):
        async with capture(store, NoticeKind.READY):
            raise TimeoutError("mine")

    assert store._listeners == []


async def test_until_looks_again_and_again() -> None:
    """A plain or an async condition; it ends as soon as that holds."""
    looks = 0

    def plain() -> bool:
        nonlocal looks
        looks += 1
        return looks == 3

    async def slow() -> bool:
        await asyncio.sleep(0)
        return looks == 3

    await until(plain, interval=0.001)
    await until(slow, timeout=0.0)

    assert looks == 3


async def test_until_gives_up() -> None:
    """TimeoutError after the time; what the condition raises comes through."""
    with pytest.raises(TimeoutError, match=r"did not come to hold within 0.01 s"):
        await until(lambda: False, timeout=0.01, interval=0.001)
    with pytest.raises(ZeroDivisionError):
        await until(lambda: 1 / 0 > 0)
