"""The watch: who is woken by what changes upstream, and when; in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from durably import Job, JobQueueService, JobStatus
from durably.instances import BillingMode, Instance, InstanceStatus, JobWorkerService, Operation
from durably.instances.jobs import MONITOR, MonitorInstanceJob
from durably.instances.leadership import LEASE_S, LOOK_S, Leadership
from durably.instances.monitor import RESTS
from durably.instances.provider import (
    ProviderError,
    ProviderUnavailable,
    Upstream,
    UpstreamStatus,
)
from durably.instances.records import Loaded
from durably.instances.upstream import Snapshot
from durably.instances.watch import Watch, changed
from durably.store import Store
from durably.stores.memory import MemoryStore
from durably.testing import Fault, FaultyStore, VirtualClock, on_call

AT = datetime(2026, 1, 1, tzinfo=UTC)
INTERVAL = 30.0
MAX_WAIT = 2 * RESTS * INTERVAL
MOMENT = 1.0
"""Within which a worker has done what is ready."""
PULLING = UpstreamStatus.PULLING
RUNNING = UpstreamStatus.RUNNING


class Provider:
    """A dictionary of instances that counts what it is asked."""

    def __init__(self) -> None:
        self.instances: dict[str, Upstream] = {}
        self.unlisted: set[str] = set()
        self.trouble: ProviderError | None = None
        self.lists = 0
        self.gets = 0
        self.deletes: list[str] = []

    def set(self, upstream_id: str, **fields: Any) -> None:
        """Change one."""
        self.instances[upstream_id] = msgspec.structs.replace(self.instances[upstream_id], **fields)

    async def list(self, *, name: str | None = None) -> list[Upstream]:
        self.lists += 1
        if self.trouble is not None:
            raise self.trouble
        found = (one for one in self.instances.values() if one.id not in self.unlisted)
        return [one for one in found if name in {None, one.name}]

    async def get(self, upstream_id: str) -> Upstream | None:
        self.gets += 1
        return self.instances.get(upstream_id)

    async def delete(self, upstream_id: str) -> None:
        self.deletes.append(upstream_id)


class Process:
    """One process with the service."""

    def __init__(self, store: Store, clock: VirtualClock, provider: Provider) -> None:
        self.queue = JobQueueService(store, clock=clock, concurrency=8)
        self.service = JobWorkerService(
            self.queue,
            provider=provider,  # type: ignore[arg-type]  # it is asked for nothing else
            poll_interval=INTERVAL,
            max_wait_time=MAX_WAIT,
            reconcile_interval=1e6,
            clock=clock,
        )


class World(Process):
    """A process, started, and the time and the provider that it shares with others."""

    def __init__(self, store: Store, clock: VirtualClock) -> None:
        self.store = store
        self.clock = clock
        self.provider = Provider()
        super().__init__(store, clock, self.provider)

    async def starting(self, *, named: str | None = None, key: str | None = None) -> Instance:
        """An instance that is coming up, known upstream, and its monitor."""
        number = len(self.provider.instances)
        now = self.service._records.now()
        instance = Instance(
            id=f"inst_{number}",
            name="web-1",
            product_name="RTX 4090 24GB",
            template_id="bare",
            gpu_num=1,
            rootfs_size=60,
            region="CN-HK-01",
            billing_mode=BillingMode.SPOT,
            operation=Operation.CREATE,
            operation_at=now,
            created_at=now,
            novita_instance_id=f"up-{number}",
        )
        name = named or await self.service._records.upstream_name(instance.id)
        self.provider.instances[f"up-{number}"] = Upstream(
            id=f"up-{number}", name=name, status=PULLING
        )
        changes = self.queue.changeset()
        edit = self.service._records.edit(changes, Loaded(instance, 0))
        edit.move(InstanceStatus.STARTING)
        if key is None:
            edit.enqueue_monitor(self.service.settings)
        else:
            payload = MonitorInstanceJob(instance_id=instance.id)
            job = changes.add_job(MONITOR, payload, unique_key=key)
            edit.set(jobs={MONITOR: job.id})
        edit.write()
        await self.queue.commit(changes)
        return edit.instance

    async def ticks(self, number: int = 1) -> None:
        """Let so many intervals pass, and the moment in which what was woken acts."""
        await self.clock.advance(number * INTERVAL)

    async def status(self, instance: Instance) -> InstanceStatus:
        found = await self.service.get(instance.id)
        assert found is not None
        return found.status

    async def monitor(self, instance: Instance) -> Job:
        job = await self.queue.get_job(instance.jobs[MONITOR])
        assert job is not None
        return job


@asynccontextmanager
async def process(running: Process, *, started: bool = True) -> AsyncIterator[None]:
    async with running.queue:
        if started:
            await running.service.start()
        try:
            yield
        finally:
            await running.service.stop(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Started, and a moment past a tick: the reconciler has made its first round."""
    clock = VirtualClock()
    world = World(MemoryStore(clock=clock), clock)
    async with process(world):
        await clock.advance(MOMENT)
        yield world


