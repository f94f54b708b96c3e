"""What is written without a queue: the ceilings to hold the queues against.

No retries, no rescue, no priorities that starve nobody, no statistics, no shutdown in good order.
"""

import asyncio
import itertools
import json

import asyncpg

from benchmarks.peers.protocol import Handle, Payload, Peer

BATCH = 100
IDLE_S = 0.002
CONSUMERS = 10

_TABLE = """
CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    priority smallint NOT NULL DEFAULT 0,
    run_at timestamptz NOT NULL DEFAULT now(),
    state text NOT NULL DEFAULT 'pending',
    attempts integer NOT NULL DEFAULT 0,
    locked_until timestamptz,
    payload jsonb NOT NULL
);
CREATE INDEX ON jobs (priority, run_at, id) WHERE state = 'pending';
"""
_ADD = "INSERT INTO jobs (payload) SELECT unnest($1::text[])::jsonb"
_CLAIM = """
UPDATE jobs SET state = 'running', attempts = attempts + 1, locked_until = now() + interval '30 s'
WHERE id IN (
    SELECT id FROM jobs WHERE state = 'pending' AND run_at <= now()
    ORDER BY priority, run_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
) RETURNING id, payload
"""
_END = (
    "UPDATE jobs SET state = 'done', locked_until = NULL WHERE id = ANY($1) AND state = 'running'"
)
_LEFT = "SELECT EXISTS (SELECT FROM jobs WHERE state IN ('pending', 'running'))"


class Postgres(Peer):
    """The claim statement everybody writes, in batches of 100, one connection."""

    bulk = 1_000
    concurrent = False

    async def prepare(self) -> None:
        """See `Peer.prepare`."""
        await self.open()
        await self._connection.execute(_TABLE)
        await self.close()

    async def open(self) -> None:
        """See `Peer.open`."""
        self._connection = await asyncpg.connect(self.place)

    async def close(self) -> None:
        """See `Peer.close`."""
        await self._connection.close()

    async def add(self, payload: Payload) -> None:
        """See `Peer.add`."""
        await self._connection.execute(_ADD, [json.dumps(payload)])

    async def add_many(self, payloads: list[Payload]) -> None:
        """See `Peer.add_many`."""
        await self._connection.execute(_ADD, [json.dumps(payload) for payload in payloads])

    async def unfinished(self) -> int:
        """Whether a job is not done."""
        return int(await self._connection.fetchval(_LEFT))

    async def work(self, handle: Handle) -> None:
        """See `Peer.work`."""
        while True:
            rows = await self._connection.fetch(_CLAIM, BATCH)
            for row in rows:
                handle(json.loads(row["payload"]))
            if rows:
                await self._connection.execute(_END, [row["id"] for row in rows])
            else:
                await asyncio.sleep(IDLE_S)


class Memory(Peer):
    """A priority queue of asyncio, ten consumers, a task for each job."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self._queue: asyncio.PriorityQueue[tuple[int, int, Payload]] = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._running = 0

    async def add(self, payload: Payload) -> None:
        """See `Peer.add`."""
        self._queue.put_nowait((0, next(self._numbers), payload))

    async def unfinished(self) -> int:
        """Waiting ones and running ones."""
        return self._queue.qsize() + self._running

    async def work(self, handle: Handle) -> None:
        """See `Peer.work`."""

        async def noop(payload: Payload) -> None:
            handle(payload)

        async def consume() -> None:
            while True:
                _, _, payload = await self._queue.get()
                self._running += 1
                await asyncio.get_running_loop().create_task(noop(payload))
                self._running -= 1

        async with asyncio.TaskGroup() as group:
            for _ in range(CONSUMERS):
                group.create_task(consume())
