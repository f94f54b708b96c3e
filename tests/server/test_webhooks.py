"""Webhook deliveries over HTTP: listed, tried again; disabled targets, and how they are enabled."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.instances.support import SECRET
from tests.server.support import ADMIN, OPERATOR, TOKENS, VIEWER, Api, running

from durably import Job
from durably.instances import DeliveryStatus, WebhookDelivery
from durably.instances.records import DELIVERY
from durably.testing import until

AT = datetime(2026, 5, 4, 12, tzinfo=UTC)


async def settled(api: Api, *statuses: str) -> list[dict[str, Any]]:
    """The deliveries, oldest first, once they have these statuses."""
    found: list[dict[str, Any]] = []

    async def are_so() -> bool:
        found[:] = (await api.get("/api/webhooks")).json["deliveries"][::-1]
        return [one["status"] for one in found] == list(statuses)

    await until(are_so, timeout=30)
    return found


async def kept(api: Api, *deliveries: WebhookDelivery) -> None:
    """Put deliveries into the store."""
    for start in range(0, len(deliveries), 500):
        changes = api.queue.changeset()
        for one in deliveries[start : start + 500]:
            changes.put(DELIVERY, one.id, one, expect=0)
        await api.queue.commit(changes)


def delivery(number: int, **fields: Any) -> WebhookDelivery:
    return WebhookDelivery(
        id=f"inst_{number:032x}_000001",
        url="https://example.org/hook",
        payload={"n": number},
        created_at=AT + timedelta(seconds=number),
        **fields,
    )


async def disabled(api: Api) -> list[dict[str, Any]]:
    """Have the receiver's target disabled by its first answer; the two deliveries."""
    api.world.receiver.answers = [410]
    instance_id = await api.instance(webhookUrl=api.world.receiver.url)
    await api.reaches(instance_id, "ready")
    return await settled(api, "disabled", "disabled")


async def test_deliveries_are_listed_with_every_attempt() -> None:
    """Newest first; the secret that signs them is nowhere."""
    async with running() as api:
        api.world.receiver.answers = [500]
        instance_id = await api.instance(webhookUrl=api.world.receiver.url)
        await api.reaches(instance_id, "ready")
        creating, ready = await settled(api, "delivered", "delivered")
        assert [one["status"] for one in creating["attempts"]] == [500, 204]
        assert (ready["instanceId"], ready["type"]) == (instance_id, "instance.ready")
        assert ready["sequence"] == 2
        body = (await api.get("/api/webhooks")).body
        assert SECRET.removeprefix("whsec_").encode() not in body


async def test_pages_have_each_delivery_once() -> None:
    """Also when the last page is full."""
    async with running(started=False) as api:
        await kept(api, *map(delivery, range(7)))
        found, pages, after = [], 0, ""
        while pages == 0 or after:
            page = (await api.get(f"/api/webhooks?limit=3{after}")).json
            found += [one["payload"]["n"] for one in page["deliveries"]]
            after = f"&after={page['nextCursor']}" if "nextCursor" in page else ""
            pages += 1
        assert (found, pages) == (list(range(6, -1, -1)), 3)
        assert "nextCursor" not in (await api.get("/api/webhooks?limit=7")).json


async def test_a_filter_looks_at_so_many_and_no_more() -> None:
    """A page that has found nothing yet says where to go on."""
    async with running(started=False) as api:
        done = (delivery(n, status=DeliveryStatus.DELIVERED) for n in range(1, 2_501))
        await kept(api, delivery(0), *done)
        first = (await api.get("/api/webhooks?status=pending")).json
        assert first["deliveries"] == []
        second = (await api.get(f"/api/webhooks?status=pending&after={first['nextCursor']}")).json
        assert [one["payload"]["n"] for one in second["deliveries"]] == [0]
        assert "nextCursor" not in second


async def test_a_page_of_large_deliveries_is_cut_short() -> None:
    """The answer stays small, and nothing is left out."""
    async with running(started=False) as api:
        big = "x" * 900_000
        await kept(api, *(delivery(n, headers={"X-Big": big}) for n in range(12)))
        page = (await api.get("/api/webhooks")).json
        rest = (await api.get(f"/api/webhooks?after={page['nextCursor']}")).json
        assert len(page["deliveries"]) < 12
        assert len(page["deliveries"]) + len(rest["deliveries"]) == 12


async def test_credentials_and_redacted_fields_are_not_shown() -> None:
    """In headers and in what was sent."""
    async with running(started=False, redact=["N"]) as api:
        await kept(api, delivery(1, headers={"Authorization": "Bearer x", "X-Team": "blue"}))
        [shown] = (await api.get("/api/webhooks")).json["deliveries"]
        assert shown["headers"] == {"Authorization": "[redacted]", "X-Team": "blue"}
        assert shown["payload"] == {"n": "[redacted]"}


@pytest.mark.parametrize("query", ["status=lost", "limit=0", "limit=1001", "after=%00", "stat=x"])
async def test_a_query_that_is_wrong_is_refused(query: str) -> None:
    """400 names the parameter."""
    async with running(started=False) as api:
        answer = await api.get(f"/api/webhooks?{query}")
        answer.problem(400, "validation_failed")
        assert answer.fields() == {query.partition("=")[0]}


