"""Opening, starting, stopping, shutting down (promise P9; Q7)."""

import asyncio
import logging
import threading
import time
from typing import Any

import pytest
from tests.engine.support import LONG_S, happened, until

from durably import (
    DurablyError,
    JobContext,
    JobQueueService,
    JobStatus,
    NewJob,
    StoreClosedError,
    SyncJobContext,
)
from durably.store import Store
from durably.testing import VirtualClock


async def nothing(job: JobContext) -> None: ...


class Blocker:
    """A handler that runs until it is let go, or is interrupted."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.running = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, job: JobContext) -> str:
        self.started.append(job.id)
        self.running.set()
        await self.go.wait()
        return "done"


async def blocked(queue: JobQueueService) -> tuple[Blocker, str]:
    """A service in the middle of a job."""
    blocker = Blocker()
    queue.register_handler("block", blocker)
    await queue.start_processing()
    job = await queue.add_job("block")
    await happened(blocker.running)
    return blocker, job.id


# Opening and closing


async def test_entering_opens_but_does_not_start(url: str) -> None:
    """Handlers may be registered before; nothing runs until start_processing."""
    service = JobQueueService(url)
    service.register_handler("a", nothing)
    assert not service.is_processing
    async with service as queue:
        assert queue is service
        assert not queue.is_processing
        job = await queue.add_job("a")
        with pytest.raises(TimeoutError):
            await queue.wait(job.id, timeout=0.1)
        await queue.start_processing()
        assert queue.is_processing
        await queue.wait(job.id, timeout=5)
    assert not service.is_processing


async def test_nothing_works_while_it_is_closed(url: str) -> None:
    """One clear error before entering and after leaving."""
    queue = JobQueueService(url)

    async def refused() -> None:
        with pytest.raises(StoreClosedError):
            await queue.add_job("a")
        with pytest.raises(StoreClosedError):
            await queue.start_processing()
        for call in (queue.get_jobs, queue.get_stats, queue.cleanup):
            with pytest.raises(StoreClosedError):
                await call()
        for look in (queue.get_job, queue.cancel_job, queue.explain, queue.wait):
            with pytest.raises(StoreClosedError):
                await look("unknown")
        assert not queue.is_processing

    await refused()
    async with queue:
        await queue.add_job("a")
    await refused()


async def test_what_may_be_called_while_it_is_closed(url: str) -> None:
    """Stop and shutdown have nothing to do."""
    queue = JobQueueService(url)

    await queue.stop_processing()
    assert await queue.shutdown() == 0


async def test_it_can_be_opened_again(sqlite_url: str) -> None:
    """The jobs are still there, and run."""
    queue = JobQueueService(sqlite_url)
    queue.register_handler("a", nothing)
    async with queue:
        job = await queue.add_job("a")
    async with queue:
        await queue.start_processing()
        done = await queue.wait(job.id, timeout=5)

    assert done.status is JobStatus.COMPLETED


async def test_it_cannot_be_opened_twice(url: str) -> None:
    """Entering an open service raises and leaves it open."""
    async with JobQueueService(url) as queue:
        with pytest.raises(RuntimeError, match="open"):
            await queue.__aenter__()
        await queue.add_job("a")


async def test_an_error_in_the_block_goes_through(url: str) -> None:
    """Leaving on an exception shuts down like leaving without."""
    blocker = Blocker()

    async def use() -> None:
        async with JobQueueService(url) as queue:
            queue.register_handler("block", blocker)
            await queue.start_processing()
            await queue.add_job("block")
            await happened(blocker.running)
            blocker.go.set()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()


async def test_leaving_waits_for_what_runs(store: Store) -> None:
    """`async with` is shutdown(30): the job is completed, not thrown away."""
    async with JobQueueService(store) as watcher:
        async with JobQueueService(store) as queue:
            blocker, job_id = await blocked(queue)
            asyncio.get_running_loop().call_later(0.05, blocker.go.set)
        done = await watcher.get_job(job_id)

    assert done is not None
    assert (done.status, done.result) == (JobStatus.COMPLETED, "done")


async def test_a_store_that_cannot_be_opened(tmp_path: Any) -> None:
    """A clear error of ours, and the service stays closed."""
    queue = JobQueueService(f"sqlite:///{tmp_path}/no/such/folder/jobs.db")
    for _ in range(2):
        with pytest.raises(DurablyError, match="folder"):
            await queue.__aenter__()


# Start and stop


async def test_start_and_stop_are_idempotent(queue: JobQueueService) -> None:
    """However often, in any order."""
    queue.register_handler("a", nothing)
    await queue.stop_processing()
    await queue.stop_processing()
    assert not queue.is_processing
    for _ in range(3):
        await queue.start_processing()
        assert queue.is_processing
    await asyncio.gather(*(queue.start_processing() for _ in range(5)))
    await queue.wait((await queue.add_job("a")).id, timeout=5)
    for _ in range(3):
        await queue.stop_processing()
        assert not queue.is_processing
    await queue.start_processing()
    await queue.wait((await queue.add_job("a")).id, timeout=5)


async def test_stop_is_final_until_start(queue: JobQueueService) -> None:
    """Nothing that happens after it starts a job: adding, retrying, resuming, registering."""
    ran: list[object] = []

    async def note(job: JobContext) -> None:
        ran.append(job.payload)

    queue.register_handler("a", note)
    await queue.start_processing()
    first = await queue.wait((await queue.add_job("a", "first")).id, timeout=5)
    await queue.stop_processing()
    await queue.add_job("a", "added")
    await queue.add_jobs([NewJob("a", "batch"), NewJob("a", "later", delay=0.01)])
    await queue.retry_job(first.id)
    await queue.pause("default")
    await queue.resume("default")
    queue.register_handler("b", note)
    await queue.get_stats()
    # Time for what must not happen.
    await asyncio.sleep(0.15)
    assert ran == ["first"]
    assert not queue.is_processing

    await queue.start_processing()
    for job in await queue.get_jobs():
        await queue.wait(job.id, timeout=5)
    assert sorted(map(str, ran[1:])) == ["added", "batch", "first", "later"]


async def test_stop_is_final_after_shutdown_too(queue: JobQueueService) -> None:
    """add_job after a shutdown starts nothing."""
    ran: list[str] = []

    async def note(job: JobContext) -> None:
        ran.append(job.id)

    queue.register_handler("a", note)
    await queue.start_processing()
    assert await queue.shutdown() == 0
    job = await queue.add_job("a")
    await asyncio.sleep(0.1)

    assert (ran, queue.is_processing) == ([], False)
    await queue.start_processing()
    await queue.wait(job.id, timeout=5)
    assert ran == [job.id]


async def test_stop_lets_running_jobs_finish(queue: JobQueueService) -> None:
    """It returns at once; their outcomes count."""
    blocker, job_id = await blocked(queue)
    waiting = await queue.add_job("block")
    async with asyncio.timeout(2):
        await queue.stop_processing()
    running = await queue.get_job(job_id)
    blocker.go.set()
    done = await queue.wait(job_id, timeout=5)

    assert running is not None
    assert running.status is JobStatus.PROCESSING
    assert done.status is JobStatus.COMPLETED
    assert blocker.started == [job_id]
    assert await queue.get_job(waiting.id) == waiting


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_nothing_starts_once_stop_has_returned(url: str, concurrency: int) -> None:
    """Also not what was claimed at that very moment; it is pending and unspent."""
    stopped = False
    late: list[str] = []

    async def handler(job: JobContext) -> None:
        if stopped:
            late.append(job.id)
        await asyncio.sleep(0)

    async with JobQueueService(url, concurrency=concurrency) as queue:
        queue.register_handler("a", handler)
        for _ in range(30):
            stopped = False
            await queue.start_processing()
            await queue.add_jobs([NewJob("a")] * 3)
            await queue.stop_processing()
            stopped = True
            for _ in range(20):
                await asyncio.sleep(0)
            left = await queue.get_jobs(status=JobStatus.PENDING, limit=10_000)
            assert {job.attempts for job in left} <= {0}
            assert await queue.get_jobs(status=JobStatus.PROCESSING) == []

    assert late == []


async def test_a_handler_may_stop_its_own_service(queue: JobQueueService) -> None:
    """stop_processing from inside a job: the job is completed, the next one does not start."""
    ran: list[str] = []

    async def handler(job: JobContext) -> None:
        ran.append(job.id)
        await queue.stop_processing()

    queue.register_handler("a", handler)
    jobs = await queue.add_jobs([NewJob("a")] * 2)
    await queue.start_processing()
    await queue.wait(jobs[0].id, timeout=5)

    assert ran == [jobs[0].id]
    assert not queue.is_processing


# Shutdown


async def test_shutdown_waits_for_what_runs(queue: JobQueueService) -> None:
    """Within its timeout the job ends as if nothing had happened; none is left."""
    blocker, job_id = await blocked(queue)
    waiting = await queue.add_job("block")
    shutting = asyncio.ensure_future(queue.shutdown(10))
    await asyncio.sleep(0)
    assert not shutting.done()
    assert not queue.is_processing
    blocker.go.set()
    left = await shutting
    done = await queue.get_job(job_id)

    assert left == 0
    assert done is not None
    assert (done.status, done.result) == (JobStatus.COMPLETED, "done")
    assert blocker.started == [job_id]
    assert await queue.get_job(waiting.id) == waiting


@pytest.mark.parametrize("timeout", [0, 0.05])
async def test_shutdown_returns_what_was_not_finished(
    url: str, timeout: float, caplog: pytest.LogCaptureFixture
) -> None:
    """It says how many; they are pending, unspent, and logged by id."""
    async with JobQueueService(url, concurrency=3) as queue:
        blocker = Blocker()
        queue.register_handler("block", blocker)
        await queue.start_processing()
        jobs = await queue.add_jobs([NewJob("block")] * 5)
        await until(queue, jobs[2].id, lambda _: len(blocker.started) == 3)
        began = time.monotonic()
        with caplog.at_level(logging.WARNING, "durably"):
            left = await queue.shutdown(timeout)
        took = time.monotonic() - began
        after = [await queue.get_job(job.id) for job in jobs]
        stats = await queue.get_stats()

        assert left == 3
        assert timeout <= took < timeout + 2
        assert [(j and j.status, j and j.attempts, j and j.errors) for j in after] == [
            (JobStatus.PENDING, 0, ())
        ] * 5
        assert (stats.pending_jobs, stats.processing_jobs, stats.error_rate) == (5, 0, 0)
        for job_id in blocker.started:
            assert job_id in caplog.text

        # Usable afterwards: they run, and it is their first attempt.
        blocker.go.set()
        await queue.start_processing()
        for job in jobs:
            assert (await queue.wait(job.id, timeout=5)).attempts == 1


async def test_shutdown_returns_what_dies_of_its_interruption(queue: JobQueueService) -> None:
    """A handler that answers the cancellation with an error of its own loses no attempt."""
    running = asyncio.Event()
    runs = 0

    async def handler(job: JobContext) -> None:
        nonlocal runs
        runs += 1
        if runs > 1:
            return
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("closed") from None

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.add_job("a")
    await happened(running)
    assert await queue.shutdown(0) == 1
    after = await queue.get_job(job.id)
    await queue.start_processing()
    done = await queue.wait(job.id, timeout=5)

    assert after is not None
    assert (after.status, after.attempts, after.errors) == (JobStatus.PENDING, 0, ())
    assert (done.status, done.attempts) == (JobStatus.COMPLETED, 1)


async def test_a_handler_may_finish_while_it_is_interrupted(queue: JobQueueService) -> None:
    """It counts as running at the timeout, and its result is kept."""
    running = asyncio.Event()

    async def handler(job: JobContext) -> str:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert job.cancelled
            return "saved"
        return "never"

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.add_job("a")
    await happened(running)

    assert await queue.shutdown(0.05) == 1
    after = await queue.get_job(job.id)
    assert after is not None
    assert (after.status, after.result) == (JobStatus.COMPLETED, "saved")


async def test_a_handler_that_swallows_its_cancellation_keeps_nobody(store: Store) -> None:
    """Shutdown and leaving end in time; the job is returned, what it says later is refused."""
    go, running = asyncio.Event(), asyncio.Event()
    ended = asyncio.Event()

    async def stubborn(job: JobContext) -> str:
        running.set()
        try:
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    continue
            return "too late"
        finally:
            ended.set()

    async def other(job: JobContext) -> str:
        return "other"

    began = time.monotonic()
    async with JobQueueService(store) as two:
        two.register_handler("a", other)
        async with JobQueueService(store) as one:
            one.register_handler("a", stubborn)
            await one.start_processing()
            job = await one.add_job("a")
            await happened(running)
            assert await one.shutdown(0.05) == 1
        took = time.monotonic() - began
        returned = await two.get_job(job.id)
        go.set()
        await happened(ended)
        await two.start_processing()
        done = await two.wait(job.id, timeout=5)

    assert took < 8
    assert returned is not None
    assert (returned.status, returned.attempts) == (JobStatus.PENDING, 0)
    assert (done.result, done.attempts) == ("other", 1)


async def test_a_thread_that_goes_on_is_fenced(store: Store) -> None:
    """Shutdown does not wait for it; it keeps its job until the service is closed, no longer."""
    go, running = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    told: list[bool] = []
    ended = asyncio.Event()

    def thread(job: SyncJobContext) -> str:
        loop.call_soon_threadsafe(running.set)
        go.wait(10)
        told.append(job.cancelled)
        loop.call_soon_threadsafe(ended.set)
        return "from the thread"

    async def other(job: JobContext) -> str:
        return "other"

    async with JobQueueService(store) as two:
        two.register_handler("a", other)
        async with JobQueueService(store) as one:
            one.register_handler("a", thread)
            await one.start_processing()
            job = await one.add_job("a")
            await happened(running)
            assert await one.shutdown(0.05) == 1
            kept = await two.get_job(job.id)
            assert kept is not None
            assert kept.status is JobStatus.PROCESSING
        returned = await two.get_job(job.id)
        await two.start_processing()
        done = await two.wait(job.id, timeout=5)
        go.set()
        await happened(ended)
        for _ in range(10):
            await asyncio.sleep(0)
        after = await two.get_job(job.id)

    assert returned is not None
    assert (returned.status, returned.attempts) == (JobStatus.PENDING, 0)
    assert told == [True]
    assert after == done
    assert done.result == "other"


async def test_shutdown_again(queue: JobQueueService) -> None:
    """Twice, at once and one after the other: nothing is left to do."""
    blocker, _ = await blocked(queue)
    both = asyncio.gather(queue.shutdown(0), queue.shutdown(0))

    assert list(await both) == [1, 0]
    assert await queue.shutdown() == 0
    assert len(blocker.started) == 1


async def test_a_shutdown_that_is_given_up_can_be_repeated(queue: JobQueueService) -> None:
    """Cancelling it loses neither the job nor the way to end the service."""
    blocker, job_id = await blocked(queue)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await queue.shutdown(30)
    assert not queue.is_processing
    still = await queue.get_job(job_id)
    left = await queue.shutdown(0)
    after = await queue.get_job(job_id)

    assert still is not None
    assert still.status is JobStatus.PROCESSING
    assert left == 1
    assert after is not None
    assert (after.status, after.attempts) == (JobStatus.PENDING, 0)
    assert len(blocker.started) == 1


async def test_a_job_can_be_cancelled_during_shutdown(url: str) -> None:
    """The request reaches a handler that the shutdown is waiting for."""
    async with JobQueueService(url, processing_interval=60) as queue:
        _, job_id = await blocked(queue)
        shutting = asyncio.ensure_future(queue.shutdown(20))
        await asyncio.sleep(0.01)
        await queue.cancel_job(job_id)
        async with asyncio.timeout(5):
            left = await shutting
        after = await queue.get_job(job_id)

    assert left == 0
    assert after is not None
    assert after.status is JobStatus.CANCELLED


async def test_the_store_stays_open(queue: JobQueueService) -> None:
    """After a shutdown everything but processing works."""
    queue.register_handler("a", nothing)
    await queue.start_processing()
    await queue.shutdown()
    job = await queue.add_job("a")

    assert await queue.get_job(job.id) == job
    assert await queue.get_jobs() == [job]
    assert (await queue.get_stats()).pending_jobs == 1
    assert (await queue.cancel_job(job.id)).status is JobStatus.CANCELLED
    assert (await queue.retry_job(job.id)).status is JobStatus.PENDING
    assert await queue.explain(job.id)


async def test_workers_are_gone_after_shutdown(store: Store) -> None:
    """A service that has shut down is no worker any more; one that has stopped still is."""
    async with JobQueueService(store) as watcher, JobQueueService(store) as queue:
        await queue.start_processing()
        await queue.stop_processing()
        stopped = await watcher.workers()
        await queue.shutdown()
        gone = await watcher.workers()

    assert len(stopped) == 1
    assert gone == []


async def test_a_failed_start_leaves_it_stopped(
    queue: JobQueueService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store refuses is raised; a later start works."""
    before = threading.active_count()

    async def refuse(*_: object) -> None:
        raise StoreClosedError("not now")

    store: Any = queue._store
    with monkeypatch.context() as patch:
        patch.setattr(store, "rescue", refuse)
        with pytest.raises(StoreClosedError, match="not now"):
            await queue.start_processing()
        assert not queue.is_processing
    assert await queue.workers() == []
    assert threading.active_count() <= before + 2
    queue.register_handler("a", nothing)
    await queue.start_processing()
    await queue.wait((await queue.add_job("a")).id, timeout=5)


