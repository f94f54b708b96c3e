"""Deleting, stopping and starting instances, whatever they are at."""

import msgspec
import pytest
from tests.instances.support import FAST, LONG_S, World, serving

from durably import JobStatus
from durably.instances import (
    Instance,
    InstanceConflictError,
    InstanceNotFoundError,
    InstanceStatus,
    Operation,
)
from durably.instances.simulator import SimulatorSettings
from durably.testing import until

STARTING = InstanceStatus.STARTING
READY = InstanceStatus.READY
STOPPING = InstanceStatus.STOPPING
STOPPED = InstanceStatus.STOPPED
FAILED = InstanceStatus.FAILED
TERMINATED = InstanceStatus.TERMINATED

ENDLESS_PULL = SimulatorSettings(durations=msgspec.structs.replace(FAST, pulling=1_000.0))


async def upstream_statuses(world: World) -> list[str]:
    return [one["status"] for one in await world.upstream()]


async def has_status(world: World, instance: Instance, status: InstanceStatus) -> bool:
    return (await world.get(instance)).status is status


async def create_calls(world: World) -> bool:
    """Whether the provider has seen a create call."""
    return await world.calls("create") > 0


# Deleting


async def test_a_ready_instance_is_deleted_upstream() -> None:
    """It is terminated once nothing of it is seen upstream."""
    async with serving() as world:
        asked = await world.create()
        await world.reaches(asked, READY)
        deleting = await world.service.delete_instance(asked.id)
        gone = await world.reaches(asked, TERMINATED)
        await world.hears("creating", "ready", "terminated")

        assert deleting.status is STOPPING
        assert gone.upstream_gone
        assert gone.terminated_at is not None
        assert await world.upstream() == []


async def test_deleting_before_anything_was_rented_rents_nothing() -> None:
    """The create job is cancelled, and the deletion needs no provider."""
    async with serving(started=False) as world:
        asked = await world.create()
        await world.service.delete_instance(asked.id)
        await world.service.start()
        gone = await world.reaches(asked, TERMINATED)
        job = await world.queue.wait(gone.jobs["create_instance"], timeout=LONG_S)
        await world.hears("creating", "terminated")

        assert job.status is JobStatus.CANCELLED
        assert await world.creates() == 0


async def test_deleting_while_the_create_call_is_under_way() -> None:
    """What the call makes is deleted; the creation ends as terminated, and only once."""
    async with serving(faults=["create:slow:seconds=0.2,apply=end"]) as world:
        asked = await world.create()
        await until(lambda: create_calls(world), timeout=LONG_S)
        await world.service.delete_instance(asked.id)
        await world.reaches(asked, TERMINATED)
        await world.hears("creating", "terminated")

        assert await world.creates() == 1
        assert await world.upstream() == []


async def test_deleting_while_nobody_knows_what_became_of_the_call() -> None:
    """It is terminated only when the lost instance can no longer show up in the list."""
    lagging = SimulatorSettings(durations=FAST, list_lag=0.6)
    async with serving(lagging, faults=["create:lost_reply:count=1"]) as world:
        asked = await world.create()
        await until(lambda: create_calls(world), timeout=LONG_S)
        await world.service.delete_instance(asked.id)
        await world.reaches(asked, TERMINATED)
        await world.hears("creating", "terminated")

        assert await world.creates() == 1
        assert await world.upstream() == []


async def test_deleting_while_it_comes_up() -> None:
    """The monitor is cancelled, and no event of the creation follows."""
    async with serving(ENDLESS_PULL) as world:
        asked = await world.create()
        await until(lambda: has_status(world, asked, STARTING), timeout=LONG_S)
        await world.service.delete_instance(asked.id)
        gone = await world.reaches(asked, TERMINATED)
        job = await world.queue.wait(gone.jobs["monitor_instance"], timeout=LONG_S)
        await world.hears("creating", "terminated")

        assert job.status is JobStatus.CANCELLED
        assert await world.upstream() == []


async def test_deleting_a_failed_instance_takes_its_clean_up_along() -> None:
    """Failed and kept, or failed and being cleaned up: it ends as terminated all the same."""
    async with serving(faults=["create:status_error"], on_failure="keep") as world:
        asked = await world.create()
        await world.reaches(asked, FAILED)
        await world.service.delete_instance(asked.id)
        await world.reaches(asked, TERMINATED)
        await world.hears("creating", "failed", "terminated")

        assert await world.upstream() == []


