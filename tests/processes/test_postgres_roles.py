"""The roles that docs/guides/postgres.md gives to producers, workers and operators are enough."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from tests.postgres import Server

from durably import JobContext, JobQueueService, JobStatus, RetryPolicy, StoreError
from durably.stores.postgres.database import upgrade

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "postgres.md"
PEOPLE = ("producer", "worker", "operator")


@pytest.fixture
async def database(postgres_server: Server) -> AsyncIterator[str]:
    """A database of its own, in which the guide has been followed; the URL has no user."""
    [sql] = re.findall(r"```sql\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    make, _, grants = sql.partition("-- adds jobs")
    schema, _, read = make.partition("-- then: durably db upgrade, as the owner\n")
    root = await asyncpg.connect(postgres_server.url)
    await root.execute("CREATE DATABASE roles")
    for person in PEOPLE:
        await root.execute(f"CREATE ROLE {person} LOGIN")
    place = f"127.0.0.1:{postgres_server.port}/roles"
    inside = await asyncpg.connect(f"postgresql://postgres@{place}")
    await inside.execute(schema)
    await inside.execute("ALTER ROLE durably_owner LOGIN")
    assert await upgrade(f"postgresql://durably_owner@{place}")
    await inside.execute(read + "--" + grants)
    await inside.close()
    yield place
    await root.execute("DROP DATABASE roles WITH (FORCE)")
    for person in (*PEOPLE, "durably_owner"):
        await root.execute(f"DROP ROLE {person}")
    await root.close()


async def test_each_role_can_do_its_part_and_no_more(database: str) -> None:
    """Add; run, fail, complete with SQL, clean up; pause, cancel, retry. A producer runs nothing."""
    producer, worker, operator = (
        f"postgresql://{person}@{database}?upgrade=no" for person in PEOPLE
    )

    async def work(ctx: JobContext) -> None:
        if ctx.payload == "fail":
            raise ValueError("no")
        await ctx.step("one", lambda: 1)
        async with ctx.complete(1) as tx:
            tx.add_job("nobody's")

    async with (
        JobQueueService(producer) as adding,
        JobQueueService(worker, processing_interval=0.05) as running,
        JobQueueService(operator) as looking,
    ):
        running.register_handler("work", work, retry=RetryPolicy(max_attempts=1))
        await running.start_processing()
        done = await adding.add_job("work", unique_key="k")
        failed = await adding.add_job("work", "fail", delay=0.01)
        assert (await looking.wait(done.id, timeout=20)).status is JobStatus.COMPLETED
        assert (await looking.wait(failed.id, timeout=20)).status is JobStatus.FAILED
        await looking.pause("default")
        assert (await looking.retry_job(failed.id)).status is JobStatus.PENDING
        assert (await looking.cancel_job(failed.id)).status is JobStatus.CANCELLED
        await looking.resume("default")
        assert await running.cleanup(0) == 2

        adding.register_handler("work", work)
        with pytest.raises(StoreError, match="permission denied"):
            await adding.start_processing()
