"""Versioned records and the event log."""

from collections.abc import Callable
from typing import Any

import pytest

from durably.domain.clock import to_us
from durably.domain.errors import JobStateError, VersionConflictError
from durably.domain.job import JobStatus
from durably.domain.outcome import NO_CHANGES, Delete, Put, Record
from durably.store import NoticeKind, Store
from durably.testing.clock import VirtualClock
from durably.testing.conformance.support import (
    add,
    changes,
    check_counts,
    delete,
    draft,
    event,
    look,
    put,
    running,
)
from durably.testing.events import capture


class Records:
    """What programs keep beside their jobs."""

    async def test_a_record_counts_its_versions(self, store: Store) -> None:
        """1 at the first write, one more with each, from 1 again after a removal."""
        versions = []
        for part in (put("a", 1), put("a", 2), put("b", 3), delete("a"), put("a", 4)):
            await store.write(changes(part))
            found = await store.record("thing", "a")
            versions.append(None if found is None else (found.version, found.value))

        assert versions == [(1, 1), (2, 2), (2, 2), None, (1, 4)]

    async def test_a_record_keeps_any_json(self, store: Store) -> None:
        """The value comes back as it went in, and the kind separates equal ids."""
        value = {"text": 'quo"te \0 \U0001f600', "list": [1, None, 2.5, {}], "": True}
        await store.write(changes(put("a", value), put("a", None, kind="other")))

        expected = Record(kind="thing", id="a", version=1, value=value)
        assert await store.record("thing", "a") == expected
        other = await store.record("other", "a")
        assert other is not None
        assert other.value is None
        assert await store.record("third", "a") is None
        assert await store.record("thing", "\ud800") is None

    @pytest.mark.parametrize("part", [put, delete], ids=["put", "delete"])
    @pytest.mark.parametrize(
        ("expect", "version", "fits"),
        [(0, 0, True), (0, 1, False), (1, 0, False), (1, 1, True), (1, 2, False), (None, 2, True)],
    )
    async def test_a_write_may_expect_a_version(
        self,
        store: Store,
        part: Callable[..., Put | Delete],
        expect: int | None,
        version: int,
        *,
        fits: bool,
    ) -> None:
        """0 means none yet, None whatever; any other must be the record's own."""
        for n in range(version):
            await store.write(changes(put("a", n)))
        write = store.write(changes(part("a", expect=expect), event()))
        if fits:
            await write
        else:
            with pytest.raises(
                VersionConflictError, match=f"thing a has version {version}, expected {expect}"
            ):
                await write

        assert len(await store.events()) == fits

    async def test_changes_commit_together_or_not_at_all(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """A conflict in the last of them undoes nothing because nothing was done."""
        job = await add(store)
        parts = (draft("follow-up"), put("a"), delete("b"), event("a"))
        with pytest.raises(VersionConflictError):
            await store.write(changes(*parts, put("c", expect=1), cancel=[job.id]))
        refused = await store.find(), await store.records("thing"), await store.events()
        await store.write(changes(*parts, put("c", expect=0), cancel=[job.id]))

        assert refused == ([job], [], [])
        assert (await look(store, job)).status is JobStatus.CANCELLED
        assert len(await store.find()) == 2
        assert await store.count_records("thing") == 2
        await check_counts(store, clock)

    async def test_the_last_write_of_a_record_stays(self, store: Store) -> None:
        """Changes are made in their order, also those of one record."""
        await store.write(changes(put("a", 1), put("a", 2), delete("b"), put("b"), delete("b")))
        found = await store.record("thing", "a")

        assert found is not None
        assert (found.value, found.version) == (2, 2)
        assert await store.record("thing", "b") is None
        assert await store.count_records("thing") == 1

    async def test_no_changes_change_nothing(self, store: Store) -> None:
        """An empty set of changes may be written."""
        await store.write(NO_CHANGES)

        assert await store.events() == []

    async def test_records_are_listed_by_id(self, store: Store) -> None:
        """In the order of their code points, from either end, page by page, of one kind."""
        ids = ["", "10", "9", "B", "a", "b", "é", "\uffff", "\U0001f600"]
        await store.write(changes(*map(put, reversed(ids)), put("aa", kind="other")))

        async def listed(**options: Any) -> list[str]:
            return [record.id for record in await store.records("thing", **options)]

        assert await listed() == ids
        assert await listed(newest_first=True) == ids[::-1]
        assert await listed(limit=3) == ids[:3]
        assert await listed(limit=3, after="9") == ids[3:6]
        assert await listed(after="between") == [name for name in ids if name > "between"]
        assert await listed(limit=2, after="a", newest_first=True) == ["B", "9"]
        assert await listed(after=ids[-1]) == []
        assert await store.records("unknown") == []

    async def test_records_are_counted_by_kind(self, store: Store) -> None:
        """The count follows writes and removals; rewriting and removing what is not there do not."""
        counts = []
        for part in (put("a"), put("a"), put("b"), delete("c"), delete("a"), delete("a")):
            await store.write(changes(part, put("x", kind="other")))
            counts.append(await store.count_records("thing"))

        assert counts == [1, 1, 2, 2, 1, 1]
        assert await store.count_records("other") == 1
        assert await store.count_records("unknown") == 0

    # Events

    async def test_events_are_kept_in_order(self, store: Store, clock: VirtualClock) -> None:
        """Each has a larger id than those before it, and the store's time."""
        await store.write(changes(event("a", {"n": 1}, topic="made"), event("b", None)))
        await clock.advance(1.5)
        await store.write(changes(event("a", [2])))
        events = await store.events()

        assert [(e.topic, e.subject, e.data) for e in events] == [
            ("made", "a", {"n": 1}),
            ("topic", "b", None),
            ("topic", "a", [2]),
        ]
        ids = [e.id for e in events]
        assert ids == sorted(set(ids))
        assert ids[0] > 0
        now = clock.now_us()
        assert [e.at_us for e in events] == [now - 1_500_000] * 2 + [now]

    async def test_events_are_read_page_by_page(self, store: Store) -> None:
        """After an id, at most so many, all or of one subject."""
        await store.write(changes(*(event("ab"[n % 2], n) for n in range(10))))
        everything = await store.events()
        page = await store.events(limit=3)
        rest = await store.events(after=page[-1].id)
        of_b = await store.events(subject="b", after=page[-1].id, limit=2)

        assert [e.data for e in everything] == list(range(10))
        assert page + rest == everything
        assert [e.data for e in of_b] == [3, 5]
        assert await store.events(after=everything[-1].id) == []
        assert await store.events(subject="c") == []
        assert await store.events(after=-5, limit=1) == everything[:1]

    async def test_events_are_read_from_the_newest(self, store: Store) -> None:
        """Newest first, below an id, at most so many, all or of one subject."""
        await store.write(changes(*(event("ab"[n % 2], n) for n in range(10))))
        oldest_first = await store.events()
        newest = await store.events(newest_first=True)
        page = await store.events(newest_first=True, limit=3)
        rest = await store.events(newest_first=True, after=page[-1].id)
        of_b = await store.events(newest_first=True, subject="b", after=page[0].id, limit=2)

        assert newest == oldest_first[::-1]
        assert page + rest == newest
        assert [e.data for e in of_b] == [7, 5]
        assert await store.events(newest_first=True, after=oldest_first[0].id) == []

    async def test_old_events_of_a_subject_are_removed(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Those about it that are older, and no others; ids are never given again."""
        await store.write(changes(*(event("ab"[n % 2], n) for n in range(6))))
        await clock.advance(10)
        await store.write(changes(event("a", "young")))
        removed = await store.prune_events("a", 5.0)
        left = await store.events()
        again = await store.prune_events("a", 5.0)
        await clock.advance(10)
        await store.prune_events("a", 5.0)
        await store.write(changes(event("a", "new")))
        [*_, last] = await store.events()

        assert (removed, again) == (3, 0)
        assert [e.data for e in left] == [1, 3, 5, "young"]
        assert last.data == "new"
        assert last.id > left[-1].id
        assert await store.prune_events("nobody", 0.0) == 0

    async def test_appended_events_are_told_of(self, store: Store) -> None:
        """A notice after the commit that appended them, and none after one that did not."""
        told: list[NoticeKind] = []
        unsubscribe = store.subscribe(lambda notice: told.append(notice.kind))
        await store.write(changes(put("a")))
        async with capture(store, NoticeKind.READY):
            await add(store)
        before = list(told)
        async with capture(store, NoticeKind.EVENTS):
            await store.write(changes(event()))
        unsubscribe()

        assert NoticeKind.EVENTS not in before

    async def test_changes_commit_with_what_is_done_to_a_job(self, store: Store) -> None:
        """Cancel, retry and pause take them along; a refusal of either leaves nothing of both."""
        job = await add(store)
        with pytest.raises(VersionConflictError):
            await store.cancel(job.id, changes(put("a", expect=5), event()))
        still = await look(store, job)
        await store.cancel(job.id, changes(put("a"), event("cancelled")))
        with pytest.raises(JobStateError):
            await store.cancel(job.id, changes(event("refused")))
        with pytest.raises(VersionConflictError):
            await store.retry(job.id, None, changes(put("a", expect=5)))
        await store.retry(job.id, None, changes(event("retried")))
        with pytest.raises(JobStateError):
            await store.retry(job.id, None, changes(event("refused")))
        with pytest.raises(VersionConflictError):
            await store.pause("q", paused=True, changes=changes(put("a", expect=5)))
        paused_by_a_refusal = await store.paused()
        await store.pause("q", paused=True, changes=changes(event("paused")))

        assert still.status is JobStatus.PENDING
        assert (await look(store, job)).status is JobStatus.PENDING
        assert paused_by_a_refusal == frozenset()
        assert await store.paused() == {"q"}
        assert [e.subject for e in await store.events()] == ["cancelled", "retried", "paused"]

    async def test_an_attempt_writes_at_its_time(self, store: Store, clock: VirtualClock) -> None:
        """Events of a checkpoint carry the time of the checkpoint, not of the attempt's start."""
        _, lease = await running(store)
        await clock.advance(3)
        await store.checkpoint(lease, changes=changes(event()))
        [written] = await store.events()
        job = await look(store, lease)

        assert job.processed_at is not None
        assert written.at_us == to_us(job.processed_at) + 3_000_000
