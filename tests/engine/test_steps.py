"""Durable steps and progress."""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.engine.support import happened, until

from durably import (
    JobContext,
    JobQueueService,
    JobStatus,
    PayloadError,
    Progress,
    Snooze,
    SyncJobContext,
)
from durably.store import Store


async def test_a_step_runs_once_over_all_attempts(queue: JobQueueService) -> None:
    """Later attempts get the stored result without running the function, also after a snooze."""
    calls: list[str] = []
    results: list[Any] = []

    async def charge() -> dict[str, int]:
        calls.append("charge")
        return {"amount": len(calls)}

    async def handler(job: JobContext) -> str:
        results.append(await job.step("charge", charge))
        results.append(await job.step("plain", lambda: calls.append("plain")))
        if len(results) == 2:
            raise ValueError("once")
        if len(results) == 4:
            raise Snooze(0)
        return "done"

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.status, job.attempts) == (JobStatus.COMPLETED, 2)
    assert calls == ["charge", "plain"]
    assert results == [{"amount": 1}, None] * 3


async def test_steps_belong_to_their_job(queue: JobQueueService) -> None:
    """Another job of the type runs its own."""

    async def handler(job: JobContext) -> Any:
        return await job.step("payload", lambda: job.payload)

    queue.register_handler("a", handler)
    await queue.start_processing()
    jobs = [await queue.add_job("a", n) for n in (1, 2)]

    assert [(await queue.wait(job.id, timeout=5)).result for job in jobs] == [1, 2]


async def test_within_one_attempt_a_name_stands_for_one_step(queue: JobQueueService) -> None:
    """The second call of a name gives the first one's result, also when they overlap."""
    calls: list[int] = []

    async def slow() -> int:
        calls.append(1)
        await asyncio.sleep(0)
        return len(calls)

    async def handler(job: JobContext) -> Any:
        steps: list[Awaitable[int]] = [job.step("one", slow) for _ in range(5)]
        return await asyncio.gather(*steps)

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.result, calls) == ([1] * 5, [1])


async def test_a_failed_step_is_not_stored(queue: JobQueueService) -> None:
    """What the function raises goes through the handler; the next attempt runs it again."""
    calls: list[int] = []

    def sometimes() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise ValueError("not yet")
        return "now"

    async def handler(job: JobContext) -> str:
        return await job.step("sometimes", sometimes)

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.status, job.result, len(calls)) == (JobStatus.COMPLETED, "now", 3)


async def test_a_step_gives_what_json_gives(queue: JobQueueService) -> None:
    """The same value at the first attempt as at every later one."""
    seen: list[Any] = []

    async def handler(job: JobContext) -> None:
        seen.append(await job.step("tuple", lambda: (1, datetime(2030, 1, 1, tzinfo=UTC))))
        if job.attempts == 1:
            raise ValueError("once")

    queue.register_handler("a", handler)
    await queue.start_processing()
    await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert seen == [[1, "2030-01-01T00:00:00Z"]] * 2


async def test_a_stored_step_cannot_be_changed_by_its_user(queue: JobQueueService) -> None:
    """Changing the result of a step changes no later reading of it in another attempt."""
    seen: list[Any] = []

    async def handler(job: JobContext) -> None:
        value = await job.step("list", lambda: [1])
        seen.append(list(value))
        value.append(2)
        if job.attempts == 1:
            raise ValueError("once")

    queue.register_handler("a", handler)
    await queue.start_processing()
    await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert seen == [[1], [1]]


@pytest.mark.parametrize(
    "bad", [object(), "x" * 1_048_576, float("nan")], ids=["obj", "big", "nan"]
)
async def test_a_step_that_cannot_be_kept_raises(queue: JobQueueService, bad: Any) -> None:
    """PayloadError in the handler, which names the step."""
    raised: list[str] = []

    async def handler(job: JobContext) -> None:
        try:
            await job.step("wrong one", lambda: bad)
        except PayloadError as error:
            raised.append(str(error))

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert job.status is JobStatus.COMPLETED
    assert "wrong one" in raised[0]


