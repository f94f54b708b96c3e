"""GPU instances over HTTP, on a simulated provider."""

import asyncio
from datetime import datetime
from typing import Any

import msgspec
import pytest
from tests.instances.support import FAST
from tests.server.support import INSTANCE, Api, running

from durably.instances.simulator import SimulatorSettings
from durably.testing import until


async def upstream_is_empty(api: Api) -> bool:
    return not await api.world.upstream()


async def test_an_instance_is_accepted_and_becomes_ready() -> None:
    """202 with its id, job and estimate; the detail tells how it came to be ready."""
    async with running() as api:
        answer = await api.post("/api/instances", INSTANCE)
        accepted = answer.json
        instance_id = accepted["instanceId"]
        assert (answer.status, accepted["status"]) == (202, "creating")
        assert answer.headers["Location"] == f"/api/instances/{instance_id}"
        assert int(answer.headers["Retry-After"]) >= 1
        assert accepted["message"]
        assert datetime.fromisoformat(accepted["estimatedReadyTime"]).tzinfo is not None
        assert (await api.get(f"/api/jobs/{accepted['jobId']}")).json["type"] == "create_instance"

        ready = await api.reaches(instance_id, "ready")
        assert (ready["id"], ready["instanceId"]) == (instance_id, instance_id)
        assert ready["novitaInstanceId"]
        assert ready["lastError"] is None
        assert ready["readyAt"] >= ready["createdAt"]
        types = [event["type"] for event in ready["timeline"]]
        assert types[0] == "instance.creating"
        assert types[-1] == "instance.ready"
        ids = [event["id"] for event in ready["timeline"]]
        assert ids == sorted(ids)


async def test_the_defaults_are_those_of_the_contract() -> None:
    """One GPU, 60 GB, CN-HK-01, spot."""
    async with running(started=False) as api:
        detail = (await api.get(f"/api/instances/{await api.instance()}")).json
        assert (detail["gpuNum"], detail["rootfsSize"]) == (1, 60)
        assert (detail["region"], detail["billingMode"]) == ("CN-HK-01", "spot")
        assert detail["webhookUrl"] is None


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"name", "productName", "templateId"}),
        (
            {"name": "a b", "productName": "", "templateId": 0, "gpuNum": 9, "rootfsSize": 19,
             "webhookUrl": "ftp://x", "billingMode": "free"},
            {"name", "productName", "templateId", "gpuNum", "rootfsSize", "webhookUrl", "billingMode"},
        ),
        ({**INSTANCE, "gpu_num": 2}, {"gpu_num"}),
        ({"name": "a" * 101, "productName": "p" * 201, "templateId": " ", "what": 1},
         {"name", "productName", "templateId", "what"}),
        ({**INSTANCE, "webhookUrl": "http://127.0.0.2/hook"}, {"webhookUrl"}),
        ({**INSTANCE, "webhookUrl": "http://169.254.169.254/latest"}, {"webhookUrl"}),
    ],
)  # fmt: skip
async def test_every_fault_of_a_request_is_named_at_once(body: Any, fields: set[str]) -> None:
    """400 with one entry for each field that is wrong; nothing is stored."""
    async with running(started=False) as api:
        answer = await api.post("/api/instances", body)
        answer.problem(400, "validation_failed")
        assert answer.fields() == fields
        assert (await api.get("/api/instances")).json == {"instances": [], "total": 0}


async def test_one_key_makes_one_instance() -> None:
    """Five identical requests at once with one key get the same answer and make one GPU."""
    async with running() as api:
        key = {"Idempotency-Key": "order-1"}
        answers = await asyncio.gather(
            *(api.post("/api/instances", INSTANCE, headers=key) for _ in range(5))
        )
        assert [answer.status for answer in answers] == [202] * 5
        assert len({answer.body for answer in answers}) == 1
        assert len({answer.headers["Location"] for answer in answers}) == 1
        await api.reaches(answers[0].json["instanceId"], "ready")
        again = await api.post("/api/instances", INSTANCE, headers=key)
        assert (again.status, again.body) == (202, answers[0].body)
        assert (await api.get("/api/instances")).json["total"] == 1
        assert await api.world.creates() == 1


