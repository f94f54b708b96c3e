"""Huey: two threads (its consumer's advice for short jobs), looking each 5 to 10 ms, no results kept."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from huey import MemoryHuey, SqliteHuey

from benchmarks.peers.protocol import Handle, Payload, Peer


class _Huey(Peer):
    concurrent = False
    threads = 2

    def __init__(self, place: str) -> None:
        super().__init__(place)
        logging.disable(logging.INFO)
        self._huey = self._made()
        self._handle: Handle = lambda _: None

        def noop(payload: Payload) -> None:
            self._handle(payload)

        self._noop: Callable[[Payload], Any] = self._huey.task(name="noop")(noop)

    def _made(self) -> Any:
        raise NotImplementedError

    async def add(self, payload: Payload) -> None:
        """See `Peer.add`."""
        self._noop(payload)

    async def unfinished(self) -> int:
        """Huey takes a job out of its store when it begins: what began is all there is."""
        return self._huey.pending_count()  # type: ignore[no-any-return]  # no types

    async def work(self, handle: Handle) -> None:
        """See `Peer.work`."""
        self._handle = handle
        consumer = self._huey.create_consumer(
            workers=self.threads,
            worker_type="thread",
            initial_delay=0.005,
            max_delay=0.01,
            periodic=False,
        )
        consumer.start()
        await asyncio.Event().wait()


class Sqlite(_Huey):
    """On a file."""

    def _made(self) -> Any:
        return SqliteHuey("peer", filename=f"{self.place}/huey.db", results=False)


class Memory(_Huey):
    """In this process; one thread is faster than two."""

    threads = 1

    def _made(self) -> Any:
        return MemoryHuey("peer", immediate=False, results=False)
