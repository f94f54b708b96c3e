"""Promise P5: outcome, follow-ups and the handler's own SQL in one transaction."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine.support import happened, until

from durably import (
    Fail,
    Job,
    JobContext,
    JobQueueService,
    JobStatus,
    LeaseLostError,
    NewJob,
    Retry,
    StoreBusyError,
    StoreError,
)
from durably.store import Store
from durably.stores.sqlite import transaction


@pytest.fixture
def table(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The user's own table `orders` in the store's file."""
    connection = sqlite3.connect(tmp_path / "jobs.db")
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    connection.commit()
    yield connection
    connection.close()


def orders(table: sqlite3.Connection) -> list[str]:
    return [row[0] for row in table.execute("SELECT name FROM orders ORDER BY id")]


async def run(queue: JobQueueService, handler: Any, **options: Any) -> Job:
    queue.register_handler("order", handler)
    await queue.start_processing()
    return await queue.wait((await queue.add_job("order", **options)).id, timeout=10)


async def children(queue: JobQueueService) -> list[Any]:
    return [job.payload for job in await queue.get_jobs(type="child")]


async def test_all_of_it_commits(table: sqlite3.Connection, sqlite_queue: JobQueueService) -> None:
    """Rows, result, follow-ups of the block and of the handler."""

    async def handler(job: JobContext) -> None:
        job.add_job("child", "before")
        async with job.complete({"n": 2}) as tx:
            assert await tx.execute("INSERT INTO orders (name) VALUES (?), (?)", "a", "b") == 2
            assert await tx.fetch("SELECT name FROM orders WHERE name = ?", "a") == [("a",)]
            tx.add_job("child", "inside")

    job = await run(sqlite_queue, handler)

    assert (job.status, job.result, job.attempts) == (JobStatus.COMPLETED, {"n": 2}, 1)
    assert orders(table) == ["a", "b"]
    assert await children(sqlite_queue) == ["before", "inside"]


async def test_nothing_is_visible_before_the_block_ends(
    table: sqlite3.Connection, sqlite_queue: JobQueueService
) -> None:
    """Others see neither the rows nor the outcome while the block runs."""
    seen: list[Any] = []

    async def handler(job: JobContext) -> None:
        async with job.complete() as tx:
            await tx.execute("INSERT INTO orders (name) VALUES ('a')")
            tx.add_job("child")
            now = await sqlite_queue.get_job(job.id)
            seen.append((orders(table), await children(sqlite_queue), now and now.status))
        after = await sqlite_queue.get_job(job.id)
        seen.append((orders(table), await children(sqlite_queue), after and after.status))

    await run(sqlite_queue, handler)
    await sqlite_queue.shutdown()

    assert seen == [([], [], JobStatus.PROCESSING), (["a"], [None], JobStatus.COMPLETED)]


async def test_an_exception_rolls_all_of_it_back(
    table: sqlite3.Connection, sqlite_queue: JobQueueService
) -> None:
    """It counts as the attempt's failure; the next attempt starts clean."""

    async def handler(job: JobContext) -> None:
        async with job.complete("done") as tx:
            await tx.execute("INSERT INTO orders (name) VALUES (?)", f"attempt {job.attempts}")
            tx.add_job("child", job.attempts)
            if job.attempts == 1:
                raise ValueError("half way")

    job = await run(sqlite_queue, handler)

    assert (job.status, job.attempts, job.result) == (JobStatus.COMPLETED, 2, "done")
    assert [(e.attempt, e.message) for e in job.errors] == [(1, "half way")]
    assert orders(table) == ["attempt 2"]
    assert await children(sqlite_queue) == [2]


async def test_bad_sql_is_the_attempts_failure(
    table: sqlite3.Connection, sqlite_queue: JobQueueService
) -> None:
    """What the database refuses rolls back the statements before it."""

    async def handler(job: JobContext) -> None:
        async with job.complete() as tx:
            await tx.execute("INSERT INTO orders (name) VALUES ('once')")
            await tx.execute("INSERT INTO orders (name) VALUES ('once')")

    job = await run(sqlite_queue, handler, max_attempts=1)

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "UNIQUE" in job.error
    assert orders(table) == []


