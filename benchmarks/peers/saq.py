"""saq on PostgreSQL: 50 jobs at a time; it adds one at a time only."""

import logging
from typing import Any

from saq import Queue, Worker

from benchmarks.peers.protocol import Handle, Payload, Peer

CONCURRENCY = 50


class Postgres(Peer):
    """On psycopg, with its pool."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        logging.disable(logging.INFO)

    async def prepare(self) -> None:
        """Connecting makes the tables."""
        await self.open()
        await self.close()

    async def open(self) -> None:
        """See `Peer.open`."""
        self._queue: Any = Queue.from_url(self.place)
        await self._queue.connect()

    async def close(self) -> None:
        """See `Peer.close`."""
        await self._queue.disconnect()

    async def add(self, payload: Payload) -> None:
        """See `Peer.add`."""
        await self._queue.enqueue("noop", payload=payload)

    async def unfinished(self) -> int:
        """Jobs that are queued or active."""
        return int(await self._queue.count("incomplete"))

    async def work(self, handle: Handle) -> None:
        """See `Peer.work`."""

        async def noop(context: Any, *, payload: Payload) -> None:
            handle(payload)

        worker = Worker(self._queue, functions=[("noop", noop)], concurrency=CONCURRENCY)
        worker.SIGNALS = []
        await worker.start()
