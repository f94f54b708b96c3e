"""Procrastinate: 20 jobs at a time (the most of its documentation's examples), finished jobs kept."""

import procrastinate

from benchmarks.peers.protocol import Handle, Payload, Peer

CONCURRENCY = 20
_LEFT = (
    "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))::int AS some"
)


class Postgres(Peer):
    """On psycopg, with its pool."""

    bulk = 1_000

    def __init__(self, place: str) -> None:
        super().__init__(place)
        connector = procrastinate.PsycopgConnector(conninfo=place)
        self._app = procrastinate.App(connector=connector)
        self._handle: Handle = lambda _: None

        async def noop(payload: Payload) -> None:
            self._handle(payload)

        self._noop = self._app.task(queue="peer", name="noop")(noop)

    async def prepare(self) -> None:
        """See `Peer.prepare`."""
        async with self._app.open_async():
            await self._app.schema_manager.apply_schema_async()

    async def open(self) -> None:
        """See `Peer.open`."""
        await self._app.open_async()

    async def close(self) -> None:
        """See `Peer.close`."""
        await self._app.close_async()

    async def add(self, payload: Payload) -> None:
        """See `Peer.add`."""
        await self._noop.defer_async(payload=payload)

    async def add_many(self, payloads: list[Payload]) -> None:
        """See `Peer.add_many`."""
        await self._noop.batch_defer_async(*({"payload": payload} for payload in payloads))

    async def unfinished(self) -> int:
        """Whether there is a job to do or being done."""
        row = await self._app.connector.execute_query_one_async(_LEFT)
        return int(row["some"])

    async def work(self, handle: Handle) -> None:
        """See `Peer.work`."""
        self._handle = handle
        await self._app.run_worker_async(
            queues=["peer"], concurrency=CONCURRENCY, install_signal_handlers=False
        )
