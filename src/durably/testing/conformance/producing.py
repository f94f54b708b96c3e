"""`enqueue`: durable, in order, unique keys, delays, all or nothing."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from durably.domain.clock import to_datetime
from durably.domain.errors import VersionConflictError
from durably.domain.job import JobPriority, JobStatus
from durably.store import Store
from durably.testing.clock import VirtualClock
from durably.testing.conformance.support import (
    FINAL,
    add,
    all_of_them,
    changes,
    check_counts,
    draft,
    event,
    info,
    look,
    nothing_of_them,
    put,
    report,
    reserved,
    retried,
    run_to,
    running,
    snoozed,
    some_changes,
    take_ids,
)


class Producing:
    """What a store does with new jobs."""

    async def test_a_new_job_is_pending_and_has_nothing_behind_it(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Enqueue returns the job as it is stored, made at the store's time."""
        new = draft("mail", {"to": "a"}, priority=JobPriority.HIGH, max_attempts=5, tags=["x", "y"])
        [job] = await store.enqueue([new])

        assert await store.get(new.id) == job
        assert (job.id, job.type, job.payload) == (new.id, "mail", {"to": "a"})
        assert (job.status, job.priority, job.queue) == (JobStatus.PENDING, 3, "default")
        assert (job.attempts, job.max_attempts, job.crashes, job.errors) == (0, 5, 0, ())
        assert job.created_at == to_datetime(clock.now_us())
        assert job.tags == ("x", "y")
        assert not job.cancelled
        empty = (job.processed_at, job.completed_at, job.next_retry_at, job.run_at, job.error)
        assert (*empty, job.result, job.progress, job.worker, job.unique_key) == (None,) * 9

    @pytest.mark.parametrize(
        "payload",
        [
            None,
            "",
            "text with \0 and \u2028 and \U0001f600",
            -0.0,
            1e308,
            2**63,
            -(2**63),
            [],
            {},
            {"": [{"a": [None, True, False, 0.1]}], 'quo"te\\': "line\nbreak"},
            "x" * 1_000_000,
            '"' * 500_000,
        ],
        ids=lambda payload: repr(payload)[:20],
    )
    async def test_a_payload_comes_back_as_it_went_in(self, store: Store, payload: Any) -> None:
        """Any JSON is kept exactly, up to the limit of its size."""
        job = await add(store, payload=payload)

        assert (await look(store, job)).payload == payload

    async def test_jobs_are_stored_in_the_order_given(self, store: Store) -> None:
        """More than a store takes in one statement come back, and are claimed, in their order."""
        drafts = [draft() for _ in range(1_200)]
        jobs = await store.enqueue(drafts)
        worker = await store.register(info())

        ids = [new.id for new in drafts]
        assert ids == [job.id for job in jobs]
        assert ids == [job.id for job in await store.find(limit=2_000)]
        assert ids[:1_000] == await take_ids(store, worker, start=1_000)

    async def test_large_jobs_can_be_stored_and_read_together(self, store: Store) -> None:
        """Forty payloads of almost a mebibyte go in with one call and out with one."""
        large = '"' * 500_000
        jobs = await store.enqueue([draft(payload=large) for _ in range(40)])

        assert [job.id for job in jobs] == [job.id for job in await store.find(limit=40)]

    async def test_enqueueing_at_once_loses_nothing(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Calls that come together are all stored, each with its own reply."""
        drafts = [draft(unique_key=f"key-{n % 20}") for n in range(60)]
        replies = await asyncio.gather(*(store.enqueue([new]) for new in drafts))

        jobs = {job.unique_key: job.id for job in await store.find(limit=100)}
        assert len(jobs) == 20
        assert [jobs[new.unique_key] for new in drafts] == [job.id for [job] in replies]
        await check_counts(store, clock)

    async def test_jobs_outlive_the_opening(self, store: Store) -> None:
        """What was enqueued is there when the same store is opened again."""
        job = await add(store, payload=1)
        await store.close()
        await store.open()

        assert await look(store, job) == job

    async def test_nothing_is_no_job(self, store: Store) -> None:
        """Enqueueing no jobs gives none."""
        assert await store.enqueue([]) == []
        assert (await store.stats()).counts == ()

    # Unique keys

    async def test_a_unique_key_yields_the_pending_job(self, store: Store) -> None:
        """The second enqueue returns the first job unchanged; nothing is added."""
        first = await add(store, payload=1, unique_key="k")
        second = await add(store, payload=2, unique_key="k", priority=JobPriority.HIGH)

        assert first == second
        assert [first] == await store.find()

    async def test_a_unique_key_counts_within_one_call(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Of two jobs with one key in one call the first is stored, and both replies are it."""
        drafts = [draft(), draft(unique_key="k"), draft(), draft(unique_key="k")]
        jobs = await store.enqueue(drafts)

        assert [job.id for job in jobs] == [drafts[i].id for i in (0, 1, 2, 1)]
        assert len(await store.find()) == 3
        await check_counts(store, clock)

    async def test_a_unique_key_belongs_to_its_type(self, store: Store) -> None:
        """Jobs of other types may have the same key, in whatever queue."""
        first = await add(store, "a", unique_key="k")
        other = await add(store, "b", unique_key="k")
        same = await add(store, "a", unique_key="k", queue="elsewhere")

        assert first.id != other.id
        assert first == same

    async def test_a_unique_key_is_held_while_processing(self, store: Store) -> None:
        """Neither a start nor a claim ahead frees the key."""
        _, started = await running(store, "a", unique_key="k")
        _, ahead = await reserved(store, "b", unique_key="k")

        assert (await add(store, "a", unique_key="k")).id == started.job_id
        assert (await add(store, "b", unique_key="k")).id == ahead.job_id

    async def test_a_unique_key_is_held_while_waiting_again(self, store: Store) -> None:
        """Between attempts, and before its time, a job keeps its key."""
        worker, lease = await running(store, "a", unique_key="k")
        await report(store, worker, retried(lease, 60))
        other, late = await running(store, "b", unique_key="k")
        await report(store, other, snoozed(late, 60))
        delayed = await add(store, "c", unique_key="k", delay=60)

        for kind, expected in (("a", lease.job_id), ("b", late.job_id), ("c", delayed.id)):
            assert (await add(store, kind, unique_key="k")).id == expected

    @pytest.mark.parametrize("status", FINAL)
    async def test_a_unique_key_is_freed_at_the_end(self, store: Store, status: JobStatus) -> None:
        """Once the job is final, another may take its key."""
        worker = await store.register(info())
        first = await run_to(store, worker, status, unique_key="k")
        second = await add(store, unique_key="k")

        assert first.status is status
        assert first.id != second.id

    # Delays

    async def test_a_delayed_job_waits_its_time(self, store: Store, clock: VirtualClock) -> None:
        """It is pending, shows when it will run, and is claimed at that instant, not before."""
        worker = await store.register(info())
        job = await add(store, delay=10)
        await clock.advance(9.999_999)
        before = await take_ids(store, worker)
        await clock.advance(0.000_001)

        assert job.status is JobStatus.PENDING
        assert job.run_at == job.created_at + timedelta(seconds=10)
        assert before == []
        assert await take_ids(store, worker) == [job.id]

    async def test_run_at_is_an_instant(self, store: Store, clock: VirtualClock) -> None:
        """A job for a time to come waits until then; one for a time gone by is ready at once."""
        worker = await store.register(info())
        now = to_datetime(clock.now_us())
        late = await add(store, run_at=now + timedelta(seconds=5))
        past = await add(store, run_at=now - timedelta(days=1))
        ready = await take_ids(store, worker)
        await clock.advance(5)

        assert (late.run_at, past.run_at) == (
            now + timedelta(seconds=5),
            now - timedelta(days=1),
        )
        assert ready == [past.id]
        assert await take_ids(store, worker) == [late.id]

    # With changes

    async def test_jobs_and_changes_are_stored_together(self, store: Store) -> None:
        """Records, events and further jobs of the call are there when it returns."""
        [job] = await store.enqueue([draft()], some_changes())

        assert await store.get(job.id) == job
        assert await all_of_them(store)

    async def test_a_version_conflict_stores_nothing(self, store: Store) -> None:
        """One record with another version than expected refuses the jobs and all changes."""
        new = draft(unique_key="k")
        wrong = changes(draft("follow-up"), put("a"), put("b", expect=7), event("a"))
        with pytest.raises(VersionConflictError, match="thing b has version 0, expected 7"):
            await store.enqueue([new], wrong)

        assert await store.get(new.id) is None
        assert await nothing_of_them(store)
        assert (await store.stats()).counts == ()
        assert (await add(store, unique_key="k")).id != new.id

    async def test_a_refused_call_harms_no_other(self, store: Store, clock: VirtualClock) -> None:
        """Of calls that come together only the one with the conflict is refused."""
        replies = await asyncio.gather(
            store.enqueue([draft()], changes(put("a"))),
            store.enqueue([draft()], changes(put("b", expect=1))),
            store.enqueue([draft()]),
            store.cancel("unknown"),
            store.enqueue([draft()], changes(put("c", expect=0))),
            return_exceptions=True,
        )

        assert [isinstance(reply, Exception) for reply in replies] == [0, 1, 0, 1, 0]
        assert len(await store.find()) == 3
        assert await store.count_records("thing") == 2
        await check_counts(store, clock)

    async def test_a_foreign_connection_is_refused(self, store: Store) -> None:
        """`enqueue_in` says by TypeError what it cannot take; nothing is stored."""
        with pytest.raises(TypeError, match=r"(?i)connection"):
            await store.enqueue_in(object(), [draft()])

        assert await store.find() == []
