"""What the dashboard's pages are told: the views behind the live topics."""

import asyncio
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from tests.server.support import ADMIN, OPERATOR, TOKENS, VIEWER, Api, running

from durably import Cancel, JobContext, JobPriority, JobStatus, RetryPolicy
from durably.testing import until

NASTY = "<img src=x onerror=alert(1)>"


async def shown(api: Api, topic: str, **options: Any) -> Any:
    """The first state of a live topic."""
    headers = dict(options.pop("headers", {}))
    if api.token is not None:
        headers["Authorization"] = f"Bearer {api.token}"
    url = f"{api.url}/api/live?{urlencode({'topic': topic})}"
    async with api.session.get(url, headers=headers) as response:
        assert response.status == 200, await response.read()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        while "data" not in fields:
            line = (await response.content.readline()).decode().rstrip("\n")
            name, _, value = line.partition(": ")
            fields[name] = value
    assert fields["event"] == topic
    told = msgspec.json.decode(fields["data"])
    assert told["at"].endswith("Z")
    return told["data"] if "data" in told else told["problem"]


async def quick(_: JobContext) -> str:
    return "done"


async def broken(_: JobContext) -> None:
    raise RuntimeError(NASTY)


# Overview


async def test_the_overview_counts_what_there_is() -> None:
    """By status, and by queue and type, with since when the oldest waits."""
    async with running(started=False) as api:
        first = await api.job("a")
        await api.job("a", delay=1_000)
        await api.job("b", queue="other")
        await api.post(f"/api/jobs/{await api.job('b')}/cancel")
        told = await shown(api, "overview")
        assert told["counts"] == {
            "scheduled": 1,
            "ready": 2,
            "processing": 0,
            "completed": 0,
            "failed": 0,
            "cancelled": 1,
            "total": 4,
        }
        rows = {(row["queue"], row["type"]): row for row in told["depth"]}
        assert (rows["default", "a"]["ready"], rows["default", "a"]["scheduled"]) == (1, 1)
        assert rows["default", "b"]["cancelled"] == rows["other", "b"]["ready"] == 1
        created = (await api.get(f"/api/jobs/{first}")).json["createdAt"]
        assert told["oldestReadyAt"] == created
        assert rows["default", "a"]["oldestReadyAt"] == created
        assert rows["default", "b"]["oldestReadyAt"] is None


async def test_the_overview_shows_workers_with_slots_memory_and_renewal() -> None:
    """One row for the worker of this process."""
    async with running() as api:
        api.queue.register_handler("limited", quick, max_concurrency=3)

        async def announced() -> bool:
            [worker] = await api.queue.workers()
            return worker.info.limits.get("limited") == 3

        await until(announced)
        [row] = (await shown(api, "overview"))["workers"]
        assert row["alive"]
        assert row["slots"] == api.queue.concurrency
        assert row["limits"]["limited"] == 3
        assert "limited" in row["types"]
        assert row["lease"] > 0


async def test_the_overview_warns_of_jobs_that_nobody_runs() -> None:
    """With the type, how many wait, and a link to them; not of scheduled ones."""
    async with running() as api:
        await api.job(NASTY)
        await api.job("later", delay=1_000)
        [warning] = (await shown(api, "overview"))["warnings"]
        assert (warning["kind"], NASTY in warning["text"]) == ("unhandled", True)
        assert quote(NASTY, safe="") in warning["link"].replace("+", "%20")
        assert (await shown(api, "shell"))["warnings"] == 1


async def test_the_overview_warns_when_no_worker_lives_and_of_paused_queues() -> None:
    """One warning each, only while jobs wait."""
    async with running(started=False) as api:
        assert (await shown(api, "overview"))["warnings"] == []
        await api.post("/api/queues/default/pause")
        assert (await shown(api, "overview"))["warnings"] == []
        await api.job()
        kinds = [one["kind"] for one in (await shown(api, "overview"))["warnings"]]
        assert kinds == ["noWorker", "paused"]
        told = await shown(api, "shell")
        assert told["pausedQueues"] == ["default"]


async def test_the_overview_says_what_health_says() -> None:
    """A service without handlers that claims nothing is not ready, and says why."""
    async with running(started=False) as api:
        ready = await api.get("/health/ready")
        told = (await shown(api, "overview"))["health"]
        assert told["ready"] is (ready.status == 200)
        assert ready.status == 200 or told["reasons"] == ready.json["reasons"]


# Queues


