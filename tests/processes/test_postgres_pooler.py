"""PostgreSQL behind a pooler in transaction mode, with a way past it and without."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from click.testing import CliRunner
from tests.postgres import Server, pooler, running_pooler
from tests.processes.support import Family

from durably import JobContext, JobQueueService, JobStatus, StoreError
from durably.cli.root import root
from durably.settings import without_password
from durably.stores.postgres.database import address_of
from durably.stores.postgres.store import PostgresStore
from durably.testing import VirtualClock
from durably.testing.store_conformance import StoreConformance

pytestmark = pytest.mark.skipif(pooler() is None, reason="PgBouncer is not installed")


@pytest.fixture(scope="session")
def pooled(postgres_server: Server) -> Iterator[str]:
    with running_pooler(postgres_server) as pooler:
        yield pooler.url


@pytest.fixture
def pooled_url(pooled: str, postgres_url: str) -> str:
    """Of the store of `postgres_url`, through the pooler."""
    return f"{pooled}?schema={address_of(postgres_url).schema}"


@pytest.fixture
def direct_url(pooled_url: str, postgres_server: Server) -> str:
    """The same with a way past it."""
    return f"{pooled_url}&direct={postgres_server.url}"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def store(
    clock: VirtualClock, pooled_url: str, postgres_server: Server
) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(pooled_url, clock=clock)
    await store.open()
    yield store
    await store.close()
    # Through a pooler no search path keeps the tests' own tables apart.
    connection = await asyncpg.connect(postgres_server.url)
    await connection.execute("DROP TABLE IF EXISTS public.mine")
    await connection.close()


class TestStoreBehindAPooler(StoreConformance):
    """The contract holds though each transaction may have another session, and there are no locks."""


@pytest.mark.parametrize("direct", [True, False])
async def test_jobs_run_through_a_pooler(pooled_url: str, direct_url: str, *, direct: bool) -> None:
    """Added, run, completed with the handler's own SQL, by two services at a time."""

    async def work(ctx: JobContext) -> None:
        async with ctx.complete(ctx.payload) as tx:
            await tx.fetch("SELECT 1")

    url = direct_url if direct else pooled_url
    async with (
        JobQueueService(url, concurrency=8, processing_interval=0.05) as one,
        JobQueueService(url, concurrency=8, processing_interval=0.05) as two,
    ):
        for queue in (one, two):
            queue.register_handler("work", work)
            await queue.start_processing()
        jobs = [await one.add_job("work", n) for n in range(60)]
        done = await asyncio.gather(*(two.wait(job.id, timeout=30) for job in jobs))
    assert [job.result for job in done] == list(range(60))
    assert {job.attempts for job in done} == {1}


async def test_past_the_pooler_wake_ups_and_deaths_are_noticed_at_once(
    direct_url: str, family: Family
) -> None:
    """With the direct address a worker hears of a job, and another of its death, within seconds."""
    first = await family.worker(direct_url, lease=3_600, processing_interval=3_600)
    async with JobQueueService(direct_url) as queue:
        job = await queue.add_job("hold")
        await first.expect("started", id=job.id)
        second = await family.worker(direct_url, lease=3_600, processing_interval=3_600)
        await first.kill()
        await second.expect("started", id=job.id)


async def test_without_a_way_past_it_a_death_is_noticed_by_the_lease(
    pooled_url: str, family: Family
) -> None:
    """The killed worker's job runs again when its lease has ended, and jobs start by polling."""
    first = await family.worker(pooled_url, lease=1.0, processing_interval=0.05)
    async with JobQueueService(pooled_url) as queue:
        job = await queue.add_job("hold")
        await first.expect("started", id=job.id)
        second = await family.worker(pooled_url, lease=1.0, processing_interval=0.05)
        await first.kill()
        await second.expect("started", id=job.id)
        found = await queue.get_job(job.id)
    assert found is not None
    assert (found.status, found.crashes) == (JobStatus.PROCESSING, 1)


async def test_a_worker_cut_off_stops_its_jobs_before_others_may_run_them(
    postgres_server: Server, postgres_url: str, family: Family
) -> None:
    """Its connections hang: the handler is cancelled in time, and the job runs elsewhere.

    The network between it and the server is a pooler that is stopped.
    """
    with running_pooler(postgres_server) as between:
        url = f"{between.url}?schema={address_of(postgres_url).schema}"
        cut = await family.worker(url, lease=2.0, processing_interval=0.1)
        async with JobQueueService(postgres_url) as queue:
            job = await queue.add_job("hold")
            await cut.expect("started", id=job.id)
            other = await family.worker(postgres_url, lease=2.0, processing_interval=0.1)
            os.kill(between.pid, signal.SIGSTOP)
            try:
                await cut.expect("interrupted", id=job.id)
                found = await queue.get_job(job.id)
                assert found is not None
                assert found.crashes == 0
                await other.expect("started", id=job.id)
            finally:
                os.kill(between.pid, signal.SIGCONT)


async def test_a_direct_address_that_leads_nowhere_is_an_error(pooled_url: str) -> None:
    """Opening says so, and leaves nothing behind."""
    with pytest.raises(StoreError, match="cannot be reached"):
        async with JobQueueService(f"{pooled_url}&direct=postgresql://postgres@127.0.0.1:9/db"):
            pass


def doctor(url: str) -> dict[str, str]:
    """The verdicts of ``durably doctor``."""
    result = CliRunner().invoke(root, ["doctor", "--json", "--store", url])
    checks = json.loads(result.output)["checks"]
    return {check["name"]: check["verdict"] for check in checks}


async def test_doctor_says_what_a_pooler_costs(
    pooled: str, pooled_url: str, direct_url: str, postgres_url: str
) -> None:
    """A warning without a way past it, or with one that is none; nothing without a pooler."""
    async with JobQueueService(postgres_url):
        pass
    verdicts = [
        (await asyncio.to_thread(doctor, url)).get("pooler")
        for url in (pooled_url, direct_url, postgres_url, f"{pooled_url}&direct={pooled}")
    ]
    assert verdicts == ["warn", "ok", None, "warn"]


def test_the_direct_address_is_checked_and_its_password_hidden() -> None:
    """It must be a PostgreSQL URL, quoted or not; nobody is shown its password."""
    address = address_of("postgresql://a:s1@pool/jobs?direct=postgresql%3A%2F%2Fa%3As2%40db%2Fjobs")
    assert address.direct == "postgresql://a:s2@db/jobs"
    assert "s2" not in address.shown
    for url in (
        "postgresql://a:s1@pool/jobs?direct=postgresql://a:s2@db/jobs",
        "postgresql://a:s1@pool/jobs?direct=postgresql%3A%2F%2Fa%3As2%40db%2Fjobs",
    ):
        shown = without_password(url)
        assert "s1" not in shown
        assert "s2" not in shown
    with pytest.raises(Exception, match="direct in the store's URL must be postgresql"):
        address_of("postgresql://a@pool/jobs?direct=db:5432")
