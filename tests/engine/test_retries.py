"""Retries: how often, when, and what is remembered of each failed attempt (Q3, Q11)."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from tests.engine.support import until

from durably import JobContext, JobQueueService, JobStatus, Retry, RetryPolicy


class FlakyError(Exception):
    pass


class HopelessError(FlakyError):
    pass


def test_the_delay_doubles_up_to_its_maximum() -> None:
    """Without jitter the delay is `min(base * 2**(n-1), max)` exactly."""
    policy = RetryPolicy(base_delay=1.5, max_delay=10, jitter=0)

    assert [policy.delay_after(n) for n in range(1, 6)] == [1.5, 3.0, 6.0, 10.0, 10.0]
    assert policy.delay_after(10_000) == 10.0
    assert RetryPolicy(base_delay=900, jitter=0).delay_after(1) == 300.0
    assert RetryPolicy(base_delay=0, max_delay=0, jitter=0).delay_after(1) == 0.0


@pytest.mark.parametrize("jitter", [0.5, 1.0])
def test_jitter_draws_from_the_upper_part_of_the_delay(jitter: float) -> None:
    """Uniform in `[(1-jitter)*delay, delay]`, from the given source of chance."""
    policy = RetryPolicy(base_delay=8, max_delay=8, jitter=jitter)
    drawn = [policy.delay_after(1, random=Random(seed)) for seed in range(2000)]

    assert min(drawn) >= 8 * (1 - jitter)
    assert max(drawn) <= 8
    assert min(drawn) < 8 * (1 - jitter) + 0.1
    assert max(drawn) > 7.9
    assert abs(sum(drawn) / len(drawn) - 8 * (1 - jitter / 2)) < 0.2
    assert [policy.delay_after(1, random=Random(s)) for s in range(2000)] == drawn
    assert len({policy.delay_after(1) for _ in range(20)}) > 1


async def test_a_job_is_tried_three_times_by_default(queue: JobQueueService) -> None:
    """Three attempts, then failed, with one entry for each."""
    runs: list[int] = []

    async def handler(job: JobContext) -> None:
        runs.append(job.attempts)
        raise FlakyError(f"attempt {job.attempts}")

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert runs == [1, 2, 3]
    assert (job.status, job.attempts, job.max_attempts) == (JobStatus.FAILED, 3, 3)
    assert job.error == "attempt 3"
    assert [(e.attempt, e.kind, e.message) for e in job.errors] == [
        (n, "error", f"attempt {n}") for n in (1, 2, 3)
    ]
    assert job.completed_at is not None
    assert job.next_retry_at is None
    assert job.result is None
    assert job.processed_at is not None
    assert job.created_at <= job.errors[0].at <= job.errors[1].at <= job.errors[2].at
    assert job.errors[1].at <= job.processed_at <= job.errors[2].at <= job.completed_at


@pytest.mark.parametrize("most", [1, 2, 5])
async def test_max_attempts_counts_the_first(queue: JobQueueService, most: int) -> None:
    """`max_attempts=1` runs once."""
    runs: list[int] = []

    async def handler(job: JobContext) -> None:
        runs.append(job.attempts)
        raise FlakyError

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a", max_attempts=most)).id, timeout=5)

    assert (len(runs), job.status) == (most, JobStatus.FAILED)


async def test_what_is_remembered_of_a_failure(queue: JobQueueService) -> None:
    """The entry tells attempt, time, kind, message, and where it was raised."""

    async def handler(job: JobContext) -> None:
        raise FlakyError("the reason") from ValueError("the cause")

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a", max_attempts=1)).id, timeout=5)
    (entry,) = job.errors

    assert (entry.attempt, entry.kind, entry.message) == (1, "error", "the reason")
    assert entry.at.tzinfo is UTC
    assert abs(datetime.now(UTC) - entry.at) < timedelta(seconds=5)
    assert "the cause" in entry.traceback
    assert "FlakyError: the reason" in entry.traceback
    assert "in handler" in entry.traceback
    assert __file__ in entry.traceback


async def test_a_waiting_retry_shows_when_it_runs(url: str) -> None:
    """After attempt n it is pending, with the error and the exact time of the next attempt."""

    async def handler(job: JobContext) -> None:
        if job.attempts == 1:
            raise Retry("at once", delay=0)
        raise FlakyError("the second")

    policy = RetryPolicy(base_delay=600, max_delay=3600, jitter=0)
    async with JobQueueService(url, retry=policy) as queue:
        queue.register_handler("a", handler)
        await queue.start_processing()
        added = await queue.add_job("a")
        job = await until(queue, added.id, lambda job: len(job.errors) == 2)
        stats = await queue.get_stats()

    assert (job.status, job.attempts, job.error) == (JobStatus.PENDING, 2, "the second")
    assert job.next_retry_at is not None
    assert job.next_retry_at - job.errors[1].at == timedelta(seconds=1200)
    assert job.processed_at is not None
    assert job.completed_at is None
    assert (stats.pending_jobs, stats.scheduled_jobs) == (1, 1)


async def test_retries_are_spread_by_default(url: str) -> None:
    """Jobs that failed together do not come back together: half of the delay is drawn."""

    async def handler(job: JobContext) -> None:
        raise FlakyError

    async with JobQueueService(url, retry=RetryPolicy(base_delay=100)) as queue:
        queue.register_handler("a", handler)
        await queue.start_processing()
        ids = [(await queue.add_job("a")).id for _ in range(12)]
        jobs = [await until(queue, name, lambda job: bool(job.errors)) for name in ids]

    waits = [
        (job.next_retry_at - job.errors[0].at).total_seconds()
        for job in jobs
        if job.next_retry_at is not None
    ]
    assert all(50 <= wait <= 100 for wait in waits)
    assert len({round(wait) for wait in waits}) > 3


async def test_success_after_failures_clears_the_error(queue: JobQueueService) -> None:
    """Completed: `error` is None, `errors` keeps all, attempts count what was needed."""

    async def handler(job: JobContext) -> str:
        if job.attempts < 3:
            raise FlakyError("not yet")
        return "done"

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.status, job.attempts, job.result) == (JobStatus.COMPLETED, 3, "done")
    assert job.error is None
    assert [e.message for e in job.errors] == ["not yet", "not yet"]
    assert job.next_retry_at is None


async def test_the_handler_sees_its_history(queue: JobQueueService) -> None:
    """On the second attempt the context has the first one's error."""
    seen: list[object] = []

    async def handler(job: JobContext) -> None:
        seen.append((job.attempts, job.error, len(job.errors), job.next_retry_at))
        if job.attempts == 1:
            raise FlakyError("first")

    queue.register_handler("a", handler)
    await queue.start_processing()
    await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert seen == [(1, None, 0, None), (2, "first", 1, None)]


