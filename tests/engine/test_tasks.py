"""The typed form: `@queue.task` makes a function's parameters the payload."""

import asyncio
import functools
import threading
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from tests.engine.support import happened, until

from durably import (
    JobContext,
    JobPriority,
    JobQueueService,
    JobStatus,
    PayloadError,
    RetryPolicy,
    StoreClosedError,
    SyncJobContext,
)


class Address(msgspec.Struct):
    street: str
    number: int = 1


@dataclass
class Parcel:
    weight: float
    to: Address


async def module_level(a: int, b: str = "x") -> str:
    return f"{a}{b}"


async def test_a_function_becomes_a_job_type(queue: JobQueueService) -> None:
    """Bare: the type is the function's name, its parameters are the payload."""

    @queue.task
    async def add(a: int, b: int = 10) -> int:
        return a + b

    await queue.start_processing()
    job = await add.enqueue(1)
    other = await add.enqueue(1, b=2)

    assert (job.type, job.payload, job.status) == ("add", {"a": 1}, JobStatus.PENDING)
    assert other.payload == {"a": 1, "b": 2}
    assert (await queue.wait(job.id, timeout=5)).result == 11
    assert (await queue.wait(other.id, timeout=5)).result == 3
    assert add.name == "add"


async def test_a_name_and_options(url: str) -> None:
    """`@queue.task(name, timeout=…, retry=…, max_concurrency=…)`, by position or keyword."""
    async with JobQueueService(url) as queue:

        @queue.task("math.add", retry=RetryPolicy(max_attempts=2, base_delay=0))
        async def add(a: int) -> int:
            raise ValueError(a)

        @queue.task(name="slow", timeout=0.02, retry=RetryPolicy(max_attempts=1))
        async def slow() -> None:
            await asyncio.Event().wait()

        @queue.task()
        async def plain() -> str:
            return "plain"

        await queue.start_processing()
        failed = await queue.wait((await add.enqueue(a=1)).id, timeout=5)
        late = await queue.wait((await slow.enqueue()).id, timeout=5)
        done = await queue.wait((await plain.enqueue()).id, timeout=5)

    assert (failed.type, failed.status, failed.attempts) == ("math.add", JobStatus.FAILED, 2)
    assert (late.type, [e.kind for e in late.errors]) == ("slow", ["timeout"])
    assert (done.type, done.payload, done.result) == ("plain", {}, "plain")


async def test_calling_runs_the_function_itself(queue: JobQueueService) -> None:
    """`await f(…)` is a plain call: no job, no processing."""

    @queue.task
    async def add(a: int, b: int = 10) -> int:
        return a + b

    @queue.task
    def double(a: int) -> int:
        return 2 * a

    assert await add(1, b=2) == 3
    assert double(4) == 8
    assert await queue.get_jobs() == []


async def test_the_context_is_injected(queue: JobQueueService) -> None:
    """A parameter annotated JobContext gets the context, wherever it stands; never the payload."""

    @queue.task
    async def first(ctx: JobContext, a: int) -> list[Any]:
        return [ctx.id, ctx.attempts, a]

    @queue.task
    async def last(a: int, *, job: JobContext) -> list[Any]:
        return [job.id, job.attempts, a]

    @queue.task
    def thread(a: int, ctx: SyncJobContext) -> list[Any]:
        ctx.set_progress(0.5)
        return [ctx.id, ctx.attempts, a]

    await queue.start_processing()
    jobs = [
        await first.enqueue(5),
        await last.enqueue(5),  # type: ignore[call-arg]  # only a first parameter is hidden
        await thread.enqueue(5),  # type: ignore[call-arg]  # as above
    ]
    for job in jobs:
        done = await queue.wait(job.id, timeout=5)

        assert job.payload == {"a": 5}
        assert done.result == [job.id, 1, 5]
    with pytest.raises(TypeError, match="ctx"):
        await first.enqueue(5, ctx=None)


async def test_parameters_have_types(queue: JobQueueService) -> None:
    """Structs, dataclasses and containers reach the function as their types."""
    seen: list[Any] = []

    @queue.task
    async def send(
        parcel: Parcel, tags: list[str], extra: dict[str, Address] | None = None
    ) -> None:
        seen.append((parcel, tags, extra))

    await queue.start_processing()
    parcel = Parcel(1.5, Address("Main", 3))
    jobs = [
        await send.enqueue(parcel, ["a"]),
        await send.enqueue(parcel, [], extra={"x": Address("Side")}),
    ]
    for job in jobs:
        await queue.wait(job.id, timeout=5)

    assert seen == [(parcel, ["a"], None), (parcel, [], {"x": Address("Side", 1)})]


async def test_wrong_arguments_are_refused_at_the_call(queue: JobQueueService) -> None:
    """What the function would not take, and what does not fit an annotation."""

    @queue.task
    async def add(a: int, b: int = 10) -> int:
        return a + b

    task: Any = add
    for args, kwargs in (((), {}), ((1, 2, 3), {}), ((1,), {"a": 1}), ((1,), {"c": 1})):
        with pytest.raises(TypeError):
            await task.enqueue(*args, **kwargs)
    for wrong in ("1", None, 1.5, [1]):
        with pytest.raises(PayloadError):
            await task.enqueue(wrong)
    with pytest.raises(PayloadError):
        await queue.add_job("add", {"a": 1, "c": 2})

    assert await queue.get_jobs() == []


