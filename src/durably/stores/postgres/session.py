"""The store's operations as statements inside one open transaction.

What becomes of a job is decided in `durably.domain.transitions`; the hot paths (enqueue, claim, plain
completion) say it again in SQL, and the conformance suite holds them to it. Jobs are locked in the
order of their ids, but in several runs of a transaction: two that act on the same many jobs may wait for
each other. The server ends one of them after a second, and the store repeats it.

A live job is in the table `jobs`, a final one in `history`. A `Lease.ref` is the place of the row that
the claim wrote, so that the end of the attempt finds it without an index.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from durably.domain import transitions
from durably.domain.bulk import Acted, BulkAction, allowed
from durably.domain.claiming import Candidate, Claim, Lane, candidate
from durably.domain.errors import (
    JobNotFoundError,
    LeaseLostError,
    UniqueKeyTakenError,
    VersionConflictError,
)
from durably.domain.job import FIELDS, Draft, Job, JobPriority, JobRecord, State
from durably.domain.outcome import Changes, Event, Lease, Outcome, OutcomeKind, Put, Record
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
from durably.stores.postgres.database import SET_BY_INDEX, Connection, rows_of
from durably.stores.postgres.frontier import Frontier, Key
from durably.stores.postgres.searching import WAITING, Look

SHARDS = 64
"""Of the figures, for processes. A transaction of the caller's has one of its own, above them."""
BATCH = 500
HISTORY_SPAN_US = 6 * 3600 * 1_000_000
"""What one partition of the history covers."""
STAGED_MOST = 20_000
"""Due jobs made ready in one transaction."""
_INSERTED = (
    *("id", "type", "queue", "priority", "state", "ready_at", "created_at", "max_attempts"),
    *("granted", "payload", "tags", "unique_key", "run_at", "parent"),
)
"""What a new job has; the rest are the columns' defaults."""
_SAVED = (
    *("state", "ready_at", "max_attempts", "payload", "run_at", "attempts", "crashes"),
    *("processed_at", "completed_at", "next_retry_at", "error", "errors", "result", "progress"),
    *("token", "worker", "worker_name", "cancel_requested"),
)
_UNCHANGED_BY_END = ", ".join(
    name
    for name in FIELDS
    if name
    not in {"state", "attempts", "processed_at", "completed_at", "next_retry_at", "error", "result"}
)
_KEPT = tuple(name for name in FIELDS if name not in _SAVED)
_TYPES = {
    **dict.fromkeys(("priority", "state", "max_attempts", "granted", "attempts"), "int"),
    **dict.fromkeys(("crashes", "worker", "cancel_requested"), "int"),
    **dict.fromkeys(("seq", "ready_at", "created_at", "run_at", "processed_at"), "bigint"),
    **dict.fromkeys(("completed_at", "next_retry_at", "token"), "bigint"),
}
_COLUMNS = ", ".join(FIELDS)
_WAITING = (State.SCHEDULED, State.READY)
_TABLES = {False: "jobs", True: "history"}
Place = tuple[int, int]
"""Block and line of a row: its ctid."""
_RESUMED = "WHERE q <> ALL (ARRAY(SELECT queue FROM @paused))"
_LIVING = (
    # A rescuer locks the registration before it looks for jobs: who comes second sees what it did.
    "living AS MATERIALIZED (SELECT FROM @workers WHERE id = $2 FOR KEY SHARE)"
)
_LOCKED = "SELECT place, starts FROM given WHERE EXISTS (SELECT FROM living)"
_FREE = (
    # By its number too: another job may have come into the place.
    "SELECT jobs.ctid AS place, starts FROM given JOIN @jobs ON jobs.ctid = given.place"
    " WHERE seq = number AND state = 1 AND queue <> ALL (ARRAY(SELECT queue FROM @paused))"
    " AND EXISTS (SELECT FROM living) FOR UPDATE OF jobs SKIP LOCKED"
)
_INSERTS = "SELECT queue, type, state, 1 AS change FROM new"
_STAGINGS = (
    "SELECT queue, type, v.state, change FROM staged,"
    " LATERAL (VALUES (0, -1), (1, 1)) AS v(state, change)"
)
_CLAIMS = (
    # Reads `renewed` so that the rows of figures are locked after the worker's, as everywhere.
    "SELECT queue, type, v.state, change FROM leased, (SELECT count(*) FROM renewed) AS first,"
    " LATERAL (VALUES (1, -1), (leased.state, 1)) AS v(state, change)"
)


def _unnest(names: Sequence[str]) -> str:
    arrays = ", ".join(
        f"${number}::{_TYPES.get(name, 'text')}[]" for number, name in enumerate(names, 1)
    )
    return f"unnest({arrays}) AS given({', '.join(names)})"


def _columns(records: Sequence[JobRecord], names: Sequence[str]) -> list[list[Any]]:
    return [[getattr(record, name) for record in records] for name in names]


