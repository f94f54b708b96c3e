"""litequeue: a table of messages, one statement each to put, take and end; looks each 5 ms when empty.

It sets `synchronous = NORMAL`: what was accepted last does not survive a power failure.
"""

import json
import time

from litequeue import LiteQueue, MessageStatus

from benchmarks.peers.protocol import Handle, Payload, Peer

_LOOK_EACH_S = 0.005


class Done(Peer):
    """One thread that pops, runs and marks as done."""

    concurrent = False

    async def prepare(self) -> None:
        """See `Peer.prepare`."""
        await self.open()

    async def open(self) -> None:
        """See `Peer.open`."""
        self._queue = LiteQueue(f"{self.place}/queue.db")

    async def add(self, payload: Payload) -> None:
        """See `Peer.add`."""
        self._queue.put(json.dumps(payload))

    async def unfinished(self) -> int:
        """Those that are neither done nor failed."""
        left = f"SELECT EXISTS (SELECT 1 FROM {self._queue.table} WHERE status < ?)"
        return int(self._queue.conn.execute(left, (MessageStatus.DONE.value,)).fetchone()[0])

    async def work(self, handle: Handle) -> None:
        """See `Peer.work`."""
        while True:
            message = self._queue.pop()
            if message is None:
                time.sleep(_LOOK_EACH_S)  # noqa: ASYNC251  # nothing else runs on this loop
                continue
            handle(json.loads(message.data))
            self._queue.done(message.message_id)
