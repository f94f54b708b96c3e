"""explain: why a job is not running, in words that name the reason."""

import asyncio

from tests.engine.support import happened, until

from durably import JobContext, JobQueueService, NewJob, RetryPolicy
from durably.store import Store


async def nothing(job: JobContext) -> None: ...


async def test_no_worker_at_all(queue: JobQueueService) -> None:
    """Nobody processes: nobody has a handler."""
    job = await queue.add_job("mail")
    text = await queue.explain(job.id)

    assert text.endswith(
        "no live worker has a handler for mail; none is registered with this store"
    )


async def test_no_worker_with_a_handler(queue: JobQueueService) -> None:
    """A worker lives, but does not know the type: explain and stats say so."""
    queue.register_handler("other", nothing)
    await queue.start_processing()
    job = await queue.add_job("mail")

    assert (await queue.explain(job.id)).endswith("no live worker has a handler for mail")
    assert (await queue.get_stats()).unhandled_types == ("mail",)


async def test_a_worker_that_takes_other_queues(url: str) -> None:
    """It has the handler, but does not look there."""
    async with JobQueueService(url, queues=("fast",)) as queue:
        queue.register_handler("mail", nothing)
        await queue.start_processing()
        job = await queue.add_job("mail")

        assert "'default'" in await queue.explain(job.id)


async def test_a_worker_that_was_stopped(queue: JobQueueService) -> None:
    """After stop_processing nobody takes the job; after a start somebody does."""
    queue.register_handler("mail", nothing)
    await queue.start_processing()
    await queue.wait((await queue.add_job("mail")).id, timeout=5)
    await queue.stop_processing()
    job = await queue.add_job("mail")
    stopped = await queue.explain(job.id)
    await queue.start_processing()
    await queue.wait(job.id, timeout=5)
    later = await queue.add_job("mail", queue="nobody's")

    assert "no live worker" in stopped
    assert "'default'" in stopped
    assert "nobody's" in await queue.explain(later.id)


async def test_a_paused_queue(queue: JobQueueService) -> None:
    """The way out is named."""
    queue.register_handler("mail", nothing)
    await queue.start_processing()
    await queue.pause("default")
    job = await queue.add_job("mail")

    text = await queue.explain(job.id)
    assert "paused" in text
    assert "resume" in text


async def test_a_scheduled_job(queue: JobQueueService) -> None:
    """Until when it waits."""
    job = await queue.add_job("mail", delay=3600)

    text = await queue.explain(job.id)
    assert job.run_at is not None
    assert "scheduled" in text
    assert job.run_at.isoformat() in text


async def test_a_retry_that_waits(url: str) -> None:
    """What failed, how often, and until when it waits."""

    async def handler(job: JobContext) -> None:
        raise ValueError("the line is busy")

    async with JobQueueService(url, retry=RetryPolicy(base_delay=60)) as queue:
        queue.register_handler("mail", handler)
        await queue.start_processing()
        added = await queue.add_job("mail")
        await until(queue, added.id, lambda job: bool(job.errors))
        text = await queue.explain(added.id)

    assert "the line is busy" in text
    assert "1 of 3" in text


async def test_a_running_job_and_one_that_waits_for_its_slot(queue: JobQueueService) -> None:
    """Who runs it; and that all slots are taken."""
    running, go = asyncio.Event(), asyncio.Event()

    async def handler(job: JobContext) -> None:
        running.set()
        await go.wait()

    queue.register_handler("mail", handler)
    await queue.start_processing()
    jobs = await queue.add_jobs([NewJob("mail")] * 2)
    await happened(running)
    texts = [await queue.explain(job.id) for job in jobs]
    await queue.cancel_job(jobs[0].id)
    go.set()

    assert texts[0].startswith("running")
    assert "1 of 3" in texts[0]
    assert "slots" in texts[1]


async def test_finished_jobs(queue: JobQueueService) -> None:
    """How it ended, and with what error."""

    async def handler(job: JobContext) -> None:
        raise ValueError("no such address")

    queue.register_handler("mail", handler)
    await queue.start_processing()
    failed = await queue.wait((await queue.add_job("mail")).id, timeout=5)
    gone = await queue.cancel_job((await queue.add_job("mail", delay=60)).id)

    assert "failed" in await queue.explain(failed.id)
    assert "no such address" in await queue.explain(failed.id)
    assert "cancelled" in await queue.explain(gone.id)


async def test_workers_of_other_services_count(store: Store) -> None:
    """A producer sees that somebody else can run the job."""
    async with JobQueueService(store) as worker, JobQueueService(store) as producer:
        worker.register_handler("mail", nothing)
        await worker.start_processing()
        await worker.pause("default")
        job = await producer.add_job("mail")
        paused = await producer.explain(job.id)
        await worker.shutdown()
        await worker.resume("default")
        text = await producer.explain(job.id)

    assert "paused" in paused
    assert "no live worker has a handler for mail" in text
