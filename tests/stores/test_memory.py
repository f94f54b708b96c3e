from collections.abc import AsyncIterator

import pytest

from durably.stores.memory import MemoryStore
from durably.testing import VirtualClock
from durably.testing.store_conformance import StoreConformance


class TestMemoryStore(StoreConformance):
    """The reference keeps the contract."""

    @pytest.fixture
    def clock(self) -> VirtualClock:
        return VirtualClock()

    @pytest.fixture
    async def store(self, clock: VirtualClock) -> AsyncIterator[MemoryStore]:
        store = MemoryStore(clock=clock)
        await store.open()
        yield store
        await store.close()