@pytest.mark.parametrize("name", ["", None, 5, "x" * 1000, "\udc80"])
async def test_a_step_has_a_name(queue: JobQueueService, name: Any) -> None:
    """A wrong name raises, and the function does not run."""
    ran: list[int] = []

    async def handler(job: JobContext) -> str:
        with pytest.raises((TypeError, ValueError)):
            await job.step(name, lambda: ran.append(1))
        return "refused"

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.result, ran) == ("refused", [])


async def test_a_thread_has_steps(queue: JobQueueService) -> None:
    """The blocking form of step, in a plain function."""
    calls: list[int] = []

    def count() -> int:
        calls.append(1)
        return len(calls)

    def handler(job: SyncJobContext) -> list[int]:
        one = job.step("one", count)
        again = job.step("one", count)
        if job.attempts == 1:
            raise ValueError("once")
        return [one, again]

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.result, calls) == ([1, 1], [1])


async def test_progress_is_seen_from_outside(queue: JobQueueService) -> None:
    """The last word of a running job; it stays when the job is completed."""
    half, go = asyncio.Event(), asyncio.Event()

    async def handler(job: JobContext) -> None:
        await job.set_progress(0)
        await job.set_progress(0.5, "half way")
        half.set()
        await go.wait()
        await job.set_progress(1)

    queue.register_handler("a", handler)
    await queue.start_processing()
    added = await queue.add_job("a")
    await happened(half)
    running = await queue.get_job(added.id)
    go.set()
    done = await queue.wait(added.id, timeout=5)

    assert added.progress is None
    assert running is not None
    assert running.progress == Progress(fraction=0.5, message="half way")
    assert done.progress == Progress(fraction=1.0, message="")


async def test_a_thread_reports_progress(queue: JobQueueService) -> None:
    """The blocking form of set_progress."""

    def handler(job: SyncJobContext) -> None:
        job.set_progress(0.25, "a quarter")

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert job.progress == Progress(fraction=0.25, message="a quarter")


@pytest.mark.parametrize(
    "arguments",
    [
        (-0.1,),
        (1.1,),
        (float("nan"),),
        ("half",),
        (None,),
        (True,),
        (0.5, 5),
        (0.5, None),
        (0.5, "\udc80"),
    ],
)
async def test_wrong_progress_is_refused(queue: JobQueueService, arguments: Any) -> None:
    """It raises in the handler, and the job stays readable."""

    async def handler(job: JobContext) -> str:
        with pytest.raises((TypeError, ValueError)):
            await job.set_progress(*arguments)
        return "refused"

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)

    assert (job.result, job.progress) == ("refused", None)


async def test_progress_starts_afresh_with_a_persons_retry(queue: JobQueueService) -> None:
    """A job that is run again has made none yet."""

    async def handler(job: JobContext) -> None:
        await job.set_progress(1)

    queue.register_handler("a", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("a")).id, timeout=5)
    await queue.stop_processing()

    assert (await queue.retry_job(job.id)).progress is None
    await queue.start_processing()
    again = await until(queue, job.id, lambda job: job.status.is_final)
    assert again.progress == Progress(fraction=1.0)


async def test_a_step_is_not_forgotten_when_another_one_looks_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps at a time each ask for what is stored; the slower answer knows less than the attempt."""
    calls: list[str] = []
    saved, steps = asyncio.Event(), store.steps
    asked = 0

    async def slowly(job_id: str) -> dict[str, str]:
        nonlocal asked
        asked += 1
        second = asked == 2
        stored = await steps(job_id)
        if second:
            await saved.wait()
        return stored

    async def handler(job: JobContext) -> None:
        async def first() -> None:
            await job.step("first", lambda: calls.append("first"))
            saved.set()

        await asyncio.gather(first(), job.step("second", lambda: calls.append("second")))
        await job.step("first", lambda: calls.append("first again"))

    monkeypatch.setattr(store, "steps", slowly)
    async with JobQueueService(store) as queue:
        queue.register_handler("a", handler)
        await queue.start_processing()
        job = await queue.add_job("a")
        assert (await queue.wait(job.id, timeout=10)).status == JobStatus.COMPLETED

    assert calls == ["first", "second"]
