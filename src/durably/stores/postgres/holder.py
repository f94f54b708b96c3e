"""The connection whose advisory locks say that workers live, on a thread of its own.

The server releases the locks when the connection ends, so that a killed process is noticed at once;
and leases are renewed on it, so that a blocked event loop does not lose them. Where there is no way to
a session of our own there are no locks, and a dead process is noticed when its lease has ended.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from durably.domain.errors import StoreClosedError, StoreError
from durably.stores.postgres.database import Address, Connection, connect, rows_of, translating

_T = TypeVar("_T")
_PATIENCE_S = 10.0
_AGAIN_S = 0.1


class Holder:
    """Holds the locks of this process's workers, and renews their leases.

    Args:
        address: of the store.
        now: SQL of the store's time in microseconds, or the time itself.
    """

    def __init__(self, address: Address, now: Callable[[], str]) -> None:
        self._address = address
        self._now = now
        self._held: set[int] = set()
        self._turn = asyncio.Lock()
        self._connection: Connection = None
        self._closing = False
        self._over = False
        self._entrance = threading.Lock()
        """Held by who gives the thread something to do, and by the thread when it takes no more."""
        self._returning: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="durably-holder", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        with self._entrance:
            self._over = True
        self._loop.run_until_complete(self._give_up())
        self._loop.close()

    async def _give_up(self) -> None:
        """Whatever is still under way, or came while the loop stopped, would be waited for for ever."""
        await asyncio.sleep(0)  # what came last becomes a task
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do *work* on the thread; blocks. StoreClosedError once it has been closed."""
        with self._entrance:
            if self._over:
                work.close()
                raise _closed()
            pending = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return pending.result()
        except CancelledError:
            raise _closed() from None

    async def open(self) -> None:
        """Connect; the locks of an earlier connection are taken again."""
        async with asyncio.timeout(_PATIENCE_S):
            self._connection = await connect(self._address, session=True)
            self._connection.add_termination_listener(self._lost)
            for worker in self._held:
                await self._lock(worker)

    def _lost(self, connection: Connection) -> None:
        """Others take our workers for dead now: be back before they have looked."""
        if connection is self._connection and not self._closing:
            self._returning = self._loop.create_task(self._return(), name="durably-holder-return")

    async def _return(self) -> None:
        while not self._closing:
            try:
                async with self._turn:
                    await self._ready()
            except (StoreError, TimeoutError):
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def close(self) -> None:
        """Give up the connection, and with it every lock."""
        self._closing = True
        if self._returning is not None:
            self._returning.cancel()
        if self._connection is not None:
            with contextlib.suppress(Exception):
                await self._connection.close(timeout=_PATIENCE_S)
        self._loop.call_soon(self._loop.stop)

    async def hold(self, worker: int) -> None:
        """Take the lock of a worker."""
        async with self._turn, translating(self._address):
            await self._ready()
            await self._lock(worker)
            self._held.add(worker)

    async def drop(self, worker: int) -> None:
        """Release it."""
        async with self._turn, translating(self._address):
            self._held.discard(worker)
            connection = self._connection
            if connection is None or connection.is_closed() or not self._address.has_sessions:
                return
            await connection.execute(
                "SELECT pg_advisory_unlock($1, $2)", self._address.lock_class, worker
            )

    async def renew(self, worker: int, memory_bytes: int | None = None) -> bool:
        """Extend the lease of a worker; whether it is still registered."""
        memory = "NULL" if memory_bytes is None else f"{memory_bytes:d}"
        async with self._turn, translating(self._address):
            await self._ready()
            # In one message: without a session of its own a statement of several is cut.
            status = await self._connection.execute(
                f"UPDATE {self._address.schema}.workers"
                f" SET expires_us = {self._now()} + lease_us, memory = {memory}"
                f" WHERE id = {worker:d}",
                timeout=_PATIENCE_S,
            )
            return rows_of(status) > 0

    async def _ready(self) -> None:
        if self._closing:
            raise _closed()
        if self._connection is None or self._connection.is_closed():
            await self.open()

    async def _lock(self, worker: int) -> None:
        if not self._address.has_sessions:
            return
        await self._connection.execute(
            "SELECT pg_advisory_lock($1, $2)", self._address.lock_class, worker
        )


def _closed() -> StoreClosedError:
    return StoreClosedError("the store is not open")