async def test_the_default_shutdown_outlasts_a_quick_job(queue: JobQueueService) -> None:
    """`shutdown()` with its 30 s lets a handler of some milliseconds end."""
    running = asyncio.Event()

    async def handler(job: JobContext) -> str:
        running.set()
        await asyncio.sleep(0.05)
        return "done"

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.add_job("a")
    await happened(running)

    assert await queue.shutdown() == 0
    done = await queue.get_job(job.id)
    assert done is not None
    assert done.result == "done"


async def test_a_thread_that_outlives_a_shutdown_keeps_its_slot(store: Store) -> None:
    """Started again, a service with one slot does not run a second job, nor the same one, beside it."""
    go, running = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    live: list[int] = [0, 0]

    def thread(job: SyncJobContext) -> None:
        live[0] += 1
        live[1] = max(live)
        loop.call_soon_threadsafe(running.set)
        go.wait(10)
        live[0] -= 1

    async with JobQueueService(store) as queue:
        queue.register_handler("a", thread)
        await queue.start_processing()
        jobs = [await queue.add_job("a") for _ in range(2)]
        await happened(running)
        assert await queue.shutdown(0.05) == 1
        await queue.start_processing()
        go.set()
        ended = [await queue.wait(job.id, timeout=5) for job in jobs]

    assert [JobStatus.COMPLETED] * 2 == [job.status for job in ended]
    assert [1, 1] == [job.attempts for job in ended]
    assert live == [0, 1]


