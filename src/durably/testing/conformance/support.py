"""What the tests say briefly: add, claim, report, let a worker die, recount."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import pytest

from durably.domain.claiming import Claim, Lane
from durably.domain.clock import to_us
from durably.domain.job import Draft, Job, JobPriority, JobStatus, State
from durably.domain.outcome import (
    Changes,
    Delete,
    Failure,
    Lease,
    NewEvent,
    Outcome,
    OutcomeKind,
    Put,
)
from durably.domain.payload import encode
from durably.store import Claimed, Exchanged, Rescued, Store, StoreStats, WorkerInfo
from durably.testing.clock import VirtualClock

LEASE_S = 30.0
_numbers = itertools.count(1)
FAILURE = Failure(kind="error", message="boom", traceback="Traceback: boom")


def draft(
    type: str = "work",
    payload: Any = None,
    *,
    queue: str = "default",
    priority: int = JobPriority.NORMAL,
    max_attempts: int = 3,
    delay: float = 0.0,
    run_at: datetime | None = None,
    unique_key: str | None = None,
    tags: Sequence[str] = (),
) -> Draft:
    """A job to store, with an id of its own."""
    return Draft(
        f"job-{next(_numbers):06}",
        type,
        queue,
        int(priority),
        max_attempts,
        encode(payload),
        round(delay * 1e6),
        None if run_at is None else to_us(run_at),
        unique_key,
        encode(list(tags)),
    )


async def add(store: Store, type: str = "work", payload: Any = None, **options: Any) -> Job:
    """Enqueue one job; *options* are `draft`'s."""
    [job] = await store.enqueue([draft(type, payload, **options)])
    return job


async def look(store: Store, job: Job | Lease | str) -> Job:
    """The job as it is now."""
    if not isinstance(job, str):
        job = job.id if isinstance(job, Job) else job.job_id
    found = await store.get(job)
    assert found is not None, f"no job {job}"
    return found


def info(**fields: Any) -> WorkerInfo:
    """What a test's worker says of itself."""
    said = WorkerInfo(
        host="host",
        pid=1,
        queues=("default",),
        types=("work",),
        concurrency=10,
        lease_s=LEASE_S,
    )
    return msgspec.structs.replace(said, **fields)


def claim_of(
    *types: str,
    start: int = 1_000,
    reserve: int = 0,
    queues: Sequence[str] = ("default",),
    limit: int = 1_000_000,
    suspects: bool = True,
    aging_s: float | None = None,
) -> Claim:
    """A claim of *types* (``work`` by default) from *queues*."""
    lanes = tuple(Lane(queue, kind, limit) for queue in queues for kind in types or ("work",))
    return Claim(lanes=lanes, start=start, reserve=reserve, suspects=suspects, aging_s=aging_s)


async def take(store: Store, worker: int, *types: str, **options: Any) -> list[Claimed]:
    """Claim; *options* are `claim_of`'s."""
    done = await store.exchange(worker, claim=claim_of(*types, **options))
    return list(done.claimed)


async def take_ids(store: Store, worker: int, *types: str, **options: Any) -> list[str]:
    """Claim; the ids in the order given."""
    return [c.lease.job_id for c in await take(store, worker, *types, **options)]


async def take_one(store: Store, worker: int, *types: str, **options: Any) -> Lease:
    """Claim the one job that can be claimed."""
    [claimed] = await take(store, worker, *types, **options)
    return claimed.lease


async def report(store: Store, worker: int, *outcomes: Outcome) -> Exchanged:
    """Record *outcomes*, which must not be refused."""
    done = await store.exchange(worker, outcomes=outcomes)
    assert done.refused == {}
    return done


async def running(store: Store, type: str = "work", **options: Any) -> tuple[int, Lease]:
    """A new worker that runs a new job, the only one of its type that can be claimed."""
    worker = await store.register(info())
    await add(store, type, **options)
    return worker, await take_one(store, worker, type, start=1)


async def reserved(store: Store, type: str = "work", **options: Any) -> tuple[int, Lease]:
    """A new worker that has claimed a new job ahead."""
    worker = await store.register(info())
    await add(store, type, **options)
    return worker, await take_one(store, worker, type, start=0, reserve=1)


def completed(lease: Lease, result: Any = None, **fields: Any) -> Outcome:
    """The handler has returned."""
    text = None if result is None else encode(result)
    return Outcome(lease, OutcomeKind.COMPLETED, result=text, **fields)


def retried(lease: Lease, delay_s: float = 0.0, **fields: Any) -> Outcome:
    """The attempt has failed and another follows."""
    return Outcome(lease, OutcomeKind.RETRY, delay_s=delay_s, failure=FAILURE, **fields)


def failed(lease: Lease, **fields: Any) -> Outcome:
    """The attempt has failed for good."""
    return Outcome(lease, OutcomeKind.FAILED, failure=FAILURE, **fields)


def snoozed(lease: Lease, delay_s: float = 0.0, **fields: Any) -> Outcome:
    """The handler wants to run again later."""
    return Outcome(lease, OutcomeKind.SNOOZED, delay_s=delay_s, **fields)


