"""The reconciler: what exists upstream and what the records want, brought together."""

import msgspec
import pytest
from tests.instances.support import FAST, LONG_S, World, serving

from durably import JobStatus
from durably.instances import Instance, InstanceStatus
from durably.instances.provider import BillingMode, CreateRequest, Upstream, UpstreamStatus
from durably.instances.reconciler import Verdict, judge
from durably.instances.simulator import SimulatorSettings
from durably.testing import until

CREATING = InstanceStatus.CREATING
STARTING = InstanceStatus.STARTING
READY = InstanceStatus.READY
STOPPED = InstanceStatus.STOPPED
FAILED = InstanceStatus.FAILED
TERMINATED = InstanceStatus.TERMINATED

ENDLESS_PULL = SimulatorSettings(durations=msgspec.structs.replace(FAST, pulling=1_000.0))


async def rent(world: World, name: str) -> str:
    """Rent an instance past the service."""
    return await world.provider.create(
        CreateRequest(
            name=name,
            product_id="4090.16c62g",
            image="ubuntu:24.04",
            billing_mode=BillingMode.SPOT,
        )
    )


async def upstream_name(world: World, instance_id: str) -> str:
    return await world.service._records.upstream_name(instance_id)


async def upstream_ids(world: World) -> set[str]:
    return {one["id"] for one in await world.upstream() if not one["status"].startswith("to")}


async def has_status(world: World, instance: Instance, status: InstanceStatus) -> bool:
    return (await world.get(instance)).status is status


async def forget_job(world: World, job_id: str) -> None:
    """Let a job be as good as lost: cancelled, and cleaned up."""
    await world.queue.cancel_job(job_id)
    await world.queue.wait(job_id, timeout=LONG_S)
    await world.queue.cleanup(older_than=0)
    assert await world.queue.get_job(job_id) is None


# What exists upstream


async def test_an_instance_that_its_record_wants_is_adopted() -> None:
    """Found before the create job found it, it is recorded, watched and not made again."""
    async with serving(started=False) as world:
        asked = await world.create()
        upstream_id = await rent(world, await upstream_name(world, asked.id))
        round_ = await world.service.reconcile()
        adopted = await world.get(asked)
        await world.service.start()
        await world.reaches(asked, READY)
        await world.hears("creating", "ready")

        assert round_.adopted == (upstream_id,)
        assert adopted.novita_instance_id == upstream_id
        assert adopted.status is STARTING
        assert await world.creates() == 1


async def test_the_first_of_several_is_adopted_and_the_others_are_deleted() -> None:
    """One billed instance is left of those that bear the name."""
    async with serving(started=False) as world:
        asked = await world.create()
        name = await upstream_name(world, asked.id)
        made = {await rent(world, name) for _ in range(3)}
        round_ = await world.service.reconcile()

        assert len(round_.adopted) == 1
        assert {*round_.adopted, *round_.deleted} == made
        await until(lambda: _only_left(world, round_.adopted[0]), timeout=LONG_S)


async def _only_left(world: World, upstream_id: str) -> bool:
    return {one["id"] for one in await world.upstream()} == {upstream_id}


async def test_an_instance_is_adopted_once() -> None:
    """Whoever comes second, or after the end, changes nothing and is told what the record has."""
    async with serving() as world:
        asked = await world.create()
        ready = await world.reaches(asked, READY)
        second = await world.service._tools.adopt(asked.id, "another")
        await world.service.delete_instance(asked.id)
        gone = await world.reaches(asked, TERMINATED)
        late = await world.service._tools.adopt(asked.id, "another")

        assert second == ready
        assert late == gone
        assert not late.wants("another")


