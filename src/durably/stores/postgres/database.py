"""Connections to PostgreSQL: from a URL, with the schema in place, and errors of ours."""

import hashlib
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from durably.domain.errors import (
    DurablyError,
    SettingsError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnsupportedError,
)

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,50}")
_CONNECT_S = 10.0
_COMMAND_S = 60.0
_LEAST_VERSION = 130_000


class Address(NamedTuple):
    """Where a store is."""

    dsn: str
    schema: str
    upgrade: bool
    """Whether opening the store completes its schema."""
    direct: str | None = None
    """Past a pooler, to what needs a session of its own: LISTEN and the locks."""
    pooled: bool = False
    """Whether a pooler in transaction mode stands behind `dsn`: each transaction may have another
    session, so that a session keeps no settings, no statements and no locks."""

    @property
    def has_sessions(self) -> bool:
        """Whether there is a way to a session of our own."""
        return self.direct is not None or not self.pooled

    @property
    def statements_kept(self) -> int:
        """How many prepared statements a connection to `dsn` may keep."""
        return 0 if self.pooled else 100

    @property
    def shown(self) -> str:
        """For people: without the password."""
        parts = urlsplit(self.dsn)
        host = parts.netloc.rpartition("@")[2]
        user = f"{parts.username}@" if parts.username else ""
        return f"postgresql://{user}{host}{parts.path}"

    @property
    def lock_class(self) -> int:
        """The first key of this store's advisory locks."""
        return zlib.crc32(f"durably:{self.schema}".encode()) & 0x7FFF_FFFF


def address_of(url: str) -> Address:
    """The address in a store URL, whose query may name the schema: ``?schema=durably``.

    Raises:
        SettingsError: it is none; its password is not quoted.
    """
    try:
        parts = urlsplit(url)
        named = dict(parse_qsl(parts.query))
        _ = parts.port
    except ValueError:
        raise SettingsError(
            "the store's URL cannot be read; use postgresql://user@host/db"
        ) from None
    schema = named.pop("schema", "durably")
    if not _SCHEMA.fullmatch(schema):
        raise SettingsError(
            f"a schema's name has lower-case letters, digits and underscores, got {schema!r}"
        )
    upgrade = named.pop("upgrade", "yes")
    if upgrade not in {"yes", "no"}:
        raise SettingsError(f"upgrade in the store's URL is yes or no, got {upgrade!r}")
    direct = named.pop("direct", None)
    if direct is not None:
        if urlsplit(direct).scheme not in {"postgresql", "postgres"}:
            raise SettingsError("direct in the store's URL must be postgresql://user@host/db")
        direct = address_of(direct).dsn
    dsn = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(named), ""))
    return Address(dsn, schema, upgrade == "yes", direct)


# Every statement of ours finds its rows by an index. The planner cannot know: of a table that fills and
# empties within seconds its statistics are always of another time.
BY_INDEX = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
SET_BY_INDEX = "; ".join(f"SET LOCAL {name} = {value}" for name, value in BY_INDEX.items())
"""The same for one transaction, where a session does not keep it."""
_PLANNED_ONCE = {"plan_cache_mode": "force_generic_plan"}
"""What is planned thus has the same plan whatever its arguments."""


