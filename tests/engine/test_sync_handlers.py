"""Handlers of every shape: plain functions in threads, lambdas, partials, callable objects."""

import asyncio
import contextvars
import functools
import threading
import time
from typing import Any

import pytest
from tests.engine.support import happened

from durably import (
    JobContext,
    JobQueueService,
    JobStatus,
    NewJob,
    PayloadError,
    SyncJobContext,
)


async def coroutine(job: JobContext, extra: int = 0) -> Any:
    assert asyncio.get_running_loop().is_running()
    return [job.payload, extra]


def plain(job: SyncJobContext, extra: int = 0) -> Any:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    return [job.payload, extra]


class AsyncCallable:
    async def __call__(self, job: JobContext) -> Any:
        return await coroutine(job)


class PlainCallable:
    def __call__(self, job: SyncJobContext) -> Any:
        return plain(job)


class Methods:
    async def on_loop(self, job: JobContext) -> Any:
        return await coroutine(job)

    def in_thread(self, job: SyncJobContext) -> Any:
        return plain(job)

    @staticmethod
    async def static(job: JobContext) -> Any:
        return await coroutine(job)

    @classmethod
    def of_class(cls, job: SyncJobContext) -> Any:
        return plain(job)


def wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Awaitable:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self.value


SHAPES: dict[str, Any] = {
    "coroutine function": coroutine,
    "plain function": plain,
    "lambda": lambda job: [job.payload, 0],
    "lambda around a coroutine": lambda job: coroutine(job, 0),
    "partial of a coroutine": functools.partial(coroutine, extra=0),
    "partial of a function": functools.partial(plain, extra=0),
    "partial of a partial": functools.partial(functools.partial(coroutine), extra=0),
    "async callable": AsyncCallable(),
    "plain callable": PlainCallable(),
    "partial of an async callable": functools.partial(AsyncCallable()),
    "method": Methods().on_loop,
    "plain method": Methods().in_thread,
    "static method": Methods.static,
    "class method": Methods.of_class,
    "wrapped coroutine": wrapped(coroutine),
    "wrapped function": wrapped(plain),
    "awaitable": lambda job: Awaitable([job.payload, 0]),
}


@pytest.mark.parametrize("handler", SHAPES.values(), ids=SHAPES)
async def test_every_callable_is_a_handler(queue: JobQueueService, handler: Any) -> None:
    """It runs where it belongs, and its result is the job's."""
    queue.register_handler("a", handler)
    await queue.start_processing()
    done = await queue.wait((await queue.add_job("a", "x")).id, timeout=5)

    assert (done.status, done.result) == (JobStatus.COMPLETED, ["x", 0])


async def test_a_coroutine_from_a_plain_function_has_the_whole_context(
    queue: JobQueueService,
) -> None:
    """A lambda around an async function may await steps, progress and `complete`."""

    async def handle(job: JobContext) -> None:
        await job.set_progress(0.5, "half")
        assert await job.step("one", lambda: 7) == 7
        await job.add_job("child")
        assert job.attempts == 1
        async with job.complete("done") as tx:
            tx.add_job("child")

    queue.register_handler("a", lambda job: handle(job), timeout=5)  # noqa: PLW0108  # on purpose
    await queue.start_processing()
    done = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (done.status, done.result, done.errors) == (JobStatus.COMPLETED, "done", ())
    assert done.progress is not None
    assert done.progress.message == "half"
    assert len(await queue.get_jobs(type="child")) == 2


async def test_the_loop_goes_on_while_a_thread_works(queue: JobQueueService) -> None:
    """A blocking handler does not block the program."""
    go = threading.Event()

    def handler(job: SyncJobContext) -> str:
        assert go.wait(5)
        return "done"

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.add_job("a")
    # Only the loop can let the thread go on.
    asyncio.get_running_loop().call_later(0.01, go.set)
    done = await queue.wait(job.id, timeout=5)

    assert done.result == "done"


async def test_as_many_threads_as_slots(url: str) -> None:
    """Real concurrency: each waits for all the others; then they are used again."""
    slots = 12
    together = threading.Barrier(slots)
    names: set[str] = set()

    def handler(job: SyncJobContext) -> None:
        names.add(threading.current_thread().name)
        together.wait(5)

    async with JobQueueService(url, concurrency=slots) as queue:
        queue.register_handler("a", handler)
        await queue.start_processing()
        jobs = await queue.add_jobs([NewJob("a")] * slots * 3)
        done = [await queue.wait(job.id, timeout=10) for job in jobs]

    assert {job.status for job in done} == {JobStatus.COMPLETED}
    assert len(names) <= 2 * slots


