"""The store on PostgreSQL: what each operation asks of the connections.

One connection writes (group commit), a few read, one listens, one holds the locks that say that
workers live and renews leases from its own thread, and a few more serve what may take its time:
`complete` and `cleanup`.
"""

import asyncio
import contextlib
import os
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import asyncpg
import msgspec

from durably.domain.bulk import Acted, BulkAction
from durably.domain.claiming import Claim, choose
from durably.domain.clock import Clock, SystemClock
from durably.domain.errors import StoreBusyError, StoreClosedError
from durably.domain.job import STATES_OF, Draft, Job, JobStatus, Progress, State
from durably.domain.outcome import NO_CHANGES, Changes, Event, Lease, Outcome, Record
from durably.domain.search import SCAN_MOST, Found, FoundIds, Search
from durably.store import (
    Activity,
    Capabilities,
    Claimed,
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
from durably.stores.postgres import database
from durably.stores.postgres.database import (
    BY_INDEX,
    Connection,
    address_of,
    numbered,
    rows_of,
    translating,
)
from durably.stores.postgres.foreign import adapted
from durably.stores.postgres.frontier import Frontier
from durably.stores.postgres.holder import Holder
from durably.stores.postgres.listener import Listener
from durably.stores.postgres.servertime import DATABASE_TIME, ServerTime
from durably.stores.postgres.session import BATCH, SHARDS, Effects, Session, WorkerRow, is_storable
from durably.stores.postgres.writer import Operation, Writer

_T = TypeVar("_T")
_Enqueue = tuple[Sequence[Draft], "asyncio.Future[list[Job]]"]
_READERS = 4
LOCK_LOST_S = 0.5
"""So long a worker may be without its lock, to connect again, before it is taken for dead."""
_FORGOTTEN_AFTER_US = 86_400_000_000
_APART = 4
"""Connections for `complete` and `cleanup`."""
_PAST_ALL_IDS = 2**63 - 1


class PostgresStore:
    """Durable on a PostgreSQL server, for any number of processes on any number of machines.

    Args:
        url: ``postgresql://user@host/database``, with ``?schema=durably`` for another schema.
        clock: where time comes from; None or the system's: the database's own.
    """

    capabilities = Capabilities(durable=True, sql=True)

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self.address = address_of(url)
        self.url = self.address.shown
        self._clock = None if clock is None or isinstance(clock, SystemClock) else clock
        self._shard = random.randrange(SHARDS)  # noqa: S311  # spreads rows
        self._opened = 0
        self._opening = asyncio.Lock()
        self._listeners: list[Callable[[Notice], None]] = []
        self._waiting: deque[_Enqueue] = deque()
        self._gathering = False
        self._server_time = ServerTime(SystemClock().monotonic)
        self._frontier = Frontier()
        self._spans: set[int] = set()
        self._blocks = Blocks()
        self._nudging: asyncio.Task[None] | None = None

    # Opening

    async def open(self) -> None:
        """See `Store.open`."""
        async with self._opening:
            if self._opened == 0:
                await self._connect()
            self._opened += 1

    async def _connect(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        async with translating(self.address):
            # It keeps no statements as long as it may be a pooler's.
            first = await database.connect(self.address._replace(pooled=True))
            try:
                pooled = await database.is_pooled(first)
                self.address = self.address._replace(pooled=pooled)
                await database.migrate(first, self.address)
                async with first.transaction():
                    session = await self._session(first, Effects(), timed=False)
                    self._id = await session.store_id()
            finally:
                await first.close()
            self._readers = await self._pool(_READERS, reset=_nothing, by_index=not pooled)
            # A pooler's session is also others': nothing of it is ours to reset.
            self._apart = await self._pool(_APART, reset=_nothing if pooled else None)
        self._holder = Holder(self.address, self._now_sql)
        try:
            await asyncio.to_thread(self._holder.call, self._holder.open())
        except BaseException:
            await self._release()
            raise
        self._writer = Writer(self.address, self._session, self._tell)
        self._listener = (
            Listener(self.address, self._channel, self._heard)
            if self.address.has_sessions
            else None
        )

    async def _pool(
        self,
        most: int,
        *,
        reset: Callable[[Connection], Awaitable[None]] | None,
        by_index: bool = False,
    ) -> "asyncpg.Pool[asyncpg.Record]":
        return await asyncpg.create_pool(
            self.address.dsn,
            min_size=0,
            max_size=most,
            command_timeout=60,
            statement_cache_size=self.address.statements_kept,
            server_settings=BY_INDEX if by_index else {},
            reset=reset,
        )

    async def close(self) -> None:
        """See `Store.close`."""
        async with self._opening:
            self._opened -= 1
            if self._opened == 0:
                await self._writer.close()
                if self._nudging is not None:
                    self._nudging.cancel()
                    await asyncio.wait([self._nudging])
                if self._listener is not None:
                    await self._listener.close()
                await self._release()

    async def _release(self) -> None:
        await asyncio.to_thread(self._holder.call, self._holder.close())
        await self._readers.close()
        await self._apart.close()

    @property
    def _channel(self) -> str:
        return f"durably_{self.address.schema}"

    def subscribe(self, listener: Callable[[Notice], None]) -> Callable[[], None]:
        """See `Store.subscribe`."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # Producing

    async def enqueue(self, jobs: Sequence[Draft], changes: Changes = NO_CHANGES) -> list[Job]:
        """See `Store.enqueue`. Calls that come together share one statement and one commit."""

        async def operation(session: Session) -> list[Job]:
            await session.check_versions(changes)
            stored = await session.insert(jobs)
            await session.apply(changes)
            return stored

        if changes:
            return await self._write(operation)
        self._check_open()
        if not self._gathering:
            # Nobody's task: whoever comes first may be cancelled, the others wait all the same.
            gathered: list[_Enqueue] = []
            inserting = self._writer.post(partial(self._insert_gathered, gathered), lone=True)
            inserting.add_done_callback(partial(self._inserted, gathered))
            self._gathering = True
        future: asyncio.Future[list[Job]] = self._loop.create_future()
        self._waiting.append((jobs, future))
        return await future

    async def _insert_gathered(self, gathered: list[_Enqueue], session: Session) -> list[Job]:
        """Insert all that has been asked for until now, when the transaction has begun."""
        # What was taken stays, for the operation may be run again.
        self._gather(gathered)
        return await session.insert([draft for drafts, _ in gathered for draft in drafts])

    def _inserted(self, gathered: list[_Enqueue], inserting: "asyncio.Future[list[Job]]") -> None:
        """Tell whoever waits what became of it."""
        if inserting.cancelled() or inserting.exception() is not None:
            self._gather(gathered)
            for _, future in gathered:
                if not future.done():
                    _fail(future, inserting)
            return
        stored = inserting.result()
        position = 0
        for drafts, future in gathered:
            if not future.done():
                future.set_result(stored[position : position + len(drafts)])
            position += len(drafts)

    def _gather(self, gathered: list[_Enqueue]) -> None:
        self._gathering = False
        while self._waiting:
            gathered.append(self._waiting.popleft())

    async def enqueue_in(self, connection: object, jobs: Sequence[Draft]) -> list[Job]:
        """See `Store.enqueue_in`: takes the connections that `foreign.adapted` knows."""
        self._check_open()
        async with translating(self.address):
            session = await self._callers(await adapted(connection))
            stored = await session.insert(jobs)
            await session.finish()
            return stored

    async def _callers(self, connection: Connection) -> Session:
        """A session in the caller's transaction, which may last."""
        session = await self._session(connection, Effects())
        if await session.store_id() != self._id:
            raise ValueError(f"the connection is not to {self.url}, schema {self.address.schema}")
        await session.own_shard()
        return session

    # Working

    async def register(self, info: WorkerInfo) -> int:
        """See `Store.register`."""
        name = f"{info.host}:{info.pid}"
        text = msgspec.json.encode(info).decode()
        lease_us = int(info.lease_s * 1e6)
        number = int(await self._read(lambda s: s._value("SELECT nextval('@worker_ids')")))  # noqa: SLF001
        # Before the commit: nobody may see the registration without its lock.
        await asyncio.to_thread(self._holder.call, self._holder.hold(number))

        async def operation(session: Session) -> None:
            await session.need_history()
            await session._run(  # noqa: SLF001
                "INSERT INTO @workers VALUES ($1, $2, $3, $4, $5, $6)",
                *(number, name, text, lease_us, session.now + lease_us),
                self.address.has_sessions,
            )

        try:
            await self._write(operation)
        except BaseException:
            await asyncio.to_thread(self._holder.call, self._holder.drop(number))
            raise
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
        """See `Store.exchange`.

        Who has nothing to tell looks without a lock, then leases in one statement what is still
        free: no transaction, and no lock where there is nothing to take.
        """

        async def operation(session: Session) -> Exchanged:
            refused = await session.record(outcomes) if outcomes else {}
            if started:
                await session.begin(started)
            if activity is not None:
                await session.save_activity(worker, activity)
            if held is not None:
                await session.return_unknown(worker, held)
            seen = await session.look(worker, claim, lock=session.in_block)
            due_in = seen.due_in
            if due_in == 0:
                due_in = await session.stage()
                seen = await session.look(worker, claim, lock=session.in_block)
            if seen.name is None:
                return Exchanged(refused=refused, lost=True)
            claimed: tuple[Claimed, ...] = ()
            more = False
            if claim is not None:
                chosen = list(choose(seen.heads, claim))
                claimed = await session.claim(chosen, seen, worker, locked=session.in_block)
                # Behind what others took first there may be more.
                more = len(claimed) < len(chosen) or len(claimed) >= claim.start + claim.reserve > 0
            return Exchanged(
                refused=refused, claimed=claimed, cancel=seen.cancelling, due_in_s=due_in, more=more
            )

        tells = outcomes or started or held is not None or activity is not None
        # A pooler's session knows how to plan only inside a transaction.
        lone = not (tells or self.address.pooled)
        done = await self._write(operation, lone=lone)
        if lone and done.more and not done.claimed:
            # Others took all that it saw, or hold it: the locks tell what they leave.
            done = await self._write(operation)
        return done

    async def checkpoint(
        self,
        lease: Lease,
        *,
        progress: Progress | None = None,
        step: tuple[str, str] | None = None,
        changes: Changes = NO_CHANGES,
    ) -> None:
        """See `Store.checkpoint`."""

        async def operation(session: Session) -> None:
            await session.owned(lease)
            await session.check_versions(changes)
            if progress is not None:
                await session.set_progress(lease.job_id, msgspec.json.encode(progress).decode())
            if step is not None:
                await session.save_step(lease.job_id, *step)
            await session.apply(changes, lease.job_id)

        await self._write(operation)

    async def steps(self, job_id: str) -> dict[str, str]:
        """See `Store.steps`."""
        if not is_storable(job_id):
            return {}
        rows = await self._read(lambda session: session.steps(job_id))
        return {row[0]: row[1] for row in rows}

    @asynccontextmanager
    async def complete(
        self, lease: Lease, finish: Callable[[], Outcome], connection: object = None
    ) -> AsyncIterator[Transaction]:
        """See `Store.complete`."""
        self._check_open()
        if connection is None:
            async with self._complete(lease, finish) as transaction:
                yield transaction
        else:
            async with self._complete_in(connection, lease, finish) as transaction:
                yield transaction

    @asynccontextmanager
    async def _complete_in(
        self, connection: object, lease: Lease, finish: Callable[[], Outcome]
    ) -> AsyncIterator[Transaction]:
        async with translating(self.address):
            callers = await adapted(connection)
            session = await self._callers(callers)
            await session.owned(lease)
        with self._blocks.opened():
            yield _Own(callers)
        async with translating(self.address):
            refusal = await session.record_one(finish())
            if refusal is not None:
                raise refusal_error(refusal, lease)
            await session.finish()

    @asynccontextmanager
    async def _complete(
        self, lease: Lease, finish: Callable[[], Outcome]
    ) -> AsyncIterator[Transaction]:
        effects = Effects()
        async with self._alone() as connection:
            async with translating(self.address):
                await (await self._session(connection, Effects())).owned(lease)
            with self._blocks.opened():
                yield _Own(connection)
            async with translating(self.address):
                session = await self._session(connection, effects)
                refusal = await session.record_one(finish())
                if refusal is not None:
                    raise refusal_error(refusal, lease)
                await session.finish()
        self._tell(effects)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[Connection]:
        """A transaction on a connection beside the others, which it does not hold up.

        Errors from within come through as they are: they may be the handler's own.
        """
        async with translating(self.address):
            connection = await self._apart.acquire()
        try:
            transaction = connection.transaction()
            async with translating(self.address):
                await transaction.start()
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(Exception):
                    await transaction.rollback()
                raise
            async with translating(self.address):
                await transaction.commit()
        finally:
            with contextlib.suppress(Exception):
                await self._apart.release(connection)

    def renew(self, worker: int, memory_bytes: int | None = None) -> bool:
        """See `Store.renew`."""
        return self._holder.call(self._holder.renew(worker, memory_bytes))

    async def rescue(self, worker: int | None = None) -> Rescued:
        """See `Store.rescue`."""

        async def look(session: Session) -> list[WorkerRow]:
            rows = await session.worker_rows()
            return [row for row in rows if row.id != worker and _is_dead(row, session.now)]

        names, states = [], Counter[int]()
        dead = await self._read(look, timed=True)
        if any(row.locks and not row.locked for row in dead):
            # Its connection may be lost and not its process, which then is back at once.
            await asyncio.sleep(LOCK_LOST_S)
            dead = await self._read(look, timed=True)
        for row in dead:
            rescued = await self._write(partial(self._rescue, row))
            if rescued is not None:
                states += rescued
                names.append(f"{row.name}:{row.id}")
        return Rescued(
            workers=tuple(names),
            ready=states[State.READY],
            final=states[State.FAILED] + states[State.CANCELLED],
        )

    async def _rescue(self, seen: WorkerRow, session: Session) -> Counter[int] | None:
        """Take one batch, unless the worker has renewed, or was rescued, since it was seen."""
        await session._fetch("SELECT FROM @workers WHERE id = $1 FOR UPDATE", seen.id)  # noqa: SLF001
        rows = await session.worker_rows(seen.id)
        if not rows or not _is_dead(rows[0], session.now):
            return None
        states = await session.crash(seen.id, f"{seen.name}:{seen.id}")
        if sum(states.values()) < BATCH:
            await session.delete_worker(seen.id)
        return states

    async def resign(self, worker: int) -> None:
        """See `Store.resign`."""

        async def operation(session: Session) -> None:
            await session.return_unknown(worker, ())
            await session.delete_worker(worker)

        try:
            await self._write(operation)
        finally:
            await asyncio.to_thread(self._holder.call, self._holder.drop(worker))

    # Records and events

    async def write(self, changes: Changes) -> None:
        """See `Store.write`."""

        async def operation(session: Session) -> None:
            await session.check_versions(changes)
            await session.apply(changes)

        await self._write(operation)

    async def record(self, kind: str, id: str) -> Record | None:
        """See `Store.record`."""
        if not is_storable(id):
            return None
        found = await self._read(lambda session: session.records(kind, "AND id = $2", id))
        return found[0] if found else None

    async def records(
        self, kind: str, *, limit: int = 100, after: str | None = None, newest_first: bool = False
    ) -> list[Record]:
        """See `Store.records`."""
        direction, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        where = f"AND ($2::text IS NULL OR id {beyond} $2) ORDER BY id {direction} LIMIT $3"
        return await self._read(lambda session: session.records(kind, where, after, limit))

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
        return await self._write(
            lambda session: session.prune_events(subject, session.now - int(older_than_s * 1e6))
        )

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
        return await self._write(lambda session: session.wake(type, keys))

    async def pause(self, queue: str, *, paused: bool, changes: Changes = NO_CHANGES) -> None:
        """See `Store.pause`."""
        await self._control(lambda session: session.pause(queue, paused=paused), changes)

    async def _control(self, change: Callable[[Session], Awaitable[_T]], changes: Changes) -> _T:
        """Do *change* and *changes*; what refuses either does so before it has written."""

        async def operation(session: Session) -> _T:
            await session.check_versions(changes)
            done = await change(session)
            await session.apply(changes)
            return done

        return await self._write(operation)

    async def paused(self) -> frozenset[str]:
        """See `Store.paused`."""
        return await self._read(lambda session: session.paused())

    async def cleanup(self, older_than_s: float, *, slack_s: float = 0.0) -> int:
        """See `Store.cleanup`. Whole partitions first, then single jobs in batches."""
        removed = 0
        await self._remove(_fold, 0.0)
        for remove, age_s in (
            (Session.drop_history, older_than_s),
            (Session.cleanup, older_than_s + slack_s),
        ):
            while batch := await self._remove(remove, age_s):
                removed += batch
        return removed

    async def _remove(self, remove: Callable[[Session, int], Awaitable[int]], age_s: float) -> int:
        self._check_open()
        async with translating(self.address), self._alone() as connection:
            session = await self._session(connection, Effects())
            removed = await remove(session, session.now - int(age_s * 1e6))
            await session.finish()
        return removed

    # Inspecting

    async def get(self, job_id: str) -> Job | None:
        """See `Store.get`."""
        found = await self._read(lambda session: session.get(job_id))
        return None if found is None else found.to_job()

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
        found = await self._read(lambda session: session.find(states, type, queue, limit, after))
        return [record.to_job() for record in found]

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
        found = await self._read(lambda session: session.children(job_id, limit))
        return [record.to_job() for record in found]

    async def stats(self) -> StoreStats:
        """See `Store.stats`."""
        await self._stage_due()
        return await self._read(lambda session: session.stats(), timed=True)

    async def oldest_ready(self) -> tuple[Oldest, ...]:
        """See `Store.oldest_ready`."""
        await self._stage_due()
        return await self._read(lambda session: session.oldest_ready(), timed=True)

    async def _stage_due(self) -> None:
        """Make due jobs ready, for figures; not where that would wait for its own block."""
        if not self._blocks.around and await self._read(Session.due_in, timed=True) == 0:
            await self._write(Session.stage)

    async def workers(self) -> list[WorkerState]:
        """See `Store.workers`."""

        async def look(session: Session) -> list[WorkerState]:
            return [
                WorkerState(
                    id=row.id,
                    info=msgspec.json.decode(row.info, type=WorkerInfo),
                    alive=not _is_dead(row, session.now),
                    held=row.held,
                    renewed_ago_s=max(0, session.now - (row.expires_us - row.lease_us)) / 1e6,
                    memory_bytes=row.memory,
                )
                for row in await session.worker_rows()
            ]

        return await self._read(look, timed=True)

    # Moving to another store

    async def dump(self, part: Part, *, after: Row | None, limit: int) -> list[Row]:
        """See `Store.dump`."""
        return await self._read(lambda session: session.dump(part, after, limit))

    async def load(self, part: Part, rows: Sequence[Row]) -> None:
        """See `Store.load`."""
        if rows:
            await self._write(lambda session: session.load_rows(part, rows))

    # Connections

    def _now_sql(self) -> str:
        return DATABASE_TIME if self._clock is None else str(self._clock.now_us())

    async def _session(
        self,
        connection: Connection,
        effects: Effects,
        *,
        timed: bool = True,
        in_block: bool = True,
    ) -> Session:
        if not timed:
            now = 0
        elif self._clock is None:
            now = await self._server_time.now_us(connection)
        else:
            now = self._clock.now_us()
        return Session(
            connection,
            schema=self.address.schema,
            now=now,
            effects=effects,
            shard=self._shard,
            lock_class=self.address.lock_class,
            frontier=self._frontier,
            spans=self._spans,
            in_block=in_block,
        )

    async def _write(
        self, operation: Callable[[Session], Awaitable[_T]], *, lone: bool = False
    ) -> _T:
        """Run *operation* with others in a transaction; returns when it is committed.

        For *lone* ones see `Writer.submit`.
        """
        self._check_open()
        checked: Operation = operation
        return await self._writer.submit(checked, lone=lone)  # type: ignore[no-any-return]

    async def _read(
        self,
        query: Callable[[Session], Awaitable[_T]],
        *,
        timed: bool = False,
        steady: bool = False,
    ) -> _T:
        """Ask one connection.

        Args:
            query: what.
            timed: its session knows the time.
            steady: all its statements see one state of the database.
        """
        self._check_open(writing=False)
        async with translating(self.address), self._readers.acquire() as connection:
            if not (self.address.pooled or steady):
                return await query(await self._session(connection, Effects(), timed=timed))
            async with connection.transaction(isolation="repeatable_read" if steady else None):
                return await query(await self._session(connection, Effects(), timed=timed))

    def _check_open(self, *, writing: bool = True) -> None:
        if self._opened < 1:
            raise StoreClosedError("the store is not open: use `async with` on the service")
        if os.getpid() != self._pid:
            # Two processes must not speak on one connection.
            raise StoreClosedError(
                "the store was opened before a fork: open a service in this process"
            )
        if writing and self._blocks.around:
            raise StoreBusyError(
                "inside complete() other writes might wait for it for ever; use its `tx`"
            )

    # Telling

    def _tell(self, effects: Effects) -> None:
        self._spans |= effects.spans
        if effects.finished:
            self._notify(Notice(NoticeKind.FINISHED, tuple(effects.finished)))
        if effects.ready:
            self._notify(Notice(NoticeKind.READY))
        if effects.control:
            self._notify(Notice(NoticeKind.CONTROL))
        if effects.events:
            self._notify(Notice(NoticeKind.EVENTS))
        if (effects.ready or effects.control) and (self._nudging is None or self._nudging.done()):
            self._nudging = self._loop.create_task(self._nudge(), name="durably-nudge")

    async def _nudge(self) -> None:
        """Wake the workers of other processes; whoever misses it looks at its interval."""
        with contextlib.suppress(Exception):
            async with self._readers.acquire() as connection:
                await connection.execute(f"NOTIFY {self._channel}")

    def _heard(self) -> None:
        self._notify(Notice(NoticeKind.READY))
        self._notify(Notice(NoticeKind.CONTROL))

    def _notify(self, notice: Notice) -> None:
        for listener in tuple(self._listeners):
            listener(notice)


async def _fold(session: Session, _: int) -> int:
    await session.fold_figures()
    return 0


async def _nothing(_: Connection) -> None:
    """What our readers leave behind needs no round trip to be tidied up."""


def _fail(future: "asyncio.Future[Any]", like: "asyncio.Future[Any]") -> None:
    """End *future* as the other one has ended, which is not well."""
    error = None if like.cancelled() else like.exception()
    if error is None:
        future.cancel()
    else:
        future.set_exception(error)


class _Own:
    """The handler's own SQL in the transaction that records its outcome."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(self, sql: str, *args: Any) -> int:
        """See `Transaction.execute`."""
        return rows_of(await self._connection.execute(numbered(sql, len(args)), *args))

    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """See `Transaction.fetch`."""
        rows = await self._connection.fetch(numbered(sql, len(args)), *args)
        return [tuple(row) for row in rows]


def _is_dead(row: WorkerRow, now: int) -> bool:
    if row.locks and not row.locked:
        return True
    # An idle worker renews nothing. Without a lock it is forgotten in the end all the same.
    patience = 0 if row.held else _FORGOTTEN_AFTER_US
    return row.expires_us + patience <= now and (row.held > 0 or not row.locks)
