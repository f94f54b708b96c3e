"""A store whose operations fail as a plan says: not applied, reply lost, late, twice, process dead."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from enum import StrEnum
from random import Random
from typing import NamedTuple, TypeVar

from durably.domain.bulk import Acted, BulkAction
from durably.domain.claiming import Claim
from durably.domain.errors import DurablyError, StoreError
from durably.domain.job import Draft, Job, JobStatus, Progress
from durably.domain.outcome import NO_CHANGES, Changes, Event, Lease, Outcome, Record
from durably.domain.search import SCAN_MOST, Found, FoundIds, Search
from durably.store import (
    Activity,
    Exchanged,
    Notice,
    Oldest,
    Part,
    Rescued,
    Row,
    Store,
    StoreStats,
    Transaction,
    WorkerInfo,
    WorkerState,
)

DELAY_TURNS = 25
"""So many turns of the event loop a delayed call comes late: others overtake it."""

_T = TypeVar("_T")


class Fault(StrEnum):
    """What happens to one call."""

    FAIL_BEFORE = "fail before"
    """StoreError, and nothing was applied."""
    FAIL_AFTER = "fail after"
    """The reply is lost: StoreError, but the operation was carried out."""
    DELAY = "delay"
    """Carried out late."""
    DUPLICATE = "duplicate"
    """Carried out twice, where the protocol lets the caller repeat it; else once."""
    CRASH_BEFORE = "crash before"
    """SimulatedCrash, and nothing was applied."""
    CRASH_AFTER = "crash after"
    """The operation was carried out, then SimulatedCrash."""


class SimulatedCrash(BaseException):
    """The process is dead: every later call of the same `FaultyStore` raises this again."""


class Call(NamedTuple):
    """One call of a store's operation."""

    name: str
    """The operation, as in `Store`."""
    number: int
    """The how-manyeth call of any operation, from 1."""
    nth: int
    """The how-manyeth call of this operation, from 1."""


Plan = Callable[[Call], Fault | None]
"""Asked once before each call. A plan that records and gives None only watches."""


def on_call(number: int, fault: Fault, operation: str | None = None) -> Plan:
    """*fault* at the call with this *number*: of *operation*, or None: of any."""

    def plan(call: Call) -> Fault | None:
        if operation is None:
            return fault if call.number == number else None
        return fault if (call.name, call.nth) == (operation, number) else None

    return plan


def at_random(
    random: Random,
    probability: float,
    faults: Sequence[Fault] = (Fault.FAIL_BEFORE, Fault.FAIL_AFTER, Fault.DELAY, Fault.DUPLICATE),
) -> Plan:
    """Each call meets one of *faults* with *probability*; the same seed gives the same faults."""

    def plan(call: Call) -> Fault | None:  # noqa: ARG001  # any call is like any other
        return random.choice(faults) if random.random() < probability else None

    return plan


def _no_faults(call: Call) -> None:
    """The plan without faults: calls are only counted."""


