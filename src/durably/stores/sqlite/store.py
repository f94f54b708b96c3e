"""The Store protocol on one SQLite file: what each operation asks of the writer and the reader.

Reads have a connection and thread of their own, so that they never wait for a commit. `complete`
has another connection, which takes the writer's turn for as long as its block runs.
"""

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, closing
from functools import partial
from typing import Any, NamedTuple, TypeVar, overload

import msgspec

from durably.domain.bulk import Acted, BulkAction
from durably.domain.claiming import Claim
from durably.domain.clock import Clock, SystemClock
from durably.domain.errors import StoreBusyError, StoreClosedError
from durably.domain.job import STATES_OF, Draft, Job, JobStatus, Progress, State
from durably.domain.outcome import NO_CHANGES, Changes, Event, Lease, Outcome, Record
from durably.domain.search import SCAN_MOST, Found, FoundIds, Search
from durably.store import (
    Activity,
    Capabilities,
    Exchanged,
    Notice,
    NoticeKind,
    Oldest,
    Part,
    Rescued,
    Row,
    StoreStats,
    Transaction,
    WorkerInfo,
    WorkerState,
    refusal_error,
)
from durably.stores.blocks import Blocks
from durably.stores.sqlite import database
from durably.stores.sqlite.forks import traffic
from durably.stores.sqlite.locks import Liveness, Turnstile
from durably.stores.sqlite.session import (
    BATCH,
    NOTHING_TAKEN,
    Effects,
    Session,
    Taken,
    WorkerRow,
    is_storable,
    reports,
)
from durably.stores.sqlite.transaction import OwnTransaction
from durably.stores.sqlite.wakeup import WakeUp
from durably.stores.sqlite.writer import Peek, Settled, Writer

_T = TypeVar("_T")
_Enqueue = tuple[Sequence[Draft], "asyncio.Future[list[Job]]"]

_PAST_ALL_IDS = 2**63 - 1


class _Quiet(NamedTuple):
    """A look that found nothing to do. It would find the same until somebody writes."""

    version: tuple[int, int]
    """Of the file and of our own writer."""
    claim: Claim | None
    """What it looked for."""
    due_at: int | None
    """When a scheduled job becomes ready, on the wall clock."""
    cancel: tuple[str, ...]

    def holds(self, version: tuple[int, int], claim: Claim | None, now: int) -> bool:
        """Whether another look would find the same."""
        due = self.due_at is not None and self.due_at <= now
        return version == self.version and claim == self.claim and not due

    def answer(self, now: int) -> Exchanged:
        """What to say at *now*."""
        due_in = None if self.due_at is None else (self.due_at - now) / 1e6
        return Exchanged(due_in_s=due_in, cancel=self.cancel)


class _Workers(NamedTuple):
    """The registrations, as they were read after a look."""

    version: tuple[int, int] | None
    rows: list[WorkerRow]


_JUST_LOOKED_S = 1.5
"""So long what a look found of the file's version is taken to hold."""