async def test_a_delivery_is_tried_again_by_its_job() -> None:
    """202 with its job; it is then delivered, though its target was disabled, and enables it."""
    async with running(tokens=TOKENS, token=OPERATOR) as api:
        creating, _ = await disabled(api)
        answer = await api.post(f"/api/webhooks/{creating['id']}/retry")
        assert (answer.status, answer.json["id"]) == (202, creating["id"])
        assert answer.headers["Location"] == f"/api/jobs/{creating['jobId']}"
        again, _ = await settled(api, "delivered", "disabled")
        assert [one["status"] for one in again["attempts"]] == [410, 204]
        assert (await api.get("/api/webhooks/targets")).json == {"targets": []}
        api.token = ADMIN
        entry = (await api.get("/api/audit?limit=1")).json["entries"][0]
        assert (entry["action"], entry["subject"]) == ("webhook.retry", creating["id"])


async def test_a_delivery_whose_job_was_removed_gets_another() -> None:
    """Deliveries are kept for longer than jobs."""
    async with running() as api:
        creating, _ = await disabled(api)
        for job_id in {one["jobId"] for one in await settled(api, "disabled", "disabled")}:
            await api.final(job_id)
        await api.queue.cleanup(older_than=0)
        answer = await api.post(f"/api/webhooks/{creating['id']}/retry")
        assert answer.status == 202
        assert answer.json["jobId"] != creating["jobId"]
        again, _ = await settled(api, "delivered", "disabled")
        assert again["jobId"] == answer.json["jobId"]


async def test_a_job_that_is_removed_just_then_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the look at the delivery's job and its retry."""
    async with running() as api:
        creating, _ = await disabled(api)
        for one in await settled(api, "disabled", "disabled"):
            await api.final(one["jobId"])
        get_job = api.queue.get_job

        async def get_and_lose(id: str) -> Job | None:
            found = await get_job(id)
            await api.queue.cleanup(older_than=0)
            return found

        monkeypatch.setattr(api.queue, "get_job", get_and_lose)
        answer = await api.post(f"/api/webhooks/{creating['id']}/retry")
        assert answer.status == 202
        assert answer.json["jobId"] != creating["jobId"]


async def test_what_is_delivered_or_at_work_is_not_tried_again() -> None:
    """409, and no entry in the audit; 404 for what is no delivery."""
    async with running(started=False) as api:
        await api.instance(webhookUrl=api.world.receiver.url)
        [pending] = await settled(api, "pending")
        told = (await api.post(f"/api/webhooks/{pending['id']}/retry")).problem(409, "conflict")
        assert "is at work on it" in told["detail"]
        await api.world.service.start()
        await settled(api, "delivered", "delivered")
        told = (await api.post(f"/api/webhooks/{pending['id']}/retry")).problem(409, "conflict")
        assert "has been delivered" in told["detail"]
        for name in ("nobody", "%00", "%ED%A0%80", "x" * 2_000):
            (await api.post(f"/api/webhooks/{name}/retry")).problem(404, "not_found")
        actions = [one["action"] for one in (await api.get("/api/audit")).json["entries"]]
        assert "webhook.retry" not in actions


async def test_a_disabled_target_is_shown_and_enabled() -> None:
    """With since when; then what is told is sent to it again."""
    async with running(tokens=TOKENS, token=OPERATOR) as api:
        await disabled(api)
        url = api.world.receiver.url
        [target] = (await api.get("/api/webhooks/targets")).json["targets"]
        assert target["url"] == url
        assert datetime.fromisoformat(target["at"]).tzinfo is not None
        answer = await api.post("/api/webhooks/targets/enable", {"url": url})
        assert (answer.status, answer.json) == (200, {"targets": []})
        (await api.post("/api/webhooks/targets/enable", {"url": url})).problem(404, "not_found")
        instance_id = await api.instance(webhookUrl=url)
        await api.reaches(instance_id, "ready")
        await settled(api, "disabled", "disabled", "delivered", "delivered")
        api.token = ADMIN
        entries = (await api.get("/api/audit")).json["entries"]
        [entry] = [one for one in entries if one["action"] == "webhook.enable"]
        assert entry["subject"] == url


@pytest.mark.parametrize("body", [{}, {"url": ""}, {"url": 1}, {"url": "x" * 2_049}])
async def test_a_target_that_is_none_is_refused(body: Any) -> None:
    """400 names the field."""
    async with running(started=False) as api:
        answer = await api.post("/api/webhooks/targets/enable", body)
        answer.problem(400, "validation_failed")
        assert answer.fields() == {"url"}


async def test_viewers_look_and_operators_change() -> None:
    """403 for what the role does not allow."""
    async with running(started=False, tokens=TOKENS, token=VIEWER, novita_timeout=30.0) as api:
        assert (await api.get("/api/webhooks")).status == 200
        assert (await api.get("/api/webhooks/targets")).status == 200
        assert (await api.get("/api/catalogue")).status == 200
        (await api.post("/api/webhooks/x/retry")).problem(403, "forbidden")
        (await api.post("/api/webhooks/targets/enable", {"url": "x"})).problem(403, "forbidden")