async def asleep_until(world: World, instance: Instance) -> datetime:
    """When its monitor looks by itself."""
    job = await world.monitor(instance)
    assert job.status is JobStatus.PENDING
    assert job.run_at is not None
    return job.run_at


async def asleep(world: World, instance: Instance) -> datetime:
    """The same, for one that sleeps for longer than to the next tick."""
    until = await asleep_until(world, instance)
    assert until > world.service._records.now() + timedelta(seconds=2 * INTERVAL)
    return until


# Sleeping


async def test_a_monitor_sleeps_while_nothing_changes(world: World) -> None:
    """One look at the first tick; from then on one list an interval, and the job is left alone."""
    instance = await world.starting()
    await world.ticks()
    until = await asleep(world, instance)
    lists = world.provider.lists
    await world.ticks(10)

    assert await asleep(world, instance) == until
    assert world.provider.lists == lists + 10
    assert world.provider.gets == 0


async def test_a_sleeping_monitor_looks_now_and_then(world: World) -> None:
    """After so many intervals it looks by itself, and sleeps again."""
    instance = await world.starting()
    await world.ticks()
    until = await asleep(world, instance)
    await world.ticks(RESTS)

    assert until == AT + timedelta(seconds=(RESTS + 1) * INTERVAL)
    assert await asleep(world, instance) > until


async def test_a_monitor_sleeps_at_most_until_its_deadline(world: World) -> None:
    """Then it looks, and only then is it too late."""
    instance = await world.starting()
    await world.ticks(2 * RESTS - 1)
    deadline = AT + timedelta(seconds=MOMENT + world.service.max_wait_time)
    assert await asleep_until(world, instance) == deadline
    await world.ticks(2)

    assert await world.status(instance) is InstanceStatus.FAILED


async def test_a_missed_change_is_found_by_the_reconciler(world: World) -> None:
    """Whatever the watch has not told: each round wakes the monitors that have news."""
    running, vanished, other = [await world.starting() for _ in range(3)]
    await world.ticks(2)
    until = await asleep(world, other)
    world.provider.set("up-0", status=RUNNING)
    del world.provider.instances["up-1"]
    await world.service.reconcile()
    await world.clock.advance(MOMENT)

    assert await world.status(running) is InstanceStatus.READY
    assert world.provider.gets == 1
    assert await asleep(world, other) == until
    await world.ticks(2)
    assert await world.status(vanished) is InstanceStatus.FAILED


async def test_without_monitors_nothing_is_listed(world: World) -> None:
    """Not before the first, nor after the last has ended."""
    lists = world.provider.lists
    await world.ticks(5)
    assert world.provider.lists == lists

    instance = await world.starting()
    await world.ticks()
    world.provider.set("up-0", status=RUNNING)
    await world.ticks()
    lists = world.provider.lists
    assert await world.status(instance) is InstanceStatus.READY
    await world.ticks(5)
    assert world.provider.lists == lists


