"""What becomes of the drivers' errors, and of the system's: one of ours, which names the store."""

import errno
import sqlite3
from pathlib import Path

import asyncpg
import msgspec
import psycopg
import pytest

from durably import (
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnsupportedError,
)
from durably.stores.postgres import database as postgres
from durably.stores.sqlite import database as sqlite

PATH = Path("jobs.db")
ADDRESS = postgres.Address("postgresql://me:secret@db/jobs", "durably", upgrade=True)


def of_sqlite(code: int) -> sqlite3.Error:
    """As the driver raises it."""
    error = sqlite3.OperationalError("why")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (OSError(errno.ENOSPC, "why"), StoreFullError),
        (OSError(errno.EDQUOT, "why"), StoreFullError),
        (OSError(errno.EACCES, "why"), StoreReadOnlyError),
        (OSError(errno.EPERM, "why"), StoreReadOnlyError),
        (OSError(errno.EROFS, "why"), StoreReadOnlyError),
        (OSError(errno.EIO, "why"), StoreError),
        (OSError("why"), StoreError),
        (of_sqlite(sqlite3.SQLITE_ERROR), StoreCorruptError),
        (of_sqlite(sqlite3.SQLITE_BUSY), StoreBusyError),
        (of_sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT), StoreBusyError),
        (of_sqlite(sqlite3.SQLITE_LOCKED), StoreBusyError),
        (of_sqlite(sqlite3.SQLITE_READONLY), StoreReadOnlyError),
        (of_sqlite(sqlite3.SQLITE_PERM), StoreReadOnlyError),
        (of_sqlite(sqlite3.SQLITE_FULL), StoreFullError),
        (of_sqlite(sqlite3.SQLITE_CORRUPT), StoreCorruptError),
        (of_sqlite(sqlite3.SQLITE_NOTADB), StoreCorruptError),
        (of_sqlite(sqlite3.SQLITE_CANTOPEN), StoreError),
        (of_sqlite(sqlite3.SQLITE_IOERR_READ), StoreError),
        (of_sqlite(sqlite3.SQLITE_MISMATCH), StoreError),
        (sqlite3.OperationalError("why"), StoreCorruptError),
        (sqlite3.ProgrammingError("why"), StoreError),
        (msgspec.DecodeError("why"), StoreCorruptError),
    ],
)
def test_what_sqlite_and_its_file_raise(error: Exception, ours: type[StoreError]) -> None:
    """The kind says what can be done; the text names the file and gives the driver's own."""
    found = sqlite.translate(error, PATH)

    assert type(found) is ours
    assert str(found).startswith("the store ")
    assert ": jobs.db (" in str(found)
    assert "why" in str(found)
    assert sqlite.is_busy(error) is (ours is StoreBusyError)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (asyncpg.DiskFullError("why"), StoreFullError),
        (asyncpg.ReadOnlySQLTransactionError("why"), StoreReadOnlyError),
        (asyncpg.DataCorruptedError("why"), StoreCorruptError),
        (asyncpg.IndexCorruptedError("why"), StoreCorruptError),
        (asyncpg.LockNotAvailableError("why"), StoreBusyError),
        (asyncpg.DeadlockDetectedError("why"), StoreBusyError),
        (asyncpg.TooManyConnectionsError("why"), StoreBusyError),
        (asyncpg.InvalidPasswordError("why"), StoreUnsupportedError),
        (asyncpg.InvalidCatalogNameError("why"), StoreUnsupportedError),
        (asyncpg.ConnectionDoesNotExistError("why"), StoreError),
        (asyncpg.AdminShutdownError("why"), StoreError),
        (asyncpg.CrashShutdownError("why"), StoreError),
        (asyncpg.InterfaceError("why"), StoreError),
        (asyncpg.InternalClientError("why"), StoreError),
        (TimeoutError("why"), StoreBusyError),
        (ConnectionRefusedError("why"), StoreError),
        (asyncpg.UndefinedColumnError("why"), StoreError),
        (psycopg.OperationalError("why"), StoreError),
    ],
)
def test_what_postgresql_raises(error: Exception, ours: type[StoreError]) -> None:
    """The kind says what can be done; the text names the server and keeps the password."""
    found = postgres.translate(error, ADDRESS)

    assert type(found) is ours
    assert str(found).startswith(f"{ADDRESS.shown}: ")
    assert "secret" not in str(found)


@pytest.mark.parametrize("error", [ValueError("theirs"), StoreError("ours"), KeyError(1)])
def test_other_errors_stay_as_they_are(error: Exception) -> None:
    """A mistake in a program is no trouble with the store, and ours have been translated."""
    assert sqlite.translate(error, PATH) is error
    assert postgres.translate(error, ADDRESS) is error
