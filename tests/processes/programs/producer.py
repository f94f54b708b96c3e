"""Enqueues one job after the other, each in a commit of its own, from a signal until its input ends."""

import asyncio
import os
import sys

from tests.processes.programs.reporting import orders, say

from durably import JobQueueService


async def main(url: str) -> None:
    async with JobQueueService(url) as queue:
        say("ready")
        told = await orders()
        await told.readline()
        end = asyncio.ensure_future(told.read())
        while not end.done():
            await queue.add_job(f"by {os.getpid()}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
