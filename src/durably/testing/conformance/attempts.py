"""Outcomes, starts, checkpoints and `complete`: what an attempt writes, and what its lease allows."""

import asyncio
from datetime import timedelta

import pytest

from durably.domain.clock import to_datetime, to_us
from durably.domain.errors import LeaseLostError, VersionConflictError
from durably.domain.job import AttemptError, JobPriority, JobStatus, Progress
from durably.domain.outcome import Lease, Outcome
from durably.store import Refusal, Store
from durably.testing.clock import VirtualClock
from durably.testing.conformance.support import (
    FAILURE,
    OUTCOMES,
    EndOf,
    add,
    all_of_them,
    cancelled,
    changes,
    check_counts,
    claim_of,
    completed,
    die,
    draft,
    event,
    failed,
    info,
    look,
    nothing_of_them,
    of_each_kind,
    put,
    report,
    reserved,
    retried,
    returned,
    running,
    snoozed,
    some_changes,
    take,
    take_ids,
    take_one,
)

SPENDING = (completed, retried, failed, cancelled)


class Attempts:
    """What becomes of a leased job."""

    # Each kind of end

    async def test_a_completed_job_keeps_its_result(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """It is final at the store's time, with the result and without an error."""
        worker, lease = await running(store)
        started = clock.now_us()
        await clock.advance(2)
        await report(store, worker, completed(lease, {"rows": [1, None, "\0"]}, run_s=2.0))
        job = await look(store, lease)

        assert (job.status, job.result) == (JobStatus.COMPLETED, {"rows": [1, None, "\0"]})
        assert (job.error, job.attempts, job.next_retry_at) == (None, 1, None)
        assert job.processed_at == to_datetime(started)
        assert job.completed_at == to_datetime(clock.now_us())
        await check_counts(store, clock)

    async def test_a_failed_attempt_is_noted_and_tried_again(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """After a retry the job waits, shows its error and when it runs, and runs then."""
        worker, lease = await running(store)
        started = to_datetime(clock.now_us())
        await clock.advance(1)
        await report(store, worker, retried(lease, 5.0))
        job = await look(store, lease)
        now = to_datetime(clock.now_us())
        await clock.advance(4.9)
        early = await take_ids(store, worker)
        await clock.advance(0.1)

        assert (job.status, job.error, job.attempts) == (JobStatus.PENDING, "boom", 1)
        assert job.next_retry_at == now + timedelta(seconds=5)
        assert job.errors == (
            AttemptError(
                attempt=1,
                at=now,
                started_at=started,
                kind="error",
                message="boom",
                traceback=FAILURE.traceback,
            ),
        )
        assert early == []
        again = await take_one(store, worker)
        job = await look(store, again)
        assert (job.attempts, job.next_retry_at, job.error) == (2, None, "boom")

    async def test_an_attempt_that_failed_says_when_it_started(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Each one for itself; one claimed ahead by how long it ran, if its start was not told."""
        worker, lease = await running(store, max_attempts=9)
        began = clock.now_us()
        await clock.advance(1)
        await report(store, worker, retried(lease))
        ahead = await take_one(store, worker, start=0, reserve=1)
        await clock.advance(5)
        await report(store, worker, retried(ahead, run_s=2.0))
        told = await take_one(store, worker, start=0, reserve=1)
        await clock.advance(1)
        await store.exchange(worker, started=[told])
        await clock.advance(1)
        await report(store, worker, failed(told))
        job = await look(store, lease)

        started = [to_us(e.started_at) - began for e in job.errors if e.started_at is not None]
        assert started == [0, 4_000_000, 7_000_000]
        assert [to_us(e.at) - began for e in job.errors] == [1_000_000, 6_000_000, 8_000_000]

    async def test_success_clears_the_error_and_keeps_the_history(self, store: Store) -> None:
        """A completed job has no error, but every failed attempt in `errors`, oldest first."""
        worker, lease = await running(store, max_attempts=5)
        for _ in range(2):
            await report(store, worker, retried(lease))
            lease = await take_one(store, worker)
        await report(store, worker, completed(lease))
        job = await look(store, lease)

        assert (job.error, job.attempts) == (None, 3)
        assert [entry.attempt for entry in job.errors] == [1, 2]

    async def test_a_job_can_fail_for_good(self, store: Store, clock: VirtualClock) -> None:
        """It is final with its error, and the attempt that failed is spent and noted."""
        worker, lease = await running(store)
        await report(store, worker, failed(lease))
        job = await look(store, lease)

        assert (job.status, job.error, job.attempts) == (JobStatus.FAILED, "boom", 1)
        assert [entry.attempt for entry in job.errors] == [1]
        assert job.completed_at == to_datetime(clock.now_us())
        await check_counts(store, clock)

    async def test_a_snooze_spends_no_attempt(self, store: Store, clock: VirtualClock) -> None:
        """The job waits, shows until when, and has as many attempts as before."""
        worker, lease = await running(store)
        await report(store, worker, snoozed(lease, 60))
        job = await look(store, lease)
        early = await take_ids(store, worker)
        await clock.advance(60)

        assert (job.status, job.attempts, job.errors) == (JobStatus.PENDING, 0, ())
        assert job.run_at == to_datetime(clock.now_us())
        assert early == []
        assert (await look(store, await take_one(store, worker))).attempts == 1

    async def test_a_handler_can_cancel_its_job(self, store: Store, clock: VirtualClock) -> None:
        """The job is final with the reason; the attempt is spent."""
        worker, lease = await running(store)
        await report(store, worker, cancelled(lease, "no longer wanted"))
        job = await look(store, lease)

        assert (job.status, job.error) == (JobStatus.CANCELLED, "no longer wanted")
        assert (job.attempts, job.errors) == (1, ())
        assert job.completed_at == to_datetime(clock.now_us())

    async def test_a_returned_job_is_as_if_never_claimed(self, store: Store) -> None:
        """Both a running and a reserved one are ready at once, unspent."""
        worker = await store.register(info())
        jobs = [await add(store) for _ in range(2)]
        claimed = await take(store, worker, start=1, reserve=1)
        await report(store, worker, *(returned(c.lease) for c in claimed))

        for job in jobs:
            now = await look(store, job)
            assert (now.status, now.attempts, now.errors) == (JobStatus.PENDING, 0, ())
        assert [job.id for job in jobs] == await take_ids(store, worker)

    async def test_waiting_for_no_time_is_being_ready(self, store: Store) -> None:
        """A retry or snooze of 0 seconds can be claimed by the very exchange that records it."""
        worker, lease = await running(store)
        for end in (retried, snoozed):
            [claimed] = await self._report_and_claim(store, worker, end(lease))
            lease = claimed

        assert (await look(store, lease)).attempts == 2

    async def test_attempts_and_crashes_are_counted_apart(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Only retries and ends spend attempts; only deaths count as crashes."""
        worker = await store.register(info())
        job = await add(store, max_attempts=50)
        counted = []
        for end in (snoozed, returned, retried, None, retried, snoozed, None, completed):
            lease = await take_one(store, worker)
            if end is None:
                await die(store, clock)
                worker = await store.register(info())
            else:
                await report(store, worker, end(lease))
            now = await look(store, job)
            counted.append((now.attempts, now.crashes))

        assert counted == [(0, 0), (0, 0), (1, 0), (1, 1), (2, 1), (2, 1), (2, 2), (3, 2)]
        now = await look(store, job)
        assert [(e.attempt, e.kind) for e in now.errors] == [
            (1, "error"),
            (2, "crash"),
            (2, "error"),
            (3, "crash"),
        ]

    # Starts

    async def test_a_reserved_job_starts(self, store: Store, clock: VirtualClock) -> None:
        """Telling its start makes it processing and spends the attempt, once."""
        worker, lease = await reserved(store)
        await clock.advance(1)
        await store.exchange(worker, started=[lease])
        started = to_datetime(clock.now_us())
        await clock.advance(1)
        await store.exchange(worker, started=[lease])
        job = await look(store, lease)

        assert (job.status, job.attempts) == (JobStatus.PROCESSING, 1)
        assert job.processed_at == started
        await report(store, worker, completed(lease))
        assert (await look(store, lease)).attempts == 1
        await check_counts(store, clock)

    async def test_a_start_needs_the_lease(self, store: Store) -> None:
        """A start under an older lease is ignored, also beside that of the valid one."""
        worker, old = await reserved(store)
        await report(store, worker, returned(old))
        new = await take_one(store, worker, start=0, reserve=1)
        await store.exchange(worker, started=[old])
        ignored = await look(store, new)
        await store.exchange(worker, started=[new, old])

        assert (ignored.status, ignored.attempts) == (JobStatus.PENDING, 0)
        assert (await look(store, new)).status is JobStatus.PROCESSING

    @of_each_kind
    async def test_a_reserved_job_may_end_before_its_start_was_told(
        self, store: Store, clock: VirtualClock, end: EndOf
    ) -> None:
        """It counts as started `run_s` ago, and then ends as any other."""
        worker, lease = await reserved(store)
        await clock.advance(5)
        await report(store, worker, end(lease, run_s=1.5))
        job = await look(store, lease)

        assert job.attempts == (end in SPENDING)
        if end is returned:
            assert job.processed_at is None
        else:
            assert job.processed_at == to_datetime(clock.now_us() - 1_500_000)
        await check_counts(store, clock)

    async def test_many_may_end_before_their_start_was_told(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Each started its own `run_s` ago, of whichever claim it is, and the counts agree."""
        worker = await store.register(info())
        await store.enqueue([draft() for _ in range(150)])
        leases = [c.lease for _ in (1, 2) for c in await take(store, worker, start=0, reserve=75)]
        await clock.advance(5)
        ends = [completed(lease, run_s=n / 1e3, untold=True) for n, lease in enumerate(leases)]
        await report(store, worker, *ends)

        for n in (0, 1, 74, 75, 149):
            job = await look(store, leases[n])
            assert (job.status, job.attempts) == (JobStatus.COMPLETED, 1)
            assert job.processed_at == to_datetime(clock.now_us() - n * 1_000)
        await check_counts(store, clock)

    @pytest.mark.parametrize("odd", ["late", "started", "twice"])
    async def test_untold_ends_are_judged_each(
        self, store: Store, clock: VirtualClock, odd: str
    ) -> None:
        """One that has no lease, is known to run, or is told twice, keeps no other from its end."""
        worker = await store.register(info())
        await store.enqueue([draft() for _ in range(3)])
        one, two, three = (c.lease for c in await take(store, worker, start=0, reserve=3))
        if odd == "late":
            await store.exchange(worker, held=[one, three])
            await take_one(store, worker, start=0, reserve=1)
        if odd == "started":
            await store.exchange(worker, started=[two])
        told = [completed(lease, run_s=0.001, untold=True) for lease in (one, two, three)]
        done = await store.exchange(worker, outcomes=told + told[:1] * (odd == "twice"))

        assert done.refused == ({1: Refusal.LEASE_LOST} if odd == "late" else {})
        assert [(await look(store, lease)).status for lease in (one, three)] == [
            JobStatus.COMPLETED,
            JobStatus.COMPLETED,
        ]
        job = await look(store, two)
        ended = (JobStatus.PENDING, 0) if odd == "late" else (JobStatus.COMPLETED, 1)
        assert (job.status, job.attempts) == ended
        await check_counts(store, clock)

    # Refusals

    @of_each_kind
    async def test_a_late_outcome_is_refused(
        self, store: Store, clock: VirtualClock, end: EndOf
    ) -> None:
        """Without the lease an outcome changes nothing, writes nothing, and is counted as late."""
        worker, lease = await running(store)
        await die(store, clock)
        other = await store.register(info())
        new = await take_one(store, other)
        before = await look(store, lease)
        done = await store.exchange(worker, outcomes=[end(lease, changes=some_changes())])

        assert done.refused == {0: Refusal.LEASE_LOST}
        assert await look(store, lease) == before
        assert await nothing_of_them(store)
        assert (await store.stats()).late_outcomes == (end is not returned)
        await report(store, other, completed(new))
        await check_counts(store, clock)

    async def test_a_late_outcome_harms_no_other(self, store: Store, clock: VirtualClock) -> None:
        """Of several outcomes of each kind only those without a lease are refused."""
        worker = await store.register(info())
        await store.enqueue([draft() for _ in range(12)])
        leases = [c.lease for c in await take(store, worker)]
        late, valid = leases[:6], leases[6:]
        await store.exchange(worker, held=valid)
        outcomes = [completed(late[0])]
        for end, lost, held in zip(OUTCOMES, late, valid, strict=True):
            outcomes += [end(lost, changes=changes(put(lost.job_id))), end(held)]
        done = await store.exchange(worker, outcomes=outcomes)

        refused = [i for i, outcome in enumerate(outcomes) if outcome.lease in late]
        assert done.refused == dict.fromkeys(refused, Refusal.LEASE_LOST)
        assert await store.count_records("thing") == 0
        attempts = [(await look(store, lease)).attempts for lease in valid]
        assert attempts == [end in SPENDING for end in OUTCOMES]
        await check_counts(store, clock)

    async def test_many_outcomes_can_be_reported_at_once(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Four hundred outcomes of every kind, some with changes, one late, are judged each."""
        worker = await store.register(info())
        await store.enqueue([draft(max_attempts=9) for _ in range(400)])
        leases = [c.lease for c in await take(store, worker, start=200, reserve=200)]
        outcomes = [OUTCOMES[n % 6](lease) for n, lease in enumerate(leases)]
        outcomes[100] = completed(leases[100], changes=changes(put("a")))
        lost = Lease(leases[7].job_id, leases[7].token + 1_000, leases[7].ref, "work", "default")
        done = await store.exchange(worker, outcomes=[*outcomes, completed(lost)])

        assert done.refused == {400: Refusal.LEASE_LOST}
        figures = {(c.state, c.count) for c in (await store.stats()).counts}
        assert sum(count for _, count in figures) == 400
        for n in range(6):
            job = await look(store, leases[n])
            assert job.attempts == (OUTCOMES[n] in SPENDING)
        await check_counts(store, clock)

    async def test_an_unknown_job_has_no_lease(self, store: Store, clock: VirtualClock) -> None:
        """An outcome for a job that was removed, or never was, is refused."""
        worker, lease = await running(store)
        await report(store, worker, completed(lease))
        await clock.advance(1)
        await store.cleanup(0.5)
        never = Lease("never", 1, 1_000_000, "work", "default")
        done = await store.exchange(worker, outcomes=[completed(lease), failed(never)])

        assert done.refused == {0: Refusal.LEASE_LOST, 1: Refusal.LEASE_LOST}
        assert await store.find() == []

    async def test_a_conflict_refuses_that_outcome_alone(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Its job stays leased and may end otherwise; nothing of its changes was written."""
        worker = await store.register(info())
        await store.enqueue([draft() for _ in range(3)])
        one, two, three = (c.lease for c in await take(store, worker))
        wrong = changes(draft("follow-up"), put("b"), put("a", expect=3), event("a"))
        done = await store.exchange(
            worker, outcomes=[completed(one), completed(two, changes=wrong), completed(three)]
        )
        held = await look(store, two)

        assert done.refused == {1: Refusal.CONFLICT}
        assert held.status is JobStatus.PROCESSING
        assert await nothing_of_them(store)
        assert await store.record("thing", "b") is None
        await report(store, worker, snoozed(two))
        assert (await look(store, two)).attempts == 0
        assert (await store.stats()).late_outcomes == 0
        await check_counts(store, clock)

    async def test_outcomes_see_what_those_before_them_wrote(self, store: Store) -> None:
        """Two that expect the same version: the first is recorded, the second is in conflict."""
        worker = await store.register(info())
        await store.enqueue([draft(), draft()])
        one, two = (c.lease for c in await take(store, worker))
        done = await store.exchange(
            worker,
            outcomes=[
                completed(one, changes=changes(put("a", 1, expect=0))),
                completed(two, changes=changes(put("a", 2, expect=0))),
            ],
        )
        record = await store.record("thing", "a")

        assert done.refused == {1: Refusal.CONFLICT}
        assert record is not None
        assert (record.value, record.version) == (1, 1)

    async def test_outcomes_are_judged_in_their_order(self, store: Store) -> None:
        """A cancel and a unique key of an earlier outcome meet the job of a later one running."""
        worker = await store.register(info())
        await store.enqueue([draft(), draft(), draft("work", unique_key="k")])
        one, two, three = (c.lease for c in await take(store, worker))
        follow_up = draft("work", unique_key="k")
        first = completed(one, changes=changes(follow_up, cancel=[two.job_id]))
        await report(store, worker, first, snoozed(two, 60), completed(three))
        snooze = await look(store, two)

        assert (snooze.status, snooze.run_at) == (JobStatus.CANCELLED, None)
        assert await store.get(follow_up.id) is None

    # Repetition

    @of_each_kind
    @pytest.mark.parametrize("ahead", [False, True])
    async def test_an_outcome_reported_again_counts_once(
        self, store: Store, clock: VirtualClock, end: EndOf, *, ahead: bool
    ) -> None:
        """After a lost reply the same exchange changes nothing more and refuses nothing."""
        worker, lease = await (reserved if ahead else running)(store)
        plain = (await (reserved if ahead else running)(store, "plain"))[1]
        outcomes = [end(lease, changes=some_changes()), end(plain)]
        await report(store, worker, *outcomes)
        once = await look(store, lease), await look(store, plain)
        await clock.advance(1)
        await report(store, worker, outcomes[1])
        await report(store, worker, *outcomes, *outcomes)

        assert (await look(store, lease), await look(store, plain)) == once
        assert await all_of_them(store)
        assert (await store.stats()).late_outcomes == 0
        await check_counts(store, clock)

    @of_each_kind
    async def test_an_outcome_twice_in_one_exchange_counts_once(
        self, store: Store, clock: VirtualClock, end: EndOf
    ) -> None:
        """A report repeated within a batch, with or without changes, is taken once."""
        worker, plain = await running(store, "a")
        changing = (await running(store, "b"))[1]
        one, two = end(plain), end(changing, changes=some_changes())
        await report(store, worker, one, two, one, two)

        assert (await look(store, plain)).attempts == (end in SPENDING)
        assert len((await look(store, plain)).errors) == (end in (retried, failed))
        assert await all_of_them(store)
        await check_counts(store, clock)

    async def test_the_first_of_two_outcomes_decides(self, store: Store) -> None:
        """Two different ends of one attempt in one exchange: the later changes nothing."""
        worker, lease = await running(store)
        await report(store, worker, failed(lease), completed(lease, "too late"))

        assert (await look(store, lease)).status is JobStatus.FAILED

    @of_each_kind
    async def test_a_later_outcome_of_the_attempt_changes_nothing(
        self, store: Store, clock: VirtualClock, end: EndOf
    ) -> None:
        """Once an attempt has ended, no other report of it, not even of success, is recorded."""
        worker, lease = await running(store)
        await report(store, worker, end(lease))
        once = await look(store, lease)
        await clock.advance(1)
        await report(store, worker, completed(lease, "too late"))
        await report(store, worker, failed(lease, changes=some_changes()))

        assert await look(store, lease) == once
        assert await nothing_of_them(store)
        await check_counts(store, clock)

    async def test_a_repeated_outcome_does_not_end_the_next_attempt(self, store: Store) -> None:
        """Once the job has been claimed again, the earlier attempt's report is refused."""
        worker, lease = await running(store)
        await report(store, worker, retried(lease))
        new = await take_one(store, worker)
        done = await store.exchange(worker, outcomes=[retried(lease)])

        assert done.refused == {0: Refusal.LEASE_LOST}
        assert (await look(store, new)).status is JobStatus.PROCESSING

    # What commits with an outcome

    @of_each_kind
    async def test_changes_commit_with_the_outcome(
        self, store: Store, clock: VirtualClock, end: EndOf
    ) -> None:
        """Jobs, records and events of an outcome are there with it."""
        worker, lease = await running(store)
        await report(store, worker, end(lease, changes=some_changes()))

        assert await all_of_them(store)
        await check_counts(store, clock)

    async def test_a_job_can_be_followed_by_one_with_its_key(self, store: Store) -> None:
        """The key is free for the follow-up that commits with the job's end."""
        worker, lease = await running(store, unique_key="k")
        follow_up = draft(unique_key="k")
        await report(store, worker, completed(lease, changes=changes(follow_up)))

        assert (await look(store, follow_up.id)).status is JobStatus.PENDING

    async def test_a_follow_up_can_be_claimed_at_once(self, store: Store) -> None:
        """The exchange that records the outcome may give its follow-ups, in order of priority."""
        worker, lease = await running(store)
        low, high = draft(), draft(priority=JobPriority.HIGH)
        leases = await self._report_and_claim(
            store, worker, completed(lease, changes=changes(low, high))
        )

        assert [high.id, low.id] == [claimed.job_id for claimed in leases]

    async def test_an_outcome_can_cancel_other_jobs(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Pending ones are cancelled, running ones asked to stop; final and unknown are let be."""
        worker = await store.register(info())
        await store.enqueue([draft(), draft(), draft()])
        one, two, done = (c.lease for c in await take(store, worker))
        await report(store, worker, completed(done))
        waits, delayed = await add(store), await add(store, delay=60)
        targets = [waits.id, delayed.id, two.job_id, done.job_id, "unknown", waits.id]
        result = await report(store, worker, completed(one, changes=changes(cancel=targets)))

        assert (await look(store, waits)).status is JobStatus.CANCELLED
        assert (await look(store, delayed)).status is JobStatus.CANCELLED
        assert (await look(store, done)).status is JobStatus.COMPLETED
        assert result.cancel == (two.job_id,)
        asked = await look(store, two)
        assert (asked.status, asked.cancelled) == (JobStatus.PROCESSING, True)
        await check_counts(store, clock)

    # After a lost reply

    async def test_what_the_worker_does_not_know_is_returned(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """*held* keeps the leases it names; the others are ready again, unspent, and void."""
        worker = await store.register(info())
        jobs = await store.enqueue([draft() for _ in range(4)])
        claimed = [c.lease for c in await take(store, worker, start=2, reserve=2)]
        kept = [claimed[0], claimed[2]]
        await store.exchange(worker, held=kept)
        again = await take_ids(store, worker)
        stale = await store.exchange(worker, outcomes=[completed(claimed[1])])

        assert [jobs[1].id, jobs[3].id] == again
        assert (await look(store, jobs[3])).attempts == 1
        assert stale.refused == {0: Refusal.LEASE_LOST}
        await report(store, worker, *(completed(lease) for lease in kept))
        await check_counts(store, clock)

    async def test_what_has_just_ended_is_not_returned(self, store: Store) -> None:
        """Outcomes are recorded before *held* is compared, starts too."""
        worker = await store.register(info())
        await store.enqueue([draft(), draft(), draft()])
        one, two, _ = (c.lease for c in await take(store, worker, start=1, reserve=2))
        await store.exchange(worker, outcomes=[completed(one)], started=[two], held=[two])

        statuses = [job.status for job in await store.find()]
        expected = [JobStatus.COMPLETED, JobStatus.PROCESSING, JobStatus.PENDING]
        assert statuses == expected

    async def test_an_older_lease_of_a_held_job_keeps_nothing(self, store: Store) -> None:
        """*held* names leases, not jobs."""
        worker, old = await running(store)
        await report(store, worker, returned(old))
        new = await take_one(store, worker)
        await store.exchange(worker, held=[old])

        assert (await look(store, new)).status is JobStatus.PENDING

    async def test_a_lost_claim_can_be_claimed_again_at_once(self, store: Store) -> None:
        """One exchange returns what the lost reply held and claims it anew."""
        worker = await store.register(info())
        jobs = await store.enqueue([draft() for _ in range(3)])
        await take(store, worker)
        done = await store.exchange(worker, held=(), claim=claim_of())

        assert [job.id for job in jobs] == [c.lease.job_id for c in done.claimed]
        assert [1, 1, 1] == [c.record.attempts for c in done.claimed]

    async def test_others_keep_what_they_hold(self, store: Store) -> None:
        """*held* of one worker says nothing of another's jobs."""
        _, lease = await running(store)
        other = await store.register(info())
        await store.exchange(other, held=())

        assert (await look(store, lease)).status is JobStatus.PROCESSING

    # Checkpoints

    async def test_progress_can_be_looked_at(self, store: Store) -> None:
        """The last progress written stays until the job is retried by a person."""
        worker, lease = await running(store)
        await store.checkpoint(lease, progress=Progress(fraction=0.1))
        await store.checkpoint(lease, progress=Progress(fraction=0.5, message='half "done"'))
        during = (await look(store, lease)).progress
        await report(store, worker, retried(lease))

        assert during == Progress(fraction=0.5, message='half "done"')
        assert (await look(store, lease)).progress == during

    async def test_steps_are_kept_for_later_attempts(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Steps survive failure and crash; each job has its own."""
        worker, lease = await running(store)
        await store.checkpoint(lease, step=("load", "[1]"))
        await store.checkpoint(lease, step=("save", '"x"'))
        await report(store, worker, retried(lease))
        await take_one(store, worker)
        await die(store, clock)
        _, other = await running(store, "other")

        assert await store.steps(lease.job_id) == {"load": "[1]", "save": '"x"'}
        assert await store.steps(other.job_id) == {}
        assert await store.steps("unknown") == {}

    async def test_the_first_result_of_a_step_stays(self, store: Store) -> None:
        """A step reported again, after a lost reply, keeps what later attempts may have seen."""
        _, lease = await running(store)
        await store.checkpoint(lease, step=("load", "1"))
        await store.checkpoint(lease, step=("load", "2"))

        assert await store.steps(lease.job_id) == {"load": "1"}

    async def test_a_checkpoint_commits_its_changes(self, store: Store) -> None:
        """They are there at once, while the attempt goes on."""
        worker, lease = await running(store)
        await store.checkpoint(lease, step=("a", "1"), changes=some_changes())

        assert await all_of_them(store)
        assert await store.steps(lease.job_id) == {"a": "1"}
        await report(store, worker, completed(lease))

    @pytest.mark.parametrize("how", ["ended", "returned", "rescued", "reclaimed"])
    async def test_a_checkpoint_needs_the_lease(
        self, store: Store, clock: VirtualClock, how: str
    ) -> None:
        """Without it nothing is written, whatever has become of the job."""
        worker, lease = await running(store)
        if how in ("rescued", "reclaimed"):
            await die(store, clock)
            worker = await store.register(info())
        else:
            end = completed if how == "ended" else returned
            await report(store, worker, end(lease))
        if how == "reclaimed":
            await take_one(store, worker)
        before = await look(store, lease)
        with pytest.raises(LeaseLostError, match=lease.job_id):
            await store.checkpoint(
                lease,
                progress=Progress(fraction=1.0),
                step=("a", "1"),
                changes=some_changes(),
            )

        assert await look(store, lease) == before
        assert await store.steps(lease.job_id) == {}
        assert await nothing_of_them(store)

    async def test_a_checkpoint_in_conflict_writes_nothing(self, store: Store) -> None:
        """A record with another version refuses progress and step too; the lease still holds."""
        worker, lease = await running(store)
        wrong = changes(put("a"), put("b", expect=2), draft("follow-up"), event("a"))
        with pytest.raises(VersionConflictError):
            await store.checkpoint(
                lease, progress=Progress(fraction=1.0), step=("a", "1"), changes=wrong
            )

        assert (await look(store, lease)).progress is None
        assert await store.steps(lease.job_id) == {}
        assert await nothing_of_them(store)
        await report(store, worker, completed(lease))

    # Complete

    async def test_complete_records_what_its_end_says(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """*finish* is called when the block has ended, and its outcome committed with changes."""
        _, lease = await running(store)
        gathered: list[str] = []
        async with store.complete(
            lease, lambda: completed(lease, gathered, changes=some_changes())
        ):
            gathered.append("late")
            assert (await look(store, lease)).status is JobStatus.PROCESSING
        job = await look(store, lease)

        assert (job.status, job.result) == (JobStatus.COMPLETED, ["late"])
        assert await all_of_them(store)
        await check_counts(store, clock)

    async def test_complete_rolls_back_on_an_exception(self, store: Store) -> None:
        """The exception comes through, nothing was written, *finish* was not called."""
        worker, lease = await running(store)
        with pytest.raises(ZeroDivisionError):
            async with store.complete(lease, _never):
                raise ZeroDivisionError

        assert (await look(store, lease)).status is JobStatus.PROCESSING
        await report(store, worker, retried(lease))

    async def test_complete_checks_the_fence_first(self, store: Store, clock: VirtualClock) -> None:
        """Without the lease the block is not entered."""
        _, lease = await running(store)
        await die(store, clock)
        entered = False
        with pytest.raises(LeaseLostError, match=lease.job_id):
            async with store.complete(lease, _never):
                entered = True

        assert not entered

    async def test_complete_in_conflict_writes_nothing(self, store: Store) -> None:
        """A record with another version: VersionConflictError, and the lease still holds."""
        worker, lease = await running(store)
        wrong = changes(draft("follow-up"), put("a", expect=5), event("a"))
        with pytest.raises(VersionConflictError):
            async with store.complete(lease, lambda: completed(lease, changes=wrong)):
                pass

        assert await nothing_of_them(store)
        assert (await look(store, lease)).status is JobStatus.PROCESSING
        await report(store, worker, completed(lease))

    async def test_a_completed_job_can_be_reported_again(self, store: Store) -> None:
        """The outcome that `complete` recorded is accepted once more, and counts once."""
        worker, lease = await running(store)
        outcome = completed(lease, changes=some_changes())
        async with store.complete(lease, lambda: outcome):
            pass
        await report(store, worker, outcome)

        assert await all_of_them(store)

    async def test_complete_can_follow_complete(self, store: Store, clock: VirtualClock) -> None:
        """Blocks that come together take turns and all commit."""
        worker = await store.register(info())
        await store.enqueue([draft() for _ in range(5)])
        leases = [c.lease for c in await take(store, worker)]

        async def complete(lease: Lease) -> None:
            async with store.complete(lease, lambda: completed(lease)):
                await asyncio.sleep(0)

        await asyncio.gather(*map(complete, leases))

        assert {job.status for job in await store.find()} == {JobStatus.COMPLETED}
        await check_counts(store, clock)

    async def test_complete_commits_the_callers_sql(self, store: Store) -> None:
        """Statements of the block commit with the outcome; queries see them at once."""
        _need_sql(store)
        _, lease = await running(store)
        async with store.complete(lease, lambda: completed(lease)) as tx:
            await tx.execute("CREATE TABLE mine (a INTEGER, b TEXT)")
            inserted = await tx.execute("INSERT INTO mine VALUES (?, ?), (?, ?)", 1, "x", 2, "y")
            rows = await tx.fetch("SELECT a, b FROM mine ORDER BY a DESC")

        assert inserted == 2
        assert rows == [(2, "y"), (1, "x")]
        assert (await look(store, lease)).status is JobStatus.COMPLETED
        assert await self._mine(store) == [(1, "x"), (2, "y")]

    async def test_complete_takes_the_callers_sql_back(self, store: Store) -> None:
        """An exception in the block, or a conflict at its end, undoes the statements."""
        _need_sql(store)
        _, first = await running(store)
        async with store.complete(first, lambda: completed(first)) as tx:
            await tx.execute("CREATE TABLE mine (a INTEGER, b TEXT)")
        _, lease = await running(store)

        async def insert_and_fail() -> None:
            async with store.complete(lease, _never) as tx:
                await tx.execute("INSERT INTO mine VALUES (1, 'x')")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await insert_and_fail()
        wrong = changes(put("a", expect=5))
        with pytest.raises(VersionConflictError):
            async with store.complete(lease, lambda: completed(lease, changes=wrong)) as tx:
                await tx.execute("INSERT INTO mine VALUES (2, 'y')")

        assert (await look(store, lease)).status is JobStatus.PROCESSING
        assert await self._mine(store) == []

    async def test_without_sql_the_transaction_says_so(self, store: Store) -> None:
        """A store that has no SQL refuses statements by TypeError; the job is not completed."""
        if store.capabilities.sql:
            pytest.skip("for stores without the capability sql")
        _, lease = await running(store)
        with pytest.raises(TypeError, match="no SQL"):
            async with store.complete(lease, _never) as tx:
                await tx.execute("SELECT 1")
        with pytest.raises(TypeError, match="no SQL"):
            async with store.complete(lease, _never) as tx:
                await tx.fetch("SELECT 1")

        assert (await look(store, lease)).status is JobStatus.PROCESSING

    async def _mine(self, store: Store) -> list[tuple[object, ...]]:
        _, lease = await running(store, "reader")
        async with store.complete(lease, lambda: completed(lease)) as tx:
            return await tx.fetch("SELECT a, b FROM mine ORDER BY a")

    async def _report_and_claim(self, store: Store, worker: int, outcome: Outcome) -> list[Lease]:
        done = await store.exchange(worker, outcomes=[outcome], claim=claim_of())
        assert done.refused == {}
        return [c.lease for c in done.claimed]


def _never() -> Outcome:
    raise AssertionError("finish was called although the block did not end well")


def _need_sql(store: Store) -> None:
    if not store.capabilities.sql:
        pytest.skip("the store lacks the capability sql")