async def test_a_duplicate_that_shows_up_late_is_deleted() -> None:
    """The list lags for longer than is waited for: the second instance is made, the first goes."""
    lagging = SimulatorSettings(durations=FAST, list_lag=1.0)
    async with serving(lagging, faults=["create:lost_reply:count=1"], novita_timeout=0.2) as world:
        asked = await world.create()
        ready = await world.reaches(asked, READY)
        assert await world.creates() == 2
        assert ready.novita_instance_id is not None
        await until(lambda: _reconciled_to(world, ready.novita_instance_id), timeout=LONG_S)
        await world.hears("creating", "ready")

        assert (await world.get(asked)) == ready
        events = await world.queue.get_events(subject=asked.id)
        assert "instance.orphan_deleted" in [event.topic for event in events]


async def _reconciled_to(world: World, upstream_id: str | None) -> bool:
    await world.service.reconcile()
    return {one["id"] for one in await world.upstream()} == {upstream_id}


async def test_what_no_record_knows_is_deleted_in_the_second_round() -> None:
    """An instance of this deployment without a record is suspected first."""
    async with serving(started=False) as world:
        upstream_id = await rent(world, await upstream_name(world, "inst_lost"))
        first = await world.service.reconcile()
        second = await world.service.reconcile()

        assert (first.suspected, first.deleted) == ((upstream_id,), ())
        assert second.deleted == (upstream_id,)
        await until(lambda: _nothing_left(world), timeout=LONG_S)
        third = await world.service.reconcile()
        assert (third.suspected, third.deleted) == ((), ())


async def _nothing_left(world: World) -> bool:
    return await world.upstream() == []


@pytest.mark.parametrize(
    "name", ["somebody-else", "", "durably-", "durably-0123456789ab-inst_1", "durably-{prefix}"]
)
async def test_other_names_are_left_alone(name: str) -> None:
    """Those of the account's other users, and those of other deployments."""
    async with serving(started=False) as world:
        prefix = (await upstream_name(world, "")).removeprefix("durably-").removesuffix("-")
        upstream_id = await rent(world, name.replace("{prefix}", prefix[:-1] + "-x"))
        for _ in range(3):
            round_ = await world.service.reconcile()
            assert round_.deleted == round_.suspected == round_.adopted == ()

        assert await upstream_ids(world) <= {upstream_id}
        assert len(await world.upstream()) == 1


async def test_what_was_terminated_and_shows_up_again_is_deleted_at_once() -> None:
    """The record says that it is not wanted any more."""
    async with serving() as world:
        asked = await world.create()
        await world.reaches(asked, READY)
        await world.service.delete_instance(asked.id)
        await world.reaches(asked, TERMINATED)
        upstream_id = await rent(world, await upstream_name(world, asked.id))
        round_ = await world.service.reconcile()

        assert round_.deleted == (upstream_id,)
        assert (await world.get(asked)).status is TERMINATED


async def test_an_orphan_that_cannot_be_deleted_is_tried_again() -> None:
    """The next rounds go on until it is gone."""
    async with serving(started=False) as world:
        upstream_id = await rent(world, await upstream_name(world, "inst_lost"))
        await world.faults("delete:error:status=500,count=1")
        await world.service.reconcile()
        failed = await world.service.reconcile()
        done = await world.service.reconcile()

        assert failed.deleted == ()
        assert done.deleted == (upstream_id,)


async def test_without_an_answer_upstream_nothing_is_concluded() -> None:
    """A list that fails deletes nothing, but lost jobs are given back all the same."""
    async with serving(started=False) as world:
        asked = await world.create()
        await forget_job(world, asked.jobs["create_instance"])
        await world.faults("list:error:status=403,code=FORBIDDEN")
        round_ = await world.service.reconcile()

        assert round_.resumed == (asked.id,)
        assert round_.deleted == round_.adopted == ()


# What the records say


async def test_a_creation_whose_job_is_lost_gets_another() -> None:
    """It goes on as if nothing had happened."""
    async with serving(started=False) as world:
        asked = await world.create()
        await forget_job(world, asked.jobs["create_instance"])
        round_ = await world.service.reconcile()
        again = await world.service.reconcile()
        await world.service.start()
        await world.reaches(asked, READY)
        await world.hears("creating", "ready")

        assert round_.resumed == (asked.id,)
        assert again.resumed == ()