async def test_five_keys_make_five_instances() -> None:
    """The key, not the body, says what is the same request."""
    async with running(started=False) as api:
        answers = await asyncio.gather(
            *(
                api.post("/api/instances", INSTANCE, headers={"Idempotency-Key": f"order-{n}"})
                for n in range(5)
            )
        )
        assert len({answer.json["instanceId"] for answer in answers}) == 5
        assert (await api.get("/api/instances")).json["total"] == 5


async def test_a_key_with_another_body_is_refused() -> None:
    """422, and nothing is made."""
    async with running(started=False) as api:
        key = {"Idempotency-Key": "order-1"}
        await api.post("/api/instances", INSTANCE, headers=key)
        other = await api.post("/api/instances", {**INSTANCE, "gpuNum": 2}, headers=key)
        other.problem(422, "idempotency_key_reused")
        assert (await api.get("/api/instances")).json["total"] == 1


@pytest.mark.parametrize("key", ["x" * 256, "a\tb"])
async def test_a_key_that_cannot_be_kept_is_refused(key: str) -> None:
    """400 names the header."""
    async with running(started=False) as api:
        answer = await api.post("/api/instances", INSTANCE, headers={"Idempotency-Key": key})
        answer.problem(400, "validation_failed")
        assert answer.fields() == {"Idempotency-Key"}


async def test_a_refused_request_does_not_use_up_its_key() -> None:
    """After a 400 the corrected body may come with the same key."""
    async with running(started=False) as api:
        key = {"Idempotency-Key": "order-1"}
        assert (await api.post("/api/instances", {}, headers=key)).status == 400
        assert (await api.post("/api/instances", INSTANCE, headers=key)).status == 202


async def test_the_list_is_newest_first_and_paged() -> None:
    """Each instance once, with the total on every page."""
    async with running(started=False) as api:
        ids = [await api.instance() for _ in range(5)]
        found: list[str] = []
        after = ""
        while True:
            page = (await api.get(f"/api/instances?limit=2{after}")).json
            assert page["total"] == 5
            found += [one["instanceId"] for one in page["instances"]]
            if "nextCursor" not in page:
                break
            after = f"&after={page['nextCursor']}"
        assert found == ids[::-1]


async def test_unknown_instances_are_not_found() -> None:
    """404 on every route of an instance, for any text as its id."""
    async with running(started=False) as api:
        for one in ("nobody", "%00", "%ED%A0%80", "x" * 2000, "ä"):
            for method, end in (
                ("GET", ""), ("DELETE", ""), ("POST", "/start"), ("POST", "/stop"), ("GET", "/events"),
            ):  # fmt: skip
                answer = await api.ask(method, f"/api/instances/{one}{end}")
                answer.problem(404, "not_found")


async def test_stop_start_and_their_conflicts() -> None:
    """409 while something else is done and where the status does not allow it."""
    async with running() as api:
        instance_id = await api.instance()
        path = f"/api/instances/{instance_id}"
        (await api.post(f"{path}/stop")).problem(409, "conflict")
        (await api.post(f"{path}/start")).problem(409, "conflict")
        await api.reaches(instance_id, "ready")
        (await api.post(f"{path}/start")).problem(409, "conflict")
        stopping = await api.post(f"{path}/stop")
        assert (stopping.status, stopping.json["status"]) == (202, "stopping")
        assert stopping.headers["Location"] == path
        await api.reaches(instance_id, "stopped")
        (await api.post(f"{path}/stop")).problem(409, "conflict")
        starting = await api.post(f"{path}/start")
        assert (starting.status, starting.json["status"]) == (202, "starting")
        await api.reaches(instance_id, "ready")


async def test_delete_is_accepted_in_every_status_and_again() -> None:
    """202 each time; in the end nothing is left upstream and one terminal event is told."""
    async with running() as api:
        instance_id = await api.instance()
        await api.reaches(instance_id, "ready")
        assert (await api.delete(f"/api/instances/{instance_id}")).status == 202
        assert (await api.delete(f"/api/instances/{instance_id}")).status == 202
        gone = await api.reaches(instance_id, "terminated")
        assert (await api.delete(f"/api/instances/{instance_id}")).status == 202
        assert await upstream_is_empty(api)
        assert [e["type"] for e in gone["timeline"]].count("instance.terminated") == 1