@pytest.mark.parametrize("end", [Fail, Retry])
async def test_a_decision_in_the_block_rolls_it_back_too(
    table: sqlite3.Connection, sqlite_queue: JobQueueService, end: type[Exception]
) -> None:
    """Fail and Retry commit what the handler added before the block, nothing of the block."""

    async def handler(job: JobContext) -> None:
        if job.attempts == 1:
            job.add_job("child", "before")
            async with job.complete() as tx:
                await tx.execute("INSERT INTO orders (name) VALUES ('a')")
                tx.add_job("child", "inside")
                raise end("why")

    job = await run(sqlite_queue, handler)

    assert job.status is (JobStatus.FAILED if end is Fail else JobStatus.COMPLETED)
    assert orders(table) == []
    assert await children(sqlite_queue) == ["before"]


async def test_what_a_caught_exception_rolled_back_stays_so(
    table: sqlite3.Connection, sqlite_queue: JobQueueService
) -> None:
    """A handler that catches the block's exception and asks for a retry commits none of it."""

    async def handler(job: JobContext) -> None:
        if job.attempts > 1:
            return
        try:
            async with job.complete() as tx:
                tx.add_job("child", "rolled back")
                await tx.execute("INSERT INTO nonsense VALUES (1)")
        except sqlite3.OperationalError:
            raise Retry(delay=0) from None

    job = await run(sqlite_queue, handler)

    assert (job.status, job.attempts) == (JobStatus.COMPLETED, 2)
    assert await children(sqlite_queue) == []


async def test_the_fence_comes_first(
    table: sqlite3.Connection, sqlite_queue: JobQueueService
) -> None:
    """An attempt that no longer owns its job cannot open the block; no statement runs."""
    ran: list[str] = []

    async def write(job: JobContext) -> None:
        async with job.complete() as tx:
            ran.append("inside")
            await tx.execute("INSERT INTO orders (name) VALUES ('late')")

    async def handler(job: JobContext) -> None:
        if job.attempts == 1:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await until(sqlite_queue, job.id, lambda job: len(job.errors) == 1)
            with pytest.raises(LeaseLostError):
                await write(job)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("durably.engine.executor.UNWIND_LONGEST_S", 0.02)
        sqlite_queue.register_handler("order", handler, timeout=0.02)
        await sqlite_queue.start_processing()
        added = await sqlite_queue.add_job("order")
        job = await sqlite_queue.wait(added.id, timeout=10)
        await sqlite_queue.shutdown()

    assert (job.status, [e.kind for e in job.errors]) == (JobStatus.COMPLETED, ["timeout"])
    assert ran == []
    assert orders(table) == []


async def test_other_writes_in_the_block_raise_and_name_tx(
    table: sqlite3.Connection, sqlite_queue: JobQueueService
) -> None:
    """They would wait for the block for ever; the message says what to use instead."""
    messages: list[str] = []

    async def handler(job: JobContext) -> None:
        writes: list[Callable[[], Any]] = [
            lambda: sqlite_queue.add_job("child"),
            lambda: sqlite_queue.add_jobs([NewJob("child")]),
            lambda: sqlite_queue.cancel_job(job.id),
            lambda: sqlite_queue.pause("default"),
            lambda: job.set_progress(0.5),
            lambda: job.step("one", lambda: 1),
        ]
        async with job.complete():
            for write in writes:
                with pytest.raises(StoreError) as caught:
                    async with asyncio.timeout(2):
                        await write()
                messages.append(str(caught.value))

    job = await run(sqlite_queue, handler)

    assert job.status is JobStatus.COMPLETED
    assert len(messages) == 6
    assert all("tx" in message for message in messages)


