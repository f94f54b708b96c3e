"""Each durable store and the memory store, used in lockstep at random, must never differ.

Deterministic unless DURABLY_SIMULATION_EXAMPLES says how many longer runs to make, for example:

    DURABLY_SIMULATION_EXAMPLES=2000 pytest tests/simulation
"""

import asyncio
import itertools
import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.postgres import Server

from durably.domain.bulk import BulkAction
from durably.domain.claiming import Claim, Lane
from durably.domain.errors import DurablyError
from durably.domain.job import Draft, Job, JobStatus, Progress
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
from durably.domain.search import Search
from durably.store import Claimed, Exchanged, Rescued, Store, WorkerInfo
from durably.stores.memory import MemoryStore
from durably.stores.postgres.store import PostgresStore
from durably.stores.sqlite.store import SQLiteStore
from durably.testing import VirtualClock

LEASE_S = 30.0
MOST_JOBS = 500
_T = TypeVar("_T")
_LONG_RUNS = int(os.environ.get("DURABLY_SIMULATION_EXAMPLES", "0"))


class Both(NamedTuple):
    """One thing as the memory store and as the other one names it."""

    memory: Lease
    durable: Lease


def _nth(items: Sequence[_T], index: int) -> _T:
    """An item counted from the newest."""
    return items[-1 - index % len(items)]


index = st.integers(0, 15)
delays = st.sampled_from([0.0, 0.0, 1.0, 7.5, 60.0])
types = st.sampled_from("ab")
queues = st.sampled_from("pq")
keys = st.sampled_from([None, None, None, "k", "l"])


class DraftSpec(NamedTuple):
    """What a rule says of a new job."""

    type: str
    queue: str
    priority: int
    max_attempts: int
    delay: float
    unique_key: str | None


drafts = st.builds(DraftSpec, types, queues, st.integers(1, 4), st.integers(1, 3), delays, keys)


class ChangesSpec(NamedTuple):
    """What a rule says of changes: jobs to add and cancel, records as (id, expect, removed)."""

    jobs: list[DraftSpec]
    records: list[tuple[str, int | None, bool]]
    events: list[str]
    cancel: list[int]


changes = st.builds(
    ChangesSpec,
    st.lists(drafts, max_size=2),
    st.lists(
        st.tuples(st.sampled_from("xy"), st.sampled_from([None, None, 0, 1, 2]), st.booleans()),
        max_size=2,
    ),
    st.lists(st.sampled_from("xy"), max_size=1),
    st.lists(index, max_size=1),
)
NOTHING = ChangesSpec([], [], [], [])
outcomes = st.tuples(
    index, st.sampled_from(OutcomeKind), delays, st.one_of(st.just(NOTHING), changes)
)
lanes = st.builds(
    lambda limits, places: tuple(Lane(queue, kind, limits[kind]) for queue, kind in places),
    st.fixed_dictionaries({"a": st.integers(0, 4), "b": st.integers(0, 4)}),
    st.lists(st.tuples(queues, types), min_size=1, unique=True),
)
claims = st.builds(
    Claim,
    lanes=lanes,
    start=st.integers(0, 4),
    reserve=st.integers(0, 4),
    suspects=st.booleans(),
    aging_s=st.sampled_from([None, None, 1.0, 10.0]),
)
searches = st.builds(
    Search,
    statuses=st.lists(st.sampled_from(JobStatus), max_size=2).map(tuple),
    type=st.one_of(st.none(), types),
    queue=st.one_of(st.none(), queues),
    text=st.sampled_from([None, None, "boom", "JOB-0", '"edited"', "not wanted"]),
)


