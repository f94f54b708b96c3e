"""Health: what is wrong with a service that is there and does not get on."""

import asyncio
from collections.abc import Callable

import pytest

from durably import (
    JobContext,
    JobQueueService,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
)
from durably.engine.health import Pulse, worker_faults
from durably.stores.memory import MemoryStore
from durably.testing import VirtualClock, until

GOOD = Pulse(exchange_age=0.5, interval=1.0, renewal_age=0.0, lease=30.0)


@pytest.mark.parametrize(
    ("pulse", "types", "found"),
    [
        (GOOD, 1, ()),
        (GOOD, 0, ("no handler is registered",)),
        (Pulse(exchange_age=5.0, interval=1.0, renewal_age=20.0, lease=30.0), 1, ()),
        (
            Pulse(exchange_age=7.0, interval=1.0, renewal_age=0.0, lease=30.0),
            1,
            ("the worker has not reached the store for 7 s",),
        ),
        (Pulse(exchange_age=29.0, interval=10.0, renewal_age=0.0, lease=30.0), 1, ()),
        (
            Pulse(exchange_age=31.0, interval=10.0, renewal_age=25.0, lease=30.0),
            1,
            (
                "the worker has not reached the store for 31 s",
                "the leases have not been renewed for 25 s of 30 s",
            ),
        ),
    ],
)
def test_a_worker_is_judged_by_when_it_last_got_on(
    pulse: Pulse, types: int, found: tuple[str, ...]
) -> None:
    """Five seconds or three intervals without its store, two thirds of a lease without renewal."""
    assert worker_faults(pulse, types=types) == found


async def quick(_: JobContext) -> None:
    return None


async def test_a_service_that_runs_jobs_is_well_and_one_that_does_not_says_so() -> None:
    """Before the start, while it runs, after a stop; a producer alone is never asked for jobs."""
    async with JobQueueService("memory://") as queue:
        assert await queue.health() == ("this process takes no jobs",)
        assert await queue.health(workers=False) == ()
        await queue.start_processing()
        assert await queue.health() == ("no handler is registered",)
        queue.register_handler("quick", quick)
        assert await queue.health() == ()
        await queue.stop_processing()
        assert await queue.health() == ("this process takes no jobs",)


async def test_idle_and_fully_busy_workers_are_well() -> None:
    """Neither having nothing to do nor having no free slot is being stuck."""
    clock = VirtualClock()
    let_go = asyncio.Event()

    async def held(_: JobContext) -> None:
        await let_go.wait()

    async with JobQueueService(MemoryStore(clock=clock), clock=clock) as queue:
        queue.register_handler("held", held)
        await queue.start_processing()
        for _ in range(40):
            await clock.advance(0.5)
            assert await queue.health() == ()
        await queue.add_job("held")
        await until(lambda: queue._worker is not None and queue._worker.running == 1)
        for _ in range(80):
            await clock.advance(0.5)
            assert await queue.health() == ()
        let_go.set()


class Stuck(MemoryStore):
    """A store whose operations can be made to hang, or to fail."""

    hangs = False
    renews = True
    refuse: Callable[[], StoreError] | None = None

    async def exchange(self, *args: object, **options: object):  # type: ignore[no-untyped-def]  # noqa: ANN201
        await self._held()
        return await super().exchange(*args, **options)  # type: ignore[arg-type]

    async def write(self, *args: object) -> None:
        await self._held()
        if self.refuse is not None:
            raise self.refuse()
        await super().write(*args)  # type: ignore[arg-type]

    async def _held(self) -> None:
        while self.hangs:
            await asyncio.sleep(0.001)

    def renew(self, worker: int, memory_bytes: int | None = None) -> bool:
        if not self.renews:
            raise StoreBusyError("locked")
        return super().renew(worker, memory_bytes)


async def test_a_worker_that_cannot_reach_its_store_is_not_well_until_it_can() -> None:
    """An exchange that hangs is noticed by its age, and forgotten when it ends."""
    clock = VirtualClock()
    store = Stuck(clock=clock)
    async with JobQueueService(store, clock=clock) as queue:
        queue.register_handler("quick", quick)
        await queue.start_processing()
        store.hangs = True
        for _ in range(14):
            await clock.advance(0.5)
        asking = asyncio.ensure_future(queue.health())
        await asyncio.sleep(0)
        await clock.advance(2.5)
        found = await asking
        assert any(
            reason.startswith("the worker has not reached the store for") for reason in found
        )
        assert "the store has not taken a write for 2 s" in found
        store.hangs = False

        async def well() -> bool:
            await clock.advance(1)
            return await queue.health() == ()

        await until(well)


async def test_a_worker_that_has_never_reached_its_store_is_not_well() -> None:
    """The age of its first exchange is counted from its start."""
    clock = VirtualClock()
    store = Stuck(clock=clock)
    async with JobQueueService(store, clock=clock) as queue:
        queue.register_handler("quick", quick)
        store.hangs = True
        await queue.start_processing()
        assert queue._worker is not None
        assert worker_faults(queue._worker.pulse(), types=1) == ()
        await clock.advance(7)
        found = worker_faults(queue._worker.pulse(), types=1)
        store.hangs = False

    assert found == ("the worker has not reached the store for 7 s",)


async def test_leases_that_cannot_be_renewed_are_noticed() -> None:
    """Before they end, so that whoever looks can still do something."""
    clock = VirtualClock()
    store = Stuck(clock=clock)
    let_go = asyncio.Event()

    async def held(_: JobContext) -> None:
        await let_go.wait()

    async with JobQueueService(store, clock=clock) as queue:
        queue.register_handler("held", held)
        await queue.start_processing()
        await queue.add_job("held")
        await until(lambda: queue._worker is not None and queue._worker.running == 1)
        store.renews = False
        found: tuple[str, ...] = ()
        for _ in range(50):
            await clock.advance(0.5)
            found = await queue.health()
            if found:
                break
        assert len(found) == 1
        assert found[0].startswith("the leases have not been renewed for 2")
        store.renews = True
        let_go.set()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreFullError("/secret/path"), "the store refuses writes: the disk is full"),
        (StoreReadOnlyError("/secret/path"), "the store refuses writes: it is read-only"),
        (StoreBusyError("x"), "the store refuses writes: others keep it locked"),
        (StoreError("/secret/path"), "the store refuses writes: it has failed"),
    ],
)
async def test_a_store_that_refuses_writes_is_noticed_and_looked_at_again(
    error: StoreError, reason: str
) -> None:
    """The reason names no path; the answer holds for five seconds, then the store is tried again."""
    clock = VirtualClock()
    store = Stuck(clock=clock)
    async with JobQueueService(store, clock=clock) as queue:
        store.refuse = lambda: error
        assert await queue.health(workers=False) == (reason,)
        store.refuse = None
        assert await queue.health(workers=False) == (reason,)
        await clock.advance(5)
        assert await queue.health(workers=False) == ()


async def test_many_who_ask_at_once_cost_one_write() -> None:
    """Probes of a load balancer are no load on the store."""
    async with JobQueueService("memory://") as queue:
        answers = await asyncio.gather(*(queue.health(workers=False) for _ in range(50)))
        assert set(answers) == {()}
        record = await queue.get_record("health", "write")
        assert record is not None
        assert record.version == 1
