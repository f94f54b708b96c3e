"""The Store protocol: operations, never queries. The docstring of each operation is its contract.

Rules that hold for all of them:

- An operation is one transaction: it happens wholly or, when it raises, not at all. The exception
  is a lost reply: after a `StoreError` that is no refusal the caller does not know, so every
  operation of a running attempt may be repeated without harm.
- Time is the store's. Callers send durations.
- Errors are those of `durably.domain.errors`; drivers' own never come through.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

import msgspec

from durably.domain.bulk import Acted, BulkAction
from durably.domain.claiming import Candidate, Claim, Lane
from durably.domain.errors import DurablyError, LeaseLostError, VersionConflictError
from durably.domain.job import FIELDS, Draft, Job, JobRecord, JobStatus, Progress
from durably.domain.outcome import NO_CHANGES, Changes, Event, Lease, Outcome, Record
from durably.domain.search import SCAN_MOST, Found, FoundIds, Search

Row: TypeAlias = tuple[Any, ...]
_ID = FIELDS.index("id")


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a store offers beyond the protocol; a conformance test that needs one names it."""

    durable: bool
    """Survives the death of the process."""
    sql: bool
    """`complete` gives SQL, and `enqueue_in` takes the caller's connection."""


class NoticeKind(StrEnum):
    """What a store tells its listeners."""

    COMING = "coming"
    """Jobs are being added here: an exchange that is asked for now will meet them. Told before the
    commit, by stores where that saves time."""
    READY = "ready"
    """Jobs have become ready, or have got a time when they will, here or in another process."""
    FINISHED = "finished"
    """Jobs of this process's transactions have become final; `ids` names them."""
    CONTROL = "control"
    """A cancel, pause or resume: look again."""
    EVENTS = "events"
    """This process has appended events."""


class Notice(msgspec.Struct, frozen=True):
    """Told on the event loop, all but COMING after the commit. A hint: it may be missing or come twice."""

    kind: NoticeKind
    ids: tuple[str, ...] = ()


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself when it registers."""

    host: str
    pid: int
    queues: tuple[str, ...]
    types: tuple[str, ...]
    concurrency: int
    lease_s: float
    limits: dict[str, int] = {}
    """How many jobs of a type it runs at a time, for types that have a limit of their own."""


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """A registered worker as others see it."""

    id: int
    info: WorkerInfo
    alive: bool
    """Its process holds its lock (or, where there is none, its lease has not ended)."""
    held: int
    """Jobs it has claimed."""
    renewed_ago_s: float | None
    """Seconds since its lease was last renewed, which an idle worker does not do; None: it is of an
    earlier start of the machine."""
    memory_bytes: int | None
    """What its process held of memory when it last renewed; None: it has not said."""


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """A leased job."""

    lease: Lease
    record: JobRecord


class Activity(msgspec.Struct, frozen=True):
    """What one worker finished within one window of `ACTIVITY_WINDOW_S`; replaces what it said before."""

    window: int
    finished: int = 0
    attempts: int = 0
    failed: int = 0
    wait: dict[int, int] = {}
    """`histogram` buckets of ready → start."""
    run: dict[int, int] = {}
    """`histogram` buckets of start → end."""


ACTIVITY_WINDOW_S = 10
ACTIVITY_KEPT_S = 300


class Refusal(StrEnum):
    """Why an outcome was not recorded."""

    LEASE_LOST = "lease_lost"
    CONFLICT = "conflict"
    """One of its records had another version. The lease still holds: report another outcome."""


def refusal_error(refusal: Refusal, lease: Lease) -> DurablyError:
    """The exception for a write that was refused."""
    if refusal is Refusal.CONFLICT:
        return VersionConflictError(f"a record of job {lease.job_id} has changed meanwhile")
    return LeaseLostError(f"the lease of job {lease.job_id} is lost; nothing was written")


class Exchanged(msgspec.Struct, frozen=True, kw_only=True):
    """What an exchange did."""

    refused: Mapping[int, Refusal] = {}
    """By position in `outcomes`."""
    claimed: tuple[Claimed, ...] = ()
    cancel: tuple[str, ...] = ()
    """Ids of jobs this worker holds that somebody asked to cancel."""
    due_in_s: float | None = None
    """Seconds until the next scheduled job becomes ready; None: none is scheduled."""
    more: bool = False
    """Whether there may be more: the claim was filled, or others took first what it had seen."""
    lost: bool = False
    """The registration has ended (the worker was taken for dead): nothing was claimed; register
    again."""


class Counted(msgspec.Struct, frozen=True):
    """How many jobs of a queue and type are in a state."""

    queue: str
    type: str
    state: int
    count: int


class Oldest(msgspec.Struct, frozen=True):
    """Since when the job of a queue and type that has been ready longest has been so."""

    queue: str
    type: str
    ready_at_us: int


def oldest_of(lanes: Sequence[Lane], heads: Iterable[Candidate]) -> tuple[Oldest, ...]:
    """The longest ready among the *heads* of each of *lanes*, in the order of these."""
    first: dict[int, int] = {}
    for head in heads:
        first[head.lane] = min(head.ready_at, first.get(head.lane, head.ready_at))
    return tuple(
        Oldest(lanes[lane].queue, lanes[lane].type, ready_at)
        for lane, ready_at in sorted(first.items())
    )


class StoreStats(msgspec.Struct, frozen=True, kw_only=True):
    """Maintained figures; nothing is counted to answer."""

    counts: tuple[Counted, ...]
    activity: tuple[Activity, ...]
    """Of the last `ACTIVITY_KEPT_S`, over all workers."""
    late_outcomes: int
    """Outcomes refused because the lease was lost, since the store was made."""


class Rescued(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the jobs of dead workers."""

    workers: tuple[str, ...] = ()
    ready: int = 0
    final: int = 0
    """Quarantined or cancelled."""


