"""The connection on which a handler's own SQL commits together with its outcome."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from durably.domain.clock import Clock
from durably.domain.errors import StoreBusyError, StoreError
from durably.stores.sqlite.database import StoreFile, connect, translated
from durably.stores.sqlite.forks import traffic
from durably.stores.sqlite.locks import Turnstile
from durably.stores.sqlite.session import Effects, Session

LONGEST_S = 5.0
"""So long a block may keep all other writers of the file waiting."""

_T = TypeVar("_T")
_FORBIDDEN = frozenset(
    (
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_SAVEPOINT,
        sqlite3.SQLITE_ATTACH,
        sqlite3.SQLITE_DETACH,
    )
)


class OwnTransaction:
    """One transaction at a time, in turn with the writers of all processes.

    Used by one task at a time; every statement runs on a thread of its own.
    """

    def __init__(self, path: Path, folder: Path, clock: Clock) -> None:
        self._path = path
        self._file = StoreFile(path)
        self._clock = clock
        self._connection = connect(path)
        self._turnstile = Turnstile(folder)
        self._thread = ThreadPoolExecutor(1, "durably-complete")
        self._timer: asyncio.TimerHandle | None = None
        self._has_turn = False
        self._late = False
        self.effects = Effects()

    async def begin(self, check: Callable[[Session], None]) -> None:
        """Take the turn and the write lock; *check* comes first and may refuse."""
        self._late = False
        try:
            await self._on_thread(self._begin, check)
        except asyncio.CancelledError:
            await self.roll_back()
            raise
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LONGEST_S, self._expire, loop)

    async def execute(self, sql: str, *args: Any) -> int:
        """Run a statement; how many rows it changed (-1 for what changes none)."""
        return await self._on_thread(self._statement, sql, args, _rowcount)

    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return await self._on_thread(self._statement, sql, args, sqlite3.Cursor.fetchall)

    async def commit(self, last: Callable[[Session], None]) -> None:
        """Run *last*, then commit; rolls all back when either fails."""
        self._stop_timer()
        await self._on_thread(self._end, last)

    async def roll_back(self) -> None:
        """Undo everything and pass the turn on. Harmless when nothing is open."""
        self._stop_timer()
        await self._on_thread(self._release)

    def close(self) -> None:
        """Close the connection. Blocks."""
        self._thread.shutdown()
        self._connection.close()
        self._turnstile.close()

    async def _on_thread(self, call: Callable[..., _T], *args: Any) -> _T:
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._thread, call, *args)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            # What has begun on the thread must have ended before the turn can be passed on.
            await asyncio.wait([running])
            raise

    def _begin(self, check: Callable[[Session], None]) -> None:
        self._turnstile.__enter__()
        self._has_turn = True
        try:
            with translated(self._path), traffic:
                self._connection.execute("BEGIN IMMEDIATE")
                self.effects = Effects()
                check(Session(self._connection, self._clock.now_us(), self.effects))
        except BaseException:
            self._release()
            raise

    def _statement(
        self, sql: str, args: tuple[Any, ...], take: Callable[[sqlite3.Cursor], _T]
    ) -> _T:
        self._check_time()
        with traffic:
            self._connection.set_authorizer(_authorize)
            try:
                return take(self._connection.execute(sql, args))
            finally:
                self._connection.set_authorizer(None)

    def _end(self, last: Callable[[Session], None]) -> None:
        self._check_time()
        try:
            with translated(self._path), traffic:
                last(Session(self._connection, self._clock.now_us(), self.effects))
                self._file.commit(self._connection)
        finally:
            self._release()

    def _check_time(self) -> None:
        if self._late:
            raise StoreBusyError(f"complete() took longer than {LONGEST_S:g} s and was rolled back")
        if not self._connection.in_transaction:
            raise StoreError(
                "the transaction of complete() has ended; use tx inside its block only"
            )

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._late = True
        loop.run_in_executor(self._thread, self._release)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _release(self) -> None:
        try:
            with traffic:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        finally:
            if self._has_turn:
                self._has_turn = False
                self._turnstile.__exit__(None, None, None)


def _rowcount(cursor: sqlite3.Cursor) -> int:
    return cursor.rowcount


def _authorize(action: int, *_: object) -> int:
    return sqlite3.SQLITE_DENY if action in _FORBIDDEN else sqlite3.SQLITE_OK
