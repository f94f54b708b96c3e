"""The way of an instance from the request to ready, and what may happen to it on the way."""

import asyncio
from typing import Any

import msgspec
import pytest
from tests.instances.support import FAST, LONG_S, World, serving

from durably import JobStatus
from durably.instances import Instance, InstanceStatus
from durably.instances.provider import CreateRequest
from durably.instances.simulator import SimulatorSettings, StatusDurations
from durably.testing import until

CREATING = InstanceStatus.CREATING
STARTING = InstanceStatus.STARTING
HEALTH_CHECKING = InstanceStatus.HEALTH_CHECKING
READY = InstanceStatus.READY
FAILED = InstanceStatus.FAILED

WITH_A_PORT = "107672"
WITH_HTTP_AND_TCP_PORTS = "pytorch-serve"
ENDLESS_PULL = SimulatorSettings(durations=msgspec.structs.replace(FAST, pulling=1_000.0))
INSTANT = SimulatorSettings(
    durations=StatusDurations(
        **dict.fromkeys(StatusDurations.__struct_fields__, 0.0),
    )
)


async def timeline(world: World, instance: Instance) -> list[str]:
    """The topics of the instance's events, without `instance.`."""
    events = await world.queue.get_events(subject=instance.id)
    return [event.topic.removeprefix("instance.") for event in events]


async def is_gone(world: World) -> bool:
    return not await world.upstream()


# The plain way


async def test_a_request_ends_with_one_ready_instance_and_its_events() -> None:
    """One create call, one billed instance, and the events in order."""
    async with serving() as world:
        asked = await world.create()
        ready = await world.reaches(asked, READY)
        await world.hears("creating", "ready")

        [upstream] = await world.upstream()
        assert asked.status == CREATING
        assert ready.novita_instance_id == upstream["id"]
        assert upstream["name"] == f"durably-{await _deployment(world)}-{asked.id}"
        assert await world.creates() == 1
        assert await timeline(world, asked) == ["creating", "starting", "running", "ready"]
        assert ready.ready_at is not None
        assert ready.last_error is None
        assert ready.operation_error is None


async def _deployment(world: World) -> str:
    record = await world.queue.get_record("deployment", "deployment")
    assert record is not None
    return str(record.value)


async def test_what_is_asked_for_is_what_is_rented() -> None:
    """The request, the template and the cheapest offer of the region make the create call."""
    async with serving() as world:
        asked = await world.create(
            template_id=WITH_HTTP_AND_TCP_PORTS, gpu_num=2, rootfs_size=80, region="US-CA-06"
        )
        ready = await world.reaches(asked, READY)

        [upstream] = await world.upstream()
        assert upstream["gpuNum"] == "2"
        assert upstream["rootfsSize"] == 80
        assert upstream["clusterId"] == ready.cluster_id == "us-ca-6"
        # Of two at the same price the one with more memory.
        assert upstream["productId"] == ready.product_id == "4090.18c125g"
        assert upstream["billingMode"] == "spot"
        assert upstream["imageAuthId"] == "registry-auth-1"
        assert upstream["command"] == "python -m serve --port 8080"
        assert {"key": "MODEL", "value": "small"} in upstream["envs"]
        assert ready.price_e5 == 35_000
        assert {m.port for m in ready.port_mappings} == {8080, 8888, 22}


async def test_ports_are_probed_by_their_type_before_it_is_ready() -> None:
    """HTTP ports answer GET, the tcp port takes a connection; the event lists what was found."""
    async with serving() as world:
        asked = await world.create(template_id=WITH_HTTP_AND_TCP_PORTS)
        ready = await world.reaches(asked, READY)
        await world.hears("creating", "health_checking", "ready")

        told = world.receiver.events[-1]["data"]
        assert told["instanceId"] == asked.id
        assert told["status"] == "ready"
        assert told["novitaInstanceId"] == ready.novita_instance_id
        assert 0 < told["elapsedTime"] < LONG_S
        assert told["healthCheck"]["status"] == "completed"
        assert told["healthCheck"]["overallStatus"] == "healthy"
        assert {(e["port"], e["type"], e["status"]) for e in told["healthCheck"]["endpoints"]} == {
            (8080, "http", "healthy"),
            (8888, "http", "healthy"),
            (22, "tcp", "healthy"),
        }


