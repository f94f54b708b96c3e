"""What has become ready runs at once: the processing interval is a backstop (Q2, Q3)."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.engine.support import happened, until

from durably import (
    JobContext,
    JobQueueService,
    JobStatus,
    NewJob,
    Retry,
    RetryPolicy,
    Snooze,
    StoreBusyError,
)
from durably.store import Store

SLOW = 60.0
"""A processing interval that no test waits for."""
PROMPT_S = 2.0


async def echo(job: JobContext) -> object:
    return job.payload


@pytest.fixture
async def queue(url: str) -> AsyncIterator[JobQueueService]:
    """A service that processes, idle, and looks by itself once a minute."""
    policy = RetryPolicy(base_delay=0.05, jitter=0)
    async with JobQueueService(url, processing_interval=SLOW, retry=policy) as service:
        service.register_handler("echo", echo)
        await service.start_processing()
        # It has looked once and found nothing more to do.
        await service.wait((await service.add_job("echo")).id, timeout=5)
        yield service
        await service.shutdown(0)


async def test_an_added_job_runs_at_once(queue: JobQueueService) -> None:
    """One by one and in a batch."""
    began = time.monotonic()
    for n in range(5):
        done = await queue.wait((await queue.add_job("echo", n)).id, timeout=PROMPT_S)
        assert done.result == n
    for job in await queue.add_jobs([NewJob("echo")] * 5):
        await queue.wait(job.id, timeout=PROMPT_S)

    assert time.monotonic() - began < PROMPT_S


async def test_a_delayed_job_runs_when_its_time_comes(queue: JobQueueService) -> None:
    """By delay and by time, added one by one and in a batch; never before."""
    soon = datetime.now(UTC) + timedelta(seconds=0.1)
    jobs = [
        await queue.add_job("echo", delay=0.1),
        await queue.add_job("echo", run_at=soon),
        *await queue.add_jobs([NewJob("echo", delay=0.15), NewJob("echo", delay=0.05)]),
    ]
    for job in jobs:
        done = await queue.wait(job.id, timeout=PROMPT_S)

        assert job.run_at is not None
        assert done.processed_at is not None
        assert timedelta(0) <= done.processed_at - job.run_at < timedelta(seconds=0.5)


async def test_a_delayed_job_of_another_service_runs_when_its_time_comes(store: Store) -> None:
    """A service that only adds jobs wakes the one that runs them, for later too."""
    async with (
        JobQueueService(store, processing_interval=SLOW) as worker,
        JobQueueService(store) as producer,
    ):
        worker.register_handler("echo", echo)
        await worker.start_processing()
        await worker.wait((await producer.add_job("echo")).id, timeout=PROMPT_S)
        job = await producer.add_job("echo", delay=0.1)
        done = await producer.wait(job.id, timeout=PROMPT_S)

    assert done.status is JobStatus.COMPLETED


async def test_a_retry_runs_when_its_delay_ends(queue: JobQueueService) -> None:
    """By the policy and by the handler's own word."""

    async def handler(job: JobContext) -> None:
        if job.attempts == 1:
            raise ValueError("policy")
        if job.attempts == 2:
            raise Retry(delay=0.05)

    queue.register_handler("flaky", handler)
    done = await queue.wait((await queue.add_job("flaky")).id, timeout=PROMPT_S)

    assert (done.status, done.attempts) == (JobStatus.COMPLETED, 3)


async def test_a_snoozed_job_runs_when_its_time_comes(queue: JobQueueService) -> None:
    """Snooze is a delay like any other."""
    runs: list[float] = []

    async def handler(job: JobContext) -> None:
        runs.append(time.monotonic())
        if len(runs) < 3:
            raise Snooze(0.05)

    queue.register_handler("lazy", handler)
    await queue.wait((await queue.add_job("lazy")).id, timeout=PROMPT_S)

    assert all(0.05 <= b - a < 0.5 for a, b in itertools.pairwise(runs))


async def test_a_delayed_follow_up_runs_when_its_time_comes(queue: JobQueueService) -> None:
    """What commits with an outcome is no exception."""
    ran = asyncio.Event()

    async def child(job: JobContext) -> None:
        ran.set()

    async def parent(job: JobContext) -> None:
        job.add_job("child", delay=0.05)

    queue.register_handler("child", child)
    queue.register_handler("parent", parent)
    await queue.add_job("parent")
    async with asyncio.timeout(PROMPT_S):
        await ran.wait()


async def test_a_resumed_queue_runs_at_once(queue: JobQueueService) -> None:
    """What waited for the pause to end starts with it."""
    await queue.pause("default")
    job = await queue.add_job("echo", 1)
    await queue.resume("default")
    done = await queue.wait(job.id, timeout=PROMPT_S)

    assert done.result == 1


async def test_a_persons_retry_runs_at_once(queue: JobQueueService) -> None:
    """The same as an added job."""
    job = await queue.wait((await queue.add_job("echo", 1)).id, timeout=PROMPT_S)
    await queue.retry_job(job.id, payload=2)
    done = await queue.wait(job.id, timeout=PROMPT_S)

    assert done.result == 2


