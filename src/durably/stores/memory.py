"""The store in memory: nothing survives the process. The reference that the others are compared with.

It is written to be read: every operation is a plain function over dictionaries, without an await
between its first read and its last write. A lock admits the heartbeat's thread.
"""

import asyncio
import heapq
import itertools
import threading
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import msgspec

from durably.domain import transitions
from durably.domain.bulk import Acted, BulkAction, allowed
from durably.domain.claiming import Candidate, Claim, Lane, candidate, choose
from durably.domain.clock import Clock, SystemClock
from durably.domain.errors import (
    JobNotFoundError,
    StoreBusyError,
    StoreClosedError,
    UniqueKeyTakenError,
    VersionConflictError,
)
from durably.domain.job import (
    LEASED,
    STATES_OF,
    Draft,
    Job,
    JobRecord,
    JobStatus,
    Progress,
    State,
)
from durably.domain.outcome import (
    NO_CHANGES,
    Changes,
    Event,
    Lease,
    Outcome,
    OutcomeKind,
    Put,
    Record,
)
from durably.domain.search import SCAN_MOST, Found, FoundIds, Search
from durably.store import (
    ACTIVITY_KEPT_S,
    ACTIVITY_WINDOW_S,
    Activity,
    Capabilities,
    Claimed,
    Counted,
    Exchanged,
    Notice,
    NoticeKind,
    Oldest,
    Part,
    Refusal,
    Rescued,
    Row,
    StoreStats,
    Transaction,
    WorkerInfo,
    WorkerState,
    oldest_of,
    refusal_error,
)
from durably.stores.blocks import Blocks

RESCUE_BATCH = 500
# Looked up once, as in `transitions`.
_SCHEDULED, _READY, _RESERVED = State.SCHEDULED, State.READY, State.RESERVED

_Level = tuple[bool, int]
"""Suspect, priority."""
_Place = tuple[int, int]
"""When a job became ready and its sequence number: its place in the lane."""


@dataclass
class _Worker:
    info: WorkerInfo
    expires: float
    memory_bytes: int | None = None
    held: dict[int, JobRecord] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.info.host}:{self.info.pid}"


