"""A process stops for longer than its lease, then goes on: what it still says is refused."""

import asyncio
import os
import signal
from pathlib import Path

from tests.processes.support import LONG_S, Child, Family, rows, until

from durably import JobContext, JobQueueService, JobStatus, SystemClock

LEASE_S = 1.0


class Rescuer:
    """Does in this process what was begun in another: `id` is taken over, and ends when told."""

    def __init__(self, queue: JobQueueService, frozen: Child) -> None:
        self.id = ""
        self.end = asyncio.Event()
        self._queue = queue
        self._frozen = frozen
        self._started = asyncio.Event()

    async def take_over(self, kind: str) -> None:
        """Let the child stop itself in a job of *kind*, and begin the job here."""
        self.id = (await self._queue.add_job(kind)).id
        await self._frozen.expect("freezing", id=self.id)
        self._queue.register_handler(kind, self)
        await self._queue.start_processing()
        async with asyncio.timeout(LONG_S):
            await self._started.wait()

    async def __call__(self, job: JobContext) -> int:
        job.changes.emit("finished", job.id, None)
        self._started.set()
        await self.end.wait()
        return os.getpid()

    async def finished(self) -> None:
        """The job was completed once, by this process."""
        self.end.set()
        job = await self._queue.wait(self.id, timeout=LONG_S)
        assert (job.status, job.result) == (JobStatus.COMPLETED, os.getpid())
        assert (job.attempts, job.crashes) == (1, 1)
        assert [self.id] == [event.subject for event in await self._queue.get_events()]

    async def child_works_on(self) -> None:
        """A job that only the child has a handler for is done; it has registered anew."""
        job = await self._queue.wait((await self._queue.add_job("quick")).id, timeout=LONG_S)
        assert (job.result, job.attempts) == (self._frozen.pid, 1)
        registered = {worker.info.pid for worker in await self._queue.workers()}
        assert {self._frozen.pid, os.getpid()} == registered
        if not self._queue.store_url.startswith("postgresql:"):
            self.child_has_one_lock()
        assert 0 == await self._frozen.end()

    def child_has_one_lock(self) -> None:
        """That of its new registration."""
        open_files = Path(f"/proc/{self._frozen.pid}/fd").iterdir()
        assert 1 == len([name for name in map(os.readlink, open_files) if "/worker-" in name])


async def test_a_late_outcome_is_refused_and_counted(url: str, family: Family) -> None:
    """A process that wakes while another does its job ends nothing, and works on."""
    async with JobQueueService(url) as queue:
        frozen = await family.worker(url, lease=LEASE_S)
        rescuer = Rescuer(queue, frozen)
        await rescuer.take_over("freezes")

        frozen.signal(signal.SIGCONT)

        async def is_refused() -> bool:
            return (await queue._store.stats()).late_outcomes == 1

        await until(is_refused)
        job = await queue.get_job(rescuer.id)
        assert job is not None
        assert job.status == JobStatus.PROCESSING
        await rescuer.finished()
        await rescuer.child_works_on()


async def test_a_handler_that_goes_on_is_told(url: str, family: Family) -> None:
    """The async handler of a lost lease is cancelled with `cancelled` set; nothing is recorded."""
    async with JobQueueService(url) as queue:
        frozen = await family.worker(url, lease=LEASE_S)
        rescuer = Rescuer(queue, frozen)
        await rescuer.take_over("freezes_and_holds")

        frozen.signal(signal.SIGCONT)

        assert (await frozen.expect("interrupted", id=rescuer.id))["cancelled"]
        await rescuer.finished()
        await rescuer.child_works_on()


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
        claims = rows(url, "SELECT value FROM durably_numbers WHERE name = 'token'")
        frozen.signal(signal.SIGCONT)
        job = await queue.wait(job.id, timeout=LONG_S)

        assert (job.status, job.result) == (JobStatus.COMPLETED, frozen.pid)
        assert (job.attempts, job.crashes, job.errors) == (1, 0, ())
        assert claims == rows(url, "SELECT value FROM durably_numbers WHERE name = 'token'")