class SQLiteStore:
    """Durable on one file, for any number of processes of one machine.

    Args:
        url: ``sqlite:///relative/path`` or ``sqlite:////absolute/path``.
        clock: where time comes from.
    """

    capabilities = Capabilities(durable=True, sql=True)

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self.url = url
        self.path = database.path_of(url)
        self._clock = clock or SystemClock()
        self._boot = database.boot_id()
        self._opened = 0
        self._opening = asyncio.Lock()
        self._listeners: list[Callable[[Notice], None]] = []
        self._waiting: deque[_Enqueue] = deque()
        self._gathering = False
        self._has_news = False
        """Whether jobs of this process have become ready that no claim has looked for."""
        self._quiet: dict[int, _Quiet] = {}
        """By worker."""
        self._looked: tuple[tuple[int, int], float] | None = None
        """The version that the last look met, and when that was."""
        self._workers = _Workers(None, [])
        self._leases: dict[int, int] = {}
        self._blocks = Blocks()
        # Each service has a heartbeat's thread, and `flock` knows no threads.
        self._renewing = threading.Lock()

    # Opening

    async def open(self) -> None:
        """See `Store.open`."""
        async with self._opening:
            if self._opened == 0:
                self._loop = asyncio.get_running_loop()
                self._pid = os.getpid()
                await self._loop.run_in_executor(None, self._open_files)
                self._wake_up = await WakeUp.start(self._nudged)
                self._writer.own_ports.add(self._wake_up.port)
                self._block = asyncio.Lock()
            self._opened += 1

    def _open_files(self) -> None:
        # Of several names for one file all must find the same locks, wherever the program goes.
        self.path = self.path.resolve()
        database.check_place(self.path)
        folder = self.path.with_name(self.path.name + "-locks")
        with ExitStack() as opened, database.translated(self.path):
            database.check_file(self.path)
            folder.mkdir(exist_ok=True)
            self._turnstile = opened.enter_context(closing(Turnstile(folder)))
            with self._turnstile:
                self._renewer = opened.enter_context(closing(database.connect(self.path)))
                database.migrate(self._renewer)
            self._file = database.StoreFile(self.path)
            self._liveness = opened.enter_context(closing(Liveness(folder)))
            self._reader = opened.enter_context(closing(database.connect(self.path)))
            with traffic:
                self._reader.execute("PRAGMA query_only = 1")
            self._reads = ThreadPoolExecutor(1, "durably-reader")
            opened.callback(self._reads.shutdown)
            own = OwnTransaction(self.path, folder, self._clock)
            self._own = opened.enter_context(closing(own))
            writer = Writer(self.path, folder, self._clock, self._settled)
            self._writer = opened.enter_context(closing(writer))
            self._files = opened.pop_all()

    async def close(self) -> None:
        """See `Store.close`."""
        async with self._opening:
            self._opened -= 1
            if self._opened == 0:
                self._wake_up.close()
                await self._loop.run_in_executor(None, self._files.close)

    def subscribe(self, listener: Callable[[Notice], None]) -> Callable[[], None]:
        """See `Store.subscribe`."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # Producing

    async def enqueue(self, jobs: Sequence[Draft], changes: Changes = NO_CHANGES) -> list[Job]:
        """See `Store.enqueue`. Calls that come together share one statement and one commit."""

        def operation(session: Session) -> list[Job]:
            session.check_versions(changes)
            stored = session.insert(jobs)
            session.apply(changes)
            return stored

        if changes:
            return await self._write(operation)
        self._check_open()
        future: asyncio.Future[list[Job]] = self._loop.create_future()
        self._waiting.append((jobs, future))
        if not self._gathering:
            self._gathering = True
            gathered: list[_Enqueue] = []
            self._writer.submit(
                lambda session: self._insert_gathered(session, gathered),
                lambda stored, error: self._settle_gathered(gathered, stored, error),
            )
            # What is asked for from now on stands behind them in the writer's queue.
            self._has_news = True
            self._notify(Notice(NoticeKind.COMING))
        return await future

    def _insert_gathered(self, session: Session, gathered: list[_Enqueue]) -> list[Job]:
        """On the writer's thread: insert all that has been asked for until now.

        What was taken stays in *gathered*, for the operation may be run again.
        """
        self._gather(gathered)
        return session.insert([draft for drafts, _ in gathered for draft in drafts])

    def _settle_gathered(
        self, gathered: list[_Enqueue], stored: Any, error: BaseException | None
    ) -> None:
        if error is not None and not gathered:
            self._gather(gathered)  # the transaction could not begin
        _settle_all(gathered, stored, error)

    def _gather(self, gathered: list[_Enqueue]) -> None:
        # First the flag: an enqueue that still sees it set has already joined the queue.
        self._gathering = False
        while self._waiting:
            gathered.append(self._waiting.popleft())

    async def enqueue_in(self, connection: object, jobs: Sequence[Draft]) -> list[Job]:
        """See `Store.enqueue_in`: takes a `sqlite3.Connection` to the same file."""
        self._check_open()
        if not isinstance(connection, sqlite3.Connection):
            raise TypeError(f"need a sqlite3.Connection, got {type(connection).__name__}")
        files = [row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main"]
        if not files[0] or not self.path.samefile(files[0]):
            raise ValueError(f"the connection is to {files[0] or ':memory:'!r}, not to {self.path}")
        # Its commits must not checkpoint beside our writer's (see `Writer`).
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        with database.translated(self.path):
            if not connection.in_transaction:
                connection.execute("BEGIN IMMEDIATE")
            return Session(connection, self._clock.now_us(), Effects()).insert(jobs)

    # Working

    async def register(self, info: WorkerInfo) -> int:
        """See `Store.register`."""
        name = f"{info.host}:{info.pid}"
        text = msgspec.json.encode(info).decode()
        lease_us = int(info.lease_s * 1e6)

        def operation(session: Session) -> int:
            session.see_boot(self._boot)
            number = session.register(name, text, lease_us, self._lease_end(lease_us), self._boot)
            session.set_worker(number, "wake_port", self._wake_up.port)
            # Before the commit: nobody may see the registration without its lock.
            self._liveness.hold(number)
            held.append(number)
            return number

        held: list[int] = []
        try:
            number = await self._write(operation)
        except BaseException:
            for number in held:  # another process will be given it
                self._liveness.drop(number)
            raise
        self._leases[number] = lease_us
        return number

    async def announce(self, worker: int, info: WorkerInfo) -> None:
        """See `Store.announce`."""
        text = msgspec.json.encode(info).decode()
        await self._write(lambda session: session.set_worker(worker, "info", text))

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
        """See `Store.exchange`. Takes no lock when there is nothing to write."""
        idle = Exchanged()

        ended = reports(outcomes)

        def operation(session: Session) -> tuple[Exchanged, Taken]:
            refused = session.record(ended) if outcomes else {}
            if started:
                session.begin(started)
            if activity is not None:
                session.save_activity(worker, activity)
            if held is not None:
                session.return_unknown(worker, held)
            seen = session.look(worker)
            if seen is None:
                return Exchanged(refused=refused, lost=True), NOTHING_TAKEN
            due_in = session.stage() if seen.due_in_s == 0 else seen.due_in_s
            taken = NOTHING_TAKEN
            if claim:
                heads = session.heads(claim, seen.paused)
                taken = session.claim(heads, claim, worker, seen.name)
            if taken.seqs:
                self._extend(session, worker, seen.expires_us)
            exchanged = Exchanged(
                refused=refused,
                cancel=seen.cancel,
                due_in_s=due_in,
                more=claim is not None and len(taken.seqs) >= claim.start + claim.reserve > 0,
            )
            return exchanged, taken

        def peek(session: Session) -> bool:
            """Whether there is anything to write; else what to answer."""
            nonlocal idle
            version = session.version(), self._writer.written
            self._looked = version, self._clock.monotonic()
            quiet = self._quiet.get(worker)
            if quiet is None or not quiet.holds(version, claim, session.now):
                seen = session.look(worker)
                if seen is None:
                    idle = Exchanged(lost=True)
                    return False
                if seen.due_in_s == 0 or (claim and session.heads(claim, seen.paused)):
                    return True
                quiet = _Quiet(version, claim, seen.due_at, seen.cancel)
                self._quiet[worker] = quiet
            idle = quiet.answer(session.now)
            return False

        news, self._has_news = self._has_news, False
        must_write = outcomes or started or held is not None or activity is not None
        # A claim that a power cut undoes has not been: the job waits as before, nobody has it.
        sure = must_write or (news and claim)
        done = await self._write(operation, peek=None if sure else peek, synced=bool(must_write))
        if done is None:
            return idle
        exchanged, taken = done
        with database.translated(self.path):
            return msgspec.structs.replace(exchanged, claimed=taken.claimed())

    def _extend(self, session: Session, worker: int, expires_us: int) -> None:
        """Renew on claiming: a worker that held nothing until now has not been renewing."""
        lease_us = self._leases.get(worker, 0)
        ends = self._lease_end(lease_us)
        if expires_us < ends - lease_us // 3:
            session.set_worker(worker, "expires_us", ends)

    async def checkpoint(
        self,
        lease: Lease,
        *,
        progress: Progress | None = None,
        step: tuple[str, str] | None = None,
        changes: Changes = NO_CHANGES,
    ) -> None:
        """See `Store.checkpoint`."""

        def operation(session: Session) -> None:
            session.owned(lease)
            session.check_versions(changes)
            if progress is not None:
                session.set_progress(lease.ref, msgspec.json.encode(progress).decode())
            if step is not None:
                session.save_step(lease.ref, *step)
            session.apply(changes, lease.job_id)

        await self._write(operation)

    async def steps(self, job_id: str) -> dict[str, str]:
        """See `Store.steps`."""
        if not is_storable(job_id):
            return {}
        return await self._read(
            lambda session: session.pairs(
                "SELECT name, durably_steps.result FROM durably_steps JOIN durably_jobs ON seq = job WHERE id = ?",
                job_id,
            )
        )

    @asynccontextmanager
    async def complete(
        self, lease: Lease, finish: Callable[[], Outcome], connection: object = None
    ) -> AsyncIterator[Transaction]:
        """See `Store.complete`: on a connection of its own, beside which no other can write."""
        if connection is not None:
            raise TypeError("on SQLite complete() has its own connection: use the block's `tx`")
        self._check_open()

        def check(session: Session) -> None:
            session.owned(lease)

        def record(session: Session) -> None:
            refused = session.record(reports([finish()]))
            if refused:
                raise refusal_error(refused[0], lease)

        async with self._block:
            await self._own.begin(check)
            try:
                with self._blocks.opened():
                    yield self._own
                    await self._own.commit(record)
            finally:
                await self._own.roll_back()
            effects = self._own.effects
        self._tell(effects)
        if effects.ready or effects.control:
            # The nudges of other processes go out with the next write or at their interval.
            self._writer.submit(lambda session: session.effects.add(effects), lambda *_: None)

    def renew(self, worker: int, memory_bytes: int | None = None) -> bool:
        """See `Store.renew`."""
        with database.translated(self.path), self._renewing, self._turnstile, traffic:
            self._renewer.execute("BEGIN IMMEDIATE")
            try:
                session = Session(self._renewer, self._clock.now_us(), Effects())
                ends = self._lease_end(self._leases.get(worker, 0))
                alive = session.renew(worker, ends, memory_bytes)
                self._file.commit(self._renewer)
            except BaseException:
                if self._renewer.in_transaction:
                    self._renewer.execute("ROLLBACK")
                raise
        return alive

    async def rescue(self, worker: int | None = None) -> Rescued:
        """See `Store.rescue`."""
        rows = await self._worker_rows()
        dead = [row for row in rows if row.id != worker and self._is_dead(row)]
        names, states = [], Counter[int]()
        for row in dead:
            rescued = await self._write(partial(self._rescue, row))
            if rescued is not None:
                states += rescued
                names.append(f"{row.name}:{row.id}")
                if sum(rescued.values()) < BATCH:
                    self._liveness.forget(row.id)
        return Rescued(
            workers=tuple(names),
            ready=states[State.READY],
            final=states[State.FAILED] + states[State.CANCELLED],
        )

    async def _worker_rows(self) -> list[WorkerRow]:
        """The registrations: those read before, when a look has just found that nobody has written."""
        version = None
        if self._looked and self._clock.monotonic() - self._looked[1] <= _JUST_LOOKED_S:
            version = self._looked[0]
            if version[1] != self._writer.written:
                version = None
        if version is None or version != self._workers.version:
            rows = await self._read(lambda session: list(session.worker_rows()))
            self._workers = _Workers(version, rows)
        return self._workers.rows

    def _is_dead(self, row: WorkerRow) -> bool:
        now = int(self._clock.monotonic() * 1e6)
        lapsed = row.held > 0 and (row.boot != self._boot or row.expires_us <= now)
        return lapsed or self._liveness.is_dead(row.id)

    def _rescue(self, seen: WorkerRow, session: Session) -> Counter[int] | None:
        """Take one batch, unless the worker has renewed, or was rescued, since it was seen."""
        row = session.worker_row(seen.id)
        if row is None or (row != seen and not self._liveness.is_dead(seen.id)):
            return None
        states = session.crash(seen.id, f"{seen.name}:{seen.id}")
        if sum(states.values()) < BATCH:
            session.delete_worker(seen.id)
        return states

    async def resign(self, worker: int) -> None:
        """See `Store.resign`."""

        def operation(session: Session) -> None:
            session.return_unknown(worker, ())
            session.delete_worker(worker)

        try:
            await self._write(operation)
        finally:
            self._liveness.drop(worker)
            self._quiet.pop(worker, None)

    # Records and events

    async def write(self, changes: Changes) -> None:
        """See `Store.write`."""

        def operation(session: Session) -> None:
            session.check_versions(changes)
            session.apply(changes)

        await self._write(operation)

    async def record(self, kind: str, id: str) -> Record | None:
        """See `Store.record`."""
        if not is_storable(id):
            return None
        found = await self._read(lambda session: session.records(kind, "AND id = ?", id))
        return found[0] if found else None

    async def records(
        self, kind: str, *, limit: int = 100, after: str | None = None, newest_first: bool = False
    ) -> list[Record]:
        """See `Store.records`."""
        direction, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        where = f"AND (? IS NULL OR id {beyond} ?) ORDER BY id {direction} LIMIT ?"
        return await self._read(lambda session: session.records(kind, where, after, after, limit))

    async def count_records(self, kind: str) -> int:
        """See `Store.count_records`."""
        return await self._read(lambda session: session.number(f"records:{kind}"))

    async def events(
        self,
        *,
        after: int = 0,
        subject: str | None = None,
        limit: int = 100,
        newest_first: bool = False,
    ) -> list[Event]:
        """See `Store.events`."""
        if subject is not None and not is_storable(subject):
            return []
        if newest_first and after <= 0:
            after = _PAST_ALL_IDS
        return await self._read(
            lambda session: session.events(after, subject, limit, newest_first=newest_first)
        )

    async def prune_events(self, subject: str, older_than_s: float) -> int:
        """See `Store.prune_events`."""
        before = self._clock.now_us() - int(older_than_s * 1e6)
        old = await self._read(lambda session: session.old_events(subject, before))
        if old:
            await self._write(lambda session: session.delete_events(old))
        return len(old)

    # Control

    async def cancel(self, job_id: str, changes: Changes = NO_CHANGES) -> Job:
        """See `Store.cancel`."""
        return await self._control(lambda session: session.cancel(job_id), changes)

    async def retry(
        self, job_id: str, payload: str | None = None, changes: Changes = NO_CHANGES
    ) -> Job:
        """See `Store.retry`."""
        return await self._control(lambda session: session.redrive(job_id, payload), changes)

    async def delete(self, job_id: str, changes: Changes = NO_CHANGES) -> None:
        """See `Store.delete`."""
        await self._control(lambda session: session.delete(job_id), changes)

    async def act(
        self, action: BulkAction, ids: Sequence[str], changes: Changes = NO_CHANGES
    ) -> Acted:
        """See `Store.act`."""
        return await self._control(lambda session: session.act(action, ids), changes)

    async def wake(self, type: str, unique_keys: Sequence[str]) -> int:
        """See `Store.wake`."""
        keys = [key for key in unique_keys if is_storable(key)]
        if not keys or not is_storable(type):
            return 0
        woken = await self._write(
            lambda session: session.wake(type, keys),
            peek=lambda session: bool(session.asleep(type, keys)),
        )
        return woken or 0

    async def pause(self, queue: str, *, paused: bool, changes: Changes = NO_CHANGES) -> None:
        """See `Store.pause`."""
        await self._control(lambda session: session.pause(queue, paused=paused), changes)

    async def _control(self, change: Callable[[Session], _T], changes: Changes) -> _T:
        """Do *change* and *changes*; what refuses either does so before it has written."""

        def operation(session: Session) -> _T:
            session.check_versions(changes)
            done = change(session)
            session.apply(changes)
            return done

        return await self._write(operation)

    async def paused(self) -> frozenset[str]:
        """See `Store.paused`."""
        return await self._read(lambda session: session.paused())

    async def cleanup(self, older_than_s: float, *, slack_s: float = 0.0) -> int:  # noqa: ARG002
        """See `Store.cleanup`. A batch at a time, so that others get their turn in between."""
        before = self._clock.now_us() - int(older_than_s * 1e6)
        removed = 0
        while batch := await self._write(
            lambda session: session.cleanup(before), peek=lambda session: session.has_older(before)
        ):
            removed += batch
        return removed

    # Inspecting

    async def get(self, job_id: str) -> Job | None:
        """See `Store.get`."""
        if not is_storable(job_id):
            return None

        def query(session: Session) -> Job | None:
            found = session.load("id = ?", job_id)
            return found[0].to_job() if found else None

        return await self._read(query)

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
        if not all(map(is_storable, filter(None, (type, queue)))):
            return []
        states = tuple(State) if status is None else STATES_OF[status]
        return await self._read(
            lambda session: [
                record.to_job() for record in session.find(states, type, queue, limit, after)
            ]
        )

    async def search(
        self, where: Search, *, limit: int, after: int | None = None, scan: int = SCAN_MOST
    ) -> Found:
        """See `Store.search`."""
        if not where.may_match:
            return Found([])
        return await self._read(
            lambda session: session.search(where, limit, after, scan), steady=True
        )

    async def match_ids(
        self, where: Search, *, limit: int, after: int | None = None, scan: int = SCAN_MOST
    ) -> FoundIds:
        """See `Store.match_ids`."""
        if not where.may_match:
            return FoundIds([])
        return await self._read(
            lambda session: session.match_ids(where, limit, after, scan), steady=True
        )

    async def children(self, job_id: str, *, limit: int = 100) -> list[Job]:
        """See `Store.children`."""
        if not is_storable(job_id):
            return []
        return await self._read(
            lambda session: [record.to_job() for record in session.children(job_id, limit)]
        )

    async def stats(self) -> StoreStats:
        """See `Store.stats`."""
        await self._stage_due()
        return await self._read(lambda session: session.stats())

    async def oldest_ready(self) -> tuple[Oldest, ...]:
        """See `Store.oldest_ready`."""
        await self._stage_due()
        return await self._read(lambda session: session.oldest_ready())

    async def _stage_due(self) -> None:
        """Make due jobs ready, for figures; not where that would wait for its own block."""
        if not self._blocks.around:
            await self._write(Session.stage, peek=Session.is_due)

    async def workers(self) -> list[WorkerState]:
        """See `Store.workers`."""
        return await self._read(
            lambda session: [
                WorkerState(
                    id=row.id,
                    info=msgspec.json.decode(row.info, type=WorkerInfo),
                    alive=not self._is_dead(row),
                    held=row.held,
                    renewed_ago_s=self._renewed_ago(row),
                    memory_bytes=row.memory,
                )
                for row in session.worker_rows()
            ]
        )

    def _renewed_ago(self, row: WorkerRow) -> float | None:
        if row.boot != self._boot:
            return None
        return max(0.0, self._clock.monotonic() - (row.expires_us - row.lease_us) / 1e6)

    # Moving to another store

    async def dump(self, part: Part, *, after: Row | None, limit: int) -> list[Row]:
        """See `Store.dump`."""
        return await self._read(lambda session: session.dump(part, after, limit))

    async def load(self, part: Part, rows: Sequence[Row]) -> None:
        """See `Store.load`."""
        await self._write(lambda session: session.load_rows(part, rows))

    # Threads

    @overload
    async def _write(
        self, operation: Callable[[Session], _T], *, peek: None = None, synced: bool = True
    ) -> _T: ...
    @overload
    async def _write(
        self, operation: Callable[[Session], _T], *, peek: Peek | None, synced: bool = True
    ) -> _T | None: ...
    async def _write(
        self, operation: Callable[[Session], _T], *, peek: Peek | None = None, synced: bool = True
    ) -> _T | None:
        """Run *operation* on the writer's thread, if *peek* says so; see `Writer.submit`."""
        self._check_open()
        future: asyncio.Future[_T | None] = self._loop.create_future()
        self._writer.submit(operation, partial(_settle, future), peek=peek, synced=synced)
        return await future

    async def _read(self, query: Callable[[Session], _T], *, steady: bool = False) -> _T:
        """Ask beside the writer; with *steady* all statements of *query* see one state of the file."""
        self._check_open(writing=False)

        def run() -> _T:
            with database.translated(self.path), traffic:
                session = Session(self._reader, self._clock.now_us(), Effects())
                if not steady:
                    return query(session)
                self._reader.execute("BEGIN")
                try:
                    return query(session)
                finally:
                    self._reader.execute("ROLLBACK")

        return await self._loop.run_in_executor(self._reads, run)

    def _check_open(self, *, writing: bool = True) -> None:
        if self._opened < 1:
            raise StoreClosedError("the store is not open: use `async with` on the service")
        if os.getpid() != self._pid:
            # Here its threads do not exist: whoever waited for them would wait for ever.
            raise StoreClosedError(
                "the store was opened before a fork: open a service in this process"
            )
        if writing and self._blocks.around:
            raise StoreBusyError(
                "inside complete() other writes would wait for it for ever; use its `tx`"
            )

    def _settled(self, settled: Settled, effects: Effects) -> None:
        """On the writer's thread: hand results to the loop."""
        # The loop may have been closed without us: then nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, settled, effects)

    def _settle(self, settled: Settled, effects: Effects) -> None:
        for done, result, error in settled:
            done(result, error)
        self._tell(effects)

    def _tell(self, effects: Effects) -> None:
        if effects.finished:
            self._notify(Notice(NoticeKind.FINISHED, tuple(effects.finished)))
        if effects.ready:
            self._has_news = True
            self._notify(Notice(NoticeKind.READY))
        if effects.control:
            self._notify(Notice(NoticeKind.CONTROL))
        if effects.events:
            self._notify(Notice(NoticeKind.EVENTS))

    def _nudged(self) -> None:
        self._notify(Notice(NoticeKind.READY))
        self._notify(Notice(NoticeKind.CONTROL))

    def _notify(self, notice: Notice) -> None:
        for listener in tuple(self._listeners):
            listener(notice)

    def _lease_end(self, lease_us: int) -> int:
        return int(self._clock.monotonic() * 1e6) + lease_us


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return  # whoever asked has been cancelled
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _settle_all(gathered: list[_Enqueue], stored: Any, error: BaseException | None) -> None:
    position = 0
    for drafts, future in gathered:
        part = None if error is not None else stored[position : position + len(drafts)]
        _settle(future, part, error)
        position += len(drafts)
