import asyncio
import inspect
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from durably.domain.errors import LeaseLostError, StoreError
from durably.domain.job import JobStatus
from durably.store import Store
from durably.stores.memory import MemoryStore
from durably.testing import (
    Call,
    Fault,
    FaultyStore,
    SimulatedCrash,
    VirtualClock,
    at_random,
    on_call,
)
from durably.testing.conformance.support import (
    add,
    changes,
    completed,
    draft,
    everything,
    info,
    look,
    put,
    returned,
    take_one,
)
from durably.testing.store_conformance import StoreConformance


class TestFaultyStoreWithoutFaults(StoreConformance):
    """In front of another store it changes nothing."""

    @pytest.fixture
    def clock(self) -> VirtualClock:
        return VirtualClock()

    @pytest.fixture
    async def store(self, clock: VirtualClock) -> AsyncIterator[FaultyStore]:
        store = FaultyStore(MemoryStore(clock=clock))
        await store.open()
        yield store
        await store.close()


@pytest.fixture
async def store() -> AsyncIterator[FaultyStore]:
    store = FaultyStore(MemoryStore(clock=VirtualClock()))
    await store.open()
    yield store
    await store.close()


def test_every_operation_is_there() -> None:
    """Nothing of the protocol is missing or takes other arguments."""
    operations = [
        name for name, _ in inspect.getmembers(Store, inspect.isfunction) if name[0] != "_"
    ]

    assert "exchange" in operations
    for name in operations:
        own, protocol = getattr(FaultyStore, name), getattr(Store, name)
        assert inspect.signature(own) == inspect.signature(protocol), name


async def test_calls_are_counted_by_name(store: FaultyStore) -> None:
    """A test can tell how many calls a scenario makes, and of which operation each is."""
    seen: list[Call] = []
    store.plan = seen.append
    worker = await store.register(info())
    await add(store)
    await add(store)
    lease = await take_one(store, worker, start=1)
    async with store.complete(lease, lambda: completed(lease)):
        pass
    assert store.renew(worker)

    assert seen == [
        Call("register", 1, 1),
        Call("enqueue", 2, 1),
        Call("enqueue", 3, 2),
        Call("exchange", 4, 1),
        Call("complete", 5, 1),
        Call("renew", 6, 1),
    ]
    assert store.calls.total() == 6
    assert store.calls["enqueue"] == 2


@pytest.mark.parametrize(
    ("fault", "applied"),
    [
        (Fault.FAIL_BEFORE, False),
        (Fault.FAIL_AFTER, True),
        (Fault.CRASH_BEFORE, False),
        (Fault.CRASH_AFTER, True),
    ],
)
async def test_a_failed_call_is_applied_or_not(
    store: FaultyStore, fault: Fault, *, applied: bool
) -> None:
    """The caller gets an error either way; the second enqueue has, or has not, happened."""
    store.plan = on_call(2, fault, "enqueue")
    await add(store)
    error = SimulatedCrash if "crash" in fault else StoreError
    with pytest.raises(error):
        await add(store)

    assert len(await everything(store.store)) == 1 + applied


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.FAIL_AFTER])
async def test_completing_can_fail(store: FaultyStore, fault: Fault) -> None:
    """Before: the block is not entered. After: the outcome is recorded all the same."""
    worker = await store.register(info())
    await add(store)
    lease = await take_one(store, worker)
    store.plan = on_call(1, fault, "complete")
    entered = False
    with pytest.raises(StoreError, match="injected"):
        async with store.complete(lease, lambda: completed(lease)):
            entered = True

    after = fault is Fault.FAIL_AFTER
    assert entered == after
    expected = JobStatus.COMPLETED if after else JobStatus.PROCESSING
    assert (await look(store, lease)).status is expected


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.FAIL_AFTER, Fault.CRASH_BEFORE])
async def test_renewing_can_fail(store: FaultyStore, fault: Fault) -> None:
    """The heartbeat's call too, though it blocks."""
    worker = await store.register(info())
    store.plan = on_call(1, fault, "renew")
    with pytest.raises((StoreError, SimulatedCrash)):
        store.renew(worker)


