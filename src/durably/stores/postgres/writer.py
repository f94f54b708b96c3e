"""Operations in, group commits out: what gathers while one commit is on its way shares the next.

An operation is a coroutine of a `Session`; it raises one of our errors before it has written anything,
and may then stand beside others in a transaction. Any other exception rolls the batch back, and each
operation is tried alone.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from durably.domain.errors import DurablyError, StoreClosedError, StoreError
from durably.stores.postgres.database import (
    SET_BY_INDEX,
    Address,
    Connection,
    connect,
    ends_connection,
    is_race,
    translate,
)
from durably.stores.postgres.session import Effects, Session

Operation = Callable[[Session], Awaitable[Any]]
_BATCH_MAX = 500
_TRIES = 10
"""Of an operation that loses races with other processes."""


class _Work(NamedTuple):
    operation: Operation
    future: "asyncio.Future[Any]"
    lone: bool


Settled = list[tuple["asyncio.Future[Any]", Any, BaseException | None]]


class Writer:
    """Owns the writing connection of one store object.

    Args:
        address: of the store.
        session: makes the session of a transaction that has begun.
        told: called after each commit with what to tell.
    """

    def __init__(
        self,
        address: Address,
        session: Callable[..., Awaitable[Session]],
        told: Callable[[Effects], None],
    ) -> None:
        self._address = address
        self._session = session
        self._told = told
        self._queue: deque[_Work] = deque()
        self._some = asyncio.Event()
        self._closing = False
        self._connection: Connection = None
        self._task = asyncio.get_running_loop().create_task(self._run(), name="durably-writer")

    async def submit(self, operation: Operation, *, lone: bool = False) -> Any:
        """Run *operation* in a transaction with others; its result once that is committed.

        One that is *lone* needs no transaction around it when nothing else waits: it writes in a
        single statement, or begins its own.
        """
        return await self.post(operation, lone=lone)

    def post(self, operation: Operation, *, lone: bool = False) -> "asyncio.Future[Any]":
        """The same for who does not wait here."""
        if self._closing:
            raise StoreClosedError("the store is not open: use `async with` on the service")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append(_Work(operation, future, lone))
        self._some.set()
        return future

    async def close(self) -> None:
        """Finish what is queued, then stop."""
        self._closing = True
        self._some.set()
        await asyncio.wait([self._task])
        if self._connection is not None:
            await self._connection.close()

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(_BATCH_MAX, len(self._queue)))]
                settled: Settled = []
                try:
                    await self._commit(batch, settled)
                except asyncio.CancelledError:
                    for work in batch:
                        work.future.cancel()
                    raise
                _settle(settled)
            if self._closing:
                return

    async def _commit(self, batch: list[_Work], settled: Settled, tries: int = _TRIES) -> None:
        """Run *batch* in one transaction, or each alone when one of them breaks it."""
        try:
            done, effects = await self._transaction(batch)
        except Exception as error:  # noqa: BLE001  # tried alone, it reaches its caller
            ours = translate(error, self._address)
            if self._connection is not None and ends_connection(error):
                self._connection.terminate()
            if len(batch) == 1 and tries > 1 and is_race(error):
                await self._commit(batch, settled, tries - 1)
            elif len(batch) == 1 or self._connection is None or self._connection.is_closed():
                settled += [(work.future, None, ours) for work in batch]
            else:
                for work in batch:
                    await self._commit([work], settled)
        else:
            settled += done
            # Later: listeners hear of it after the operation has returned, and cannot stop us.
            asyncio.get_running_loop().call_soon(self._told, effects)

    async def _transaction(self, batch: list[_Work]) -> tuple[Settled, Effects]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._address, by_index=True)
        effects = Effects()
        settled: Settled = []
        lone = len(batch) == 1 and batch[0].lone
        async with contextlib.nullcontext() if lone else self._connection.transaction():
            if self._address.pooled and not lone:
                await self._connection.execute(SET_BY_INDEX)
            session = await self._session(self._connection, effects, in_block=not lone)
            for work in batch:
                try:
                    settled.append((work.future, await work.operation(session), None))
                except DurablyError as error:
                    if isinstance(error, StoreError):
                        raise
                    settled.append((work.future, None, error))
            await session.finish()
        return settled, effects


def _settle(settled: Settled) -> None:
    for future, result, error in settled:
        if future.done():
            continue  # whoever asked has been cancelled
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