async def test_deleting_while_a_clean_up_goes_on() -> None:
    """The deletion goes on with the clean-up's job."""
    faults = ["create:status_error", "delete:error:status=503,count=4"]
    async with serving(faults=faults) as world:
        asked = await world.create()
        await until(lambda: has_status(world, asked, FAILED), timeout=LONG_S)
        deleting = await world.service.delete_instance(asked.id)
        gone = await world.reaches(asked, TERMINATED)
        await world.hears("creating", "failed", "terminated")

        assert deleting.operation is Operation.DELETE
        assert gone.jobs["delete_instance"] == deleting.jobs["delete_instance"]
        assert await world.upstream() == []


async def test_deleting_twice_is_deleting_once() -> None:
    """A second request changes nothing, during the deletion and after it."""
    async with serving() as world:
        asked = await world.create()
        await world.reaches(asked, READY)
        first = await world.service.delete_instance(asked.id)
        second = await world.service.delete_instance(asked.id)
        gone = await world.reaches(asked, TERMINATED)
        third = await world.service.delete_instance(asked.id)
        await world.hears("creating", "ready", "terminated")

        assert first == second
        assert third == gone


async def test_a_deletion_is_never_given_up() -> None:
    """Errors, lost replies and refusals are tried again, and the record says what is in the way."""
    async with serving() as world:
        asked = await world.create()
        await world.reaches(asked, READY)
        await world.faults(
            "delete:error:status=500,count=2",
            "delete:rate_limit:retry_after=0,count=2",
            "delete:error:status=403,code=FORBIDDEN,count=2",
            "delete:lost_reply:count=1",
        )
        await world.service.delete_instance(asked.id)
        await until(lambda: _is_obstructed(world, asked), timeout=LONG_S)
        gone = await world.reaches(asked, TERMINATED)

        assert gone.operation_error is None
        assert await world.upstream() == []


async def _is_obstructed(world: World, instance: Instance) -> bool:
    return (await world.get(instance)).operation_error is not None


async def test_deleting_what_was_deleted_by_somebody_else() -> None:
    """What is gone already is terminated."""
    async with serving() as world:
        asked = await world.create()
        ready = await world.reaches(asked, READY)
        assert ready.novita_instance_id is not None
        await world.provider.delete(ready.novita_instance_id)
        await world.service.delete_instance(asked.id)
        await world.reaches(asked, TERMINATED)


async def test_nothing_can_be_done_to_an_unknown_instance() -> None:
    """Each operation names the id that nothing has."""
    async with serving(started=False) as world:
        for operation in (
            world.service.delete_instance,
            world.service.start_instance,
            world.service.stop_instance,
            world.service.deliveries,
        ):
            with pytest.raises(InstanceNotFoundError, match="no instance has the id 'inst_none'"):
                await operation("inst_none")

        assert await world.service.get("inst_none") is None


# Stopping and starting


async def test_an_instance_is_stopped_and_started_again() -> None:
    """Each end is confirmed upstream and told by an event."""
    async with serving() as world:
        asked = await world.create(template_id="107672")
        await world.reaches(asked, READY)
        stopping = await world.service.stop_instance(asked.id)
        stopped = await world.reaches(asked, STOPPED)
        at_rest = await upstream_statuses(world)
        starting = await world.service.start_instance(asked.id)
        ready = await world.reaches(asked, READY)
        await world.hears(
            *("creating", "health_checking", "ready"),
            *("stopped", "health_checking", "ready"),
        )

        assert stopping.status is STOPPING
        assert at_rest == ["exited"]
        assert stopped.stopped_at is not None
        assert starting.status is STARTING
        assert starting.ready_at is None
        assert ready.novita_instance_id == stopped.novita_instance_id
        assert await upstream_statuses(world) == ["running"]
        assert await world.creates() == 1


