"""A process stops for longer than its lease, then goes on: what it still says is refused."""

import os
import signal
from pathlib import Path

from tests.processes.support import LONG_S, Child, Family, rows, until

from durably import JobContext, JobQueueService, JobStatus, SystemClock

LEASE_S = 1.0


async def by_this_process(job: JobContext) -> int:
    job.changes.emit("finished", job.id, None)
    return os.getpid()


def open_files(pid: int) -> list[str]:
    return [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]


async def taken_over(queue: JobQueueService, frozen: Child, kind: str) -> str:
    """Let *frozen* stop itself in a job of *kind*, and this process do the job; its id."""
    job = await queue.add_job(kind)
    await frozen.expect("freezing", id=job.id)
    queue.register_handler(kind, by_this_process)
    await queue.start_processing()
    job = await queue.wait(job.id, timeout=LONG_S)
    assert (job.status, job.result, job.crashes) == (JobStatus.COMPLETED, os.getpid(), 1)
    return job.id


async def test_a_late_outcome_is_refused_and_counted(url: str, family: Family) -> None:
    """A process that wakes after another has done its job changes nothing, and works on."""
    async with JobQueueService(url) as queue:
        frozen = await family.worker(url, lease=LEASE_S)
        id = await taken_over(queue, frozen, "freezes")
        before = await queue.get_job(id)

        frozen.signal(signal.SIGCONT)

        async def is_refused() -> bool:
            return (await queue._store.stats()).late_outcomes == 1

        await until(is_refused)
        assert await queue.get_job(id) == before
        assert [id] == [event.subject for event in await queue.get_events()]
        # It has registered anew: a job that only it has a handler for is done.
        job = await queue.wait((await queue.add_job("quick")).id, timeout=LONG_S)
        assert (job.result, job.attempts) == (frozen.pid, 1)
        assert {frozen.pid, os.getpid()} == {w.info.pid for w in await queue.workers()}
        assert 1 == len([name for name in open_files(frozen.pid) if "/worker-" in name])
        assert await frozen.end() == 0


async def test_a_handler_that_goes_on_is_told(url: str, family: Family) -> None:
    """The async handler of a lost lease is cancelled with `cancelled` set, and nothing is recorded."""
    async with JobQueueService(url) as queue:
        frozen = await family.worker(url, lease=LEASE_S)
        id = await taken_over(queue, frozen, "freezes_and_holds")

        frozen.signal(signal.SIGCONT)

        assert (await frozen.expect("interrupted", id=id))["cancelled"]
        job = await queue.wait((await queue.add_job("quick")).id, timeout=LONG_S)
        assert job.result == frozen.pid
        assert [id] == [event.subject for event in await queue.get_events()]
        assert await frozen.end() == 0


async def test_who_sleeps_through_its_lease_unnoticed_goes_on(url: str, family: Family) -> None:
    """A lease that has ended while nobody was there to take the job over is renewed."""
    async with JobQueueService(url) as queue:
        frozen = await family.worker(url, lease=LEASE_S)
        job = await queue.add_job("naps")
        await frozen.expect("freezing", id=job.id)

        async def has_ended() -> bool:
            (ends,) = rows(url, "SELECT expires_us FROM durably_workers")[0]
            return bool(SystemClock().monotonic() * 1e6 > ends)

        await until(has_ended)
        frozen.signal(signal.SIGCONT)
        job = await queue.wait(job.id, timeout=LONG_S)

        assert (job.status, job.result) == (JobStatus.COMPLETED, frozen.pid)
        assert (job.attempts, job.crashes, job.errors) == (1, 0, ())
        assert 1 == rows(url, "SELECT value FROM durably_numbers WHERE name = 'token'")[0][0]