class Lockstep(RuleBasedStateMachine):
    """Does everything on both stores and compares what comes back and what can be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = VirtualClock()
        self.memory = MemoryStore(clock=self.clock)
        self.durable = self.make_durable()
        self.ids: list[str] = []
        self.leases: list[Both] = []
        self.workers: list[int] = []

    def make_durable(self) -> Store:
        """The store that is compared with the one in memory."""
        return SQLiteStore(f"sqlite:///{self.folder.name}/jobs.db", clock=self.clock)

    @initialize()
    def start(self) -> None:
        for store in (self.memory, self.durable):
            self.runner.run(store.open())
        self.register()

    def teardown(self) -> None:
        try:
            self.compare_figures()
            self.compare_steps()
        finally:
            for store in (self.memory, self.durable):
                self.runner.run(store.close())
            self.runner.close()
            self.folder.cleanup()

    # Doing the same twice

    def both(self, call: Callable[[Store, Callable[[Both], Lease]], Awaitable[_T]]) -> _T | None:
        """The answer of both stores, which must be one; None when both refuse alike.

        *call* gets the store and what picks its lease from a `Both`.
        """
        expected = self._ask(self.memory, call, lambda both: both.memory)
        actual = self._ask(self.durable, call, lambda both: both.durable)
        if isinstance(expected, Exchanged) and isinstance(actual, Exchanged):
            self.leases += [
                Both(one.lease, other.lease)
                for one, other in zip(expected.claimed, actual.claimed, strict=False)
            ]
        assert _comparable(expected) == _comparable(actual)
        return None if isinstance(expected, DurablyError) else expected

    def _ask(
        self,
        store: Store,
        call: Callable[[Store, Callable[[Both], Lease]], Awaitable[_T]],
        own: Callable[[Both], Lease],
    ) -> _T | DurablyError:
        async def ask() -> _T:
            return await call(store, own)

        try:
            return self.runner.run(ask())
        except DurablyError as error:
            return error

    def make_draft(self, spec: DraftSpec) -> Draft:
        self.ids.append(f"job-{len(self.ids):04}")
        return Draft(
            self.ids[-1],
            spec.type,
            spec.queue,
            spec.priority,
            spec.max_attempts,
            f'{{"n":{len(self.ids)}}}',
            round(spec.delay * 1e6),
            None,
            spec.unique_key,
        )

    def make_changes(self, spec: ChangesSpec) -> Changes:
        return Changes(
            cancel=tuple(_nth(self.ids, i) for i in spec.cancel if self.ids),
            jobs=tuple(self.make_draft(job) for job in spec.jobs),
            records=tuple(
                Delete(kind="thing", id=name, expect=expect)
                if removed
                else Put(kind="thing", id=name, value=f"{len(self.ids)}", expect=expect)
                for name, expect, removed in spec.records
            ),
            events=tuple(
                NewEvent(topic="said", subject=subject, data=f"{len(self.ids)}")
                for subject in spec.events
            ),
        )

    # Producing

    @precondition(lambda self: len(self.ids) < MOST_JOBS)
    @rule(specs=st.lists(drafts, min_size=1, max_size=4))
    def enqueue(self, specs: list[DraftSpec]) -> None:
        new = [self.make_draft(spec) for spec in specs]
        self.both(lambda store, _: store.enqueue(new))

    @rule(spec=drafts, changed=changes)
    def enqueue_with_changes(self, spec: DraftSpec, changed: ChangesSpec) -> None:
        new, made = self.make_draft(spec), self.make_changes(changed)
        self.both(lambda store, _: store.enqueue([new], made))

    @rule(changed=changes)
    def write(self, changed: ChangesSpec) -> None:
        made = self.make_changes(changed)
        self.both(lambda store, _: store.write(made))

    # Working

    @rule()
    def register(self) -> None:
        info = WorkerInfo(
            host="host", pid=1, queues=("p", "q"), types=("a", "b"), concurrency=9, lease_s=LEASE_S
        )
        number = self.both(lambda store, _: store.register(info))
        assert number is not None
        self.workers.append(number)

    @rule(worker=index, claim=claims)
    def claim(self, worker: int, claim: Claim) -> None:
        number = _nth(self.workers, worker)
        self.both(lambda store, _: store.exchange(number, claim=claim))

    @precondition(lambda self: self.leases)
    @rule(
        worker=index,
        ended=st.lists(outcomes, min_size=1, max_size=4),
        begun=st.lists(index, max_size=2),
        claim=st.one_of(st.none(), claims),
    )
    def report(
        self,
        worker: int,
        ended: list[tuple[int, OutcomeKind, float, ChangesSpec]],
        begun: list[int],
        claim: Claim | None,
    ) -> None:
        number = _nth(self.workers, worker)
        started = [_nth(self.leases, i) for i in begun]
        reports = [
            (_nth(self.leases, i), kind, delay, self.make_changes(changed))
            for i, kind, delay, changed in ended
        ]
        self.both(
            lambda store, own: store.exchange(
                number,
                outcomes=[
                    _outcome(own(lease), kind, delay, made) for lease, kind, delay, made in reports
                ],
                started=[own(lease) for lease in started],
                claim=claim,
            )
        )

    @precondition(lambda self: self.leases)
    @rule(worker=index, known=st.lists(index, max_size=4))
    def resynchronise(self, worker: int, known: list[int]) -> None:
        number = _nth(self.workers, worker)
        held = [_nth(self.leases, i) for i in known]
        self.both(lambda store, own: store.exchange(number, held=[own(lease) for lease in held]))

    @precondition(lambda self: self.leases)
    @rule(
        lease=index,
        fraction=st.one_of(st.none(), st.floats(0, 1)),
        step=st.one_of(st.none(), st.tuples(st.sampled_from("st"), st.sampled_from("12"))),
        changed=st.one_of(st.just(NOTHING), changes),
    )
    def checkpoint(
        self,
        lease: int,
        fraction: float | None,
        step: tuple[str, str] | None,
        changed: ChangesSpec,
    ) -> None:
        target, made = _nth(self.leases, lease), self.make_changes(changed)
        progress = None if fraction is None else Progress(fraction=fraction, message="so far")
        self.both(
            lambda store, own: store.checkpoint(
                own(target), progress=progress, step=step, changes=made
            )
        )

    @precondition(lambda self: self.leases)
    @rule(outcome=outcomes)
    def complete(self, outcome: tuple[int, OutcomeKind, float, ChangesSpec]) -> None:
        position, kind, delay, changed = outcome
        target, made = _nth(self.leases, position), self.make_changes(changed)

        async def run(store: Store, own: Callable[[Both], Lease]) -> None:
            lease = own(target)
            async with store.complete(lease, lambda: _outcome(lease, kind, delay, made)):
                pass

        self.both(run)

    @precondition(lambda self: len(self.workers) > 1)
    @rule(worker=index)
    def resign(self, worker: int) -> None:
        number = _nth(self.workers, worker)
        self.workers.remove(number)
        self.both(lambda store, _: store.resign(number))

    @rule(worker=index)
    def die(self, worker: int) -> None:
        """One worker falls silent, the others renew: when a lease ends may differ by a third."""
        number = _nth(self.workers, worker)
        self.runner.run(self.clock.advance(LEASE_S + 1))
        for other in self.workers:
            if other != number:
                assert self.memory.renew(other) == self.durable.renew(other)
        self.both(lambda store, _: store.rescue())

    # Control

    @precondition(lambda self: self.ids)
    @rule(job=index)
    def cancel(self, job: int) -> None:
        job_id = _nth(self.ids, job)
        self.both(lambda store, _: store.cancel(job_id))

    @precondition(lambda self: self.ids)
    @rule(job=index, payload=st.sampled_from([None, None, '"edited"']))
    def retry(self, job: int, payload: str | None) -> None:
        job_id = _nth(self.ids, job)
        self.both(lambda store, _: store.retry(job_id, payload))

    @precondition(lambda self: self.ids)
    @rule(job=index)
    def delete(self, job: int) -> None:
        job_id = _nth(self.ids, job)
        self.both(lambda store, _: store.delete(job_id))

    @precondition(lambda self: self.ids)
    @rule(
        action=st.sampled_from(BulkAction),
        jobs=st.lists(index, max_size=8),
        changed=st.one_of(st.just(NOTHING), changes),
    )
    def act(self, action: BulkAction, jobs: list[int], changed: ChangesSpec) -> None:
        ids, made = [_nth(self.ids, job) for job in jobs], self.make_changes(changed)
        self.both(lambda store, _: store.act(action, ids, made))

    @rule(type=types, keys=st.lists(st.sampled_from("klm"), max_size=3))
    def wake(self, type: str, keys: list[str]) -> None:
        self.both(lambda store, _: store.wake(type, keys))

    @rule(queue=queues, paused=st.booleans())
    def pause(self, queue: str, *, paused: bool) -> None:
        self.both(lambda store, _: store.pause(queue, paused=paused))

    @rule(age=st.sampled_from([0.0, 5.0, 40.0]))
    def clean_up(self, age: float) -> None:
        self.both(lambda store, _: store.cleanup(age))

    @rule(seconds=st.sampled_from([0.000_001, 0.5, 5.0, 12.5, 60.0]))
    def advance(self, seconds: float) -> None:
        self.runner.run(self.clock.advance(seconds))

    # Comparing

    @invariant()
    def compare_jobs(self) -> None:
        self.both(lambda store, _: store.find(limit=2 * MOST_JOBS))

    @invariant()
    def compare_the_rest(self) -> None:
        self.both(lambda store, _: store.records("thing"))
        self.both(lambda store, _: store.count_records("thing"))
        self.both(lambda store, _: store.events(limit=1_000))
        self.both(lambda store, _: store.paused())

    @rule(
        status=st.sampled_from([None, "pending", "processing", "failed"]), after=index, type=types
    )
    def compare_a_page(self, status: Any, after: int, type: str) -> None:
        last = _nth(self.ids, after) if self.ids and after else None
        self.both(lambda store, _: store.find(status=status, type=type, limit=3, after=last))

    @rule(where=searches, after=st.one_of(st.none(), st.integers(1, 40)), scan=st.integers(1, 30))
    def compare_a_search(self, where: Search, after: int | None, scan: int) -> None:
        self.both(lambda store, _: store.match_ids(where, limit=4, after=after, scan=scan))

    @rule()
    def compare_figures(self) -> None:
        async def figures(store: Store, _: object) -> Any:
            stats = await store.stats()
            counts = {(c.queue, c.type, c.state): c.count for c in stats.counts}
            workers = [(w.id, w.info, w.held) for w in await store.workers()]
            return counts, stats.late_outcomes, sorted(workers, key=repr)

        self.both(figures)

    @rule()
    def compare_steps(self) -> None:
        async def steps(store: Store, _: object) -> Any:
            return [await store.steps(job_id) for job_id in self.ids[-30:]]

        self.both(steps)


def _outcome(lease: Lease, kind: OutcomeKind, delay: float, changed: Changes) -> Outcome:
    return Outcome(
        lease,
        kind,
        run_s=0.25,
        delay_s=delay,
        result='"result"' if kind is OutcomeKind.COMPLETED else None,
        failure=Failure(kind="error", message="boom")
        if kind in (OutcomeKind.RETRY, OutcomeKind.FAILED)
        else None,
        reason="not wanted" if kind is OutcomeKind.CANCELLED else None,
        changes=changed,
    )


def _comparable(answer: Any) -> Any:
    """What must be equal of an answer: numbers that each store gives for itself are left out."""
    match answer:
        case DurablyError():
            return type(answer), str(answer)
        case Exchanged():
            return msgspec.structs.replace(
                answer,
                claimed=tuple(map(_claimed, answer.claimed)),
                cancel=tuple(sorted(answer.cancel)),
            )
        case Rescued():
            return msgspec.structs.replace(answer, workers=tuple(sorted(answer.workers)))
        case _:
            return answer


def _claimed(claimed: Claimed) -> tuple[Job, int, int]:
    record = claimed.record
    return record.to_job(), record.state, record.ready_at


def run(machine: type[Lockstep], *, examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=_LONG_RUNS or examples,
            stateful_step_count=100 if _LONG_RUNS else 40,
            derandomize=not _LONG_RUNS,
            print_blob=True,
            report_multiple_bugs=False,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_sqlite_never_differs() -> None:
    """Any sequence of operations gives the same answers and the same visible state on both."""
    run(Lockstep, examples=60)


def test_postgres_never_differs(postgres_server: Server) -> None:
    """The same for PostgreSQL."""
    numbers = itertools.count(1)

    class OnPostgres(Lockstep):
        def make_durable(self) -> Store:
            url = f"{postgres_server.url}?schema=lockstep_{next(numbers)}"
            return PostgresStore(url, clock=self.clock)

    run(OnPostgres, examples=40)
