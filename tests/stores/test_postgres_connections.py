"""Jobs added and completed on the caller's own connection to PostgreSQL, by every driver we take."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import asyncpg
import psycopg
import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from durably import Fail, Job, JobContext, JobQueueService, JobStatus, RetryPolicy, SyncJobContext
from durably.stores.postgres.store import PostgresStore


class Own(NamedTuple):
    """A connection of the caller's in an open transaction."""

    given: Any
    execute: Callable[[str], Any]
    commit: Callable[[], Any]
    rollback: Callable[[], Any]


async def done(answer: Any) -> None:
    if asyncio.iscoroutine(answer):
        await answer


@asynccontextmanager
async def by_asyncpg(dsn: str) -> AsyncIterator[Own]:
    connection = await asyncpg.connect(dsn)
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield Own(connection, connection.execute, transaction.commit, transaction.rollback)
    finally:
        await connection.close()


@asynccontextmanager
async def by_psycopg_async(dsn: str) -> AsyncIterator[Own]:
    connection = await psycopg.AsyncConnection.connect(dsn)
    try:
        yield Own(connection, connection.execute, connection.commit, connection.rollback)
    finally:
        await connection.close()


@contextmanager
def psycopg_sync(dsn: str) -> Iterator[Own]:
    connection = psycopg.connect(dsn)
    try:
        yield Own(connection, connection.execute, connection.commit, connection.rollback)
    finally:
        connection.close()


@contextmanager
def alchemy_sync(dsn: str, kind: type[Connection] | type[Session] = Connection) -> Iterator[Own]:
    engine = create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() if kind is Connection else Session(engine) as given:
        execute = given.execute
        yield Own(given, lambda sql: execute(text(sql)), given.commit, given.rollback)
    engine.dispose()


@asynccontextmanager
async def alchemy_async(
    dsn: str, driver: str, kind: type[AsyncConnection] | type[AsyncSession]
) -> AsyncIterator[Own]:
    engine = create_async_engine(dsn.replace("postgresql:", f"postgresql+{driver}:"))
    async with engine.connect() if kind is AsyncConnection else AsyncSession(engine) as given:
        execute = given.execute
        yield Own(given, lambda sql: execute(text(sql)), given.commit, given.rollback)
    await engine.dispose()


@asynccontextmanager
async def blocking(own: Any) -> AsyncIterator[Own]:
    with own as connection:
        yield connection


KINDS: dict[str, Callable[[str], Any]] = {
    "asyncpg": by_asyncpg,
    "psycopg-async": by_psycopg_async,
    "psycopg": lambda dsn: blocking(psycopg_sync(dsn)),
    "sqlalchemy": lambda dsn: blocking(alchemy_sync(dsn)),
    "sqlalchemy-session": lambda dsn: blocking(alchemy_sync(dsn, Session)),
    "sqlalchemy-asyncpg": lambda dsn: alchemy_async(dsn, "asyncpg", AsyncConnection),
    "sqlalchemy-asyncpg-session": lambda dsn: alchemy_async(dsn, "asyncpg", AsyncSession),
    "sqlalchemy-psycopg": lambda dsn: alchemy_async(dsn, "psycopg", AsyncConnection),
}
SYNC: dict[str, Callable[[str], Any]] = {
    "psycopg": psycopg_sync,
    "sqlalchemy": alchemy_sync,
    "sqlalchemy-session": lambda dsn: alchemy_sync(dsn, Session),
}
ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
async def queue(postgres_url: str) -> AsyncIterator[JobQueueService]:
    async with JobQueueService(postgres_url, processing_interval=0.05) as queue:
        yield queue


@pytest.fixture
def dsn(postgres_url: str) -> str:
    return postgres_url.partition("?")[0]


