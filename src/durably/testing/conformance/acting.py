"""What people do to many jobs at once; and deleting one."""

import pytest

from durably.domain.bulk import ACT_MOST, Acted, BulkAction
from durably.domain.errors import JobNotFoundError, JobStateError, VersionConflictError
from durably.domain.job import JobStatus
from durably.store import NoticeKind, Store
from durably.testing.clock import VirtualClock
from durably.testing.conformance.control import UNKNOWN, each_end, each_unknown_id
from durably.testing.conformance.support import (
    FINAL,
    add,
    all_of_them,
    changes,
    check_counts,
    completed,
    draft,
    info,
    look,
    nothing_of_them,
    put,
    report,
    reserved,
    run_to,
    running,
    some_changes,
    take,
    take_ids,
)
from durably.testing.events import capture

each_action = pytest.mark.parametrize("action", BulkAction)


class Acting:
    """Cancel, retry and delete of many jobs; what is refused is counted."""

    # One job

    @each_end
    async def test_a_final_job_can_be_deleted(
        self, store: Store, clock: VirtualClock, status: JobStatus
    ) -> None:
        """Nothing is left of it, and the figures follow."""
        worker, lease = await running(store)
        await store.checkpoint(lease, step=("a", "1"))
        await report(store, worker, completed(lease))
        await store.delete(lease.job_id)
        job = await run_to(store, worker, status, unique_key="k")
        await store.delete(job.id)

        assert await store.get(job.id) is None
        assert await store.steps(lease.job_id) == {}
        assert await store.find() == []
        assert (await store.stats()).counts == ()
        await check_counts(store, clock)

    async def test_a_live_job_cannot_be_deleted(self, store: Store) -> None:
        """JobStateError, and nothing of the changes is written."""
        _, begun = await running(store, "a")
        _, ahead = await reserved(store, "b")
        waiting, later = await add(store), await add(store, delay=60)
        for job_id in (begun.job_id, ahead.job_id, waiting.id, later.id):
            job = await look(store, job_id)
            with pytest.raises(JobStateError, match=f"a {job.status} job cannot be deleted"):
                await store.delete(job_id, some_changes())
            assert await look(store, job_id) == job

        assert await nothing_of_them(store)

    @each_unknown_id
    async def test_an_unknown_job_cannot_be_deleted(self, store: Store, unknown: str) -> None:
        """JobNotFoundError for any text that is no job's id."""
        await run_to(store, await store.register(info()), JobStatus.COMPLETED)
        with pytest.raises(JobNotFoundError):
            await store.delete(unknown, some_changes())

        assert await nothing_of_them(store)

    async def test_changes_commit_with_a_delete(self, store: Store) -> None:
        """Both, or neither when a record has changed."""
        job = await run_to(store, await store.register(info()), JobStatus.FAILED)
        with pytest.raises(VersionConflictError):
            await store.delete(job.id, changes(put("a", expect=3)))
        assert await look(store, job) == job
        await store.delete(job.id, some_changes())

        assert await store.get(job.id) is None
        assert await all_of_them(store)

    # Many jobs

    @each_action
    async def test_each_job_fares_as_it_would_alone(
        self, store: Store, clock: VirtualClock, action: BulkAction
    ) -> None:
        """Jobs of every state are changed, or refused and left as they were."""
        worker = await store.register(info())
        jobs = [await run_to(store, worker, status, max_attempts=2) for status in FINAL]
        jobs.append(await add(store, "later", delay=60))
        jobs += [await look(store, (await running(store, "begun"))[1])]
        jobs += [await look(store, (await reserved(store, "ahead"))[1])]
        await clock.advance(1)
        acted = await store.act(action, [job.id for job in jobs])

        final = [job for job in jobs if job.status.is_final]
        live = [job for job in jobs if not job.status.is_final]
        changed, refused = (live, final) if action is BulkAction.CANCEL else (final, live)
        assert acted == Acted(len(changed), len(refused))
        assert [await store.get(job.id) for job in refused] == refused
        for job in changed:
            now = await store.get(job.id)
            if action is BulkAction.DELETE:
                assert now is None
            elif action is BulkAction.RETRY:
                assert now is not None
                assert (now.status, now.max_attempts) == (JobStatus.PENDING, job.attempts + 2)
            else:
                assert now is not None
                assert now.cancelled
        await check_counts(store, clock)

    async def test_cancelled_together(self, store: Store, clock: VirtualClock) -> None:
        """Pending ones are final at once; those that run are asked to stop."""
        worker, lease = await running(store, "a")
        waiting = await add(store)
        assert await store.act(BulkAction.CANCEL, [lease.job_id, waiting.id]) == Acted(2, 0)

        assert (await look(store, waiting)).status is JobStatus.CANCELLED
        assert (await look(store, lease)).status is JobStatus.PROCESSING
        assert (await store.exchange(worker)).cancel == (lease.job_id,)
        assert await take_ids(store, worker) == []
        await check_counts(store, clock)

    async def test_retried_together(self, store: Store, clock: VirtualClock) -> None:
        """They can be claimed again, in the order in which they were added."""
        worker = await store.register(info())
        jobs = [await run_to(store, worker, status) for status in FINAL]
        ids = [job.id for job in jobs]
        assert await store.act(BulkAction.RETRY, ids[::-1]) == Acted(3, 0)

        assert await take_ids(store, worker) == ids
        await check_counts(store, clock)

    async def test_deleted_together(self, store: Store, clock: VirtualClock) -> None:
        """With their steps; other jobs keep theirs."""
        leases = []
        for kind in "abc":
            worker, lease = await running(store, kind)
            await store.checkpoint(lease, step=("s", "1"))
            await report(store, worker, completed(lease))
            leases.append(lease)
        ids = [lease.job_id for lease in leases]
        assert await store.act(BulkAction.DELETE, ids[:2]) == Acted(2, 0)

        assert [await store.steps(job_id) for job_id in ids] == [{}, {}, {"s": "1"}]
        assert [job.id for job in await store.find()] == ids[2:]
        await check_counts(store, clock)

    @each_action
    async def test_what_is_unknown_is_refused(self, store: Store, action: BulkAction) -> None:
        """Any text, beside those that are known; one that comes twice counts once."""
        worker = await store.register(info())
        job = await run_to(
            store, worker, JobStatus.PENDING if action is BulkAction.CANCEL else JobStatus.FAILED
        )
        acted = await store.act(action, [*UNKNOWN, job.id, *UNKNOWN, job.id])

        assert acted == Acted(1, len(UNKNOWN))
        assert await store.act(action, []) == Acted(0, 0)

    async def test_a_taken_unique_key_refuses_the_retry(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """By a live job, or by one that the same action has retried before."""
        worker = await store.register(info())
        keys = ("k", "k", "l", None, "held")
        jobs = [await run_to(store, worker, JobStatus.FAILED, unique_key=key) for key in keys]
        other = await run_to(store, worker, JobStatus.FAILED, unique_key="other")
        await add(store, unique_key="held")
        acted = await store.act(BulkAction.RETRY, [job.id for job in jobs])

        assert acted == Acted(3, 2)
        statuses = [(await look(store, job)).status for job in (*jobs, other)]
        pending, failed = JobStatus.PENDING, JobStatus.FAILED
        assert statuses == [pending, failed, pending, pending, failed, failed]
        await check_counts(store, clock)

    @each_action
    async def test_changes_commit_with_an_action(self, store: Store, action: BulkAction) -> None:
        """Also when it changed nothing; a conflict of theirs undoes all of it."""
        job = await add(store)
        with pytest.raises(VersionConflictError):
            await store.act(action, [job.id], changes(put("a", expect=3)))
        assert await look(store, job) == job
        await store.act(action, ["unknown"], some_changes())

        assert await look(store, job) == job
        assert await all_of_them(store)

    async def test_as_many_as_allowed(self, store: Store, clock: VirtualClock) -> None:
        """The most that one action may name are cancelled, retried and deleted."""
        jobs = await store.enqueue([draft() for _ in range(ACT_MOST)])
        ids = [job.id for job in jobs]

        assert await store.act(BulkAction.CANCEL, ids) == Acted(ACT_MOST, 0)
        assert await store.act(BulkAction.RETRY, ids) == Acted(ACT_MOST, 0)
        worker = await store.register(info())
        leases = [claimed.lease for claimed in await take(store, worker)]
        await report(store, worker, *map(completed, leases))
        assert await store.act(BulkAction.DELETE, ids) == Acted(ACT_MOST, 0)
        assert await store.find() == []
        await check_counts(store, clock)

    async def test_an_action_is_noticed(self, store: Store) -> None:
        """CONTROL and FINISHED of a cancel, READY of a retry."""
        jobs = await store.enqueue([draft(), draft()])
        ids = [job.id for job in jobs]
        async with (
            capture(store, NoticeKind.CONTROL),
            capture(store, NoticeKind.FINISHED) as finished,
        ):
            await store.act(BulkAction.CANCEL, ids)
        assert {job_id for notice in finished for job_id in notice.ids} == set(ids)
        async with capture(store, NoticeKind.READY):
            await store.act(BulkAction.RETRY, ids)
