"""The public surface as a type checker sees it; mypy checks this file, nothing runs it."""

from typing import Any, assert_type

from durably import (
    Job,
    JobContext,
    JobPriority,
    JobQueueService,
    JobStatus,
    NewJob,
    QueueStats,
    RetryPolicy,
    Task,
)


async def adding(queue: JobQueueService) -> None:
    assert_type(await queue.add_job("mail", {"to": "x"}, priority=JobPriority.HIGH), Job)
    assert_type(await queue.add_jobs([NewJob(type="mail")]), list[Job])
    assert_type(await queue.get_job("id"), Job | None)
    assert_type(await queue.get_jobs(status=JobStatus.FAILED), list[Job])
    assert_type(await queue.get_stats(), QueueStats)
    assert_type(await queue.wait("id", timeout=1), Job)
    assert_type(await queue.shutdown(), int)
    assert_type(await queue.explain("id"), str)
    assert_type(RetryPolicy(jitter=0).delay_after(1), float)


async def tasks(queue: JobQueueService) -> None:
    @queue.task
    async def resize(image: str, width: int = 100) -> str:
        return f"{image}{width}"

    @queue.task
    async def with_context(ctx: JobContext, image: str) -> str:
        return image

    @queue.task(timeout=3)
    async def with_options(ctx: JobContext, image: str) -> str:
        return image

    assert_type(await with_context.enqueue("a"), Job)
    assert_type(await with_options.enqueue(image="a"), Job)

    @queue.task("named", timeout=5)
    def plain(number: int) -> int:
        return number

    assert_type(await resize("a", width=3), str)
    assert_type(plain(3), int)
    assert_type(await resize.enqueue("a", width=3), Job)
    assert_type(await resize.using(delay=3).enqueue("a"), Job)
    assert_type(plain.enqueue_sync(3), Job)
    typed: Task[Any, Any] = resize
    assert typed.name


async def handler(job: JobContext) -> None:
    assert_type(job.id, str)
    assert_type(job.attempts, int)
    assert_type(await job.step("name", lambda: 5), int)
    async with job.complete() as tx:
        assert_type(await tx.execute("UPDATE t SET a = ?", 1), int)