# Waking


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"status": RUNNING}, InstanceStatus.READY),
        ({"status_error": "no space left"}, InstanceStatus.FAILED),
        ({"status": UpstreamStatus.EXITED}, InstanceStatus.FAILED),
        ({"status": UpstreamStatus.REMOVED}, InstanceStatus.FAILED),
        ({"spot_status": "reclaiming"}, InstanceStatus.FAILED),
    ],
    ids=str,
)
async def test_a_change_is_acted_on_at_the_next_tick(
    world: World, change: dict[str, Any], expected: InstanceStatus
) -> None:
    """Whatever it is; the monitors of the others sleep on."""
    instance, other = await world.starting(), await world.starting()
    await world.ticks(3)
    until = await asleep(world, other)
    world.provider.set("up-0", **change)
    await world.ticks()

    assert await world.status(instance) is expected
    assert await asleep(world, other) == until


async def test_an_instance_that_vanishes_is_asked_for(world: World) -> None:
    """Missing from the list it is looked up by itself; denied twice, an interval apart, it is gone."""
    instance = await world.starting()
    await world.ticks(3)
    del world.provider.instances["up-0"]
    await world.ticks()
    asked = world.provider.gets
    before = await world.status(instance)
    await world.ticks(2)

    assert asked == 1
    assert before is InstanceStatus.STARTING
    assert await world.status(instance) is InstanceStatus.FAILED


async def test_an_instance_that_the_list_forgets_is_asked_for_at_every_tick(world: World) -> None:
    """As long as it is missing there; listed again, its monitor sleeps again."""
    instance = await world.starting()
    world.provider.unlisted.add("up-0")
    await world.ticks(4)
    assert world.provider.gets == 4

    world.provider.unlisted.clear()
    await world.ticks()
    await asleep(world, instance)
    assert world.provider.gets == 4


@pytest.mark.parametrize("lost", [{"named": "by-hand"}, {"key": "another"}], ids=str)
async def test_whom_the_watch_cannot_name_looks_at_every_tick(
    world: World, lost: dict[str, str]
) -> None:
    """A name or a key that is not the service's own: its change is seen as soon all the same."""
    instance = await world.starting(**lost)
    await world.ticks(3)
    world.provider.set("up-0", status=RUNNING)
    await world.ticks()

    assert await world.status(instance) is InstanceStatus.READY


async def test_an_instance_that_is_given_another_name_is_looked_at_from_then_on(
    world: World,
) -> None:
    """By its own monitor, which the watch can name no more."""
    instance = await world.starting()
    await world.ticks(2)
    world.provider.set("up-0", name="somebody-elses")
    await world.ticks()
    world.provider.set("up-0", status=RUNNING)
    await world.ticks()

    assert await world.status(instance) is InstanceStatus.READY


async def test_what_changes_while_its_monitor_is_at_work_is_told_again(world: World) -> None:
    """Held at the first telling, and put to sleep after it, the monitor is woken at the next tick."""
    instance = await world.starting()
    await world.ticks(2)
    world.provider.set("up-0", status=RUNNING)
    # As if the monitor had been at work just then, with an older list.
    woken: list[int] = []
    wake = world.store.wake

    async def deaf(type: str, unique_keys: Sequence[str]) -> int:
        woken.append(len(unique_keys))
        return 0 if len(woken) == 1 else await wake(type, unique_keys)

    world.store.wake = deaf  # type: ignore[method-assign]
    await world.ticks()
    first = await world.status(instance)
    await world.ticks()

    assert first is InstanceStatus.STARTING
    assert await world.status(instance) is InstanceStatus.READY
    await world.starting()
    await world.ticks(3)
    assert woken == [1, 1]


# Trouble


async def test_a_change_is_not_lost_while_the_list_fails(world: World) -> None:
    """The next list that comes is held against the last one that came."""
    instance = await world.starting()
    await world.ticks(2)
    world.provider.set("up-0", status=RUNNING)
    world.provider.trouble = ProviderUnavailable("down")
    await world.ticks(2)
    before = await world.status(instance)
    world.provider.trouble = None
    await world.ticks()

    assert before is InstanceStatus.STARTING
    assert await world.status(instance) is InstanceStatus.READY


