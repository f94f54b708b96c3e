"""Opening the file: what is refused, how a connection is set up, what its errors mean."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path

from durably.domain.errors import (
    SettingsError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnsupportedError,
)

BUSY_TIMEOUT_S = 10.0
"""How long a commit waits for a writer outside the turnstile: the user's own connection."""
SCHEMA_VERSION = 1
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
_BY_CODE = {
    sqlite3.SQLITE_BUSY: (StoreBusyError, "is locked by another program"),
    sqlite3.SQLITE_LOCKED: (StoreBusyError, "is locked by another program"),
    sqlite3.SQLITE_READONLY: (StoreReadOnlyError, "cannot be written"),
    sqlite3.SQLITE_PERM: (StoreReadOnlyError, "cannot be written"),
    sqlite3.SQLITE_FULL: (StoreFullError, "cannot grow: the disk is full"),
    sqlite3.SQLITE_CORRUPT: (StoreCorruptError, "is damaged; restore a backup"),
    sqlite3.SQLITE_NOTADB: (StoreCorruptError, "is not an SQLite database"),
    sqlite3.SQLITE_CANTOPEN: (StoreError, "cannot be opened"),
    sqlite3.SQLITE_IOERR: (StoreError, "cannot be read or written"),
}


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
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreUnsupportedError(f"need SQLite 3.37 or later, got {sqlite3.sqlite_version}")
    if not path.parent.is_dir():
        raise StoreError(f"the folder of the store does not exist: {path.parent}")
    if path.exists() and not path.is_file():
        raise StoreError(f"the store is not a file: {path}")
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
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        connection.execute("PRAGMA schema_version").fetchone()


def connect(path: Path) -> sqlite3.Connection:
    """A connection for one thread at a time. It never checkpoints by itself (see `Writer`)."""
    connection = sqlite3.connect(
        path,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "fullfsync=1",  # macOS: fsync alone does not reach the disk there
        "wal_autocheckpoint=0",
        "journal_size_limit=67108864",
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Create the tables, or refuse a schema that is newer than this program."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'durably_meta'"
        ).fetchone()
        if found is None:
            schema = resources.files("durably.stores.sqlite").joinpath("schema/0001_initial.sql")
            _run_script(connection, schema.read_text())
            connection.execute("INSERT INTO durably_meta VALUES ('schema', ?)", (SCHEMA_VERSION,))
        (version,) = connection.execute(
            "SELECT value FROM durably_meta WHERE key = 'schema'"
        ).fetchone()
        if int(version) != SCHEMA_VERSION:
            raise StoreUnsupportedError(
                f"the store has schema {version}, this Durably knows {SCHEMA_VERSION}"
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
    """Turn the driver's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error


def translate(error: BaseException, path: Path) -> BaseException:
    """Our error for a driver's, which names the file; any other error unchanged."""
    if not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    kind, meaning = _BY_CODE.get((code or 0) & 0xFF, (StoreError, "failed"))
    return kind(f"the store {meaning}: {path} ({error})")


def boot_id(*, read: Callable[[], str] | None = None) -> str:
    """Names this start of the machine: monotonic times of another mean nothing."""
    try:
        return (read or Path("/proc/sys/kernel/random/boot_id").read_text)().strip()
    except OSError:
        return os.uname().nodename
