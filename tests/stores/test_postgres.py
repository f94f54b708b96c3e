"""The store on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from durably.domain.errors import StoreError, StoreUnsupportedError, VersionConflictError
from durably.domain.job import JobStatus
from durably.domain.search import Search
from durably.store import Claimed
from durably.stores.postgres import database
from durably.stores.postgres.frontier import Frontier
from durably.stores.postgres.session import Outlook, Session, _heads, _place
from durably.stores.postgres.store import PostgresStore
from durably.testing import VirtualClock
from durably.testing.conformance.support import (
    LEASE_S,
    EndOf,
    add,
    changes,
    check_counts,
    claim_of,
    completed,
    draft,
    event,
    failed,
    info,
    look,
    put,
    report,
    retried,
    returned,
    snoozed,
    take,
    take_ids,
    take_one,
)
from durably.testing.store_conformance import StoreConformance


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def store(clock: VirtualClock, postgres_url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(postgres_url, clock=clock)
    await store.open()
    yield store
    await store.close()


class TestPostgresStore(StoreConformance):
    """The store on a server keeps the contract."""


@pytest.fixture
async def other(
    store: PostgresStore, clock: VirtualClock, postgres_url: str
) -> AsyncIterator[PostgresStore]:
    """A second store object on the same schema, as another process has one."""
    other = PostgresStore(postgres_url, clock=clock)
    await other.open()
    yield other
    await other.close()


async def test_stores_on_one_schema_see_the_same(
    store: PostgresStore, other: PostgresStore
) -> None:
    """What one has committed the other reads, claims and finishes."""
    job = await add(store, payload=[1])
    worker = await other.register(info())
    lease = await take_one(other, worker)
    await report(other, worker, completed(lease))
    assert (await look(store, job)).status is JobStatus.COMPLETED
    assert await store.stats() == await other.stats()


async def test_many_stores_may_open_a_new_schema_at_once(postgres_url: str) -> None:
    """One makes it, the others wait; all of them work."""
    stores = [PostgresStore(postgres_url) for _ in range(5)]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        await store.enqueue([draft()])
        await store.close()


async def test_a_changed_or_newer_schema_is_refused(
    store: PostgresStore, postgres_url: str
) -> None:
    """Neither a script that was edited nor the schema of a later version is worked on."""
    table = f"{store.address.schema}.migrations"
    connection = await asyncpg.connect(store.address.dsn)
    try:
        await connection.execute(f"INSERT INTO {table} VALUES (99, 'later')")
        with pytest.raises(StoreUnsupportedError, match="newer Durably: it has migration 99"):
            await PostgresStore(postgres_url).open()
        await connection.execute(f"DELETE FROM {table} WHERE number = 99")
        await connection.execute(f"UPDATE {table} SET checksum = 'other'")
        with pytest.raises(StoreUnsupportedError, match="not the one this version knows"):
            await PostgresStore(postgres_url).open()
    finally:
        await connection.close()


async def test_a_unique_key_is_held_by_one_of_many_processes(
    store: PostgresStore, other: PostgresStore
) -> None:
    """Whoever comes second gets the job of the first, however close they are."""
    for round in range(20):
        key = f"key-{round}"
        both = await asyncio.gather(
            *(one.enqueue([draft(unique_key=key)]) for one in [store, other] * 3)
        )
        assert len({job.id for [job] in both}) == 1


async def test_a_record_that_none_was_expected_of_is_written_by_one(
    store: PostgresStore, other: PostgresStore
) -> None:
    """Of several that make it at once all but one are refused."""
    for round in range(20):
        part = changes(put(f"r{round}", expect=0))
        results = await asyncio.gather(
            *(one.write(part) for one in [store, other] * 3), return_exceptions=True
        )
        refused = [type(r) for r in results if r is not None]
        assert refused == [VersionConflictError] * 5


async def test_jobs_can_be_added_in_the_callers_transaction(
    store: PostgresStore, postgres_url: str
) -> None:
    """They are there when it commits, and never if it does not."""
    connection = await asyncpg.connect(store.address.dsn)
    try:
        async with connection.transaction():
            [job] = await store.enqueue_in(connection, [draft()])
            assert await store.get(job.id) is None
        assert await store.get(job.id) is not None
        transaction = connection.transaction()
        await transaction.start()
        [lost] = await store.enqueue_in(connection, [draft()])
        await transaction.rollback()
        assert await store.get(lost.id) is None
    finally:
        await connection.close()


async def test_the_database_gives_the_time(postgres_url: str) -> None:
    """Without a clock of a test's, created_at is the server's."""
    store = PostgresStore(postgres_url)
    await store.open()
    connection = await asyncpg.connect(store.address.dsn)
    try:
        before = await connection.fetchval("SELECT clock_timestamp()")
        [job] = await store.enqueue([draft()])
        assert before <= job.created_at <= await connection.fetchval("SELECT clock_timestamp()")
    finally:
        await connection.close()
        await store.close()


async def _partitions(url: str, schema: str) -> int:
    connection = await asyncpg.connect(url.partition("?")[0])
    try:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM pg_inherits WHERE inhparent = $1::text::regclass",
                f"{schema}.history",
            )
        )
    finally:
        await connection.close()


async def test_old_history_is_dropped_by_partition(
    store: PostgresStore, clock: VirtualClock, postgres_url: str
) -> None:
    """Jobs end in the partition of their hours; clean-up drops whole ones, slack leaves the rest."""
    for _ in range(4):
        worker = await store.register(info())
        await add(store)
        await report(store, worker, completed(await take_one(store, worker)))
        await clock.advance(6 * 3_600)
    schema = store.address.schema
    # One more is there ahead of its time.
    assert await _partitions(postgres_url, schema) == 4 + 1

    assert await store.cleanup(12 * 3_600, slack_s=6 * 3_600) == 2
    assert await _partitions(postgres_url, schema) == 2 + 1
    assert len(await store.find()) == 2


async def test_a_claim_does_not_read_what_lies_behind_the_frontier(
    store: PostgresStore, clock: VirtualClock
) -> None:
    """Jobs that came late, went back or were there before others are claimed all the same, in order."""
    worker = await store.register(info())
    old = await add(store)
    lease = await take_one(store, worker, start=1)
    await clock.advance(5)
    young = [await add(store) for _ in range(3)]
    assert (await take_one(store, worker, start=1)).job_id == young[0].id
    await report(store, worker, returned(lease))

    assert (await take_one(store, worker, start=1)).job_id == old.id
    assert (await take_one(store, worker, start=1)).job_id == young[1].id


async def test_a_claim_reads_the_heads_by_their_index(
    store: PostgresStore, postgres_url: str
) -> None:
    """Also of a table of which the server knows nothing yet."""
    connection = await asyncpg.connect(
        postgres_url.partition("?")[0], server_settings=database.BY_INDEX
    )
    schema = f"{store.address.schema}."
    keys = [["default"], ["work"], [False], [2], [0], [50]]
    try:
        await store.enqueue([draft() for _ in range(40_000)])  # the index for listings is less deep
        query = f"EXPLAIN {_heads(1, '', lock=True)}".replace("@", schema)
        plan = "\n".join(row[0] for row in await connection.fetch(query, *keys))
    finally:
        await connection.close()

    assert "Index Scan using jobs_ready" in plan
    assert "Sort" not in plan


Between = Callable[[], Awaitable[Any]]


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Between) -> None:
    """Something happens once, between a look at what could be claimed and the claim."""
    seen = Session.look

    async def looking(session: Session, *arguments: Any, **options: Any) -> Outlook:
        monkeypatch.setattr(Session, "look", seen)
        outlook = await seen(session, *arguments, **options)
        await happens()
        return outlook

    monkeypatch.setattr(Session, "look", looking)


@pytest.mark.parametrize("ends", ["registration", "queue", "job"])
async def test_what_has_ended_since_the_look_is_not_claimed(
    store: PostgresStore,
    other: PostgresStore,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
    ends: str,
) -> None:
    """A registration that ended gets nothing, of a paused queue nothing is given, nor who was cancelled."""
    worker = await store.register(info())
    job = await add(store)
    happens: dict[str, Between] = {
        "registration": lambda: other.resign(worker),
        "queue": lambda: other.pause("default", paused=True),
        "job": lambda: other.cancel(job.id),
    }
    meanwhile(monkeypatch, happens[ends])
    done = await store.exchange(worker, claim=claim_of())
    again = await store.exchange(worker, claim=claim_of())

    for answer in (done, again):
        assert (answer.claimed, answer.lost, answer.more) == ((), ends == "registration", False)
    assert (await look(store, job)).attempts == 0
    await check_counts(store, clock)


async def test_who_is_just_being_rescued_claims_nothing(
    store: PostgresStore, clock: VirtualClock, postgres_url: str
) -> None:
    """Nobody would look for a job that is leased to a registration which is ended at the same time."""
    worker = await store.register(info())
    job = await add(store)
    rescuer, onlooker = [await asyncpg.connect(postgres_url.partition("?")[0]) for _ in range(2)]
    workers = f"{store.address.schema}.workers"
    waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
    try:
        async with rescuer.transaction():
            await rescuer.execute(f"SELECT FROM {workers} WHERE id = $1 FOR UPDATE", worker)
            exchanging = asyncio.create_task(store.exchange(worker, claim=claim_of()))
            while not exchanging.done() and not await onlooker.fetchval(waits):
                await asyncio.sleep(0.01)
            await rescuer.execute(f"DELETE FROM {workers} WHERE id = $1", worker)
        done = await exchanging
    finally:
        await rescuer.close()
        await onlooker.close()

    assert done.claimed == ()
    assert (await look(store, job)).attempts == 0
    await check_counts(store, clock)


async def test_who_comes_second_takes_what_is_left_and_looks_again(
    store: PostgresStore,
    other: PostgresStore,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two workers that see the same heads share them, and the second is told that there may be more."""
    first, second = await store.register(info()), await other.register(info())
    await store.enqueue([draft() for _ in range(6)])
    taken: list[Claimed] = []

    async def take_two() -> None:
        taken.extend(await take(other, second, start=2))

    meanwhile(monkeypatch, take_two)
    done = await store.exchange(first, claim=claim_of(start=4))
    taken += done.claimed

    assert (len(done.claimed), done.more) == (2, True)
    taken += await take(store, first, start=4)
    assert len({one.lease.token for one in taken}) == len({one.record.id for one in taken}) == 6
    await check_counts(store, clock)


