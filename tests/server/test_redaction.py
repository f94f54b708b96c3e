"""Fields that the API does not show: in jobs, webhooks, events and streams."""

from pathlib import Path
from typing import Any

from tests.server.processes import Server
from tests.server.support import Api, running

from durably import Cancel, JobContext
from durably.instances.events import ORPHAN_DELETED

PAYLOAD = {"user": "ann", "login": {"Password": "p-1", "pin": [1, 2]}}
SHOWN = {"user": "ann", "login": {"Password": "[redacted]", "pin": "[redacted]"}}
REDACT = ("password", "PIN")


async def echoing(api: Api) -> list[Any]:
    """Register a handler that gives what it got; all it has got."""
    got: list[Any] = []

    async def echo(job: JobContext) -> Any:
        got.append(job.payload)
        if len(got) == 1:
            raise Cancel("not yet")
        return {"pin": 7, "echo": job.payload}

    api.queue.register_handler("echo", echo)
    return got


async def test_payload_and_result_are_hidden_wherever_a_job_is_shown() -> None:
    """When added, listed, looked at, retried and cancelled; the handler gets them all the same."""
    async with running(redact=REDACT) as api:
        got = await echoing(api)
        added = await api.post("/api/jobs", {"type": "echo", "payload": PAYLOAD})
        path = f"/api/jobs/{added.json['id']}"
        await api.final(added.json["id"])
        retried = await api.post(f"{path}/retry")
        await api.final(added.json["id"])
        looked = await api.get(path)
        later = await api.post("/api/jobs", {"type": "other", "payload": PAYLOAD, "delay": 100})
        cancelled = await api.post(f"/api/jobs/{later.json['id']}/cancel")
        listed = (await api.get("/api/jobs")).json["jobs"]
        shown = [one.json for one in (added, retried, looked, later, cancelled)] + listed
        assert [one["payload"] for one in shown] == [SHOWN] * 7
        assert looked.json["result"] == {"pin": "[redacted]", "echo": SHOWN}
        assert got == [PAYLOAD, PAYLOAD]


async def test_an_edited_payload_keeps_what_was_hidden() -> None:
    """`[redacted]` sent back where something was hidden is what it was; the rest is as edited."""
    async with running(redact=REDACT) as api:
        got = await echoing(api)
        job_id = await api.job("echo", payload=PAYLOAD)
        await api.final(job_id)
        edited = {"user": "bob", "login": {"Password": "[redacted]", "pin": 3}}
        answer = await api.post(f"/api/jobs/{job_id}/retry", {"payload": edited})
        assert answer.status == 202
        await api.final(job_id)
        assert got[-1] == {"user": "bob", "login": {"Password": "p-1", "pin": 3}}


async def test_a_hidden_value_in_a_new_place_is_refused() -> None:
    """400 names the field; nothing runs again."""
    async with running(redact=REDACT) as api:
        await echoing(api)
        job_id = await api.job("echo", payload=PAYLOAD)
        await api.final(job_id)
        answer = await api.post(f"/api/jobs/{job_id}/retry", {"payload": {"pin": "[redacted]"}})
        answer.problem(400, "validation_failed")
        assert answer.fields() == {"payload"}
        assert (await api.get(f"/api/jobs/{job_id}")).json["status"] == "cancelled"


async def test_credentials_in_the_headers_of_a_webhook_are_hidden() -> None:
    """Without any setting."""
    async with running(started=False) as api:
        headers = {"Authorization": "Bearer abc", "X-Api-Key": "k", "X-Team": "blue"}
        payload = {"url": api.world.receiver.url, "payload": {}, "headers": headers}
        job_id = await api.job("send_webhook", payload=payload)
        shown = (await api.get(f"/api/jobs/{job_id}")).json["payload"]["headers"]
        assert shown == {
            "Authorization": "[redacted]",
            "X-Api-Key": "[redacted]",
            "X-Team": "blue",
        }


async def test_events_and_deliveries_are_hidden_too() -> None:
    """On the timeline, in the stream and in what a webhook says; its receiver gets everything."""
    async with running(redact=["novitaInstanceId"]) as api:
        instance_id = await api.instance(webhookUrl=api.world.receiver.url)
        await api.reaches(instance_id, "ready")
        await api.world.hears("creating", "ready")
        path = f"/api/instances/{instance_id}"
        detail = (await api.get(path)).json
        hidden = detail["timeline"][-1]["data"]["novitaInstanceId"]
        assert hidden == "[redacted]"
        ready = next(one for one in detail["deliveries"] if one["type"] == "instance.ready")
        assert ready["payload"]["data"]["novitaInstanceId"] == "[redacted]"
        async with api.session.get(f"{api.url}{path}/events") as stream:
            lines = [await stream.content.readline() for _ in range(3)]
            while not lines[-1].startswith(b"event: instance.ready"):
                lines.append(await stream.content.readline())
            told = await stream.content.readline()
        assert b'"novitaInstanceId":"[redacted]"' in told
        received = api.world.receiver.events[-1]["data"]
        assert received["novitaInstanceId"] == detail["novitaInstanceId"]


async def test_an_event_without_a_status_is_shown() -> None:
    """That an upstream instance too many was deleted is on the timeline of its record."""
    async with running(started=False) as api:
        instance_id = await api.instance()
        changes = api.queue.changeset()
        data = {"instanceId": instance_id, "novitaInstanceId": "up-2"}
        told = {"type": ORPHAN_DELETED, "timestamp": "2026-05-04T12:00:00Z", "data": data}
        changes.emit(ORPHAN_DELETED, instance_id, told)
        await api.queue.commit(changes)
        timeline = (await api.get(f"/api/instances/{instance_id}")).json["timeline"]
        assert timeline[-1]["data"] == data


async def test_the_setting_reaches_the_server(tmp_path: Path) -> None:
    """DURABLY_REDACT has the names, separated by commas."""
    async with Server("--no-worker", folder=tmp_path, DURABLY_REDACT="password, pin") as server:
        job = await server.post("/api/jobs", {"type": "t", "payload": PAYLOAD})
        assert job["payload"] == SHOWN