async def test_the_queues_page_shows_pauses_workers_and_limits() -> None:
    """Also a paused queue without jobs, and one that only has workers."""
    async with running() as api:
        api.queue.register_handler("limited", quick, max_concurrency=2)
        await api.post("/api/queues/empty/pause")
        await api.job("unknown")
        await api.job("limited", delay=1_000)

        async def announced() -> bool:
            [worker] = await api.queue.workers()
            return "limited" in worker.info.limits

        await until(announced)
        rows = {row["name"]: row for row in (await shown(api, "queues"))["queues"]}
        assert rows["empty"]["paused"]
        assert rows["empty"]["workers"] == 0
        assert rows["empty"]["types"] == []
        default = rows["default"]
        assert (default["paused"], default["workers"], default["ready"]) == (False, 1, 1)
        types = {row["type"]: row for row in default["types"]}
        assert (types["unknown"]["handled"], types["unknown"]["limit"]) == (False, None)
        assert (types["limited"]["handled"], types["limited"]["limit"]) == (True, 2)


# Jobs


async def test_a_list_of_jobs_is_newest_first_with_its_total() -> None:
    """And each row has the beginning of its payload as text."""
    async with running(started=False) as api:
        for number in range(110):
            await api.job("a", payload={"text": NASTY, "number": number})
        told = await shown(api, "jobs")
        assert (told["total"], len(told["jobs"])) == (110, 100)
        assert '"number":109' in told["jobs"][0]["preview"]
        assert NASTY in told["jobs"][0]["preview"]
        more = await api.get(f"/api/jobs/search?after={told['nextCursor']}")
        assert [row["preview"][-4:] for row in more.json["jobs"]][-1] == '":0}'
        assert "nextCursor" not in more.json


async def test_a_list_of_jobs_follows_its_filter() -> None:
    """Status, type, queue, tag, text and time are ANDed; with the last three nothing is counted."""
    async with running(started=False) as api:
        wanted = await api.job("mail", queue="q", tags=["vip"], payload={"to": "Ann%_"})
        await api.job("mail", queue="q", tags=["vip"], payload={"to": "bob"})
        await api.job("mail", queue="r", tags=["vip"], payload={"to": "Ann%_"})
        await api.job("post", queue="q", payload={"to": "Ann%_"})
        query = {"queue": "q", "status": "pending", "tag": "vip", "text": "ann%_", "type": "mail"}
        told = await shown(api, f"jobs?{urlencode(query)}")
        assert ([row["id"] for row in told["jobs"]], told["total"]) == ([wanted], None)
        created = (await api.get(f"/api/jobs/{wanted}")).json["createdAt"]
        until_ = await api.get(f"/api/jobs/search?{urlencode({'until': created})}")
        assert until_.json["jobs"] == []
        since = await api.get(f"/api/jobs/search?{urlencode({'since': created})}")
        assert len(since.json["jobs"]) == 4
        counted = await api.get("/api/jobs/search?type=mail&queue=q")
        assert counted.json["total"] == 2


async def test_a_jobs_id_finds_it_at_once() -> None:
    """However old it is, unless the rest of the filter says no."""
    async with running(started=False) as api:
        job_id = await api.job("old")
        changes = api.queue.changeset()
        for _ in range(50):
            changes.add_job("new", payload=job_id)
        await api.queue.commit(changes)
        found = (await api.get(f"/api/jobs/search?text={job_id}")).json
        assert ([row["id"] for row in found["jobs"]], found["scanned"]) == ([job_id], 1)
        others = (await api.get(f"/api/jobs/search?text={job_id}&type=new")).json
        assert {row["type"] for row in others["jobs"]} == {"new"}
        for query in ("status=failed", "tag=x", "until=2020-01-01T00:00:00Z"):
            nothing = (await api.get(f"/api/jobs/search?text={job_id}&{query}")).json
            assert nothing["jobs"] == [], query


async def test_a_row_costs_no_more_than_its_preview() -> None:
    """Of a large payload only the beginning is looked at; it ends as the whole would, hidden values too."""
    payloads: list[Any] = [
        {"password": ["x"] * 10_000, "list": [{"a": "b" * 50}] * 10_000},
        {"text": "é" * 1_000},
        {"a": [1, [], {}, None], "password": "x"},
        [[[]]] * 200,
    ]
    async with running(started=False, redact=["password"]) as api:
        for payload in payloads:
            job_id = await api.job("a", payload=payload)
            hidden = (await api.get(f"/api/jobs/{job_id}")).json["payload"]
            whole = msgspec.json.encode(hidden).decode()
            expected = whole if len(whole) <= 160 else f"{whole[:159]}…"
            [row, *_] = (await shown(api, "jobs"))["jobs"]
            if payload is payloads[0]:  # what is hidden may have been all of the beginning
                assert row["preview"] in {expected, '{"password":"[redacted]"}…'}
            else:
                assert row["preview"] == expected


