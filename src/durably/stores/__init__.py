"""The stores, and which one a URL means. None knows another; `durably.store` says what each does."""

from durably.domain.clock import Clock
from durably.domain.errors import SettingsError
from durably.store import Store


def open_store(url: str, *, clock: Clock) -> Store:
    """The store of *url*, not opened yet; SettingsError for a URL that means none."""
    if not isinstance(url, str):
        raise TypeError(f"store must be a URL or a store object, got {url!r}")
    scheme = url.partition(":")[0]
    if url == "memory://":
        from durably.stores.memory import MemoryStore

        return MemoryStore(clock=clock)
    if scheme == "sqlite":
        from durably.stores.sqlite.store import SQLiteStore

        return SQLiteStore(url, clock=clock)
    if scheme in {"postgresql", "postgres"}:
        from durably.stores.postgres.store import PostgresStore

        return PostgresStore(url, clock=clock)
    # The whole URL may hold a password, so only its scheme is named.
    raise SettingsError(
        f"no store is known for {scheme + ':' if ':' in url else url!r};"
        " use memory://, sqlite:///path or postgresql://user@host/database"
    )