async def test_a_provider_that_asks_for_it_is_left_alone(world: World) -> None:
    """For as long as it said; then the watch goes on, at a tick."""
    instance = await world.starting()
    await world.ticks(2)
    world.provider.trouble = ProviderUnavailable("slow down", retry_after=2.5 * INTERVAL)
    await world.ticks()
    world.provider.trouble = None
    world.provider.set("up-0", status=RUNNING)
    lists = world.provider.lists
    await world.ticks(2)
    assert world.provider.lists == lists
    await world.ticks()

    assert world.provider.lists == lists + 1
    assert await world.status(instance) is InstanceStatus.READY


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.FAIL_AFTER])
async def test_a_wake_that_fails_is_repeated(fault: Fault, caplog: Any) -> None:
    """The store was in trouble: at the next tick the same is told."""
    clock = VirtualClock()
    store = FaultyStore(MemoryStore(clock=clock))
    world = World(store, clock)
    async with process(world):
        instance = await world.starting()
        await world.ticks(2)
        world.provider.set("up-0", status=RUNNING)
        store.plan = on_call(1, fault, "wake")
        await world.ticks()
        store.plan = lambda _: None
        await world.ticks()

        assert await world.status(instance) is InstanceStatus.READY
    assert "the watch stumbled" in caplog.text


async def test_of_two_processes_one_lists(world: World) -> None:
    """The other's monitors are woken by the same watch."""
    other = Process(world.store, world.clock, world.provider)
    async with process(other):
        for _ in range(4):
            await world.starting()
        await world.ticks(2)
        lists = world.provider.lists
        await world.ticks(5)

        assert world.provider.lists == lists + 5


async def test_another_takes_the_watch_over() -> None:
    """What changes after the leader has died is seen by the next, and also what vanished meanwhile."""
    clock = VirtualClock()
    first = World(MemoryStore(clock=clock), clock)
    second = Process(first.store, clock, first.provider)
    async with first.queue:
        await first.service.start()
        await clock.advance(MOMENT)
        async with process(second):
            instance, vanishing = await first.starting(), await first.starting()
            await first.ticks(2)
            await first.service.stop(0)
            first.provider.set("up-0", status=RUNNING)
            del first.provider.instances["up-1"]
            await first.ticks()
            assert await first.status(instance) is InstanceStatus.READY

            # No list of the second has shown it: its first round holds records against the list.
            await first.ticks(2)
            assert await first.status(vanishing) is InstanceStatus.FAILED


async def test_who_leads_again_compares_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that led, was frozen, and leads again: what vanished as the other died is found at once."""
    clock = VirtualClock()
    first = World(MemoryStore(clock=clock), clock)
    second = Process(first.store, clock, first.provider)
    leadership = first.service._reconciler._leadership

    async def frozen() -> int | None:
        return None

    async with process(first):
        await clock.advance(MOMENT)
        async with process(second):
            with monkeypatch.context() as patched:
                patched.setattr(leadership, "term", frozen)
                leadership.leads = False
                await clock.advance(LEASE_S + 2 * LOOK_S)
            vanishing = await first.starting()
            await first.ticks(2)
            await second.service.stop(0)
            del first.provider.instances["up-0"]
            await first.ticks(3)

            assert await first.status(vanishing) is InstanceStatus.FAILED


async def test_a_round_that_takes_long_does_not_cost_the_lead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The leader goes on saying that it leads: no other process begins the same round."""
    clock = VirtualClock()
    first = World(MemoryStore(clock=clock), clock)
    second = Process(first.store, clock, first.provider)
    rounds: list[str] = []

    async def slow(name: str) -> None:
        rounds.append(name)
        await clock.wait(asyncio.Event(), 10 * LEASE_S)

    for name, one in (("first", first), ("second", second)):
        monkeypatch.setattr(one.service._reconciler, "run_once", partial(slow, name))
    async with process(first):
        await clock.advance(MOMENT)
        async with process(second):
            await clock.advance(3 * LEASE_S)

            assert rounds == ["first"]
            assert first.service._reconciler._leadership.leads