async def test_only_a_ready_instance_is_stopped_and_only_a_stopped_one_started() -> None:
    """Anything else is a conflict that names the status and the operation in progress."""
    async with serving(started=False) as world:
        asked = await world.create()
        with pytest.raises(InstanceConflictError, match="is creating, with a create in progress"):
            await world.service.stop_instance(asked.id)
        with pytest.raises(InstanceConflictError, match="only a stopped one can be started"):
            await world.service.start_instance(asked.id)

        await world.service.start()
        await world.reaches(asked, READY)
        with pytest.raises(InstanceConflictError, match="is ready: only a stopped one"):
            await world.service.start_instance(asked.id)

        await world.service.stop_instance(asked.id)
        with pytest.raises(InstanceConflictError, match="with a stop in progress"):
            await world.service.stop_instance(asked.id)

        await world.service.delete_instance(asked.id)
        await world.reaches(asked, TERMINATED)
        with pytest.raises(InstanceConflictError, match="is terminated"):
            await world.service.start_instance(asked.id)


async def test_a_stop_survives_trouble() -> None:
    """Errors and lost replies are tried again."""
    async with serving() as world:
        asked = await world.create()
        await world.reaches(asked, READY)
        await world.faults("stop:error:status=500,count=2", "stop:lost_reply:count=1")
        await world.service.stop_instance(asked.id)
        await world.reaches(asked, STOPPED)

        assert await upstream_statuses(world) == ["exited"]


async def test_a_start_survives_trouble() -> None:
    """Errors and lost replies are tried again; the instance is started once."""
    async with serving() as world:
        asked = await world.create()
        await world.reaches(asked, READY)
        await world.service.stop_instance(asked.id)
        await world.reaches(asked, STOPPED)
        await world.faults("start:error:status=500,count=2", "start:lost_reply:count=1")
        await world.service.start_instance(asked.id)
        await world.reaches(asked, READY)
        await world.hears("creating", "ready", "stopped", "ready")


async def test_a_start_without_stock_leaves_it_stopped() -> None:
    """Nothing is deleted for want of a GPU; it can be started later."""
    async with serving() as world:
        asked = await world.create()
        await world.reaches(asked, READY)
        await world.service.stop_instance(asked.id)
        await world.reaches(asked, STOPPED)
        await world.faults("start:no_stock:count=1")
        await world.service.start_instance(asked.id)
        stopped = await world.reaches(asked, STOPPED)

        assert stopped.last_error is not None
        assert "INSUFFICIENT_RESOURCE" in stopped.last_error
        assert await upstream_statuses(world) == ["exited"]

        await world.service.start_instance(asked.id)
        ready = await world.reaches(asked, READY)
        assert ready.last_error is None
        await world.hears("creating", "ready", "stopped", "stopped", "ready")


async def test_a_start_that_takes_too_long_is_stopped_not_deleted() -> None:
    """Started again it holds the user's data: a failure stops it at most, and it can be retried."""
    slow = SimulatorSettings(durations=msgspec.structs.replace(FAST, starting=1_000.0))
    async with serving(slow, max_wait_time=1.0) as world:
        asked = await world.create()
        await world.reaches(asked, READY)
        await world.service.stop_instance(asked.id)
        await world.reaches(asked, STOPPED)
        await world.service.start_instance(asked.id)
        await until(lambda: has_status(world, asked, FAILED), timeout=LONG_S)
        failed = await world.get(asked)

        assert failed.operation is Operation.CLEANUP_STOP
        assert await upstream_statuses(world) == ["starting"]


async def test_stopping_what_was_deleted_by_somebody_else() -> None:
    """It is terminated, and says why."""
    async with serving() as world:
        asked = await world.create()
        ready = await world.reaches(asked, READY)
        assert ready.novita_instance_id is not None
        await world.provider.delete(ready.novita_instance_id)
        await world.service.stop_instance(asked.id)
        gone = await world.reaches(asked, TERMINATED)

        assert gone.last_error == "the instance does not exist upstream any more"


async def test_starting_what_was_deleted_by_somebody_else() -> None:
    """It has failed, cannot be started again, and nothing is cleaned up."""
    async with serving() as world:
        asked = await world.create()
        ready = await world.reaches(asked, READY)
        assert ready.novita_instance_id is not None
        await world.service.stop_instance(asked.id)
        await world.reaches(asked, STOPPED)
        await world.provider.delete(ready.novita_instance_id)
        await world.service.start_instance(asked.id)
        failed = await world.reaches(asked, FAILED)

        assert failed.upstream_gone
        with pytest.raises(InstanceConflictError, match="is failed: only a stopped one"):
            await world.service.start_instance(asked.id)
