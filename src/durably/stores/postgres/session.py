"""The store's operations as statements inside one open transaction.

What becomes of a job is decided in `durably.domain.transitions`; the hot paths (enqueue, claim, plain
completion) say it again in SQL, and the conformance suite holds them to it. Rows are locked in the
order of their numbers, so that no two transactions wait for each other.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from durably.domain import transitions
from durably.domain.claiming import Candidate, Claim, candidate, choose
from durably.domain.errors import (
    JobNotFoundError,
    LeaseLostError,
    UniqueKeyTakenError,
    VersionConflictError,
)
from durably.domain.job import FIELDS, Draft, Job, JobRecord, State
from durably.domain.outcome import Changes, Event, Lease, Outcome, OutcomeKind, Put, Record
from durably.store import (
    ACTIVITY_KEPT_S,
    ACTIVITY_WINDOW_S,
    Activity,
    Claimed,
    Counted,
    Refusal,
    StoreStats,
)
from durably.stores.postgres.database import Connection, rows_of

BATCH = 500
STAGED_MOST = 20_000
"""Due jobs made ready in one transaction."""
_INSERTED = tuple(name for name in FIELDS if name != "seq")
_SAVED = (
    *("state", "ready_at", "max_attempts", "payload", "run_at", "attempts", "crashes"),
    *("processed_at", "completed_at", "next_retry_at", "error", "errors", "result", "progress"),
    *("token", "worker", "worker_name", "cancel_requested"),
)
_TYPES = {
    **dict.fromkeys(("priority", "state", "max_attempts", "granted", "attempts"), "int"),
    **dict.fromkeys(("crashes", "worker", "cancel_requested"), "int"),
    **dict.fromkeys(("seq", "ready_at", "created_at", "run_at", "processed_at"), "bigint"),
    **dict.fromkeys(("completed_at", "next_retry_at", "token"), "bigint"),
}
_COLUMNS = ", ".join(FIELDS)


def _unnest(names: Sequence[str]) -> str:
    arrays = ", ".join(
        f"${number}::{_TYPES.get(name, 'text')}[]" for number, name in enumerate(names, 1)
    )
    return f"unnest({arrays}) AS given({', '.join(names)})"


def _columns(records: Sequence[JobRecord], names: Sequence[str]) -> list[list[Any]]:
    return [[getattr(record, name) for record in records] for name in names]


class WorkerRow(NamedTuple):
    """A registration, how many jobs it holds, and whether its lock is held."""

    id: int
    name: str
    info: str
    expires_us: int
    held: int
    locked: bool


class Outlook(NamedTuple):
    """What a worker must know before it claims."""

    name: str | None
    """With its number; None once the registration has ended."""
    expires_us: int
    lease_us: int
    due_in: float | None
    """Seconds until the next scheduled job becomes ready; None: none is scheduled."""
    paused: frozenset[str]
    cancelling: tuple[str, ...]
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


class Session:
    """The operations on one connection inside one transaction that began at `now`.

    Args:
        connection: in a transaction.
        schema: of the tables.
        now: microseconds, of the store's clock.
        effects: gathers what to tell.
        shard: which rows of the figures this process adds to.
        lock_class: first key of the advisory locks.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        schema: str,
        now: int,
        effects: Effects,
        shard: int,
        lock_class: int,
    ) -> None:
        self._connection = connection
        self._s = schema
        self.now = now
        self.effects = effects
        self._shard = shard
        self._lock_class = lock_class
        self._moves = Counter[tuple[str, str, int]]()
        self._bumps = Counter[str]()

    async def _fetch(self, sql: str, *args: Any) -> list[Any]:
        return await self._connection.fetch(sql.replace("@", f"{self._s}."), *args)  # type: ignore[no-any-return]

    async def _value(self, sql: str, *args: Any) -> Any:
        return await self._connection.fetchval(sql.replace("@", f"{self._s}."), *args)

    async def _run(self, sql: str, *args: Any) -> int:
        return rows_of(await self._connection.execute(sql.replace("@", f"{self._s}."), *args))

    async def finish(self) -> None:
        """Write the figures, as late as possible: their rows stay locked until the commit."""
        moves = sorted((key, by) for key, by in self._moves.items() if by)
        if moves:
            keys = [key for key, _ in moves]
            await self._run(
                "INSERT INTO @counts SELECT q, t, s, $4, c"
                " FROM unnest($1::text[], $2::text[], $3::int[], $5::bigint[]) AS g(q, t, s, c)"
                " ON CONFLICT (queue, type, state, shard)"
                " DO UPDATE SET count = counts.count + excluded.count",
                *([key[i] for key in keys] for i in range(3)),
                self._shard,
                [by for _, by in moves],
            )
            self._moves.clear()
        bumps = sorted((name, by) for name, by in self._bumps.items() if by)
        if bumps:
            await self._run(
                "INSERT INTO @numbers SELECT n, $2, v FROM unnest($1::text[], $3::bigint[]) AS g(n, v)"
                " ON CONFLICT (name, shard) DO UPDATE SET value = numbers.value + excluded.value",
                [name for name, _ in bumps],
                self._shard,
                [by for _, by in bumps],
            )
            self._bumps.clear()

    # Enqueue

    async def insert(self, drafts: Sequence[Draft]) -> list[Job]:
        """Store new jobs; a held unique key yields its job instead."""
        if any(draft.unique_key is not None for draft in drafts):
            return [await self._insert_unique(draft) for draft in drafts]
        return [record.to_job() for record in await self._insert_all(drafts)]

    async def _insert_all(self, drafts: Sequence[Draft], on_conflict: str = "") -> list[JobRecord]:
        if not drafts:
            return []
        records = [transitions.create(draft, 0, self.now) for draft in drafts]
        inserted = await self._fetch(
            f"INSERT INTO @jobs ({', '.join(_INSERTED)})"
            f" SELECT {', '.join(_INSERTED)} FROM {_unnest(_INSERTED)} {on_conflict} RETURNING id",
            *_columns(records, _INSERTED),
        )
        if len(inserted) < len(records):
            return []
        for record in records:
            self._moves[record.queue, record.type, record.state] += 1
        self.effects.ready = True
        return records

    async def _insert_unique(self, draft: Draft) -> Job:
        if draft.unique_key is None:
            return (await self._insert_all([draft]))[0].to_job()
        conflict = (
            "ON CONFLICT (type, unique_key) WHERE unique_key IS NOT NULL AND state < 4 DO NOTHING"
        )
        while True:
            holder = await self.load(
                "type = $1 AND unique_key = $2 AND state < 4", draft.type, draft.unique_key
            )
            if holder:
                return holder[0].to_job()
            # Between the two somebody may take the key, and also give it back.
            if inserted := await self._insert_all([draft], conflict):
                return inserted[0].to_job()

    # Outcomes

    async def record(self, outcomes: Sequence[Outcome]) -> dict[int, Refusal]:
        """Record the end of attempts; which were refused, by position."""
        refused: dict[int, Refusal] = {}
        for changing, group in groupby(enumerate(outcomes), lambda item: bool(item[1].changes)):
            left = list(group)
            if not changing:
                left = await self._without_completed(left)
            # One by one: what one of them changes, the next must see.
            for item in left:
                await self._record_one(*item, refused)
        return refused

    async def _without_completed(
        self, outcomes: list[tuple[int, Outcome]]
    ) -> list[tuple[int, Outcome]]:
        """Complete what can be at once; what is left."""
        plain = [outcome for _, outcome in outcomes if _is_plain(outcome)]
        # Of two reports on one job the first decides, so that only single ones can go ahead.
        single = len({outcome.lease.ref for _, outcome in outcomes}) == len(outcomes)
        if not plain or not single:
            return outcomes
        done = await self._complete(plain)
        return [(i, o) for i, o in outcomes if not (_is_plain(o) and o.lease.ref in done)]

    async def _complete(self, outcomes: Sequence[Outcome]) -> set[int]:
        """Complete those whose lease is valid, all in one statement; which."""
        outcomes = sorted(outcomes, key=lambda outcome: outcome.lease.ref)
        rows = await self._fetch(
            # Each row by its number, in their order: a join would be free to scan the table instead.
            "WITH owned AS MATERIALIZED (SELECT seq, before, run_us, report"
            " FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::text[])"
            " AS g(ref, claim, run_us, report) CROSS JOIN LATERAL (SELECT seq, state AS before"
            " FROM @jobs WHERE seq = ref AND token = claim AND state IN (2, 3) FOR UPDATE) AS own)"
            " UPDATE @jobs SET state = 4, completed_at = $1, error = NULL, next_retry_at = NULL,"
            " attempts = attempts + (before = 2)::int,"
            " processed_at = CASE before WHEN 2 THEN $1 - run_us ELSE processed_at END,"
            " result = report FROM owned WHERE jobs.seq = owned.seq"
            " RETURNING jobs.seq, jobs.id, queue, type, before",
            self.now,
            [o.lease.ref for o in outcomes],
            [o.lease.token for o in outcomes],
            [int(o.run_s * 1e6) for o in outcomes],
            [o.result for o in outcomes],
        )
        for _, job_id, queue, kind, before in rows:
            self._moves[queue, kind, before] -= 1
            self._moves[queue, kind, State.COMPLETED] += 1
            self.effects.finished.append(job_id)
        return {row[0] for row in rows}

    async def _record_one(
        self, position: int, outcome: Outcome, refused: dict[int, Refusal]
    ) -> None:
        found = await self.load_all([outcome.lease.ref])
        record = found[0] if found else None
        if transitions.already_recorded(record, outcome.lease.token):
            return
        if not transitions.owns(record, outcome.lease.token):
            refused[position] = Refusal.LEASE_LOST
            self._bumps["late_outcomes"] += outcome.kind is not OutcomeKind.RETURNED
            return
        try:
            await self.check_versions(outcome.changes)
        except VersionConflictError:
            refused[position] = Refusal.CONFLICT
            return
        await self._transition([record], transitions.record_outcome, outcome, self.now)
        await self.apply(outcome.changes)

    async def begin(self, leases: Sequence[Lease]) -> None:
        """Handlers of reserved jobs have started."""
        known = {(lease.ref, lease.token) for lease in leases}
        records = await self.load_all([lease.ref for lease in leases])
        started = [
            record
            for record in records
            if record.state == State.RESERVED and (record.seq, record.token) in known
        ]
        await self._transition(started, transitions.begin, self.now)

    async def owned(self, lease: Lease) -> JobRecord:
        """The job of a valid lease, locked; or LeaseLostError."""
        found = await self.load_all([lease.ref])
        record = found[0] if found else None
        if not transitions.owns(record, lease.token):
            raise LeaseLostError(f"the lease of job {lease.job_id} is lost; nothing was written")
        return record

    async def return_unknown(self, worker: int, held: Sequence[Lease]) -> None:
        """Give back what the store holds for *worker* beyond *held*."""
        known = {(lease.ref, lease.token) for lease in held}
        records = await self.load("worker = $1 AND state IN (2, 3) ORDER BY seq FOR UPDATE", worker)
        unknown = [record for record in records if (record.seq, record.token) not in known]
        await self._transition(unknown, _return, self.now)

    # Claim

    async def outlook(self, worker: int) -> Outlook:
        """What a worker must know before it claims, in one round trip."""
        [row] = await self._fetch(
            "SELECT name, expires_us, lease_us,"
            " (SELECT ready_at FROM @jobs WHERE state = 0 ORDER BY ready_at, seq LIMIT 1),"
            " ARRAY(SELECT queue FROM @paused), ARRAY(SELECT id FROM @jobs WHERE worker = $1"
            " AND state IN (2, 3) AND cancel_requested = 1)"
            " FROM (SELECT $1::int AS asked) AS one LEFT JOIN @workers ON workers.id = asked",
            worker,
        )
        name, expires_us, lease_us, due_us, paused, cancelling = row
        return Outlook(
            name=None if name is None else f"{name}:{worker}",
            expires_us=expires_us,
            lease_us=lease_us,
            due_in=None if due_us is None else max(0.0, (due_us - self.now) / 1e6),
            paused=frozenset(paused),
            cancelling=tuple(cancelling),
        )

    async def heads(self, claim: Claim, paused: frozenset[str], *, lock: bool) -> list[Candidate]:
        """The candidates of every lane this worker can run, in order."""
        most = claim.start + claim.reserve
        lanes = [
            (number, lane)
            for number, lane in enumerate(claim.lanes)
            if lane.limit > 0 and lane.queue not in paused
        ]
        if not lanes or most < 1:
            return []
        rows = await self._fetch(
            "SELECT lane, suspect, priority, ready_at, seq"
            " FROM unnest($1::int[], $2::text[], $3::text[], $4::int[]) AS l(lane, q, t, most)"
            " CROSS JOIN unnest($5::bool[]) AS s(suspect)"
            " CROSS JOIN (VALUES (4), (3), (2), (1)) AS p(level)"
            " CROSS JOIN LATERAL (SELECT priority, ready_at, seq FROM @jobs"
            " WHERE queue = q AND type = t AND (crashes > 0) = suspect AND priority = level"
            " AND state = 1 ORDER BY ready_at, seq"
            " LIMIT CASE WHEN suspect THEN 1 ELSE most END"
            f" {'FOR UPDATE SKIP LOCKED' if lock else ''}) AS j",
            [number for number, _ in lanes],
            [lane.queue for _, lane in lanes],
            [lane.type for _, lane in lanes],
            [min(lane.limit, most) for _, lane in lanes],
            [False, True] if claim.suspects else [False],
        )
        return sorted(
            candidate(priority, ready, seq, lane, suspect=suspect, aging_s=claim.aging_s)
            for lane, suspect, priority, ready, seq in rows
        )

    async def claim(
        self, heads: list[Candidate], claim: Claim, worker: int, name: str
    ) -> tuple[Claimed, ...]:
        """Lease the jobs chosen from *heads*."""
        chosen = list(choose(heads, claim))
        if not chosen:
            return ()
        rows = await self._fetch(
            "UPDATE @jobs SET state = 2 + starts, token = nextval('@tokens'), worker = $2,"
            " worker_name = $3, attempts = attempts + starts,"
            " processed_at = CASE starts WHEN 1 THEN $1 ELSE processed_at END,"
            " next_retry_at = CASE starts WHEN 1 THEN NULL ELSE next_retry_at END"
            " FROM unnest($4::bigint[], $5::int[]) AS given(ref, starts) WHERE seq = ref"
            f" RETURNING {_COLUMNS}",
            self.now,
            worker,
            name,
            [seq for seq, _ in chosen],
            [int(starts) for _, starts in chosen],
        )
        records = {record.seq: record for record in (JobRecord(*row) for row in rows)}
        for record in records.values():
            self._moves[record.queue, record.type, State.READY] -= 1
            self._moves[record.queue, record.type, record.state] += 1
        return tuple(Claimed(_lease(records[seq]), records[seq]) for seq, _ in chosen)

    async def due_in(self) -> float | None:
        """Seconds until the next scheduled job becomes ready; None: none is scheduled."""
        first = await self._value(
            "SELECT ready_at FROM @jobs WHERE state = 0 ORDER BY ready_at, seq LIMIT 1"
        )
        return None if first is None else max(0.0, (first - self.now) / 1e6)

    async def stage(self) -> float | None:
        """Make a batch of due jobs ready; `due_in` of what is left."""
        rows = await self._fetch(
            "WITH due AS MATERIALIZED (SELECT seq FROM @jobs WHERE state = 0 AND ready_at <= $1"
            " ORDER BY ready_at, seq LIMIT $2 FOR UPDATE SKIP LOCKED),"
            " staged AS (UPDATE @jobs SET state = 1 FROM due WHERE jobs.seq = due.seq"
            " RETURNING queue, type)"
            " SELECT queue, type, count(*) FROM staged GROUP BY 1, 2",
            self.now,
            STAGED_MOST,
        )
        for queue, kind, count in rows:
            self._moves[queue, kind, State.SCHEDULED] -= count
            self._moves[queue, kind, State.READY] += count
        self.effects.ready |= bool(rows)
        return await self.due_in() if rows else None

    # Control

    async def known(self, job_id: str) -> JobRecord:
        """A job by id, locked; or JobNotFoundError."""
        found = await self.load("id = $1 FOR UPDATE", job_id) if is_storable(job_id) else []
        if not found:
            raise JobNotFoundError(job_id)
        return found[0]

    async def cancel(self, job_id: str) -> Job:
        """Cancel or ask to."""
        record = await self.known(job_id)
        await self._transition([record], transitions.request_cancel, self.now)
        self.effects.control = True
        return record.to_job()

    async def redrive(self, job_id: str, payload: str | None) -> Job:
        """Run a final job again."""
        record = await self.known(job_id)
        if record.unique_key is not None and transitions.is_final(record):
            holder = await self.load(
                "type = $1 AND unique_key = $2 AND state < 4", record.type, record.unique_key
            )
            if holder:
                raise UniqueKeyTakenError(
                    f"unique key {record.unique_key!r} is held by job {holder[0].id}"
                )
        await self._transition([record], transitions.redrive, payload, self.now)
        if payload is not None:
            await self._run("DELETE FROM @steps WHERE job = $1", record.seq)
        return record.to_job()

    async def crash(self, worker: int, name: str) -> Counter[int]:
        """A batch of a dead worker's jobs; how many went into which state."""
        records = await self.load(
            "worker = $1 AND state IN (2, 3) ORDER BY seq LIMIT $2 FOR UPDATE", worker, BATCH
        )
        await self._transition(records, transitions.crash, name, self.now)
        return Counter(record.state for record in records)

    async def cleanup(self, before: int) -> int:
        """Remove a batch of jobs that became final before *before*."""
        rows = await self._fetch(
            "DELETE FROM @jobs WHERE seq IN (SELECT seq FROM @jobs WHERE state >= 4"
            " AND completed_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)"
            " RETURNING seq, queue, type, state",
            before,
            BATCH,
        )
        for _, queue, kind, state in rows:
            self._moves[queue, kind, state] -= 1
        await self._run("DELETE FROM @steps WHERE job = ANY($1::bigint[])", [r[0] for r in rows])
        return len(rows)

    async def pause(self, queue: str, *, paused: bool) -> None:
        """Pause or resume a queue."""
        if paused:
            await self._run("INSERT INTO @paused VALUES ($1) ON CONFLICT DO NOTHING", queue)
        else:
            await self._run("DELETE FROM @paused WHERE queue = $1", queue)
        self.effects.control = self.effects.ready = True

    async def paused(self) -> frozenset[str]:
        """The paused queues."""
        return frozenset(row[0] for row in await self._fetch("SELECT queue FROM @paused"))

    # Records, events, numbers

    async def check_versions(self, changes: Changes) -> None:
        """VersionConflictError unless every record has the version expected of it; locks them."""
        expected = sorted((i.kind, i.id) for i in changes.records if i.expect is not None)
        if not expected:
            return
        rows = await self._fetch(
            "SELECT kind, id, version FROM @records"
            " JOIN unnest($1::text[], $2::text[]) AS g(k, i) ON kind = k AND id = i"
            " ORDER BY kind, id FOR UPDATE OF records",
            [kind for kind, _ in expected],
            [id for _, id in expected],
        )
        versions = {(kind, id): version for kind, id, version in rows}
        for item in changes.records:
            version = versions.get((item.kind, item.id), 0)
            if item.expect not in (None, version):
                raise VersionConflictError(
                    f"{item.kind} {item.id} has version {version}, expected {item.expect}"
                )

    async def apply(self, changes: Changes) -> None:
        """Write what the versions were checked for."""
        for item in changes.records:
            if isinstance(item, Put):
                # Who expects none must fail when somebody was quicker: no update then.
                merge = (
                    ""
                    if item.expect == 0
                    else " ON CONFLICT (kind, id) DO UPDATE"
                    " SET version = records.version + 1, value = excluded.value"
                )
                version = await self._value(
                    f"INSERT INTO @records VALUES ($1, $2, 1, $3){merge} RETURNING version",
                    *(item.kind, item.id, item.value),
                )
                self._bumps[f"records:{item.kind}"] += version == 1
            else:
                gone = await self._run(
                    "DELETE FROM @records WHERE kind = $1 AND id = $2", item.kind, item.id
                )
                self._bumps[f"records:{item.kind}"] -= gone
        if changes.events:
            # One at a time until the commit, so that ids are seen in their order.
            await self._run("SELECT pg_advisory_xact_lock($1, -1)", self._lock_class)
            await self._run(
                "INSERT INTO @events (at_us, topic, subject, data) SELECT $1, t, s, d"
                " FROM unnest($2::text[], $3::text[], $4::text[]) AS g(t, s, d)",
                self.now,
                [event.topic for event in changes.events],
                [event.subject for event in changes.events],
                [event.data for event in changes.events],
            )
            self.effects.events = True
        if changes.jobs:
            await self.insert(changes.jobs)
        if changes.cancel:
            live = await self.load(
                "id = ANY($1::text[]) AND state < 4 ORDER BY seq FOR UPDATE",
                [id for id in changes.cancel if is_storable(id)],
            )
            await self._transition(live, transitions.request_cancel, self.now)
            self.effects.control = True

    async def number(self, name: str) -> int:
        """A maintained number; 0 when it was never bumped."""
        total = await self._value("SELECT sum(value) FROM @numbers WHERE name = $1", name)
        return int(total or 0)

    async def records(self, kind: str, where: str, *arguments: Any) -> list[Record]:
        """Records of a kind."""
        rows = await self._fetch(
            f"SELECT id, version, value FROM @records WHERE kind = $1 {where}", kind, *arguments
        )
        return [
            Record(kind=kind, id=row[0], version=row[1], value=msgspec.json.decode(row[2]))
            for row in rows
        ]

    async def events(
        self, after: int, subject: str | None, limit: int, *, newest_first: bool
    ) -> list[Event]:
        """Events beyond an id."""
        direction, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        about = "" if subject is None else "AND subject = $3"
        rows = await self._fetch(
            "SELECT id, at_us, topic, subject, data FROM @events"
            f" WHERE id {beyond} $1 {about} ORDER BY id {direction} LIMIT $2",
            *(after, limit),
            *(() if subject is None else (subject,)),
        )
        return [
            Event(id=r[0], at_us=r[1], topic=r[2], subject=r[3], data=msgspec.json.decode(r[4]))
            for r in rows
        ]

    async def prune_events(self, subject: str, before: int) -> int:
        """Remove a batch of the events about *subject* from before a moment; how many."""
        return await self._run(
            "DELETE FROM @events WHERE id IN (SELECT id FROM (SELECT id, at_us FROM @events"
            " WHERE subject = $1 ORDER BY id LIMIT $3) AS oldest WHERE at_us < $2)",
            *(subject, before, BATCH),
        )

    # Workers and figures

    async def set_worker(self, worker: int, column: str, value: Any) -> bool:
        """Change one column of a registration; whether it still exists."""
        return (
            await self._run(f"UPDATE @workers SET {column} = $2 WHERE id = $1", worker, value) > 0
        )

    async def worker_rows(self, worker: int | None = None) -> list[WorkerRow]:
        """Every registration, or one."""
        rows = await self._fetch(
            "SELECT id, name, info, expires_us, (SELECT count(*) FROM @jobs"
            " WHERE jobs.worker = workers.id AND state IN (2, 3)),"
            " EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND classid = $1::bigint::oid AND objid = workers.id::oid AND objsubid = 2"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
            " FROM @workers WHERE $2::int IS NULL OR id = $2 ORDER BY id",
            self._lock_class,
            worker,
        )
        return [WorkerRow(*row) for row in rows]

    async def delete_worker(self, worker: int) -> None:
        """End a registration."""
        await self._run("DELETE FROM @workers WHERE id = $1", worker)

    async def set_progress(self, seq: int, progress: str) -> None:
        """How far a running job is."""
        await self._run("UPDATE @jobs SET progress = $2 WHERE seq = $1", seq, progress)

    async def save_step(self, seq: int, name: str, result: str) -> None:
        """A step's result; the first one stays when it is reported twice."""
        await self._run(
            "INSERT INTO @steps VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", seq, name, result
        )

    async def save_activity(self, worker: int, activity: Activity) -> None:
        """Replace what the worker said of this window; forget windows that are too old."""
        await self._run(
            "INSERT INTO @activity VALUES ($1, $2, $3)"
            ' ON CONFLICT (worker, "window") DO UPDATE SET data = excluded.data',
            *(worker, activity.window, msgspec.json.encode(activity).decode()),
        )
        await self._run(
            'DELETE FROM @activity WHERE worker = $1 AND "window" < $2',
            worker,
            self._oldest_window(),
        )

    def _oldest_window(self) -> int:
        return (self.now // 1_000_000 - ACTIVITY_KEPT_S) // ACTIVITY_WINDOW_S

    async def stats(self) -> StoreStats:
        """The maintained figures."""
        counts = await self._fetch(
            "SELECT queue, type, state, sum(count)::bigint FROM @counts GROUP BY 1, 2, 3"
            " HAVING sum(count) > 0"
        )
        windows = await self._fetch(
            'SELECT data FROM @activity WHERE "window" > $1', self._oldest_window()
        )
        return StoreStats(
            counts=tuple(Counted(*row) for row in counts),
            activity=tuple(msgspec.json.decode(row[0], type=Activity) for row in windows),
            late_outcomes=await self.number("late_outcomes"),
        )

    async def find(
        self,
        states: Sequence[State],
        kind: str | None,
        queue: str | None,
        limit: int,
        after: str | None,
    ) -> list[JobRecord]:
        """Jobs in any of *states*, by priority, then age, beyond the job *after*.

        Each group of states that has an order of its own in the listing index is read by itself.
        """
        arguments: list[Any] = [limit]
        where = ["TRUE"]
        for column, value in (("type", kind), ("queue", queue)):
            if value is not None:
                arguments.append(value)
                where.append(f"{column} = ${len(arguments)}")
        if after is not None:
            place = await self.load("id = $1", after) if is_storable(after) else []
            if not place:
                raise JobNotFoundError(after)
            arguments += [place[0].priority, place[0].seq]
            level, seq = len(arguments) - 1, len(arguments)
            where.append(f"(priority < ${level} OR (priority = ${level} AND seq > ${seq}))")
        parts = []
        for key in sorted({max(state, State.RUNNING) for state in states}):
            within = ", ".join(str(int(s)) for s in states if max(s, State.RUNNING) == key)
            parts.append(
                f"(SELECT {_COLUMNS} FROM @jobs WHERE greatest(state, 3) = {int(key)}"
                f" AND state IN ({within}) AND {' AND '.join(where)}"
                " ORDER BY priority DESC, seq LIMIT $1)"
            )
        rows = await self._fetch(
            f"SELECT * FROM ({' UNION ALL '.join(parts)}) AS found"
            " ORDER BY priority DESC, seq LIMIT $1",
            *arguments,
        )
        return [JobRecord(*row) for row in rows]

    # Loading and saving

    async def load(self, where: str, *arguments: Any) -> list[JobRecord]:
        """The jobs that match a condition of ours."""
        rows = await self._fetch(f"SELECT {_COLUMNS} FROM @jobs WHERE {where}", *arguments)
        return [JobRecord(*row) for row in rows]

    async def load_all(self, seqs: Sequence[int]) -> list[JobRecord]:
        """The jobs with these numbers, locked."""
        return await self.load("seq = ANY($1::bigint[]) ORDER BY seq FOR UPDATE", seqs)

    async def _transition(
        self, records: Iterable[JobRecord], transition: Callable[..., None], *arguments: Any
    ) -> None:
        changed = []
        for record in records:
            changed.append((record, record.state))
            transition(record, *arguments)
        if not changed:
            return
        names = ("seq", *_SAVED)
        sets = ", ".join(f"{name} = given.{name}" for name in _SAVED)
        await self._run(
            f"UPDATE @jobs SET {sets} FROM {_unnest(names)} WHERE jobs.seq = given.seq",
            *_columns([record for record, _ in changed], names),
        )
        for record, before in changed:
            self._moves[record.queue, record.type, before] -= 1
            self._moves[record.queue, record.type, record.state] += 1
            if transitions.is_final(record):
                self.effects.finished.append(record.id)
            elif record.state in (State.READY, State.SCHEDULED):
                self.effects.ready = True


def is_storable(text: str) -> bool:
    """Whether PostgreSQL takes *text*: it has no NUL, and lone surrogates have no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _is_plain(outcome: Outcome) -> bool:
    return outcome.kind is OutcomeKind.COMPLETED and not outcome.changes


def _return(record: JobRecord, now: int) -> None:
    assert record.token is not None
    transitions.record_outcome(record, Outcome(_lease(record), OutcomeKind.RETURNED), now)
    record.token = None


def _lease(record: JobRecord) -> Lease:
    assert record.token is not None
    return Lease(record.id, record.token, record.seq, record.type, record.queue)