def cancelled(lease: Lease, reason: str = "not wanted", **fields: Any) -> Outcome:
    """The handler has cancelled its job."""
    return Outcome(lease, OutcomeKind.CANCELLED, reason=reason, **fields)


def returned(lease: Lease, **fields: Any) -> Outcome:
    """The worker gives the job back."""
    return Outcome(lease, OutcomeKind.RETURNED, **fields)


EndOf = Callable[..., Outcome]
"""One of the functions above: from a lease, and fields of the outcome, to the outcome."""

OUTCOMES: tuple[EndOf, ...] = (
    completed,
    retried,
    failed,
    snoozed,
    cancelled,
    returned,
)
of_each_kind = pytest.mark.parametrize("end", OUTCOMES, ids=lambda end: end.__name__)


async def run_to(store: Store, worker: int, status: JobStatus, **options: Any) -> Job:
    """A new job of type ``work``, brought to *status*; nothing else may be ready there."""
    job = await add(store, **options)
    if status is JobStatus.PENDING:
        return job
    lease = await take_one(store, worker)
    outcome = {
        JobStatus.COMPLETED: completed,
        JobStatus.FAILED: failed,
        JobStatus.CANCELLED: cancelled,
    }.get(status)
    if outcome is not None:
        await report(store, worker, outcome(lease))
    return await look(store, job)


FINAL = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


def put(id: str, value: Any = 1, *, expect: int | None = None, kind: str = "thing") -> Put:
    """Write a record."""
    return Put(kind=kind, id=id, value=encode(value), expect=expect)


def delete(id: str, *, expect: int | None = None, kind: str = "thing") -> Delete:
    """Remove a record."""
    return Delete(kind=kind, id=id, expect=expect)


def event(subject: str = "subject", data: Any = None, *, topic: str = "topic") -> NewEvent:
    """Append an event."""
    return NewEvent(topic=topic, subject=subject, data=encode(data))


def changes(*parts: Put | Delete | NewEvent | Draft, cancel: Sequence[str] = ()) -> Changes:
    """What commits together."""
    return Changes(
        jobs=tuple(p for p in parts if isinstance(p, Draft)),
        records=tuple(p for p in parts if isinstance(p, Put | Delete)),
        events=tuple(p for p in parts if isinstance(p, NewEvent)),
        cancel=tuple(cancel),
    )


def some_changes() -> Changes:
    """A job, a record and an event; `nothing_of` tells whether they were written."""
    return changes(draft("follow-up"), put("a"), event("a"))


async def nothing_of_them(store: Store) -> bool:
    """Whether nothing of `some_changes` was written."""
    jobs = await store.find(type="follow-up")
    return not jobs and await store.record("thing", "a") is None and not await store.events()


async def all_of_them(store: Store, times: int = 1) -> bool:
    """Whether `some_changes` were written, so many times."""
    jobs = await store.find(type="follow-up")
    record = await store.record("thing", "a")
    events = await store.events()
    return (
        len(jobs) == times
        and record is not None
        and record.version == times
        and len(events) == times
    )


async def renew(store: Store, worker: int, memory_bytes: int | None = None) -> bool:
    """`Store.renew` as the heartbeat calls it: from another thread."""
    return await asyncio.to_thread(store.renew, worker, memory_bytes)


async def die(store: Store, clock: VirtualClock, *alive: int) -> Rescued:
    """Let every lease end but those of the workers *alive*, then rescue."""
    await clock.advance(LEASE_S + 1)
    for worker in alive:
        assert await renew(store, worker)
    return await store.rescue()


async def crash_of(store: Store, clock: VirtualClock, *, start: int = 1) -> Job:
    """The one ready job after a worker has claimed it and died."""
    worker = await store.register(info())
    lease = await take_one(store, worker, start=start, reserve=1 - start)
    await die(store, clock)
    return await look(store, lease)


async def everything(store: Store) -> list[Job]:
    """All jobs, page by page."""
    found: list[Job] = []
    while page := await store.find(limit=200, after=found[-1].id if found else None):
        found += page
    return found


def by_status(figures: StoreStats) -> Counter[tuple[str, str, JobStatus]]:
    """The counts as users see them."""
    counts = Counter[tuple[str, str, JobStatus]]()
    for counted in figures.counts:
        counts[counted.queue, counted.type, State(counted.state).status] += counted.count
    return counts


async def check_counts(store: Store, clock: VirtualClock) -> None:
    """The maintained figures equal a recount; nothing counted is negative."""
    figures = await store.stats()
    jobs = await everything(store)

    assert Counter((job.queue, job.type, job.status) for job in jobs) == by_status(figures)
    assert all(counted.count > 0 for counted in figures.counts)
    waiting = sum(_waits(job, clock.now_us()) for job in jobs)
    assert waiting == sum(c.count for c in figures.counts if c.state == State.SCHEDULED)


def _waits(job: Job, now_us: int) -> bool:
    times = [to_us(moment) for moment in (job.run_at, job.next_retry_at) if moment is not None]
    return job.status is JobStatus.PENDING and max(times, default=now_us) > now_us