async def test_a_search_names_what_does_not_fit() -> None:
    """Unknown parameters, statuses, times without an offset, cursors."""
    async with running(started=False) as api:
        for query in ("state=failed", "status=odd", "since=2026-01-01T00:00:00", "after=x", "tag="):
            answer = await api.get(f"/api/jobs/search?{query}")
            answer.problem(400, "validation_failed")
            assert answer.fields() == {query.partition("=")[0]}


async def test_a_jobs_page_shows_each_attempt() -> None:
    """Waits, runs, errors with tracebacks, and why it is where it is."""
    async with running() as api:
        api.queue.register_handler("broken", broken, retry=RetryPolicy(base_delay=0.01, jitter=0))
        job_id = await api.job("broken", payload={"text": NASTY}, maxAttempts=2)
        await api.final(job_id)
        told = await shown(api, f"job/{job_id}")
        assert told["job"]["payload"] == {"text": NASTY}
        assert told["explanation"].startswith("failed")
        assert [attempt["outcome"] for attempt in told["attempts"]] == ["error", "error"]
        first, second = told["attempts"]
        assert first["message"] == NASTY
        assert "RuntimeError" in first["traceback"]
        assert first["readyAt"] <= first["startedAt"] <= first["endedAt"] <= second["readyAt"]
        assert second["readyAt"] <= second["startedAt"] <= second["endedAt"]


async def test_a_jobs_page_shows_steps_and_relatives() -> None:
    """Steps with results; what it added, and what added it."""

    async def parent(job: JobContext) -> str:
        await job.step("look", lambda: {"found": 3})
        await job.add_job("child", {"instanceId": "i-1"})
        return "done"

    async with running() as api:
        api.queue.register_handler("parent", parent)
        api.queue.register_handler("child", quick)
        job_id = await api.job("parent")
        await api.final(job_id)
        told = await shown(api, f"job/{job_id}")
        assert told["steps"] == [{"name": "look", "result": {"found": 3}}]
        assert (told["parent"], told["instanceId"]) == (None, None)
        [child] = told["children"]
        below = await shown(api, f"job/{child['id']}")
        assert (below["parent"]["id"], below["instanceId"]) == (job_id, "i-1")
        assert told["attempts"][-1]["outcome"] == "completed"


async def test_a_running_and_a_cancelled_attempt_are_on_the_timeline() -> None:
    """One without an end, then one that was cancelled."""
    holding = asyncio.Event()

    async def held(_: JobContext) -> None:
        holding.set()
        await asyncio.Event().wait()

    async with running() as api:
        api.queue.register_handler("held", held)
        job_id = await api.job("held")
        await holding.wait()
        [attempt] = (await shown(api, f"job/{job_id}"))["attempts"]
        assert (attempt["outcome"], attempt["endedAt"]) == ("running", None)
        await api.post(f"/api/jobs/{job_id}/cancel")
        await api.final(job_id)
        [attempt] = (await shown(api, f"job/{job_id}"))["attempts"]
        assert attempt["outcome"] == "cancelled"


async def test_an_unknown_job_is_a_problem_of_its_topic() -> None:
    """The stream goes on; the topic says 404."""
    async with running(started=False) as api:
        assert (await shown(api, "job/unknown"))["status"] == 404


# Instances and webhooks


async def test_instances_and_their_webhooks_are_topics_too() -> None:
    """The same as the routes give; an unknown instance is a problem of its topic."""
    async with running() as api:
        instance_id = await api.instance(webhookUrl=api.world.receiver.url)
        await api.reaches(instance_id, "ready")
        for topic, path in (
            ("instances", "/api/instances"),
            (f"instance/{instance_id}", f"/api/instances/{instance_id}"),
        ):
            assert await shown(api, topic) == (await api.get(path)).json

        async def delivered() -> bool:
            page = await shown(api, "webhooks?status=delivered")
            return "instance.ready" in {one["type"] for one in page["deliveries"]}

        await until(delivered, timeout=30)
        assert (await shown(api, "webhooks"))["targets"] == []
        assert (await shown(api, "webhooks?status=disabled"))["deliveries"] == []
        assert (await shown(api, "instance/unknown"))["status"] == 404
        assert (await shown(api, "webhooks?status=odd"))["code"] == "validation_failed"