@pytest.mark.parametrize("moment", ["at once", "during the call", "while starting"])
async def test_deleted_while_being_created_it_ends_deleted(moment: str) -> None:
    """Whenever the DELETE comes: nothing upstream, jobs cancelled or done, one terminal event."""
    slow = SimulatorSettings(durations=msgspec.structs.replace(FAST, pulling=1_000.0))
    faults = ("create:slow:seconds=0.3",) if moment == "during the call" else ()
    async with running(simulator=slow, faults=faults) as api:
        instance_id = await api.instance()
        path = f"/api/instances/{instance_id}"
        if moment == "during the call":

            async def is_called() -> bool:
                return await api.world.calls("create") > 0

            await until(is_called, timeout=30)
        elif moment == "while starting":

            async def is_starting() -> bool:
                return bool((await api.get(path)).json["status"] == "starting")

            await until(is_starting, timeout=30)
        assert (await api.delete(path)).status == 202
        gone = await api.reaches(instance_id, "terminated")
        await until(lambda: upstream_is_empty(api), timeout=30)
        types = [event["type"] for event in gone["timeline"]]
        ends = {"instance.ready", "instance.failed", "instance.timeout", "instance.terminated"}
        assert [type for type in types if type in ends] == ["instance.terminated"]

        async def jobs_are_final() -> bool:
            jobs = [(await api.get(f"/api/jobs/{id}")).json for id in gone["jobs"].values()]
            return all(job["status"] in {"completed", "cancelled"} for job in jobs)

        await until(jobs_are_final, timeout=30)


async def test_a_failure_says_why() -> None:
    """`lastError` and the timeline have the reason."""
    async with running(faults=("create:no_stock",)) as api:
        instance_id = await api.instance()
        failed = await api.reaches(instance_id, "failed")
        assert failed["lastError"]
        end = next(e for e in failed["timeline"] if e["type"] == "instance.failed")
        assert end["data"]["error"] == failed["lastError"]


async def test_the_webhooks_of_an_instance_are_shown_with_their_attempts() -> None:
    """Each delivery in sequence, with what its target answered."""
    async with running() as api:
        instance_id = await api.instance(webhookUrl=api.world.receiver.url)
        await api.reaches(instance_id, "ready")
        deliveries: list[Any] = []

        async def delivered() -> bool:
            detail = (await api.get(f"/api/instances/{instance_id}")).json
            deliveries[:] = detail["deliveries"]
            return all(one["status"] == "delivered" for one in deliveries)

        await until(delivered, timeout=30)
        assert [one["type"] for one in deliveries] == ["instance.creating", "instance.ready"]
        assert [one["attempts"][-1]["status"] for one in deliveries] == [204, 204]


async def test_an_etag_spares_the_second_reading() -> None:
    """304 while nothing has changed."""
    async with running(started=False) as api:
        path = f"/api/instances/{await api.instance()}"
        first = await api.get(path)
        again = await api.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        await api.delete(path)
        assert (await api.get(path, headers={"If-None-Match": first.headers["ETag"]})).status == 200


async def test_the_cost_is_shown_once_there_is_a_price() -> None:
    """Null before; then USD so far, in the list too, and the same for a minute: 304."""
    async with running(started=False) as api:
        instance_id = await api.instance()
        path = f"/api/instances/{instance_id}"
        assert (await api.get(path)).json["cost"] is None
        await api.world.service.start()
        ready = await api.reaches(instance_id, "ready")
        assert (ready["cost"], ready["hourlyPrice"]) == (0.0, 0.35)
        assert (await api.get("/api/instances")).json["instances"][0]["cost"] == 0.0
        known = (await api.get(path)).headers["ETag"]
        assert (await api.get(path, headers={"If-None-Match": known})).status == 304


async def test_the_estimate_learns_from_what_was() -> None:
    """After an instance has become ready in a moment the next is not promised in minutes."""
    async with running() as api:
        first = (await api.post("/api/instances", INSTANCE)).json
        await api.reaches(first["instanceId"], "ready")
        api.service.estimate.forget()
        second = (await api.post("/api/instances", INSTANCE)).json
        detail = (await api.get(f"/api/instances/{second['instanceId']}")).json
        promised = datetime.fromisoformat(second["estimatedReadyTime"])
        assert (promised - datetime.fromisoformat(detail["createdAt"])).total_seconds() < 60
