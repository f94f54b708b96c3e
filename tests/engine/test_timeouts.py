"""The timeout of a handler: what it interrupts, and what it leaves behind (Q6)."""

import asyncio
import functools
import threading
import time

import pytest
from tests.engine.support import happened, until

from durably import (
    Fail,
    JobContext,
    JobQueueService,
    JobStatus,
    LeaseLostError,
    RetryPolicy,
    SyncJobContext,
)
from durably.engine import executor

ONCE = RetryPolicy(max_attempts=1)


async def test_an_async_handler_is_interrupted(queue: JobQueueService) -> None:
    """Cancelled at its timeout: an error of kind timeout, then a retry like any other."""
    ended: list[float] = []

    async def handler(job: JobContext) -> str:
        if job.attempts == 2:
            return "quick"
        began = time.monotonic()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(time.monotonic() - began)
        return "never"

    queue.register_handler("a", handler, timeout=0.05)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert 0.04 < ended[0] < 1
    assert (job.status, job.attempts, job.result) == (JobStatus.COMPLETED, 2, "quick")
    assert [(e.attempt, e.kind) for e in job.errors] == [(1, "timeout")]
    assert "0.05" in job.errors[0].message


async def test_the_timeout_holds_for_each_attempt(queue: JobQueueService) -> None:
    """A hung handler ends as failed when its attempts are used up; each says when it started."""

    async def handler(job: JobContext) -> None:
        await asyncio.Event().wait()

    queue.register_handler("a", handler, timeout=0.02)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.status, job.attempts) == (JobStatus.FAILED, 3)
    assert [e.kind for e in job.errors] == ["timeout"] * 3
    times = [moment for e in job.errors for moment in (e.started_at, e.at) if moment is not None]
    assert len(times) == 6
    assert times == sorted(times)
    assert job.errors[2].started_at == job.processed_at
    assert job.error == job.errors[-1].message


async def test_a_handler_in_time_is_left_alone(queue: JobQueueService) -> None:
    """No timeout strikes after the end, however short the jobs."""

    async def handler(job: JobContext) -> str:
        await asyncio.sleep(0)
        return "done"

    queue.register_handler("a", handler, timeout=5)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.status, job.errors) == (JobStatus.COMPLETED, ())


async def test_a_timeout_of_the_handlers_own_is_an_error(queue: JobQueueService) -> None:
    """`asyncio.timeout` inside a handler is the handler's business: kind error."""

    async def handler(job: JobContext) -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    queue.register_handler("a", handler, timeout=5, retry=ONCE)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert [e.kind for e in job.errors] == ["error"]


async def test_the_handler_is_told(queue: JobQueueService) -> None:
    """While it unwinds after its timeout, `cancelled` is true."""
    told: list[bool] = []

    async def handler(job: JobContext) -> None:
        told.append(job.cancelled)
        try:
            await asyncio.Event().wait()
        finally:
            told.append(job.cancelled)

    queue.register_handler("a", handler, timeout=0.02, retry=ONCE)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert told == [False, True]
    assert (job.status, job.cancelled) == (JobStatus.FAILED, False)


async def test_a_handler_that_returns_all_the_same_is_completed(queue: JobQueueService) -> None:
    """Who catches the interruption and returns has done the work."""

    async def handler(job: JobContext) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "saved"
        return "never"

    queue.register_handler("a", handler, timeout=0.02, retry=ONCE)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.status, job.result) == (JobStatus.COMPLETED, "saved")


async def test_what_a_handler_raises_instead_of_its_cancellation_is_the_timeout(
    queue: JobQueueService,
) -> None:
    """A library that turns the cancellation into its own error does not hide the timeout."""

    async def handler(job: JobContext) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("closed") from None

    queue.register_handler("a", handler, timeout=0.02, retry=ONCE)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert [e.kind for e in job.errors] == ["timeout"]


async def test_a_decision_on_the_way_out_counts(queue: JobQueueService) -> None:
    """`raise Fail` after a timeout is still the handler's word."""

    async def handler(job: JobContext) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise Fail("no use") from None

    queue.register_handler("a", handler, timeout=0.02)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.status, job.error, job.attempts) == (JobStatus.FAILED, "no use", 1)


