import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from durably.domain.errors import StoreBusyError, StoreError
from durably.domain.job import JobStatus
from durably.domain.search import Search
from durably.store import Exchanged, Notice, NoticeKind
from durably.stores.sqlite.searching import Look
from durably.stores.sqlite.session import Session
from durably.stores.sqlite.store import SQLiteStore
from durably.testing import VirtualClock, capture
from durably.testing.conformance.support import (
    LEASE_S,
    add,
    cancelled,
    changes,
    check_counts,
    claim_of,
    completed,
    draft,
    event,
    info,
    look,
    put,
    report,
    running,
    take,
    take_one,
)
from durably.testing.store_conformance import StoreConformance


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def store(clock: VirtualClock, sqlite_url: str) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(sqlite_url, clock=clock)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def other(
    store: SQLiteStore, clock: VirtualClock, sqlite_url: str
) -> AsyncIterator[SQLiteStore]:
    """A second store object on the same file, as another process has one."""
    other = SQLiteStore(sqlite_url, clock=clock)
    await other.open()
    yield other
    await other.close()


class TestSQLiteStore(StoreConformance):
    """The store on a file keeps the contract."""


# Several stores on one file


async def test_stores_on_one_file_see_the_same(store: SQLiteStore, other: SQLiteStore) -> None:
    """What one has committed the other reads, claims and finishes."""
    job = await add(store, payload=[1])
    worker = await other.register(info())
    lease = await take_one(other, worker)
    await report(other, worker, completed(lease))

    assert (await look(store, job)).status is JobStatus.COMPLETED
    assert await store.stats() == await other.stats()


async def test_a_new_store_finds_everything(
    store: SQLiteStore, clock: VirtualClock, sqlite_url: str
) -> None:
    """Jobs, steps, records, events, pauses, numbers and counts outlive the store object."""
    worker, lease = await running(store)
    await store.checkpoint(lease, step=("a", "1"), changes=changes(put("a")))
    await store.pause("default", paused=True)
    await report(store, worker, completed(lease, "done"))
    before = await look(store, lease)
    await store.close()
    reopened = SQLiteStore(sqlite_url, clock=clock)
    await reopened.open()
    try:
        assert await look(reopened, lease) == before
        assert await reopened.steps(lease.job_id) == {"a": "1"}
        assert await reopened.count_records("thing") == 1
        assert await reopened.paused() == {"default"}
        assert await reopened.register(info()) > worker
        await check_counts(reopened, clock)
    finally:
        await reopened.close()
        await store.open()


async def test_the_jobs_of_a_closed_store_are_rescued_at_once(
    store: SQLiteStore, clock: VirtualClock, sqlite_url: str
) -> None:
    """Its workers' locks are free, so that nobody waits for their leases to end."""
    gone = SQLiteStore(sqlite_url, clock=clock)
    await gone.open()
    worker, lease = await running(gone)
    idle = await gone.register(info())
    alive = await store.rescue()
    await gone.close()
    rescued = await asyncio.gather(*(store.rescue() for _ in range(3)))

    assert alive.workers == ()
    named = [name for part in rescued for name in part.workers]
    assert sorted(named) == sorted([f"host:1:{worker}", f"host:1:{idle}"])
    assert sum(part.ready for part in rescued) == 1
    job = await look(store, lease)
    assert (job.status, job.crashes) == (JobStatus.PENDING, 1)


async def test_new_jobs_are_noticed_in_other_stores(store: SQLiteStore, other: SQLiteStore) -> None:
    """A nudge reaches the worker of another process without its asking."""
    await other.register(info())
    async with capture(other, NoticeKind.READY):
        await add(store)


async def test_who_asks_while_jobs_are_coming_meets_them(store: SQLiteStore) -> None:
    """An idle worker need not wait for the commit: what it asks for stands behind the new jobs."""
    worker = await store.register(info())
    asked: list[asyncio.Task[Exchanged]] = []

    def hear(notice: Notice) -> None:
        if notice.kind is NoticeKind.COMING:
            asked.append(asyncio.create_task(store.exchange(worker, claim=claim_of())))

    unsubscribe = store.subscribe(hear)
    [job] = await store.enqueue([draft()])
    unsubscribe()

    [exchange] = asked
    assert [claimed.record.id for claimed in (await exchange).claimed] == [job.id]