_DUMPS: dict[Part, tuple[str, Row]] = {
    Part.JOBS: (
        (
            f"SELECT {_COLUMNS} FROM (SELECT {_COLUMNS} FROM @jobs UNION ALL"
            f" SELECT {_COLUMNS} FROM @history) AS every WHERE id > $1 ORDER BY id LIMIT $2"
        ),
        ("",),
    ),
    Part.STEPS: (
        (
            "SELECT job, name, result FROM @steps WHERE (job, name) > ($1, $2)"
            " ORDER BY job, name LIMIT $3"
        ),
        ("", ""),
    ),
    Part.RECORDS: (
        (
            "SELECT kind, id, version, value FROM @records WHERE (kind, id) > ($1, $2)"
            " ORDER BY kind, id LIMIT $3"
        ),
        ("", ""),
    ),
    Part.EVENTS: (
        "SELECT id, at_us, topic, subject, data FROM @events WHERE id > $1 ORDER BY id LIMIT $2",
        (0,),
    ),
    Part.PAUSED: ("SELECT queue FROM @paused WHERE queue > $1 ORDER BY queue LIMIT $2", ("",)),
}
_LOADS = {
    Part.STEPS: (
        "INSERT INTO @steps SELECT * FROM unnest($1::text[], $2::text[], $3::text[])"
        " ON CONFLICT DO NOTHING"
    ),
    Part.RECORDS: (
        "INSERT INTO @records SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])"
        " ON CONFLICT DO NOTHING RETURNING kind"
    ),
    Part.EVENTS: (
        "INSERT INTO @events OVERRIDING SYSTEM VALUE SELECT *"
        " FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[])"
        " ON CONFLICT DO NOTHING"
    ),
    Part.PAUSED: "INSERT INTO @paused SELECT * FROM unnest($1::text[]) ON CONFLICT DO NOTHING",
}


def _heads(first: int, where: str, *, lock: bool) -> str:
    """The heads of parts of lanes, which the parameters from *first* on tell; parts count from 1."""
    types = ("text", "text", "bool", "int", "bigint", "int")
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types, first))
    return (
        f"SELECT part, ready_at, seq, place FROM unnest({arrays})"
        " WITH ORDINALITY AS parts(q, t, suspect, level, low, most, part)"
        " CROSS JOIN LATERAL (SELECT ready_at, seq, ctid AS place FROM @jobs"
        " WHERE queue = q AND type = t AND (crashes > 0) = suspect AND priority = level"
        " AND state = 1 AND ready_at >= low ORDER BY ready_at, seq LIMIT most"
        f" {'FOR UPDATE SKIP LOCKED' if lock else ''}) AS heads {where}"
    )


class WorkerRow(NamedTuple):
    """A registration, how many jobs it holds, and whether its lock is held."""

    id: int
    name: str
    info: str
    lease_us: int
    expires_us: int
    memory: int | None
    """Bytes, as of the last renewal."""
    held: int
    locks: bool
    """Whether it said that a session would hold its lock."""
    locked: bool


class Outlook(NamedTuple):
    """What a worker must know before it claims, and what it could claim."""

    name: str | None
    """With its number; None once the registration has ended."""
    due_in: float | None
    """Seconds until the next scheduled job becomes ready; None: none is scheduled."""
    cancelling: tuple[str, ...]
    """Ids of held jobs that somebody asked to cancel."""
    heads: dict[Candidate, Place]
    """The candidates of every lane it can run, in order, and where they are."""


class _Part(NamedTuple):
    """What one run of an index gives of a lane."""

    lane: int
    """Position in `Claim.lanes`."""
    key: Key
    most: int


class Effects:
    """What to tell after the commit."""

    def __init__(self) -> None:
        self.ready = False
        self.control = False
        self.events = False
        self.finished: list[str] = []
        self.spans: set[int] = set()
        """For which the history has partitions now."""