async def test_an_instance_without_its_monitor_gets_another() -> None:
    """It is watched until it has an end."""
    async with serving(ENDLESS_PULL, max_wait_time=1.0) as world:
        asked = await world.create()
        await until(lambda: has_status(world, asked, STARTING), timeout=LONG_S)
        await forget_job(world, (await world.get(asked)).jobs["monitor_instance"])
        round_ = await world.service.reconcile()
        await world.reaches(asked, FAILED)
        await world.hears("creating", "timeout")

        assert round_.resumed == (asked.id,)


async def test_a_cancelled_creation_fails() -> None:
    """A person who cancels the create job means the creation; nothing is rented."""
    async with serving(started=False) as world:
        asked = await world.create()
        await world.queue.cancel_job(asked.jobs["create_instance"])
        await world.service.reconcile()
        await world.service.start()
        failed = await world.reaches(asked, FAILED)
        await world.hears("creating", "failed")

        assert failed.last_error == "its job create_instance was cancelled"
        assert await world.creates() == 0


async def test_a_creation_whose_job_was_put_aside_fails() -> None:
    """A job that processes die of is not started again; the instance has an end all the same."""
    async with serving(started=False) as world:
        asked = await world.create()

        async def broken(_job: object) -> None:
            raise RuntimeError("broken")

        world.queue.register_handler("create_instance", broken)
        await world.queue.start_processing()
        job = await world.queue.wait(asked.jobs["create_instance"], timeout=LONG_S)
        await world.service.reconcile()
        failed = await world.reaches(asked, FAILED)

        assert job.status is JobStatus.FAILED
        assert failed.last_error == "its job create_instance failed: broken"


async def test_an_instance_whose_monitor_was_put_aside_fails_and_is_deleted() -> None:
    """Unwatched it would be billed for ever."""
    async with serving(ENDLESS_PULL, started=False) as world:

        async def broken(_job: object) -> None:
            raise RuntimeError("broken")

        world.queue.register_handler("monitor_instance", broken)
        asked = await world.create()
        await world.service.start()
        await until(lambda: has_status(world, asked, STARTING), timeout=LONG_S)
        await world.queue.wait((await world.get(asked)).jobs["monitor_instance"], timeout=LONG_S)
        await world.service.reconcile()
        failed = await world.reaches(asked, FAILED)
        await world.hears("creating", "failed")

        assert failed.last_error == "its job monitor_instance failed: broken"
        assert await world.upstream() == []


@pytest.mark.parametrize("operation", ["stop", "delete"])
async def test_an_operation_whose_job_is_lost_gets_another(operation: str) -> None:
    """What a user has asked for is done, whatever becomes of the job."""
    async with serving() as world:
        asked = await world.create()
        await world.reaches(asked, READY)
        await world.faults(f"{operation}:error:status=500")
        begin = {
            "stop": world.service.stop_instance,
            "delete": world.service.delete_instance,
        }[operation]
        begun = await begin(asked.id)
        await forget_job(world, begun.jobs[f"{operation}_instance"])
        await world.control("faults", method="DELETE")
        round_ = await world.service.reconcile()
        await world.reaches(asked, STOPPED if operation == "stop" else TERMINATED)

        assert round_.resumed == (asked.id,)


async def test_a_start_whose_job_is_lost_gets_another() -> None:
    """It goes on where it was."""
    async with serving() as world:
        asked = await world.create()
        await world.reaches(asked, READY)
        await world.service.stop_instance(asked.id)
        await world.reaches(asked, STOPPED)
        await world.faults("start:error:status=500")
        begun = await world.service.start_instance(asked.id)
        await forget_job(world, begun.jobs["start_instance"])
        await world.control("faults", method="DELETE")
        round_ = await world.service.reconcile()
        await world.reaches(asked, READY)

        assert round_.resumed == (asked.id,)


