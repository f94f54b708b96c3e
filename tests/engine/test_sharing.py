"""Several services on one store: who runs what, and that nothing runs twice (Q13)."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from durably import (
    JobContext,
    JobQueueService,
    JobStatus,
    NewJob,
    RetryPolicy,
    SystemClock,
    open_store,
)
from durably.store import Store


async def run_all(services: list[JobQueueService], jobs: int) -> tuple[Counter[Any], set[str]]:
    """Run so many jobs on all services: how often each ran, and who did."""
    ran: Counter[Any] = Counter()
    workers: set[str] = set()

    async def handler(job: JobContext) -> None:
        ran[job.payload] += 1
        workers.add(str(job.worker))
        await asyncio.sleep(0)
        if job.payload % 7 == 0 and job.attempts == 1:
            raise ValueError("once")

    for service in services:
        service.register_handler("a", handler, retry=RetryPolicy(base_delay=0))
        await service.start_processing()
    added = []
    for n in range(0, jobs, 20):
        service = services[n // 20 % len(services)]
        added += await service.add_jobs([NewJob("a", k) for k in range(n, n + 20)])
    for job in added:
        done = await services[0].wait(job.id, timeout=30)
        assert done.status is JobStatus.COMPLETED
    return ran, workers


def expected(jobs: int) -> Counter[Any]:
    return Counter({n: 2 if n % 7 == 0 else 1 for n in range(jobs)})


async def test_services_on_one_store_object(store: Store) -> None:
    """Three services, one object: every job runs once, failures once more."""
    async with (
        JobQueueService(store, concurrency=3) as one,
        JobQueueService(store, concurrency=1) as two,
        JobQueueService(store, concurrency=8) as three,
    ):
        ran, workers = await run_all([one, two, three], 600)

    assert ran == expected(600)
    assert len(workers) > 1


async def test_services_on_one_file(sqlite_url: str) -> None:
    """Two services with connections of their own, in one process."""
    async with (
        JobQueueService(sqlite_url, concurrency=3) as one,
        JobQueueService(sqlite_url, concurrency=3) as two,
    ):
        ran, workers = await run_all([one, two], 600)
        stats = [await service.get_stats() for service in (one, two)]

    assert ran == expected(600)
    assert len(workers) == 2
    assert [s.completed_jobs for s in stats] == [600, 600]


async def test_each_memory_url_is_a_store_of_its_own() -> None:
    """Two services with `memory://` share nothing."""
    async with JobQueueService("memory://") as one, JobQueueService("memory://") as two:
        job = await one.add_job("a")

        assert await two.get_job(job.id) is None
        assert (await two.get_stats()).total_jobs == 0


async def test_a_store_object_outlives_a_service(url: str) -> None:
    """The first to leave does not close it for the others."""
    store = open_store(url, clock=SystemClock())
    async with JobQueueService(store) as one:
        async with JobQueueService(store) as two:
            job = await two.add_job("a")
        assert await one.get_job(job.id) == job
        await one.add_job("a")


async def test_workers_claim_only_what_they_can_run(store: Store) -> None:
    """Each service takes the types it has handlers for, and no other."""
    ran: list[tuple[str, str]] = []

    def noting(name: str) -> Any:
        async def handler(job: JobContext) -> None:
            ran.append((name, job.type))

        return handler

    async with JobQueueService(store) as one, JobQueueService(store) as two:
        for service, name in ((one, "a"), (two, "b")):
            service.register_handler(name, noting(name))
            await service.start_processing()
        jobs = await one.add_jobs([NewJob("a"), NewJob("b"), NewJob("c")] * 10)
        for job in jobs:
            if job.type != "c":
                await two.wait(job.id, timeout=5)
        left = await one.get_jobs(status=JobStatus.PENDING)

    assert all(name == kind for name, kind in ran)
    assert len(ran) == 20
    assert {(job.type, job.attempts) for job in left} == {("c", 0)}


async def test_workers_claim_only_from_their_queues(store: Store) -> None:
    """Each service looks where it was told to."""
    ran: list[tuple[str, str]] = []

    def noting(name: str) -> Any:
        async def handler(job: JobContext) -> None:
            ran.append((name, job.queue))

        return handler

    async with (
        JobQueueService(store, queues=["x"]) as one,
        JobQueueService(store, queues=["y", "z"]) as two,
    ):
        for service, name in ((one, "one"), (two, "two")):
            service.register_handler("a", noting(name))
            await service.start_processing()
        jobs = await one.add_jobs([NewJob("a", queue=q) for q in ("x", "y", "z", "default") * 5])
        for job in jobs:
            if job.queue != "default":
                await two.wait(job.id, timeout=5)
        left = await one.get_jobs(status=JobStatus.PENDING)

    assert Counter(ran) == {("one", "x"): 5, ("two", "y"): 5, ("two", "z"): 5}
    assert {job.queue for job in left} == {"default"}


async def test_a_job_says_who_ran_it(store: Store) -> None:
    """`worker` names host, process and registration; two services differ."""

    async def handler(job: JobContext) -> None: ...

    async with JobQueueService(store) as one, JobQueueService(store) as two:
        workers = []
        for service, name in ((one, "a"), (two, "b")):
            service.register_handler(name, handler)
            await service.start_processing()
            done = await one.wait((await one.add_job(name)).id, timeout=5)
            workers.append(done.worker)

    assert None not in workers
    assert workers[0] != workers[1]


@pytest.mark.parametrize("services", [2, 3])
async def test_concurrency_one_is_per_service(store: Store, services: int) -> None:
    """Each service is sequential; together they run as many as there are of them."""
    together = asyncio.Barrier(services)

    async def handler(job: JobContext) -> None:
        async with asyncio.timeout(10):
            await together.wait()

    queues = [JobQueueService(store) for _ in range(services)]
    for queue in queues:
        queue.register_handler("a", handler)
        await queue.__aenter__()
        await queue.start_processing()
    jobs = await queues[0].add_jobs([NewJob("a")] * services * 3)
    done = [await queues[0].wait(job.id, timeout=20) for job in jobs]
    for queue in queues:
        await queue.__aexit__(None, None, None)

    assert {(job.status, job.attempts) for job in done} == {(JobStatus.COMPLETED, 1)}