async def test_ports_that_do_not_answer_yet_are_probed_again() -> None:
    """The health phase begins once, however many rounds it takes."""
    async with serving(faults=["create:unhealthy:probes=3"]) as world:
        asked = await world.create(template_id=WITH_A_PORT)
        await world.reaches(asked, READY)
        await world.hears("creating", "health_checking", "ready")

        starting, ready = (e["data"]["healthCheck"] for e in world.receiver.events[1:])
        assert starting["status"] == "in_progress"
        assert starting["startedAt"] == ready["startedAt"]


async def test_events_are_counted_and_have_ids_of_their_own() -> None:
    """Sequence numbers go up from 1, and no two webhooks share an id."""
    async with serving() as world:
        await world.create(template_id=WITH_A_PORT)
        await world.hears("creating", "health_checking", "ready")

        assert [event["sequence"] for event in world.receiver.events] == [1, 2, 3]
        assert len({event["id"] for event in world.receiver.events}) == 3


async def test_without_a_webhook_url_the_timeline_is_the_same() -> None:
    """The events are kept for readers, and nothing is posted anywhere."""
    async with serving() as world:
        asked = await world.create(webhook_url=None)
        await world.reaches(asked, READY)

        assert await timeline(world, asked) == ["creating", "starting", "running", "ready"]
        assert await world.service.deliveries(asked.id) == []


async def test_the_jobs_carry_the_document_s_payloads() -> None:
    """Create and monitor jobs have HIGH priority and camel-case fields."""
    async with serving() as world:
        asked = await world.create()
        ready = await world.reaches(asked, READY)
        create = await world.queue.wait(ready.jobs["create_instance"], timeout=LONG_S)
        monitor = await world.queue.wait(ready.jobs["monitor_instance"], timeout=LONG_S)

        assert (create.priority.name, monitor.priority.name) == ("HIGH", "HIGH")
        assert create.payload == {
            "instanceId": asked.id,
            "name": "web-1",
            "productName": "RTX 4090 24GB",
            "templateId": "bare",
            "gpuNum": 1,
            "rootfsSize": 60,
            "region": "CN-HK-01",
            "webhookUrl": world.receiver.url,
        }
        assert monitor.payload.keys() == {
            "instanceId",
            "novitaInstanceId",
            "webhookUrl",
            "startTime",
            "maxWaitTime",
        }
        assert create.status is monitor.status is JobStatus.COMPLETED


async def test_it_works_strictly_one_job_at_a_time() -> None:
    """In the document's sequential mode several instances come up all the same."""
    async with serving(concurrency=1) as world:
        asked = [await world.create() for _ in range(3)]
        for one in asked:
            await world.reaches(one, READY)
            await world.delivers_all(one)

        assert await world.creates() == 3


async def test_all_monitors_share_one_list(sqlite_url: str) -> None:
    """However many instances come up, upstream is listed about once an interval."""
    async with serving(ENDLESS_PULL, store=sqlite_url, poll_interval=0.2) as world:
        asked = [await world.create(webhook_url=None) for _ in range(12)]
        await until(lambda: _have_status(world, asked, STARTING), timeout=LONG_S)
        await world.watch("list")
        await world.watch("get")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await until(lambda: _called(world, "list", 8), timeout=LONG_S)
        intervals = (loop.time() - begun) / 0.2

        # A list is two requests: the page that is there, and the empty one behind it.
        assert await world.calls("list") <= 2 * (intervals + 2)
        assert await world.calls("get") == 0


async def _have_status(world: World, instances: list[Instance], status: InstanceStatus) -> bool:
    return all([await _has_status(world, one, status) for one in instances])


async def _has_status(world: World, instance: Instance, status: InstanceStatus) -> bool:
    return (await world.get(instance)).status is status


# Answers that are lost, late or refused


async def test_an_instance_whose_reply_was_lost_is_found_by_its_name() -> None:
    """The create call is not repeated; the webhooks tell of no failure."""
    async with serving(faults=["create:lost_reply:count=1"]) as world:
        asked = await world.create()
        ready = await world.reaches(asked, READY)
        await world.hears("creating", "ready")

        [upstream] = await world.upstream()
        assert upstream["id"] == ready.novita_instance_id
        assert await world.creates() == 1