async def test_a_new_handler_finds_its_jobs_at_once(queue: JobQueueService) -> None:
    """Jobs that waited for a handler start when it is registered."""
    job = await queue.add_job("late", 1)
    queue.register_handler("late", echo)
    done = await queue.wait(job.id, timeout=PROMPT_S)

    assert done.result == 1


async def test_a_restart_finds_its_jobs_at_once(queue: JobQueueService) -> None:
    """start_processing looks first."""
    await queue.stop_processing()
    job = await queue.add_job("echo", 1)
    await queue.start_processing()

    assert (await queue.wait(job.id, timeout=PROMPT_S)).result == 1


async def test_a_slot_set_free_is_used_at_once(url: str) -> None:
    """A bounded type's next job starts when the one before has ended."""
    async with JobQueueService(url, processing_interval=SLOW, concurrency=4) as queue:
        queue.register_handler("echo", echo, max_concurrency=1)
        await queue.start_processing()
        jobs = await queue.add_jobs([NewJob("echo", n) for n in range(30)])
        for job in jobs:
            await queue.wait(job.id, timeout=PROMPT_S)


async def test_jobs_returned_by_one_service_are_found_by_the_other(store: Store) -> None:
    """A job given back at a shutdown wakes whoever could run it."""
    running = asyncio.Event()

    async def block(job: JobContext) -> None:
        running.set()
        await asyncio.Event().wait()

    async with (
        JobQueueService(store, processing_interval=SLOW) as one,
        JobQueueService(store, processing_interval=SLOW) as two,
    ):
        one.register_handler("a", block)
        two.register_handler("a", echo)
        two.register_handler("idle", echo)
        await one.start_processing()
        job = await one.add_job("a", 1)
        await happened(running)
        await two.start_processing()
        await two.wait((await two.add_job("idle")).id, timeout=PROMPT_S)
        assert await one.shutdown(0) == 1
        done = await two.wait(job.id, timeout=PROMPT_S)

    assert (done.result, done.attempts) == (1, 1)


async def test_a_finished_job_wakes_who_waits(queue: JobQueueService) -> None:
    """Wait does not poll for what ends here: a hundred take no hundred polls."""
    began = time.monotonic()
    for _ in range(100):
        await queue.wait((await queue.add_job("echo")).id, timeout=PROMPT_S)

    assert time.monotonic() - began < 3


async def test_two_services_on_one_file_wake_each_other(sqlite_url: str) -> None:
    """Each has its own connection; the nudge reaches the other at once."""
    async with (
        JobQueueService(sqlite_url, processing_interval=SLOW) as worker,
        JobQueueService(sqlite_url) as producer,
    ):
        worker.register_handler("echo", echo)
        await worker.start_processing()
        first = await producer.add_job("echo", 1)
        await until(producer, first.id, lambda job: job.status.is_final)
        second = await producer.add_job("echo", 2, delay=0.05)
        done = await producer.wait(second.id, timeout=PROMPT_S)

    assert done.result == 2


async def test_a_store_that_fails_once_is_asked_again_soon(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outcome that could not be recorded is not kept back for a whole interval."""
    failures: list[str] = []
    exchange: Any = store.exchange

    async def fails_with_the_first_outcome(*args: Any, **options: Any) -> Any:
        if options.get("outcomes") and not failures:
            failures.append("failed")
            raise StoreBusyError("locked by a backup")
        return await exchange(*args, **options)

    monkeypatch.setattr(store, "exchange", fails_with_the_first_outcome)
    async with JobQueueService(store, processing_interval=SLOW) as queue:
        queue.register_handler("echo", echo)
        await queue.start_processing()
        done = await queue.wait((await queue.add_job("echo", 1)).id, timeout=2 * PROMPT_S)
        again = await queue.wait((await queue.add_job("echo", 2)).id, timeout=PROMPT_S)

    assert failures == ["failed"]
    assert (done.result, done.attempts, again.result) == (1, 1, 2)


# Woken by their keys


async def test_a_snoozed_job_is_woken(queue: JobQueueService) -> None:
    """It runs at once, on the attempt that it was on; who names no sleeping job wakes nobody."""
    seen: list[int] = []

    async def nap(job: JobContext) -> None:
        seen.append(job.attempts)
        if len(seen) == 1:
            raise Snooze(SLOW)

    queue.register_handler("nap", nap)
    job = await queue.add_job("nap", unique_key="k")
    await until(queue, job.id, lambda found: found.run_at is not None)
    assert await queue.wake("nap", ["unknown"]) == 0
    assert await queue.wake("nap", ["k"]) == 1
    await queue.wait(job.id, timeout=PROMPT_S)

    assert seen == [1, 1]


async def test_any_number_is_woken(queue: JobQueueService) -> None:
    """More keys than fit in one transaction go with one call."""
    keys = [f"k-{number}" for number in range(2_100)]
    await queue.add_jobs([NewJob("echo", delay=SLOW, unique_key=key) for key in keys])

    assert await queue.count_live("echo") == len(keys)
    assert await queue.wake("echo", keys) == len(keys)


async def test_live_jobs_are_counted_by_type(queue: JobQueueService) -> None:
    """Final ones are not, nor those of other types."""
    await queue.add_job("nap")
    await queue.add_job("echo", delay=SLOW)

    assert await queue.count_live("nap") == 1
    assert await queue.count_live("echo") == 1
    assert await queue.count_live("unknown") == 0
