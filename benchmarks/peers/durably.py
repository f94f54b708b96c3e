"""Durably, on each of its stores."""

import asyncio
import sys

from benchmarks.peers.protocol import Handle, Payload, Peer
from durably import JobContext, JobQueueService, NewJob
from durably.cli.signals import SWITCH_INTERVAL_S


class Durably(Peer):
    """64 slots."""

    bulk = 1_000

    def __init__(self, place: str) -> None:
        super().__init__(place)
        url = place if place.startswith("postgresql:") else f"sqlite:///{place}/durably.db"
        self._queue = JobQueueService(url if place else "memory://", concurrency=64)

    async def prepare(self) -> None:
        """Opening makes the schema."""
        async with self._queue:
            pass

    async def open(self) -> None:
        """As `durably worker` does."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        await self._queue.__aenter__()

    async def close(self) -> None:
        """See `Peer.close`."""
        await self._queue.__aexit__(None, None, None)

    async def add(self, payload: Payload) -> None:
        """See `Peer.add`."""
        await self._queue.add_job("noop", payload)

    async def add_many(self, payloads: list[Payload]) -> None:
        """See `Peer.add_many`."""
        await self._queue.add_jobs([NewJob("noop", payload) for payload in payloads])

    async def unfinished(self) -> int:
        """Of the maintained figures."""
        stats = await self._queue.get_stats()
        return stats.pending_jobs + stats.processing_jobs

    async def work(self, handle: Handle) -> None:
        """See `Peer.work`."""

        async def noop(job: JobContext) -> None:
            handle(job.payload)

        self._queue.register_handler("noop", noop)
        await self._queue.start_processing()
        await asyncio.Event().wait()