async def test_reads_in_the_block_are_allowed(
    table: sqlite3.Connection, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in jobs that were claimed ahead, whose start is not recorded yet."""
    monkeypatch.setattr(transaction, "LONGEST_S", 1.0)

    async def quick(job: JobContext) -> None: ...

    async def handler(job: JobContext) -> None:
        async with job.complete("read") as tx:
            assert await tx.fetch("SELECT 1") == [(1,)]
            assert await queue.get_job(job.id) is not None
            assert await queue.get_jobs(limit=1)

    async with JobQueueService(sqlite_url, concurrency=2) as queue:
        queue.register_handler("quick", quick)
        queue.register_handler("order", handler)
        await queue.add_jobs([NewJob("quick")] * 2000)
        jobs = await queue.add_jobs([NewJob("order")] * 20)
        await queue.start_processing()
        done = [await queue.wait(job.id, timeout=20) for job in jobs]

    assert [(job.result, job.errors) for job in done] == [("read", ())] * 20


async def test_the_block_may_last_five_seconds(
    table: sqlite3.Connection, sqlite_queue: JobQueueService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is rolled back, others write again, and leaving the block raises."""
    assert transaction.LONGEST_S == 5
    monkeypatch.setattr(transaction, "LONGEST_S", 0.1)
    opened = asyncio.Event()

    async def handler(job: JobContext) -> None:
        if job.attempts == 1:
            async with job.complete() as tx:
                await tx.execute("INSERT INTO orders (name) VALUES ('late')")
                opened.set()
                await asyncio.sleep(0.3)

    sqlite_queue.register_handler("order", handler)
    await sqlite_queue.start_processing()
    added = await sqlite_queue.add_job("order")
    await happened(opened)
    async with asyncio.timeout(5):
        await sqlite_queue.add_job("unrelated")
    job = await sqlite_queue.wait(added.id, timeout=10)

    assert (job.status, job.attempts) == (JobStatus.COMPLETED, 2)
    assert "0.1 s" in job.errors[0].message
    assert orders(table) == []


async def test_two_blocks_take_turns(table: sqlite3.Connection, sqlite_url: str) -> None:
    """Blocks of one service never overlap, and none is refused."""
    inside = most = 0

    async def handler(job: JobContext) -> None:
        nonlocal inside, most
        async with job.complete() as tx:
            inside += 1
            most = max(most, inside)
            await tx.execute("INSERT INTO orders (name) VALUES (?)", f"{job.payload:02}")
            await asyncio.sleep(0)
            inside -= 1

    async with JobQueueService(sqlite_url, concurrency=8) as queue:
        queue.register_handler("order", handler)
        jobs = await queue.add_jobs([NewJob("order", n) for n in range(24)])
        await queue.start_processing()
        done = [await queue.wait(job.id, timeout=20) for job in jobs]

    assert most == 1
    assert {(job.status, job.attempts) for job in done} == {(JobStatus.COMPLETED, 1)}
    assert sorted(orders(table)) == [f"{n:02}" for n in range(24)]


async def test_two_services_take_turns(table: sqlite3.Connection, sqlite_url: str) -> None:
    """Blocks of two services on one file take turns too, and with plain writes."""

    async def handler(job: JobContext) -> None:
        async with job.complete() as tx:
            ((count,),) = await tx.fetch("SELECT count(*) FROM orders")
            await asyncio.sleep(0.001)
            await tx.execute("INSERT INTO orders (id) VALUES (?)", count)

    async with (
        JobQueueService(sqlite_url, concurrency=4) as one,
        JobQueueService(sqlite_url, concurrency=4) as two,
    ):
        for queue in (one, two):
            queue.register_handler("order", handler)
            await queue.start_processing()
        jobs = [await (one, two)[n % 2].add_job("order") for n in range(20)]
        done = [await one.wait(job.id, timeout=20) for job in jobs]

    assert {(job.status, job.attempts) for job in done} == {(JobStatus.COMPLETED, 1)}
    assert [row[0] for row in table.execute("SELECT id FROM orders")] == list(range(20))


@pytest.mark.parametrize(
    "statement",
    ["COMMIT", "ROLLBACK", "BEGIN", "SAVEPOINT x", "ATTACH 'x' AS y", "PRAGMA user_version"],
)
async def test_the_block_owns_its_transaction(
    table: sqlite3.Connection, sqlite_queue: JobQueueService, statement: str
) -> None:
    """Statements that would end the transaction are refused; the rest is rolled back."""

    async def handler(job: JobContext) -> None:
        async with job.complete() as tx:
            await tx.execute("INSERT INTO orders (name) VALUES ('a')")
            await tx.execute(statement)

    job = await run(sqlite_queue, handler, max_attempts=1)

    if statement.startswith("PRAGMA"):
        assert job.status is JobStatus.COMPLETED
    else:
        assert (job.status, orders(table)) == (JobStatus.FAILED, [])


async def test_a_job_is_completed_once(url: str) -> None:
    """A second block raises; what is raised or returned after the first changes nothing."""
    raised: list[type[BaseException]] = []

    async def handler(job: JobContext) -> str:
        async with job.complete("first"):
            pass
        for call in (lambda: job.add_job("child"), lambda: job.changes):
            with pytest.raises(LeaseLostError):
                call()
        with pytest.raises(LeaseLostError):
            async with job.complete("second"):
                raised.append(AssertionError)
        if job.payload:
            raise ValueError("too late")
        return "returned"

    async with JobQueueService(url) as queue:
        queue.register_handler("order", handler)
        await queue.start_processing()
        jobs = [await queue.add_job("order", late) for late in (False, True)]
        done = [await queue.wait(job.id, timeout=5) for job in jobs]
        await queue.shutdown()
        after = [await queue.get_job(job.id) for job in jobs]

    assert raised == []
    assert [(j.status, j.result, j.errors) for j in done] == [
        (JobStatus.COMPLETED, "first", ())
    ] * 2
    assert after == done


async def test_tx_is_of_no_use_outside(
    table: sqlite3.Connection, sqlite_queue: JobQueueService
) -> None:
    """Once the block has ended, its transaction takes nothing any more."""

    async def handler(job: JobContext) -> None:
        async with job.complete() as tx:
            pass
        with pytest.raises(StoreError):
            await tx.execute("INSERT INTO orders (name) VALUES ('late')")
        with pytest.raises(LeaseLostError):
            tx.add_job("child")

    job = await run(sqlite_queue, handler)

    assert (job.status, orders(table)) == (JobStatus.COMPLETED, [])
    assert await children(sqlite_queue) == []


async def test_in_memory_there_is_no_sql_but_follow_ups() -> None:
    """memory://: `tx.add_job` only, all or nothing all the same."""

    async def handler(job: JobContext) -> None:
        async with job.complete("done") as tx:
            tx.add_job("child", job.attempts)
            for call in (tx.execute, tx.fetch):
                with pytest.raises(TypeError, match="SQL"):
                    await call("SELECT 1")
            if job.attempts == 1:
                raise Retry(delay=0)

    async with JobQueueService("memory://") as queue:
        job = await run(queue, handler)

        assert (job.status, job.attempts, job.result) == (JobStatus.COMPLETED, 2, "done")
        assert await children(queue) == [2]


async def test_a_result_that_cannot_be_kept_opens_no_block(
    table: sqlite3.Connection, sqlite_queue: JobQueueService
) -> None:
    """It raises at the call, before any statement."""

    async def handler(job: JobContext) -> None:
        async with job.complete(object()) as tx:
            await tx.execute("INSERT INTO orders (name) VALUES ('a')")

    job = await run(sqlite_queue, handler)

    assert (job.status, job.attempts, orders(table)) == (JobStatus.FAILED, 1, [])


async def test_a_cancel_in_the_block_rolls_it_back(
    table: sqlite3.Connection, sqlite_queue: JobQueueService
) -> None:
    """cancel_job waits for its turn, then interrupts the handler, or comes too late."""
    inside = asyncio.Event()

    async def handler(job: JobContext) -> None:
        async with job.complete() as tx:
            await tx.execute("INSERT INTO orders (name) VALUES ('a')")
            inside.set()
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    job = await run(sqlite_queue, handler, max_attempts=1)

    assert (job.status, orders(table)) == (JobStatus.FAILED, [])


# Adding a job in the caller's own transaction


async def test_a_job_of_a_rolled_back_transaction_never_was(
    table: sqlite3.Connection, sqlite_queue: JobQueueService
) -> None:
    """Neither job nor row remains, and no count."""
    table.execute("INSERT INTO orders (name) VALUES ('a')")
    job = await sqlite_queue.add_job("order", connection=table)
    table.rollback()

    assert await sqlite_queue.get_job(job.id) is None
    assert (await sqlite_queue.get_stats()).total_jobs == 0
    assert orders(table) == []


async def test_a_job_of_a_committed_transaction_runs(
    table: sqlite3.Connection, sqlite_url: str
) -> None:
    """Invisible before the commit; found at the processing interval after it."""

    async def handler(job: JobContext) -> Any:
        return orders(table)

    async with JobQueueService(sqlite_url, processing_interval=0.1) as queue:
        queue.register_handler("order", handler)
        await queue.start_processing()
        table.execute("INSERT INTO orders (name) VALUES ('a')")
        job = await queue.add_job("order", {"n": 1}, connection=table, unique_key="k", tags=["t"])
        before = await queue.get_job(job.id)
        table.commit()
        done = await queue.wait(job.id, timeout=5)
        stats = await queue.get_stats()

    assert before is None
    assert (done.status, done.result, done.payload) == (JobStatus.COMPLETED, ["a"], {"n": 1})
    assert (done.unique_key, done.tags) == ("k", ("t",))
    assert (stats.total_jobs, stats.completed_jobs) == (1, 1)


async def test_it_works_without_a_transaction_begun(
    table: sqlite3.Connection, sqlite_queue: JobQueueService
) -> None:
    """A connection with nothing open gets a transaction, which waits for its commit."""
    job = await sqlite_queue.add_job("order", connection=table)
    assert table.in_transaction
    assert await sqlite_queue.get_job(job.id) is None
    table.commit()

    assert await sqlite_queue.get_job(job.id) == job


async def test_a_unique_key_holds_in_the_callers_transaction(
    table: sqlite3.Connection, sqlite_queue: JobQueueService
) -> None:
    """The existing job comes back unchanged."""
    first = await sqlite_queue.add_job("order", 1, unique_key="k")
    second = await sqlite_queue.add_job("order", 2, unique_key="k", connection=table)
    table.commit()

    assert second == first
    assert len(await sqlite_queue.get_jobs()) == 1


async def test_other_connections_are_refused(tmp_path: Path, sqlite_queue: JobQueueService) -> None:
    """Another database, memory, or no connection at all: one clear error."""
    for path in (tmp_path / "other.db", ":memory:"):
        other = sqlite3.connect(path)
        with pytest.raises(ValueError, match="connection"):
            await sqlite_queue.add_job("order", connection=other)
        other.close()
    with pytest.raises(TypeError, match=r"sqlite3\.Connection"):
        await sqlite_queue.add_job("order", connection="jobs.db")
    async with JobQueueService("memory://") as queue:
        with pytest.raises(TypeError, match="memory"):
            await queue.add_job("order", connection=object())

    assert await sqlite_queue.get_jobs() == []


async def test_inside_a_block_one_may_look_but_not_write(store: Store) -> None:
    """On every store alike: reads answer, other writes of the service are refused and name `tx`."""
    seen: list[object] = []

    async with JobQueueService(store) as queue:

        async def handler(job: JobContext) -> None:
            async with job.complete():
                seen.append((await queue.get_stats()).total_jobs)
                with pytest.raises(StoreBusyError, match="tx"):
                    await queue.add_job("other")

        queue.register_handler("a", handler)
        await queue.start_processing()
        job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.status, job.error) == (JobStatus.COMPLETED, None)
    assert seen == [1]


async def test_a_task_that_was_started_inside_may_write_once_the_block_is_over(
    queue: JobQueueService,
) -> None:
    """It keeps the context that it was started in, and may live for as long as the program."""
    over = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def beside() -> None:
        await over.wait()
        await queue.add_job("next")

    async def handle(job: JobContext) -> None:
        async with job.complete():
            tasks.append(asyncio.get_running_loop().create_task(beside()))

    queue.register_handler("order", handle)
    await queue.start_processing()
    await queue.wait((await queue.add_job("order")).id, timeout=10)
    over.set()
    await asyncio.gather(*tasks)

    assert (await queue.get_stats()).total_jobs == 2
