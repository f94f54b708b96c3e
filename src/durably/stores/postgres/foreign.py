"""The caller's own connection, as our statements need it: asyncpg, psycopg 3, SQLAlchemy 2 over either.

None of them but asyncpg need be installed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from durably.stores.postgres.database import Connection

_KINDS = (
    "an asyncpg.Connection, a psycopg.Connection or AsyncConnection, or a Connection or Session of"
    " SQLAlchemy (async ones too) over one of these drivers"
)


async def adapted(connection: object) -> Connection:
    """What runs our statements in the transaction open on the caller's *connection*.

    Raises:
        TypeError: it is none of the kinds known.
        ValueError: no transaction is open, so that each statement would be committed alone.
    """
    given = type(connection).__name__
    if _package(connection) == "sqlalchemy":
        connection = await _beneath(connection)
    if isinstance(connection, asyncpg.Connection):
        in_transaction = connection.is_in_transaction()
    elif _package(connection) == "psycopg":
        connection = _Psycopg(connection)
        in_transaction = connection.in_transaction
    else:
        raise TypeError(f"need {_KINDS}, got {given}")
    if not in_transaction:
        raise ValueError(f"the {given} has no transaction open: begin one first")
    return connection


def _package(connection: object) -> str:
    return type(connection).__module__.partition(".")[0]


async def _beneath(connection: Any) -> object:
    """The driver's connection under one of SQLAlchemy's, with the transaction begun."""
    from sqlalchemy import text  # whoever gives us its connections has it
    from sqlalchemy.engine import Connection as SyncConnection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session

    if isinstance(connection, AsyncSession):
        connection = await connection.connection()
    if isinstance(connection, AsyncConnection):
        # SQLAlchemy begins with the first statement.
        await connection.execute(text("SELECT 1"))
        return (await connection.get_raw_connection()).driver_connection

    def beneath() -> object:
        sync = connection.connection() if isinstance(connection, Session) else connection
        if not isinstance(sync, SyncConnection):
            return connection
        sync.execute(text("SELECT 1"))
        return sync.connection.driver_connection

    return await asyncio.to_thread(beneath)


class _Psycopg:
    """A connection of psycopg with the methods of asyncpg's; a blocking one is used in a thread."""

    def __init__(self, connection: Any) -> None:
        import psycopg
        from psycopg.rows import tuple_row

        self._async = isinstance(connection, psycopg.AsyncConnection)
        # A raw cursor takes $1 as the server does.
        kind: Any = psycopg.AsyncRawCursor if self._async else psycopg.RawCursor
        self._cursor = kind(connection, row_factory=tuple_row)
        idle = psycopg.pq.TransactionStatus.IDLE
        status = connection.info.transaction_status
        self.in_transaction = not connection.autocommit or status != idle

    async def _call(self, call: Callable[..., Any], *args: Any) -> Any:
        if not self._async:
            return await asyncio.to_thread(call, *args)
        answer: Awaitable[Any] = call(*args)
        return await answer

    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        await self._call(self._cursor.execute, sql, args)
        if self._cursor.description is None:
            return []
        rows: list[tuple[Any, ...]] = await self._call(self._cursor.fetchall)
        return rows

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """The first value of the first row, or None."""
        rows = await self.fetch(sql, *args)
        return rows[0][0] if rows else None

    async def execute(self, sql: str, *args: Any) -> str:
        """Run a statement; its tag."""
        await self._call(self._cursor.execute, sql, args)
        return self._cursor.statusmessage or ""