async def test_of_several_instances_with_its_name_one_is_kept() -> None:
    """The create job takes the first and has the others deleted, without the reconciler."""
    async with serving(started=False) as world:
        asked = await world.create()
        name = await world.service._records.upstream_name(asked.id)
        for _ in range(3):
            await world.provider.create(
                CreateRequest(name=name, product_id="4090.16c62g", image="ubuntu:24.04")
            )
        await world.queue.start_processing()
        ready = await world.reaches(asked, READY)
        await until(lambda: _is_alone(world), timeout=LONG_S)

        [upstream] = await world.upstream()
        assert upstream["id"] == ready.novita_instance_id
        assert await world.creates() == 3


async def _is_alone(world: World) -> bool:
    return len(await world.upstream()) == 1


async def test_a_lost_instance_that_is_listed_late_is_waited_for() -> None:
    """As long as the list may lag (two time-outs), nothing is created again."""
    lagging = SimulatorSettings(durations=FAST, list_lag=0.6)
    async with serving(lagging, faults=["create:lost_reply:count=1"]) as world:
        asked = await world.create()
        await world.reaches(asked, READY)

        assert await world.creates() == 1


async def test_a_look_that_fails_spends_no_attempt_and_creates_nothing() -> None:
    """While nobody can say what became of a call, the provider's trouble is waited out."""
    async with serving(max_retry_attempts=1, started=False) as world:
        asked = await world.create()
        await world.faults(
            "create:lost_reply:count=1",
            # The first two lists are the reconciler's and the look before the call.
            "list:error:status=503,after=2,count=7",
        )
        await world.service.start()
        ready = await world.reaches(asked, READY)

        assert await world.creates() == 1
        assert ready.intent is not None
        assert ready.intent.call == 1
        assert ready.intent.sent_by is None


async def test_a_call_that_made_nothing_is_repeated_after_two_time_outs() -> None:
    """A server error leaves it open what became of the call: the next one comes 0.8 s later."""
    async with serving(faults=["create:error:status=502,count=1"]) as world:
        begun = asyncio.get_running_loop().time()
        asked = await world.create()
        ready = await world.reaches(asked, READY)

        assert asyncio.get_running_loop().time() - begun > 2 * 0.4
        assert await world.creates() == 1
        assert ready.intent is not None
        assert ready.intent.call == 2


async def test_calls_without_an_answer_spend_the_attempts() -> None:
    """After three calls of which nothing came, the creation fails, and nothing is left behind."""
    async with serving(faults=["create:error:status=502"], novita_timeout=0.1) as world:
        asked = await world.create()
        failed = await world.reaches(asked, FAILED)
        await world.hears("creating", "failed")

        assert failed.intent is None or failed.intent.call == 3
        assert failed.last_error is not None
        assert "502" in failed.last_error
        assert await world.creates() == 0


async def test_a_lost_instance_is_deleted_when_its_creation_has_failed() -> None:
    """What the last call made all the same is found by the reconciler, however late."""
    lagging = SimulatorSettings(durations=FAST, list_lag=0.5)
    async with serving(
        lagging,
        faults=["create:lost_reply:count=1"],
        novita_timeout=0.2,
        max_retry_attempts=1,
    ) as world:
        asked = await world.create()
        await world.reaches(asked, FAILED)

        await until(lambda: _reconciled(world), timeout=LONG_S)
        assert await world.creates() == 1


async def _reconciled(world: World) -> bool:
    await world.service.reconcile()
    return await is_gone(world)


async def test_a_slow_create_call_is_cut_off_and_found_by_its_name() -> None:
    """A call that takes longer than the time-out counts as unanswered."""
    async with serving(faults=["create:slow:seconds=4,apply=start,count=1"]) as world:
        begun = asyncio.get_running_loop().time()
        asked = await world.create()
        await world.reaches(asked, READY)

        assert asyncio.get_running_loop().time() - begun < 4
        assert await world.creates() == 1


async def test_being_throttled_spends_no_attempt() -> None:
    """With a single attempt, a 429 that says when to come back is no failure."""
    async with serving(
        faults=["create:rate_limit:retry_after=1,count=1"], max_retry_attempts=1
    ) as world:
        begun = asyncio.get_running_loop().time()
        asked = await world.create()
        await world.reaches(asked, READY)

        assert asyncio.get_running_loop().time() - begun >= 1
        assert await world.creates() == 1


