"""Chancy: 300 async jobs at a time, polling eagerly."""

import asyncio
import logging
from typing import Any

from chancy import Chancy, Queue, Worker, job

from benchmarks.peers.protocol import Handle, Payload, Peer

CONCURRENCY = 300
_handle: list[Handle] = []


async def _noop(*, payload: Payload) -> None:
    _handle[-1](payload)


noop: Any = job(queue="peer")(_noop)
"""Chancy finds it by its module and name."""


class Postgres(Peer):
    """On psycopg, with its pool."""

    bulk = 1_000

    def __init__(self, place: str) -> None:
        super().__init__(place)
        logging.disable(logging.INFO)

    async def prepare(self) -> None:
        """See `Peer.prepare`."""
        await self.open()
        await self._chancy.migrate()
        queue = Queue(
            "peer",
            concurrency=CONCURRENCY,
            executor=Chancy.Executor.Async,
            polling_interval=1,
            eager_polling=True,
        )
        await self._chancy.declare(queue, upsert=True)
        await self.close()

    async def open(self) -> None:
        """See `Peer.open`."""
        self._chancy: Any = Chancy(self.place)
        await self._chancy.__aenter__()

    async def close(self) -> None:
        """See `Peer.close`."""
        await self._chancy.__aexit__(None, None, None)

    async def add(self, payload: Payload) -> None:
        """See `Peer.add`."""
        await self._chancy.push(noop.job.with_kwargs(payload=payload))

    async def add_many(self, payloads: list[Payload]) -> None:
        """See `Peer.add_many`."""
        jobs = [noop.job.with_kwargs(payload=payload) for payload in payloads]
        async for _ in self._chancy.push_many(jobs):
            pass

    async def unfinished(self) -> int:
        """Whether a job has not succeeded."""
        async with self._chancy.pool.connection() as connection:
            left = "SELECT EXISTS (SELECT FROM chancy_jobs WHERE state <> 'succeeded')::int"
            return int((await (await connection.execute(left)).fetchone())[0])

    async def work(self, handle: Handle) -> None:
        """See `Peer.work`."""
        _handle.append(handle)
        async with Worker(self._chancy, register_signal_handlers=False):
            await asyncio.Event().wait()