class Part(StrEnum):
    """What a store keeps beside its workers and figures; each part has rows that are plain tuples."""

    JOBS = "jobs"
    """The fields of a `JobRecord`; ordered by id."""
    STEPS = "steps"
    """Job id, name, result as JSON; ordered by the first two. After the jobs they belong to."""
    RECORDS = "records"
    """Kind, id, version, value as JSON; ordered by the first two."""
    EVENTS = "events"
    """Id, microseconds, topic, subject, data as JSON; ordered by id."""
    PAUSED = "paused"
    """A queue."""

    def key(self, row: Row) -> Row:
        """What the rows are ordered by."""
        match self:
            case Part.JOBS:
                return (row[_ID],)
            case Part.STEPS | Part.RECORDS:
                return row[:2]
            case _:
                return row[:1]


class Transaction(Protocol):
    """The caller's own SQL in the transaction that records an outcome (`Store.complete`)."""

    async def execute(self, sql: str, *args: Any) -> int:
        """Run a statement; how many rows it changed."""
        ...

    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        ...


class Store(Protocol):
    """Where jobs live. One store object may serve several services of one event loop."""

    url: str
    capabilities: Capabilities

    async def open(self) -> None:
        """Make ready for use, creating what is missing. Each `open` needs its `close`."""
        ...

    async def close(self) -> None:
        """Undo one `open`; with the last, release everything."""
        ...

    def subscribe(self, listener: Callable[[Notice], None]) -> Callable[[], None]:
        """Call *listener* after commits, on the loop; gives the function that ends it."""
        ...

    # Producing

    async def enqueue(self, jobs: Sequence[Draft], changes: Changes = NO_CHANGES) -> list[Job]:
        """Store *jobs* and *changes*; durable on return, in the order given.

        A unique key held by a live job of the type yields that job unchanged.

        Raises:
            VersionConflictError: a record of *changes* has another version; nothing was stored.
        """
        ...

    async def enqueue_in(self, connection: object, jobs: Sequence[Draft]) -> list[Job]:
        """Store *jobs* in the transaction open on the caller's *connection*.

        Raises:
            TypeError: this store does not take connections of that kind.
            ValueError: the connection is to another database.
        """
        ...

    # Working

    async def register(self, info: WorkerInfo) -> int:
        """A new worker's number, never given out before; its liveness lock is held on return."""
        ...

    async def announce(self, worker: int, info: WorkerInfo) -> None:
        """The worker's queues or types have changed."""
        ...

    async def exchange(
        self,
        worker: int,
        *,
        outcomes: Sequence[Outcome] = (),
        started: Sequence[Lease] = (),
        held: Sequence[Lease] | None = None,
        claim: Claim | None = None,
        activity: Activity | None = None,
    ) -> Exchanged:
        """Record what ended and what started, then claim what comes next, in one transaction.

        Outcomes are judged one by one: a lost lease or a version conflict refuses that outcome with
        all its changes and no other. An outcome reported again after a lost reply is accepted.
        *held*, given after a lost reply, names every lease this worker knows: what else the store
        holds for it is returned unspent. A claim orders by priority (highest first), then by
        how long jobs have been ready, then by insertion; paused queues are left out.
        """
        ...

    async def checkpoint(
        self,
        lease: Lease,
        *,
        progress: Progress | None = None,
        step: tuple[str, str] | None = None,
        changes: Changes = NO_CHANGES,
    ) -> None:
        """Write on behalf of a running attempt: progress, a step's (name, JSON result), changes.

        Raises:
            LeaseLostError: the lease is no longer valid; nothing was written.
            VersionConflictError: a record of *changes* has another version; nothing was written.
        """
        ...

    async def steps(self, job_id: str) -> dict[str, str]:
        """The stored steps of a job: name to JSON result."""
        ...

    def complete(
        self, lease: Lease, finish: Callable[[], Outcome], connection: object = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """A transaction for the caller's SQL that also records the outcome *finish* returns.

        The lease is checked first (LeaseLostError), *finish* is called when the block ends; an
        exception in the block rolls all of it back. With a *connection* it is the transaction open
        on that, which the caller commits or rolls back; errors as in `enqueue_in`.
        """
        ...

    def renew(self, worker: int, memory_bytes: int | None = None) -> bool:
        """Extend the leases of all that the worker holds; False when it is registered no more.

        *memory_bytes*, what its process holds of memory now, is kept for those who look.
        Blocking: called from the heartbeat's own thread, on a connection of its own.
        """
        ...

    async def rescue(self, worker: int | None = None) -> Rescued:
        """Make the jobs of dead workers ready again (`transitions.crash`), at most some hundred.

        Dead is a worker whose liveness lock is free, or one that holds jobs and whose lease has
        ended. *worker* is the caller's own, never taken for dead here.
        """
        ...

    async def resign(self, worker: int) -> None:
        """End a registration in good order: what it still holds is returned unspent."""
        ...

    # Records and events

    async def write(self, changes: Changes) -> None:
        """Commit *changes* alone; VersionConflictError as in `enqueue`."""
        ...

    async def record(self, kind: str, id: str) -> Record | None:
        """One record, or None."""
        ...

    async def records(
        self, kind: str, *, limit: int = 100, after: str | None = None, newest_first: bool = False
    ) -> list[Record]:
        """Records of a kind in the order of their ids, after the id *after*."""
        ...

    async def count_records(self, kind: str) -> int:
        """How many records of a kind there are, from a maintained figure."""
        ...

    async def events(
        self,
        *,
        after: int = 0,
        subject: str | None = None,
        limit: int = 100,
        newest_first: bool = False,
    ) -> list[Event]:
        """Events beyond the id *after*, oldest first; or newest first, 0 being beyond the newest."""
        ...

    async def prune_events(self, subject: str, older_than_s: float) -> int:
        """Remove the events about *subject* that are older, at most some thousand; how many."""
        ...

    # Control

    # *changes* commit with what is done, or nothing of both happens.

    async def cancel(self, job_id: str, changes: Changes = NO_CHANGES) -> Job:
        """`transitions.request_cancel`; JobNotFoundError, JobStateError."""
        ...

    async def retry(
        self, job_id: str, payload: str | None = None, changes: Changes = NO_CHANGES
    ) -> Job:
        """`transitions.redrive`; with a payload the job's steps are forgotten.

        Raises:
            JobNotFoundError, JobStateError: as they say.
            UniqueKeyTakenError: another live job of the type holds the job's unique key.
        """
        ...

    async def delete(self, job_id: str, changes: Changes = NO_CHANGES) -> None:
        """Remove a final job with its steps; JobNotFoundError, JobStateError."""
        ...

    async def act(
        self, action: BulkAction, ids: Sequence[str], changes: Changes = NO_CHANGES
    ) -> Acted:
        """`cancel`, `retry` or `delete` each of at most `bulk.ACT_MOST` jobs, in the order given.

        What the single operation would refuse is counted instead; an id named twice counts once.
        *changes* commit also when nothing was changed.

        Raises:
            VersionConflictError: as in `enqueue`; nothing was done.
        """
        ...

    async def wake(self, type: str, unique_keys: Sequence[str]) -> int:
        """Make the jobs of a type that hold these keys and sleep (`transitions.sleeps`) ready now.

        How many. All others are left alone: whoever is held by a worker, waits after a failure, is
        ready or final, and keys that no live job holds. Costs the keys that are given, not the jobs
        there are; nothing is written when none sleeps.
        """
        ...

    async def pause(self, queue: str, *, paused: bool, changes: Changes = NO_CHANGES) -> None:
        """Let workers claim from *queue* no more, or again. Kept until undone."""
        ...

    async def paused(self) -> frozenset[str]:
        """The paused queues."""
        ...

    async def cleanup(self, older_than_s: float, *, slack_s: float = 0.0) -> int:
        """Remove the final jobs whose `completed_at` is older, with their steps; how many.

        What is older by no more than *slack_s* may be left for later, where that is cheaper.
        """
        ...

    # Inspecting

    async def get(self, job_id: str) -> Job | None:
        """One job, or None for any unknown text."""
        ...

    async def find(
        self,
        *,
        status: JobStatus | None = None,
        type: str | None = None,
        queue: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Job]:
        """Jobs that match, highest priority first, then oldest; after the job with id *after*.

        Raises:
            JobNotFoundError: *after* is no job.
        """
        ...

    async def search(
        self, where: Search, *, limit: int, after: int | None = None, scan: int = SCAN_MOST
    ) -> Found:
        """At most *limit* jobs that match, newest first: those added before the place *after*.

        Looks at no more than *scan* jobs of the statuses asked for, so that a page may have fewer
        than *limit*, or none, and yet a next one. Looks at none when the maintained figures say
        that there are no jobs of the statuses, type and queue.
        """
        ...

    async def match_ids(
        self, where: Search, *, limit: int, after: int | None = None, scan: int = SCAN_MOST
    ) -> FoundIds:
        """The ids that `search` would give the jobs of."""
        ...

    async def children(self, job_id: str, *, limit: int = 100) -> list[Job]:
        """The jobs that attempts of a job have added, oldest first; also when it is gone itself.

        Added by an attempt is what is among the changes of its outcomes and checkpoints. It has
        the job as its parent for ever; a job found by its unique key keeps what it had.
        """
        ...

    async def stats(self) -> StoreStats:
        """Maintained figures; scheduled jobs whose time has come are counted as ready."""
        ...

    async def oldest_ready(self) -> tuple[Oldest, ...]:
        """Since when jobs wait, for each queue and type that has ready ones, by these two.

        Read from the heads of the lanes. Scheduled jobs whose time has come are ready; paused
        queues are not left out.
        """
        ...

    async def workers(self) -> list[WorkerState]:
        """The registered workers, dead ones not yet rescued included."""
        ...

    # Moving to another store

    async def dump(self, part: Part, *, after: Row | None, limit: int) -> list[Row]:
        """At most *limit* rows of a part in their order, beyond the key *after*."""
        ...

    async def load(self, part: Part, rows: Sequence[Row]) -> None:
        """Keep *rows* of another store's `dump`; those whose keys are there already are left out.

        Jobs keep their ids and their places, events their ids; what is added later comes after them.
        """
        ...
