"""The store's operations as statements inside one open transaction.

A batch goes in as one JSON array and comes out as one: see ARCHITECTURE.md, "SQLite and the
interpreter lock". What becomes of a job is decided in `durably.domain.transitions`; only the three
hot paths (enqueue, claim, plain completion) say it again in SQL, and the conformance suite and the
rule machine hold them to it.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain, groupby, takewhile
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from durably.domain import transitions
from durably.domain.bulk import Acted, BulkAction, allowed
from durably.domain.claiming import Candidate, Claim, Lane, candidate, choose
from durably.domain.errors import (
    JobNotFoundError,
    LeaseLostError,
    UniqueKeyTakenError,
    VersionConflictError,
)
from durably.domain.job import FIELDS, Draft, Job, JobPriority, JobRecord, State
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
from durably.domain.search import Found, FoundIds, Search
from durably.store import (
    ACTIVITY_KEPT_S,
    ACTIVITY_WINDOW_S,
    Activity,
    Claimed,
    Counted,
    Oldest,
    Part,
    Refusal,
    Row,
    StoreStats,
    oldest_of,
)
from durably.stores.sqlite.listing import listing
from durably.stores.sqlite.searching import Look

BATCH = 500
"""Jobs rescued or cleaned up in one transaction: others must not wait long."""
STAGED_MOST = 20_000
"""Due jobs made ready in one transaction, at 3 µs each. Claims are in order among so many."""

_T = TypeVar("_T")
_Counts = Counter[tuple[str, str, int]]
_COMPLETED = OutcomeKind.COMPLETED
_NOBODY: _Counts = Counter()
_Rows: TypeAlias = str | Sequence[JobRecord]
"""Jobs in one JSON array, or decoded where they are too large for one."""
_TABLE = "durably_jobs"
_ROW = f"json_array({', '.join(FIELDS)})"
_NEW = (
    *("id", "type", "queue", "priority", "state", "ready_at", "created_at", "max_attempts"),
    *("granted", "payload", "tags", "unique_key", "run_at", "parent"),
)
"""What is not yet its default in a new job."""
_SAVED = (
    *("state", "ready_at", "max_attempts", "payload", "run_at", "attempts", "crashes"),
    *("processed_at", "completed_at", "next_retry_at", "error", "errors", "result", "progress"),
    *("token", "worker", "worker_name", "cancel_requested"),
)
_new_values = attrgetter(*_NEW)
_saved_values = attrgetter("seq", *_SAVED)
_ROWS_MOST = 64
"""In one statement; each size is prepared once, and sizes are powers of two."""
_LOAD = f"SELECT json_group_array({_ROW}) FROM {_TABLE} WHERE "
_BY_SEQ = "seq IN (SELECT value FROM json_each(:seqs))"
_BY_ID = "id IN (SELECT value FROM json_each(?))"
_FORGET_STEPS = "DELETE FROM durably_steps WHERE job IN (SELECT value FROM json_each(?))"
_TAKEN = (
    f"SELECT job.type, unique_key FROM json_each(?) AS given CROSS JOIN {_TABLE} AS job"
    " ON job.type = json_extract(given.value, '$[0]')"
    " AND unique_key = json_extract(given.value, '$[1]')"
    " WHERE unique_key IS NOT NULL AND shelf = 3"
)
_REPORTED = (
    "(SELECT json_extract(value, '$[0]') AS ref, json_extract(value, '$[1]') AS claim,"
    " json_extract(value, '$[2]') AS run_us, json_extract(value, '$[3]') AS report"
    " FROM json_each(:outcomes))"
)
_OWNED = (
    f"SELECT json_group_array(seq * 8 + state) FROM {_REPORTED} CROSS JOIN {_TABLE}"
    " ON seq = ref AND token = claim AND state IN (2, 3)"
)
"""Both in one number: SQLite takes longer to write an array of arrays than to find the jobs."""
_COMPLETE = (
    f"UPDATE {_TABLE} SET state = 4, shelf = 4, completed_at = :now, error = NULL, next_retry_at = NULL,"
    " attempts = attempts + (state = 2),"
    " processed_at = CASE state WHEN 2 THEN :now - run_us ELSE processed_at END,"
    f" result = report FROM {_REPORTED} WHERE seq = ref"
)
_COMPLETE_UNTOLD = (
    f"UPDATE {_TABLE} SET state = 4, shelf = 4, completed_at = :now, error = NULL, next_retry_at = NULL,"
    " attempts = attempts + 1, processed_at = :now - value"
    " FROM json_each(:runs) WHERE seq = CAST(key AS INTEGER) AND token = :token AND state = 2"
)
_RESERVE = (
    f"UPDATE {_TABLE} SET state = 2, token = :token, worker = :worker, worker_name = :name"
    f" WHERE {_BY_SEQ}"
)
_START = (
    f"UPDATE {_TABLE} SET state = 3, token = :token, worker = :worker, worker_name = :name,"
    f" attempts = attempts + 1, processed_at = :now, next_retry_at = NULL WHERE {_BY_SEQ}"
)
_DUE_AT = f"(SELECT min(ready_at) FROM {_TABLE} INDEXED BY durably_scheduled WHERE state = 0)"
_LOOK = (
    f"SELECT name, expires_us, {_DUE_AT}, (SELECT json_group_array(queue) FROM durably_paused),"
    f" (SELECT json_group_array(id) FROM {_TABLE} INDEXED BY durably_cancelling"
    " WHERE worker = :worker AND state IN (2, 3) AND cancel_requested = 1)"
    " FROM durably_workers WHERE id = :worker"
)
_ASLEEP = (
    "type = ? AND unique_key IN (SELECT value FROM json_each(?)) AND shelf = 3"
    " AND state = 0 AND next_retry_at IS NULL AND ready_at > ?"
)
_TOKENS_BEYOND = 1_000_000
_numbers = msgspec.json.Decoder(list[int])
_record = msgspec.json.Decoder(JobRecord)
_records = msgspec.json.Decoder(list[JobRecord])
_encode = msgspec.json.Encoder().encode


_WORKERS = (
    "SELECT id, name, info, lease_us, expires_us, boot, (SELECT count(*) FROM durably_jobs"
    " WHERE worker = durably_workers.id AND state IN (2, 3)), memory FROM durably_workers"
)


_DUMPS: dict[Part, tuple[str, Row]] = {
    Part.JOBS: (
        f"SELECT {', '.join(FIELDS)} FROM durably_jobs WHERE id > ? ORDER BY id LIMIT ?",
        ("",),
    ),
    Part.STEPS: (
        # The jobs first: their ids give the order.
        (
            "SELECT id, name, s.result FROM durably_jobs CROSS JOIN durably_steps AS s ON job = seq"
            " WHERE id >= ?1 AND (id, name) > (?1, ?2) ORDER BY id, name LIMIT ?3"
        ),
        ("", ""),
    ),
    Part.RECORDS: (
        (
            "SELECT kind, id, version, value FROM durably_records WHERE (kind, id) > (?, ?)"
            " ORDER BY kind, id LIMIT ?"
        ),
        ("", ""),
    ),
    Part.EVENTS: (
        "SELECT id, at_us, topic, subject, data FROM durably_events WHERE id > ? ORDER BY id LIMIT ?",
        (0,),
    ),
    Part.PAUSED: ("SELECT queue FROM durably_paused WHERE queue > ? ORDER BY queue LIMIT ?", ("",)),
}
_LOADS = {
    Part.JOBS: (
        f"INSERT INTO durably_jobs ({', '.join(FIELDS)}, shelf)"
        f" VALUES ({', '.join('?' * len(FIELDS))}, max(?{FIELDS.index('state') + 1}, 3))"
        " ON CONFLICT (id) DO NOTHING"
    ),
    Part.STEPS: (
        "INSERT INTO durably_steps SELECT seq, ?2, ?3 FROM durably_jobs WHERE id = ?1"
        " ON CONFLICT DO NOTHING"
    ),
    Part.RECORDS: "INSERT INTO durably_records VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    Part.EVENTS: "INSERT INTO durably_events VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    Part.PAUSED: "INSERT INTO durably_paused VALUES (?) ON CONFLICT DO NOTHING",
}


class WorkerRow(NamedTuple):
    """A registration, and how many jobs it holds."""

    id: int
    name: str
    info: str
    lease_us: int
    expires_us: int
    """On the monotonic clock of `boot`."""
    boot: str
    held: int
    memory: int | None
    """Bytes, as of the last renewal."""


class Seen(NamedTuple):
    """What an exchange meets."""

    name: str
    """Of the worker."""
    expires_us: int
    due_at: int | None
    """When the next scheduled job becomes ready; None: none is scheduled."""
    due_in_s: float | None
    """See `Session.due_in`."""
    paused: frozenset[str]
    """Queues."""
    cancel: tuple[str, ...]
    """Ids of held jobs that somebody asked to cancel."""


class Effects:
    """What to tell after the commit."""

    def __init__(self) -> None:
        self.ready = False
        self.control = False
        self.events = False
        self.finished: list[str] = []

    def add(self, other: "Effects") -> None:
        """Tell that too."""
        self.ready |= other.ready
        self.control |= other.control
        self.events |= other.events
        self.finished += other.finished


class Reports(NamedTuple):
    """Ends of attempts, and what the writer needs of them, made ready for it."""

    outcomes: Sequence[Outcome]
    untold: tuple[tuple[int, str], ...]
    """When the store knows of no start and takes no result: by token the run times, µs, of jobs."""
    completions: str | None
    """When all are plain completions: as one argument."""


def reports(outcomes: Sequence[Outcome]) -> Reports:
    """What `Session.record` takes."""
    if not all(map(_is_plain, outcomes)):
        return Reports(outcomes, (), None)
    if not all(outcome.untold and outcome.result is None for outcome in outcomes):
        return Reports(outcomes, (), _completions(outcomes))
    runs: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for outcome in outcomes:
        runs[outcome.lease.token][outcome.lease.ref] = int(outcome.run_s * 1e6)
    by_token = tuple((token, _encode(given).decode()) for token, given in runs.items())
    return Reports(outcomes, by_token, None)


class Taken(NamedTuple):
    """Leased jobs as they were read: decoded by who asked, for the writer has other things to do."""

    seqs: Sequence[int]
    """In the order of the claim."""
    rows: _Rows

    def claimed(self) -> tuple[Claimed, ...]:
        """The jobs and their leases."""
        records = {record.seq: record for record in _decoded(self.rows)}
        return tuple([Claimed(_lease(records[seq]), records[seq]) for seq in self.seqs])


NOTHING_TAKEN = Taken((), ())


class Session:
    """The operations on one connection inside one transaction that began at `now`."""

    def __init__(self, connection: sqlite3.Connection, now: int, effects: Effects) -> None:
        self._run = connection.execute
        self.now = now
        self.effects = effects

    # Enqueue

    def insert(self, drafts: Sequence[Draft], parent: str | None = None) -> list[Job]:
        """Store new jobs; a held unique key yields its job instead."""
        if any(draft.unique_key is not None for draft in drafts):
            return [self._insert_unique(draft, parent) for draft in drafts]
        return [record.to_job() for record in self._insert_all(drafts, parent)]

    def _insert_all(self, drafts: Sequence[Draft], parent: str | None) -> list[JobRecord]:
        records = [transitions.create(draft, 0, self.now, parent) for draft in drafts]
        for part in _portions(records):
            self._run(_insert(len(part)), _flat(map(_new_values, part)))
        self.count(Counter([(r.queue, r.type, r.state) for r in records]))
        self.effects.ready |= bool(records)
        return records

    def _insert_unique(self, draft: Draft, parent: str | None) -> Job:
        if draft.unique_key is not None:
            holder = self.load(
                "type = ? AND unique_key = ? AND shelf = 3", draft.type, draft.unique_key
            )
            if holder:
                return holder[0].to_job()
        return self._insert_all([draft], parent)[0].to_job()

    # Outcomes

    def record(self, reports: Reports) -> dict[int, Refusal]:
        """Record the end of attempts; which were refused, by position."""
        refused: dict[int, Refusal] = {}
        outcomes, untold, completions = reports
        if untold and self._complete_untold(outcomes, untold):
            return refused
        if completions is not None:
            if not self._complete(outcomes, completions):
                self._record_some(list(enumerate(outcomes)), refused)
            return refused
        for changing, group in groupby(enumerate(outcomes), lambda item: bool(item[1].changes)):
            if changing:
                # One by one: what one of them changes, the next must see.
                for item in group:
                    self._record_some([item], refused)
            else:
                self._record_unchanging(list(group), refused)
        return refused

    def _record_unchanging(
        self, outcomes: list[tuple[int, Outcome]], refused: dict[int, Refusal]
    ) -> None:
        plain = [outcome for _, outcome in outcomes if _is_plain(outcome)]
        # Of two reports on one job the first decides, so that only single ones can go ahead.
        single = len({outcome.lease.ref for _, outcome in outcomes}) == len(outcomes)
        if single and plain and self._complete(plain, _completions(plain)):
            outcomes = [(i, outcome) for i, outcome in outcomes if not _is_plain(outcome)]
        self._record_some(outcomes, refused)

    def _complete_untold(
        self, outcomes: Sequence[Outcome], runs: Iterable[tuple[int, str]]
    ) -> bool:
        """Complete reserved jobs without a result; False, and nothing done, unless all are."""
        self._run("SAVEPOINT untold")
        done = 0
        for token, given in runs:
            values = {"now": self.now, "token": token, "runs": given}
            done += self._run(_COMPLETE_UNTOLD, values).rowcount
        if done < len(outcomes):
            self._run("ROLLBACK TO untold")
        self._run("RELEASE untold")
        if done < len(outcomes):
            return False
        leases = [outcome.lease for outcome in outcomes]
        self._completed(leases, Counter([(o.queue, o.type, State.RESERVED) for o in leases]))
        return True

    def _completed(self, leases: Sequence[Lease], left: _Counts) -> None:
        self.count(_all_in(State.COMPLETED, left), left)
        self.effects.finished.extend([lease.job_id for lease in leases])

    def _complete(self, outcomes: Sequence[Outcome], items: str) -> bool:
        """Complete all at once; False, and nothing done, unless every lease is valid.

        False also for two reports on one job, and for results that are too large for one statement.
        """
        if len(items) > _REPORTS_BYTES:
            return False
        (text,) = self._run(_OWNED, {"outcomes": items}).fetchone()
        states = dict(divmod(owned, 8) for owned in _numbers.decode(text))
        if len(states) < len(outcomes):
            return False
        self._run(_COMPLETE, {"now": self.now, "outcomes": items})
        leases = [outcome.lease for outcome in outcomes]
        self._completed(leases, Counter([(o.queue, o.type, states[o.ref]) for o in leases]))
        return True

    def _record_some(
        self, outcomes: Sequence[tuple[int, Outcome]], refused: dict[int, Refusal]
    ) -> None:
        if not outcomes:
            return
        records = {r.seq: r for r in self.load_all([o.lease.ref for _, o in outcomes])}
        changed: list[tuple[JobRecord, int]] = []
        for position, outcome in outcomes:
            record = records.get(outcome.lease.ref)
            if transitions.already_recorded(record, outcome.lease.token):
                continue
            if not transitions.owns(record, outcome.lease.token):
                refused[position] = Refusal.LEASE_LOST
                self.bump("late_outcomes", outcome.kind is not OutcomeKind.RETURNED)
                continue
            if not self._fits(outcome.changes):
                refused[position] = Refusal.CONFLICT
                continue
            changed.append((record, record.state))
            transitions.record_outcome(record, outcome, self.now)
        self._save(changed)
        for position, outcome in outcomes:
            if changed and position not in refused:
                self.apply(outcome.changes, outcome.lease.job_id)

    def _fits(self, changes: Changes) -> bool:
        try:
            self.check_versions(changes)
        except VersionConflictError:
            return False
        return True

    def begin(self, leases: Sequence[Lease]) -> None:
        """Handlers of reserved jobs have started."""
        known = {(lease.ref, lease.token) for lease in leases}
        self._transition(
            (
                record
                for record in self.load_all([lease.ref for lease in leases])
                if record.state == State.RESERVED and (record.seq, record.token) in known
            ),
            transitions.begin,
            self.now,
        )

    def owned(self, lease: Lease) -> JobRecord:
        """The job of a valid lease, or LeaseLostError."""
        found = self.load("seq = ?", lease.ref)
        record = found[0] if found else None
        if not transitions.owns(record, lease.token):
            raise LeaseLostError(f"the lease of job {lease.job_id} is lost; nothing was written")
        return record

    def return_unknown(self, worker: int, held: Sequence[Lease]) -> None:
        """Give back what the store holds for *worker* beyond *held*."""
        known = {(lease.ref, lease.token) for lease in held}
        records = self.load("worker = ? AND state IN (2, 3)", worker)
        self._transition(
            (record for record in records if (record.seq, record.token) not in known),
            _return,
            self.now,
        )

    # Claim

    def look(self, worker: int) -> Seen | None:
        """What an exchange needs to know; None once the worker's registration has ended."""
        row = self._run(_LOOK, {"worker": worker}).fetchone()
        if row is None:
            return None
        name, expires_us, due_at, paused, cancel = row
        return Seen(
            name=f"{name}:{worker}",
            expires_us=expires_us,
            due_at=due_at,
            due_in_s=self._until(due_at),
            paused=frozenset(msgspec.json.decode(paused)),
            cancel=tuple(msgspec.json.decode(cancel)),
        )

    def version(self) -> int:
        """Another number once another connection, of whichever process, has written to the file."""
        (version,) = self._run("PRAGMA data_version").fetchone()
        return int(version)

    def heads(self, claim: Claim, paused: Collection[str]) -> list[Candidate]:
        """The candidates of every lane this worker can run, in order."""
        most = claim.start + claim.reserve
        lanes = [
            (number, lane)
            for number, lane in enumerate(claim.lanes)
            if lane.limit > 0 and lane.queue not in paused
        ]
        found: list[Candidate] = []
        for part in _chunks(lanes, _LANES_IN_ONE_STATEMENT):
            arguments = [
                argument
                for number, lane in part
                for argument in (number, lane.queue, lane.type, min(lane.limit, most))
            ]
            (text,) = self._run(_heads(len(part), suspects=claim.suspects), arguments).fetchone()
            found += [
                candidate(priority, ready, seq, lane, suspect=bool(suspect), aging_s=claim.aging_s)
                for lane, suspect, priority, ready, seq in msgspec.json.decode(text)
            ]
        found.sort()
        return found

    def claim(self, heads: list[Candidate], claim: Claim, worker: int, name: str) -> Taken:
        """Lease the jobs chosen from *heads*."""
        chosen = list(choose(heads, claim))
        if not chosen:
            return NOTHING_TAKEN
        token = self.next_number("token")
        who = {"token": token, "worker": worker, "name": name, "now": self.now}
        for statement, starts in ((_START, True), (_RESERVE, False)):
            if seqs := [seq for seq, start in chosen if start is starts]:
                self._run(statement, {**who, "seqs": _encode(seqs).decode()})
        lane_of = {head.seq: head.lane for head in heads}
        taken = Counter([(lane_of[seq], starts) for seq, starts in chosen])
        came: _Counts = Counter()
        for (number, starts), count in taken.items():
            lane = claim.lanes[number]
            came[lane.queue, lane.type, State.RUNNING if starts else State.RESERVED] += count
        self.count(came, _all_in(State.READY, came))
        seqs = [seq for seq, _ in chosen]
        return Taken(seqs, self._rows(seqs))

    def due_in(self) -> float | None:
        """Seconds until the next scheduled job becomes ready; None: none is scheduled."""
        (first,) = self._run(f"SELECT {_DUE_AT}").fetchone()
        return self._until(first)

    def _until(self, moment: int | None) -> float | None:
        return None if moment is None else max(0.0, (moment - self.now) / 1e6)

    def is_due(self) -> bool:
        """Whether a scheduled job's time has come."""
        return self.due_in() == 0

    def stage(self) -> float | None:
        """Make a batch of due jobs ready; `due_in` of what is left."""
        where = (
            f"seq IN (SELECT seq FROM {_TABLE} INDEXED BY durably_scheduled"
            " WHERE state = 0 AND ready_at <= ? ORDER BY ready_at, seq LIMIT ?)"
        )
        grouped = self._run(
            f"SELECT queue, type, count(*) FROM {_TABLE} WHERE {where} GROUP BY 1, 2",
            (self.now, STAGED_MOST),
        ).fetchall()
        self._run(f"UPDATE {_TABLE} SET state = 1 WHERE {where}", (self.now, STAGED_MOST))
        left = Counter({(queue, kind, int(State.SCHEDULED)): n for queue, kind, n in grouped})
        self.count(_all_in(State.READY, left), left)
        self.effects.ready = True
        return self.due_in()

    # Control

    def known(self, job_id: str) -> JobRecord:
        """A job by id, or JobNotFoundError."""
        found = self.load("id = ?", job_id) if is_storable(job_id) else []
        if not found:
            raise JobNotFoundError(job_id)
        return found[0]

    def cancel(self, job_id: str) -> Job:
        """Cancel or ask to."""
        record = self.known(job_id)
        self._transition([record], transitions.request_cancel, self.now)
        self.effects.control = True
        return record.to_job()

    def asleep(self, type: str, keys: Sequence[str]) -> list[JobRecord]:
        """The jobs that `wake` would make ready."""
        return self.load(_ASLEEP, type, _encode(keys).decode(), self.now)

    def wake(self, type: str, keys: Sequence[str]) -> int:
        """Make the sleeping holders of *keys* ready; how many."""
        asleep = self.asleep(type, keys)
        self._transition(asleep, transitions.wake, self.now)
        return len(asleep)

    def redrive(self, job_id: str, payload: str | None) -> Job:
        """Run a final job again."""
        record = self.known(job_id)
        if record.unique_key is not None and transitions.is_final(record):
            holder = self.load(
                "type = ? AND unique_key = ? AND shelf = 3", record.type, record.unique_key
            )
            if holder:
                raise UniqueKeyTakenError(
                    f"unique key {record.unique_key!r} is held by job {holder[0].id}"
                )
        self._transition([record], transitions.redrive, payload, self.now)
        if payload is not None:
            self._run("DELETE FROM durably_steps WHERE job = ?", (record.seq,))
        return record.to_job()

    def delete(self, job_id: str) -> None:
        """Remove a final job."""
        record = self.known(job_id)
        transitions.check_deletable(record)
        self._remove([record])

    def act(self, action: BulkAction, ids: Sequence[str]) -> Acted:
        """Do what is allowed to each of many jobs."""
        distinct = [job_id for job_id in dict.fromkeys(ids) if is_storable(job_id)]
        by_id = {record.id: record for record in self.load(_BY_ID, _encode(distinct).decode())}
        known = [by_id[job_id] for job_id in distinct if job_id in by_id]
        records = allowed(action, known, self._taken(known))
        match action:
            case BulkAction.CANCEL:
                self._transition(records, transitions.request_cancel, self.now)
                self.effects.control |= bool(records)
            case BulkAction.RETRY:
                self._transition(records, transitions.redrive, None, self.now)
            case BulkAction.DELETE:
                self._remove(records)
        return Acted(len(records), len(set(ids)) - len(records))

    def _taken(self, records: Iterable[JobRecord]) -> list[tuple[str, str]]:
        """Those unique keys of *records*, with their types, that live jobs hold."""
        keys = [(record.type, record.unique_key) for record in records if record.unique_key]
        return self._run(_TAKEN, (_encode(keys).decode(),)).fetchall()

    def _remove(self, records: Sequence[JobRecord]) -> None:
        """Remove jobs with their steps."""
        seqs = _encode([record.seq for record in records]).decode()
        self._run(f"DELETE FROM {_TABLE} WHERE {_BY_SEQ}", (seqs,))
        self._run(_FORGET_STEPS, (seqs,))
        self.count(left=Counter([(r.queue, r.type, r.state) for r in records]))

    def crash(self, worker: int, name: str) -> Counter[int]:
        """A batch of a dead worker's jobs; how many went into which state."""
        records = self.load("worker = ? AND state IN (2, 3) LIMIT ?", worker, BATCH)
        self._transition(records, transitions.crash, name, self.now)
        return Counter(record.state for record in records)

    def cleanup(self, before: int) -> int:
        """Remove a batch of jobs that became final before *before*."""
        rows = self._run(
            f"SELECT seq, queue, type, state FROM {_TABLE} INDEXED BY durably_final"
            " WHERE shelf > 3 AND completed_at < ? LIMIT ?",
            (before, BATCH),
        ).fetchall()
        seqs = _encode([row[0] for row in rows]).decode()
        self._run(f"DELETE FROM {_TABLE} WHERE {_BY_SEQ}", (seqs,))
        self._run(_FORGET_STEPS, (seqs,))
        self.count(left=Counter(row[1:] for row in rows))
        return len(rows)

    # Records, events, numbers

    def check_versions(self, changes: Changes) -> None:
        """VersionConflictError unless every record has the version expected of it."""
        for item in changes.records:
            if item.expect is None:
                continue
            version = self._version(item.kind, item.id)
            if version != item.expect:
                raise VersionConflictError(
                    f"{item.kind} {item.id} has version {version}, expected {item.expect}"
                )

    def apply(self, changes: Changes, parent: str | None = None) -> None:
        """Write what the versions were checked for; *parent* is the job whose attempt asks for it."""
        for item in changes.records:
            version = self._version(item.kind, item.id)
            if isinstance(item, Put):
                self._run(
                    "INSERT INTO durably_records VALUES (?, ?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET version = excluded.version, value = excluded.value",
                    (item.kind, item.id, version + 1, item.value),
                )
                self.bump(f"records:{item.kind}", version == 0)
            else:
                self._run(
                    "DELETE FROM durably_records WHERE kind = ? AND id = ?", (item.kind, item.id)
                )
                self.bump(f"records:{item.kind}", -(version > 0))
        for event in changes.events:
            self._run(
                "INSERT INTO durably_events (at_us, topic, subject, data) VALUES (?, ?, ?, ?)",
                (self.now, event.topic, event.subject, event.data),
            )
            self.effects.events = True
        if changes.jobs:
            self.insert(changes.jobs, parent)
        if changes.cancel:
            ids = _encode(changes.cancel).decode()
            live = self.load("id IN (SELECT value FROM json_each(?)) AND state < 4", ids)
            self._transition(live, transitions.request_cancel, self.now)
            self.effects.control = True

    def _version(self, kind: str, id: str) -> int:
        row = self._run(
            "SELECT version FROM durably_records WHERE kind = ? AND id = ?", (kind, id)
        ).fetchone()
        return 0 if row is None else int(row[0])

    def next_number(self, name: str) -> int:
        """A number never given out before under this name."""
        [(value,)] = self._run(
            "INSERT INTO durably_numbers VALUES (?, 1)"
            " ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value",
            (name,),
        ).fetchall()
        return int(value)

    def bump(self, name: str, by: int) -> None:
        """Add to a maintained number."""
        if by:
            self._run(
                "INSERT INTO durably_numbers VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET value = value + excluded.value",
                (name, int(by)),
            )

    def count(self, came: _Counts = _NOBODY, left: _Counts = _NOBODY) -> None:
        """Keep the maintained counts of (queue, type, state) in step with what came and left."""
        changes = came.copy()
        changes.subtract(left)
        rows = [(*key, by) for key, by in changes.items() if by]
        for part in _portions(rows):
            self._run(_count(len(part)), _flat(part))

    # Moving to another store

    def dump(self, part: Part, after: Row | None, limit: int) -> list[Row]:
        """Rows of a part in their order."""
        statement, first = _DUMPS[part]
        return self._run(statement, (*(first if after is None else after), limit)).fetchall()

    def load_rows(self, part: Part, rows: Sequence[Row]) -> None:
        """Keep the rows whose keys are new."""
        for row in rows:
            if not self._run(_LOADS[part], row).rowcount:
                continue
            if part is Part.JOBS:
                record = JobRecord(*row)
                self.count(Counter([(record.queue, record.type, record.state)]))
                self.effects.ready |= record.state in (State.READY, State.SCHEDULED)
            elif part is Part.RECORDS:
                self.bump(f"records:{row[0]}", 1)

    # Workers

    def see_boot(self, boot: str) -> None:
        """After a power cut the last tokens given out may not be known: go on far beyond them."""
        seen = self.pairs("SELECT key, value FROM durably_meta WHERE key = 'boot'")
        if seen.get("boot") != boot:
            self._run("INSERT OR REPLACE INTO durably_meta VALUES ('boot', ?)", (boot,))
            self.bump("token", _TOKENS_BEYOND)

    def register(self, name: str, info: str, lease_us: int, expires_us: int, boot: str) -> int:
        """A new registration's number."""
        row = self._run(
            "INSERT INTO durably_workers (name, info, lease_us, expires_us, boot, wake_port)"
            " VALUES (?, ?, ?, ?, ?, 0) RETURNING id",
            (name, info, lease_us, expires_us, boot),
        ).fetchone()
        return int(row[0])

    def set_worker(self, worker: int, column: str, value: Any) -> bool:
        """Change one column of a registration; whether it still exists."""
        changed = self._run(
            f"UPDATE durably_workers SET {column} = ? WHERE id = ?", (value, worker)
        ).rowcount
        return changed > 0

    def renew(self, worker: int, expires_us: int, memory_bytes: int | None) -> bool:
        """Extend a lease; whether the registration still exists."""
        changed = self._run(
            "UPDATE durably_workers SET expires_us = ?, memory = ? WHERE id = ?",
            (expires_us, memory_bytes, worker),
        ).rowcount
        return changed > 0

    def worker_rows(self) -> list[WorkerRow]:
        """Every registration."""
        return [WorkerRow(*row) for row in self._run(_WORKERS).fetchall()]

    def worker_row(self, worker: int) -> WorkerRow | None:
        """One registration."""
        row = self._run(f"{_WORKERS} WHERE id = ?", (worker,)).fetchone()
        return None if row is None else WorkerRow(*row)

    def delete_worker(self, worker: int) -> None:
        """End a registration."""
        self._run("DELETE FROM durably_workers WHERE id = ?", (worker,))

    def wake_ports(self) -> set[int]:
        """Where the workers of all processes listen for nudges."""
        return {row[0] for row in self._run("SELECT wake_port FROM durably_workers").fetchall()}

    # Attempts and figures

    def set_progress(self, seq: int, progress: str) -> None:
        """How far a running job is."""
        self._run(f"UPDATE {_TABLE} SET progress = ? WHERE seq = ?", (progress, seq))

    def save_step(self, seq: int, name: str, result: str) -> None:
        """A step's result; the first one stays when it is reported twice."""
        self._run("INSERT OR IGNORE INTO durably_steps VALUES (?, ?, ?)", (seq, name, result))

    def save_activity(self, worker: int, activity: Activity) -> None:
        """Replace what the worker said of this window; forget windows that are too old."""
        data = _encode(activity).decode()
        self._run(
            "INSERT INTO durably_activity VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET data = excluded.data",
            (worker, activity.window, data),
        )
        self._run("DELETE FROM durably_activity WHERE window < ?", (self._oldest_window(),))

    def _oldest_window(self) -> int:
        return (self.now // 1_000_000 - ACTIVITY_KEPT_S) // ACTIVITY_WINDOW_S

    def stats(self) -> StoreStats:
        """The maintained figures."""
        counts = self._run("SELECT queue, type, state, count FROM durably_counts WHERE count > 0")
        windows = self._run(
            "SELECT data FROM durably_activity WHERE window > ?", (self._oldest_window(),)
        )
        return StoreStats(
            counts=tuple(Counted(*row) for row in counts.fetchall()),
            activity=tuple(
                msgspec.json.decode(row[0], type=Activity) for row in windows.fetchall()
            ),
            late_outcomes=self.number("late_outcomes"),
        )

    def oldest_ready(self) -> tuple[Oldest, ...]:
        """See `Store.oldest_ready`."""
        ready = self._run(
            "SELECT queue, type FROM durably_counts WHERE state = 1 AND count > 0 ORDER BY 1, 2"
        )
        lanes = tuple(Lane(queue, kind, 1) for queue, kind in ready.fetchall())
        return oldest_of(lanes, self.heads(Claim(lanes=lanes, start=1), paused=()))

    def pause(self, queue: str, *, paused: bool) -> None:
        """Pause or resume a queue."""
        if paused:
            self._run("INSERT OR IGNORE INTO durably_paused VALUES (?)", (queue,))
        else:
            self._run("DELETE FROM durably_paused WHERE queue = ?", (queue,))
        self.effects.control = self.effects.ready = True

    def paused(self) -> frozenset[str]:
        """The paused queues."""
        return frozenset(row[0] for row in self._run("SELECT queue FROM durably_paused").fetchall())

    def has_older(self, before: int) -> bool:
        """Whether a job became final before *before*."""
        row = self._run(
            f"SELECT 1 FROM {_TABLE} INDEXED BY durably_final"
            " WHERE shelf > 3 AND completed_at < ? LIMIT 1",
            (before,),
        ).fetchone()
        return row is not None

    def number(self, name: str) -> int:
        """A maintained number; 0 when it was never bumped."""
        row = self._run("SELECT value FROM durably_numbers WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else int(row[0])

    def pairs(self, query: str, *arguments: Any) -> dict[str, str]:
        """The rows of a query of ours as a dictionary."""
        return dict(self._run(query, arguments).fetchall())

    def records(self, kind: str, where: str, *arguments: Any) -> list[Record]:
        """Records of a kind."""
        rows = self._run(
            f"SELECT id, version, value FROM durably_records WHERE kind = ? {where}",
            (kind, *arguments),
        ).fetchall()
        return [
            Record(kind=kind, id=row[0], version=row[1], value=msgspec.json.decode(row[2]))
            for row in rows
        ]

    def events(
        self, after: int, subject: str | None, limit: int, *, newest_first: bool
    ) -> list[Event]:
        """Events beyond an id."""
        direction, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        about, arguments = ("", ()) if subject is None else ("AND subject = ?", (subject,))
        rows = self._run(
            "SELECT id, at_us, topic, subject, data FROM durably_events"
            f" WHERE id {beyond} ? {about} ORDER BY id {direction} LIMIT ?",
            (after, *arguments, limit),
        ).fetchall()
        return [
            Event(
                id=row[0],
                at_us=row[1],
                topic=row[2],
                subject=row[3],
                data=msgspec.json.decode(row[4]),
            )
            for row in rows
        ]

    def old_events(self, subject: str, before: int) -> list[int]:
        """Ids of a batch of the events about *subject* from before a moment.

        They are in the order of their ids: the first that is younger ends the search.
        """
        oldest = self._run(
            "SELECT id, at_us FROM durably_events WHERE subject = ? ORDER BY id LIMIT ?",
            (subject, BATCH),
        ).fetchall()
        return [row[0] for row in takewhile(lambda row: row[1] < before, oldest)]

    def delete_events(self, ids: Sequence[int]) -> None:
        """Remove events."""
        self._run(
            "DELETE FROM durably_events WHERE id IN (SELECT value FROM json_each(?))",
            (_encode(ids).decode(),),
        )

    def find(
        self,
        states: Sequence[State],
        kind: str | None,
        queue: str | None,
        limit: int,
        after: str | None,
    ) -> list[JobRecord]:
        """Jobs in any of *states*, by priority, then age, beyond the job *after*."""
        place = self.known(after) if after is not None else None
        beyond = None if place is None else (place.priority, place.seq)
        query, arguments = listing(_ROW, states, kind=kind, queue=queue, limit=limit, beyond=beyond)
        return self.decode(query, arguments)

    def search(self, where: Search, limit: int, after: int | None, scan: int) -> Found:
        """A page of jobs that match."""
        look = Look(where, after=after, scan=scan)
        if not self._some(look):
            return Found([])
        records = self.decode(*look.matches(_ROW, limit + 1))
        jobs = [record.to_job() for record in records[:limit]]
        return Found(jobs, *self._end(look, [record.seq for record in records], limit))

    def match_ids(self, where: Search, limit: int, after: int | None, scan: int) -> FoundIds:
        """A page of their ids."""
        look = Look(where, after=after, scan=scan)
        if not self._some(look):
            return FoundIds([])
        query, arguments = look.matches("json_array(seq, id)", limit + 1)
        (text,) = self._run(
            f"SELECT json_group_array(json(row)) FROM ({query})", arguments
        ).fetchone()
        rows = msgspec.json.decode(text, type=list[tuple[int, str]])
        end = self._end(look, [seq for seq, _ in rows], limit)
        return FoundIds([job_id for _, job_id in rows[:limit]], *end)

    def _some(self, look: Look) -> bool:
        """Whether the maintained counts know of jobs that could match."""
        return self._run(*look.counted()).fetchone() is not None

    def _end(self, look: Look, seqs: Sequence[int], limit: int) -> tuple[int | None, int]:
        """Where the next page begins, and how many jobs were looked at, given the matches' places."""
        full = len(seqs) > limit
        scanned, last = self._run(*look.looked_at(seqs[limit - 1] if full else 0)).fetchone()
        return last if full or scanned == look.scan else None, scanned

    def children(self, job_id: str, limit: int) -> list[JobRecord]:
        """The jobs that attempts of a job have added."""
        return self.decode(
            f"SELECT {_ROW} AS row FROM {_TABLE} INDEXED BY durably_children"
            " WHERE parent = ? ORDER BY seq LIMIT ?",
            (job_id, limit),
        )

    # Loading and saving

    def load(self, where: str, *arguments: Any) -> list[JobRecord]:
        """The jobs that match a condition of ours."""
        return self.decode(f"SELECT {_ROW} AS row FROM {_TABLE} WHERE {where}", arguments)

    def load_all(self, seqs: Sequence[int]) -> list[JobRecord]:
        """The jobs with these numbers."""
        return list(_decoded(self._rows(seqs)))

    def _rows(self, seqs: Sequence[int]) -> _Rows:
        items = _encode(seqs).decode()
        try:
            (text,) = self._run(_LOAD + _BY_SEQ, (items,)).fetchone()
        except sqlite3.DataError:
            return self.load(_BY_SEQ, items)
        return str(text)

    def decode(self, query: str, arguments: Sequence[Any] | Mapping[str, Any]) -> list[JobRecord]:
        """The jobs of a query whose column `row` is their JSON, in its order."""
        grouped = f"SELECT json_group_array(json(row)) FROM ({query})"
        try:
            (text,) = self._run(grouped, arguments).fetchone()
        except sqlite3.DataError:
            # Together they are over SQLite's limit for one text, alone they are not.
            return [_record.decode(row) for (row,) in self._run(query, arguments)]
        return _records.decode(text)

    def _transition(
        self, records: Iterable[JobRecord], transition: Callable[..., None], *arguments: Any
    ) -> None:
        changed = []
        for record in records:
            changed.append((record, record.state))
            transition(record, *arguments)
        self._save(changed)

    def _save(self, changed: Sequence[tuple[JobRecord, int]]) -> None:
        """Write records back, given the states they had."""
        if not changed:
            return
        for part in _portions([record for record, _ in changed]):
            self._run(_save(len(part)), _flat(map(_saved_values, part)))
        for record, _ in changed:
            if transitions.is_final(record):
                self.effects.finished.append(record.id)
            elif record.state in (State.READY, State.SCHEDULED):
                self.effects.ready = True
        self.count(
            Counter((record.queue, record.type, record.state) for record, _ in changed),
            Counter((record.queue, record.type, before) for record, before in changed),
        )


def is_storable(text: str) -> bool:
    """Whether SQLite takes *text*: lone surrogates have no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_plain(outcome: Outcome) -> bool:
    return outcome.kind is _COMPLETED and (outcome.changes is NO_CHANGES or not outcome.changes)


def _completions(outcomes: Sequence[Outcome]) -> str:
    """What `_REPORTED` reads."""
    return _encode(
        [(o.lease.ref, o.lease.token, int(o.run_s * 1e6), o.result) for o in outcomes]
    ).decode()


def _decoded(rows: _Rows) -> Sequence[JobRecord]:
    return _records.decode(rows) if isinstance(rows, str) else rows


def _return(record: JobRecord, now: int) -> None:
    assert record.token is not None
    transitions.record_outcome(record, Outcome(_lease(record), OutcomeKind.RETURNED), now)
    record.token = None


def _lease(record: JobRecord) -> Lease:
    assert record.token is not None
    return Lease(record.id, record.token, record.seq, record.type, record.queue)


_LANES_IN_ONE_STATEMENT = 50
"""Eight heads each; SQLite joins at most 500 SELECTs into one."""


@lru_cache(maxsize=2 * _LANES_IN_ONE_STATEMENT)
def _heads(lanes: int, *, suspects: bool) -> str:
    """The statement that reads the heads of so many lanes: number, queue, type, limit for each."""
    parts = []
    for lane in range(lanes):
        number, queue, kind, limit = (f"?{4 * lane + i}" for i in range(1, 5))
        for suspect in (0, 1) if suspects else (0,):
            parts += [
                f"SELECT * FROM (SELECT {number} AS lane, {suspect} AS suspect, priority, ready_at,"
                f" seq FROM {_TABLE} INDEXED BY durably_ready"
                f" WHERE queue = {queue} AND type = {kind} AND (crashes > 0) = {suspect}"
                f" AND priority = {priority} AND state = 1 ORDER BY ready_at, seq"
                f" LIMIT {1 if suspect else limit})"
                for priority in sorted(JobPriority, reverse=True)
            ]
    union = " UNION ALL ".join(parts)
    return f"SELECT json_group_array(json_array(lane, suspect, priority, ready_at, seq)) FROM ({union})"


@lru_cache
def _insert(rows: int) -> str:
    """The statement that stores so many new jobs."""
    return f"INSERT INTO {_TABLE} ({', '.join(_NEW)}) VALUES {_places(rows, len(_NEW))}"


@lru_cache
def _save(rows: int) -> str:
    """The statement that writes so many jobs back; SQLite calls a column of VALUES column1."""
    places = {name: f"column{number}" for number, name in enumerate(_SAVED, start=2)}
    values = ", ".join(f"{name} = {place}" for name, place in places.items())
    return (
        f"UPDATE {_TABLE} SET {values}, shelf = max({places['state']}, 3)"
        f" FROM (VALUES {_places(rows, len(_SAVED) + 1)}) WHERE seq = column1"
    )


@lru_cache
def _count(rows: int) -> str:
    """The statement that adds to so many maintained counts."""
    return (
        f"INSERT INTO durably_counts VALUES {_places(rows, 4)}"
        " ON CONFLICT DO UPDATE SET count = count + excluded.count"
    )


def _all_in(state: State, counts: _Counts) -> _Counts:
    """So many jobs of each queue and type, all in one state."""
    total: _Counts = Counter()
    for (queue, kind, _), count in counts.items():
        total[queue, kind, int(state)] += count
    return total


def _places(rows: int, columns: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)


def _portions(items: Sequence[_T]) -> Iterable[Sequence[_T]]:
    start, size = 0, _ROWS_MOST
    while start < len(items):
        while size > len(items) - start:
            size //= 2
        yield items[start : start + size]
        start += size


def _flat(rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    return list(chain.from_iterable(rows))


_REPORTS_BYTES = 8_000_000
"""SQLite has a limit for one text."""


def _chunks(items: Sequence[_T], size: int) -> Iterable[Sequence[_T]]:
    return (items[i : i + size] for i in range(0, len(items), size))
