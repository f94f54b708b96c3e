from collections.abc import AsyncIterator

import pytest

from durably.stores.sqlite.store import SQLiteStore
from durably.testing import VirtualClock
from durably.testing.store_conformance import StoreConformance


class TestSQLiteStore(StoreConformance):
    """The store on a file keeps the contract."""

    @pytest.fixture
    def clock(self) -> VirtualClock:
        return VirtualClock()

    @pytest.fixture
    async def store(self, clock: VirtualClock, sqlite_url: str) -> AsyncIterator[SQLiteStore]:
        store = SQLiteStore(sqlite_url, clock=clock)
        await store.open()
        yield store
        await store.close()