class Session:
    """The operations on one connection inside one transaction that began at `now`.

    Args:
        connection: in a transaction.
        schema: of the tables.
        now: microseconds, of the store's clock.
        effects: gathers what to tell.
        shard: which rows of the figures this process adds to.
        lock_class: first key of the advisory locks.
        frontier: from where on a claim reads.
        spans: for which the history has partitions.
        in_block: whether the connection is in a transaction; else each statement is one.
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
        frontier: Frontier,
        spans: AbstractSet[int],
        in_block: bool = True,
    ) -> None:
        self.in_block = in_block
        self._frontier = frontier
        self._spans = spans
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

    async def store_id(self) -> str | None:
        """Which store this is; None where there is none of ours."""
        if await self._value("SELECT to_regclass($1)::text", f"{self._s}.meta") is None:
            return None
        found: str | None = await self._value("SELECT value FROM @meta WHERE key = 'store'")
        return found

    async def own_shard(self) -> None:
        """Nobody shall wait for the rows of this transaction, which may last."""
        self._shard = SHARDS + await self._value("SELECT nextval('@tokens')")

    async def fold_figures(self) -> None:
        """Bring what callers' transactions have added together."""
        rows = await self._fetch(
            "WITH gone AS (DELETE FROM @counts WHERE shard >= $1 RETURNING *)"
            " SELECT queue, type, state, sum(count)::bigint FROM gone GROUP BY 1, 2, 3",
            SHARDS,
        )
        for queue, kind, state, count in rows:
            self._moves[queue, kind, state] += count

    # Enqueue

    async def insert(self, drafts: Sequence[Draft], parent: str | None = None) -> list[Job]:
        """Store new jobs; a held unique key yields its job instead."""
        if any(draft.unique_key is not None for draft in drafts):
            async with (
                contextlib.nullcontext() if self.in_block else self._connection.transaction()
            ):
                return [await self._insert_unique(draft, parent) for draft in drafts]
        return [record.to_job() for record in await self._insert_all(drafts, parent)]

    async def _insert_all(
        self, drafts: Sequence[Draft], parent: str | None, on_conflict: str = ""
    ) -> list[JobRecord]:
        if not drafts:
            return []
        records = [transitions.create(draft, 0, self.now, parent) for draft in drafts]
        inserted = await self._value(
            f"WITH new AS (INSERT INTO @jobs ({', '.join(_INSERTED)}) SELECT {', '.join(_INSERTED)}"
            f" FROM {_unnest(_INSERTED)} {on_conflict} RETURNING queue, type, state)"
            f"{'' if self.in_block else self._counted(_INSERTS)} SELECT count(*) FROM new",
            *_columns(records, _INSERTED),
        )
        if inserted < len(records):
            return []
        if self.in_block:
            self._moves.update((r.queue, r.type, r.state) for r in records)
        self.effects.ready = True
        return records

    def _counted(self, moves: str) -> str:
        """Figures in the statement itself: in a block they wait for `finish`, and lock their rows later."""
        return (
            f", counted AS (INSERT INTO @counts SELECT queue, type, state, {self._shard}, sum(change)"
            f" FROM ({moves}) AS moves GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
            " ON CONFLICT (queue, type, state, shard)"
            " DO UPDATE SET count = counts.count + excluded.count)"
        )

    async def _insert_unique(self, draft: Draft, parent: str | None) -> Job:
        if draft.unique_key is None:
            return (await self._insert_all([draft], parent))[0].to_job()
        conflict = "ON CONFLICT (type, unique_key) WHERE unique_key IS NOT NULL DO NOTHING"
        while True:
            holder = await self.load("type = $1 AND unique_key = $2", draft.type, draft.unique_key)
            if holder:
                return holder[0].to_job()
            # Between the two somebody may take the key, and also give it back.
            if inserted := await self._insert_all([draft], parent, conflict):
                return inserted[0].to_job()

    # Outcomes

    async def record(self, outcomes: Sequence[Outcome]) -> dict[int, Refusal]:
        """Record the end of attempts; which were refused, by position."""
        refused: dict[int, Refusal] = {}
        for changing, group in groupby(enumerate(outcomes), lambda item: bool(item[1].changes)):
            left = list(group)
            # Of two reports on one job the first decides, so that only single ones can go ahead.
            if not changing and len({o.lease.job_id for _, o in left}) == len(left):
                left = await self._without_owned(await self._without_completed(left))
            # One by one: what one of them changes, the next must see.
            for position, outcome in left:
                refusal = await self.record_one(outcome)
                if refusal is not None:
                    refused[position] = refusal
        return refused

    async def _without_completed(
        self, outcomes: list[tuple[int, Outcome]]
    ) -> list[tuple[int, Outcome]]:
        """Complete what can be at once; what is left."""
        plain = [outcome for _, outcome in outcomes if _is_plain(outcome)]
        if not plain:
            return outcomes
        done = await self._complete(plain, by="jobs.ctid = place")
        # Who has written to its row since the claim has moved it.
        moved = [outcome for outcome in plain if outcome.lease.job_id not in done]
        if moved:
            done |= await self._complete(moved, by="jobs.id = job")
        return [(i, o) for i, o in outcomes if not (_is_plain(o) and o.lease.job_id in done)]

    async def _without_owned(
        self, outcomes: list[tuple[int, Outcome]]
    ) -> list[tuple[int, Outcome]]:
        """Record the ends under a valid lease, with one reading and one writing; what is left."""
        if len(outcomes) < 2:
            return outcomes
        given = {outcome.lease.job_id: outcome for _, outcome in outcomes}
        records = await self.load("id = ANY($1::text[]) ORDER BY id FOR UPDATE", list(given))
        owned = {r.id: r for r in records if transitions.owns(r, given[r.id].lease.token)}
        await self._transition(
            owned.values(),
            lambda record: transitions.record_outcome(record, given[record.id], self.now),
        )
        return [(i, o) for i, o in outcomes if o.lease.job_id not in owned]

    async def _complete(self, outcomes: Sequence[Outcome], *, by: str) -> set[str]:
        """Complete those whose lease is valid and that are found, all in one statement; which."""
        outcomes = sorted(outcomes, key=lambda outcome: outcome.lease.job_id)
        await self.need_history()
        rows = await self._fetch(
            "WITH given AS MATERIALIZED (SELECT * FROM"
            " unnest($2::tid[], $3::text[], $4::bigint[], $5::bigint[], $6::text[])"
            " AS g(place, job, claim, run_us, report)),"
            # Not `state IN (2, 3)`: the planner would read the whole index that has this condition.
            f" gone AS (DELETE FROM @jobs USING given WHERE {by} AND token = claim"
            f" AND state > 1 RETURNING {_UNCHANGED_BY_END}, run_us, report,"
            " attempts, processed_at, state AS before),"
            f" ended AS (INSERT INTO @history ({_UNCHANGED_BY_END}, state, completed_at, attempts,"
            f" processed_at, result) SELECT {_UNCHANGED_BY_END}, 4, $1, attempts + (before = 2)::int,"
            " CASE before WHEN 2 THEN $1 - run_us ELSE processed_at END, report FROM gone)"
            " SELECT id, queue, type, before FROM gone",
            self.now,
            [_place(o.lease.ref) for o in outcomes],
            [o.lease.job_id for o in outcomes],
            [o.lease.token for o in outcomes],
            [int(o.run_s * 1e6) for o in outcomes],
            [o.result for o in outcomes],
        )
        for job_id, queue, kind, before in rows:
            self._moves[queue, kind, before] -= 1
            self._moves[queue, kind, State.COMPLETED] += 1
            self.effects.finished.append(job_id)
        return {row[0] for row in rows}

    async def need_history(self) -> None:
        """Have the partition for what becomes final now, and the next one.

        Well before it is used: a reader that had planned its statement without it would find a job
        in neither table.
        """
        now = self.now // HISTORY_SPAN_US
        for span in {now, now + 1} - self._spans - self.effects.spans:
            await self._run("SELECT @add_history($1)", span)
            self.effects.spans.add(span)

    async def record_one(self, outcome: Outcome) -> Refusal | None:
        """Record the end of an attempt, or say why not."""
        record = await self._of(outcome.lease)
        if record is not None and transitions.already_recorded(record, outcome.lease.token):
            if transitions.is_final(record):
                # Who waits may not have heard: the caller's own transaction tells nobody.
                self.effects.finished.append(record.id)
            return None
        if not transitions.owns(record, outcome.lease.token):
            self._bumps["late_outcomes"] += outcome.kind is not OutcomeKind.RETURNED
            return Refusal.LEASE_LOST
        try:
            await self.check_versions(outcome.changes)
        except VersionConflictError:
            return Refusal.CONFLICT
        await self._transition([record], transitions.record_outcome, outcome, self.now)
        await self.apply(outcome.changes, outcome.lease.job_id)
        return None

    async def _of(self, lease: Lease) -> JobRecord | None:
        """The job of a lease, valid or not, locked; None when it is gone."""
        try:
            return await self.known(lease.job_id)
        except JobNotFoundError:
            return None

    async def begin(self, leases: Sequence[Lease]) -> None:
        """Handlers of reserved jobs have started."""
        tokens = {lease.token for lease in leases}
        records = await self.load(
            "id = ANY($1::text[]) ORDER BY id FOR UPDATE", [lease.job_id for lease in leases]
        )
        started = [r for r in records if r.state == State.RESERVED and r.token in tokens]
        await self._transition(started, transitions.begin, self.now)

    async def owned(self, lease: Lease) -> JobRecord:
        """The job of a valid lease, locked; or LeaseLostError."""
        record = await self._of(lease)
        if not transitions.owns(record, lease.token):
            raise LeaseLostError(f"the lease of job {lease.job_id} is lost; nothing was written")
        return record

    async def return_unknown(self, worker: int, held: Sequence[Lease]) -> None:
        """Give back what the store holds for *worker* beyond *held*."""
        tokens = {lease.token for lease in held}
        records = await self.load("worker = $1 AND state IN (2, 3) ORDER BY id FOR UPDATE", worker)
        unknown = [record for record in records if record.token not in tokens]
        await self._transition(unknown, _return, self.now)

    # Claim

    async def look(self, worker: int, claim: Claim | None, *, lock: bool) -> Outlook:
        """What an exchange asks before it claims, in one round trip."""
        parts = [] if claim is None else _parts_of(claim)
        if parts:
            self._frontier.start()
        [row] = await self._fetch(
            "SELECT name, (SELECT ready_at FROM @jobs WHERE state = 0 AND ready_at >= $2"
            " ORDER BY ready_at, seq LIMIT 1), ARRAY(SELECT queue FROM @paused),"
            " ARRAY(SELECT id FROM @jobs WHERE worker = $1 AND state IN (2, 3)"
            " AND cancel_requested = 1), found.*"
            " FROM (SELECT $1::int AS asked) AS one LEFT JOIN @workers ON workers.id = asked,"
            " (SELECT array_agg(part), array_agg(ready_at), array_agg(seq), array_agg(place)"
            f" FROM ({_heads(3, _RESUMED, lock=lock)}) AS heads) AS found",
            *(worker, self._frontier.scheduled(), *self._asked(parts)),
        )
        name, due_us, paused, cancelling, *columns = row
        self._frontier.saw_scheduled(self.now if due_us is None else due_us, self.now)
        open_parts = [part for part in parts if part.key[0] not in paused]
        heads = {}
        if claim is not None and open_parts:
            found = zip(*columns, strict=True) if columns[0] else ()
            heads = self._saw(claim, open_parts, [(parts[row[0] - 1], *row[1:]) for row in found])
            if not heads and self._frontier.start(anxious=True):
                heads = await self._read_heads(claim, open_parts, lock=lock)
        return Outlook(
            name=None if name is None else f"{name}:{worker}",
            due_in=None if due_us is None else max(0.0, (due_us - self.now) / 1e6),
            cancelling=tuple(cancelling),
            heads=heads,
        )

    async def heads(self, claim: Claim) -> dict[Candidate, Place]:
        """The heads of the lanes of *claim*, whether their queues are paused or not."""
        self._frontier.start()
        parts = _parts_of(claim)
        heads = await self._read_heads(claim, parts, lock=False)
        if not heads and self._frontier.start(anxious=True):
            heads = await self._read_heads(claim, parts, lock=False)
        return heads

    async def _read_heads(
        self, claim: Claim, parts: Sequence[_Part], *, lock: bool
    ) -> dict[Candidate, Place]:
        rows = await self._fetch(_heads(1, "", lock=lock), *self._asked(parts))
        return self._saw(claim, parts, [(parts[row[0] - 1], *row[1:]) for row in rows])

    def _asked(self, parts: Sequence[_Part]) -> list[list[Any]]:
        """The parameters of `_heads`."""
        return [
            *([part.key[i] for part in parts] for i in range(4)),
            [self._frontier.ready(part.key) for part in parts],
            [part.most for part in parts],
        ]

    def _saw(
        self, claim: Claim, parts: Sequence[_Part], rows: Sequence[tuple[_Part, int, int, Place]]
    ) -> dict[Candidate, Place]:
        """The candidates in order; *rows* has the heads of all *parts*, each part's in order."""
        first = {part.key: self.now for part in parts}
        found = []
        for part, ready, seq, place in reversed(rows):
            first[part.key] = ready
            _, _, suspect, level = part.key
            ranked = candidate(level, ready, seq, part.lane, suspect=suspect, aging_s=claim.aging_s)
            found.append((ranked, place))
        for key, head in first.items():
            self._frontier.saw(key, head)
        self._frontier.end()
        return dict(sorted(found))

    async def claim(
        self,
        chosen: Sequence[tuple[int, bool]],
        seen: Outlook,
        worker: int,
        *,
        locked: bool,
    ) -> tuple[Claimed, ...]:
        """Lease the chosen jobs (seq, whether it starts at once), which were *seen*.

        Nothing is leased to a worker whose registration has ended or just ends. Unless they are
        *locked*, all else that was true when they were seen is asked again: of what others have
        taken or paused meanwhile nothing is leased.
        """
        if not chosen:
            return ()
        places = {head.seq: place for head, place in seen.heads.items()}
        leasing = (
            "UPDATE @jobs SET state = 2 + starts, token = nextval('@tokens'), worker = $2,"
            " worker_name = $3, attempts = attempts + starts,"
            " processed_at = CASE starts WHEN 1 THEN $1 ELSE processed_at END,"
            " next_retry_at = CASE starts WHEN 1 THEN NULL ELSE next_retry_at END"
            f" FROM free WHERE jobs.ctid = free.place RETURNING jobs.ctid, {_COLUMNS}"
        )
        if not self.in_block:
            leasing = f", leased AS ({leasing}){self._counted(_CLAIMS)} SELECT * FROM leased"
        rows = await self._fetch(
            "WITH given AS (SELECT * FROM unnest($4::tid[], $5::bigint[], $6::int[])"
            f" AS g(place, number, starts)), {_LIVING},"
            f" free AS MATERIALIZED ({_LOCKED if locked else _FREE}),"
            " renewed AS (UPDATE @workers SET expires_us = $1 + lease_us WHERE id = $2"
            " AND expires_us < $1 + lease_us - lease_us / 3 AND EXISTS (SELECT FROM free)"
            " RETURNING id)"
            f" {leasing}",
            *(self.now, worker, seen.name),
            [places[seq] for seq, _ in chosen],
            [seq for seq, _ in chosen],
            [int(starts) for _, starts in chosen],
        )
        claimed = {}
        for place, *fields in rows:
            record = JobRecord(*fields)
            claimed[record.seq] = Claimed(_lease(record, place), record)
        if self.in_block:
            for one in claimed.values():
                self._moves[one.lease.queue, one.lease.type, State.READY] -= 1
                self._moves[one.lease.queue, one.lease.type, one.record.state] += 1
        return tuple(claimed[seq] for seq, _ in chosen if seq in claimed)

    async def due_in(self) -> float | None:
        """Seconds until the next scheduled job becomes ready; None: none is scheduled."""
        first = await self._value(
            "SELECT ready_at FROM @jobs WHERE state = 0 AND ready_at >= $1"
            " ORDER BY ready_at, seq LIMIT 1",
            self._frontier.scheduled(),
        )
        return None if first is None else max(0.0, (first - self.now) / 1e6)

    async def stage(self) -> float | None:
        """Make a batch of due jobs ready; `due_in` of what is left."""
        rows = await self._fetch(
            "WITH due AS MATERIALIZED (SELECT ctid AS place FROM @jobs WHERE state = 0"
            " AND ready_at BETWEEN $1 AND $2 ORDER BY ready_at, seq LIMIT $3"
            " FOR UPDATE SKIP LOCKED),"
            " staged AS (UPDATE @jobs SET state = 1 FROM due WHERE jobs.ctid = place"
            " RETURNING queue, type, crashes > 0 AS suspect, priority, ready_at)"
            f"{'' if self.in_block else self._counted(_STAGINGS)}"
            " SELECT queue, type, suspect, priority, min(ready_at), count(*) FROM staged"
            " GROUP BY 1, 2, 3, 4",
            self._frontier.scheduled(),
            self.now,
            STAGED_MOST,
        )
        for queue, kind, suspect, priority, ready_at, count in rows:
            if self.in_block:
                self._moves[queue, kind, State.SCHEDULED] -= count
                self._moves[queue, kind, State.READY] += count
            self._frontier.back((queue, kind, suspect, priority), ready_at)
        self.effects.ready |= bool(rows)
        return await self.due_in() if rows else None

    # Control

    async def known(self, job_id: str) -> JobRecord:
        """A job by id, locked; or JobNotFoundError."""
        # Between two looks it may end, or be made live again.
        for table in ("jobs", "history", "jobs") if is_storable(job_id) else ():
            if found := await self.load("id = $1 FOR UPDATE", job_id, table=table):
                return found[0]
        raise JobNotFoundError(job_id)

    async def _known_of(self, ids: Iterable[str]) -> list[JobRecord]:
        """Those of *ids* that are jobs', locked, in their order."""
        given = [job_id for job_id in ids if is_storable(job_id)]
        found: dict[str, JobRecord] = {}
        for table in ("jobs", "history", "jobs"):
            if missing := [job_id for job_id in given if job_id not in found]:
                where = "id = ANY($1::text[]) ORDER BY id FOR UPDATE"
                records = await self.load(where, missing, table=table)
                found |= {record.id: record for record in records}
        return [found[job_id] for job_id in given if job_id in found]

    async def get(self, job_id: str) -> JobRecord | None:
        """A job by id, as it is now."""
        # Twice before it is said to be unknown: see `need_history`.
        for _ in range(2 if is_storable(job_id) else 0):
            rows = await self._fetch(
                f"SELECT {_COLUMNS} FROM @jobs WHERE id = $1"
                f" UNION ALL SELECT {_COLUMNS} FROM @history WHERE id = $1",
                job_id,
            )
            if rows:
                return JobRecord(*rows[0])
        return None

    async def cancel(self, job_id: str) -> Job:
        """Cancel or ask to."""
        record = await self.known(job_id)
        await self._transition([record], transitions.request_cancel, self.now)
        self.effects.control = True
        return record.to_job()

    async def wake(self, type: str, keys: Sequence[str]) -> int:
        """Make the sleeping holders of *keys* ready; how many."""
        asleep = await self.load(
            "type = $1 AND unique_key = ANY($2::text[]) AND state = 0 AND next_retry_at IS NULL"
            " AND ready_at > $3 ORDER BY id FOR UPDATE",
            *(type, keys, self.now),
        )
        await self._transition(asleep, transitions.wake, self.now)
        return len(asleep)

    async def redrive(self, job_id: str, payload: str | None) -> Job:
        """Run a final job again."""
        record = await self.known(job_id)
        if record.unique_key is not None and transitions.is_final(record):
            holder = await self.load(
                "type = $1 AND unique_key = $2", record.type, record.unique_key
            )
            if holder:
                raise UniqueKeyTakenError(
                    f"unique key {record.unique_key!r} is held by job {holder[0].id}"
                )
        await self._transition([record], transitions.redrive, payload, self.now)
        if payload is not None:
            await self._run("DELETE FROM @steps WHERE job = $1", record.id)
        return record.to_job()

    async def delete(self, job_id: str) -> None:
        """Remove a final job."""
        record = await self.known(job_id)
        transitions.check_deletable(record)
        await self._remove([record])

    async def act(self, action: BulkAction, ids: Sequence[str]) -> Acted:
        """Do what is allowed to each of many jobs."""
        distinct = dict.fromkeys(ids)
        known = await self._known_of(distinct)
        records = allowed(action, known, await self._taken(known))
        match action:
            case BulkAction.CANCEL:
                await self._transition(records, transitions.request_cancel, self.now)
                self.effects.control |= bool(records)
            case BulkAction.RETRY:
                await self._transition(records, transitions.redrive, None, self.now)
            case BulkAction.DELETE:
                await self._remove(records)
        return Acted(len(records), len(distinct) - len(records))

    async def _taken(self, records: Iterable[JobRecord]) -> list[tuple[str, str]]:
        """Those unique keys of *records*, with their types, that live jobs hold."""
        keyed = [record for record in records if record.unique_key is not None]
        if not keyed:
            return []
        rows = await self._fetch(
            "SELECT type, unique_key FROM @jobs JOIN unnest($1::text[], $2::text[]) AS given(t, k)"
            " ON type = t AND unique_key = k",
            *_columns(keyed, ("type", "unique_key")),
        )
        return [(kind, key) for kind, key in rows]

    async def _remove(self, records: Sequence[JobRecord]) -> None:
        """Remove final jobs with their steps."""
        ids = [record.id for record in records]
        await self._run("DELETE FROM @history WHERE id = ANY($1::text[])", ids)
        await self._run("DELETE FROM @steps WHERE job = ANY($1::text[])", ids)
        self._moves.subtract((r.queue, r.type, r.state) for r in records)

    async def crash(self, worker: int, name: str) -> Counter[int]:
        """A batch of a dead worker's jobs; how many went into which state."""
        records = await self.load(
            "worker = $1 AND state IN (2, 3) ORDER BY id LIMIT $2 FOR UPDATE", worker, BATCH
        )
        await self._transition(records, transitions.crash, name, self.now)
        return Counter(record.state for record in records)

    async def drop_history(self, before: int) -> int:
        """Remove the oldest partition if all of it became final before *before*; how many jobs."""
        gone = await self._fetch("SELECT queue, type, state, count FROM @drop_history($1)", before)
        for queue, kind, state, count in gone:
            self._moves[queue, kind, state] -= count
        return sum(row[3] for row in gone)

    async def cleanup(self, before: int) -> int:
        """Remove a batch of jobs that became final before *before*."""
        rows = await self._fetch(
            "DELETE FROM @history USING (SELECT tableoid, ctid FROM @history WHERE completed_at < $1"
            " LIMIT $2 FOR UPDATE SKIP LOCKED) AS old"
            " WHERE history.tableoid = old.tableoid AND history.ctid = old.ctid"
            " RETURNING id, queue, type, state",
            before,
            BATCH,
        )
        for _, queue, kind, state in rows:
            self._moves[queue, kind, state] -= 1
        await self._run("DELETE FROM @steps WHERE job = ANY($1::text[])", [r[0] for r in rows])
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

    async def apply(self, changes: Changes, parent: str | None = None) -> None:
        """Write what the versions were checked for; *parent* is the job whose attempt asks for it."""
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
            await self.insert(changes.jobs, parent)
        if changes.cancel:
            live = await self.load(
                "id = ANY($1::text[]) ORDER BY id FOR UPDATE",
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

    # Moving to another store

    async def dump(self, part: Part, after: Row | None, limit: int) -> list[Row]:
        """Rows of a part in their order."""
        statement, first = _DUMPS[part]
        rows = await self._fetch(statement, *(first if after is None else after), limit)
        return [tuple(row) for row in rows]

    async def load_rows(self, part: Part, rows: Sequence[Row]) -> None:
        """Keep the rows whose keys are new."""
        if part is Part.JOBS:
            await self._load_jobs([JobRecord(*row) for row in rows])
            return
        columns = [list(column) for column in zip(*rows, strict=True)]
        kept = await self._fetch(_LOADS[part], *columns)
        if part is Part.RECORDS:
            for row in kept:
                self._bumps[f"records:{row[0]}"] += 1
        elif part is Part.EVENTS:
            await self._advance("events", "id", rows[-1][0])

    async def _load_jobs(self, records: Sequence[JobRecord]) -> None:
        for span in {(r.completed_at or 0) // HISTORY_SPAN_US for r in records if r.state >= 4}:
            await self._run("SELECT @add_history($1)", span)
        for table, conflict in (("jobs", "ON CONFLICT (id) DO NOTHING"), ("history", "")):
            group = [r for r in records if _TABLES[transitions.is_final(r)] == table]
            rows = await self._fetch(
                f"INSERT INTO @{table} ({_COLUMNS}) SELECT {_COLUMNS} FROM {_unnest(FIELDS)}"
                f" WHERE NOT EXISTS (SELECT FROM @history AS there WHERE there.id = given.id)"
                f" {conflict} RETURNING queue, type, state",
                *_columns(group, FIELDS),
            )
            for queue, kind, state in rows:
                self._moves[queue, kind, state] += 1
                self.effects.ready |= state in (State.READY, State.SCHEDULED)
        await self._advance("jobs", "seq", max(record.seq for record in records))

    async def _advance(self, table: str, column: str, least: int) -> None:
        """Let what is added from now on have larger numbers."""
        sequence = await self._value(
            "SELECT pg_get_serial_sequence($1, $2)", f"{self._s}.{table}", column
        )
        await self._run(
            "SELECT setval($1::regclass, greatest(nextval($1::regclass), $2))", sequence, least
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
            "SELECT id, name, info, lease_us, expires_us, memory, (SELECT count(*) FROM @jobs"
            " WHERE jobs.worker = workers.id AND state IN (2, 3)), locks,"
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

    async def set_progress(self, job_id: str, progress: str) -> None:
        """How far a running job is."""
        await self._run("UPDATE @jobs SET progress = $2 WHERE id = $1", job_id, progress)

    async def save_step(self, job_id: str, name: str, result: str) -> None:
        """A step's result; the first one stays when it is reported twice."""
        await self._run(
            "INSERT INTO @steps VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", job_id, name, result
        )

    async def steps(self, job_id: str) -> list[Any]:
        """Name and result of each step of a job."""
        return await self._fetch("SELECT name, result FROM @steps WHERE job = $1", job_id)

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

    async def oldest_ready(self) -> tuple[Oldest, ...]:
        """See `Store.oldest_ready`."""
        ready = await self._fetch(
            "SELECT queue, type FROM @counts WHERE state = 1 GROUP BY 1, 2 HAVING sum(count) > 0"
            " ORDER BY 1, 2"
        )
        lanes = tuple(Lane(queue, kind, 1) for queue, kind in ready)
        return oldest_of(lanes, await self.heads(Claim(lanes=lanes, start=1)))

    async def find(
        self,
        states: Sequence[State],
        kind: str | None,
        queue: str | None,
        limit: int,
        after: str | None,
    ) -> list[JobRecord]:
        """Jobs in any of *states*, by priority, then age, beyond the job *after*.

        Each group of states that an index has in this order is read by itself, as are the leased.
        """
        arguments: list[Any] = [limit]
        where = ["TRUE"]
        for column, value in (("type", kind), ("queue", queue)):
            if value is not None:
                arguments.append(value)
                where.append(f"{column} = ${len(arguments)}")
        if after is not None:
            place = await self.get(after)
            if place is None:
                raise JobNotFoundError(after)
            arguments += [place.priority, place.seq]
            level, seq = len(arguments) - 1, len(arguments)
            where.append(f"(priority < ${level} OR (priority = ${level} AND seq > ${seq}))")
        waiting = _in([state for state in states if state in _WAITING])
        leased = _in([s for s in states if not s.status.is_final and s not in _WAITING])
        sources = [
            f"@jobs WHERE {among} AND {those}"
            for among, those in ((WAITING, waiting), ("state IN (2, 3)", leased))
            if those
        ]
        sources += [
            f"@history WHERE state = {int(state)}" for state in states if state.status.is_final
        ]
        parts = [
            f"(SELECT {_COLUMNS} FROM {source} AND {' AND '.join(where)}"
            " ORDER BY priority DESC, seq LIMIT $1)"
            for source in sources
        ]
        rows = await self._fetch(
            f"SELECT * FROM ({' UNION ALL '.join(parts)}) AS found"
            " ORDER BY priority DESC, seq LIMIT $1",
            *arguments,
        )
        return [JobRecord(*row) for row in rows]

    async def search(self, where: Search, limit: int, after: int | None, scan: int) -> Found:
        """A page of jobs that match."""
        rows, last, scanned = await self._search(_COLUMNS, where, limit, after, scan)
        return Found([JobRecord(*row).to_job() for row in rows], last, scanned)

    async def match_ids(self, where: Search, limit: int, after: int | None, scan: int) -> FoundIds:
        """A page of their ids."""
        rows, last, scanned = await self._search("seq, id", where, limit, after, scan)
        return FoundIds([row[1] for row in rows], last, scanned)

    async def _search(
        self, columns: str, where: Search, limit: int, after: int | None, scan: int
    ) -> tuple[list[Any], int | None, int]:
        """A page of rows that begin with the place, where the next begins, how many were looked at.

        In a transaction that sees one state: what is counted are the jobs that were looked at.
        """
        look = Look(where, after=after, scan=scan)
        await self._connection.execute(SET_BY_INDEX)
        if not await self._fetch(*look.counted()):
            return [], None, 0
        rows = await self._fetch(*look.matches(columns, limit + 1))
        full = len(rows) > limit
        least = rows[limit - 1][0] if full else 0
        [(scanned, last)] = await self._fetch(*look.looked_at(least))
        return rows[:limit], last if full or scanned == scan else None, scanned

    async def children(self, job_id: str, limit: int) -> list[JobRecord]:
        """The jobs that attempts of a job have added, live or final."""
        parts = [
            f"(SELECT {_COLUMNS} FROM @{table} WHERE parent = $1 ORDER BY seq LIMIT $2)"
            for table in _TABLES.values()
        ]
        rows = await self._fetch(
            f"{' UNION ALL '.join(parts)} ORDER BY seq LIMIT $2", job_id, limit
        )
        return [JobRecord(*row) for row in rows]

    # Loading and saving

    async def load(self, where: str, *arguments: Any, table: str = "jobs") -> list[JobRecord]:
        """The jobs that match a condition of ours: the live ones, or those of another table."""
        rows = await self._fetch(f"SELECT {_COLUMNS} FROM @{table} WHERE {where}", *arguments)
        return [JobRecord(*row) for row in rows]

    async def _transition(
        self, records: Iterable[JobRecord], transition: Callable[..., None], *arguments: Any
    ) -> None:
        changed: dict[tuple[bool, bool], list[JobRecord]] = defaultdict(list)
        for record in records:
            before = record.state
            was_final = transitions.is_final(record)
            transition(record, *arguments)
            changed[was_final, transitions.is_final(record)].append(record)
            self._moves[record.queue, record.type, before] -= 1
            self._moves[record.queue, record.type, record.state] += 1
            if transitions.is_final(record):
                self.effects.finished.append(record.id)
            elif record.state in (State.READY, State.SCHEDULED):
                self.effects.ready = True
                if record.state == State.READY and record.ready_at < self.now:
                    key = (record.queue, record.type, record.suspect, record.priority)
                    self._frontier.back(key, record.ready_at)
        for (was_final, is_final), group in changed.items():
            if is_final:
                await self.need_history()
            await self._save(_TABLES[was_final], _TABLES[is_final], group)

    async def _save(self, source: str, target: str, records: Sequence[JobRecord]) -> None:
        names = ("id", *_SAVED)
        given = f"{_unnest(names)} WHERE {source}.id = given.id"
        if source == target:
            sets = ", ".join(f"{name} = given.{name}" for name in _SAVED)
            statement = f"UPDATE @{source} SET {sets} FROM {given}"
        else:
            kept = ", ".join(f"{source}.{name}" for name in _KEPT)
            saved = ", ".join(f"given.{name}" for name in _SAVED)
            statement = (
                f"WITH gone AS (DELETE FROM @{source} USING {given} RETURNING {kept}, {saved})"
                f" INSERT INTO @{target} ({', '.join((*_KEPT, *_SAVED))}) SELECT * FROM gone"
            )
        await self._run(statement, *_columns(records, names))


def is_storable(text: str) -> bool:
    """Whether PostgreSQL takes *text*: it has no NUL, and lone surrogates have no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _in(states: Sequence[State]) -> str:
    """A condition; empty when no state would meet it."""
    return f"state IN ({', '.join(str(int(state)) for state in states)})" if states else ""


def _parts_of(claim: Claim) -> list[_Part]:
    most = claim.start + claim.reserve
    return [
        _Part(
            number, (lane.queue, lane.type, suspect, level), 1 if suspect else min(lane.limit, most)
        )
        for number, lane in enumerate(claim.lanes)
        if lane.limit > 0 < most
        for suspect in ((False, True) if claim.suspects else (False,))
        for level in JobPriority
    ]


def _is_plain(outcome: Outcome) -> bool:
    return outcome.kind is OutcomeKind.COMPLETED and not outcome.changes


def _return(record: JobRecord, now: int) -> None:
    assert record.token is not None
    transitions.record_outcome(record, Outcome(_lease(record), OutcomeKind.RETURNED), now)
    record.token = None


def _lease(record: JobRecord, place: Place = (0, 0)) -> Lease:
    assert record.token is not None
    ref = place[0] << 16 | place[1]
    return Lease(record.id, record.token, ref, record.type, record.queue)


def _place(ref: int) -> Place:
    return ref >> 16, ref & 0xFFFF
