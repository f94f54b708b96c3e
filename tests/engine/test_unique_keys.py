"""Unique keys: one live job for each type and key."""

import asyncio

import pytest
from tests.engine.support import happened

from durably import (
    Cancel,
    Fail,
    JobContext,
    JobPriority,
    JobQueueService,
    JobStateError,
    JobStatus,
    NewJob,
    Snooze,
    UniqueKeyTakenError,
)
from durably.store import Store


async def test_a_second_enqueue_returns_the_first_job_unchanged(queue: JobQueueService) -> None:
    """Whatever else it asks for; nothing is added."""
    first = await queue.add_job("a", {"n": 1}, unique_key="k")
    second = await queue.add_job(
        "a",
        {"n": 2},
        unique_key="k",
        priority=JobPriority.HIGH,
        delay=60,
        tags=["x"],
        queue="other",
    )

    assert second == first
    assert await queue.get_jobs() == [first]
    assert (await queue.get_stats()).total_jobs == 1


async def test_a_key_belongs_to_a_type(queue: JobQueueService) -> None:
    """Other types, other keys and no key do not meet."""
    jobs = [
        await queue.add_job("a", unique_key="k"),
        await queue.add_job("b", unique_key="k"),
        await queue.add_job("a", unique_key="l"),
        await queue.add_job("a"),
        await queue.add_job("a"),
    ]

    assert len({job.id for job in jobs}) == 5


async def test_fifty_at_once_add_one_job(queue: JobQueueService) -> None:
    """A race has one winner, and everybody gets its job."""
    jobs = await asyncio.gather(*(queue.add_job("a", n, unique_key="k") for n in range(50)))

    assert len({job.id for job in jobs}) == 1
    assert len(await queue.get_jobs()) == 1


async def test_fifty_at_once_from_two_services(sqlite_url: str) -> None:
    """The same when two services on one file race."""
    async with JobQueueService(sqlite_url) as one, JobQueueService(sqlite_url) as two:
        jobs = await asyncio.gather(
            *((one, two)[n % 2].add_job("a", n, unique_key="k") for n in range(50))
        )

        assert len({job.id for job in jobs}) == 1
        assert (await two.get_stats()).total_jobs == 1


async def test_a_batch_keeps_the_rule_within_itself(queue: JobQueueService) -> None:
    """add_jobs gives the same job for the same key, in the order asked."""
    held = await queue.add_job("a", unique_key="held")
    jobs = await queue.add_jobs(
        [
            NewJob("a", 1, unique_key="k"),
            NewJob("a", 2),
            NewJob("a", 3, unique_key="k"),
            NewJob("a", 4, unique_key="held"),
        ]
    )

    assert jobs[0] == jobs[2]
    assert jobs[3] == held
    assert [job.payload for job in jobs[:2]] == [1, 2]
    assert (await queue.get_stats()).total_jobs == 3


async def test_a_key_is_held_while_pending_scheduled_and_processing(queue: JobQueueService) -> None:
    """A snoozed, a retried and a running job all hold their key."""
    seen: list[str] = []
    running = asyncio.Event()

    async def handler(job: JobContext) -> None:
        seen.append((await queue.add_job("a", unique_key="k")).id)
        if len(seen) == 1:
            raise Snooze(0)
        if len(seen) == 2:
            raise ValueError("once")
        running.set()

    queue.register_handler("a", handler)
    job = await queue.add_job("a", unique_key="k", delay=0.01)
    assert (await queue.add_job("a", unique_key="k")).id == job.id
    await queue.start_processing()
    await happened(running)
    await queue.wait(job.id, timeout=5)

    assert seen == [job.id] * 3


@pytest.mark.parametrize("end", [None, Fail("why"), Cancel("why")])
async def test_a_final_status_frees_the_key(queue: JobQueueService, end: Exception | None) -> None:
    """Completed, failed or cancelled: the next enqueue adds a job."""

    async def handler(job: JobContext) -> None:
        if end is not None:
            raise end

    queue.register_handler("a", handler)
    await queue.start_processing()
    first = await queue.add_job("a", unique_key="k")
    await queue.wait(first.id, timeout=5)
    await queue.stop_processing()
    second = await queue.add_job("a", unique_key="k")

    assert second.id != first.id
    assert second.status is JobStatus.PENDING


async def test_cancel_job_frees_the_key(queue: JobQueueService) -> None:
    """Of a pending job at once."""
    first = await queue.add_job("a", unique_key="k")
    await queue.cancel_job(first.id)

    assert (await queue.add_job("a", unique_key="k")).id != first.id


async def test_a_persons_retry_needs_the_key(queue: JobQueueService) -> None:
    """A taken key raises and changes nothing; a free one is taken again."""
    first = await queue.add_job("a", unique_key="k")
    gone = await queue.cancel_job(first.id)
    second = await queue.add_job("a", unique_key="k")

    with pytest.raises(UniqueKeyTakenError, match=second.id) as caught:
        await queue.retry_job(first.id)
    with pytest.raises(UniqueKeyTakenError):
        await queue.retry_job(first.id, payload=2)
    assert isinstance(caught.value, JobStateError)
    assert await queue.get_job(first.id) == gone

    await queue.cancel_job(second.id)
    again = await queue.retry_job(first.id)
    assert (again.id, again.unique_key) == (first.id, "k")
    assert (await queue.add_job("a", unique_key="k")).id == first.id


async def test_a_follow_up_with_a_taken_key_adds_nothing(queue: JobQueueService) -> None:
    """The outcome is recorded all the same."""
    held = await queue.add_job("child", "first", unique_key="k")

    async def handler(job: JobContext) -> None:
        job.add_job("child", "second", unique_key="k")
        job.add_job("child", "third", unique_key="other")

    queue.register_handler("a", handler)
    await queue.start_processing()
    done = await queue.wait((await queue.add_job("a")).id, timeout=5)
    children = await queue.get_jobs(type="child")

    assert done.status is JobStatus.COMPLETED
    assert [job.payload for job in children] == ["first", "third"]
    assert children[0] == held


async def test_services_on_one_store_share_the_keys(store: Store) -> None:
    """The key is the store's, not the service's."""
    async with JobQueueService(store) as one, JobQueueService(store) as two:
        first = await one.add_job("a", unique_key="k")

        assert await two.add_job("a", unique_key="k") == first


async def test_odd_keys_are_keys(queue: JobQueueService) -> None:
    """Case, spaces and quotes count; nothing is normalised."""
    keys = ["k", "K", " k", "k ", "'", "é", "e\u0301", "k" * 500]
    jobs = [await queue.add_job("a", unique_key=key) for key in keys]

    assert len({job.id for job in jobs}) == len(keys)
    assert [job.unique_key for job in jobs] == keys