async def test_being_throttled_for_too_long_fails() -> None:
    """What has not come about within the time that it may take ends as failed."""
    async with serving(
        faults=["create:rate_limit:retry_after=1"], max_retry_attempts=1, max_wait_time=0.5
    ) as world:
        asked = await world.create()
        failed = await world.reaches(asked, FAILED)
        await world.hears("creating", "failed")

        assert failed.last_error is not None
        assert "429" in failed.last_error


async def test_server_errors_on_reads_are_ridden_out() -> None:
    """Products and templates are asked for again, by the client and by the job."""
    async with serving(
        faults=["products:error:count=4", "template:error:count=2"], max_retry_attempts=4
    ) as world:
        asked = await world.create()
        await world.reaches(asked, READY)
        await world.hears("creating", "ready")

        assert await world.creates() == 1


async def test_attempts_that_never_succeed_fail_once() -> None:
    """The failure is told once, at the end, not once for each attempt."""
    async with serving(faults=["products:error"], max_retry_attempts=2) as world:
        asked = await world.create()
        failed = await world.reaches(asked, FAILED)
        job = await world.queue.wait(failed.jobs["create_instance"], timeout=LONG_S)
        await world.delivers_all(asked)

        assert world.receiver.types() == ["creating", "failed"]
        assert job.status is JobStatus.FAILED
        assert job.attempts == 2
        assert failed.last_error == job.error


async def test_without_stock_the_next_offer_is_taken() -> None:
    """No GPU in the preferred region: the next one in order, in the same attempt."""
    empty = {"4090.16c62g": {"CN-HK-01": 0}, "4090.18c125g": {"CN-HK-01": 0}}
    settings = SimulatorSettings(durations=FAST, stock=empty)
    async with serving(settings, max_retry_attempts=1) as world:
        asked = await world.create()
        ready = await world.reaches(asked, READY)

        assert ready.chosen_region == "AS-SGP-02"
        assert ready.cluster_id == "as-sgp-2"
        assert ready.region == "CN-HK-01"
        assert await world.creates() == 1


async def test_no_stock_anywhere_fails_and_names_what_was_attempted() -> None:
    """The reason names every product and region; no clean-up is needed."""
    async with serving(faults=["create:no_stock"]) as world:
        asked = await world.create()
        failed = await world.reaches(asked, FAILED)
        await world.hears("creating", "failed")

        assert failed.last_error is not None
        assert failed.last_error.startswith('no GPU to be had for "RTX 4090 24GB"')
        assert "4090.16c62g in AS-SGP-02" in failed.last_error
        assert failed.upstream_gone
        assert "delete_instance" not in failed.jobs


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"product_name": "RTX 9090"}, 'No products found matching name "RTX 9090"'),
        ({"template_id": "nope"}, "Template not found: nope"),
    ],
    ids=["product", "template"],
)
async def test_what_does_not_exist_fails_at_once(changes: dict[str, Any], reason: str) -> None:
    """A permanent refusal is not tried again; the record and the webhook say why."""
    async with serving() as world:
        asked = await world.create(**changes)
        failed = await world.reaches(asked, FAILED)
        job = await world.queue.wait(failed.jobs["create_instance"], timeout=LONG_S)
        await world.hears("creating", "failed")

        assert failed.last_error is not None
        assert failed.last_error.startswith(reason)
        assert world.receiver.events[-1]["data"]["error"] == failed.last_error
        assert job.attempts == 1


async def test_a_wrong_key_fails_at_once() -> None:
    """The reason says what to check, without the key."""
    async with serving(SimulatorSettings(durations=FAST)) as world:
        world.provider._api_key = "wrong-key"
        asked = await world.create()
        failed = await world.reaches(asked, FAILED)

        assert failed.last_error is not None
        assert "check NOVITA_API_KEY" in failed.last_error
        assert "wrong-key" not in failed.last_error


# While it comes up