async def test_a_viewer_cannot_find_out_hidden_values_by_searching() -> None:
    """403, also on the page that an operator follows at the same time; without a text all is as ever."""
    async with running(tokens=TOKENS, started=False, redact=("password",)) as api:
        api.token = OPERATOR
        await api.job(payload={"password": "hunter2"})
        topic = "jobs?text=hunter2"
        async with api.session.get(
            f"{api.url}/api/live?{urlencode({'topic': topic})}",
            headers={"Authorization": f"Bearer {OPERATOR}"},
        ) as response:
            while not (await response.content.readline()).startswith(b"data: "):
                pass
            api.token = VIEWER
            assert (await shown(api, topic))["code"] == "forbidden"
        (await api.get("/api/jobs/search?text=hunter2")).problem(403, "forbidden")
        assert len((await shown(api, "jobs"))["jobs"]) == 1
        api.token = OPERATOR
        assert len((await shown(api, topic))["jobs"]) == 1


# The stream


async def test_a_page_is_told_of_changes_without_asking() -> None:
    """A job that is added appears on the open list."""
    async with (
        running(started=False) as api,
        api.session.get(f"{api.url}/api/live?topic=jobs") as response,
    ):
        seen: list[int] = []
        while len(seen) < 2:
            line = (await response.content.readline()).decode()
            if line.startswith("data: "):
                seen.append(msgspec.json.decode(line[6:])["data"]["total"])
                if len(seen) == 1:
                    await api.job()
        assert seen == [0, 1]


async def test_a_query_that_does_not_fit_is_a_problem_of_its_topic() -> None:
    """Named, in its place: what else the page follows is shown; nothing unknown is passed over."""
    async with running(started=False) as api:
        for topic, field in (
            ("jobs?status=odd", "status"),
            ("jobs?status=", "status"),
            ("jobs?nonsense=1", "nonsense"),
            ("jobs?since=yesterday", "since"),
            (f"jobs?{urlencode({'text': '漢' * 501})}", "text"),
            ("history?range=century", "range"),
            ("overview?a=1", "a"),
        ):
            told = await shown(api, topic)
            assert told["code"] == "validation_failed", topic
            assert [error["field"] for error in told["errors"]] == [field], topic
        assert (await shown(api, f"jobs?{urlencode({'text': '漢' * 500})}"))["jobs"] == []


async def test_a_moment_beyond_all_jobs_finds_what_there_is() -> None:
    """Times that no store could know are as good as the nearest one that it could."""
    async with running(started=False) as api:
        await api.job()
        last, first = "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"
        for query, found in (({"until": last, "since": first}, 1), ({"since": last}, 0)):
            answer = await api.get(f"/api/jobs/search?{urlencode(query)}")
            assert len(answer.json["jobs"]) == found


async def test_topics_that_do_not_exist_are_refused_at_once() -> None:
    """Before the stream begins, with what is known."""
    async with running(started=False) as api:
        (await api.get("/api/live?topic=nonsense")).problem(404, "not_found")
        (await api.get("/api/live")).problem(400, "validation_failed")
        (await api.get("/api/live?topic=" + "&topic=".join("abcdefghi"))).problem(
            400, "validation_failed"
        )


async def test_the_audit_is_for_admins() -> None:
    """Others are refused the topic; an admin sees who did what."""
    async with running(tokens=TOKENS, started=False) as api:
        api.token = OPERATOR
        await api.job()
        (await api.get("/api/live?topic=audit")).problem(403, "forbidden")
        api.token = ADMIN
        [entry] = (await shown(api, "audit"))["entries"]
        assert (entry["action"], entry["by"].partition("-")[0]) == ("job.enqueue", "operator")
        api.token = VIEWER
        assert (await shown(api, "shell"))["ready"] in {True, False}
        api.token = None
        (await api.get("/api/live?topic=shell")).problem(401, "unauthorized")


# All that match


async def bulk(api: Api, action: str, filter: dict[str, Any], **options: Any) -> Any:
    answer = await api.post("/api/jobs/bulk", {"action": action, "filter": filter, **options})
    assert answer.status == 200, answer.body
    return answer.json


async def all_of(api: Api, action: str, filter: dict[str, Any]) -> int:
    """Do it batch by batch, as a client does; how many were changed."""
    done = await bulk(api, action, filter)
    changed = int(done["changed"])
    while "nextCursor" in done:
        done = await bulk(api, action, filter, after=done["nextCursor"])
        changed += done["changed"]
    return changed