async def test_records_alone_wake_no_worker(store: SQLiteStore) -> None:
    """A commit that makes no job ready and ends none tells of nothing but its events."""
    told: list[NoticeKind] = []
    unsubscribe = store.subscribe(lambda notice: told.append(notice.kind))
    await store.write(changes(put("a")))
    async with capture(store, NoticeKind.EVENTS):
        await store.write(changes(event()))
    unsubscribe()

    assert told == [NoticeKind.EVENTS]


# Transactions


async def _boom(store: SQLiteStore) -> NoReturn:
    """An operation whose mistake breaks the transaction that it shares with others."""

    def operation(session: Session) -> NoReturn:
        session.bump("broken", 1)
        raise ZeroDivisionError

    await store._write(operation)
    raise AssertionError("the operation must fail")


async def test_a_broken_operation_breaks_no_other(store: SQLiteStore, clock: VirtualClock) -> None:
    """Of operations that share a transaction each is carried out once, or refused alone."""
    worker, lease = await running(store)
    results = await asyncio.gather(
        store.enqueue([draft()]),
        store.exchange(worker, outcomes=[completed(lease, changes=changes(put("a")))]),
        _boom(store),
        store.enqueue([draft(), draft()]),
        store.register(info()),
        store.cancel("unknown"),
        return_exceptions=True,
    )

    kinds = [type(result).__name__ for result in results]
    assert kinds == ["list", "Exchanged", "ZeroDivisionError", "list", "int", "JobNotFoundError"]
    assert len(await store.find()) == 4
    record = await store.record("thing", "a")
    assert record is not None
    assert record.version == 1
    await check_counts(store, clock)


async def test_a_claim_that_was_tried_twice_has_its_lease(
    store: SQLiteStore, clock: VirtualClock
) -> None:
    """When the transaction of a claim is rolled back and tried again, the lease begins anew too."""
    worker = await store.register(info())
    await clock.advance(LEASE_S - 1)
    await add(store)
    claimed, _ = await asyncio.gather(take(store, worker), _boom(store), return_exceptions=True)
    await clock.advance(2)
    rescued = await store.rescue()

    assert isinstance(claimed, list)
    assert len(claimed) == 1
    assert rescued.workers == ()


# What does not fit into one text


@pytest.fixture
def shorten(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes SQLite's longest text 70,000 bytes: ten jobs are then as a hundred thousand."""

    def shorten() -> None:
        monkeypatch.setattr("durably.stores.sqlite.session._REPORTS_BYTES", 20_000)
        for connection in (store._reader, store._writer._connection):
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 70_000)

    return shorten


async def test_jobs_that_are_large_together_can_be_worked_on(
    store: SQLiteStore, clock: VirtualClock, shorten: Callable[[], None]
) -> None:
    """List, claim, start, rescue and return work beyond SQLite's limit for one text."""
    jobs = [await add(store, payload='"' * 5_000) for _ in range(10)]
    shorten()
    worker = await store.register(info())
    listed = await store.find()
    leases = [c.lease for c in await take(store, worker, start=5, reserve=5)]
    await store.exchange(worker, started=leases[5:])
    await store.exchange(worker, held=leases[:9])
    await clock.advance(LEASE_S + 1)
    rescued = await store.rescue()

    assert listed == jobs
    assert rescued.ready == 9
    await check_counts(store, clock)


async def test_results_that_are_large_together_can_be_recorded(
    store: SQLiteStore, clock: VirtualClock, shorten: Callable[[], None]
) -> None:
    """What does not fit into one statement is written in several."""
    worker = await store.register(info())
    await store.enqueue([draft() for _ in range(10)])
    leases = [c.lease for c in await take(store, worker)]
    shorten()
    await report(store, worker, *(completed(lease, '"' * 5_000) for lease in leases))

    assert {job.result for job in await store.find()} == {'"' * 5_000}
    await check_counts(store, clock)


# The caller's own connection


@pytest.fixture
def connect(store: SQLiteStore) -> Callable[[], sqlite3.Connection]:
    return lambda: sqlite3.connect(store.path, isolation_level=None)