async def test_trouble_upstream_fails_and_is_deleted() -> None:
    """`statusError` fails the instance, which is then deleted upstream."""
    async with serving(faults=["create:status_error"]) as world:
        asked = await world.create()
        failed = await world.reaches(asked, FAILED)
        await world.hears("creating", "failed")

        assert failed.last_error is not None
        assert "manifest unknown" in failed.last_error
        assert failed.upstream_gone
        assert await is_gone(world)
        assert (await timeline(world, asked))[-1] == "cleaned_up"


@pytest.mark.parametrize(("policy", "left"), [("keep", "pulling"), ("stop", "exited")])
async def test_the_policy_decides_what_is_left_after_a_failure(policy: str, left: str) -> None:
    """``keep`` leaves the instance as it is, ``stop`` ends its billing, and its record knows it."""
    async with serving(faults=["create:status_error"], on_failure=policy) as world:
        asked = await world.create()
        failed = await world.reaches(asked, FAILED)
        await world.service.reconcile()
        await world.service.reconcile()

        [upstream] = await world.upstream()
        assert upstream["status"] == left
        assert not failed.upstream_gone
        assert failed.novita_instance_id == upstream["id"]


async def test_what_does_not_run_in_time_is_timed_out_and_deleted() -> None:
    """A timeout is status failed, event timeout, and the instance is deleted upstream."""
    async with serving(ENDLESS_PULL, max_wait_time=0.3) as world:
        asked = await world.create()
        failed = await world.reaches(asked, FAILED)
        await world.hears("creating", "timeout")

        assert failed.last_error == "the instance did not run within 0.3 s"
        assert world.receiver.events[-1]["data"]["status"] == "failed"
        assert world.receiver.events[-1]["data"]["elapsedTime"] >= 0.3
        assert await is_gone(world)


async def test_what_is_found_running_is_not_timed_out() -> None:
    """The deadline is judged after reading upstream."""
    async with serving(INSTANT, max_wait_time=0.001, poll_interval=0.1) as world:
        asked = await world.create()
        await world.reaches(asked, READY)
        await world.hears("creating", "ready")


async def test_ports_that_never_answer_end_in_a_timeout() -> None:
    """The health phase may take as long again as the start; the report tells what was found."""
    async with serving(faults=["create:unhealthy:probes=100000"], max_wait_time=0.4) as world:
        asked = await world.create(template_id=WITH_A_PORT)
        failed = await world.reaches(asked, FAILED)
        await world.hears("creating", "health_checking", "timeout")

        assert failed.last_error == "not all ports answered within 0.4 s"
        check = world.receiver.events[-1]["data"]["healthCheck"]
        assert check["status"] == "failed"
        assert check["overallStatus"] == "unhealthy"
        assert "503" in check["endpoints"][0]["error"]
        assert await is_gone(world)


async def test_a_reclaimed_spot_instance_fails() -> None:
    """The provider takes the GPU back before it was ready."""
    async with serving(
        faults=[
            "create:spot_reclaim:seconds=0.1,notice=0.1,reclaiming=0.1",
            "create:unhealthy:probes=100000",
        ]
    ) as world:
        asked = await world.create(template_id=WITH_A_PORT)
        failed = await world.reaches(asked, FAILED)
        await world.hears("creating", "health_checking", "failed")

        assert failed.last_error == "the provider took the spot instance back"


async def test_an_instance_stopped_by_somebody_else_fails() -> None:
    """It will not become ready any more."""
    async with serving(ENDLESS_PULL) as world:
        asked = await world.create()
        await until(lambda: _has_status(world, asked, STARTING), timeout=LONG_S)
        [upstream] = await world.upstream()
        await until(lambda: _is_stopped(world, upstream["id"]), timeout=LONG_S)
        failed = await world.reaches(asked, FAILED)

        assert failed.last_error == "the instance stopped before it was ready"


async def _is_stopped(world: World, upstream_id: str) -> bool:
    found = await world.provider.get(upstream_id)
    if found is not None and found.status == "pulling":
        await world.provider.stop(upstream_id)
    return found is None or found.status == "exited"


async def test_an_instance_deleted_by_somebody_else_fails() -> None:
    """It is gone for good once the provider has denied knowing it twice."""
    async with serving(ENDLESS_PULL) as world:
        asked = await world.create()
        await until(lambda: _has_status(world, asked, STARTING), timeout=LONG_S)
        [upstream] = await world.upstream()
        await world.provider.delete(upstream["id"])
        failed = await world.reaches(asked, FAILED)
        await world.hears("creating", "failed")

        assert failed.upstream_gone
        assert failed.novita_instance_id == upstream["id"]


