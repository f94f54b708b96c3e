"""Adding jobs and looking at them: what comes back, in which order, and that it is a copy."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from durably import (
    Job,
    JobContext,
    JobNotFoundError,
    JobPriority,
    JobQueueService,
    JobStatus,
    NewJob,
    PayloadError,
    RetryPolicy,
)

ODD_IDS = ["", "nobody", "é", "\0", "\udc80", "x" * 10_000, "'; --", "0" * 36]


async def ids(service: JobQueueService, **filters: Any) -> list[str]:
    return [job.id for job in await service.get_jobs(**filters)]


async def test_a_new_job_is_pending_with_the_contracts_defaults(queue: JobQueueService) -> None:
    """Every field of a job that has just been added."""
    before = datetime.now(UTC)
    job = await queue.add_job("mail", {"to": "ada"})
    after = datetime.now(UTC)

    assert before - timedelta(seconds=1) <= job.created_at <= after + timedelta(seconds=1)
    assert job == Job(
        id=job.id,
        type="mail",
        payload={"to": "ada"},
        status=JobStatus.PENDING,
        priority=JobPriority.NORMAL,
        attempts=0,
        max_attempts=3,
        created_at=job.created_at,
        processed_at=None,
        completed_at=None,
        next_retry_at=None,
        error=None,
        queue="default",
        run_at=None,
        result=None,
        progress=None,
        errors=(),
        tags=(),
        unique_key=None,
        crashes=0,
        worker=None,
        cancelled=False,
        parent=None,
    )
    assert await queue.get_job(job.id) == job


async def test_every_option_is_kept(queue: JobQueueService) -> None:
    """What is given to add_job is in the job."""
    run_at = datetime(2035, 1, 2, 3, 4, 5, 678901, UTC)
    job = await queue.add_job(
        "mail",
        [1, "zwei", None, 3.5],
        priority=JobPriority.CRITICAL,
        max_attempts=7,
        run_at=run_at,
        queue="slow",
        unique_key="only",
        tags=["a", "b"],
    )

    assert await queue.get_job(job.id) == job
    assert job.payload == [1, "zwei", None, 3.5]
    assert (job.priority, job.max_attempts, job.queue) == (JobPriority.CRITICAL, 7, "slow")
    assert (job.unique_key, job.tags, job.run_at) == ("only", ("a", "b"), run_at)


async def test_times_are_aware_and_utc(queue: JobQueueService) -> None:
    """Every time of a finished job has the UTC zone, whatever zone it was given in."""

    async def handler(job: JobContext) -> None:
        if job.attempts == 1:
            raise ValueError("once")

    queue.register_handler("mail", handler)
    await queue.start_processing()
    there = datetime.fromisoformat("2020-01-01T12:00:00+05:30")
    job = await queue.wait((await queue.add_job("mail", run_at=there)).id, timeout=5)

    assert job.run_at == there
    times = [job.run_at, job.created_at, job.processed_at, job.completed_at, job.errors[0].at]
    assert all(t is not None and t.tzinfo is UTC for t in times)


async def test_a_type_that_nobody_knows_is_accepted(queue: JobQueueService) -> None:
    """A worker elsewhere may know it: it stays pending here."""
    await queue.start_processing()
    job = await queue.add_job("nobody's")

    assert job.status is JobStatus.PENDING


async def test_delay_sets_when_the_job_may_run(queue: JobQueueService) -> None:
    """A delayed job is pending, its `run_at` that many seconds after its creation."""
    job = await queue.add_job("mail", delay=90.25)

    assert job.status is JobStatus.PENDING
    assert job.run_at is not None
    assert job.run_at - job.created_at == timedelta(seconds=90.25)


async def test_a_time_that_has_passed_is_now(queue: JobQueueService) -> None:
    """A job whose `run_at` lies behind runs at once."""

    async def handler(job: JobContext) -> str:
        return "ran"

    queue.register_handler("mail", handler)
    await queue.start_processing()
    job = await queue.add_job("mail", run_at=datetime(1999, 1, 1, tzinfo=UTC))

    assert (await queue.wait(job.id, timeout=5)).result == "ran"


async def test_max_attempts_come_from_the_policy(url: str) -> None:
    """The service's policy, the handler's own policy, then the call decide."""

    async def handler(job: JobContext) -> None: ...

    async with JobQueueService(url, retry=RetryPolicy(max_attempts=5)) as queue:
        queue.register_handler("own", handler, retry=RetryPolicy(max_attempts=2))

        assert (await queue.add_job("mail")).max_attempts == 5
        assert (await queue.add_job("own")).max_attempts == 2
        assert (await queue.add_job("own", max_attempts=9)).max_attempts == 9


async def test_ids_sort_by_time(queue: JobQueueService) -> None:
    """Ids are UUIDv7: later jobs have larger ids, also within one millisecond."""
    one_by_one = [(await queue.add_job("mail")).id for _ in range(20)]
    together = [job.id for job in await queue.add_jobs([NewJob("mail")] * 500)]

    assert sorted(one_by_one + together) == one_by_one + together
    assert len(set(together)) == 500
    assert {UUID(name).version for name in together} == {7}


async def test_a_snapshot_cannot_be_changed(queue: JobQueueService) -> None:
    """Assigning to a field of a Job raises."""
    job = await queue.add_job("mail")

    with pytest.raises(AttributeError):
        job.status = JobStatus.COMPLETED  # type: ignore[misc]  # that is the point
    with pytest.raises(AttributeError):
        (await queue.get_stats()).total_jobs = 9  # type: ignore[misc]  # that is the point


async def test_a_snapshot_does_not_change(queue: JobQueueService) -> None:
    """A Job is how the job was, not how it is."""

    async def handler(job: JobContext) -> None: ...

    queue.register_handler("mail", handler)
    added = await queue.add_job("mail")
    copy = msgspec.structs.replace(added)
    await queue.start_processing()
    done = await queue.wait(added.id, timeout=5)

    assert added == copy
    assert added.status is JobStatus.PENDING
    assert done.status is JobStatus.COMPLETED


async def test_changing_a_payload_changes_no_job(queue: JobQueueService) -> None:
    """Neither the caller's object nor a returned one is the queue's own."""
    given = {"list": [1]}
    added = await queue.add_job("mail", given)
    given["list"].append(2)
    added.payload["list"].append(3)
    (listed,) = await queue.get_jobs()
    listed.payload.clear()
    read = await queue.get_job(added.id)

    assert read is not None
    assert read.payload == {"list": [1]}


async def test_changing_a_payload_in_a_handler_changes_no_job(queue: JobQueueService) -> None:
    """The next attempt gets the payload that was added; the result is a copy too."""
    seen: list[Any] = []
    result = {"n": [1]}

    async def handler(job: JobContext) -> dict[str, Any]:
        seen.append(list(job.payload["list"]))
        job.payload["list"].append("dirt")
        if job.attempts == 1:
            raise ValueError("once")
        return result

    queue.register_handler("mail", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("mail", {"list": [1]})).id, timeout=5)
    result["n"].append(2)
    job.result["n"].append(3)
    read = await queue.get_job(job.id)

    assert seen == [[1], [1]]
    assert read is not None
    assert (read.payload, read.result) == ({"list": [1]}, {"n": [1]})


async def test_add_jobs_answers_in_the_order_given(queue: JobQueueService) -> None:
    """Each NewJob yields its job, with its own options, in one call."""
    jobs = await queue.add_jobs(
        [
            NewJob("a", {"n": 1}, priority=JobPriority.LOW),
            NewJob("b", delay=60, tags=["t"]),
            NewJob(type="c", queue="slow", max_attempts=1),
        ]
    )

    assert [job.type for job in jobs] == ["a", "b", "c"]
    assert jobs[0].priority is JobPriority.LOW
    assert (jobs[1].tags, jobs[1].run_at is not None) == (("t",), True)
    assert (jobs[2].queue, jobs[2].max_attempts) == ("slow", 1)
    assert [await queue.get_job(job.id) for job in jobs] == jobs
    assert await queue.add_jobs([]) == []


async def test_add_jobs_is_all_or_nothing(queue: JobQueueService) -> None:
    """One bad job among good ones: an error, and no job."""
    with pytest.raises(PayloadError):
        await queue.add_jobs([NewJob("a"), NewJob("b", object()), NewJob("c")])

    assert await queue.get_jobs() == []
    assert (await queue.get_stats()).total_jobs == 0


@pytest.mark.parametrize("id", ODD_IDS)
async def test_any_unknown_text_is_simply_unknown(queue: JobQueueService, id: str) -> None:
    """get_job answers None, whatever the text; the other calls raise JobNotFoundError."""
    await queue.add_job("mail")

    assert await queue.get_job(id) is None
    for call in (queue.cancel_job, queue.retry_job, queue.explain, queue.wait):
        with pytest.raises(JobNotFoundError):
            await call(id)
    with pytest.raises(JobNotFoundError):
        await queue.get_jobs(after=id)
    with pytest.raises(JobNotFoundError):
        await queue.retry_job(id, payload=1)


async def test_jobs_are_listed_by_priority_then_age(queue: JobQueueService) -> None:
    """Highest priority first, then oldest, whatever their status."""
    low = await queue.add_job("a", priority=JobPriority.LOW)
    first = await queue.add_job("a", delay=60)
    second = await queue.add_job("a")
    high = await queue.add_job("a", priority=JobPriority.HIGH)
    await queue.cancel_job(second.id)

    assert await ids(queue) == [high.id, first.id, second.id, low.id]


async def test_filters_are_anded(queue: JobQueueService) -> None:
    """Status, type and queue narrow the list together; a status may be its value."""
    a = await queue.add_job("a")
    b = await queue.add_job("b")
    slow = await queue.add_job("a", queue="slow")
    gone = await queue.add_job("a")
    await queue.cancel_job(gone.id)

    assert await ids(queue, type="a") == [a.id, slow.id, gone.id]
    assert await ids(queue, queue="default") == [a.id, b.id, gone.id]
    assert await ids(queue, status=JobStatus.PENDING) == [a.id, b.id, slow.id]
    assert await ids(queue, status="cancelled") == [gone.id]
    assert await ids(queue, status=JobStatus.PENDING, type="a", queue="slow") == [slow.id]
    assert await ids(queue, status=JobStatus.FAILED, type="a") == []
    assert await ids(queue, type="unheard of") == []


async def test_a_list_is_limited_to_100_unless_told(queue: JobQueueService) -> None:
    """`limit` defaults to 100."""
    await queue.add_jobs([NewJob("a")] * 120)

    assert len(await queue.get_jobs()) == 100
    assert len(await queue.get_jobs(limit=7)) == 7
    assert len(await queue.get_jobs(limit=500)) == 120


async def test_pages_meet_without_gap_or_overlap(queue: JobQueueService) -> None:
    """`after` continues after that job, also when jobs are added in between."""
    jobs = [NewJob("a", priority=JobPriority(n % 4 + 1)) for n in range(23)]
    await queue.add_jobs(jobs)
    whole = await ids(queue)

    pages: list[str] = []
    while page := await ids(queue, limit=5, after=pages[-1] if pages else None):
        pages += page
        await queue.add_job("a", priority=JobPriority.CRITICAL)

    known = [name for name in pages if name in whole]
    assert known == whole


async def test_a_page_keeps_to_its_filters(queue: JobQueueService) -> None:
    """Paging and filters together; the job of `after` need not match."""
    a = [(await queue.add_job("a")).id for _ in range(3)]
    b = await queue.add_job("b")
    a += [(await queue.add_job("a")).id for _ in range(3)]

    assert await ids(queue, type="a", limit=2, after=a[1]) == a[2:4]
    assert await ids(queue, type="a", after=b.id) == a[3:]
