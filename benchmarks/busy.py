"""The program whose jobs run while `service` asks: 32 that never end, and one type that does nothing."""

import asyncio
import os

from durably import JobContext, JobQueueService

queue = JobQueueService(os.environ["DURABLY_STORE"], concurrency=64)


@queue.task
async def busy(ctx: JobContext) -> None:
    """Do a little, again and again, until told to stop."""
    while not ctx.cancelled:
        await asyncio.sleep(0.01)


@queue.task
async def noop() -> None:
    """Do nothing."""
