"""What one process does reaches the others at once, not at their processing interval."""

from tests.processes.support import LONG_S, Family

from durably import JobQueueService, JobStatus

INTERVAL_S = 600.0
"""Of the worker: had it to look by itself, no test would see the end."""


async def test_enqueueing_wakes_the_worker_of_another_process(url: str, family: Family) -> None:
    """An idle worker runs a job of another process long before its next look; `wait` sees the end."""
    async with JobQueueService(url) as queue:
        worker = await family.worker(url, processing_interval=INTERVAL_S)
        for _ in range(3):  # the first may be found by the worker's first look
            job = await queue.add_job("quick")
            job = await queue.wait(job.id, timeout=LONG_S)
            assert (job.status, job.result) == (JobStatus.COMPLETED, worker.pid)


async def test_cancelling_interrupts_a_handler_in_another_process(url: str, family: Family) -> None:
    """The handler is cancelled at once and the job ends cancelled."""
    async with JobQueueService(url) as queue:
        worker = await family.worker(url, processing_interval=INTERVAL_S)
        job = await queue.add_job("hold")
        await worker.expect("started", id=job.id)

        await queue.cancel_job(job.id)

        assert (await worker.expect("interrupted", id=job.id))["cancelled"]
        assert (await queue.wait(job.id, timeout=LONG_S)).status == JobStatus.CANCELLED


async def test_a_pause_is_lifted_in_every_process(url: str, family: Family) -> None:
    """Jobs of a paused queue stay; `resume` wakes the worker of another process."""
    async with JobQueueService(url) as queue:
        worker = await family.worker(url, processing_interval=INTERVAL_S, queues=["default", "b"])
        await queue.pause("b")
        held = await queue.add_job("quick", queue="b")
        await queue.wait((await queue.add_job("quick")).id, timeout=LONG_S)
        job = await queue.get_job(held.id)
        assert job is not None
        assert job.status == JobStatus.PENDING

        await queue.resume("b")

        assert (await queue.wait(held.id, timeout=LONG_S)).result == worker.pid


async def test_a_delayed_job_is_run_by_another_process(url: str, family: Family) -> None:
    """A worker learns of a job scheduled elsewhere, and runs it when its time has come."""
    async with JobQueueService(url) as queue:
        worker = await family.worker(url, processing_interval=INTERVAL_S)
        await queue.wait((await queue.add_job("quick")).id, timeout=LONG_S)

        job = await queue.add_job("quick", delay=0.2)

        assert (await queue.wait(job.id, timeout=LONG_S)).result == worker.pid