async def test_threads_and_coroutines_share_the_slots(url: str) -> None:
    """Concurrency counts jobs, whatever they are made of."""
    lock = threading.Lock()
    now = most = 0

    def enter(by: int) -> None:
        nonlocal now, most
        with lock:
            now += by
            most = max(most, now)

    async def on_loop(job: JobContext) -> None:
        enter(1)
        await asyncio.sleep(0.001)
        enter(-1)

    def in_thread(job: SyncJobContext) -> None:
        enter(1)
        time.sleep(0.001)
        enter(-1)

    async with JobQueueService(url, concurrency=3) as queue:
        queue.register_handler("loop", on_loop)
        queue.register_handler("thread", in_thread)
        await queue.start_processing()
        jobs = await queue.add_jobs([NewJob("loop"), NewJob("thread")] * 30)
        for job in jobs:
            await queue.wait(job.id, timeout=10)

    assert most == 3


async def test_a_thread_ends_with_its_service(queue: JobQueueService) -> None:
    """No thread of ours is left when the service has shut down."""
    threads: set[threading.Thread] = set()

    def handler(job: SyncJobContext) -> None:
        threads.add(threading.current_thread())

    queue.register_handler("a", handler)
    await queue.start_processing()
    for _ in range(3):
        await queue.wait((await queue.add_job("a")).id, timeout=5)
    await queue.shutdown()
    for thread in threads:
        await asyncio.to_thread(thread.join, 5)

    assert threads
    assert not any(thread.is_alive() for thread in threads)


async def test_context_variables_do_not_leak(queue: JobQueueService) -> None:
    """What a handler sets, no other job sees, in threads and on the loop."""
    variable = contextvars.ContextVar("variable", default="unset")

    async def on_loop(job: JobContext) -> str:
        before = variable.get()
        variable.set(f"set by {job.id}")
        return before

    def in_thread(job: SyncJobContext) -> str:
        before = variable.get()
        variable.set(f"set by {job.id}")
        return before

    queue.register_handler("loop", on_loop)
    queue.register_handler("thread", in_thread)
    await queue.start_processing()
    for name in ("loop", "thread") * 3:
        done = await queue.wait((await queue.add_job(name)).id, timeout=5)

        assert done.result == "unset"


async def test_a_threads_bad_result_fails_for_good(queue: JobQueueService) -> None:
    """As with an async handler."""

    def handler(job: SyncJobContext) -> Any:
        return object()

    queue.register_handler("a", handler)
    await queue.start_processing()
    done = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (done.status, done.attempts) == (JobStatus.FAILED, 1)


async def test_a_threads_writes_are_checked(queue: JobQueueService) -> None:
    """The blocking forms raise in the thread what the others raise."""

    def handler(job: SyncJobContext) -> str:
        with pytest.raises(ValueError, match="fraction"):
            job.set_progress(2)
        with pytest.raises(PayloadError):
            job.step("one", object)
        return "refused"

    queue.register_handler("a", handler)
    await queue.start_processing()
    done = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert done.result == "refused"


async def test_an_async_generator_is_no_handler(queue: JobQueueService) -> None:
    """It returns what nobody iterates: the job fails rather than pretending it ran."""

    async def generator(job: JobContext) -> Any:
        yield 1

    queue.register_handler("a", generator)
    await queue.start_processing()
    done = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert done.status is JobStatus.FAILED


async def test_a_handler_may_wait_for_another_job(url: str) -> None:
    """With a free slot a job can add another and wait for its result."""
    async with JobQueueService(url, concurrency=2) as queue:
        started = asyncio.Event()

        async def parent(job: JobContext) -> Any:
            started.set()
            child = await queue.add_job("child", 20)
            return (await queue.wait(child.id, timeout=5)).result + 1

        async def child(job: JobContext) -> Any:
            return job.payload * 2

        queue.register_handler("parent", parent)
        queue.register_handler("child", child)
        await queue.start_processing()
        job = await queue.add_job("parent")
        await happened(started)

        assert (await queue.wait(job.id, timeout=5)).result == 41