async def test_one_not_found_is_no_proof() -> None:
    """A single denial by the provider does not fail an instance."""
    # Never listed, so that it is asked for by itself at every look.
    unlisted = msgspec.structs.replace(ENDLESS_PULL, list_lag=1_000.0)
    async with serving(unlisted) as world:
        asked = await world.create()
        await until(lambda: _has_status(world, asked, STARTING), timeout=LONG_S)
        await world.faults("get:error:status=404,code=RESOURCE_NOT_FOUND,after=1,count=1")
        await until(lambda: _called(world, "get", 6), timeout=LONG_S)
        found = await world.get(asked)

        assert found.status is STARTING
        assert found.missing_since is None


async def _called(world: World, route: str, times: int) -> bool:
    return await world.calls(route) >= times


async def test_trouble_while_watching_fails_nothing() -> None:
    """Server errors, throttling and resets are waited out, for longer than any attempts last."""
    pulling = SimulatorSettings(durations=msgspec.structs.replace(FAST, pulling=0.5))
    async with serving(pulling) as world:
        asked = await world.create()
        await until(lambda: _has_status(world, asked, STARTING), timeout=LONG_S)
        await world.faults(
            "list:error:status=503,count=8",
            "list:reset:count=3",
            "list:rate_limit:retry_after=0,count=2",
            "get:reset:count=2",
        )
        await world.reaches(asked, READY)
        await world.hears("creating", "ready")

        assert await world.creates() == 1


async def test_a_restarted_service_goes_on_where_it_was(sqlite_url: str) -> None:
    """Whatever a creation waits for, another service on the same store takes it up."""
    async with serving(ENDLESS_PULL, store=sqlite_url) as world:
        asked = await world.create()
        await until(lambda: _has_status(world, asked, STARTING), timeout=LONG_S)
        await world.service.stop()
        await world.service.start()
        [upstream] = await world.upstream()
        await world.provider.delete(upstream["id"])
        await world.reaches(asked, FAILED)

        assert await world.creates() == 1


# Jobs made by hand


async def test_a_create_job_made_by_hand_rents_nothing_twice() -> None:
    """A recorded upstream id ends the job."""
    async with serving() as world:
        asked = await world.create()
        await world.reaches(asked, READY)
        job = await world.queue.add_job("create_instance", {"instanceId": asked.id})
        done = await world.queue.wait(job.id, timeout=LONG_S)

        assert done.status is JobStatus.COMPLETED
        assert done.result == "nothing to create"
        assert await world.creates() == 1


async def test_two_create_jobs_at_once_rent_one_instance() -> None:
    """Each call is recorded by compare-and-set: the slower job finds the quicker one's instance."""
    async with serving(faults=["create:slow:seconds=0.2"], started=False) as world:
        asked = await world.create()
        for _ in range(4):
            await world.queue.add_job("create_instance", {"instanceId": asked.id})
        await world.service.start()
        await world.reaches(asked, READY)

        assert await world.creates() == 1


async def test_a_create_job_for_nothing_fails_for_good() -> None:
    """Without a record there is nothing to rent."""
    async with serving() as world:
        job = await world.queue.add_job("create_instance", {"instanceId": "inst_none"})
        done = await world.queue.wait(job.id, timeout=LONG_S)

        assert done.status is JobStatus.FAILED
        assert done.error == "no instance has the id 'inst_none'"
        assert await world.creates() == 0


async def test_a_retried_create_job_of_a_failed_instance_rents_nothing() -> None:
    """A person who retries the job of a creation that has ended gets no second ending."""
    async with serving(faults=["create:no_stock"]) as world:
        asked = await world.create()
        failed = await world.reaches(asked, FAILED)
        job_id = failed.jobs["create_instance"]
        await world.queue.wait(job_id, timeout=LONG_S)
        await world.control("faults", method="DELETE")
        await world.queue.retry_job(job_id)
        done = await world.queue.wait(job_id, timeout=LONG_S)
        await world.delivers_all(asked)

        assert done.result == "nothing to create"
        assert await world.creates() == 0
        assert world.receiver.types() == ["creating", "failed"]
