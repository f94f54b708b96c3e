"""Which of several processes reconciles."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from durably import JobQueueService
from durably.instances.leadership import LEASE_S, Leadership
from durably.stores.memory import MemoryStore
from durably.testing import VirtualClock


class Pair(NamedTuple):
    """Two services on one store, both processing, and the part of each in the leadership."""

    clock: VirtualClock
    one: JobQueueService
    first: Leadership
    second: Leadership


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    clock = VirtualClock()
    store = MemoryStore(clock=clock)
    async with (
        JobQueueService(store, clock=clock) as one,
        JobQueueService(store, clock=clock) as two,
    ):
        await one.start_processing()
        await two.start_processing()
        yield Pair(clock, one, Leadership(one, clock), Leadership(two, clock))


async def test_one_leads_and_keeps_the_lead(pair: Pair) -> None:
    """The second waits as long as the first renews, however long that is."""
    clock, first, second = pair.clock, pair.first, pair.second
    for _ in range(10):
        assert await first.term() == 1
        assert await second.term() is None
        await clock.advance(LEASE_S * 0.9)


async def test_the_lead_of_one_that_has_ended_is_taken_at_once(pair: Pair) -> None:
    """A shutdown, as a killed process, leaves no live worker: the next term begins."""
    one, first, second = pair.one, pair.first, pair.second
    assert await first.term() == 1
    await one.shutdown(1)
    assert await first.term() is None
    assert await second.term() == 2


async def test_the_lead_of_one_that_is_silent_is_taken_after_the_lease(pair: Pair) -> None:
    """A frozen process whose worker still looks alive loses the lead, and learns of it."""
    clock, first, second = pair.clock, pair.first, pair.second
    assert await first.term() == 1
    assert await second.term() is None
    await clock.advance(LEASE_S - 1)
    assert await second.term() is None
    await clock.advance(1)
    assert await second.term() == 2
    assert await first.term() is None


async def test_who_does_not_process_does_not_lead() -> None:
    """A service that only adds jobs has no worker, and no part in it."""
    async with JobQueueService("memory://") as queue:
        assert await Leadership(queue, VirtualClock()).term() is None