async def test_all_that_match_are_retried_and_the_preview_says_how_many() -> None:
    """More than one batch; failed ones of the type only, and none twice."""

    async def cancelled(_: JobContext) -> None:
        raise Cancel("no")

    async with running(started=False) as api:
        for kind in ("a", "b"):
            ids = [await api.job(kind) for _ in range(3)]
            for job_id in ids:
                await api.post(f"/api/jobs/{job_id}/cancel")
        told = await bulk(api, "retry", {"type": "a"}, dryRun=True)
        assert told == {"matching": 3, "exact": True, "statuses": ["failed", "cancelled"]}
        assert await all_of(api, "retry", {"type": "a"}) == 3
        assert len(await api.queue.get_jobs(type="a", status=JobStatus.PENDING)) == 3
        assert len(await api.queue.get_jobs(type="b", status=JobStatus.CANCELLED)) == 3
        assert (await bulk(api, "retry", {"type": "a"}, dryRun=True))["matching"] == 0


async def test_thousands_are_changed_batch_by_batch_with_an_audit_entry_each() -> None:
    """Each batch has at most a thousand; what is added meanwhile is left alone."""
    async with running(started=False) as api:
        changes = api.queue.changeset()
        for _ in range(2_500):
            changes.add_job("a", priority=JobPriority.LOW)
        await api.queue.commit(changes)
        first = await bulk(api, "cancel", {"type": "a"})
        assert (first["changed"], first["refused"]) == (1_000, 0)
        late = await api.job("a")
        changed, cursor = 1_000, first["nextCursor"]
        while cursor is not None:
            done = await bulk(api, "cancel", {"type": "a"}, after=cursor)
            changed, cursor = changed + done["changed"], done.get("nextCursor")
        assert changed == 2_500
        job = await api.queue.get_job(late)
        assert job is not None
        assert job.status is JobStatus.PENDING
        entries = (await api.get("/api/audit")).json["entries"]
        batches = [entry for entry in entries if entry["action"] == "jobs.cancel"]
        assert [entry["details"]["jobs"] for entry in batches] == [500, 1_000, 1_000]
        assert batches[0]["details"]["filter"] == {"type": "a"}


async def test_all_that_match_a_text_are_deleted_and_counted_for_the_preview() -> None:
    """Only final ones; the others stay."""
    async with running(started=False) as api:
        gone = [await api.job("a", payload=NASTY) for _ in range(3)]
        stays = await api.job("a", payload=NASTY)
        other = await api.job("a", payload="plain")
        for job_id in (*gone, other):
            await api.post(f"/api/jobs/{job_id}/cancel")
        told = await bulk(api, "delete", {"text": "<IMG"}, dryRun=True)
        assert (told["matching"], told["exact"]) == (3, True)
        assert await all_of(api, "delete", {"text": "<IMG"}) == 3
        assert {job.id for job in await api.queue.get_jobs()} == {stays, other}


async def test_a_status_that_an_action_cannot_meet_matches_nothing() -> None:
    """Retrying what is pending, or cancelling what has failed, is nothing, not everything."""
    async with running(started=False) as api:
        await api.job("a")
        told = await bulk(api, "retry", {"status": "pending"}, dryRun=True)
        assert told == {"matching": 0, "exact": True, "statuses": []}
        assert await bulk(api, "retry", {"status": "pending"}) == {"changed": 0, "refused": 0}
        assert (await bulk(api, "cancel", {"status": "failed"}))["changed"] == 0


async def test_bulk_changes_need_an_operator_and_a_filter() -> None:
    """A viewer is refused; a forgotten or misspelt filter is not all jobs."""
    async with running(tokens=TOKENS, started=False) as api:
        api.token = VIEWER
        body = {"action": "cancel", "filter": {}}
        (await api.post("/api/jobs/bulk", body)).problem(403, "forbidden")
        api.token = OPERATOR
        for wrong in (
            {"action": "cancel"},
            {"action": "destroy", "filter": {}},
            {"action": "cancel", "filter": {"typ": "a"}},
            {"action": "cancel", "filter": {}, "after": "-1"},
        ):
            (await api.post("/api/jobs/bulk", wrong)).problem(400, "validation_failed")


async def test_a_finished_job_can_be_deleted_and_no_other() -> None:
    """204, then 404; 409 while it is pending."""
    async with running(started=False) as api:
        job_id = await api.job()
        (await api.delete(f"/api/jobs/{job_id}")).problem(409, "conflict")
        await api.post(f"/api/jobs/{job_id}/cancel")
        assert (await api.delete(f"/api/jobs/{job_id}")).status == 204
        (await api.delete(f"/api/jobs/{job_id}")).problem(404, "not_found")