async def test_what_is_in_order_is_left_alone() -> None:
    """Ready, stopped, failed and terminated instances: a round changes nothing."""
    async with serving() as world:
        ready = await world.create()
        stopped = await world.create()
        gone = await world.create()
        failed = await world.create(template_id="nope")
        for one in (ready, stopped, gone):
            await world.reaches(one, READY)
        await world.reaches(failed, FAILED)
        await world.service.stop_instance(stopped.id)
        await world.service.delete_instance(gone.id)
        await world.reaches(stopped, STOPPED)
        await world.reaches(gone, TERMINATED)
        before = await world.service.list()
        rounds = [await world.service.reconcile() for _ in range(3)]

        assert await world.service.list() == before
        assert all(not any(msgspec.structs.astuple(round_)) for round_ in rounds)


async def test_a_ready_instance_that_stopped_upstream_is_stopped() -> None:
    """Whoever stopped it: the record and a webhook say so."""
    async with serving() as world:
        asked = await world.create()
        ready = await world.reaches(asked, READY)
        assert ready.novita_instance_id is not None
        await world.provider.stop(ready.novita_instance_id)
        await until(lambda: _is_at_rest(world), timeout=LONG_S)
        round_ = await world.service.reconcile()
        stopped = await world.get(asked)
        await world.hears("creating", "ready", "stopped")

        assert round_.corrected == (asked.id,)
        assert stopped.status is STOPPED
        assert stopped.last_error == "the instance was stopped upstream"


async def _is_at_rest(world: World) -> bool:
    return [one["status"] for one in await world.upstream()] == ["exited"]


async def test_a_ready_spot_instance_that_was_taken_back_is_stopped() -> None:
    """The reason tells it from a stop."""
    async with serving(
        faults=["create:spot_reclaim:seconds=0.3,notice=0.01,reclaiming=0.01"]
    ) as world:
        asked = await world.create()
        await world.reaches(asked, READY)
        await until(lambda: _is_at_rest(world), timeout=LONG_S)
        await world.service.reconcile()

        assert (await world.get(asked)).last_error == "the provider took the spot instance back"


async def test_a_ready_instance_that_vanished_is_terminated_in_the_second_round() -> None:
    """A single denial by the provider proves nothing."""
    async with serving() as world:
        asked = await world.create()
        ready = await world.reaches(asked, READY)
        assert ready.novita_instance_id is not None
        await world.provider.delete(ready.novita_instance_id)
        await until(lambda: _nothing_left(world), timeout=LONG_S)
        first = await world.service.reconcile()
        second = await world.service.reconcile()
        await world.hears("creating", "ready", "terminated")

        assert (first.corrected, second.corrected) == ((), (asked.id,))
        assert (await world.get(asked)).status is TERMINATED


async def test_it_goes_round_by_itself() -> None:
    """A started service compares at once, and again and again."""
    async with serving(started=False, reconcile_interval=0.05) as world:
        await rent(world, await upstream_name(world, "inst_lost"))
        await world.service.start()
        await until(lambda: _nothing_left(world), timeout=LONG_S)


# Verdicts, without any upstream


def upstream(identifier: str = "u-1") -> Upstream:
    return Upstream(id=identifier, name="durably-x-inst_1", status=UpstreamStatus.RUNNING)


async def test_verdicts() -> None:
    """Each state of a record has its verdict on an instance of its name."""
    async with serving(started=False) as world:
        asked = await world.create()
    known = msgspec.structs.replace(asked, novita_instance_id="u-1", operation=None, status=READY)
    given_up = msgspec.structs.replace(known, status=FAILED, upstream_gone=True)
    kept = msgspec.structs.replace(known, status=FAILED)

    assert judge(None, upstream()) is Verdict.SUSPECT
    assert judge(asked, upstream()) is Verdict.ADOPT
    assert judge(known, upstream()) is Verdict.LEAVE
    assert judge(known, upstream("u-2")) is Verdict.DELETE
    assert judge(given_up, upstream()) is Verdict.DELETE
    assert judge(kept, upstream()) is Verdict.LEAVE
    assert judge(kept, upstream("u-2")) is Verdict.DELETE
