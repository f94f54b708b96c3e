"""Whatever a handler raises, the job ends as the contract says and the worker goes on."""

import asyncio
import ctypes
import threading
from collections.abc import Callable
from typing import Any

import pytest

from durably import Job, JobContext, JobQueueService, JobStatus, SyncJobContext


class RudeError(BaseException):
    """Not even an Exception."""


class MuteError(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class MuteForEverError(Exception):
    """Worse."""

    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class OddError(Exception):
    """Says it with a number."""

    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307  # that is the point


def circle() -> BaseException:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    one.__context__, two.__context__ = two, one
    return one


def chain(length: int) -> BaseException:
    last: BaseException | None = None
    for n in range(length):
        error = ValueError(n)
        error.__cause__ = last
        last = error
    assert last is not None
    return last


RAISED: dict[str, Callable[[], BaseException]] = {
    "exception": lambda: ValueError("plain"),
    "no message": ValueError,
    "base exception": lambda: RudeError("rude"),
    "SystemExit": lambda: SystemExit(1),
    "SystemExit without code": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "StopIteration": lambda: StopIteration(5),
    "StopAsyncIteration": StopAsyncIteration,
    "CancelledError": asyncio.CancelledError,
    "TimeoutError": lambda: TimeoutError("its own"),
    "MemoryError": MemoryError,
    "RecursionError": lambda: RecursionError("deep"),
    "group": lambda: BaseExceptionGroup("several", [ValueError("a"), RudeError("b")]),
    "mute": MuteError,
    "mute for ever": MuteForEverError,
    "odd": OddError,
    "circle": circle,
    "long chain": lambda: chain(2000),
    "huge message": lambda: ValueError("x" * 10_000_000),
    "surrogate": lambda: ValueError("a \udc80 b"),
    "nul": lambda: ValueError("a \0 b"),
    "bytes": lambda: ValueError(b"\xff"),
    "unprintable class": lambda: type("\udc80", (Exception,), {})("x"),
    "os error": lambda: OSError(2, "No such file", "/x"),
}


async def run_once(queue: JobQueueService, handler: Callable[..., Any]) -> Job:
    """A job of one attempt, and proof that the worker still runs others."""

    async def echo(job: JobContext) -> Any:
        return job.payload

    queue.register_handler("bad", handler)
    queue.register_handler("good", echo)
    await queue.start_processing()
    bad = await queue.wait((await queue.add_job("bad", max_attempts=1)).id, timeout=5)
    good = await queue.wait((await queue.add_job("good", 5)).id, timeout=5)
    assert good.result == 5
    assert queue.is_processing
    return bad


def check_failed(job: Job) -> None:
    assert job.status is JobStatus.FAILED
    assert job.attempts == 1
    (entry,) = job.errors
    assert (entry.attempt, entry.kind) == (1, "error")
    assert job.error == entry.message
    assert job.error
    assert len(job.error) < 20_000
    assert len(entry.traceback) < 20_000
    (job.error + entry.traceback).encode()


@pytest.mark.parametrize("make", RAISED.values(), ids=RAISED)
async def test_anything_raised_by_an_async_handler_fails_the_job(
    queue: JobQueueService, make: Callable[[], BaseException]
) -> None:
    """Failed with a readable message; the worker and the event loop live on."""

    async def handler(job: JobContext) -> None:
        raise make()

    check_failed(await run_once(queue, handler))


@pytest.mark.parametrize("make", RAISED.values(), ids=RAISED)
async def test_anything_raised_in_a_thread_fails_the_job(
    queue: JobQueueService, make: Callable[[], BaseException]
) -> None:
    """The same for a plain function."""

    def handler(job: SyncJobContext) -> None:
        raise make()

    check_failed(await run_once(queue, handler))


async def test_a_handler_may_have_a_wrong_signature(queue: JobQueueService) -> None:
    """A function that takes no argument fails its job with Python's own words."""

    async def nothing() -> None: ...

    job = await run_once(queue, nothing)

    check_failed(job)
    assert job.error is not None
    assert "takes 0 positional arguments" in job.error


async def test_an_error_keeps_the_gist_of_a_huge_message(queue: JobQueueService) -> None:
    """Beginning and end stay."""

    async def handler(job: JobContext) -> None:
        raise ValueError("the beginning" + "x" * 1_000_000 + "the end")

    job = await run_once(queue, handler)

    assert job.error is not None
    assert job.error.startswith("the beginning")
    assert job.error.endswith("the end")


async def test_a_handler_that_is_cancelled_from_inside_has_failed(queue: JobQueueService) -> None:
    """A cancellation that nobody asked the queue for is an error like any other: retried."""
    runs: list[int] = []

    async def handler(job: JobContext) -> str:
        runs.append(job.attempts)
        if job.attempts == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        return "done"

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert runs == [1, 2]
    assert (job.status, job.result, job.cancelled) == (JobStatus.COMPLETED, "done", False)


async def test_tasks_left_behind_do_not_disturb(queue: JobQueueService) -> None:
    """A handler may leave a task running; the job is over when the handler is."""
    go = asyncio.Event()
    left: list[asyncio.Task[bool]] = []

    async def handler(job: JobContext) -> str:
        left.append(asyncio.get_running_loop().create_task(go.wait()))
        return "done"

    job = await run_once(queue, handler)
    go.set()
    await asyncio.gather(*left)

    assert job.result == "done"


async def test_an_exception_thrown_into_a_thread_is_the_jobs(queue: JobQueueService) -> None:
    """What another thread injects ends the attempt, not the thread that serves the next job."""

    def handler(job: SyncJobContext) -> None:
        me = ctypes.c_long(threading.get_ident())
        ctypes.pythonapi.PyThreadState_SetAsyncExc(me, ctypes.py_object(RudeError))
        for _ in range(1_000_000):
            pass

    check_failed(await run_once(queue, handler))
