"""Several processes on one PostgreSQL server: deaths, lost connections, restarts."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from tests.postgres import Server
from tests.processes.support import Family, until
from tests.processes.test_freeze import Rescuer

from durably import Job, JobContext, JobQueueService, JobStatus, StoreError


@pytest.fixture
def url(postgres_url: str) -> str:
    return postgres_url


async def test_a_killed_process_is_noticed_long_before_its_lease_ends(
    url: str, family: Family
) -> None:
    """Its locks die with its connection: another process runs its job again, as a first crash."""
    first = await family.worker(url, lease=3_600)
    async with JobQueueService(url) as queue:
        job = await queue.add_job("hold")
        await first.expect("started", id=job.id)
        second = await family.worker(url, lease=3_600)
        await first.kill()
        await second.expect("started", id=job.id)
        found = await queue.get_job(job.id)
        assert found is not None
        assert (found.crashes, found.status) == (1, JobStatus.PROCESSING)


async def test_a_worker_that_freezes_beyond_its_lease_ends_nothing(
    url: str, family: Family
) -> None:
    """Its job runs elsewhere, what it says when it wakes is refused, and it works on."""
    async with JobQueueService(url, processing_interval=0.1) as queue:
        frozen = await family.worker(url, lease=1.0)
        rescuer = Rescuer(queue, frozen)
        await rescuer.take_over("freezes")
        frozen.signal(signal.SIGCONT)

        async def is_refused() -> bool:
            return (await queue._store.stats()).late_outcomes == 1

        await until(is_refused)
        await rescuer.finished()
        await rescuer.child_works_on()


async def test_two_processes_never_run_the_same_job(url: str, family: Family) -> None:
    """Claims skip what the other has locked: each job is run once, by one of them."""
    workers = [await family.worker(url, concurrency=8) for _ in range(2)]
    async with JobQueueService(url) as queue:
        added = [await queue.add_job("quick") for _ in range(300)]
        jobs = [await queue.wait(job.id, timeout=60) for job in added]
    assert {job.attempts for job in jobs} == {1}
    assert {job.result for job in jobs} <= {worker.pid for worker in workers}


class Ledger:
    """What was accepted, and how often each job's handler has started."""

    def __init__(self) -> None:
        self.accepted: list[str] = []
        self.starts: dict[str, int] = {}

    async def quick(self, job: JobContext) -> None:
        self.starts[job.id] = self.starts.get(job.id, 0) + 1
        await asyncio.sleep(0.001)


@asynccontextmanager
async def under_load(url: str) -> AsyncIterator[tuple[Ledger, JobQueueService]]:
    """A producer and a worker that go on, whatever happens to the server, while the block lasts."""
    ledger = Ledger()
    stop = asyncio.Event()

    async def produce(queue: JobQueueService) -> None:
        while not stop.is_set():
            try:
                ledger.accepted.append((await queue.add_job("quick")).id)
            except StoreError:
                await asyncio.sleep(0.01)  # nothing was accepted

    async with JobQueueService(url, concurrency=4, processing_interval=0.2) as queue:
        queue.register_handler("quick", ledger.quick)
        await queue.start_processing()
        producers = [asyncio.ensure_future(produce(queue)) for _ in range(4)]
        yield ledger, queue
        stop.set()
        await asyncio.gather(*producers)

        async def is_done() -> bool:
            try:
                stats = await queue.get_stats()
            except StoreError:
                return False
            return stats.pending_jobs == stats.processing_jobs == 0

        await until(is_done)
        jobs = [await queue.get_job(job_id) for job_id in ledger.accepted]
        assert all(job is not None and job.status is JobStatus.COMPLETED for job in jobs)
        check(ledger, [job for job in jobs if job is not None])
        assert (await queue.get_stats()).failed_jobs == 0


def check(ledger: Ledger, jobs: list[Job]) -> None:
    """Whatever ran more than once did so for a crash that is on record."""
    for job in jobs:
        assert job.attempts == 1
        # A lost reply of a claim returns the job unspent: it has started nowhere then.
        assert ledger.starts[job.id] <= 1 + job.crashes


async def more(ledger: Ledger, count: int) -> None:
    """Until so many more jobs have been accepted."""
    goal = len(ledger.accepted) + count

    async def reached() -> bool:
        return len(ledger.accepted) >= goal

    await until(reached)


async def test_a_restart_of_the_server_loses_nothing(url: str, postgres_server: Server) -> None:
    """Three immediate restarts under load: every accepted job is done, and work goes on by itself."""
    async with under_load(url) as (ledger, _):
        for _ in range(3):
            await more(ledger, 50)
            await asyncio.to_thread(postgres_server.stop)
            await asyncio.to_thread(postgres_server.start)
        await more(ledger, 50)


async def killing(url: str, query: str) -> int:
    connection = await asyncpg.connect(url.partition("?")[0])
    try:
        return len(await connection.fetch(query))
    finally:
        await connection.close()


KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"


@pytest.mark.parametrize(
    "whose",
    [" AND application_name = 'durably'", " AND query LIKE 'LISTEN%'", ""],
    ids=["ours", "the listener", "all"],
)
async def test_killed_sessions_come_back(url: str, whose: str) -> None:
    """Whatever connection the server ends, its work goes on by another."""
    async with under_load(url) as (ledger, _):
        for _ in range(5):
            await more(ledger, 30)
            await killing(url, KILL + " AND backend_type = 'client backend'" + whose)
        await more(ledger, 50)


async def test_a_worker_hears_of_jobs_again_after_its_listener_was_killed(
    url: str, family: Family
) -> None:
    """A new job starts long before the worker would have looked by itself."""
    worker = await family.worker(url, processing_interval=3_600)
    async with JobQueueService(url) as queue:
        await queue.wait((await queue.add_job("quick")).id, timeout=20)
        await killing(url, KILL + " AND query LIKE 'LISTEN%'")
        await queue.wait((await queue.add_job("quick")).id, timeout=20)
    assert await worker.end() == 0
