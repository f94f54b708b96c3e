"""What people do to jobs: cancel, retry, pause, clean up."""

import pytest

from durably.domain.clock import to_datetime
from durably.domain.errors import JobNotFoundError, JobStateError, UniqueKeyTakenError
from durably.domain.job import JobStatus, Progress
from durably.store import NoticeKind, Store
from durably.testing.clock import VirtualClock
from durably.testing.conformance.support import (
    FINAL,
    EndOf,
    add,
    check_counts,
    completed,
    die,
    draft,
    everything,
    failed,
    info,
    look,
    of_each_kind,
    report,
    reserved,
    retried,
    run_to,
    running,
    snoozed,
    take,
    take_ids,
    take_one,
)
from durably.testing.events import capture

UNKNOWN = ("", "unknown", "é", "nul\0", "\ud800", "x" * 10_000, "' OR 1=1 --")
each_unknown_id = pytest.mark.parametrize("unknown", UNKNOWN, ids=ascii)
each_end = pytest.mark.parametrize("status", FINAL)


class Control:
    """Cancel, retry, and clean-up of jobs in every state."""

    # Cancel

    @pytest.mark.parametrize("delay", [0.0, 60.0])
    async def test_a_pending_job_is_cancelled_at_once(
        self, store: Store, clock: VirtualClock, delay: float
    ) -> None:
        """Ready or scheduled, it is final, is never claimed, and shows that it was cancelled."""
        worker = await store.register(info())
        job = await add(store, delay=delay)
        cancelled = await store.cancel(job.id)
        await clock.advance(60)

        assert cancelled == await look(store, job)
        assert (cancelled.status, cancelled.error) == (JobStatus.CANCELLED, "cancelled")
        assert (cancelled.cancelled, cancelled.attempts) == (True, 0)
        assert cancelled.completed_at == job.created_at
        assert await take_ids(store, worker) == []
        await check_counts(store, clock)

    async def test_a_job_between_attempts_is_cancelled_at_once(self, store: Store) -> None:
        """A failed attempt that waits for its retry, or a snoozed job, runs no more."""
        worker, lease = await running(store, "a")
        other, late = await running(store, "b")
        await report(store, worker, retried(lease, 60))
        await report(store, other, snoozed(late, 60))

        for job_id in (lease.job_id, late.job_id):
            job = await store.cancel(job_id)
            assert (job.status, job.next_retry_at) == (JobStatus.CANCELLED, None)

    @pytest.mark.parametrize("ahead", [False, True])
    async def test_a_leased_job_is_asked_to_stop(self, store: Store, *, ahead: bool) -> None:
        """It stays as it is, `cancelled`, and the exchanges of its worker, and no other, say so."""
        worker, lease = await (reserved if ahead else running)(store)
        other = await store.register(info())
        before = await look(store, lease)
        job = await store.cancel(lease.job_id)
        again = await store.cancel(lease.job_id)

        assert job == again == await look(store, lease)
        assert (job.status, job.cancelled) == (before.status, True)
        assert (await store.exchange(worker)).cancel == (lease.job_id,)
        assert (await store.exchange(worker)).cancel == (lease.job_id,)
        assert (await store.exchange(other)).cancel == ()
        assert (await report(store, worker, completed(lease))).cancel == ()

    @of_each_kind
    @pytest.mark.parametrize("ahead", [False, True])
    async def test_what_was_asked_to_stop_ends_cancelled(
        self, store: Store, clock: VirtualClock, end: EndOf, *, ahead: bool
    ) -> None:
        """However its attempt ends; only one that returned normally all the same is completed."""
        worker, lease = await (reserved if ahead else running)(store)
        await store.cancel(lease.job_id)
        await clock.advance(1)
        await report(store, worker, end(lease))
        job = await look(store, lease)

        expected = JobStatus.COMPLETED if end is completed else JobStatus.CANCELLED
        assert job.status is expected
        assert job.cancelled
        assert job.completed_at == to_datetime(clock.now_us())
        await check_counts(store, clock)

    @each_end
    async def test_a_final_job_cannot_be_cancelled(self, store: Store, status: JobStatus) -> None:
        """JobStateError names the status; the job is unchanged."""
        job = await run_to(store, await store.register(info()), status)
        with pytest.raises(JobStateError, match=f"a {status} job cannot be cancelled: {job.id}"):
            await store.cancel(job.id)

        assert await look(store, job) == job

    @each_unknown_id
    async def test_an_unknown_job_cannot_be_cancelled_or_retried(
        self, store: Store, unknown: str
    ) -> None:
        """JobNotFoundError for any text that is no job's id."""
        await add(store)
        with pytest.raises(JobNotFoundError):
            await store.cancel(unknown)
        with pytest.raises(JobNotFoundError):
            await store.retry(unknown)
        with pytest.raises(JobNotFoundError):
            await store.retry(unknown, "1")

    # Retry by a person

    @each_end
    async def test_a_final_job_can_be_run_again(
        self, store: Store, clock: VirtualClock, status: JobStatus
    ) -> None:
        """It is pending with as many attempts again, and keeps its history."""
        worker, lease = await running(store, max_attempts=2)
        await store.checkpoint(lease, progress=Progress(fraction=0.5), step=("a", "1"))
        await report(store, worker, retried(lease))
        if status is JobStatus.CANCELLED:
            await store.cancel(lease.job_id)
        else:
            end = completed if status is JobStatus.COMPLETED else failed
            await report(store, worker, end(await take_one(store, worker)))
        final = await look(store, lease)
        await clock.advance(5)
        job = await store.retry(lease.job_id)

        assert final.status is status
        assert job == await look(store, lease)
        assert (job.status, job.attempts) == (JobStatus.PENDING, final.attempts)
        assert job.max_attempts == final.attempts + 2
        assert job.errors == final.errors
        assert (job.completed_at, job.result, job.progress) == (None, None, None)
        assert not job.cancelled
        assert await store.steps(job.id) == {"a": "1"}
        assert (await look(store, await take_one(store, worker))).attempts == final.attempts + 1
        await check_counts(store, clock)

    async def test_each_retry_grants_as_many_attempts(self, store: Store) -> None:
        """The grant is that of the enqueue, however often and after how many attempts."""
        worker, lease = await running(store, max_attempts=3)
        granted = []
        for _ in range(3):
            await report(store, worker, completed(lease))
            granted.append((await store.retry(lease.job_id)).max_attempts)
            lease = await take_one(store, worker)

        assert granted == [4, 5, 6]

    async def test_a_retry_with_a_payload_starts_afresh(self, store: Store) -> None:
        """The payload replaces the old one, and the steps, which belong to the old, are gone."""
        worker, lease = await running(store, payload={"a": 1})
        await store.checkpoint(lease, step=("load", "1"))
        await report(store, worker, completed(lease))
        job = await store.retry(lease.job_id, '{"a":2}')
        again = await take_one(store, worker)
        await store.checkpoint(again, step=("load", "2"))

        assert job.payload == {"a": 2}
        assert await store.steps(job.id) == {"load": "2"}

    async def test_a_retried_job_waits_its_turn(self, store: Store, clock: VirtualClock) -> None:
        """It is as new: a delay of its first life is forgotten, its place is behind the waiting."""
        worker = await store.register(info())
        job = await add(store, delay=60)
        await store.cancel(job.id)
        await clock.advance(1)
        other = await add(store)
        await clock.advance(1)
        retried_job = await store.retry(job.id)

        assert retried_job.run_at is None
        assert await take_ids(store, worker) == [other.id, job.id]

    async def test_a_live_job_cannot_be_retried(self, store: Store) -> None:
        """JobStateError names the status; the job is unchanged."""
        _, lease = await running(store, "a")
        _, ahead = await reserved(store, "b")
        ready, later = await add(store), await add(store, delay=60)
        jobs = [await look(store, job) for job in (lease, ahead, ready, later)]

        for job in jobs:
            with pytest.raises(JobStateError, match=f"a {job.status} job cannot be retried"):
                await store.retry(job.id, '"new"')
            assert await look(store, job) == job

    async def test_a_retry_needs_its_unique_key(self, store: Store, clock: VirtualClock) -> None:
        """While another holds the key, UniqueKeyTakenError names both; nothing is changed."""
        worker, lease = await running(store, unique_key="k")
        await report(store, worker, completed(lease))
        holder = await add(store, unique_key="k")
        before = await look(store, lease)
        with pytest.raises(UniqueKeyTakenError, match=f"'k' is held by job {holder.id}"):
            await store.retry(lease.job_id, "1")

        assert await look(store, lease) == before
        await store.cancel(holder.id)
        await store.retry(lease.job_id)
        assert (await add(store, unique_key="k")).id == lease.job_id
        await check_counts(store, clock)

    async def test_a_retry_voids_the_old_lease(self, store: Store) -> None:
        """A report of the attempt that ended before is refused, even before the next claim."""
        worker, lease = await running(store)
        await report(store, worker, completed(lease, 1))
        await store.retry(lease.job_id)
        done = await store.exchange(worker, outcomes=[completed(lease, 2)])

        assert list(done.refused) == [0]
        assert (await look(store, lease)).status is JobStatus.PENDING

    # Wake

    async def test_a_sleeping_job_is_woken_by_its_key(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Delayed or snoozed, it is ready as of now, behind those that have been ready before."""
        worker, lease = await running(store, unique_key="snoozed")
        await report(store, worker, snoozed(lease, 60))
        delayed = await add(store, delay=60, unique_key="delayed")
        await clock.advance(1)
        ready = await add(store)
        await clock.advance(1)

        assert await store.wake("work", ["snoozed", "delayed"]) == 2
        for job in (await look(store, lease), await look(store, delayed)):
            assert (job.status, job.attempts) == (JobStatus.PENDING, 0)
            assert job.run_at == to_datetime(clock.now_us())
        await check_counts(store, clock)
        assert await take_ids(store, worker) == [ready.id, lease.job_id, delayed.id]

    async def test_who_is_woken_goes_on_as_after_its_wait(self, store: Store) -> None:
        """Its key stays taken, its next attempt counts as ever, and an old lease is void."""
        worker, old = await running(store, unique_key="k")
        await report(store, worker, snoozed(old, 60))
        await store.wake("work", ["k"])
        again = await add(store, unique_key="k")
        lease = await take_one(store, worker)
        late = await store.exchange(worker, outcomes=[completed(old)])
        await report(store, worker, completed(lease))

        assert again.id == lease.job_id == old.job_id
        assert list(late.refused) == [0]
        assert (await look(store, lease)).attempts == 1

    async def test_only_those_who_sleep_are_woken(self, store: Store, clock: VirtualClock) -> None:
        """Held, ready, waiting after a failure, final, of another type: all stay as they are."""
        worker, failing = await running(store, unique_key="failing")
        await report(store, worker, retried(failing, 60))
        _, held = await running(store, unique_key="held")
        cancelled_job = await add(store, delay=60, unique_key="cancelled")
        await store.cancel(cancelled_job.id)
        await add(store, unique_key="ready")
        await add(store, "other", delay=60, unique_key="k")
        await add(store, delay=60)
        before = await everything(store)
        await clock.advance(1)
        keys = ["failing", "held", "cancelled", "ready", "k", *UNKNOWN]

        assert await store.wake("work", keys) == 0
        assert await store.wake("unknown", keys) == 0
        assert await store.wake("work", []) == 0
        assert await everything(store) == before
        await report(store, worker, completed(held))
        await check_counts(store, clock)

    async def test_a_job_is_woken_once(self, store: Store, clock: VirtualClock) -> None:
        """However often its key is named; and one whose time has come keeps its place."""
        worker = await store.register(info())
        due = await add(store, delay=1, unique_key="due")
        await clock.advance(2)
        await add(store, delay=60, unique_key="k")

        assert await store.wake("work", ["k", "k", "due"]) == 1
        assert await store.wake("work", ["k", "due"]) == 0
        assert (await take_ids(store, worker))[0] == due.id

    async def test_many_are_woken_at_once(self, store: Store, clock: VirtualClock) -> None:
        """One call takes any number of keys."""
        keys = [f"k-{number}" for number in range(1_500)]
        await store.enqueue([draft(delay=60, unique_key=key) for key in keys])

        assert await store.wake("work", keys[:1_200]) == 1_200
        assert await store.wake("work", keys) == 300
        await check_counts(store, clock)

    async def test_waking_is_told(self, store: Store) -> None:
        """READY, so that workers look for work."""
        await add(store, delay=60, unique_key="k")
        async with capture(store, NoticeKind.READY):
            await store.wake("work", ["k"])

    # Clean-up

    async def test_cleanup_removes_what_is_older(self, store: Store, clock: VirtualClock) -> None:
        """A job that became final exactly that long ago stays; one microsecond later it goes."""
        worker = await store.register(info())
        for status in FINAL:
            await run_to(store, worker, status)
        await clock.advance(100)
        exact = await store.cleanup(100.0)
        await clock.advance(0.000_001)
        over = await store.cleanup(100.0)

        assert (exact, over) == (0, 3)
        assert await store.find() == []
        await check_counts(store, clock)

    async def test_cleanup_counts_from_the_end(self, store: Store, clock: VirtualClock) -> None:
        """The age of a job is that of its completion, not of its enqueue."""
        old, new = await running(store, "a"), await running(store, "b")
        for (worker, lease), wait in ((old, 10), (new, 10)):
            await report(store, worker, completed(lease))
            await clock.advance(wait)

        assert await store.cleanup(15) == 1
        assert await store.get(old[1].job_id) is None
        assert await store.get(new[1].job_id) is not None

    async def test_cleanup_leaves_live_jobs_alone(self, store: Store, clock: VirtualClock) -> None:
        """However old: ready, scheduled, leased, waiting for a retry, retried by a person."""
        worker, lease = await running(store, "a")
        again, retry = await running(store, "b")
        await report(store, again, retried(retry, 5_000))
        done, final = await running(store, "c")
        await report(store, done, completed(final))
        await clock.advance(1)
        await store.retry(final.job_id)
        await reserved(store, "d")
        await add(store)
        await add(store, delay=5_000)
        before = await store.find()
        await clock.advance(1_000)
        removed = await store.cleanup(0)

        assert removed == 0
        assert await store.find() == before
        await report(store, worker, completed(lease))

    async def test_cleanup_removes_steps(self, store: Store, clock: VirtualClock) -> None:
        """Nothing of a removed job is left, whatever is stored in its place afterwards."""
        worker, lease = await running(store)
        await store.checkpoint(lease, step=("a", "1"))
        await report(store, worker, completed(lease))
        await clock.advance(1)
        removed = await store.cleanup(0)
        _, new = await running(store)

        assert removed == 1
        assert await store.steps(lease.job_id) == {}
        assert await store.steps(new.job_id) == {}
        assert await store.get(lease.job_id) is None

    async def test_cleanup_removes_any_number(self, store: Store, clock: VirtualClock) -> None:
        """More than fit in one batch go with one call, and are counted."""
        worker = await store.register(info())
        await store.enqueue([draft() for _ in range(1_201)])
        leases = [c.lease for c in await take(store, worker, start=1_200)]
        await report(store, worker, *map(completed, leases))
        await clock.advance(2)

        assert await store.cleanup(1) == 1_200
        assert await store.cleanup(1) == 0
        assert len(await store.find()) == 1
        await check_counts(store, clock)

    async def test_cleanup_over_days(self, store: Store, clock: VirtualClock) -> None:
        """Jobs that ended on several days go by their age; steps, figures and lists follow."""
        leases = []
        for day in range(4):
            worker, lease = await running(store, f"day-{day}")
            await store.checkpoint(lease, step=("a", "1"))
            await report(store, worker, completed(lease))
            leases.append(lease)
            await clock.advance(86_400)
        assert [job.id for job in await store.find()] == [lease.job_id for lease in leases]

        assert await store.cleanup(2.5 * 86_400) == 2
        assert [job.id for job in await store.find()] == [lease.job_id for lease in leases[2:]]
        assert await store.steps(leases[0].job_id) == {}
        assert await store.steps(leases[3].job_id) == {"a": "1"}
        await check_counts(store, clock)

    async def test_cleanup_with_slack(self, store: Store, clock: VirtualClock) -> None:
        """What is older by more than the slack goes; what is younger stays."""
        worker = await store.register(info())
        for _ in range(2):
            await run_to(store, worker, JobStatus.FAILED)
            await clock.advance(100_000)

        assert await store.cleanup(150_000, slack_s=49_999) == 1
        assert len(await store.find()) == 1

    async def test_an_old_job_is_retried(self, store: Store, clock: VirtualClock) -> None:
        """A job that ended days ago runs again and ends today."""
        job = await run_to(store, await store.register(info()), JobStatus.FAILED)
        await clock.advance(3 * 86_400)
        await store.retry(job.id)
        worker = await store.register(info())
        lease = await take_one(store, worker)
        await report(store, worker, completed(lease))

        assert lease.job_id == job.id
        assert (await look(store, job)).status is JobStatus.COMPLETED
        assert await store.cleanup(86_400) == 0
        await check_counts(store, clock)

    async def test_a_removed_job_is_unknown(self, store: Store, clock: VirtualClock) -> None:
        """Cancel, retry and paging say so; its id is never another job's."""
        job = await run_to(store, await store.register(info()), JobStatus.FAILED)
        await clock.advance(1)
        await store.cleanup(0)

        for call in (store.cancel(job.id), store.retry(job.id), store.find(after=job.id)):
            with pytest.raises(JobNotFoundError, match=job.id):
                await call

    async def test_cleanup_spares_what_ends_meanwhile(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """A job rescued into quarantine or cancelled is as old as that, not as its last start."""
        worker, lease = await running(store)
        await store.cancel(lease.job_id)
        await clock.advance(1_000)
        await die(store, clock)
        early = await store.cleanup(500)
        await clock.advance(501)

        assert early == 0
        assert await store.cleanup(500) == 1
        assert worker