@pytest.mark.parametrize("turns", range(24))
async def test_a_start_that_is_cancelled_leaves_nobody_behind(store: Store, turns: int) -> None:
    """At whatever moment: no registration of a worker that will never claim, and the next start works."""
    async with JobQueueService(store) as queue:
        queue.register_handler("a", nothing)
        starting = asyncio.get_running_loop().create_task(queue.start_processing())
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        await queue.shutdown(0)
        assert await queue.workers() == []

        await queue.start_processing()
        job = await queue.add_job("a")
        assert (await queue.wait(job.id, timeout=10)).status == JobStatus.COMPLETED


@pytest.mark.parametrize("turns", range(24))
async def test_a_shutdown_that_is_cancelled_can_be_followed_by_a_start(
    store: Store, turns: int
) -> None:
    """At whatever moment: what says that it processes does so, and as one worker."""
    async with JobQueueService(store) as queue:
        queue.register_handler("a", nothing)
        await queue.start_processing()
        ending = asyncio.get_running_loop().create_task(queue.shutdown())
        for _ in range(turns):
            await asyncio.sleep(0)
        ending.cancel()
        await asyncio.wait([ending])

        await queue.start_processing()
        job = await queue.add_job("a")
        assert (await queue.wait(job.id, timeout=10)).status == JobStatus.COMPLETED
        assert len(await queue.workers()) == 1


async def test_a_service_that_has_just_started_shuts_down_at_once(url: str) -> None:
    """It waits for one exchange at most, and not for its interval to pass: time stands still."""
    async with JobQueueService(url, clock=VirtualClock()) as queue, asyncio.timeout(LONG_S):
        await queue.start_processing()
        assert await queue.shutdown(0) == 0
