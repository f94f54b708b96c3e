"""Health, metrics and the description of the API."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.server.support import TOKENS, VIEWER, running

from durably import JobContext, JobQueueService, StoreReadOnlyError
from durably.server.audit import Origin, entries, prune
from durably.server.auth import LOCAL
from durably.server.idempotency import IdempotencyKeys, Key
from durably.stores.memory import MemoryStore
from durably.testing import VirtualClock


async def test_ready_follows_what_the_service_can_do() -> None:
    """200 while it works, 503 with the reasons as problem details while it does not."""
    async with running() as api:
        assert (await api.get("/health/ready")).json == {"status": "ready"}
        await api.queue.stop_processing()
        answer = await api.get("/health/ready")
        told = answer.problem(503, "not_ready")
        assert told["reasons"] == ["this process takes no jobs"]
        assert int(answer.headers["Retry-After"]) >= 1
        await api.queue.start_processing()
        assert (await api.get("/health/ready")).status == 200
        api.service.readiness.drain()
        told = (await api.get("/health/ready")).problem(503, "not_ready")
        assert told["reasons"] == ["the service is shutting down"]
        assert (await api.get("/health/live")).json == {"status": "live"}


async def test_a_store_that_refuses_writes_is_503_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Writing routes and readiness say so, without the path; reading goes on."""
    async with running(started=False) as api:

        async def refuse(*_: object, **__: object) -> Any:
            raise StoreReadOnlyError("/secret/jobs.db is read-only")

        monkeypatch.setattr(api.queue._store, "enqueue", refuse)
        monkeypatch.setattr(api.queue._store, "write", refuse)
        answer = await api.post("/api/jobs", {"type": "noop"})
        answer.problem(503, "unavailable")
        assert answer.headers["Retry-After"]
        assert b"secret" not in answer.body
        told = (await api.get("/health/ready")).problem(503, "not_ready")
        assert told["reasons"] == ["the store refuses writes: it is read-only"]
        assert (await api.get("/api/jobs")).status == 200


async def test_metrics_are_those_of_prometheus_and_all_ours() -> None:
    """Every family begins with durably_ and has help; the figures are the queue's."""
    async with running(tokens=TOKENS, token=VIEWER) as api:

        async def quick(_: JobContext) -> None:
            return None

        api.queue.register_handler('a"b\\n', quick)
        job = await api.queue.add_job('a"b\\n')
        await api.queue.add_job("later", delay=100)
        await api.final(job.id)
        await api.queue.pause("mail")
        await api.get("/nowhere/at/all")
        await api.get(f"/api/jobs/{job.id}")
        answer = await api.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain")
        families = list(text_string_to_metric_families(answer.body.decode()))
        samples = {
            (s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples
        }
        assert all(
            family.name.startswith("durably_") and family.documentation for family in families
        )
        assert samples["durably_jobs", (("status", "completed"),)] == 1
        assert samples["durably_jobs", (("status", "scheduled"),)] == 1
        assert samples["durably_jobs_by_type", (("type", 'a"b\\n'),)] == 1
        assert samples["durably_queue_paused", (("queue", "mail"),)] == 1
        assert samples["durably_unhandled_types", (("type", "later"),)] == 1
        assert samples["durably_worker_slots", ()] == 8
        assert samples["durably_workers", (("state", "alive"),)] == 1
        assert samples["durably_ready", ()] == 1
        assert samples["durably_streams", ()] == 0
        routes = {
            labels["route"]
            for f in families
            for s in f.samples
            if (labels := s.labels).get("route")
        }
        assert "unmatched" in routes
        assert not any(job.id in route for route in routes)


async def test_the_description_has_every_route_with_an_example() -> None:
    """OpenAPI 3.1; bodies with schema and example, errors as problem details, tokens when needed."""
    async with running(started=False, tokens=TOKENS) as api:
        described = (await api.get("/api/openapi.json")).json
    assert described["openapi"].startswith("3.1")
    assert set(described["paths"]) == {
        "/api/instances",
        "/api/instances/{instance_id}",
        "/api/instances/{instance_id}/start",
        "/api/instances/{instance_id}/stop",
        "/api/instances/{instance_id}/events",
        "/api/catalogue",
        "/api/events",
        "/api/live",
        "/api/session",
        "/api/jobs",
        "/api/jobs/search",
        "/api/jobs/bulk",
        "/api/jobs/{job_id}",
        "/api/jobs/{job_id}/cancel",
        "/api/jobs/{job_id}/retry",
        "/api/jobs/{job_id}/explain",
        "/api/webhooks",
        "/api/webhooks/{delivery_id}/retry",
        "/api/webhooks/targets",
        "/api/webhooks/targets/enable",
        "/api/queues/{name}/pause",
        "/api/queues/{name}/resume",
        "/api/stats",
        "/api/audit",
        "/api/openapi.json",
        "/metrics",
        "/health/live",
        "/health/ready",
    }
    for path, item in described["paths"].items():
        for method, operation in item.items():
            place = f"{method} {path}"
            assert operation["summary"], place
            open_to_all = path.startswith("/health") or path in {
                "/api/openapi.json",
                "/api/session",
            }
            assert operation.get("security", []) == ([] if open_to_all else [{"token": []}]), place
            assert "application/problem+json" in operation["responses"]["500"]["content"], place
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]["application/json"]
                assert content["schema"], place
                assert content["example"], place
    job = described["components"]["schemas"]["JobBody"]
    assert job["required"] == ["type"]
    assert job["properties"]["maxAttempts"]


async def test_old_entries_and_keys_are_removed() -> None:
    """Audit after 90 days, that of added jobs with the jobs, keys of days that are over."""
    clock = VirtualClock()
    queue = JobQueueService(MemoryStore(clock=clock), clock=clock, retention=3_600)
    keys = IdempotencyKeys(queue, clock)
    origin = Origin(principal=LOCAL, request_id="r")
    async with queue:

        async def ask(text: str) -> object:
            key = Key(text, origin=origin, route="r", raw={})
            found = await keys.find(key)
            if found is None:
                changes = queue.changeset()
                keys.keep(changes, key, text)
                origin.note(changes, "job.enqueue", text)
                origin.note(changes, "job.cancel", text)
                await queue.commit(changes)
            return found

        async def look() -> list[str]:
            await prune(queue)
            await keys.prune()
            return [entry.action for entry in await entries(queue, before=0, limit=100)]

        assert await ask("a") is None
        assert await look() == ["job.cancel", "job.enqueue"]
        await clock.advance(86_000)
        assert await ask("a") == "a"
        assert await look() == ["job.cancel"]
        await clock.advance(2 * 86_400)
        assert await look() == ["job.cancel"]
        assert await ask("a") is None
        await clock.advance(91 * 86_400)
        assert await look() == []
        counts = [await queue.count_records(f"idempotency:{day}") for day in range(20_000, 21_500)]
        assert sum(counts) <= 2