async def connect(
    address: Address, *, by_index: bool = False, session: bool = False
) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection of our own; with *by_index* plans are what our statements expect.

    With *session* it is one whose session lasts as long, if there is a way to it.

    Raises:
        StoreError: there is none to be had.
    """
    direct = address.direct if session else None
    pooled = address.pooled and direct is None
    with translated(address):
        return await asyncpg.connect(
            direct or address.dsn,
            timeout=_CONNECT_S,
            command_timeout=_COMMAND_S,
            statement_cache_size=0 if pooled else 100,
            server_settings={
                "application_name": "durably",
                **(BY_INDEX | _PLANNED_ONCE if by_index and not pooled else {}),
            },
        )


async def is_pooled(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    """Whether a pooler answers: it does not know which process of the server will serve us."""
    async with connection.transaction():
        pid = await connection.fetchval("SELECT pg_backend_pid()")
    return bool(pid != connection.get_server_pid())


async def upgrade(url: str) -> tuple[int, ...]:
    """Bring the schema of a store up to date; the numbers of the migrations that were missing.

    Raises:
        StoreError: it cannot be done.
    """
    address = address_of(url)._replace(upgrade=True, pooled=True)
    connection = await connect(address)
    try:
        with translated(address):
            return await migrate(connection, address)
    finally:
        await connection.close()


async def migrate(
    connection: "asyncpg.Connection[asyncpg.Record]", address: Address
) -> tuple[int, ...]:
    """Create or complete the schema, one process at a time; which migrations were missing.

    Raises:
        StoreUnsupportedError: the server is too old, or the schema newer or other than ours, or
            incomplete where the URL says ``upgrade=no``.
    """
    version = connection.get_server_version()
    if version.major * 10_000 < _LEAST_VERSION:
        raise StoreUnsupportedError(f"need PostgreSQL 13 or later, got {version.major}")
    s = address.schema
    added: list[int] = []
    if not address.upgrade:
        async with connection.transaction():
            await _check_current(connection, address)
        return ()
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1, 0)", address.lock_class)
        # Only who may create any schema may say "if not exists".
        if await connection.fetchval("SELECT to_regnamespace($1)::text", s) is None:
            await connection.execute(f"CREATE SCHEMA {s}")
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS {s}.migrations"
            " (number integer PRIMARY KEY, checksum text NOT NULL)"
        )
        rows = await connection.fetch(f"SELECT number, checksum FROM {s}.migrations")
        done: dict[int, str] = {row[0]: row[1] for row in rows}
        for number, script in _scripts():
            checksum = hashlib.sha256(script.encode()).hexdigest()
            if number not in done:
                await connection.execute(script.replace("{s}", s))
                await connection.execute(
                    f"INSERT INTO {s}.migrations VALUES ($1, $2)",
                    *(number, checksum),
                )
                added.append(number)
            elif done.pop(number) != checksum:
                raise StoreUnsupportedError(
                    f"migration {number} of schema {s} is not the one this version knows"
                )
        if newer := done.keys() - {number for number, _ in _scripts()}:
            raise StoreUnsupportedError(
                f"schema {s} is of a newer Durably: it has migration {max(newer)}; update this one"
            )
    return tuple(added)


async def _check_current(
    connection: "asyncpg.Connection[asyncpg.Record]", address: Address
) -> None:
    table = f"{address.schema}.migrations"
    done: set[int] = set()
    if await connection.fetchval("SELECT to_regclass($1)", table) is not None:
        done = {row[0] for row in await connection.fetch(f"SELECT number FROM {table}")}
    if missing := {number for number, _ in _scripts()} - done:
        raise StoreUnsupportedError(
            f"schema {address.schema} lacks migration {min(missing)}, and the store's URL says"
            " upgrade=no: run `durably db upgrade`"
        )


def _scripts() -> Iterator[tuple[int, str]]:
    folder = files(__package__ or "").joinpath("schema")
    for script in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if script.name.endswith(".sql"):
            yield int(script.name[:4]), script.read_text(encoding="utf-8")


class ServerFigures(NamedTuple):
    """What a server says of itself."""

    version: str
    schema: str
    synchronous_commit: str
    connections: int
    connections_most: int
    dead_tuples: int
    live_tuples: int
    pooled: bool
    """Whether a pooler stands between."""
    direct: bool | None
    """Whether the direct address leads past it; None: there is none."""


async def server_figures(url: str) -> ServerFigures:
    """What an operator looks at first. StoreError when the server cannot be asked."""
    address = address_of(url)._replace(pooled=True)
    direct = None
    if address.direct is not None:
        session = await connect(address, session=True)
        direct = not await is_pooled(session)
        await session.close()
    connection = await connect(address)
    try:
        pooled = await is_pooled(connection)
        async with translating(address), connection.transaction():
            row = await connection.fetchrow(
                "SELECT current_setting('server_version'), $1::text,"
                " current_setting('synchronous_commit'),"
                " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
                " current_setting('max_connections')::int,"
                " coalesce(n_dead_tup, 0), coalesce(n_live_tup, 0) FROM (SELECT) AS one"
                " LEFT JOIN pg_stat_user_tables ON schemaname = $1 AND relname = 'jobs'",
                address.schema,
            )
            assert row is not None
            return ServerFigures._make((*row, pooled, direct))
    finally:
        await connection.close()


async def missing_schema(url: str) -> str | None:
    """Why there is no store of ours in the database yet; None when there is one."""
    address = address_of(url)._replace(pooled=True)
    connection = await connect(address)
    try:
        async with translating(address), connection.transaction():
            found = await connection.fetchval("SELECT to_regclass($1)", f"{address.schema}.jobs")
    finally:
        await connection.close()
    if found is not None:
        return None
    return f"the database holds no store of Durably: {address.shown}, schema {address.schema}"


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """The driver's errors as ours."""
    try:
        yield
    except Exception as error:
        ours = translate(error, address)
        if ours is error:
            raise
        raise ours from error