@pytest.fixture
async def mine(dsn: str, postgres_url: str) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """How many rows the handler's own table has."""
    table = "public." + postgres_url.rpartition("=")[2] + "_mine"
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"CREATE TABLE {table} (a integer)")

    async def rows() -> int:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))

    rows.table = table  # type: ignore[attr-defined]
    yield rows
    await connection.execute(f"DROP TABLE {table}")
    await connection.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_job_is_added_in_the_callers_transaction(
    queue: JobQueueService, dsn: str, kind: str
) -> None:
    """It is there when that commits, not before, and never if it is rolled back; keys count."""
    async with KINDS[kind](dsn) as own:
        job = await queue.add_job(
            "a", {"n": 1}, unique_key="k", tags=["x"], delay=60, connection=own.given
        )
        same = await queue.add_job("a", unique_key="k", connection=own.given)
        assert await queue.get_job(job.id) is None
        await done(own.commit())
    async with KINDS[kind](dsn) as own:
        lost = await queue.add_job("b", connection=own.given)
        await done(own.rollback())

    assert same == job
    assert await queue.get_job(job.id) == job
    assert await queue.get_job(lost.id) is None
    assert (await queue.get_stats()).total_jobs == 1


async def finished(queue: JobQueueService, job: Job) -> Job:
    await queue.start_processing()
    return await queue.wait(job.id, timeout=10)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_job_is_completed_in_the_handlers_transaction(
    queue: JobQueueService, dsn: str, mine: Any, kind: str
) -> None:
    """The handler's commit makes its own rows, the outcome and the follow-up true together."""

    async def handle(ctx: JobContext) -> None:
        async with KINDS[kind](dsn) as own:
            await done(own.execute(f"INSERT INTO {mine.table} VALUES (1)"))
            async with ctx.complete({"n": 1}, connection=own.given) as tx:
                assert await tx.execute(f"INSERT INTO {mine.table} VALUES (2)") == 1
                assert await tx.fetch(f"SELECT a FROM {mine.table} ORDER BY a") == [(1,), (2,)]
                tx.add_job("next")
            before = await queue.get_job(ctx.id)
            assert before is not None
            assert before.status is JobStatus.PROCESSING
            await done(own.commit())

    queue.register_handler("charge", handle)
    job = await finished(queue, await queue.add_job("charge"))

    assert (job.status, job.result, job.attempts) == (JobStatus.COMPLETED, {"n": 1}, 1)
    assert await mine() == 2
    assert [job.type for job in await queue.get_jobs(status=JobStatus.PENDING)] == ["next"]
    assert (await queue.get_stats()).total_jobs == 2


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("kind", ["asyncpg", "psycopg-async", "sqlalchemy-asyncpg"])
async def test_a_transaction_that_is_not_committed_completes_nothing(
    queue: JobQueueService, dsn: str, mine: Any, kind: str, *, raises: bool
) -> None:
    """Neither rows nor outcome nor follow-up: the attempt has failed, whether or not it raised."""

    async def handle(ctx: JobContext) -> None:
        async with KINDS[kind](dsn) as own:
            async with ctx.complete(connection=own.given) as tx:
                await tx.execute(f"INSERT INTO {mine.table} VALUES (1)")
                tx.add_job("next")
            await done(own.rollback())
        if raises:
            raise ValueError("no")

    queue.register_handler("charge", handle, retry=ONCE)
    job = await finished(queue, await queue.add_job("charge"))

    assert job.status is JobStatus.FAILED
    assert job.error == (
        "no"
        if raises
        else "the handler has not committed the transaction of complete(connection=…)"
    )
    assert await mine() == 0
    assert (await queue.get_stats()).total_jobs == 1