class MemoryStore:
    """Jobs in dictionaries. Share it between services by passing the object, not the URL."""

    url = "memory://"
    capabilities = Capabilities(durable=False, sql=False)

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._operation = _Transaction(self._lock, self._clock, self._tell_later)
        self._opened = 0
        self._listeners: list[Callable[[Notice], None]] = []
        self._seq = itertools.count(1)
        self._token = itertools.count(1)
        self._worker_ids = itertools.count(1)
        self._jobs: dict[int, JobRecord] = {}
        self._by_id: dict[str, JobRecord] = {}
        self._unique: dict[tuple[str, str], JobRecord] = {}
        self._lanes: defaultdict[tuple[str, str], defaultdict[_Level, _Line]]
        self._lanes = defaultdict(lambda: defaultdict(_Line))
        """By queue and type."""
        self._scheduled: list[_Place] = []
        self._steps: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._workers: dict[int, _Worker] = {}
        self._paused: set[str] = set()
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._activity: dict[tuple[int, int], Activity] = {}
        self._late_outcomes = 0
        self._blocks = Blocks()
        self._records: dict[tuple[str, str], tuple[int, str]] = {}
        self._events: list[tuple[int, int, str, str, str]] = []
        self._event_ids = itertools.count(1)
        self._told: set[NoticeKind] = set()
        self._finished: list[str] = []
        self._telling = False

    async def open(self) -> None:
        """See `Store.open`."""
        self._opened += 1

    async def close(self) -> None:
        """See `Store.close`. The jobs stay for as long as the object lives."""
        self._opened -= 1

    def subscribe(self, listener: Callable[[Notice], None]) -> Callable[[], None]:
        """See `Store.subscribe`."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # Producing

    async def enqueue(self, jobs: Sequence[Draft], changes: Changes = NO_CHANGES) -> list[Job]:
        """See `Store.enqueue`."""
        with self._transaction() as now:
            self._check_versions(changes)
            stored = [self._insert(draft, now).to_job() for draft in jobs]
            self._apply(changes, now)
            return stored

    async def enqueue_in(self, connection: object, jobs: Sequence[Draft]) -> NoReturn:  # noqa: ARG002  # the protocol's
        """See `Store.enqueue_in`: there is no SQL here."""
        raise TypeError(
            f"memory:// has no SQL connections, got {type(connection).__name__};"
            " use a sqlite:/// store"
        )

    # Working

    async def register(self, info: WorkerInfo) -> int:
        """See `Store.register`."""
        with self._transaction():
            number = next(self._worker_ids)
            self._workers[number] = _Worker(info, self._clock.monotonic() + info.lease_s)
            return number

    async def announce(self, worker: int, info: WorkerInfo) -> None:
        """See `Store.announce`."""
        with self._transaction():
            if worker in self._workers:
                self._workers[worker].info = info

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
        """See `Store.exchange`."""
        with self._transaction() as now:
            refused = self._record(outcomes, now)
            for lease in started:
                record = self._jobs.get(lease.ref)
                if transitions.owns(record, lease.token) and record.state == _RESERVED:
                    self._change(record, transitions.begin, now)
            if activity is not None:
                self._activity[worker, activity.window] = activity
            me = self._workers.get(worker)
            if me is None:
                return Exchanged(refused=refused, lost=True)
            if held is not None:
                self._return_unknown(me, held, now)
            due_in = self._stage(now)
            claimed = self._claim(worker, me, claim, now) if claim else ()
            return Exchanged(
                refused=refused,
                claimed=claimed,
                cancel=tuple(r.id for r in me.held.values() if r.cancel_requested),
                due_in_s=due_in,
                more=claim is not None and len(claimed) >= claim.start + claim.reserve > 0,
            )

    async def checkpoint(
        self,
        lease: Lease,
        *,
        progress: Progress | None = None,
        step: tuple[str, str] | None = None,
        changes: Changes = NO_CHANGES,
    ) -> None:
        """See `Store.checkpoint`."""
        with self._transaction() as now:
            record = self._owned(lease)
            self._check_versions(changes)
            if progress is not None:
                record.progress = msgspec.json.encode(progress).decode()
            if step is not None:
                self._steps[record.id].setdefault(*step)
            self._apply(changes, now, record.id)

    async def steps(self, job_id: str) -> dict[str, str]:
        """See `Store.steps`."""
        self._check_open()
        return dict(self._steps.get(job_id, ()))

    @asynccontextmanager
    async def complete(
        self, lease: Lease, finish: Callable[[], Outcome], connection: object = None
    ) -> AsyncIterator[Transaction]:
        """See `Store.complete`: without SQL, all or nothing all the same."""
        if connection is not None:
            raise TypeError("a memory store has no SQL, and takes no connection")
        with self._transaction():
            self._owned(lease)
        with self._blocks.opened():
            yield _NoSql()
        with self._transaction() as now:
            refused = self._record([finish()], now)
        if refused:
            raise refusal_error(refused[0], lease)

    def renew(self, worker: int, memory_bytes: int | None = None) -> bool:
        """See `Store.renew`."""
        with self._lock:
            me = self._workers.get(worker)
            if me is not None:
                me.expires = self._clock.monotonic() + me.info.lease_s
                me.memory_bytes = memory_bytes
            return me is not None

    async def rescue(self, worker: int | None = None) -> Rescued:
        """See `Store.rescue`. Without processes, dead is who holds jobs past its lease."""
        with self._transaction() as now:
            dead = [
                (number, other)
                for number, other in self._workers.items()
                if number != worker and other.held and other.expires <= self._clock.monotonic()
            ]
            states = Counter[int]()
            for number, other in dead:
                for record in list(other.held.values())[:RESCUE_BATCH]:
                    self._change(record, transitions.crash, f"{other.name}:{number}", now)
                    states[record.state] += 1
                if not other.held:
                    del self._workers[number]
            return Rescued(
                workers=tuple(f"{other.name}:{number}" for number, other in dead),
                ready=states[_READY],
                final=states[State.FAILED] + states[State.CANCELLED],
            )

    async def resign(self, worker: int) -> None:
        """See `Store.resign`."""
        with self._transaction() as now:
            me = self._workers.get(worker)
            if me is not None:
                self._return_unknown(me, (), now)
                del self._workers[worker]

    # Records and events

    async def write(self, changes: Changes) -> None:
        """See `Store.write`."""
        with self._transaction() as now:
            self._check_versions(changes)
            self._apply(changes, now)

    async def record(self, kind: str, id: str) -> Record | None:
        """See `Store.record`."""
        self._check_open()
        found = self._records.get((kind, id))
        return None if found is None else _to_record(kind, id, *found)

    async def records(
        self, kind: str, *, limit: int = 100, after: str | None = None, newest_first: bool = False
    ) -> list[Record]:
        """See `Store.records`."""
        self._check_open()
        ids = sorted((i for k, i in self._records if k == kind), reverse=newest_first)
        if after is not None:
            ids = [i for i in ids if (i < after if newest_first else i > after)]
        return [_to_record(kind, i, *self._records[kind, i]) for i in ids[:limit]]

    async def count_records(self, kind: str) -> int:
        """See `Store.count_records`."""
        self._check_open()
        return sum(1 for k, _ in self._records if k == kind)

    async def events(
        self,
        *,
        after: int = 0,
        subject: str | None = None,
        limit: int = 100,
        newest_first: bool = False,
    ) -> list[Event]:
        """See `Store.events`."""
        self._check_open()
        place = bisect_right(self._events, after, key=lambda event: event[0])
        beyond: Iterable[tuple[int, int, str, str, str]]
        if not newest_first:
            beyond = itertools.islice(self._events, place, None)
        elif after > 0:
            beyond = (e for e in reversed(self._events[:place]) if e[0] < after)
        else:
            beyond = reversed(self._events)
        matching = (e for e in beyond if subject is None or e[3] == subject)
        return [
            Event(id=number, at_us=at, topic=topic, subject=about, data=msgspec.json.decode(data))
            for number, at, topic, about, data in itertools.islice(matching, limit)
        ]

    async def prune_events(self, subject: str, older_than_s: float) -> int:
        """See `Store.prune_events`."""
        with self._transaction() as now:
            before = now - int(older_than_s * 1e6)
            count = len(self._events)
            self._events = [e for e in self._events if e[3] != subject or e[1] >= before]
            return count - len(self._events)

    # Control

    async def cancel(self, job_id: str, changes: Changes = NO_CHANGES) -> Job:
        """See `Store.cancel`."""
        with self._transaction() as now:
            record = self._known(job_id)
            self._check_versions(changes)
            self._change(record, transitions.request_cancel, now)
            self._apply(changes, now)
            self._told.add(NoticeKind.CONTROL)
            return record.to_job()

    async def retry(
        self, job_id: str, payload: str | None = None, changes: Changes = NO_CHANGES
    ) -> Job:
        """See `Store.retry`."""
        with self._transaction() as now:
            record = self._known(job_id)
            self._check_versions(changes)
            key = (record.type, record.unique_key or "")
            if transitions.is_final(record) and key in self._unique:
                raise UniqueKeyTakenError(
                    f"unique key {record.unique_key!r} is held by job {self._unique[key].id}"
                )
            self._change(record, transitions.redrive, payload, now)
            if payload is not None:
                self._steps.pop(job_id, None)
            self._apply(changes, now)
            return record.to_job()

    async def delete(self, job_id: str, changes: Changes = NO_CHANGES) -> None:
        """See `Store.delete`."""
        with self._transaction() as now:
            record = self._known(job_id)
            self._check_versions(changes)
            transitions.check_deletable(record)
            self._remove(record)
            self._apply(changes, now)

    async def act(
        self, action: BulkAction, ids: Sequence[str], changes: Changes = NO_CHANGES
    ) -> Acted:
        """See `Store.act`."""
        with self._transaction() as now:
            self._check_versions(changes)
            distinct = dict.fromkeys(ids)
            known = [self._by_id[job_id] for job_id in distinct if job_id in self._by_id]
            records = allowed(action, known, self._unique)
            for record in records:
                self._act(action, record, now)
            self._apply(changes, now)
            return Acted(len(records), len(distinct) - len(records))

    def _act(self, action: BulkAction, record: JobRecord, now: int) -> None:
        match action:
            case BulkAction.CANCEL:
                self._change(record, transitions.request_cancel, now)
                self._told.add(NoticeKind.CONTROL)
            case BulkAction.RETRY:
                self._change(record, transitions.redrive, None, now)
            case BulkAction.DELETE:
                self._remove(record)

    async def wake(self, type: str, unique_keys: Sequence[str]) -> int:
        """See `Store.wake`."""
        with self._transaction() as now:
            holders = (self._unique.get((type, key)) for key in dict.fromkeys(unique_keys))
            asleep = [record for record in holders if transitions.sleeps(record, now)]
            for record in asleep:
                self._change(record, transitions.wake, now)
            return len(asleep)

    async def pause(self, queue: str, *, paused: bool, changes: Changes = NO_CHANGES) -> None:
        """See `Store.pause`."""
        with self._transaction() as now:
            self._check_versions(changes)
            self._apply(changes, now)
            (self._paused.add if paused else self._paused.discard)(queue)
            self._told.add(NoticeKind.CONTROL)

    async def paused(self) -> frozenset[str]:
        """See `Store.paused`."""
        self._check_open()
        return frozenset(self._paused)

    async def cleanup(self, older_than_s: float, *, slack_s: float = 0.0) -> int:  # noqa: ARG002
        """See `Store.cleanup`."""
        with self._transaction() as now:
            limit = now - int(older_than_s * 1e6)
            old = [r for r in self._jobs.values() if (r.completed_at or now) < limit]
            for record in old:
                self._remove(record)
            return len(old)

    # Moving to another store

    async def dump(self, part: Part, *, after: Row | None, limit: int) -> list[Row]:
        """See `Store.dump`."""
        with self._transaction():
            rows: list[Row]
            match part:
                case Part.JOBS:
                    rows = [msgspec.structs.astuple(job) for job in self._jobs.values()]
                case Part.STEPS:
                    rows = [(j, n, r) for j, steps in self._steps.items() for n, r in steps.items()]
                case Part.RECORDS:
                    rows = [(*key, *kept) for key, kept in self._records.items()]
                case Part.EVENTS:
                    rows = list(self._events)
                case Part.PAUSED:
                    rows = [(queue,) for queue in self._paused]
            beyond = [row for row in rows if after is None or part.key(row) > after]
            return sorted(beyond, key=part.key)[:limit]

    async def load(self, part: Part, rows: Sequence[Row]) -> None:
        """See `Store.load`."""
        with self._transaction():
            for row in rows:
                match part:
                    case Part.JOBS:
                        self._load_job(JobRecord(*row))
                    case Part.STEPS:
                        self._steps[row[0]].setdefault(row[1], row[2])
                    case Part.RECORDS:
                        self._records.setdefault((row[0], row[1]), (row[2], row[3]))
                    case Part.EVENTS:
                        if all(row[0] != event[0] for event in self._events):
                            self._events.append((row[0], row[1], row[2], row[3], row[4]))
                    case Part.PAUSED:
                        self._paused.add(row[0])
            self._seq = itertools.count(max(self._jobs, default=0) + 1)
            self._events.sort()
            last = self._events[-1][0] if self._events else 0
            self._event_ids = itertools.count(max(next(self._event_ids), last + 1))

    def _load_job(self, record: JobRecord) -> None:
        if record.id in self._by_id:
            return
        self._jobs[record.seq] = self._by_id[record.id] = record
        self._counts[record.queue, record.type, record.state] += 1
        self._place(record)

    # Inspecting

    async def get(self, job_id: str) -> Job | None:
        """See `Store.get`."""
        self._check_open()
        record = self._by_id.get(job_id)
        return None if record is None else record.to_job()

    async def find(
        self,
        *,
        status: JobStatus | None = None,
        type: str | None = None,
        queue: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Job]:
        """See `Store.find`."""
        self._check_open()
        states = tuple(State) if status is None else STATES_OF[status]
        matching = [
            (_listing_place(record), record)
            for record in self._jobs.values()
            if record.state in states and type in (None, record.type)
            if queue in (None, record.queue)
        ]
        if after is not None:
            place = _listing_place(self._known(after))
            matching = [entry for entry in matching if entry[0] > place]
        return [record.to_job() for _, record in heapq.nsmallest(limit, matching)]

    async def search(
        self, where: Search, *, limit: int, after: int | None = None, scan: int = SCAN_MOST
    ) -> Found:
        """See `Store.search`."""
        records, last, scanned = self._search(where, limit, after, scan)
        return Found([record.to_job() for record in records], last, scanned)

    async def match_ids(
        self, where: Search, *, limit: int, after: int | None = None, scan: int = SCAN_MOST
    ) -> FoundIds:
        """See `Store.match_ids`."""
        records, last, scanned = self._search(where, limit, after, scan)
        return FoundIds([record.id for record in records], last, scanned)

    def _search(
        self, where: Search, limit: int, after: int | None, scan: int
    ) -> tuple[list[JobRecord], int | None, int]:
        """The jobs of a page, where the next begins, and how many were looked at."""
        self._check_open()
        some = any(count and where.covers(*key) for key, count in self._counts.items())
        if not (some and where.may_match):
            return [], None, 0
        states = where.states
        newest = (self._jobs[seq] for seq in sorted(self._jobs, reverse=True))
        asked = (r for r in newest if (after is None or r.seq < after) and r.state in states)
        below = list(itertools.islice(asked, scan))
        found = list(itertools.islice(filter(where.matches, below), limit + 1))
        if len(found) > limit:
            below = below[: below.index(found[limit - 1]) + 1]
        elif len(below) < scan:
            return found, None, len(below)
        return found[:limit], below[-1].seq, len(below)

    async def children(self, job_id: str, *, limit: int = 100) -> list[Job]:
        """See `Store.children`."""
        self._check_open()
        found = (record for record in self._jobs.values() if record.parent == job_id)
        return [r.to_job() for r in heapq.nsmallest(limit, found, key=lambda r: r.seq)]

    async def stats(self) -> StoreStats:
        """See `Store.stats`."""
        with self._transaction(writing=False) as now:
            self._stage(now)
            oldest = (now // 1_000_000 - ACTIVITY_KEPT_S) // ACTIVITY_WINDOW_S
            self._activity = {k: a for k, a in self._activity.items() if k[1] > oldest}
            return StoreStats(
                counts=tuple(Counted(*key, n) for key, n in self._counts.items() if n),
                activity=tuple(self._activity.values()),
                late_outcomes=self._late_outcomes,
            )

    async def oldest_ready(self) -> tuple[Oldest, ...]:
        """See `Store.oldest_ready`."""
        with self._transaction(writing=False) as now:
            self._stage(now)
            ready = sorted(key[:2] for key, n in self._counts.items() if n and key[2] == _READY)
            lanes = tuple(Lane(queue, kind, 1) for queue, kind in ready)
            return oldest_of(lanes, self._candidates(Claim(lanes=lanes, start=1), paused=()))

    async def workers(self) -> list[WorkerState]:
        """See `Store.workers`."""
        self._check_open()
        now = self._clock.monotonic()
        return [
            WorkerState(
                id=i,
                info=w.info,
                alive=not w.held or w.expires > now,
                held=len(w.held),
                renewed_ago_s=max(0.0, now - (w.expires - w.info.lease_s)),
                memory_bytes=w.memory_bytes,
            )
            for i, w in self._workers.items()
        ]

    # What the operations are made of

    def _transaction(self, *, writing: bool = True) -> "_Transaction":
        self._check_open()
        if writing and self._blocks.around:
            # Where there is SQL such a write would wait for its own block: the same program must
            # have the same results here.
            raise StoreBusyError("inside complete() nothing else may be written; use its `tx`")
        return self._operation

    def _tell_later(self) -> None:
        """Listeners hear of it after the operation has returned, as with every other store."""
        if (self._told or self._finished) and not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _check_open(self) -> None:
        if self._opened < 1:
            raise StoreClosedError("the store is not open: use `async with` on the service")

    def _tell(self) -> None:
        self._telling = False
        notices = [Notice(kind) for kind in self._told]
        if self._finished:
            notices.append(Notice(NoticeKind.FINISHED, tuple(self._finished)))
        self._told.clear()
        self._finished.clear()
        for notice in notices:
            for listener in tuple(self._listeners):
                listener(notice)

    def _insert(self, draft: Draft, now: int, parent: str | None = None) -> JobRecord:
        if draft.unique_key is not None:
            existing = self._unique.get((draft.type, draft.unique_key))
            if existing is not None:
                return existing
        record = transitions.create(draft, next(self._seq), now, parent)
        self._jobs[record.seq] = self._by_id[record.id] = record
        self._counts[record.queue, record.type, record.state] += 1
        self._place(record)
        return record

    def _remove(self, record: JobRecord) -> None:
        """Forget a final job."""
        self._counts[record.queue, record.type, record.state] -= 1
        del self._jobs[record.seq], self._by_id[record.id]
        self._steps.pop(record.id, None)

    def _change(self, record: JobRecord, transition: Callable[..., None], *args: Any) -> None:
        """Apply *transition* and keep every index in step with the record."""
        before = record.state
        transition(record, *args)
        after = record.state
        if after != before:
            self._counts[record.queue, record.type, before] -= 1
            self._counts[record.queue, record.type, after] += 1
        if after in LEASED:
            return
        if before in LEASED and record.worker in self._workers:
            self._workers[record.worker].held.pop(record.seq, None)
        if after != before or after == _READY:
            self._place(record)

    def _place(self, record: JobRecord) -> None:
        """File a job that nobody holds under its state. Old entries of heaps are dropped when met."""
        place = (record.ready_at, record.seq)
        if record.state == _SCHEDULED:
            heapq.heappush(self._scheduled, place)
            self._told.add(NoticeKind.READY)
        elif record.state == _READY:
            lane = self._lanes[record.queue, record.type]
            lane[record.suspect, record.priority].add(place)
            self._told.add(NoticeKind.READY)
        else:
            self._finished.append(record.id)
        if record.unique_key is not None:
            key = (record.type, record.unique_key)
            if not transitions.is_final(record):
                self._unique[key] = record
            elif self._unique.get(key) is record:
                del self._unique[key]

    def _record(self, outcomes: Sequence[Outcome], now: int) -> dict[int, Refusal]:
        refused: dict[int, Refusal] = {}
        for position, outcome in enumerate(outcomes):
            record = self._jobs.get(outcome.lease.ref)
            token = outcome.lease.token
            if not transitions.owns(record, token):
                if not transitions.already_recorded(record, token):
                    self._late_outcomes += outcome.kind is not OutcomeKind.RETURNED
                    refused[position] = Refusal.LEASE_LOST
                continue
            if not outcome.changes:
                self._change(record, transitions.record_outcome, outcome, now)
                continue
            try:
                self._check_versions(outcome.changes)
            except VersionConflictError:
                refused[position] = Refusal.CONFLICT
                continue
            self._change(record, transitions.record_outcome, outcome, now)
            self._apply(outcome.changes, now, record.id)
        return refused

    def _owned(self, lease: Lease) -> JobRecord:
        record = self._jobs.get(lease.ref)
        if not transitions.owns(record, lease.token):
            raise refusal_error(Refusal.LEASE_LOST, lease)
        return record

    def _return_unknown(self, me: _Worker, held: Sequence[Lease], now: int) -> None:
        known = {(lease.ref, lease.token) for lease in held}
        for record in list(me.held.values()):
            if (record.seq, record.token) not in known:
                assert record.token is not None
                lease = Lease(record.id, record.token, record.seq, record.type, record.queue)
                returned = Outcome(lease, OutcomeKind.RETURNED)
                self._change(record, transitions.record_outcome, returned, now)
                record.token = None

    def _stage(self, now: int) -> float | None:
        """Make due jobs ready; seconds until the next, or None."""
        while self._scheduled:
            ready_at, seq = self._scheduled[0]
            record = self._jobs.get(seq)
            if record is not None and record.state == _SCHEDULED:
                if record.ready_at == ready_at and ready_at > now:
                    return (ready_at - now) / 1e6
                if record.ready_at == ready_at:
                    self._change(record, _make_ready)
            heapq.heappop(self._scheduled)
        return None

    def _claim(self, worker: int, me: _Worker, claim: Claim, now: int) -> tuple[Claimed, ...]:
        token, name = next(self._token), f"{me.name}:{worker}"
        claimed: list[Claimed] = []
        came: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        for seq, start in choose(self._candidates(claim, self._paused), claim):
            record = self._jobs[seq]
            transitions.claim(record, token, worker, name, now, start)
            came[record.queue, record.type, record.state] += 1
            me.held[seq] = record
            lease = Lease(record.id, token, seq, record.type, record.queue)
            claimed.append(Claimed(lease, msgspec.structs.replace(record)))
        for (queue, kind, state), count in came.items():
            self._counts[queue, kind, _READY] -= count
            self._counts[queue, kind, state] += count
        if claimed:
            me.expires = max(me.expires, self._clock.monotonic() + me.info.lease_s)
        return tuple(claimed)

    def _candidates(self, claim: Claim, paused: Collection[str]) -> Iterator[Candidate]:
        """Merge the lines by their heads."""
        return heapq.merge(
            *(
                self._in_order(line, number, suspect, priority, claim.aging_s)
                for number, lane in enumerate(claim.lanes)
                if lane.queue not in paused
                for (suspect, priority), line in self._lanes[lane.queue, lane.type].items()
                if line and (claim.suspects or not suspect)
            )
        )

    def _in_order(
        self, line: "_Line", number: int, suspect: bool, priority: int, aging_s: float | None
    ) -> Iterator[Candidate]:
        """A line's jobs in order. Entries of jobs that have moved on are dropped when met."""
        while place := line.first():
            ready_at, seq = place
            record = self._jobs.get(seq)
            if (
                record is not None
                and record.state == _READY
                and record.ready_at == ready_at
                and record.suspect is suspect
            ):
                yield candidate(priority, ready_at, seq, number, suspect=suspect, aging_s=aging_s)
                if record.state == _READY:
                    return  # not taken: neither will those behind it be
            line.pop()

    def _check_versions(self, changes: Changes) -> None:
        for item in changes.records:
            version = self._records.get((item.kind, item.id), (0, ""))[0]
            if item.expect is not None and item.expect != version:
                raise VersionConflictError(
                    f"{item.kind} {item.id} has version {version}, expected {item.expect}"
                )

    def _apply(self, changes: Changes, now: int, parent: str | None = None) -> None:
        for item in changes.records:
            if isinstance(item, Put):
                version = self._records.get((item.kind, item.id), (0, ""))[0]
                self._records[item.kind, item.id] = (version + 1, item.value)
            else:
                self._records.pop((item.kind, item.id), None)
        for event in changes.events:
            number = next(self._event_ids)
            self._events.append((number, now, event.topic, event.subject, event.data))
            self._told.add(NoticeKind.EVENTS)
        for draft in changes.jobs:
            self._insert(draft, now, parent)
        for job_id in changes.cancel:
            record = self._by_id.get(job_id)
            if record is not None and not transitions.is_final(record):
                self._change(record, transitions.request_cancel, now)
                self._told.add(NoticeKind.CONTROL)

    def _known(self, job_id: str) -> JobRecord:
        record = self._by_id.get(job_id)
        if record is None:
            raise JobNotFoundError(job_id)
        return record