async def test_options_for_one_call(queue: JobQueueService) -> None:
    """`f.using(…)` takes add_job's options and leaves the task as it was."""

    @queue.task
    async def add(a: int) -> int:
        return a

    urgent = add.using(priority=JobPriority.CRITICAL, delay=60, tags=["t"], unique_key="k")
    one = await urgent.enqueue(1)
    two = await urgent.enqueue(2)
    plain = await add.enqueue(3)

    assert (one.priority, one.tags, one.unique_key) == (JobPriority.CRITICAL, ("t",), "k")
    assert one.run_at is not None
    assert two == one
    assert (plain.priority, plain.run_at) == (JobPriority.NORMAL, None)
    for wrong in ({"priority": 9}, {"delay": -1}, {"nonsense": 1}):
        with pytest.raises((TypeError, ValueError)):
            await add.using(**wrong).enqueue(1)


async def test_a_default_is_taken_at_run_time(queue: JobQueueService) -> None:
    """Mutable defaults are fresh for each job; absent arguments stay absent in the payload."""
    seen: list[Any] = []

    @queue.task
    async def collect(a: int, into: list[int] = []) -> None:  # noqa: B006  # that is the point
        into.append(a)
        seen.append(into)

    await queue.start_processing()
    for n in (1, 2):
        job = await collect.enqueue(n)
        await queue.wait(job.id, timeout=5)
        assert job.payload == {"a": n}

    assert seen == [[1], [2]]


async def test_what_cannot_be_a_payload(queue: JobQueueService) -> None:
    """Open-ended and positional-only parameters are refused at the decoration."""

    def star(*args: int) -> None: ...
    def stars(**kwargs: int) -> None: ...
    def positional(a: int, /) -> None: ...

    for function in (star, stars, positional):
        with pytest.raises(TypeError, match=function.__name__):
            queue.task(function)


async def test_two_functions_cannot_share_a_name(queue: JobQueueService) -> None:
    """One would silently replace the other; the same function again is no conflict."""
    queue.task(module_level)
    queue.task(module_level)
    with pytest.raises(ValueError, match="module_level"):

        @queue.task("module_level")
        async def other(a: int) -> None: ...


async def test_a_plain_function_runs_in_a_thread(queue: JobQueueService) -> None:
    """As with register_handler."""
    here = threading.current_thread().name

    @queue.task
    def where() -> str:
        return threading.current_thread().name

    await queue.start_processing()
    done = await queue.wait((await where.enqueue()).id, timeout=5)

    assert done.result != here


async def test_a_decorated_function_keeps_its_face(queue: JobQueueService) -> None:
    """Name and docstring are the function's; a wrapper's signature is what it wraps."""

    def twice(function: Any) -> Any:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return [await function(*args, **kwargs) for _ in range(2)]

        return wrapper

    @queue.task
    @twice
    async def add(a: int) -> int:
        """Adds."""
        return a

    await queue.start_processing()
    done = await queue.wait((await add.enqueue(1)).id, timeout=5)

    assert (add.__doc__, add.__name__, done.result) == ("Adds.", "add", [1, 1])


async def test_enqueue_sync_from_a_thread(queue: JobQueueService) -> None:
    """Code in another thread adds jobs to an open service and gets the job back."""

    @queue.task
    async def add(a: int) -> int:
        return a

    job = await asyncio.to_thread(add.enqueue_sync, 1)
    other = await asyncio.to_thread(add.using(delay=60).enqueue_sync, 2)

    assert await queue.get_job(job.id) == job
    assert (other.payload, other.run_at is not None) == ({"a": 2}, True)


async def test_enqueue_sync_from_a_handler_in_a_thread(queue: JobQueueService) -> None:
    """A plain handler may add jobs at once, outside its own transaction."""
    ran = asyncio.Event()

    @queue.task
    async def child() -> None:
        ran.set()

    @queue.task
    def parent() -> str:
        return child.enqueue_sync().id

    await queue.start_processing()
    done = await queue.wait((await parent.enqueue()).id, timeout=5)
    await happened(ran)

    assert (await until(queue, done.result, lambda job: job.status.is_final)).type == "child"


async def test_enqueue_sync_on_the_loop_is_refused(queue: JobQueueService) -> None:
    """It would block the loop that it waits for; the message names the way out."""

    @queue.task
    async def add(a: int) -> int:
        return a

    with pytest.raises(RuntimeError, match="await"):
        add.enqueue_sync(1)


def test_enqueue_sync_without_a_loop(sqlite_url: str) -> None:
    """A plain program adds jobs to a durable store, which a service later runs."""
    queue = JobQueueService(sqlite_url)

    @queue.task
    async def add(a: int) -> int:
        return a + 1

    jobs = [add.enqueue_sync(n) for n in range(3)]

    async def work() -> list[Any]:
        async with queue:
            await queue.start_processing()
            return [(await queue.wait(job.id, timeout=5)).result for job in jobs]

    assert asyncio.run(work()) == [1, 2, 3]


def test_enqueue_sync_into_memory_needs_an_open_service() -> None:
    """memory:// keeps nothing while no service is open: an error, not a lost job."""
    queue = JobQueueService("memory://")

    @queue.task
    async def add(a: int) -> int:
        return a

    with pytest.raises(StoreClosedError):
        add.enqueue_sync(1)
