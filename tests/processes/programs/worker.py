"""A worker process with a handler for every fate; ends in good order when its input ends."""

import asyncio
import ctypes
import json
import os
import re
import resource
import signal
import sys
from typing import Any

from tests.processes.programs.reporting import orders, say

from durably import JobContext, JobQueueService
from durably.domain.job import State


class Handlers:
    def __init__(self, queue: JobQueueService) -> None:
        self._queue = queue
        self._has_frozen = False
        for handler in (self.quick, self.hold, self.beside, self.exits, self.crashes):
            queue.register_handler(handler.__name__, handler)
        for handler in (self.dies_ahead, self.freezes, self.freezes_and_holds, self.naps):
            queue.register_handler(handler.__name__, handler)
        for handler in (self.holds_the_interpreter, self.eats_memory):
            queue.register_handler(handler.__name__, handler)

    async def quick(self, job: JobContext) -> int:
        return os.getpid()

    async def hold(self, job: JobContext) -> None:
        """Run until interrupted."""
        say("started", id=job.id)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            say("interrupted", id=job.id, cancelled=job.cancelled)
            raise

    async def beside(self, job: JobContext) -> None:
        """Be there when a neighbour ends the process; after that let others come and go."""
        await asyncio.sleep(0.15 if job.crashes else 0.05)

    async def exits(self, job: JobContext) -> None:
        await asyncio.sleep(0.02)
        os._exit(1)

    async def crashes(self, job: JobContext) -> None:
        await asyncio.sleep(0.02)
        ctypes.string_at(0)

    async def dies_ahead(self, job: JobContext) -> None:
        """Die once jobs are claimed ahead."""
        worker = self._queue._worker
        ahead = () if worker is None else worker._ahead
        if any(one.claimed.record.state == State.RESERVED for one in ahead):
            os.kill(os.getpid(), signal.SIGKILL)

    async def freezes(self, job: JobContext) -> int:
        """Stop the process at first; return as soon as it goes on."""
        self._freeze(job)
        return os.getpid()

    async def freezes_and_holds(self, job: JobContext) -> int:
        """Stop the process at first; then run until interrupted."""
        if self._freeze(job):
            await self.hold(job)
        return os.getpid()

    async def naps(self, job: JobContext) -> int:
        """Stop the process at first; go on for a while when it goes on."""
        self._freeze(job)
        await asyncio.sleep(0.5)
        return os.getpid()

    async def holds_the_interpreter(self, job: JobContext) -> int:
        """At first go into C code that lets no other thread run, for ever."""
        say("holding", id=job.id)
        if not job.crashes:
            re.match(r"(a|aa)+$", "a" * 200 + "b")
        return os.getpid()

    async def eats_memory(self, job: JobContext) -> int:
        """Ask for more than the process may have."""
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, hard))
        try:
            return len(bytearray(4 << 30))
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    def _freeze(self, job: JobContext) -> bool:
        if job.crashes > 0 or self._has_frozen:
            return False
        self._has_frozen = True
        say("freezing", id=job.id)
        os.kill(os.getpid(), signal.SIGSTOP)
        return True


async def main(url: str, **options: Any) -> None:
    async with JobQueueService(url, **options) as queue:
        Handlers(queue)
        await queue.start_processing()
        say("ready")
        await (await orders()).read()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], **json.loads(sys.argv[2])))