async def test_nobody_commits_while_the_log_is_moved_into_the_file(
    store: SQLiteStore, connect: Callable[[], sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint holds the write lock: SQLite up to 3.51.2 could corrupt the log beside a commit."""
    monkeypatch.setattr("durably.stores.sqlite.writer._CHECKPOINT_COMMITS", 1)
    met: list[str] = []

    def commit_beside(statement: str) -> None:
        if "wal_checkpoint" not in statement:
            return
        other = connect()
        other.execute("PRAGMA busy_timeout = 0")
        try:
            other.execute("BEGIN IMMEDIATE")
            met.append("nobody")
        except sqlite3.OperationalError as error:
            met.append(str(error))
        finally:
            other.close()

    writer = store._writer
    assert writer is not None
    writer._connection.set_trace_callback(commit_beside)
    for _ in range(2):  # the second waits for the checkpoint after the first
        await add(store)

    assert met[0] == "database is locked"


async def test_a_log_does_not_grow_for_those_who_come_and_go(
    store: SQLiteStore, clock: VirtualClock
) -> None:
    """Each adds one job and leaves, while a process that only reads keeps the file open."""
    log = store.path.with_name(store.path.name + "-wal")
    for _ in range(20):
        visitor = SQLiteStore(store.url, clock=clock)
        await visitor.open()
        await add(visitor, payload="x" * 1_000_000)
        await visitor.close()

    assert log.stat().st_size < 8_000_000


async def test_a_log_is_moved_once_even_if_the_files_time_does_not_tell(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is coarse, each third commit moves the log as elsewhere, not each from the third on."""
    monkeypatch.setattr("durably.stores.sqlite.writer._CHECKPOINT_COMMITS", 3)
    moved: list[str] = []
    writer = store._writer
    assert writer is not None

    def note(statement: str) -> None:
        if "wal_checkpoint" in statement:
            moved.append(statement)

    writer._connection.set_trace_callback(note)
    monkeypatch.setattr(writer, "_path", SimpleNamespace(stat=lambda: os.stat_result([0] * 10)))
    for _ in range(9):
        await add(store)
    await add(store)  # in the turn after the last move

    assert len(moved) == 3


async def test_a_log_that_another_process_has_moved_is_not_moved_again(
    store: SQLiteStore, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits are counted since the log was last moved, by whomever: each third one moves it here."""
    monkeypatch.setattr("durably.stores.sqlite.writer._CHECKPOINT_COMMITS", 3)
    os.utime(store.path, ns=(0, 0))  # so that the first move is seen on a coarse clock
    moved: list[str] = []

    def note(name: str, statement: str) -> None:
        if "wal_checkpoint" in statement:
            moved.append(name)

    other = SQLiteStore(store.url, clock=clock)
    await other.open()
    try:
        for name, one in (("store", store), ("other", other)):
            one._writer._connection.set_trace_callback(partial(note, name))
        for adding in (other, other, store, store, store, other):
            await add(adding)
        before = tuple(moved)
        await add(other)
        await add(other)
    finally:
        await other.close()

    assert before == ("store",)
    assert moved == ["store", "other"]


async def test_a_job_commits_with_the_callers_transaction(
    store: SQLiteStore, clock: VirtualClock, connect: Callable[[], sqlite3.Connection]
) -> None:
    """Before the commit nobody sees it; afterwards it is as any other."""
    connection = connect()
    connection.execute("CREATE TABLE mine (a INTEGER)")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO mine VALUES (1)")
    [job] = await store.enqueue_in(connection, [draft(payload=[1])])
    before = await store.get(job.id)
    connection.execute("COMMIT")
    connection.close()

    assert before is None
    assert await look(store, job) == job
    await check_counts(store, clock)


async def test_a_job_is_rolled_back_with_the_callers_transaction(
    store: SQLiteStore, clock: VirtualClock, connect: Callable[[], sqlite3.Connection]
) -> None:
    """Neither the job, nor its count, nor its unique key stays; one is begun where none is open."""
    connection = connect()
    [job] = await store.enqueue_in(connection, [draft(unique_key="k")])
    assert connection.in_transaction
    connection.rollback()
    connection.close()

    assert await store.get(job.id) is None
    assert (await store.stats()).counts == ()
    assert (await add(store, unique_key="k")).id != job.id
    await check_counts(store, clock)


async def test_a_unique_key_counts_in_the_callers_transaction(
    store: SQLiteStore, connect: Callable[[], sqlite3.Connection]
) -> None:
    """The job that holds the key is returned, be it committed or of the same transaction."""
    first = await add(store, unique_key="k")
    connection = connect()
    [held] = await store.enqueue_in(connection, [draft(unique_key="k")])
    [new] = await store.enqueue_in(connection, [draft(unique_key="l")])
    [same] = await store.enqueue_in(connection, [draft(unique_key="l")])
    connection.commit()
    connection.close()

    assert held == first
    assert new.id == same.id
    assert len(await store.find()) == 2


async def test_a_connection_to_another_database_is_refused(
    store: SQLiteStore, tmp_path: Path
) -> None:
    """ValueError names both; nothing is written to either."""
    for place in (str(tmp_path / "other.db"), ":memory:"):
        connection = sqlite3.connect(place)
        with pytest.raises(ValueError, match=r"the connection is to .* not to .*jobs.db"):
            await store.enqueue_in(connection, [draft()])
        connection.close()

    assert await store.find() == []


# Inside `complete`


async def test_other_writes_inside_complete_are_refused(store: SQLiteStore) -> None:
    """They would wait for the block, and the block for them; reads go on, and tasks outside."""
    _, lease = await running(store)
    outside = asyncio.Event()

    async def add_outside() -> None:
        await outside.wait()
        await add(store, "outside")

    adding = asyncio.get_running_loop().create_task(add_outside())
    async with store.complete(lease, lambda: completed(lease)):
        with pytest.raises(StoreBusyError, match="tx"):
            await add(store)
        assert (await look(store, lease)).status is JobStatus.PROCESSING
        outside.set()
    await adding
    await add(store)

    assert len(await store.find()) == 3


async def test_the_transaction_is_over_with_its_block(store: SQLiteStore) -> None:
    """Statements after the block are refused, as are those that would end it early."""
    _, lease = await running(store)
    async with store.complete(lease, lambda: completed(lease)) as tx:
        for statement in ("COMMIT", "ROLLBACK", "BEGIN", "SAVEPOINT a", "ATTACH ':memory:' AS b"):
            with pytest.raises((StoreError, sqlite3.DatabaseError), match="not authorized"):
                await tx.execute(statement)
    with pytest.raises(StoreError, match="has ended"):
        await tx.fetch("SELECT 1")

    assert (await look(store, lease)).status is JobStatus.COMPLETED


async def test_who_renews_in_time_is_not_rescued(
    store: SQLiteStore,
    other: SQLiteStore,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the look and the rescue a worker may have renewed: it keeps its jobs."""
    worker = await store.register(info())
    await add(store)
    lease = await take_one(store, worker)
    await clock.advance(LEASE_S)
    write = other._write

    async def renew_then_write(operation: Any) -> Any:
        await asyncio.to_thread(store.renew, worker)
        return await write(operation)

    monkeypatch.setattr(other, "_write", renew_then_write)

    assert (await other.rescue()).workers == ()
    await report(store, worker, completed(lease))


# What a power cut may undo


async def test_a_claim_alone_is_not_waited_for_the_disk(store: SQLiteStore) -> None:
    """What must survive a power cut is synced; a claim need not, for without it the job waits."""
    synced: list[tuple[str, int]] = []
    writer = store._writer
    commit = writer._file.commit

    def watched(connection: sqlite3.Connection) -> None:
        (level,) = connection.execute("PRAGMA synchronous").fetchone()
        synced.append((doing, level))
        commit(connection)

    writer._file.commit = watched  # type: ignore[method-assign]
    doing = "add"
    await add(store)
    worker = await store.register(info())
    doing = "claim"
    lease = await take_one(store, worker)
    doing = "outcome"
    await report(store, worker, completed(lease))

    assert {("add", 2), ("claim", 1), ("outcome", 2)} == set(synced)


async def test_after_a_boot_tokens_go_on_beyond_any_that_a_power_cut_undid(
    store: SQLiteStore,
) -> None:
    """Handlers fence their own systems by tokens: they must not come again."""
    _, first = await running(store)
    _, second = await running(store)
    store._boot = "another boot"
    _, third = await running(store)

    assert second.token == first.token + 1
    assert third.token > second.token + 100_000


@pytest.fixture
async def statements(store: SQLiteStore) -> list[str]:
    """What the store's connections are asked from now on."""
    asked: list[str] = []
    for connection in (store._writer._connection, store._reader):
        connection.set_trace_callback(asked.append)
    return asked


async def test_an_idle_worker_asks_for_next_to_nothing(
    store: SQLiteStore, clock: VirtualClock, statements: list[str]
) -> None:
    """After a look that found nothing, looks and rescues ask only whether anybody has written."""
    worker = await store.register(info())
    await add(store, "later", delay=3600)
    for _ in range(2):
        assert await take(store, worker) == []
        await store.rescue(worker)
    statements.clear()
    for _ in range(2):
        await clock.advance(1)
        assert await take(store, worker) == []
        await store.rescue(worker)

    assert statements == ["PRAGMA data_version"] * 2


@pytest.mark.parametrize("who", ["itself", "another process"])
async def test_a_quiet_worker_finds_what_has_been_written(
    store: SQLiteStore, other: SQLiteStore, clock: VirtualClock, who: str
) -> None:
    """New jobs, due jobs, paused queues, requests to cancel, the end of its registration."""
    writer = store if who == "itself" else other
    worker = await store.register(info())
    for _ in range(2):
        assert await take(store, worker) == []
    await add(writer)
    lease = await take_one(store, worker)
    for _ in range(2):
        assert await take(store, worker) == []
    await writer.cancel(lease.job_id)
    assert (await store.exchange(worker, claim=claim_of())).cancel == (lease.job_id,)
    await report(store, worker, cancelled(lease))

    later = await add(writer, delay=10)
    assert (await store.exchange(worker, claim=claim_of())).due_in_s == 10
    await clock.advance(4)
    assert (await store.exchange(worker, claim=claim_of())).due_in_s == 6
    await clock.advance(6)
    assert (await take_one(store, worker)).job_id == later.id

    await writer.resign(worker)
    assert (await store.exchange(worker, claim=claim_of())).lost


async def test_a_quiet_worker_looks_for_the_types_it_can_run(store: SQLiteStore) -> None:
    """That it found nothing for one type says nothing of another."""
    worker = await store.register(info())
    job = await add(store, "a")
    for _ in range(2):
        assert await take(store, worker, "b") == []

    assert (await take_one(store, worker, "a")).job_id == job.id


@pytest.mark.parametrize(
    "statuses",
    [
        (),
        (JobStatus.FAILED,),
        (JobStatus.PENDING,),
        (JobStatus.PENDING, JobStatus.PROCESSING, JobStatus.COMPLETED),
    ],
)
async def test_a_search_reads_the_newest_without_sorting(
    store: SQLiteStore, statuses: tuple[JobStatus, ...]
) -> None:
    """The plan has no sorter, so that it ends with the page; no index is read as a whole."""
    look = Look(Search(statuses=statuses, text="x"), after=None, scan=1_000)
    with closing(sqlite3.connect(store.path)) as connection:
        for query, arguments in (look.matches("seq", 100), look.looked_at(0)):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", arguments).fetchall()
            steps = [step[3] for step in plan]

            assert [] == [step for step in steps if "TEMP B-TREE" in step]
            assert [] == [step for step in steps if step == "SCAN durably_jobs"]


@pytest.mark.parametrize("ids", [True, False])
async def test_jobs_that_go_during_a_search_take_no_others_off_its_pages(
    store: SQLiteStore, connect: Callable[[], sqlite3.Connection], ids: bool
) -> None:
    """A page ends where it has looked, not where it would end now that newer jobs are gone."""
    jobs = [await add(store, tags=["wanted"] if n == 0 else []) for n in range(6)]

    def remove_newer(statement: str) -> None:
        if "min(seq)" in statement:
            with closing(connect()) as other:
                other.execute("DELETE FROM durably_jobs WHERE seq > 3")

    assert store._reader is not None
    store._reader.set_trace_callback(remove_newer)
    search = store.match_ids if ids else store.search
    page = await search(Search(tag="wanted"), limit=10, scan=3)
    store._reader.set_trace_callback(None)
    rest = await store.match_ids(Search(tag="wanted"), limit=10, after=page.next)

    assert rest.ids == [jobs[0].id]