class FaultyStore:
    """A `Store` in front of another, to which it hands every call that the plan lets through.

    `open`, `close` and `subscribe` never fail. `renew` cannot be late, and `complete` not be
    duplicated; a delayed `complete` commits late.

    Args:
        store: the store that does the work.
        plan: which calls meet which fault; may be replaced between calls.
    """

    def __init__(self, store: Store, plan: Plan = _no_faults) -> None:
        self.store = store
        self.plan = plan
        self.calls: Counter[str] = Counter()
        """How often each operation was called; `calls.total()` is the last call's number."""
        self.crashed = False
        self.url = store.url
        self.capabilities = store.capabilities

    async def open(self) -> None:
        """See `Store.open`."""
        await self.store.open()

    async def close(self) -> None:
        """See `Store.close`."""
        await self.store.close()

    def subscribe(self, listener: Callable[[Notice], None]) -> Callable[[], None]:
        """See `Store.subscribe`."""
        return self.store.subscribe(listener)

    # Producing

    async def enqueue(self, jobs: Sequence[Draft], changes: Changes = NO_CHANGES) -> list[Job]:
        """See `Store.enqueue`."""
        return await self._call("enqueue", lambda: self.store.enqueue(jobs, changes))

    async def enqueue_in(self, connection: object, jobs: Sequence[Draft]) -> list[Job]:
        """See `Store.enqueue_in`."""
        return await self._call("enqueue_in", lambda: self.store.enqueue_in(connection, jobs))

    # Working

    async def register(self, info: WorkerInfo) -> int:
        """See `Store.register`."""
        return await self._call("register", lambda: self.store.register(info))

    async def announce(self, worker: int, info: WorkerInfo) -> None:
        """See `Store.announce`."""
        await self._repeatable("announce", lambda: self.store.announce(worker, info))

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
        """See `Store.exchange`. A duplicate repeats everything but the claim."""

        def exchange(claim: Claim | None) -> Awaitable[Exchanged]:
            return self.store.exchange(
                worker,
                outcomes=outcomes,
                started=started,
                held=held,
                claim=claim,
                activity=activity,
            )

        return await self._call("exchange", lambda: exchange(claim), lambda: exchange(None))

    async def checkpoint(
        self,
        lease: Lease,
        *,
        progress: Progress | None = None,
        step: tuple[str, str] | None = None,
        changes: Changes = NO_CHANGES,
    ) -> None:
        """See `Store.checkpoint`. What is duplicated leaves out the changes."""
        await self._call(
            "checkpoint",
            lambda: self.store.checkpoint(lease, progress=progress, step=step, changes=changes),
            lambda: self.store.checkpoint(lease, progress=progress, step=step),
        )

    async def steps(self, job_id: str) -> dict[str, str]:
        """See `Store.steps`."""
        return await self._repeatable("steps", lambda: self.store.steps(job_id))

    def complete(
        self, lease: Lease, finish: Callable[[], Outcome], connection: object = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """See `Store.complete`."""
        return self._complete(lease, finish, connection)

    @asynccontextmanager
    async def _complete(
        self, lease: Lease, finish: Callable[[], Outcome], connection: object
    ) -> AsyncIterator[Transaction]:
        fault = self._before("complete")
        async with self.store.complete(lease, finish, connection) as transaction:
            yield transaction
            if fault is Fault.DELAY:
                await _let_others_overtake()
        self._after("complete", fault)

    def renew(self, worker: int, memory_bytes: int | None = None) -> bool:
        """See `Store.renew`."""
        fault = self._before("renew")
        if fault is Fault.DUPLICATE:
            self.store.renew(worker, memory_bytes)
        alive = self.store.renew(worker, memory_bytes)
        self._after("renew", fault)
        return alive

    async def rescue(self, worker: int | None = None) -> Rescued:
        """See `Store.rescue`."""
        return await self._repeatable("rescue", lambda: self.store.rescue(worker))

    async def resign(self, worker: int) -> None:
        """See `Store.resign`."""
        await self._repeatable("resign", lambda: self.store.resign(worker))

    # Records and events

    async def write(self, changes: Changes) -> None:
        """See `Store.write`."""
        await self._call("write", lambda: self.store.write(changes))

    async def record(self, kind: str, id: str) -> Record | None:
        """See `Store.record`."""
        return await self._repeatable("record", lambda: self.store.record(kind, id))

    async def records(
        self, kind: str, *, limit: int = 100, after: str | None = None, newest_first: bool = False
    ) -> list[Record]:
        """See `Store.records`."""
        return await self._repeatable(
            "records",
            lambda: self.store.records(kind, limit=limit, after=after, newest_first=newest_first),
        )

    async def count_records(self, kind: str) -> int:
        """See `Store.count_records`."""
        return await self._repeatable("count_records", lambda: self.store.count_records(kind))

    async def events(
        self,
        *,
        after: int = 0,
        subject: str | None = None,
        limit: int = 100,
        newest_first: bool = False,
    ) -> list[Event]:
        """See `Store.events`."""
        return await self._repeatable(
            "events",
            lambda: self.store.events(
                after=after, subject=subject, limit=limit, newest_first=newest_first
            ),
        )

    async def prune_events(self, subject: str, older_than_s: float) -> int:
        """See `Store.prune_events`."""
        return await self._call(
            "prune_events", lambda: self.store.prune_events(subject, older_than_s)
        )

    # Control

    async def cancel(self, job_id: str, changes: Changes = NO_CHANGES) -> Job:
        """See `Store.cancel`."""
        return await self._call("cancel", lambda: self.store.cancel(job_id, changes))

    async def retry(
        self, job_id: str, payload: str | None = None, changes: Changes = NO_CHANGES
    ) -> Job:
        """See `Store.retry`."""
        return await self._call("retry", lambda: self.store.retry(job_id, payload, changes))

    async def delete(self, job_id: str, changes: Changes = NO_CHANGES) -> None:
        """See `Store.delete`."""
        await self._call("delete", lambda: self.store.delete(job_id, changes))

    async def act(
        self, action: BulkAction, ids: Sequence[str], changes: Changes = NO_CHANGES
    ) -> Acted:
        """See `Store.act`."""
        return await self._call("act", lambda: self.store.act(action, ids, changes))

    async def wake(self, type: str, unique_keys: Sequence[str]) -> int:
        """See `Store.wake`."""
        return await self._repeatable("wake", lambda: self.store.wake(type, unique_keys))

    async def pause(self, queue: str, *, paused: bool, changes: Changes = NO_CHANGES) -> None:
        """See `Store.pause`."""
        await self._call("pause", lambda: self.store.pause(queue, paused=paused, changes=changes))

    async def paused(self) -> frozenset[str]:
        """See `Store.paused`."""
        return await self._repeatable("paused", self.store.paused)

    async def cleanup(self, older_than_s: float, *, slack_s: float = 0.0) -> int:
        """See `Store.cleanup`."""
        return await self._call(
            "cleanup", lambda: self.store.cleanup(older_than_s, slack_s=slack_s)
        )

    # Moving to another store

    async def dump(self, part: Part, *, after: Row | None, limit: int) -> list[Row]:
        """See `Store.dump`."""
        return await self._repeatable(
            "dump", lambda: self.store.dump(part, after=after, limit=limit)
        )

    async def load(self, part: Part, rows: Sequence[Row]) -> None:
        """See `Store.load`."""
        await self._repeatable("load", lambda: self.store.load(part, rows))

    # Inspecting

    async def get(self, job_id: str) -> Job | None:
        """See `Store.get`."""
        return await self._repeatable("get", lambda: self.store.get(job_id))

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
        return await self._repeatable(
            "find",
            lambda: self.store.find(
                status=status, type=type, queue=queue, limit=limit, after=after
            ),
        )

    async def search(
        self, where: Search, *, limit: int, after: int | None = None, scan: int = SCAN_MOST
    ) -> Found:
        """See `Store.search`."""
        return await self._repeatable(
            "search", lambda: self.store.search(where, limit=limit, after=after, scan=scan)
        )

    async def match_ids(
        self, where: Search, *, limit: int, after: int | None = None, scan: int = SCAN_MOST
    ) -> FoundIds:
        """See `Store.match_ids`."""
        return await self._repeatable(
            "match_ids", lambda: self.store.match_ids(where, limit=limit, after=after, scan=scan)
        )

    async def children(self, job_id: str, *, limit: int = 100) -> list[Job]:
        """See `Store.children`."""
        return await self._repeatable("children", lambda: self.store.children(job_id, limit=limit))

    async def stats(self) -> StoreStats:
        """See `Store.stats`."""
        return await self._repeatable("stats", self.store.stats)

    async def oldest_ready(self) -> tuple[Oldest, ...]:
        """See `Store.oldest_ready`."""
        return await self._repeatable("oldest_ready", self.store.oldest_ready)

    async def workers(self) -> list[WorkerState]:
        """See `Store.workers`."""
        return await self._repeatable("workers", self.store.workers)

    # How a call goes

    async def _repeatable(self, name: str, operation: Callable[[], Awaitable[_T]]) -> _T:
        return await self._call(name, operation, operation)

    async def _call(
        self,
        name: str,
        operation: Callable[[], Awaitable[_T]],
        duplicate: Callable[[], Awaitable[object]] | None = None,
    ) -> _T:
        fault = self._before(name)
        if fault is Fault.DELAY:
            await _let_others_overtake()
        if fault is Fault.DUPLICATE and duplicate is not None:
            await duplicate()
        if fault in (Fault.FAIL_AFTER, Fault.CRASH_AFTER):
            # Whatever the answer is, the caller does not see it.
            with suppress(DurablyError):
                await operation()
            self._after(name, fault)
        return await operation()

    def _before(self, name: str) -> Fault | None:
        """Count the call; raise what the plan says comes before it."""
        if self.crashed:
            raise SimulatedCrash(f"{name} was called after the crash")
        self.calls[name] += 1
        fault = self.plan(Call(name, self.calls.total(), self.calls[name]))
        if fault is Fault.FAIL_BEFORE:
            raise StoreError(f"injected: {name} was not carried out")
        if fault is Fault.CRASH_BEFORE:
            self.crashed = True
            raise SimulatedCrash(f"before {name}")
        return fault

    def _after(self, name: str, fault: Fault | None) -> None:
        """Raise what the plan says comes after the call."""
        if fault is Fault.FAIL_AFTER:
            raise StoreError(f"injected: the reply of {name} was lost")
        if fault is Fault.CRASH_AFTER:
            self.crashed = True
            raise SimulatedCrash(f"after {name}")


async def _let_others_overtake() -> None:
    for _ in range(DELAY_TURNS):
        await asyncio.sleep(0)
