"""persist-queue: its SQLite queue with acknowledgement, committing each change."""

import sqlite3
from contextlib import closing

import persistqueue

from benchmarks.peers.protocol import Handle, Payload, Peer

_ACKED = 5


class Acked(Peer):
    """One thread that gets, runs and acknowledges."""

    concurrent = False

    async def open(self) -> None:
        """See `Peer.open`."""
        self._queue = persistqueue.SQLiteAckQueue(
            f"{self.place}/queue", auto_commit=True, multithreading=True
        )

    async def prepare(self) -> None:
        """See `Peer.prepare`."""
        await self.open()

    async def add(self, payload: Payload) -> None:
        """See `Peer.add`."""
        self._queue.put(payload)

    async def unfinished(self) -> int:
        """From the table: each process counts only its own in memory."""
        with closing(sqlite3.connect(f"{self.place}/queue/data.db")) as connection:
            left = f"SELECT EXISTS (SELECT 1 FROM ack_queue_default WHERE status < {_ACKED})"
            return int(connection.execute(left).fetchone()[0])

    async def work(self, handle: Handle) -> None:
        """See `Peer.work`."""
        while True:
            payload = self._queue.get()
            handle(payload)
            self._queue.ack(payload)