async def test_who_finds_all_taken_takes_what_is_behind(
    store: PostgresStore,
    other: PostgresStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that saw only what another then took does not go away with nothing."""
    first, second = await store.register(info()), await other.register(info())
    jobs = await store.enqueue([draft() for _ in range(4)])
    meanwhile(monkeypatch, lambda: take(other, second, start=2))

    assert await take_ids(store, first, start=2) == [jobs[2].id, jobs[3].id]


async def test_a_job_that_somebody_holds_is_neither_waited_for_nor_looked_for_at_once(
    store: PostgresStore, postgres_url: str
) -> None:
    """As long as a transaction of others has it locked there is nothing to claim."""
    worker = await store.register(info())
    job = await add(store)
    connection = await asyncpg.connect(postgres_url.partition("?")[0])
    jobs = f"{store.address.schema}.jobs"
    try:
        async with connection.transaction():
            await connection.execute(f"SELECT FROM {jobs} WHERE id = $1 FOR UPDATE", job.id)
            done = await store.exchange(worker, claim=claim_of())
    finally:
        await connection.close()

    assert (done.claimed, done.more) == ((), False)
    assert await take_ids(store, worker) == [job.id]


async def test_a_job_that_has_come_into_the_place_of_another_is_not_taken_for_it(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vacuum frees places between the look and the claim."""
    worker = await store.register(info())
    jobs = [await add(store) for _ in range(2)]
    seen = Session.look

    async def exchanged(session: Session, *arguments: Any, **options: Any) -> Outlook:
        monkeypatch.setattr(Session, "look", seen)
        outlook = await seen(session, *arguments, **options)
        first, (_, place) = next(iter(outlook.heads)), outlook.heads.values()
        return outlook._replace(heads={first: place})

    monkeypatch.setattr(Session, "look", exchanged)
    assert await take_ids(store, worker) == [job.id for job in jobs]


async def test_a_claim_renews_a_lease_that_is_old(
    store: PostgresStore, clock: VirtualClock
) -> None:
    """An idle worker renews nothing; what it claims after that is its own for as long as any other."""
    worker = await store.register(info())
    await clock.advance(LEASE_S * 10)
    await add(store)
    await take_one(store, worker)
    await clock.advance(LEASE_S / 2)

    assert (await store.rescue()).workers == ()


async def test_to_claim_takes_two_statements_and_no_transaction(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that looks, one that leases and counts; where there is nothing to claim, the look alone."""
    worker = await store.register(info())
    await add(store)
    await take(store, worker)
    statements: list[str] = []
    for name in ("fetch", "fetchval", "execute"):
        monkeypatch.setattr(asyncpg.Connection, name, _noting(name, statements))

    await take(store, worker)
    assert len(statements) == 1
    await add(store)
    statements.clear()
    await take(store, worker)
    assert sum("NOTIFY" not in sql for sql in statements) == 2


def _noting(name: str, statements: list[str]) -> Callable[..., Awaitable[Any]]:
    real = getattr(asyncpg.Connection, name)

    async def noting(connection: Any, sql: str, *arguments: Any, **options: Any) -> Any:
        statements.append(sql)
        return await real(connection, sql, *arguments, **options)

    return noting


async def test_a_late_commit_behind_the_frontier_is_found(
    store: PostgresStore, clock: VirtualClock, postgres_url: str
) -> None:
    """A job whose transaction took long is claimed too, and nobody waits for that transaction."""
    worker = await store.register(info())
    connection = await asyncpg.connect(postgres_url.partition("?")[0])
    try:
        transaction = connection.transaction()
        await transaction.start()
        [late] = await store.enqueue_in(connection, [draft()])
        await clock.advance(60)
        await add(store)
        await take_one(store, worker)
        await transaction.commit()
    finally:
        await connection.close()

    async with asyncio.timeout(10):
        while not (claimed := await take(store, worker)):
            await asyncio.sleep(0.01)
    assert claimed[0].record.id == late.id


def test_the_frontier_spends_a_twentieth_on_reading_all() -> None:
    """A slow reading is repeated seldom, however often it is asked for; a quick one often."""
    now = [100.0]
    frontier = Frontier(lambda: now[0])
    assert frontier.start()
    now[0] += 0.1
    frontier.end()

    now[0] += 1.9
    assert not frontier.start()
    assert not frontier.start(anxious=True)
    now[0] += 0.2
    assert frontier.start()
    frontier.end()
    assert not frontier.start()
    assert frontier.start(anxious=True)


async def test_a_lost_connection_is_no_death(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The locks die with it, and are held again in a moment: nobody's jobs run twice for that."""
    worker = await store.register(info())
    await add(store)
    lease = await take_one(store, worker)
    connect, lost = store._holder.open, asyncio.Event()

    async def connect_slowly() -> None:
        lost.set()
        await asyncio.sleep(0.2)
        await connect()

    monkeypatch.setattr(store._holder, "open", connect_slowly)
    await asyncio.to_thread(store._holder.call, end_connection(store._holder._connection))
    async with asyncio.timeout(5):
        while not lost.is_set():
            await asyncio.sleep(0.001)

    assert (await other.rescue()).workers == ()
    await report(store, worker, completed(lease))


async def end_connection(connection: asyncpg.Connection) -> None:
    """The server ends it."""
    try:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    except asyncpg.PostgresError:
        return


async def test_who_renews_in_time_is_not_rescued(
    store: PostgresStore,
    other: PostgresStore,
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


async def test_the_history_is_ready_before_it_is_needed(
    store: PostgresStore, clock: VirtualClock, postgres_url: str
) -> None:
    """A reader that does not know of a partition yet would find a job in neither table."""
    worker = await store.register(info())
    schema = store.address.schema
    first = await _partitions(postgres_url, schema)
    await clock.advance(6 * 3600 + 1)
    await add(store)
    await report(store, worker, completed(await take_one(store, worker)))

    assert first == 2
    assert await _partitions(postgres_url, schema) == 3


async def test_a_job_is_looked_for_twice(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have moved to a partition that the first look did not know of."""
    job = await add(store)
    fetch, looks = Session._fetch, list[str]()

    async def miss_at_first(session: Session, sql: str, *arguments: Any) -> list[Any]:
        looks.append(sql)
        return [] if len(looks) == 1 else await fetch(session, sql, *arguments)

    monkeypatch.setattr(Session, "_fetch", miss_at_first)

    assert await store.get(job.id) == job
    assert await store.get("unknown") is None


async def test_an_operation_that_loses_races_is_tried_ten_times(store: PostgresStore) -> None:
    """Alone, so that it holds nobody up; its caller then sees the last error, and the store goes on."""
    tries = 0

    async def loses(_: Session) -> None:
        nonlocal tries
        tries += 1
        raise asyncpg.SerializationError("another was quicker")

    with pytest.raises(StoreError, match="another was quicker"):
        await store._write(loses)

    assert tries == 10
    await look(store, await add(store))


async def test_a_commit_tells_what_it_has_done_and_no_more(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records alone wake no worker; a cancellation among the changes does, also where a job runs."""
    job = await add(store)
    told: list[tuple[bool, bool, bool, list[str]]] = []
    monkeypatch.setattr(
        store._writer,
        "_told",
        lambda effects: told.append(
            (effects.ready, effects.control, effects.events, effects.finished)
        ),
    )
    await store.write(changes(put("a")))
    await store.write(changes(event()))
    await store.write(changes(cancel=[job.id]))
    await asyncio.sleep(0)  # it is told after the operation has returned

    assert told == [
        (False, False, False, []),
        (False, False, True, []),
        (False, True, False, [job.id]),
    ]


async def test_a_lease_knows_the_place_of_its_row(store: PostgresStore, postgres_url: str) -> None:
    """Block and line, also beyond the first block: the end of the attempt finds it without an index."""
    worker = await store.register(info())
    await store.enqueue([draft(payload="x" * 100) for _ in range(100)])
    leases = [claimed.lease for claimed in await take(store, worker)]
    connection = await asyncpg.connect(postgres_url.partition("?")[0])
    try:
        rows = await connection.fetch(f"SELECT id, ctid FROM {store.address.schema}.jobs")
    finally:
        await connection.close()

    assert {lease.job_id: _place(lease.ref) for lease in leases} == dict(map(tuple, rows))
    assert max(block for _, (block, _) in rows) > 0
    await report(store, worker, *map(completed, leases))


async def test_an_upgrade_says_what_was_missing_and_leaves_no_connection(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one makes the whole schema, the next has nothing to do; both hang up."""
    made: list[Any] = []
    connect = database.connect

    async def connected(*arguments: Any, **options: Any) -> Any:
        made.append(await connect(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(database, "connect", connected)
    first, again = await database.upgrade(postgres_url), await database.upgrade(postgres_url)

    assert first == tuple(range(1, len(first) + 1))
    assert again == ()
    assert [connection.is_closed() for connection in made] == [True, True]


async def test_without_upgrade_a_store_must_be_complete(postgres_url: str) -> None:
    """`upgrade=no` makes nothing: it says what is missing, and opens what is complete."""
    store = PostgresStore(f"{postgres_url}&upgrade=no")
    with pytest.raises(StoreUnsupportedError, match=r"lacks migration 1, .*durably db upgrade"):
        await store.open()
    await database.upgrade(postgres_url)
    await store.open()
    await store.close()


@pytest.mark.parametrize("end", [snoozed, retried, failed, returned])
async def test_the_ends_of_many_attempts_take_few_statements(
    store: PostgresStore, clock: VirtualClock, end: EndOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred are read together and written together, not one after the other."""
    worker = await store.register(info())
    await store.enqueue([draft(max_attempts=9) for _ in range(100)])
    leases = [c.lease for c in await take(store, worker, start=100)]
    statements: list[str] = []
    fetch, run = Session._fetch, Session._run

    async def fetching(session: Session, sql: str, *arguments: Any) -> Any:
        statements.append(sql)
        return await fetch(session, sql, *arguments)

    async def running(session: Session, sql: str, *arguments: Any) -> Any:
        statements.append(sql)
        return await run(session, sql, *arguments)

    monkeypatch.setattr(Session, "_fetch", fetching)
    monkeypatch.setattr(Session, "_run", running)
    await report(store, worker, *(end(lease) for lease in leases))

    assert 0 < len(statements) < 20
    await check_counts(store, clock)


@pytest.mark.parametrize("ids", [True, False])
async def test_jobs_that_go_during_a_search_take_no_others_off_its_pages(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch, ids: bool
) -> None:
    """A page ends where it has looked, not where it would end now that newer jobs have ended."""
    jobs = [await add(store, tags=["wanted"] if n == 0 else []) for n in range(6)]
    fetch = Session._fetch

    async def cancel_newer(session: Session, sql: str, *arguments: Any) -> list[Any]:
        if "min(seq)" in sql:
            monkeypatch.setattr(Session, "_fetch", fetch)
            for job in jobs[3:]:
                await other.cancel(job.id)
        return await fetch(session, sql, *arguments)

    monkeypatch.setattr(Session, "_fetch", cancel_newer)
    where = Search(statuses=(JobStatus.PENDING,), tag="wanted")
    page = await (store.match_ids if ids else store.search)(where, limit=10, scan=3)
    rest = await store.match_ids(where, limit=10, after=page.next)

    assert rest.ids == [jobs[0].id]
