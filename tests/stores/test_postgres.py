"""The store on PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from durably.stores.postgres.store import PostgresStore
from durably.testing import VirtualClock
from durably.testing.store_conformance import StoreConformance


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def store(clock: VirtualClock, postgres_url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(postgres_url, clock=clock)
    await store.open()
    yield store
    await store.close()


class TestPostgresStore(StoreConformance):
    """The store on a server keeps the contract."""
