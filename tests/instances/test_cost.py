"""What an instance has cost so far: by our own clock, while it exists upstream and is not stopped."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from tests.instances.support import World, serving
from tests.instances.test_workflow import WITH_A_PORT
from tests.instances.test_workflow_rules import INSTANCE

from durably.instances import Instance, InstanceStatus

AT = datetime(2026, 5, 4, 12, tzinfo=UTC)
RENTED = msgspec.structs.replace(INSTANCE, gpu_num=2, price_e5=60_000)
"""1.20 USD an hour."""


def test_nothing_is_known_before_a_product_is_chosen() -> None:
    """None, not 0: there is no price yet."""
    assert INSTANCE.cost(AT) is None
    assert RENTED.cost(AT) == 0.0


@pytest.mark.parametrize(
    ("billed_s", "running_s", "cost"),
    [(0, 0, 0.0), (0, 59.9, 0.0), (0, 60, 0.02), (0, 3_659, 1.2), (1.5, 60, 0.0205), (0, -5, 0.0)],
)
def test_cost_is_price_times_time_by_the_minute(
    billed_s: float, running_s: float, cost: float
) -> None:
    """All GPUs count; of what is still billed only whole minutes; a clock set back makes no gain."""
    now = AT + timedelta(seconds=running_s)
    running = msgspec.structs.replace(RENTED, billed_s=billed_s, billed_since=AT)
    assert running.cost(now) == cost


def test_what_has_been_billed_stays() -> None:
    """Time goes on, and costs nothing while it is stopped."""
    stopped = msgspec.structs.replace(RENTED, billed_s=3_600.0)
    assert stopped.cost(AT) == stopped.cost(AT + timedelta(days=1)) == 1.2


async def test_stopped_time_is_not_billed_and_the_time_before_is_kept() -> None:
    """From the create call on; until seen stopped; again from the start on; until it is gone."""
    async with serving() as world:
        asked = await world.create()
        assert (asked.billed_s, asked.billed_since) == (0.0, None)
        ready = await world.reaches(asked, InstanceStatus.READY)
        assert ready.intent is not None
        assert (ready.billed_s, ready.billed_since) == (0.0, ready.intent.called_at)

        await world.service.stop_instance(asked.id)
        stopped = await world.reaches(asked, InstanceStatus.STOPPED)
        assert stopped.stopped_at is not None
        first = (stopped.stopped_at - ready.intent.called_at).total_seconds()
        assert stopped.billed_s == pytest.approx(first)
        assert stopped.billed_since is None

        await world.service.start_instance(asked.id)
        again = await world.reaches(asked, InstanceStatus.READY)
        assert (again.billed_s, again.billed_since) == (stopped.billed_s, again.started_at)

        await world.service.delete_instance(asked.id)
        gone = await world.reaches(asked, InstanceStatus.TERMINATED)
        assert gone.terminated_at is not None
        assert again.started_at is not None
        second = (gone.terminated_at - again.started_at).total_seconds()
        assert gone.billed_s == pytest.approx(first + second)
        assert gone.billed_since is None


async def failed(world: World, instance: Instance) -> Instance:
    return await world.reaches(instance, InstanceStatus.FAILED)


async def test_a_failure_is_billed_until_it_is_cleaned_up() -> None:
    """What nobody deletes goes on being billed."""
    faults = ("create:status_error:seconds=0.05",)
    async with serving(faults=faults) as world:
        cleaned = await failed(world, await world.create())
        assert cleaned.upstream_gone
        assert cleaned.billed_s > 0
        assert cleaned.billed_since is None
    async with serving(faults=faults, on_failure="keep") as world:
        kept = await failed(world, await world.create())
        assert not kept.upstream_gone
        assert kept.billed_since is not None


async def test_nothing_is_billed_when_nothing_was_rented() -> None:
    """A creation that found no GPU has cost nothing."""
    async with serving(faults=("create:no_stock",)) as world:
        none = await failed(world, await world.create())
        assert (none.billed_s, none.billed_since) == (0.0, None)


async def test_what_the_provider_has_taken_back_is_not_billed() -> None:
    """Though it is kept, and nobody looks at it again."""
    faults = (
        "create:spot_reclaim:seconds=0.1,notice=0.1,reclaiming=0.1",
        "create:unhealthy:probes=100000",
    )
    async with serving(faults=faults, on_failure="keep") as world:
        taken = await failed(world, await world.create(template_id=WITH_A_PORT))
        assert not taken.upstream_gone
        assert taken.billed_s > 0
        assert taken.billed_since is None
