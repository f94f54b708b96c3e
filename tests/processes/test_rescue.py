"""A process dies: who notices when, what its jobs are charged, and who is put aside."""

import asyncio
import json
import signal

import pytest
from tests.processes.support import LONG_S, Family, rows

from durably import Job, JobContext, JobPriority, JobQueueService, JobStatus, NewJob
from durably.domain.job import State
from durably.domain.transitions import CRASH_LIMIT
from durably.stores.sqlite.session import BATCH

NOTICED_S = 10.0
"""The contract says 5 s at p99; a busy machine is granted twice that."""
LONG_LEASE_S = 300.0
"""So long that no lease ends within a test."""


async def quick(job: JobContext) -> None:
    """Nothing to do."""


async def known(queue: JobQueueService, id: str) -> Job:
    job = await queue.get_job(id)
    assert job is not None
    return job


async def test_a_living_process_takes_over_within_seconds(url: str, family: Family) -> None:
    """The death of a process is noticed by others that run, long before its lease ends."""
    async with JobQueueService(url) as queue:
        dying = await family.worker(url, lease=LONG_LEASE_S)
        job = await queue.add_job("hold")
        await dying.expect("started", id=job.id)
        queue.register_handler("hold", quick)
        await queue.start_processing()
        killed_at = asyncio.get_running_loop().time()

        await dying.kill()
        job = await queue.wait(job.id, timeout=LONG_S)

        assert asyncio.get_running_loop().time() - killed_at < NOTICED_S
        assert (job.status, job.attempts, job.crashes) == (JobStatus.COMPLETED, 1, 1)
        assert ["crash"] == [error.kind for error in job.errors]


async def test_a_starting_worker_rescues_before_it_is_ready(url: str, family: Family) -> None:
    """All that a dead process held is pending and unspent when `start_processing` returns."""
    count = 2 * BATCH + 1  # it takes several transactions
    async with JobQueueService(url) as queue:
        dying = await family.worker(url, lease=LONG_LEASE_S, concurrency=count)
        jobs = await queue.add_jobs([NewJob(type="hold") for _ in range(count)])
        for _ in jobs:
            await dying.expect("started")
        await dying.kill()
        held = {(await known(queue, job.id)).status for job in jobs}

        await queue.start_processing()

        assert {JobStatus.PROCESSING} == held
        for job in await queue.get_jobs(limit=count):
            assert (job.status, job.attempts, job.crashes) == (JobStatus.PENDING, 0, 1)
        assert 1 == len(await queue.workers())


async def test_each_held_job_is_charged_once_and_then_run_alone(url: str, family: Family) -> None:
    """A death counts one crash for each claimed job, begun or not; none is claimed ahead again."""
    async with JobQueueService(url) as queue:
        await queue.add_jobs([NewJob(type="dies_ahead") for _ in range(2000)])
        assert -signal.SIGKILL == await (await family.worker(url, concurrency=2)).died()
    held = rows(url, "SELECT id, state FROM durably_jobs WHERE state IN (2, 3)")
    watch_suspects(url)

    async with JobQueueService(url, concurrency=4) as queue:
        await queue.start_processing()
        charged = rows(
            url, "SELECT id, state, attempts, crashes, errors FROM durably_jobs WHERE crashes > 0"
        )
        queue.register_handler("dies_ahead", quick)
        for id, _ in held:
            await queue.wait(id, timeout=LONG_S)

    assert {State.RESERVED, State.RUNNING} == {state for _, state in held}
    assert {id for id, _ in held} == {id for id, *_ in charged}
    for _, state, attempts, crashes, errors in charged:
        assert (state, attempts, crashes) == (State.READY, 0, 1)
        assert ["crash"] == [error["kind"] for error in json.loads(errors)]
    assert {(State.RUNNING, 1)} == set(rows(url, "SELECT state, beside FROM suspects"))
    assert len(held) == len(rows(url, "SELECT job FROM suspects"))


@pytest.mark.parametrize(("deadly", "exit_code"), [("exits", 1), ("crashes", -signal.SIGSEGV)])
async def test_only_the_poison_job_is_put_aside(
    url: str, family: Family, deadly: str, exit_code: int
) -> None:
    """After three dead processes the culprit is quarantined; whoever was beside it completes."""
    async with JobQueueService(url) as queue:
        innocent = await queue.add_jobs([NewJob(type="beside") for _ in range(20)])
        poison = await queue.add_job(deadly, priority=JobPriority.HIGH)
        watch_suspects(url)

        for _ in range(CRASH_LIMIT):
            worker = await family.worker(url, concurrency=4)
            assert exit_code == await worker.died()
        await family.worker(url, concurrency=4)
        ended = [await queue.wait(job.id, timeout=LONG_S) for job in innocent]
        culprit = await queue.wait(poison.id, timeout=LONG_S)

    assert (culprit.status, culprit.crashes, culprit.attempts) == (JobStatus.FAILED, CRASH_LIMIT, 0)
    assert "quarantined" in (culprit.error or "")
    assert {(JobStatus.COMPLETED, 1)} == {(job.status, job.attempts) for job in ended}
    assert {0, 1} == {job.crashes for job in ended}
    assert {(State.RUNNING, 1)} == set(rows(url, "SELECT state, beside FROM suspects"))


def watch_suspects(url: str) -> None:
    """Note each claim of a job that a process died with, and how many such its worker has then."""
    rows(url, "CREATE TABLE suspects (job, state, beside)")
    rows(
        url,
        "CREATE TRIGGER watch AFTER UPDATE OF state ON durably_jobs"
        " WHEN new.state IN (2, 3) AND new.crashes > 0 BEGIN"
        " INSERT INTO suspects SELECT new.id, new.state, count(*) FROM durably_jobs"
        " WHERE worker = new.worker AND state IN (2, 3) AND crashes > 0; END",
    )
