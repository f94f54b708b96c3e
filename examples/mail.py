"""A queue inside a program: retries, a follow-up job, and a look at what happened."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from durably import JobContext, JobQueueService, RetryPolicy


async def main(folder: Path) -> None:
    """Send one mail through a server that is busy at first."""
    async with JobQueueService(f"sqlite:///{folder}/jobs.db", concurrency=4) as queue:

        @queue.task(retry=RetryPolicy(base_delay=0.01))
        async def send(ctx: JobContext, to: str) -> str:
            if ctx.attempts == 1:
                raise ConnectionError("the mail server is busy")
            ctx.add_job("log", {"sent": to})
            return "sent"

        async def log(job: JobContext) -> None:
            print("log:", job.payload)

        queue.register_handler("log", log)
        await queue.start_processing()
        job = await queue.wait((await send.enqueue("ann@example.org")).id, timeout=10)
        print(job.status, job.result, "after", job.attempts, "attempts")
        [follow_up] = await queue.get_jobs(type="log")
        await queue.wait(follow_up.id, timeout=10)


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        asyncio.run(main(Path(name)))

# Output:
# completed sent after 2 attempts
# log: {'sent': 'ann@example.org'}
