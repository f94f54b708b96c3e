"""Which job's attempt added a job, and what the attempts of a job have added."""

from durably.domain.job import JobStatus
from durably.domain.outcome import Outcome
from durably.engine.copying import copy
from durably.store import Store
from durably.stores.memory import MemoryStore
from durably.testing.clock import VirtualClock
from durably.testing.conformance.support import (
    EndOf,
    add,
    changes,
    check_counts,
    completed,
    draft,
    info,
    look,
    of_each_kind,
    put,
    report,
    retried,
    run_to,
    running,
    take_one,
)


class Lineage:
    """Mixed into `StoreConformance`."""

    async def test_what_nobody_asked_for_from_an_attempt_has_no_parent(self, store: Store) -> None:
        """Jobs that were enqueued, alone or with changes, or written."""
        job = await add(store)
        await store.enqueue([draft()], changes(draft()))
        await store.write(changes(draft()))
        found = await store.find()

        assert [each.parent for each in found] == [None] * 4
        assert await store.children(job.id) == []

    @of_each_kind
    async def test_a_follow_up_has_the_job_as_its_parent(self, store: Store, end: EndOf) -> None:
        """However the attempt ended; one with a unique key too."""
        worker, lease = await running(store)
        await report(
            store, worker, end(lease, changes=changes(draft("a"), draft("b", unique_key="k")))
        )
        children = await store.children(lease.job_id)

        assert [(job.type, job.parent) for job in children] == [
            ("a", lease.job_id),
            ("b", lease.job_id),
        ]
        assert children == [await look(store, job) for job in children]

    async def test_every_way_of_an_attempt_counts(self, store: Store, clock: VirtualClock) -> None:
        """Its checkpoint, its failure, the outcome of a later attempt in `complete`; oldest first."""
        worker, lease = await running(store)
        await store.checkpoint(lease, changes=changes(draft("one")))
        await report(store, worker, retried(lease, changes=changes(draft("two"))))
        lease = await take_one(store, worker)
        outcome: Outcome = completed(lease, changes=changes(draft("three"), draft("four")))
        async with store.complete(lease, lambda: outcome):
            pass
        children = await store.children(lease.job_id)

        assert [job.type for job in children] == ["one", "two", "three", "four"]
        assert await store.children(lease.job_id, limit=3) == children[:3]
        await check_counts(store, clock)

    async def test_outcomes_of_one_exchange_keep_their_children_apart(self, store: Store) -> None:
        """Each is its own job's; a child has children of its own, and no grandchildren."""
        one, first = await running(store, "a")
        _, second = await running(store, "b")
        await store.exchange(
            one,
            outcomes=[
                completed(first, changes=changes(draft("c"))),
                completed(second, changes=changes(draft("d"))),
            ],
        )
        child = await take_one(store, one, "c")
        await report(store, one, completed(child, changes=changes(draft("e"))))

        for parent, kind in ((first, "c"), (second, "d"), (child, "e")):
            assert [job.type for job in await store.children(parent.job_id)] == [kind]

    async def test_a_job_found_by_its_key_keeps_its_parent(self, store: Store) -> None:
        """Also none: it is not the attempt that added it."""
        held = await add(store, "held", unique_key="k")
        worker, lease = await running(store)
        await report(
            store, worker, completed(lease, changes=changes(draft("held", unique_key="k")))
        )

        assert (await look(store, held)).parent is None
        assert await store.children(lease.job_id) == []

    async def test_a_refused_attempt_has_no_children(self, store: Store) -> None:
        """Neither after a conflict nor after the lease was lost."""
        worker, lease = await running(store)
        conflict = completed(lease, changes=changes(draft(), put("a", expect=9)))
        await store.exchange(worker, outcomes=[conflict])
        await store.resign(worker)
        await store.exchange(
            await store.register(info()), outcomes=[completed(lease, changes=changes(draft()))]
        )

        assert await store.children(lease.job_id) == []

    async def test_a_child_stays_one(self, store: Store, clock: VirtualClock) -> None:
        """Through its end and a retry, and when its parent has been removed."""
        worker, lease = await running(store)
        await report(store, worker, completed(lease, changes=changes(draft("child"))))
        await clock.advance(10)
        child = await take_one(store, worker, "child")
        await report(store, worker, completed(child))
        ended = await store.children(lease.job_id)
        await store.retry(child.job_id)
        again = await store.children(lease.job_id)
        removed = await store.cleanup(5.0)

        assert [job.status for job in (*ended, *again)] == [
            JobStatus.COMPLETED,
            JobStatus.PENDING,
        ]
        assert removed == 1
        assert await store.children(lease.job_id) == again
        assert again[0].parent == lease.job_id

    async def test_children_are_listed_in_any_status(self, store: Store) -> None:
        """By age, the live among the final."""
        worker, lease = await running(store, "parent")
        kinds = [str(n) for n in range(4)]
        await report(store, worker, completed(lease, changes=changes(*map(draft, kinds))))
        for kind in ("2", "0"):
            await report(store, worker, completed(await take_one(store, worker, kind)))
        children = await store.children(lease.job_id)

        assert [job.type for job in children] == kinds
        assert [job.status.is_final for job in children] == [True, False, True, False]
        assert await store.children(lease.job_id, limit=1) == children[:1]

    async def test_a_copy_keeps_children(self, store: Store, clock: VirtualClock) -> None:
        """Out of the store and into another."""
        await run_to(store, await store.register(info()), JobStatus.COMPLETED)
        worker, lease = await running(store)
        await report(store, worker, completed(lease, changes=changes(draft("a"), draft("b"))))
        for state in await store.workers():
            await store.resign(state.id)
        target = MemoryStore(clock=clock)
        await target.open()
        await copy(store, target)

        assert len(await target.children(lease.job_id)) == 2
        assert await target.children(lease.job_id) == await store.children(lease.job_id)
