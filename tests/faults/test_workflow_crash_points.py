"""One instance's life, killed at every single call to the store and the provider.

From the fatal call on, which is carried out or not, the process does nothing any more. Another one
on the same store then brings everything to its end: one create call, at most one billed instance,
one terminal event, every webhook delivered.
"""

import asyncio
import builtins
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
import pytest
from tests.instances.support import FAST, LONG_S, REQUEST, SECRET, Receiver, receiving

from durably import JobQueueService, StoreError, SystemClock, open_store
from durably.instances import Instance, InstanceStatus, JobWorkerService, NovitaClient
from durably.instances.provider import (
    BillingMode,
    Cluster,
    CreateRequest,
    OutcomeUnknown,
    Product,
    Template,
    Upstream,
)
from durably.instances.simulator import Simulator, SimulatorSettings
from durably.testing import Call, Fault, FaultyStore, until

READY, TERMINATED = InstanceStatus.READY, InstanceStatus.TERMINATED
AT_ONCE = 6
"""Runs side by side: each mostly waits."""
SETTINGS: dict[str, Any] = {
    "poll_interval": 0.05,
    "max_wait_time": LONG_S,
    "retry_base_delay": 0.05,
    "reconcile_interval": 3_600.0,
    "novita_timeout": 0.3,
    "webhook_secret": SECRET,
    "webhook_allow": ("127.0.0.1",),
}
T = TypeVar("T")
_ENGINE_S_OWN = {"register", "rescue", "resign", "renew"}
"""Operations that know of no job: to die at them is to die beside them."""


class Life:
    """A process that dies at its *calls*-th call, counted from `begin`.

    Args:
        calls: 1 for the first.
        applied: whether that call is carried out, and only its reply lost.
    """

    def __init__(self, calls: int, *, applied: bool) -> None:
        self.over = asyncio.Event()
        self._left = calls
        self._fault = Fault.FAIL_AFTER if applied else Fault.FAIL_BEFORE
        self._counting = False

    def begin(self) -> None:
        self._counting = True

    def next_call(self, call: Call | None = None) -> Fault | None:
        """What becomes of the next call."""
        if self.over.is_set():
            return Fault.FAIL_BEFORE
        if call is not None and call.name in _ENGINE_S_OWN:
            return None
        self._left -= self._counting
        if self._left > 0:
            return None
        self.over.set()
        return self._fault


class MortalProvider:
    """The provider as a process sees it that may die."""

    def __init__(self, provider: NovitaClient, life: Life) -> None:
        self._provider = provider
        self._life = life

    async def clusters(self) -> builtins.list[Cluster]:
        return await self._call(self._provider.clusters)

    async def products(self, name: str, *, billing: BillingMode) -> builtins.list[Product]:
        return await self._call(lambda: self._provider.products(name, billing=billing))

    async def template(self, template_id: str | int) -> Template:
        return await self._call(lambda: self._provider.template(template_id))

    async def create(self, request: CreateRequest) -> str:
        return await self._call(lambda: self._provider.create(request))

    async def get(self, upstream_id: str) -> Upstream | None:
        return await self._call(lambda: self._provider.get(upstream_id))

    async def start(self, upstream_id: str) -> None:
        await self._call(lambda: self._provider.start(upstream_id))

    async def stop(self, upstream_id: str) -> None:
        await self._call(lambda: self._provider.stop(upstream_id))

    async def delete(self, upstream_id: str) -> None:
        await self._call(lambda: self._provider.delete(upstream_id))

    async def list(self, *, name: str | None = None) -> builtins.list[Upstream]:
        return await self._call(lambda: self._provider.list(name=name))

    async def close(self) -> None:
        await self._provider.close()

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        fault = self._life.next_call()
        if fault is Fault.FAIL_BEFORE:
            raise OutcomeUnknown("the process is dead")
        result = await call()
        if fault is not None or self._life.over.is_set():
            raise OutcomeUnknown("the process is dead")
        return result


class World:
    """What outlives a process: store, provider, receiver."""

    def __init__(self, url: str, simulator: Simulator, receiver: Receiver) -> None:
        self.url = url
        self.simulator = simulator
        self.receiver = receiver

    @asynccontextmanager
    async def process(self, life: Life) -> AsyncIterator[tuple[JobWorkerService, "Observer"]]:
        """A process with that life. What it holds when it dies it leaves as it is."""
        store = open_store(self.url, clock=SystemClock())
        client = NovitaClient("sim-key", base_url=self.simulator.base_url, timeout=5.0)
        mortal = FaultyStore(store, life.next_call)
        async with (
            JobQueueService(store) as watched,
            JobQueueService(mortal, concurrency=4, processing_interval=0.2) as queue,
        ):
            service = JobWorkerService(queue, provider=MortalProvider(client, life), **SETTINGS)
            try:
                yield service, Observer(watched, JobWorkerService(watched, provider=client))
            finally:
                await service.stop(timeout=0)
                await client.close()

    async def billing(self) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.simulator.control_url}/billing") as response,
        ):
            return await response.json()