class _Line:
    """The places of one lane and priority, lowest first. Most come in order, and need no heap."""

    __slots__ = ("_in_order", "_others")

    def __init__(self) -> None:
        self._in_order: deque[_Place] = deque()
        self._others: list[_Place] = []

    def __len__(self) -> int:
        return len(self._in_order) + len(self._others)

    def add(self, place: _Place) -> None:
        if self._in_order and place < self._in_order[-1]:
            heapq.heappush(self._others, place)
        else:
            self._in_order.append(place)

    def first(self) -> _Place | None:
        """The lowest place; None when there is none."""
        if self._others and (not self._in_order or self._others[0] < self._in_order[0]):
            return self._others[0]
        return self._in_order[0] if self._in_order else None

    def pop(self) -> None:
        """Remove what is `first`."""
        if self._others and (not self._in_order or self._others[0] < self._in_order[0]):
            heapq.heappop(self._others)
        else:
            self._in_order.popleft()


class _Transaction:
    """One operation: gives its time, and tells of it when it has succeeded."""

    def __init__(self, lock: threading.RLock, clock: Clock, tell: Callable[[], None]) -> None:
        self._lock = lock
        self._clock = clock
        self._tell = tell

    def __enter__(self) -> int:
        self._lock.acquire()
        return self._clock.now_us()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._lock.release()
        if kind is None:
            self._tell()


class _NoSql:
    """`complete` without SQL: follow-up jobs only."""

    async def execute(self, sql: str, *args: Any) -> int:  # noqa: ARG002  # the protocol's
        raise TypeError("memory:// has no SQL; use a sqlite:/// store")

    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:  # noqa: ARG002  # same
        raise TypeError("memory:// has no SQL; use a sqlite:/// store")


def _make_ready(record: JobRecord) -> None:
    record.state = _READY


def _listing_place(record: JobRecord) -> tuple[int, int]:
    return (-record.priority, record.seq)


def _to_record(kind: str, id: str, version: int, value: str) -> Record:
    return Record(kind=kind, id=id, version=version, value=msgspec.json.decode(value))