async def test_a_handler_that_ignores_its_cancellation_is_left_behind(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its attempt is over some seconds after the timeout, its slot taken until it ends."""
    monkeypatch.setattr(executor, "UNWIND_LONGEST_S", 0.05)
    go = asyncio.Event()
    running = most = 0

    async def handler(job: JobContext) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            while job.attempts == 1 and not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    continue
            return f"attempt {job.attempts}"
        finally:
            running -= 1

    policy = RetryPolicy(base_delay=0, jitter=0)
    async with JobQueueService(url, retry=policy, concurrency=2) as queue:
        queue.register_handler("a", handler, timeout=0.02)
        await queue.start_processing()
        stuck = await queue.wait((await queue.add_job("a")).id, timeout=5)
        go.set()
        await queue.shutdown()

    assert (stuck.status, stuck.result) == (JobStatus.COMPLETED, "attempt 2")
    assert [e.kind for e in stuck.errors] == ["timeout"]
    assert most == 2


async def test_a_thread_is_left_behind_and_fenced(queue: JobQueueService) -> None:
    """The attempt ends at the timeout; what the thread does later changes nothing."""
    go = threading.Event()
    late: list[object] = []

    def handler(job: SyncJobContext) -> str:
        if job.attempts == 1:
            go.wait(5)
            late.append(job.cancelled)
            for write in (
                lambda: job.set_progress(0.5),
                lambda: job.step("late", lambda: 1),
            ):
                try:
                    write()
                except LeaseLostError as error:
                    late.append(type(error))
            return "too late"
        return "second"

    queue.register_handler("a", handler, timeout=0.05)
    await queue.start_processing()
    added = await queue.add_job("a")
    waiting = await until(queue, added.id, lambda job: bool(job.errors))
    go.set()
    job = await queue.wait(added.id, timeout=5)

    assert [e.kind for e in waiting.errors] == ["timeout"]
    assert late == [True, LeaseLostError, LeaseLostError]
    assert (job.status, job.result, job.attempts) == (JobStatus.COMPLETED, "second", 2)
    assert job.progress is None


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_threads_left_behind_keep_their_slots(url: str, concurrency: int) -> None:
    """However often they time out, no more threads run than the service has slots."""
    go = threading.Event()
    count = threading.Lock()
    loop, all_taken = asyncio.get_running_loop(), asyncio.Event()
    running = most = 0
    seen: list[str] = []

    def handler(job: SyncJobContext) -> None:
        nonlocal running, most
        with count:
            running += 1
            most = max(most, running)
            seen.append(job.id)
            if len(seen) == concurrency:
                loop.call_soon_threadsafe(all_taken.set)
        go.wait(5)
        with count:
            running -= 1

    policy = RetryPolicy(base_delay=0, jitter=0)
    async with JobQueueService(url, concurrency=concurrency, retry=policy) as queue:
        queue.register_handler("a", handler, timeout=0.02)
        await queue.start_processing()
        jobs = [await queue.add_job("a") for _ in range(3)]
        await happened(all_taken)
        # Long enough for many timeouts and retries: it is what must not happen.
        await asyncio.sleep(0.15)
        stuck = len(seen)
        go.set()
        for job in jobs:
            await queue.wait(job.id, timeout=5)

    assert stuck == concurrency
    assert most == concurrency


async def test_the_timeout_holds_for_a_coroutine_from_a_plain_function(
    queue: JobQueueService,
) -> None:
    """A lambda or partial around an async function is timed out like the function itself."""

    async def handle(job: JobContext) -> None:
        await asyncio.Event().wait()

    queue.register_handler("lambda", lambda job: handle(job), timeout=0.02, retry=ONCE)  # noqa: PLW0108  # on purpose
    queue.register_handler("partial", functools.partial(handle), timeout=0.02, retry=ONCE)
    await queue.start_processing()
    for name in ("lambda", "partial"):
        job = await queue.wait((await queue.add_job(name)).id, timeout=5)

        assert [e.kind for e in job.errors] == ["timeout"], name


async def test_give_up_on_timeout_error(queue: JobQueueService) -> None:
    """A policy can tell timeouts from the rest: they are TimeoutErrors to it."""

    async def handler(job: JobContext) -> None:
        await asyncio.Event().wait()

    policy = RetryPolicy(give_up_on=(TimeoutError,))
    queue.register_handler("a", handler, timeout=0.02, retry=policy)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.status, job.attempts) == (JobStatus.FAILED, 1)
