"""The store on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from durably.domain.errors import StoreUnsupportedError, VersionConflictError
from durably.domain.job import JobStatus
from durably.stores.postgres.store import PostgresStore
from durably.testing import VirtualClock
from durably.testing.conformance.support import (
    add,
    changes,
    completed,
    draft,
    info,
    look,
    put,
    report,
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