async def test_without_a_watch_a_monitor_looks_by_itself() -> None:
    """A service that was not started leads nothing: changes are seen late, and are seen."""
    clock = VirtualClock()
    world = World(MemoryStore(clock=clock), clock)
    async with process(world, started=False):
        await world.queue.start_processing()
        instance = await world.starting()
        await world.ticks(2)
        world.provider.set("up-0", status=RUNNING)
        await world.ticks(RESTS)

        assert await world.status(instance) is InstanceStatus.READY


async def test_the_watch_has_a_list_of_its_tick(world: World) -> None:
    """One that was read for another reason, shortly before, is too old: the change came after it."""
    instance = await world.starting()
    await world.ticks(2)
    await world.clock.advance(INTERVAL - 10)
    await world.service._tools.view.read(0)
    world.provider.set("up-0", status=RUNNING)
    await world.clock.advance(10)

    assert await world.status(instance) is InstanceStatus.READY


async def test_who_takes_the_lead_again_begins_afresh() -> None:
    """A list from before another led is no measure: all that is not coming up is told again."""
    clock = VirtualClock()
    world = World(MemoryStore(clock=clock), clock)
    leadership = Leadership(world.queue, clock)
    watch = Watch(world.queue, world.service._tools, clock, leadership)
    told: list[int] = []

    async def wake(type: str, unique_keys: Sequence[str]) -> int:
        assert type == MONITOR
        told.append(len(unique_keys))
        return 0

    world.queue.wake = wake  # type: ignore[method-assign]
    async with process(world, started=False):
        await world.starting()
        world.provider.set("up-0", status=RUNNING)
        for leads in (True, True, True, False, True):
            leadership.leads = leads
            await watch.run_once()
            await world.ticks()

    assert told == [1, 1, 0, 1]


async def test_a_look_at_a_tick_is_at_a_list_of_that_tick() -> None:
    """One that this process has read for another reason, shortly before, is too old."""
    clock = VirtualClock()
    world = World(MemoryStore(clock=clock), clock)
    async with process(world, started=False):
        await world.queue.start_processing()
        instance = await world.starting()
        await clock.advance(INTERVAL - 10)
        await world.service._tools.view.read(0)
        world.provider.set("up-0", status=RUNNING)
        await clock.advance(10)

        assert await world.status(instance) is InstanceStatus.READY


# What has changed


def snapshot(*instances: Upstream) -> Snapshot:
    return Snapshot(at=AT, instances={one.id: one for one in instances})


def upstream(status: UpstreamStatus, **fields: Any) -> Upstream:
    return Upstream(**{"id": "up-0", "name": "n", "status": status, **fields})


def test_what_is_coming_up_is_no_news() -> None:
    """From one of these statuses to the next: nobody is woken for it."""
    assert list(changed(None, snapshot(upstream(PULLING)))) == []
    before = snapshot(upstream(UpstreamStatus.CREATING))
    assert list(changed(before, snapshot(upstream(PULLING)))) == []


@pytest.mark.parametrize(
    "news",
    [
        upstream(RUNNING),
        upstream(UpstreamStatus.EXITED),
        upstream(UpstreamStatus.REMOVING),
        upstream(PULLING, status_error="broken"),
        upstream(PULLING, spot_status="terminated"),
    ],
    ids=str,
)
def test_what_is_not_just_coming_up_is_told_once(news: Upstream) -> None:
    """When it is new, or new to who has no list yet; and not again while it stays so."""
    now = snapshot(news)

    assert list(changed(None, now)) == [news]
    assert list(changed(snapshot(), now)) == [news]
    assert list(changed(snapshot(upstream(PULLING)), now)) == [news]
    assert list(changed(now, now)) == []


def test_what_changes_again_is_told_again() -> None:
    """Exited, and running at the next look: somebody has started it."""
    running = upstream(RUNNING)

    assert list(changed(snapshot(upstream(UpstreamStatus.EXITED)), snapshot(running))) == [running]


def test_what_is_missing_is_told() -> None:
    """Whatever it was before."""
    gone = upstream(PULLING)

    assert list(changed(snapshot(gone), snapshot())) == [gone]