async def test_a_lost_reply_hides_the_answer(store: FaultyStore) -> None:
    """Also a refusal is lost: the caller cannot know."""
    worker = await store.register(info())
    await add(store)
    lease = await take_one(store, worker)
    await store.exchange(worker, outcomes=[returned(lease)])
    store.plan = on_call(1, Fault.FAIL_AFTER, "checkpoint")
    with pytest.raises(StoreError, match="reply of checkpoint was lost"):
        await store.checkpoint(lease)
    with pytest.raises(LeaseLostError):
        await store.checkpoint(lease)


async def test_after_a_crash_everything_is_over(store: FaultyStore) -> None:
    """The dead process calls nothing any more; the store behind lives on."""
    store.plan = on_call(1, Fault.CRASH_AFTER)
    with pytest.raises(SimulatedCrash):
        await add(store)
    store.plan = on_call(0, Fault.DELAY)
    for call in (store.find, store.stats, lambda: add(store)):
        with pytest.raises(SimulatedCrash):
            await call()
    with pytest.raises(SimulatedCrash):
        store.renew(1)

    assert store.crashed
    assert len(await everything(store.store)) == 1


async def test_a_delayed_call_is_overtaken(store: FaultyStore) -> None:
    """What was called later is carried out first; both are carried out."""
    store.plan = on_call(1, Fault.DELAY)
    first, second = await asyncio.gather(add(store), add(store))

    assert [job.id for job in await everything(store)] == [second.id, first.id]


async def test_a_duplicate_is_carried_out_twice_where_it_may(store: FaultyStore) -> None:
    """Outcomes and steps count once, claims are made once, and no change is made twice."""
    store.plan = lambda _: Fault.DUPLICATE
    worker = await store.register(info())
    jobs = [await add(store) for _ in range(3)]
    lease = await take_one(store, worker, start=1)
    await store.checkpoint(lease, step=("a", "1"), changes=changes(put("a")))
    await store.exchange(
        worker, outcomes=[completed(lease, changes=changes(put("b"), draft("follow-up")))]
    )
    store.plan = on_call(0, Fault.DELAY)

    assert [job.id for job in await store.find(type="work")] == [job.id for job in jobs]
    assert len(await store.find(type="follow-up")) == 1
    assert {(r.id, r.version) for r in await store.records("thing")} == {("a", 1), ("b", 1)}
    statuses = [(await look(store, job)).status for job in jobs]
    assert statuses == [JobStatus.COMPLETED, JobStatus.PENDING, JobStatus.PENDING]


async def test_random_faults_repeat_with_their_seed() -> None:
    """The same seed gives the same faults; the probability is roughly kept."""
    calls = [Call("exchange", n, n) for n in range(1_000)]
    one, same, other = (
        [plan(call) for call in calls]
        for plan in (at_random(Random(seed), 0.2) for seed in (1, 1, 2))
    )

    assert one == same
    assert one != other
    assert 120 < sum(fault is not None for fault in one) < 280
    assert {fault for fault in one if fault} == {
        Fault.FAIL_BEFORE,
        Fault.FAIL_AFTER,
        Fault.DELAY,
        Fault.DUPLICATE,
    }


async def test_a_plan_can_name_the_nth_of_all_calls(store: FaultyStore) -> None:
    """Whatever operation it is."""
    store.plan = on_call(3, Fault.FAIL_BEFORE)
    results: list[Any] = [
        await call
        for call in (
            asyncio.gather(store.find(), return_exceptions=True),
            asyncio.gather(store.stats(), return_exceptions=True),
            asyncio.gather(store.paused(), return_exceptions=True),
            asyncio.gather(store.paused(), return_exceptions=True),
        )
    ]

    assert [isinstance(result, StoreError) for [result] in results] == [False, False, True, False]
