"""Registrations, leases, rescue, quarantine, and leaving in good order."""

import asyncio

import msgspec
import pytest

from durably.domain.clock import to_datetime
from durably.domain.errors import LeaseLostError
from durably.domain.job import AttemptError, JobStatus
from durably.domain.outcome import Outcome
from durably.store import ACTIVITY_KEPT_S, ACTIVITY_WINDOW_S, Activity, Refusal, Store
from durably.testing.clock import VirtualClock
from durably.testing.conformance.support import (
    LEASE_S,
    add,
    cancelled,
    check_counts,
    claim_of,
    completed,
    crash_of,
    die,
    draft,
    info,
    look,
    renew,
    report,
    reserved,
    running,
    take,
    take_ids,
    take_one,
)


class Workers:
    """Who may hold jobs, and what becomes of the jobs of the dead."""

    # Registration

    async def test_a_registration_can_be_looked_at(self, store: Store) -> None:
        """Every worker is listed with what it said of itself and how many jobs it holds."""
        said = info(
            host="h",
            pid=7,
            queues=("p", "q"),
            types=("a", "b"),
            concurrency=3,
            lease_s=5.0,
            limits={"a": 2},
        )
        idle = await store.register(info())
        busy = await store.register(said)
        await store.enqueue([draft(), draft()])
        await take(store, busy, start=1, reserve=1)
        listed = {state.id: state for state in await store.workers()}

        assert set(listed) == {idle, busy}
        assert listed[busy].info == said
        assert (listed[busy].held, listed[idle].held) == (2, 0)
        assert listed[busy].alive
        assert listed[idle].alive

    async def test_a_worker_can_announce_itself_anew(self, store: Store) -> None:
        """New queues and types replace the old; for one that is gone nothing happens."""
        worker = await store.register(info())
        changed = info(types=("a", "b"), queues=("q",), limits={"b": 1})
        await store.announce(worker, changed)
        await store.announce(worker + 1, changed)
        [state] = await store.workers()

        assert state.info == changed

    async def test_a_number_is_never_given_out_again(self, store: Store) -> None:
        """Registrations count on, also after all have ended."""
        numbers = []
        for _ in range(3):
            numbers.append(await store.register(info()))
            numbers.append(await store.register(info()))
            for worker in numbers[-2:]:
                await store.resign(worker)

        assert numbers == sorted(set(numbers))

    async def test_an_ended_registration_is_lost(self, store: Store) -> None:
        """Its exchange claims nothing and says so; its outcomes are judged all the same."""
        worker, lease = await running(store)
        await store.resign(worker)
        await add(store)
        done = await store.exchange(worker, outcomes=[completed(lease)], claim=claim_of())
        idle = await store.exchange(worker, claim=claim_of())

        assert (done.lost, done.claimed) == (True, ())
        assert done.refused == {0: Refusal.LEASE_LOST}
        assert (idle.lost, idle.claimed) == (True, ())
        assert (await store.exchange(await store.register(info()))).lost is False

    # Leases

    async def test_a_lease_ends_when_it_is_not_renewed(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """A worker that is silent for its whole lease is taken for dead, not a moment earlier."""
        _, lease = await running(store)
        await clock.advance(LEASE_S - 0.001)
        before = await store.rescue()
        [alive] = await store.workers()
        await clock.advance(0.001)
        [dead] = await store.workers()
        after = await store.rescue()

        assert (before.workers, before.ready) == ((), 0)
        assert (alive.alive, dead.alive) == (True, False)
        assert after.ready == 1
        assert (await look(store, lease)).status is JobStatus.PENDING

    async def test_renewing_extends_the_lease(self, store: Store, clock: VirtualClock) -> None:
        """As long as it renews, a worker keeps its jobs for hours."""
        worker, lease = await running(store)
        for _ in range(5):
            await clock.advance(LEASE_S - 1)
            assert await renew(store, worker)
            assert (await store.rescue()).workers == ()
        await report(store, worker, completed(lease))

        assert (await look(store, lease)).status is JobStatus.COMPLETED

    async def test_a_lease_is_as_long_as_the_worker_said(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Each worker has its own."""
        short = await store.register(info(lease_s=1.0))
        long = await store.register(info(lease_s=100.0))
        first, second = await add(store, "a"), await add(store, "b")
        await take_one(store, short, "a")
        await take_one(store, long, "b")
        await clock.advance(1)
        await store.rescue()

        assert (await look(store, first)).status is JobStatus.PENDING
        assert (await look(store, second)).status is JobStatus.PROCESSING

    async def test_a_claim_begins_a_lease(self, store: Store, clock: VirtualClock) -> None:
        """A worker that was idle for hours has at least two thirds of its lease from its claim."""
        worker = await store.register(info())
        await clock.advance(3_600)
        await add(store)
        await take_one(store, worker)
        await clock.advance(LEASE_S * 0.66)
        first = await store.rescue()
        await add(store)
        await take_one(store, worker)
        await clock.advance(LEASE_S * 0.66)
        second = await store.rescue()

        assert first.workers == second.workers == ()
        [state] = await store.workers()
        assert (state.alive, state.held) == (True, 2)

    async def test_an_idle_worker_is_not_dead(self, store: Store, clock: VirtualClock) -> None:
        """Who holds nothing needs no renewal, and may claim at any time."""
        worker = await store.register(info())
        await clock.advance(3_600)
        rescued = await store.rescue()
        job = await add(store)

        assert rescued.workers == ()
        assert [state.alive for state in await store.workers()] == [True]
        assert await take_ids(store, worker) == [job.id]

    async def test_a_worker_says_when_it_renewed_and_how_large_it_is(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """To others: the seconds since, and the memory it gave then; nothing before the first."""
        worker = await store.register(info())
        [new] = await store.workers()
        await clock.advance(3)
        [waiting] = await store.workers()
        await renew(store, worker, 123_456_789_012)
        [renewed] = await store.workers()
        await clock.advance(1.5)
        [later] = await store.workers()
        await renew(store, worker)
        [silent] = await store.workers()

        assert new.renewed_ago_s == pytest.approx(0, abs=1e-5)
        assert waiting.renewed_ago_s == pytest.approx(3)
        assert new.memory_bytes is waiting.memory_bytes is None
        assert renewed.renewed_ago_s == pytest.approx(0, abs=1e-5)
        assert later.renewed_ago_s == pytest.approx(1.5)
        assert renewed.memory_bytes == later.memory_bytes == 123_456_789_012
        assert silent.memory_bytes is None

    async def test_a_claim_counts_as_a_renewal(self, store: Store, clock: VirtualClock) -> None:
        """Of a worker that was idle for long; what it said of its memory stays."""
        worker = await store.register(info())
        await renew(store, worker, 7)
        await clock.advance(3_600)
        await add(store)
        await take_one(store, worker)
        [state] = await store.workers()

        assert state.renewed_ago_s == pytest.approx(0, abs=1e-5)
        assert state.memory_bytes == 7

    async def test_renewals_may_come_together(self, store: Store, clock: VirtualClock) -> None:
        """Heartbeats of several workers renew from their threads, beside any other operation."""
        workers = [await store.register(info()) for _ in range(4)]
        await store.enqueue([draft() for _ in range(20)])
        renewed = await asyncio.gather(*(renew(store, worker) for worker in workers * 5))
        taken = await asyncio.gather(
            *(take_ids(store, worker, start=1) for worker in workers * 5),
            *(renew(store, worker) for worker in workers * 5),
        )

        assert all(renewed)
        assert all(taken)
        await check_counts(store, clock)

    async def test_renewing_tells_when_it_is_over(self, store: Store, clock: VirtualClock) -> None:
        """After a rescue or a resignation `renew` gives False and brings nothing back."""
        taken, _ = await running(store)
        left = await store.register(info())
        await die(store, clock)
        await store.resign(left)

        assert not await renew(store, taken)
        assert not await renew(store, left)
        assert not await renew(store, left + 1)
        assert await store.workers() == []

    # Rescue

    async def test_a_rescued_job_is_ready_at_once(self, store: Store, clock: VirtualClock) -> None:
        """A death spends no attempt; it is one crash, with an entry among the errors."""
        worker, lease = await running(store)
        started = to_datetime(clock.now_us())
        rescued = await die(store, clock)
        job = await look(store, lease)

        assert (rescued.workers, rescued.ready, rescued.final) == ((f"host:1:{worker}",), 1, 0)
        assert (job.status, job.attempts, job.crashes) == (JobStatus.PENDING, 0, 1)
        assert job.next_retry_at is None
        [entry] = job.errors
        assert isinstance(entry, AttemptError)
        assert (entry.attempt, entry.kind) == (1, "crash")
        assert entry.at == to_datetime(clock.now_us())
        assert entry.started_at == started
        assert f"host:1:{worker}" in entry.message
        assert job.error == entry.message
        other = await store.register(info())
        assert await take_ids(store, other) == [job.id]
        await check_counts(store, clock)

    async def test_a_reserved_job_crashes_too(self, store: Store, clock: VirtualClock) -> None:
        """Each job that the dead worker held counts one crash; only one that ran had started."""
        worker = await store.register(info())
        await store.enqueue([draft(), draft()])
        await take(store, worker, start=1, reserve=1)
        rescued = await die(store, clock)

        assert rescued.ready == 2
        for job in await store.find():
            assert (job.status, job.attempts, job.crashes) == (JobStatus.PENDING, 0, 1)
            assert [entry.attempt for entry in job.errors] == [1]
        one, two = await store.find()
        assert one.errors[0].started_at is not None
        assert two.errors[0].started_at is None

    async def test_the_living_keep_their_jobs(self, store: Store, clock: VirtualClock) -> None:
        """Rescue touches no job of a worker that renews."""
        dead, lost = await running(store, "a")
        alive, kept = await running(store, "b")
        rescued = await die(store, clock, alive)

        assert rescued.workers == (f"host:1:{dead}",)
        assert (await look(store, lost)).status is JobStatus.PENDING
        assert (await look(store, kept)).status is JobStatus.PROCESSING
        await report(store, alive, completed(kept))

    async def test_the_caller_is_never_taken_for_dead(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """A worker that rescues others spares itself, however late it is."""
        me, mine = await running(store, "a")
        _, theirs = await running(store, "b")
        await clock.advance(LEASE_S + 1)
        rescued = await store.rescue(me)

        assert rescued.ready == 1
        assert (await look(store, mine)).status is JobStatus.PROCESSING
        assert (await look(store, theirs)).status is JobStatus.PENDING

    async def test_the_rescued_worker_decides_nothing_any_more(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Its registration is lost, its leases void: exchange, checkpoint and complete refuse."""
        worker, lease = await running(store)
        await die(store, clock)
        done = await store.exchange(worker, outcomes=[completed(lease)], started=[lease])
        with pytest.raises(LeaseLostError):
            await store.checkpoint(lease, step=("a", "1"))
        with pytest.raises(LeaseLostError):
            async with store.complete(lease, lambda: completed(lease)):
                pass

        assert (done.lost, done.refused) == (True, {0: Refusal.LEASE_LOST})
        assert (await look(store, lease)).status is JobStatus.PENDING

    async def test_a_job_is_rescued_once(self, store: Store, clock: VirtualClock) -> None:
        """Rescuers that come together count one crash; a second rescue finds nothing."""
        _, lease = await running(store)
        await clock.advance(LEASE_S + 1)
        rescued = await asyncio.gather(*(store.rescue() for _ in range(4)))
        again = await store.rescue()

        assert [r.ready for r in rescued].count(1) == 1
        assert sum(len(r.workers) for r in rescued) == 1
        assert (again.workers, again.ready) == ((), 0)
        assert (await look(store, lease)).crashes == 1
        await check_counts(store, clock)

    async def test_many_jobs_are_rescued_in_several_calls(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Whoever repeats until no worker is named has rescued each job once."""
        worker = await store.register(info())
        await store.enqueue([draft() for _ in range(1_200)])
        await take(store, worker, start=1_200)
        await clock.advance(LEASE_S + 1)
        ready = 0
        while (rescued := await store.rescue()).workers:
            ready += rescued.ready

        assert ready == 1_200
        assert {job.crashes for job in await store.find(limit=1_200)} == {1}
        assert await store.workers() == []
        await check_counts(store, clock)

    async def test_a_crash_after_a_cancel_cancels(self, store: Store, clock: VirtualClock) -> None:
        """A job that was asked to stop and whose worker dies runs no more."""
        _, lease = await running(store)
        await store.cancel(lease.job_id)
        rescued = await die(store, clock)
        job = await look(store, lease)

        assert (rescued.ready, rescued.final) == (0, 1)
        assert (job.status, job.crashes, job.error) == (JobStatus.CANCELLED, 1, "cancelled")
        assert job.completed_at == to_datetime(clock.now_us())

    # Quarantine

    async def test_the_third_crash_puts_a_job_aside(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """After three deaths it is failed, with attempts unspent, and says why."""
        await add(store, max_attempts=50)
        jobs = [await crash_of(store, clock) for _ in range(3)]
        job = jobs[-1]

        assert [j.status for j in jobs] == [JobStatus.PENDING, JobStatus.PENDING, JobStatus.FAILED]
        assert (job.attempts, job.crashes, len(job.errors)) == (0, 3, 3)
        assert job.error is not None
        assert job.error.startswith("quarantined: its process died 3 times")
        assert job.completed_at == to_datetime(clock.now_us())
        await check_counts(store, clock)

    async def test_quarantine_is_told_as_final(self, store: Store, clock: VirtualClock) -> None:
        """The rescue that puts a job aside counts it as final, not as ready."""
        await add(store)
        for _ in range(2):
            await crash_of(store, clock)
        worker = await store.register(info())
        await take_one(store, worker)
        rescued = await die(store, clock)

        assert (rescued.ready, rescued.final) == (0, 1)

    async def test_a_person_may_try_again(self, store: Store, clock: VirtualClock) -> None:
        """After a retry by a person three more crashes are needed; it stays a suspect."""
        job = await add(store)
        for _ in range(3):
            await crash_of(store, clock)
        await store.retry(job.id)
        ahead = await take_ids(store, await store.register(info()), start=0, reserve=5)
        jobs = [await crash_of(store, clock) for _ in range(3)]

        assert ahead == []
        assert [j.crashes for j in jobs] == [4, 5, 6]
        assert [j.status for j in jobs] == [JobStatus.PENDING, JobStatus.PENDING, JobStatus.FAILED]

    async def test_crashes_while_reserved_count_too(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """The first crash may come while the job was claimed ahead; it is a suspect from then."""
        _, lease = await reserved(store)
        await die(store, clock)
        worker = await store.register(info())

        assert (await look(store, lease)).crashes == 1
        assert await take_ids(store, worker, start=0, reserve=5) == []
        assert await take_ids(store, worker, start=1) == [lease.job_id]

    # Leaving

    async def test_a_worker_resigns_in_good_order(self, store: Store, clock: VirtualClock) -> None:
        """What it still holds is ready again, unspent and without a crash; its leases are void."""
        worker = await store.register(info())
        await store.enqueue([draft(), draft()])
        one, two = (c.lease for c in await take(store, worker, start=1, reserve=1))
        await store.resign(worker)
        late = await store.exchange(worker, outcomes=[completed(one), completed(two)])

        assert late.refused == {0: Refusal.LEASE_LOST, 1: Refusal.LEASE_LOST}
        assert await store.workers() == []
        for job in await store.find():
            assert (job.status, job.attempts, job.crashes) == (JobStatus.PENDING, 0, 0)
        await check_counts(store, clock)

    async def test_resigning_cancels_what_was_asked_to_stop(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """It is final at the time of the resignation; resigning twice does no harm."""
        worker, lease = await running(store)
        await store.cancel(lease.job_id)
        await clock.advance(2)
        ended = to_datetime(clock.now_us())
        await store.resign(worker)
        await clock.advance(2)
        await store.resign(worker)

        job = await look(store, lease)
        assert (job.status, job.completed_at, job.error) == (
            JobStatus.CANCELLED,
            ended,
            "cancelled",
        )

    # Figures of what ran

    async def test_activity_is_kept_by_window_and_worker(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """What a worker says of a window replaces what it said before; windows grow old."""
        one, two = await store.register(info()), await store.register(info())
        window = clock.now_us() // 1_000_000 // ACTIVITY_WINDOW_S
        first = Activity(window, finished=1, attempts=2, failed=1, wait={3: 1}, run={-5: 2})
        more = msgspec.structs.replace(first, finished=5)
        other = Activity(window, finished=7)
        later = Activity(window + 1, finished=9)
        await store.exchange(one, activity=first)
        await store.exchange(two, activity=other)
        await store.exchange(one, activity=later)
        await store.exchange(one, activity=more)
        kept = (await store.stats()).activity
        await clock.advance(ACTIVITY_KEPT_S)
        await store.exchange(two, activity=Activity(window + 30))

        assert sorted(kept, key=_finished) == [more, other, later]
        assert (await store.stats()).activity == (later, Activity(window + 30))
        await clock.advance(ACTIVITY_KEPT_S + ACTIVITY_WINDOW_S)
        assert (await store.stats()).activity == ()

    async def test_the_worker_of_a_job_stays_named(self, store: Store, clock: VirtualClock) -> None:
        """A finished or rescued job still says who held it last."""
        worker, lease = await running(store, "a")
        done: Outcome = cancelled(lease)
        await report(store, worker, done)
        other, lost = await running(store, "b")
        await die(store, clock)

        assert (await look(store, lease)).worker == f"host:1:{worker}"
        assert (await look(store, lost)).worker == f"host:1:{other}"


def _finished(activity: Activity) -> int:
    return activity.finished