@asynccontextmanager
async def translating(address: Address) -> AsyncIterator[None]:
    """`translated` for what awaits."""
    with translated(address):
        yield


_MEANINGS: tuple[tuple[type[BaseException], type[StoreError], str], ...] = (
    (asyncpg.DiskFullError, StoreFullError, "the disk is full"),
    (asyncpg.ReadOnlySQLTransactionError, StoreReadOnlyError, "the server is read-only"),
    (asyncpg.DataCorruptedError, StoreCorruptError, "the database is damaged"),
    (asyncpg.IndexCorruptedError, StoreCorruptError, "the database is damaged"),
    (asyncpg.LockNotAvailableError, StoreBusyError, "it is locked by others"),
    (asyncpg.DeadlockDetectedError, StoreBusyError, "others stood in the way"),
    (asyncpg.TooManyConnectionsError, StoreBusyError, "the server has no connection left"),
    (asyncpg.InvalidPasswordError, StoreUnsupportedError, "user or password are wrong"),
    (asyncpg.InvalidCatalogNameError, StoreUnsupportedError, "there is no such database"),
    (asyncpg.PostgresConnectionError, StoreError, "the connection is lost"),
    (asyncpg.AdminShutdownError, StoreError, "the server has ended the connection"),
    (asyncpg.CrashShutdownError, StoreError, "the server has ended the connection"),
    (asyncpg.InterfaceError, StoreError, "the connection is lost"),
    # The driver's own confusion when a session is killed in the middle of a statement.
    (asyncpg.InternalClientError, StoreError, "the connection is lost"),
    (TimeoutError, StoreBusyError, "the server does not answer"),
    (OSError, StoreError, "the server cannot be reached"),
)


def translate(error: BaseException, address: Address) -> BaseException:
    """One of our errors for one of the driver's; any other unchanged."""
    if isinstance(error, DurablyError):
        return error
    for kind, ours, meaning in _MEANINGS:
        if isinstance(error, kind):
            return ours(f"{address.shown}: {meaning}")
    foreign = any(kind.__module__.partition(".")[0] == "psycopg" for kind in type(error).__mro__)
    if isinstance(error, asyncpg.PostgresError) or foreign:
        return StoreError(f"{address.shown}: {error}")
    return error


_ENDINGS = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # TimeoutError is one
)


_RACES = (
    asyncpg.UniqueViolationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)


def is_race(error: BaseException) -> bool:
    """Whether another transaction was quicker: tried again, the operation sees what it did."""
    return isinstance(error, _RACES)


def ends_connection(error: BaseException) -> bool:
    """Whether the connection that raised *error* is of no use any more."""
    return isinstance(error, _ENDINGS)


def rows_of(status: str) -> int:
    """How many rows a statement changed, by its tag such as ``UPDATE 3``."""
    last = status.rpartition(" ")[2]
    return int(last) if last.isdigit() else 0


_QUESTION = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|\?")


def numbered(sql: str, count: int) -> str:
    """*sql* with ``$1`` for ``?``, so that one program runs on every store.

    Only where the number of question marks is that of the arguments: one may also be an operator.

    >>> numbered("SELECT '?' WHERE a = ? AND b = ?", 2)
    "SELECT '?' WHERE a = $1 AND b = $2"
    """
    places = [match for match in _QUESTION.finditer(sql) if match[0] == "?"]
    if not count or len(places) != count:
        return sql
    numbers = iter(range(1, count + 1))
    return _QUESTION.sub(lambda m: f"${next(numbers)}" if m[0] == "?" else m[0], sql)


Connection = Any
"""What statements are run on: a connection, also one that a pool lends."""
