"""Claims: which jobs, in which order, how many, and with which token."""

import asyncio
from datetime import datetime, timedelta
from random import Random

import pytest

from durably.domain.claiming import Claim, Lane
from durably.domain.clock import to_datetime
from durably.domain.job import JobPriority, JobStatus, State
from durably.store import Store
from durably.testing.clock import VirtualClock
from durably.testing.conformance.support import (
    add,
    check_counts,
    claim_of,
    crash_of,
    die,
    draft,
    info,
    look,
    report,
    retried,
    returned,
    running,
    snoozed,
    take,
    take_ids,
    take_one,
)

LOW, NORMAL, HIGH, CRITICAL = JobPriority


class Claiming:
    """What `exchange` gives to a worker."""

    async def test_higher_priority_comes_first(self, store: Store) -> None:
        """Priority comes before age."""
        worker = await store.register(info())
        ids = [(await add(store, priority=p)).id for p in (LOW, CRITICAL, NORMAL, HIGH, CRITICAL)]

        assert [ids[i] for i in (1, 4, 3, 2, 0)] == await take_ids(store, worker)

    async def test_the_one_ready_longest_comes_first(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """A delayed job is as old as the time at which it became ready."""
        worker = await store.register(info())
        delayed = await add(store, delay=5)
        later = await add(store, delay=7)
        await clock.advance(1)
        early = await add(store)
        await clock.advance(5)
        late = await add(store)
        await clock.advance(1)
        same = await add(store)

        expected = [early.id, delayed.id, late.id, later.id, same.id]
        assert expected[:1] == await take_ids(store, worker, start=1)
        assert expected[1:3] == await take_ids(store, worker, start=1, reserve=1)
        assert expected[3:] == await take_ids(store, worker)

    async def test_insertion_breaks_ties(self, store: Store) -> None:
        """Jobs that became ready together come in the order in which they were stored."""
        worker = await store.register(info())
        jobs = await store.enqueue([draft(kind) for kind in "abcab"])
        jobs += await store.enqueue([draft(kind) for kind in "cab"])

        assert [job.id for job in jobs] == await take_ids(store, worker, "a", "b", "c")

    async def test_a_returned_job_keeps_its_place(self, store: Store, clock: VirtualClock) -> None:
        """It has been ready all the time; one that failed has been ready since its delay ended."""
        worker = await store.register(info())
        first, second = await add(store), await add(store)
        await clock.advance(1)
        third = await add(store)
        one, two = await take(store, worker, start=2)
        await clock.advance(1)
        await report(store, worker, returned(one.lease), retried(two.lease))
        await clock.advance(1)
        fourth = await add(store)

        expected = [first.id, third.id, second.id, fourth.id]
        assert expected == await take_ids(store, worker)

    async def test_many_due_jobs_do_not_hide_an_urgent_one(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Priority holds among scheduled jobs that become due together, however many."""
        worker = await store.register(info())
        await store.enqueue([draft(priority=LOW, delay=1) for _ in range(1_100)])
        urgent = await add(store, priority=CRITICAL, delay=2)
        await clock.advance(3)

        assert (await take_ids(store, worker, start=2))[0] == urgent.id

    async def test_ageing_weighs_waiting_against_priority(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """With `aging_s` jobs are ordered by ready time less priority times it."""
        worker = await store.register(info())
        random = Random(1)  # noqa: S311  # the same jobs each time
        aging_s = 10.0
        ranked: list[tuple[datetime, datetime, int, str]] = []
        for _ in range(60):
            await clock.advance(random.choice((0.0, 0.5, 3.0)))
            job = await add(store, priority=random.choice(list(JobPriority)))
            rank = job.created_at - timedelta(seconds=job.priority * aging_s)
            ranked.append((rank, job.created_at, len(ranked), job.id))

        assert [job_id for *_, job_id in sorted(ranked)] == await take_ids(
            store, worker, aging_s=aging_s
        )

    async def test_ageing_saves_the_low_from_starving(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """A LOW job that has waited for longer than the levels are worth goes before a new one."""
        worker = await store.register(info())
        low = await add(store, priority=LOW)
        await clock.advance(30.5)
        critical = await add(store, priority=CRITICAL)

        assert [critical.id] == await take_ids(store, worker, start=1, aging_s=11.0)
        await add(store, priority=CRITICAL)
        assert [low.id] == await take_ids(store, worker, start=1, aging_s=10.0)

    # Lanes

    async def test_only_the_lanes_asked_for_are_claimed(self, store: Store) -> None:
        """Neither a foreign type, nor a foreign queue, nor another pairing of them is given."""
        worker = await store.register(info())
        wanted = await add(store, "a", queue="p")
        other = await add(store, "b", queue="q")
        for kind, queue in (("a", "q"), ("b", "p"), ("a", "default"), ("c", "p")):
            await add(store, kind, queue=queue, priority=CRITICAL)
        lanes = (Lane("p", "a", 9), Lane("q", "b", 9))
        done = await store.exchange(worker, claim=Claim(lanes=lanes, start=9))

        assert [wanted.id, other.id] == [c.lease.job_id for c in done.claimed]

    async def test_a_lane_gives_no_more_than_its_limit(self, store: Store) -> None:
        """The limit holds over all priorities and over what starts and what is claimed ahead."""
        worker = await store.register(info())
        for priority in (LOW, HIGH):
            await store.enqueue(
                [draft(kind, priority=priority) for kind in "abc" for _ in range(3)]
            )
        lanes = (Lane("default", "a", 4), Lane("default", "b", 0), Lane("default", "c", 1))
        done = await store.exchange(worker, claim=Claim(lanes=lanes, start=2, reserve=10))

        claimed = [(c.record.type, c.record.priority) for c in done.claimed]
        assert claimed == [("a", HIGH)] * 3 + [("c", HIGH), ("a", LOW)]

    async def test_a_limit_is_that_of_the_type(self, store: Store) -> None:
        """Lanes of one type in several queues share its limit."""
        worker = await store.register(info())
        jobs = [await add(store, queue=queue) for queue in "pqpq"]
        other = await add(store, "other", queue="q")

        claimed = await take_ids(store, worker, "work", queues=("p", "q"), limit=3)
        assert [job.id for job in jobs[:3]] == claimed
        assert [other.id] == await take_ids(store, worker, "other", queues=("p", "q"), limit=3)

    async def test_any_number_of_lanes_can_be_asked_for(self, store: Store) -> None:
        """Three hundred types are claimed from at once, still in order."""
        worker = await store.register(info())
        types = [f"type-{n}" for n in range(300)]
        jobs = await store.enqueue([draft(kind) for kind in reversed(types)])

        assert [job.id for job in jobs] == await take_ids(store, worker, *types)

    async def test_a_paused_queue_is_left_out(self, store: Store) -> None:
        """Nothing is claimed from it until it is resumed; the others go on."""
        worker = await store.register(info())
        waits, runs = await add(store, queue="p"), await add(store, queue="q")
        await store.pause("p", paused=True)
        await store.pause("p", paused=True)
        paused = await store.paused()
        during = await take_ids(store, worker, queues=("p", "q"))
        await store.pause("p", paused=False)
        await store.pause("never paused", paused=False)

        assert paused == {"p"}
        assert during == [runs.id]
        assert await store.paused() == frozenset()
        assert await take_ids(store, worker, queues=("p", "q")) == [waits.id]

    async def test_pausing_leaves_alone_what_is_claimed(self, store: Store) -> None:
        """A job that runs when its queue is paused ends as usual, and may wait to run again."""
        worker, lease = await running(store)
        await store.pause("default", paused=True)
        await report(store, worker, retried(lease))

        assert (await look(store, lease)).status is JobStatus.PENDING
        assert await take_ids(store, worker) == []

    # How many

    async def test_the_first_start_and_the_rest_are_reserved(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """What starts is processing and has spent an attempt; what is claimed ahead has not."""
        worker = await store.register(info())
        jobs = await store.enqueue([draft() for _ in range(4)])
        claimed = await take(store, worker, start=1, reserve=2)

        assert [job.id for job in jobs[:3]] == [c.lease.job_id for c in claimed]
        assert [c.record.state for c in claimed] == [State.RUNNING, State.RESERVED, State.RESERVED]
        started, ahead = await look(store, jobs[0]), await look(store, jobs[1])
        assert (started.status, started.attempts) == (JobStatus.PROCESSING, 1)
        assert started.processed_at == to_datetime(clock.now_us())
        assert (ahead.status, ahead.attempts) == (JobStatus.PENDING, 0)
        assert ahead.processed_at is None
        assert started.worker == ahead.worker == f"host:1:{worker}"
        await check_counts(store, clock)

    async def test_the_record_claimed_is_the_job(self, store: Store) -> None:
        """A worker gets the whole job with its lease, as the store shows it."""
        worker = await store.register(info())
        job = await add(store, payload={"a": [1]}, tags=["t"], unique_key="k", priority=HIGH)
        [claimed] = await take(store, worker)

        assert claimed.record.to_job() == await look(store, job)
        assert (claimed.lease.type, claimed.lease.queue) == ("work", "default")
        assert claimed.record.token == claimed.lease.token

    async def test_a_filled_claim_says_there_may_be_more(self, store: Store) -> None:
        """`more` is true exactly when all that was asked for was given."""
        worker = await store.register(info())
        await store.enqueue([draft() for _ in range(5)])

        filled = await store.exchange(worker, claim=claim_of(start=2, reserve=1))
        rest = await store.exchange(worker, claim=claim_of(start=3))
        none = await store.exchange(worker, claim=claim_of(start=1))
        unasked = await store.exchange(worker)

        assert [len(e.claimed) for e in (filled, rest, none, unasked)] == [3, 2, 0, 0]
        assert [e.more for e in (filled, rest, none, unasked)] == [True, False, False, False]

    async def test_nothing_is_claimed_unasked(self, store: Store) -> None:
        """Neither an exchange without a claim nor a claim of none takes a job."""
        worker = await store.register(info())
        job = await add(store)
        await store.exchange(worker)
        empty = await store.exchange(worker, claim=claim_of(start=0))
        nowhere = await store.exchange(worker, claim=Claim(lanes=(), start=5))

        assert (empty.claimed, empty.more) == ((), False)
        assert nowhere.claimed == ()
        assert await look(store, job) == job

    async def test_workers_share_without_overlap(self, store: Store, clock: VirtualClock) -> None:
        """Claims that come together give each job once, and none is left."""
        jobs = await store.enqueue([draft() for _ in range(50)])
        workers = [await store.register(info()) for _ in range(10)]
        given = await asyncio.gather(*(take_ids(store, w, start=6) for w in workers))

        ids = [job_id for part in given for job_id in part]
        assert sorted(ids) == sorted(job.id for job in jobs)
        await check_counts(store, clock)

    # Scheduled jobs

    async def test_the_next_due_time_is_told(self, store: Store, clock: VirtualClock) -> None:
        """`due_in_s` counts down to the next scheduled job of any type; None: there is none."""
        worker = await store.register(info())
        none = await store.exchange(worker)
        await add(store, "foreign", delay=20)
        await add(store, "foreign", delay=10)
        await clock.advance(4)
        first = await store.exchange(worker)
        await clock.advance(6)
        second = await store.exchange(worker)

        assert none.due_in_s is None
        assert first.due_in_s == pytest.approx(6.0)
        assert second.due_in_s == pytest.approx(10.0)

    async def test_a_retry_is_told_as_due(self, store: Store, clock: VirtualClock) -> None:
        """The exchange that records a delayed retry or snooze already tells when it is due."""
        worker, lease = await running(store)
        done = await report(store, worker, retried(lease, 3))
        await clock.advance(3)
        again = await take_one(store, worker)
        snooze = await report(store, worker, snoozed(again, 2))

        assert done.due_in_s == pytest.approx(3.0)
        assert snooze.due_in_s == pytest.approx(2.0)

    # Suspects

    async def test_suspects_come_one_at_a_time(self, store: Store, clock: VirtualClock) -> None:
        """Of jobs that a process died with a claim gives one, in its place; others go on."""
        suspects = await self._suspects(store, clock, 3)
        await clock.advance(1)
        sound = await store.enqueue([draft() for _ in range(3)])
        worker = await store.register(info())

        expected = [suspects[0], *(job.id for job in sound)]
        assert expected == await take_ids(store, worker, start=10)
        assert [suspects[1]] == await take_ids(store, worker, start=10)

    async def test_suspects_can_be_left_out(self, store: Store, clock: VirtualClock) -> None:
        """A worker that runs a suspect asks for no other."""
        await self._suspects(store, clock, 2)
        sound = await add(store)
        worker = await store.register(info())

        assert [sound.id] == await take_ids(store, worker, start=10, suspects=False)

    async def test_a_suspect_is_never_claimed_ahead(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Claiming ahead ends before a suspect: what comes behind it waits too."""
        [suspect] = await self._suspects(store, clock, 1)
        first = await add(store, priority=HIGH)
        behind = await add(store, priority=LOW)
        worker = await store.register(info())

        assert [first.id] == await take_ids(store, worker, start=1, reserve=5)
        assert [] == await take_ids(store, worker, start=0, reserve=5)
        assert [suspect, behind.id] == await take_ids(store, worker, start=1, reserve=5)

    async def test_a_suspect_respects_its_lane(self, store: Store, clock: VirtualClock) -> None:
        """A full lane keeps its suspect, and another lane's suspect may go instead."""
        await self._suspects(store, clock, 1, "a")
        [other] = await self._suspects(store, clock, 1, "b")
        worker = await store.register(info())
        lanes = (Lane("default", "a", 0), Lane("default", "b", 1))
        done = await store.exchange(worker, claim=Claim(lanes=lanes, start=5))

        assert [other] == [c.lease.job_id for c in done.claimed]

    async def _suspects(
        self, store: Store, clock: VirtualClock, count: int, type: str = "work"
    ) -> list[str]:
        worker = await store.register(info())
        jobs = [await add(store, type) for _ in range(count)]
        await take(store, worker, type)
        await die(store, clock)
        return [job.id for job in jobs]

    # Tokens

    async def test_a_token_is_never_given_out_again(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Each claim of a job has a larger token, whatever ended the one before."""
        worker = await store.register(info())
        job = await add(store, max_attempts=100)
        tokens = []
        for outcome in (returned, retried, snoozed, retried):
            lease = await take_one(store, worker)
            tokens.append(lease.token)
            await report(store, worker, outcome(lease))
        tokens.append((await take_one(store, worker)).token)
        await store.exchange(worker, held=())
        tokens.append((await take_one(store, worker)).token)
        await die(store, clock)
        other = await store.register(info())
        tokens.append((await take_one(store, other)).token)
        await store.resign(other)
        last = await store.register(info())
        tokens.append((await take_one(store, last)).token)

        assert tokens == sorted(set(tokens))
        assert (await look(store, job)).crashes == 1

    async def test_a_crashed_job_is_ready_at_once(self, store: Store, clock: VirtualClock) -> None:
        """It lost its place in the lane, but waits for no back-off."""
        await add(store)
        job = await crash_of(store, clock)
        worker = await store.register(info())

        assert [job.id] == await take_ids(store, worker)
