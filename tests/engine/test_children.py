"""Which job's attempt added a job (`parent`), and what a job has added (`get_children`)."""

import pytest

from durably import Job, JobContext, JobQueueService, RetryPolicy, SyncJobContext


async def nothing(job: JobContext) -> None: ...


async def run(queue: JobQueueService, kind: str) -> Job:
    """A job of the type, once it is final."""
    await queue.start_processing()
    return await queue.wait((await queue.add_job(kind)).id, timeout=10)


async def types(queue: JobQueueService, job: Job) -> list[str]:
    """Of its children, which all name it as their parent."""
    children = await queue.get_children(job.id)
    assert {child.parent for child in children} <= {job.id}
    return [child.type for child in children]


async def test_what_a_handler_adds_are_children_of_its_job(queue: JobQueueService) -> None:
    """With the outcome and by `commit`; what it adds to the queue itself has no parent."""

    async def handler(job: JobContext) -> None:
        assert job.parent is None
        early = queue.changeset()
        early.add_job("early")
        await job.commit(early)
        await queue.add_job("apart")
        job.add_job("one")
        job.changes.add_job("two")

    queue.register_handler("a", handler)
    job = await run(queue, "a")
    [apart] = await queue.get_jobs(type="apart")

    assert await types(queue, job) == ["early", "one", "two"]
    assert len(await queue.get_children(job.id, 2)) == 2
    assert job.parent is apart.parent is None


async def test_every_attempt_adds_to_the_children(queue: JobQueueService) -> None:
    """What an attempt that failed has committed stays; what it would have added is dropped."""

    async def handler(job: JobContext) -> None:
        early = queue.changeset()
        early.add_job(f"early {job.attempts}")
        await job.commit(early)
        job.add_job(f"late {job.attempts}")
        if job.attempts == 1:
            raise ValueError

    queue.register_handler("a", handler, retry=RetryPolicy(base_delay=0, jitter=0))

    assert await types(queue, await run(queue, "a")) == ["early 1", "early 2", "late 2"]


async def test_what_complete_adds_are_children(queue: JobQueueService) -> None:
    """By the block's `tx` and by the context before it, in async handlers and in threads."""

    async def async_handler(job: JobContext) -> None:
        job.add_job("one")
        async with job.complete() as tx:
            tx.add_job("two")

    def sync_handler(job: SyncJobContext) -> None:
        job.add_job("one")
        with job.complete() as tx:
            tx.add_job("two")

    queue.register_handler("async", async_handler)
    queue.register_handler("sync", sync_handler)

    for kind in ("async", "sync"):
        assert await types(queue, await run(queue, kind)) == ["one", "two"]


async def test_a_child_knows_its_parent(queue: JobQueueService) -> None:
    """In its context, and again after a retry by a person."""
    seen: list[str | None] = []

    async def parent(job: JobContext) -> None:
        job.add_job("child")

    async def child(job: JobContext) -> None:
        seen.append(job.parent)

    queue.register_handler("parent", parent)
    queue.register_handler("child", child)
    job = await run(queue, "parent")
    [added] = await queue.get_children(job.id)
    await queue.wait(added.id, timeout=10)
    await queue.retry_job(added.id)
    done = await queue.wait(added.id, timeout=10)

    assert seen == [job.id, job.id]
    assert done.parent == job.id


async def test_nobody_has_no_children(queue: JobQueueService) -> None:
    """An unknown id gives none, whatever text it is; a limit out of bounds is refused."""
    for unknown in ("", "nobody", "é", "\0", "\udc80"):
        assert await queue.get_children(unknown) == []
    with pytest.raises(ValueError, match="limit must be 1 to 10,000, got 0"):
        await queue.get_children("nobody", 0)
    with pytest.raises(TypeError, match="an id must be a str, got 1"):
        await queue.get_children(1)  # type: ignore[arg-type]  # on purpose