async def test_a_handler_that_is_cancelled_while_its_commit_is_looked_for_has_an_end(
    queue: JobQueueService, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has raised, and whether its transaction was committed is asked: the job is not left leased.

    What the transaction that was rolled back would have added is not added either.
    """
    get, asked = PostgresStore.get, asyncio.Event()
    raised = False

    async def hangs(store: PostgresStore, job_id: str) -> Job | None:
        task = asyncio.current_task()
        if raised and not asked.is_set() and task is not None and task.get_name() == "durably-slot":
            asked.set()
            await asyncio.Event().wait()
        return await get(store, job_id)

    async def handle(ctx: JobContext) -> None:
        nonlocal raised
        async with by_asyncpg(dsn) as own:
            async with ctx.complete(connection=own.given) as tx:
                tx.add_job("next")
            await done(own.rollback())
        raised = True
        raise Fail("no")

    monkeypatch.setattr(PostgresStore, "get", hangs)
    queue.register_handler("charge", handle)
    job = await queue.add_job("charge")
    await queue.start_processing()
    async with asyncio.timeout(10):
        await asked.wait()
    await queue.cancel_job(job.id)

    assert (await queue.wait(job.id, timeout=10)).status is JobStatus.CANCELLED
    assert (await queue.get_stats()).total_jobs == 1


@pytest.mark.parametrize("kind", SYNC)
async def test_a_handler_in_a_thread_completes_on_its_connection(
    queue: JobQueueService, dsn: str, mine: Any, kind: str
) -> None:
    """With blocking drivers and blocking calls."""

    def handle(ctx: SyncJobContext) -> None:
        with SYNC[kind](dsn) as own:
            with ctx.complete(1, connection=own.given) as tx:
                assert tx.execute(f"INSERT INTO {mine.table} VALUES (2)") == 1
                assert tx.fetch("SELECT 1") == [(1,)]
                tx.add_job("next")
            own.commit()

    queue.register_handler("charge", handle)
    job = await finished(queue, await queue.add_job("charge"))

    assert (job.status, job.result) == (JobStatus.COMPLETED, 1)
    assert await mine() == 1
    assert (await queue.get_stats()).total_jobs == 2


async def test_a_handler_in_a_thread_completes_without_a_connection(
    queue: JobQueueService, mine: Any
) -> None:
    """The store's own serves threads too; what the block raises is the attempt's failure."""

    def good(ctx: SyncJobContext) -> None:
        with ctx.complete() as tx:
            tx.execute(f"INSERT INTO {mine.table} VALUES (?)", 2)

    def bad(ctx: SyncJobContext) -> None:
        with ctx.complete() as tx:
            tx.execute(f"INSERT INTO {mine.table} VALUES (?)", 3)
            raise ValueError("no")

    queue.register_handler("good", good)
    queue.register_handler("bad", bad, retry=ONCE)
    assert (await finished(queue, await queue.add_job("good"))).status is JobStatus.COMPLETED
    assert (await finished(queue, await queue.add_job("bad"))).error == "no"
    assert await mine() == 1


async def test_what_is_no_connection_of_ours_is_refused(
    queue: JobQueueService, dsn: str, postgres_url: str
) -> None:
    """Other objects, closed transactions and other stores: the error says what is wrong."""
    with pytest.raises(TypeError, match=r"asyncpg\.Connection.*SQLAlchemy.*got object"):
        await queue.add_job("a", connection=object())
    plain = await asyncpg.connect(dsn)
    with pytest.raises(ValueError, match="no transaction open"):
        await queue.add_job("a", connection=plain)
    await plain.close()
    with psycopg.connect(dsn, autocommit=True) as auto:
        with pytest.raises(ValueError, match="no transaction open"):
            await queue.add_job("a", connection=auto)
        with auto.transaction():
            await queue.add_job("a", connection=auto)

    elsewhere = PostgresStore(f"{dsn}?schema=elsewhere")
    async with JobQueueService(elsewhere) as other:
        await plain_drop(dsn, "DELETE FROM elsewhere.meta WHERE key = 'store'")
        connection = await asyncpg.connect(dsn)
        async with connection.transaction():
            with pytest.raises(ValueError, match="the connection is not to postgresql://"):
                await other.add_job("a", connection=connection)
        await connection.close()
    await plain_drop(dsn, "DROP SCHEMA elsewhere CASCADE")
    assert (await queue.get_stats()).total_jobs == 1


async def plain_drop(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(sql)
    await connection.close()


async def test_inside_complete_other_writes_are_refused(queue: JobQueueService, dsn: str) -> None:
    """They would wait for the handler's transaction: the error names `tx`."""

    async def handle(ctx: JobContext) -> None:
        async with by_asyncpg(dsn) as own, ctx.complete(connection=own.given):
            await ctx.set_progress(0.5)

    queue.register_handler("charge", handle, retry=ONCE)
    job = await finished(queue, await queue.add_job("charge"))
    assert job.error is not None
    assert "use its `tx`" in job.error
