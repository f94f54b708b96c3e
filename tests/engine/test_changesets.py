"""Changesets: jobs, records, events and cancellations that commit together or not at all."""

import asyncio
import itertools
from typing import Any

import pytest

from durably import JobQueueService, JobStatus, VersionConflictError


async def test_all_of_it_is_committed(queue: JobQueueService) -> None:
    """Jobs, records, events and cancellations are as they were gathered."""
    old = await queue.add_job("old")
    changes = queue.changeset()
    follow_up = changes.add_job("mail", {"to": "me"}, queue="post", tags=["x"])
    changes.put("order", "1", {"paid": True})
    changes.put("order", "2", [1, 2])
    changes.emit("order.paid", "1", {"sum": 3})
    changes.cancel_job(old.id)
    [job] = await queue.commit(changes)

    assert (job.id, job.type, job.payload) == (follow_up.id, "mail", {"to": "me"})
    assert (job.queue, job.tags, follow_up.type) == ("post", ("x",), "mail")
    records = await queue.get_records("order")
    assert [(r.kind, r.id, r.version, r.value) for r in records] == [
        ("order", "1", 1, {"paid": True}),
        ("order", "2", 1, [1, 2]),
    ]
    [event] = await queue.get_events()
    assert (event.topic, event.subject, event.data) == ("order.paid", "1", {"sum": 3})
    ended = await queue.get_job(old.id)
    assert ended is not None
    assert ended.status is JobStatus.CANCELLED


async def test_a_conflict_leaves_nothing_of_it(queue: JobQueueService) -> None:
    """One record of another version, and neither jobs, records nor events are there."""
    first = queue.changeset()
    first.put("order", "1", "new", expect=0)
    await queue.commit(first)
    second = queue.changeset()
    second.add_job("mail")
    second.put("order", "2", "other")
    second.emit("order.new", "2", None)
    second.put("order", "1", "again", expect=0)
    with pytest.raises(VersionConflictError):
        await queue.commit(second)

    assert await queue.get_jobs() == []
    assert await queue.get_events() == []
    assert [(r.id, r.value) for r in await queue.get_records("order")] == [("1", "new")]


async def test_a_deletion_may_expect_a_version(queue: JobQueueService) -> None:
    """Another version stays; the right one, or whatever is there, goes."""
    for name in ("1", "2"):
        made = queue.changeset()
        made.put("order", name, name)
        await queue.commit(made)
    wrong, right, whatever = queue.changeset(), queue.changeset(), queue.changeset()
    wrong.delete("order", "1", expect=2)
    right.delete("order", "1", expect=1)
    whatever.delete("order", "2")
    with pytest.raises(VersionConflictError):
        await queue.commit(wrong)
    before = await queue.count_records("order")
    await queue.commit(right)
    await queue.commit(whatever)

    assert (before, await queue.count_records("order")) == (2, 0)


async def test_records_and_events_are_listed_in_pages(queue: JobQueueService) -> None:
    """By id or newest first, beyond what was seen, so many at a time; events also by subject."""
    changes = queue.changeset()
    for name in ("a", "b", "c"):
        changes.put("order", name, name)
        changes.emit("seen", name, name)
    await queue.commit(changes)
    [first, second, third] = await queue.get_events()

    assert [r.id for r in await queue.get_records("order", limit=2)] == ["a", "b"]
    assert [r.id for r in await queue.get_records("order", after="a")] == ["b", "c"]
    assert [r.id for r in await queue.get_records("order", newest_first=True)] == ["c", "b", "a"]
    record = await queue.get_record("order", "b")
    assert record is not None
    assert record.value == "b"
    assert await queue.get_record("order", "d") is None
    assert await queue.get_events(limit=2) == [first, second]
    assert await queue.get_events(after=first.id) == [second, third]
    assert await queue.get_events(subject="b") == [second]
    assert await queue.get_events(newest_first=True) == [third, second, first]
    assert await queue.get_events(after=2**70) == []


async def test_old_events_of_a_subject_are_removed(queue: JobQueueService) -> None:
    """Their number is returned; those of others, and younger ones, stay."""
    changes = queue.changeset()
    for name in ("a", "a", "b"):
        changes.emit("seen", name, None)
    await queue.commit(changes)

    assert await queue.prune_events("a", 3600) == 0
    assert await queue.prune_events("a", 0) == 2
    assert [event.subject for event in await queue.get_events()] == ["b"]


@pytest.mark.parametrize("name", ["", None, 5, "nul\0", "\udc80"])
def test_names_are_checked_when_they_are_given(name: Any) -> None:
    """The message says whether it is the kind or the id; nothing is gathered."""
    changes = JobQueueService("memory://").changeset()
    empty = changes.freeze()
    for call in (
        changes.delete,
        lambda k, i: changes.put(k, i, 1),
        lambda t, s: changes.emit(t, s, 1),
    ):
        with pytest.raises((TypeError, ValueError), match=r"^kind must"):
            call(name, "1")
        with pytest.raises((TypeError, ValueError), match=r"^id must"):
            call("order", name)
    with pytest.raises((TypeError, ValueError), match=r"^job_id must"):
        changes.cancel_job(name)

    assert changes.freeze() == empty


async def test_what_is_kept_once_is_made_by_the_first_to_come(queue: JobQueueService) -> None:
    """All who come at the same time are given one text; one of them is told that it made it."""
    numbers = itertools.count()
    kept = await asyncio.gather(
        *(queue.keep_once("salt", lambda: f"made-{next(numbers)}") for _ in range(5))
    )
    assert len({text for text, _ in kept}) == 1
    assert sorted(made for _, made in kept) == [False] * 4 + [True]
    assert await queue.keep_once("salt", lambda: "late") == (kept[0][0], False)