@pytest.mark.parametrize(
    ("policy", "error", "attempts"),
    [
        (RetryPolicy(base_delay=0, retry_on=FlakyError), FlakyError(), 3),  # type: ignore[arg-type]
        (RetryPolicy(base_delay=0, retry_on=(FlakyError,)), HopelessError(), 3),
        (RetryPolicy(base_delay=0, retry_on=(FlakyError,)), ValueError(), 1),
        (RetryPolicy(base_delay=0, give_up_on=(HopelessError,)), HopelessError(), 1),
        (RetryPolicy(base_delay=0, give_up_on=(HopelessError,)), FlakyError(), 3),
        (
            RetryPolicy(base_delay=0, retry_on=(FlakyError,), give_up_on=(HopelessError,)),
            HopelessError(),
            1,
        ),
        (RetryPolicy(base_delay=0, retry_on=(FlakyError,)), Retry(delay=0), 3),
    ],
)
async def test_permanent_errors_are_told_from_transient_ones(
    url: str, policy: RetryPolicy, error: Exception, attempts: int
) -> None:
    """`retry_on` and `give_up_on` decide; an explicit Retry is always granted."""

    async def handler(job: JobContext) -> None:
        raise error

    async with JobQueueService(url, retry=policy) as queue:
        queue.register_handler("a", handler)
        await queue.start_processing()
        job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.status, job.attempts) == (JobStatus.FAILED, attempts)


async def test_a_handler_has_its_own_policy(url: str) -> None:
    """`register_handler(retry=…)` goes before the service's policy."""

    async def handler(job: JobContext) -> None:
        raise FlakyError

    own = RetryPolicy(base_delay=0, max_attempts=2, give_up_on=(ValueError,))
    async with JobQueueService(url, retry=RetryPolicy(base_delay=3600)) as queue:
        queue.register_handler("a", handler, retry=own)
        await queue.start_processing()
        job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.status, job.attempts, job.max_attempts) == (JobStatus.FAILED, 2, 2)


async def test_a_second_registration_replaces_the_first(queue: JobQueueService) -> None:
    """The next job runs with the new handler."""

    async def one(job: JobContext) -> str:
        return "one"

    async def two(job: JobContext) -> str:
        return "two"

    queue.register_handler("a", one)
    await queue.start_processing()
    first = await queue.wait((await queue.add_job("a")).id, timeout=5)
    queue.register_handler("a", two)
    second = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (first.result, second.result) == ("one", "two")


def test_the_errors_of_a_policy_are_exception_types() -> None:
    """A single type stands for a tuple of one."""
    policy = RetryPolicy(retry_on=FlakyError, give_up_on=[HopelessError])  # type: ignore[arg-type]

    assert policy.retry_on == (FlakyError,)
    assert policy.give_up_on == (HopelessError,)
