"""search_jobs, match_ids, act_on_jobs, delete_job: what the façade checks and passes on."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durably import (
    Acted,
    BulkAction,
    JobNotFoundError,
    JobQueueService,
    JobStateError,
    JobStatus,
)


async def test_jobs_are_found_by_any_condition(queue: JobQueueService) -> None:
    """Each condition alone, and all of them together, lead to the job."""
    job = await queue.add_job("mail", {"to": "Ann"}, queue="slow", tags=["vip"])
    await queue.add_job("other")
    conditions: dict[str, Any] = {
        "statuses": ["pending"],
        "type": "mail",
        "queue": "slow",
        "tag": "vip",
        "text": "ann",
        "since": job.created_at,
        "until": job.created_at + timedelta(hours=1),
    }

    for name, value in conditions.items():
        found = (await queue.search_jobs(**{name: value})).jobs
        assert job in found, name
    assert (await queue.search_jobs(**conditions)).jobs == [job]
    assert (await queue.match_ids(**conditions)).ids == [job.id]
    assert (await queue.search_jobs(until=job.created_at)).jobs == []


async def test_pages_of_a_search_follow_each_other(queue: JobQueueService) -> None:
    """`next` of one is `after` of the following, newest first, until it is None."""
    jobs = [await queue.add_job("a", n) for n in range(5)]
    paged, after = [], None
    while True:
        page = await queue.search_jobs(limit=2, after=after)
        paged += page.jobs
        after = page.next
        if after is None:
            break

    assert paged == jobs[::-1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"statuses": "failed"},
        {"statuses": 3},
        {"statuses": ["lost"]},
        {"type": ""},
        {"type": 1},
        {"queue": "x" * 101},
        {"tag": "nul\0"},
        {"text": ""},
        {"text": "x" * 1_001},
        {"text": "\ud800"},
        {"since": "2026-01-01"},
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001  # naive on purpose
        {"until": datetime(1969, 12, 31, tzinfo=UTC)},
        {"limit": 0},
        {"limit": 10_001},
        {"after": 0},
        {"after": "1"},
        {"color": "red"},
    ],
)
async def test_wrong_conditions_are_named(queue: JobQueueService, wrong: dict[str, Any]) -> None:
    """TypeError or ValueError that says which, before the store is asked."""
    [name] = wrong
    for call in (queue.search_jobs, queue.match_ids):
        with pytest.raises((TypeError, ValueError), match=name.removesuffix("es")):
            await call(**wrong)


async def test_many_jobs_are_acted_on(queue: JobQueueService) -> None:
    """Cancelled, retried and deleted, by the action or its value, with changes."""
    ids = [(await queue.add_job("a")).id for _ in range(3)]
    for action in ("cancel", BulkAction.RETRY, "cancel", BulkAction.DELETE):
        changes = queue.changeset()
        changes.emit("acted", str(action), None)
        acted = await queue.act_on_jobs(action, [*ids, "unknown"], changes=changes)  # type: ignore[arg-type]  # a value
        assert acted == Acted(3, 1)

    assert await queue.get_jobs() == []
    assert len(await queue.get_events()) == 4


async def test_wrong_actions_are_refused(queue: JobQueueService) -> None:
    """An unknown action, a text for a list, what is no id, too many."""
    act: Any = queue.act_on_jobs
    for action, ids in (
        ("pause", ["a"]),
        ("cancel", "abc"),
        ("cancel", [1]),
        ("cancel", ["a"] * 1_001),
    ):
        with pytest.raises((TypeError, ValueError)):
            await act(action, ids)


async def test_a_final_job_is_deleted(queue: JobQueueService) -> None:
    """Nothing of it is left; live and unknown ones raise, and their changes are not written."""
    job = await queue.add_job("a")
    changes = queue.changeset()
    changes.emit("deleted", job.id, None)
    with pytest.raises(JobStateError, match=job.id):
        await queue.delete_job(job.id, changes=changes)
    assert await queue.get_events() == []
    await queue.cancel_job(job.id)
    await queue.delete_job(job.id, changes=changes)

    assert await queue.get_job(job.id) is None
    assert [event.subject for event in await queue.get_events()] == [job.id]
    for unknown in (job.id, "é", "nul\0"):
        with pytest.raises(JobNotFoundError):
            await queue.delete_job(unknown)


async def test_a_started_job_is_found_as_processing(queue: JobQueueService) -> None:
    """What this service has begun is visible to whoever searches it."""

    async def handler(job: Any) -> list[str]:
        return (await queue.match_ids(statuses=[JobStatus.PROCESSING])).ids

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.add_job("a")
    done = await queue.wait(job.id, timeout=10)

    assert done.result == [job.id]
