"""Many instances, two services on one store, users who change their minds, and faults everywhere."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from tests.instances.support import FAST, FAST_SERVICE, LONG_S, World, serving

from durably import JobQueueService
from durably.instances import Instance, InstanceConflictError, InstanceStatus, JobWorkerService
from durably.instances.simulator import SimulatorSettings
from durably.testing import until

INSTANCES = 24
FAULTS = (
    "*:error:status=503,probability=0.08",
    "*:reset:probability=0.04",
    "*:rate_limit:retry_after=0,probability=0.05",
    "create:lost_reply:probability=0.25",
    "create:slow:seconds=0.5,probability=0.1",
    "create:slow:seconds=0.5,apply=end,probability=0.1",
    "create:status_error:probability=0.1",
    "create:no_stock:probability=0.1",
    "create:spot_reclaim:probability=0.05,seconds=0,notice=0,reclaiming=0.5",
    "start:lost_reply:probability=0.2",
    "stop:lost_reply:probability=0.2",
    "delete:lost_reply:probability=0.2",
)
OPTIONS: dict[str, Any] = {"poll_interval": 0.1, "reconcile_interval": 0.4, "novita_timeout": 0.4}


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_request_ends_with_one_billed_instance_or_none(
    seed: int, sqlite_url: str
) -> None:
    """Whatever fails when: records and provider agree, and every creation has one end."""
    random = Random(seed)
    lagging = SimulatorSettings(durations=FAST, list_lag=0.3, seed=seed)
    async with serving(
        lagging, store=sqlite_url, concurrency=16, faults=FAULTS, **OPTIONS
    ) as world:
        async with JobQueueService(sqlite_url, concurrency=16, processing_interval=0.05) as queue:
            options = {**FAST_SERVICE, **OPTIONS}
            other = JobWorkerService(queue, provider=world.provider, **options)
            await other.start()
            asked = [
                await world.create(template_id=random.choice(["bare", "107672"]))
                for _ in range(INSTANCES)
            ]
            await asyncio.gather(*(meddle(world, one, random) for one in asked))
            await until(lambda: are_settled(world, asked), timeout=4 * LONG_S)
            await until(lambda: agree(world, asked), timeout=LONG_S)
            await other.stop()

        for one in asked:
            await check_events(world, one)


async def meddle(world: World, instance: Instance, random: Random) -> None:
    """Do what some users do, some time or other."""
    wait, choice = random.uniform(0, 2), random.random()
    await asyncio.sleep(wait)
    operation: Callable[[str], Awaitable[Instance]] | None = None
    if choice < 0.3:
        operation = world.service.delete_instance
    elif choice < 0.5:
        operation = world.service.stop_instance
    with suppress(InstanceConflictError):
        if operation is not None:
            await operation(instance.id)


async def are_settled(world: World, instances: list[Instance]) -> bool:
    """Whether nothing is being done, and nothing is left to be told."""
    for instance in instances:
        if (await world.get(instance)).operation is not None:
            return False
        deliveries = await world.service.deliveries(instance.id)
        if any(delivery.status != "delivered" for delivery in deliveries):
            return False
    return True


async def agree(world: World, instances: list[Instance]) -> bool:
    """Whether exactly what the records want exists upstream."""
    existing: defaultdict[str, list[str]] = defaultdict(list)
    for one in await world.upstream():
        existing[one["name"].rpartition("-")[2]].append(one["id"])
    wanted = defaultdict(list)
    for instance in instances:
        found = await world.get(instance)
        if found.status in {InstanceStatus.READY, InstanceStatus.STOPPED}:
            assert found.novita_instance_id is not None
            wanted[found.id].append(found.novita_instance_id)
    return existing == wanted


async def check_events(world: World, instance: Instance) -> None:
    """One end of the creation, first attempts in sequence, and nothing told twice by two ids."""
    events = await world.queue.get_events(subject=instance.id)
    ends = [e for e in events if e.topic in {f"instance.{end}" for end in ("ready", "failed")}]
    deliveries = await world.service.deliveries(instance.id)
    firsts = [delivery.attempts[0].at for delivery in deliveries]

    assert len(ends) <= 1
    assert ends or "instance.terminated" in {event.topic for event in events}
    assert [delivery.sequence for delivery in deliveries] == [*range(1, len(deliveries) + 1)]
    assert firsts == sorted(firsts)
