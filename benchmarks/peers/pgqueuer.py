"""pgqueuer: batches of 500, on asyncpg; in memory its own backend of the same engine."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from benchmarks.peers.protocol import Handle, Payload, Peer

BATCH = 500


class Postgres(Peer):
    """A finished job is deleted and a line of log is written."""

    bulk = 1_000

    async def prepare(self) -> None:
        """See `Peer.prepare`."""
        await self.open()
        await self._queries.install()
        await self.close()

    async def open(self) -> None:
        """See `Peer.open`."""
        self._connection = await asyncpg.connect(self.place)
        self._queries: Any = Queries(AsyncpgDriver(self._connection))

    async def close(self) -> None:
        """See `Peer.close`."""
        await self._connection.close()

    async def add(self, payload: Payload) -> None:
        """See `Peer.add`."""
        await self._queries.enqueue("noop", json.dumps(payload).encode())

    async def add_many(self, payloads: list[Payload]) -> None:
        """See `Peer.add_many`."""
        encoded = [json.dumps(payload).encode() for payload in payloads]
        await self._queries.enqueue(["noop"] * len(encoded), encoded, [0] * len(encoded))

    async def unfinished(self) -> int:
        """Whether there is a row left."""
        return int(await self._connection.fetchval("SELECT EXISTS (SELECT FROM pgqueuer)"))

    async def work(self, handle: Handle) -> None:
        """See `Peer.work`."""
        await _run(PgQueuer(AsyncpgDriver(await asyncpg.connect(self.place))), handle)


class Memory(Peer):
    """Kept in this process."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self._made = PgQueuer.in_memory()
        self._queries: Any = self._made.qm.queries

    async def add(self, payload: Payload) -> None:
        """See `Peer.add`."""
        await self._queries.enqueue("noop", json.dumps(payload).encode())

    async def unfinished(self) -> int:
        """Of its figures."""
        return sum(row.count for row in await self._queries.queue_size())

    async def work(self, handle: Handle) -> None:
        """See `Peer.work`."""
        await _run(self._made, handle)


async def _run(queue: Any, handle: Handle) -> None:
    async def noop(job: Any) -> None:
        handle(json.loads(job.payload))

    queue.entrypoint("noop")(noop)
    try:
        await queue.qm.run(batch_size=BATCH, dequeue_timeout=timedelta(seconds=30))
    except asyncio.CancelledError:
        queue.qm.shutdown.set()
        raise