@asynccontextmanager
async def a_world(folder: Path) -> AsyncIterator[World]:
    async with (
        receiving() as receiver,
        # What was just made is not listed yet: it must not be made again.
        Simulator(SimulatorSettings(durations=FAST, list_lag=0.2)) as simulator,
    ):
        yield World(f"sqlite:///{folder}/jobs.db", simulator, receiver)


class Observer:
    """Looks at the only instance there is, at no cost of anybody's calls."""

    def __init__(self, queue: JobQueueService, service: JobWorkerService) -> None:
        self._queue = queue
        self._service = service

    async def instance(self) -> Instance | None:
        page = await self._service.list()
        assert page.total <= 1
        return page.instances[0] if page.instances else None

    async def topics(self) -> list[str]:
        return [event.topic for event in await self._queue.get_events()]

    async def sees(self, status: InstanceStatus) -> None:
        """Wait until the instance has that status, and all of its webhooks are delivered."""

        async def seen() -> bool:
            instance = await self.instance()
            if instance is None or instance.status is not status or instance.operation is not None:
                return False
            deliveries = await self._service.deliveries(instance.id)
            return all(delivery.status == "delivered" for delivery in deliveries)

        await until(seen, timeout=LONG_S)


async def create(world: World, service: JobWorkerService, observer: Observer) -> None:
    """Ask for an instance whose port is probed, unless that has been accepted."""
    if await observer.instance() is None:
        request = msgspec.structs.replace(
            REQUEST, template_id="107672", webhook_url=world.receiver.url
        )
        await service.create_instance(request)


async def delete(service: JobWorkerService, observer: Observer) -> None:
    """Ask for the instance to be deleted."""
    instance = await observer.instance()
    assert instance is not None
    await service.delete_instance(instance.id)


async def die(life: Life, story: Awaitable[None]) -> bool:
    """Live *story* until it ends or the process dies; whether it has died."""

    async def tell() -> None:
        try:
            await story
        except StoreError:
            assert life.over.is_set()

    telling = asyncio.ensure_future(tell())
    dying = asyncio.ensure_future(life.over.wait())
    await asyncio.wait([telling, dying], return_when=asyncio.FIRST_COMPLETED)
    died = life.over.is_set()
    for task in (telling, dying):
        task.cancel()
    await asyncio.gather(telling, dying, return_exceptions=True)
    life.over.set()
    return died


def immortal() -> Life:
    return Life(1, applied=True)


async def creation(folder: Path, call: int, *, applied: bool) -> bool:
    """Die at a call of a creation, and let another process end it; whether there was such a call."""
    life = Life(call, applied=applied)
    async with a_world(folder) as world:
        async with world.process(life) as (service, observer):

            async def story() -> None:
                life.begin()
                await service.start()
                await create(world, service, observer)
                await observer.sees(READY)

            died = await die(life, story())
        async with world.process(immortal()) as (service, observer):
            await service.start()
            await create(world, service, observer)
            await observer.sees(READY)
            await check(world, observer, "creating", "health_checking", "ready")
            assert (await world.billing())["billingNow"] == 1
    return died


async def deletion(folder: Path, call: int, *, applied: bool) -> bool:
    """Die at a call of a deletion, and let another process end it; whether there was such a call."""
    life = Life(call, applied=applied)
    async with a_world(folder) as world:
        async with world.process(life) as (service, observer):

            async def story() -> None:
                await service.start()
                await create(world, service, observer)
                await observer.sees(READY)
                life.begin()
                await delete(service, observer)
                await observer.sees(TERMINATED)

            died = await die(life, story())
        async with world.process(immortal()) as (service, observer):
            await service.start()
            await delete(service, observer)
            await observer.sees(TERMINATED)
            await check(world, observer, "creating", "health_checking", "ready", "terminated")
            assert (await world.billing())["billingNow"] == 0
    return died


async def check(world: World, observer: Observer, *told: str) -> None:
    """One create call; each event once on the timeline, and received in that order."""
    webhooks = [f"instance.{word}" for word in told]
    topics = await observer.topics()
    received = {event["id"]: event["type"] for event in world.receiver.events}

    assert [topic for topic in topics if topic in webhooks] == webhooks
    assert not {"instance.failed", "instance.timeout"} & {*topics}
    assert [*received.values()] == webhooks
    assert (await world.billing())["created"] == 1


@pytest.mark.parametrize("applied", [False, True], ids=["not-applied", "reply-lost"])
@pytest.mark.parametrize("story", [creation, deletion], ids=["creation", "deletion"])
async def test_whenever_a_process_dies_another_one_ends_what_it_began(
    story: Callable[..., Awaitable[bool]], applied: bool, tmp_path: Path
) -> None:
    """Whichever call is the last, the user gets one instance or none, and is told so once."""
    slots = asyncio.Semaphore(AT_ONCE)
    survived = asyncio.Event()
    deaths = 0

    async def run(call: int) -> None:
        nonlocal deaths
        async with slots:
            if survived.is_set():
                return
            folder = tmp_path / str(call)
            folder.mkdir()
            try:
                if await story(folder, call, applied=applied):
                    deaths += 1
                else:
                    survived.set()
            except BaseException as error:
                error.add_note(f"the process died at call {call}")
                raise

    async with asyncio.TaskGroup() as group:
        for call in range(1, 500):
            group.create_task(run(call))

    assert survived.is_set()
    assert deaths > 10
