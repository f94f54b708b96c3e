"""Handlers and results that no queue should be harmed by."""

import asyncio
import inspect
import logging
import threading
import time
from typing import Any

import pytest
from tests.engine.support import LONG_S

from durably import JobContext, JobQueueService, JobStatus


async def outcome(queue: JobQueueService, handler: Any) -> Any:
    """What a job with this handler comes to; afterwards the queue works on."""
    queue.register_handler("poison", handler)
    queue.register_handler("plain", lambda job: "fine")
    await queue.start_processing()
    done = await queue.wait((await queue.add_job("poison", max_attempts=1)).id, timeout=LONG_S)
    plain = await queue.wait((await queue.add_job("plain")).id, timeout=LONG_S)
    assert plain.result == "fine"
    return done


async def test_a_result_of_100_mb_fails_the_job(queue: JobQueueService) -> None:
    """It is not stored, and not tried again: what it did is done."""

    async def handler(job: JobContext) -> str:
        return "x" * 100_000_000

    done = await outcome(queue, handler)

    assert done.status is JobStatus.FAILED
    assert done.error == "result must be at most 1,048,576 bytes of JSON, got 100,000,002"


@pytest.mark.parametrize(
    "text", ["\0", "a\0b", "\uffff", "\U0010ffff", "\x7f", "'; DROP TABLE x --"]
)
async def test_odd_text_comes_back_as_it_was(queue: JobQueueService, text: str) -> None:
    """In a payload and in a result; not every database can store a NUL."""
    queue.register_handler("echo", lambda job: [job.payload, text])
    await queue.start_processing()
    job = await queue.add_job("echo", {text: text})

    assert (await queue.wait(job.id, timeout=LONG_S)).result == [{text: text}, text]


async def test_a_lone_surrogate_fails_the_job(queue: JobQueueService) -> None:
    """It is no text that could be stored."""

    async def handler(job: JobContext) -> str:
        return "\ud800"

    assert (await outcome(queue, handler)).status is JobStatus.FAILED


async def test_an_error_may_be_its_own_cause(queue: JobQueueService) -> None:
    """Its traceback is written without end otherwise."""

    async def handler(job: JobContext) -> None:
        error = ValueError("round")
        error.__cause__ = error.__context__ = RuntimeError("and round")
        error.__cause__.__cause__ = error
        raise error

    done = await outcome(queue, handler)

    assert (done.error, done.status) == ("round", JobStatus.FAILED)
    assert "and round" in done.errors[0].traceback


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
async def test_whatever_is_raised_ends_the_attempt_only(
    queue: JobQueueService, error: type[BaseException]
) -> None:
    """Not the worker, and not the program."""

    async def handler(job: JobContext) -> None:
        raise error

    assert (await outcome(queue, handler)).status is JobStatus.FAILED


async def test_a_task_left_behind_outlives_its_job(queue: JobQueueService) -> None:
    """It is the handler's own; the job is done all the same."""
    left: list[asyncio.Task[None]] = []

    async def handler(job: JobContext) -> str:
        left.append(asyncio.get_running_loop().create_task(asyncio.sleep(3_600), name="left"))
        return "done"

    assert (await outcome(queue, handler)).result == "done"
    assert not left[0].done()
    left[0].cancel()


async def test_who_blocks_the_event_loop_is_named(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """File and line, while it lasts and once; then that it goes on. The job runs once."""
    runs: list[float] = []
    named = threading.Event()

    async def rude(job: JobContext) -> str:
        runs.append(time.monotonic())
        # Blocks the loop until the log names this line, or for so long that it never will.
        return f"named: {named.wait(30)}"

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "has been blocked" in record.getMessage():
                named.set()

    listener = Listener()
    logging.getLogger("durably").addHandler(listener)
    try:
        async with JobQueueService(sqlite_url, lease=1.0) as queue:
            done = await outcome(queue, rude)
    finally:
        logging.getLogger("durably").removeHandler(listener)
    said = [r.getMessage() for r in caplog.records if "the event loop" in r.getMessage()]
    line = inspect.getsourcelines(rude)[1] + 3

    assert (done.result, done.crashes, len(runs)) == ("named: True", 0, 1)
    assert f"by {__file__}:{line}, in rude" in said[0]
    assert "named.wait(30)" in said[0]
    assert "goes on after" in said[1]
    assert len(said) == 2


async def test_a_loop_that_answers_is_not_blamed(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that awaits for several beats of the watch is no trouble."""

    async def patient(job: JobContext) -> None:
        await asyncio.sleep(1.2)

    async with JobQueueService(sqlite_url, lease=1.0) as queue:
        await outcome(queue, patient)

    assert "blocked" not in caplog.text
