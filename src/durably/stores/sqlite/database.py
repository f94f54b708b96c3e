"""Opening the file: what is refused, how a connection is set up, what its errors mean."""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path

import msgspec

from durably.domain.errors import (
    SettingsError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnsupportedError,
)
from durably.stores.sqlite import forks
from durably.stores.sqlite.forks import traffic

BUSY_TIMEOUT_S = 10.0
"""How long a commit waits for a writer outside the turnstile: the user's own connection."""
SCHEMA_VERSION = 1
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "fullfsync=1",  # macOS: fsync alone does not reach the disk there
    "wal_autocheckpoint=0",
    "journal_size_limit=67108864",
    "temp_store=MEMORY",
)
_OLDEST_SQLITE = (3, 37, 0)
_NETWORK_FILE_SYSTEMS = frozenset(
    [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    ]
)
_BUSY = (StoreBusyError, "is locked by another program")
_READ_ONLY = (StoreReadOnlyError, "cannot be written")
_FULL = (StoreFullError, "cannot grow: the disk is full")
_DAMAGED = (StoreCorruptError, "is damaged; restore a backup")
_FAILED = (StoreError, "failed")
_UNUSABLE = (StoreError, "cannot be read or written")
_BY_CODE = {
    # Our statements are right, so it is the tables or the JSON in them that are not.
    sqlite3.SQLITE_ERROR: _DAMAGED,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: (StoreCorruptError, "is not an SQLite database"),
    sqlite3.SQLITE_CANTOPEN: (StoreError, "cannot be opened"),
    sqlite3.SQLITE_IOERR: _UNUSABLE,
}
_BY_ERRNO = {
    errno.EACCES: _READ_ONLY,
    errno.EPERM: _READ_ONLY,
    errno.EROFS: _READ_ONLY,
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
}
FOREIGN_ERRORS = (sqlite3.Error, msgspec.DecodeError, UnicodeDecodeError, OSError)
"""What `translate` knows: of the driver, of what decodes its rows, and of the system."""


def path_of(url: str) -> Path:
    """The file of ``sqlite:///relative`` or ``sqlite:////absolute``; SettingsError otherwise."""
    prefix = "sqlite:///"
    name = url.removeprefix(prefix)
    if not url.startswith(prefix) or not name or "\0" in name:
        raise SettingsError(f"need sqlite:///path or sqlite:////absolute/path, got {url!r}")
    if name == ":memory:" or name.startswith("file:"):
        raise SettingsError(f"for a store in memory use memory://, got {url!r}")
    return Path(name)


def check_place(path: Path, *, mounts: Path = Path("/proc/self/mountinfo")) -> None:
    """Refuse what cannot hold a database that several processes share.

    Raises:
        StoreUnsupportedError: a network file system (its locks cannot be trusted), or an SQLite
            library that is too old.
        StoreError: no such folder, or not a file.
        StoreReadOnlyError: the folder or the file cannot be written.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreUnsupportedError(f"need SQLite 3.37 or later, got {sqlite3.sqlite_version}")
    if not path.parent.is_dir():
        raise StoreError(f"the folder of the store does not exist: {path.parent}")
    if path.exists() and not path.is_file():
        raise StoreError(f"the store is not a file: {path}")
    for place in (path.parent, path):
        if place.exists() and not os.access(place, os.W_OK):
            raise StoreReadOnlyError(f"the store cannot be written: {place}")
    kind = file_system(path.parent.resolve(), mounts)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreUnsupportedError(
            f"SQLite's locks cannot be trusted on the network file system {kind}: {path};"
            " use a local disk or a PostgreSQL store"
        )


def file_system(folder: Path, mounts: Path) -> str:
    """The type of the file system a folder is on; empty where the system does not tell."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = Path(), ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = Path(left.split()[4].encode().decode("unicode_escape"))
        # The last of several mounts on one point is the one that is seen.
        if folder.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, right.split()[0]
    return kind


def check_file(path: Path) -> None:
    """Refuse a file that is no database before anything is made beside it (driver's errors)."""
    with traffic, closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        connection.execute("PRAGMA schema_version").fetchone()


def connect(path: Path) -> forks.Connection:
    """A connection for one thread at a time. It never checkpoints by itself (see `Writer`)."""
    connection = forks.connect(path, BUSY_TIMEOUT_S)
    try:
        with traffic:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


class StoreFile:
    """The file that was opened. What is written to it once it was moved would be lost unnoticed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = _identity(path)

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commit; StoreError when the path no longer leads to the file."""
        if _identity(self._path) != self._identity:
            raise StoreError(
                f"the store's file was deleted or replaced while it was in use: {self._path};"
                " restart what uses it"
            )
        connection.execute("COMMIT")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def migrate(connection: sqlite3.Connection) -> None:
    """Create the tables, or refuse a schema that is newer than this program."""
    with traffic:
        _migrate(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'durably_meta'"
        ).fetchone()
        if found is None:
            schema = resources.files("durably.stores.sqlite").joinpath("schema/0001_initial.sql")
            _run_script(connection, schema.read_text())
            version = str(SCHEMA_VERSION)
            connection.execute("INSERT INTO durably_meta VALUES ('schema', ?)", (version,))
        row = connection.execute("SELECT value FROM durably_meta WHERE key = 'schema'").fetchone()
        if row is None or row[0] != str(SCHEMA_VERSION):
            raise StoreUnsupportedError(
                f"the store has schema {row and row[0]}, this Durably knows {SCHEMA_VERSION}"
            )
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _run_script(connection: sqlite3.Connection, script: str) -> None:
    # executescript would commit the transaction that is open.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the errors of the driver, the decoder and the system into ours."""
    try:
        yield
    except FOREIGN_ERRORS as error:
        raise translate(error, path) from error


def translate(error: BaseException, path: Path) -> BaseException:
    """Our error for a foreign one, which names the file; any other error unchanged."""
    if not isinstance(error, FOREIGN_ERRORS):
        return error
    kind, meaning = _meaning(error)
    return kind(f"the store {meaning}: {path} ({error})")


def is_busy(error: BaseException) -> bool:
    """Whether another program has held a lock for too long."""
    return isinstance(error, sqlite3.Error) and _meaning(error) == _BUSY


def _meaning(error: BaseException) -> tuple[type[StoreError], str]:
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno or 0, _UNUSABLE)
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return _BY_CODE.get(code & 0xFF, _FAILED)
    # The driver has no code for text that cannot be decoded, and for wrong use of itself.
    is_misuse = isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.OperationalError)
    return _FAILED if is_misuse else _DAMAGED


def boot_id(*, read: Callable[[], str] | None = None) -> str:
    """Names this start of the machine: monotonic times of another mean nothing."""
    try:
        return (read or Path("/proc/sys/kernel/random/boot_id").read_text)().strip()
    except OSError:
        return os.uname().nodename
