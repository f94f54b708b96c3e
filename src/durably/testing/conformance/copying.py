"""Rows out of one store and into another."""

import pytest

from durably.domain.job import JobStatus
from durably.engine.copying import CopyError, copy
from durably.store import Part, Store
from durably.stores.memory import MemoryStore
from durably.testing.clock import VirtualClock
from durably.testing.conformance.support import (
    FINAL,
    add,
    changes,
    check_counts,
    completed,
    event,
    info,
    put,
    report,
    run_to,
    running,
    take_one,
)


async def fill(store: Store, clock: VirtualClock) -> None:
    """One of everything: jobs in every status that outlives a worker, steps, records, events."""
    worker = await store.register(info())
    for status in FINAL:
        await run_to(store, worker, status)
        await clock.advance(50_000)
    for n in range(3):
        await add(
            store, payload={"n": n}, priority=n + 1, unique_key=f"k{n}", tags=["x", "é\U0001f600"]
        )
    await add(store, delay=600)
    other, lease = await running(store, "stepping")
    await store.checkpoint(lease, step=("one", '{"a": [1, 2]}'))
    await report(store, other, completed(lease, {"done": True}))
    await store.write(changes(put("a", value=1), put("b", value=[2]), event("s"), event("t")))
    await store.write(changes(put("a", value=3)))
    await store.pause("slow", paused=True)
    for number in (worker, other):
        await store.resign(number)


async def memory(clock: VirtualClock) -> MemoryStore:
    """An empty store on the other side."""
    store = MemoryStore(clock=clock)
    await store.open()
    return store


class Copying:
    """Mixed into `StoreConformance`."""

    async def test_a_copy_is_equal(self, store: Store, clock: VirtualClock) -> None:
        """Into the store and out of it again: every row of every part, in the same order."""
        first, last = await memory(clock), await memory(clock)
        await fill(first, clock)
        counts = await copy(first, store)
        assert await copy(store, last) == counts

        assert counts == {
            Part.JOBS: 8, Part.STEPS: 1, Part.RECORDS: 2, Part.EVENTS: 2, Part.PAUSED: 1
        }  # fmt: skip
        assert await store.find() == await first.find()
        await check_counts(store, clock)
        await check_counts(last, clock)
        assert await store.events() == await first.events()
        assert await store.records("thing") == await first.records("thing")
        assert await store.count_records("thing") == 2
        assert await store.paused() == frozenset({"slow"})
        for part in Part:
            assert await last.dump(part, after=None, limit=9) == await store.dump(
                part, after=None, limit=9
            )

    async def test_a_copied_store_goes_on(self, store: Store, clock: VirtualClock) -> None:
        """Its jobs run in their order, keys are held, retries work; new ones and events come after."""
        source = await memory(clock)
        await fill(source, clock)
        await copy(source, store)
        await store.write(changes(event("u")))
        new = await add(store, priority=3)
        worker = await store.register(info())
        leases = [await take_one(store, worker, start=1) for _ in range(4)]

        assert [e.id for e in await store.events()] == [1, 2, 3]
        assert leases[1].job_id == new.id
        assert (await add(store, unique_key="k0")).id == leases[3].job_id
        failed = (await store.find(status=JobStatus.FAILED))[0]
        assert (await store.retry(failed.id)).status is JobStatus.PENDING

    async def test_an_interrupted_copy_goes_on(
        self, store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It ends with what was missing; of another source it says which was begun."""
        monkeypatch.setattr("durably.engine.copying.BATCH", 2)
        source, other = await memory(clock), await memory(clock)
        other.url = "memory://other"
        await fill(source, clock)

        def stop(*said: object) -> None:
            if said == ("copying jobs", 6):
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await copy(source, store, told=stop)
        with pytest.raises(CopyError, match="holds part of a copy of memory://"):
            await copy(other, store)
        assert (await copy(source, store))[Part.JOBS] == 8
        assert await store.find() == await source.find()
        with pytest.raises(CopyError, match="the target has jobs of its own"):
            await copy(source, store)

    async def test_a_copy_is_refused_while_jobs_may_run(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """A live worker on either side, by its address."""
        source = await memory(clock)
        worker = await store.register(info())
        with pytest.raises(CopyError, match="workers run on the target \\(host:1\\)"):
            await copy(source, store)
        with pytest.raises(CopyError, match="workers run on the source"):
            await copy(store, source)
        await store.resign(worker)
        assert (await copy(store, source))[Part.JOBS] == 0

    async def test_a_change_during_the_copy_is_found(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """What was copied before it changed does not pass for equal."""
        source = await memory(clock)
        job = await add(source)
        await add(source)

        def change(*said: object) -> None:
            if said[0] == "copying jobs":
                record = next(r for r in source._jobs.values() if r.id == job.id)  # noqa: SLF001
                record.payload = '"changed"'

        with pytest.raises(CopyError, match="the jobs differ \\(2 in the source, 2 in the target"):
            await copy(source, store, told=change)
