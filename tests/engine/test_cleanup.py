"""cleanup: exactly the finished jobs that are old enough, by hand and by itself (Q10, Q14)."""

import asyncio

import pytest
from tests.engine.support import gone

from durably import JobContext, JobQueueService, NewJob, RetryPolicy


async def nothing(job: JobContext) -> None: ...


async def test_only_old_finished_jobs_go(queue: JobQueueService) -> None:
    """Pending, scheduled, retrying and young finished jobs stay; the number is returned."""

    async def fail(job: JobContext) -> None:
        raise ValueError

    queue.register_handler("done", nothing)
    queue.register_handler("fail", fail, retry=RetryPolicy(max_attempts=1))
    queue.register_handler("retry", fail, retry=RetryPolicy(base_delay=100))
    await queue.start_processing()
    old = [await queue.add_job(name) for name in ("done", "fail")]
    old.append(await queue.cancel_job((await queue.add_job("gone", unique_key="k")).id))
    for job in old:
        await queue.wait(job.id, timeout=5)
    live = [
        await queue.add_job("retry"),
        await queue.add_job("nobody's"),
        await queue.add_job("x", delay=60),
    ]
    # A store's clock cannot be moved; this is far more than a busy machine holds up.
    await asyncio.sleep(1.0)
    young = await queue.wait((await queue.add_job("done")).id, timeout=5)

    assert await queue.cleanup() == 0
    assert await queue.cleanup(older_than=0.6) == 3
    assert await queue.cleanup(older_than=0.6) == 0
    assert [await queue.get_job(job.id) for job in old] == [None] * 3
    assert await queue.get_job(young.id) == young
    assert {job.id for job in await queue.get_jobs()} == {job.id for job in [*live, young]}


async def test_age_counts_from_the_end(queue: JobQueueService) -> None:
    """A job that was added long ago and has just ended is young."""
    job = await queue.add_job("done")
    await asyncio.sleep(1.0)
    queue.register_handler("done", nothing)
    await queue.start_processing()
    await queue.wait(job.id, timeout=5)

    assert await queue.cleanup(0.9) == 0


async def test_a_retried_job_is_no_finished_job(queue: JobQueueService) -> None:
    """A person's retry takes it out of the clean-up's reach."""
    job = await queue.cancel_job((await queue.add_job("done")).id)
    await asyncio.sleep(0.01)
    await queue.retry_job(job.id)

    assert await queue.cleanup(0) == 0


async def test_many_go_in_one_call(queue: JobQueueService) -> None:
    """More than a batch."""
    jobs = await queue.add_jobs([NewJob("a")] * 1300)
    await asyncio.gather(*(queue.cancel_job(job.id) for job in jobs))
    await asyncio.sleep(0.01)

    assert await queue.cleanup(0) == 1300
    assert await queue.get_jobs() == []


@pytest.mark.parametrize("stop", [False, True])
async def test_it_runs_by_itself(url: str, stop: bool) -> None:
    """A processing service removes what is older than its retention, stopped or not."""
    async with JobQueueService(url, retention=0.2) as queue:
        queue.register_handler("done", nothing)
        await queue.start_processing()
        job = await queue.wait((await queue.add_job("done")).id, timeout=5)
        if stop:
            await queue.stop_processing()
        await gone(queue, job.id)


@pytest.mark.parametrize("processing", [False, True])
async def test_shutdown_cleans_up(url: str, processing: bool) -> None:
    """By the service's retention, whether it has processed or only added jobs."""
    async with JobQueueService(url, retention=0.05) as queue:
        old = await queue.cancel_job((await queue.add_job("a")).id)
        live = await queue.add_job("a")
        await asyncio.sleep(0.06)
        if processing:
            await queue.start_processing()
        await queue.shutdown()

        assert await queue.get_job(old.id) is None
        assert await queue.get_job(live.id) == live


async def test_a_day_is_kept_by_default(queue: JobQueueService) -> None:
    """Nothing of today goes."""
    job = await queue.cancel_job((await queue.add_job("a")).id)
    await queue.start_processing()
    await queue.shutdown()

    assert await queue.cleanup() == 0
    assert await queue.get_job(job.id) == job


async def test_a_key_is_free_after_clean_up(queue: JobQueueService) -> None:
    """Nothing of a removed job remains, its id is unknown."""
    job = await queue.cancel_job((await queue.add_job("a", unique_key="k")).id)
    await asyncio.sleep(0.001)
    await queue.cleanup(0)
    again = await queue.add_job("a", unique_key="k")

    assert again.id != job.id
    with pytest.raises(LookupError):
        await queue.retry_job(job.id)
