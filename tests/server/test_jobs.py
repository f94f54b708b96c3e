"""Jobs over HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.server.support import running

from durably import Fail, JobContext, JobStatus, RetryPolicy


async def test_a_job_is_accepted_durably_and_found_again() -> None:
    """202 with the job, its place and when to look again; the same job is there."""
    async with running() as api:
        answer = await api.post(
            "/api/jobs",
            {
                "type": "noop",
                "payload": {"a": [1, None, "ä"]},
                "priority": 4,
                "maxAttempts": 7,
                "delay": 60,
                "queue": "later",
                "uniqueKey": "k",
                "tags": ["x"],
            },
        )
        job = answer.json
        assert answer.status == 202
        assert answer.headers["Location"] == f"/api/jobs/{job['id']}"
        assert answer.headers["Retry-After"] == "1"
        assert (job["type"], job["status"], job["scheduled"]) == ("noop", "pending", True)
        assert (job["priority"], job["maxAttempts"], job["queue"]) == (4, 7, "later")
        assert job["parent"] is None
        assert (job["uniqueKey"], job["tags"], job["payload"]) == (
            "k",
            ["x"],
            {"a": [1, None, "ä"]},
        )

        found = await api.get(answer.headers["Location"])
        assert (found.status, found.json) == (200, job)
        kept = await api.queue.get_job(job["id"])
        assert kept is not None
        assert kept.payload == {"a": [1, None, "ä"]}


async def test_run_at_makes_a_job_wait() -> None:
    """`runAt` is taken with any offset and shown in UTC."""
    async with running() as api:
        moment = datetime(2100, 1, 1, 12, tzinfo=UTC)
        answer = await api.post("/api/jobs", {"type": "noop", "runAt": "2100-01-01T14:00:00+02:00"})
        assert datetime.fromisoformat(answer.json["runAt"]) == moment
        assert answer.json["scheduled"]


async def test_a_held_unique_key_gives_the_job_that_holds_it() -> None:
    """The second enqueue is answered by the first job, and adds nothing."""
    async with running() as api:
        body = {"type": "noop", "uniqueKey": "one"}
        first, second = await api.post("/api/jobs", body), await api.post("/api/jobs", body)
        assert (second.status, second.json["id"]) == (202, first.json["id"])
        assert len(await api.queue.get_jobs(type="noop")) == 1


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"type"}),
        ({"type": ""}, {"type"}),
        ({"type": 3, "priority": 9, "maxAttempts": 0}, {"type", "priority", "maxAttempts"}),
        ({"type": "a", "priority": "3"}, {"priority"}),
        ({"type": "a", "priority": True}, {"priority"}),
        ({"type": "a", "delay": -1, "queue": "", "tags": ["ok", 3]}, {"delay", "queue", "tags[1]"}),
        ({"type": "a\0b", "uniqueKey": "\0"}, {"type", "uniqueKey"}),
        ({"type": "a", "runAt": "tomorrow"}, {"runAt"}),
        ({"type": "a", "runAt": "0001-01-01T00:00:00+14:00"}, {"runAt"}),
        ({"type": "a", "runAt": "9999-12-31T23:59:59-14:00"}, {"runAt"}),
        ({"type": "a", "runAt": "1969-12-31T23:59:59Z"}, {"runAt"}),
        ({"type": "a", "runAt": "2030-01-01T00:00:00"}, {"runAt"}),
        ({"type": "a", "delay": 1, "runAt": "2030-01-01T00:00:00Z"}, {"runAt"}),
        ({"type": "a", "max_attempts": 3, "nonsense": 1}, {"max_attempts", "nonsense"}),
        ({"type": "x" * 201}, {"type"}),
    ],
)
async def test_every_fault_of_a_job_is_named_at_once(body: Any, fields: set[str]) -> None:
    """400 with one entry for each field that is wrong; nothing is stored."""
    async with running() as api:
        answer = await api.post("/api/jobs", body)
        answer.problem(400, "validation_failed")
        assert answer.fields() == fields
        assert (await api.queue.get_stats()).total_jobs == 0


async def test_a_misspelt_field_is_answered_by_the_right_name() -> None:
    """The snake_case of Python is a likely slip: the answer says how it is called here."""
    async with running() as api:
        answer = await api.post("/api/jobs", {"type": "a", "max_attempts": 3})
        assert "did you mean maxAttempts?" in answer.json["detail"]


@pytest.mark.parametrize("payload", ["[" * 300 + "]" * 300, '{"a":' * 250 + "1" + "}" * 250])
async def test_a_payload_that_no_store_takes_is_a_fault_of_payload(payload: str) -> None:
    """What is nested too deeply is refused with the field's name."""
    async with running() as api:
        body = f'{{"type": "a", "payload": {payload}}}'
        answer = await api.post(
            "/api/jobs", data=body, headers={"Content-Type": "application/json"}
        )
        answer.problem(400, "validation_failed")
        assert answer.fields() == {"payload"}


async def test_a_payload_that_does_not_fit_its_handler_is_refused() -> None:
    """Where the type is known here, its payload is checked at the POST."""
    async with running() as api:

        @api.queue.task(name="typed")
        async def typed(number: int) -> int:
            return number

        answer = await api.post("/api/jobs", {"type": "typed", "payload": {"number": "three"}})
        answer.problem(400, "validation_failed")
        assert answer.fields() == {"payload"}


async def test_the_list_is_filtered_and_paged() -> None:
    """Each job comes once, highest priority first, whatever the size of the pages."""
    async with running() as api:
        ids = [await api.job("noop", priority=1 + n % 4) for n in range(7)]
        await api.job("other", queue="mail")
        pages: list[Any] = []
        after = ""
        while True:
            page = (await api.get(f"/api/jobs?type=noop&limit=3{after}")).json
            pages += page["jobs"]
            if "nextCursor" not in page:
                break
            after = f"&after={page['nextCursor']}"
        assert {job["id"] for job in pages} == set(ids)
        assert len(pages) == 7
        assert [job["priority"] for job in pages] == sorted(
            (job["priority"] for job in pages), reverse=True
        )
        [mail] = (await api.get("/api/jobs?queue=mail&status=pending")).json["jobs"]
        assert mail["type"] == "other"
        assert (await api.get("/api/jobs?status=failed")).json == {"jobs": []}


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("limit=0", {"limit"}),
        ("limit=1001", {"limit"}),
        ("limit=ten&status=lost", {"limit", "status"}),
        ("stauts=failed", {"stauts"}),
        ("type=", {"type"}),
    ],
)
async def test_every_fault_of_a_query_is_named(query: str, fields: set[str]) -> None:
    """A filter that is not understood is refused rather than left out."""
    async with running() as api:
        answer = await api.get(f"/api/jobs?{query}")
        answer.problem(400, "validation_failed")
        assert answer.fields() == fields


async def test_unknown_jobs_are_not_found() -> None:
    """404 on every route of a job, for any text as its id."""
    async with running() as api:
        for job_id in ("nobody", "%00", "%ED%A0%80", "x" * 500, "ä", "a%20b"):
            for method, end in (
                ("GET", ""),
                ("POST", "/cancel"),
                ("POST", "/retry"),
                ("GET", "/explain"),
            ):
                answer = await api.ask(method, f"/api/jobs/{job_id}{end}")
                answer.problem(404, "not_found")
        (await api.get("/api/jobs?after=nobody")).problem(404, "not_found")


async def test_the_detail_has_every_attempts_error() -> None:
    """Why each attempt failed, with its traceback; the list leaves tracebacks out."""
    async with running() as api:

        async def broken(job: JobContext) -> None:
            raise ValueError(f"broken {job.attempts}")

        api.queue.register_handler("broken", broken, retry=RetryPolicy(base_delay=0.01))
        job_id = await api.job("broken", maxAttempts=2)
        await api.final(job_id)
        detail = (await api.get(f"/api/jobs/{job_id}")).json
        assert (detail["status"], detail["error"]) == ("failed", "broken 2")
        assert [error["attempt"] for error in detail["errors"]] == [1, 2]
        assert [error["kind"] for error in detail["errors"]] == ["error", "error"]
        assert "ValueError: broken 1" in detail["errors"][0]["traceback"]
        assert detail["errors"][1]["startedAt"] == detail["processedAt"]
        [listed] = (await api.get("/api/jobs?status=failed")).json["jobs"]
        assert [error["traceback"] for error in listed["errors"]] == ["", ""]


async def test_prefer_wait_answers_when_the_job_is_final() -> None:
    """The wait ends with the job, well before its seconds are over."""
    async with running() as api:
        let_go = asyncio.Event()

        async def held(_: JobContext) -> str:
            await let_go.wait()
            return "done"

        api.queue.register_handler("held", held)
        job_id = await api.job("held")
        waiting = asyncio.ensure_future(
            api.get(f"/api/jobs/{job_id}", headers={"Prefer": "respond-async, wait=50"})
        )
        none = await api.get(f"/api/jobs/{job_id}", headers={"Prefer": "wait=0"})
        assert none.json["status"] != "completed"
        assert none.headers["Retry-After"] == "1"
        let_go.set()
        answer = await asyncio.wait_for(waiting, 30)
        assert (answer.json["status"], answer.json["result"]) == ("completed", "done")
        assert answer.headers["Preference-Applied"] == "wait=50"
        assert "Retry-After" not in answer.headers


@pytest.mark.parametrize("prefer", ["wait", "wait=", "wait=-1", "wait=soon", "wait=1.5", ", ;"])
async def test_a_preference_that_is_not_understood_is_ignored(prefer: str) -> None:
    """As RFC 7240 has it: the answer comes at once and does not claim to have waited."""
    async with running(started=False) as api:
        job_id = await api.job()
        answer = await api.get(f"/api/jobs/{job_id}", headers={"Prefer": prefer})
        assert answer.status == 200
        assert "Preference-Applied" not in answer.headers


async def test_an_etag_spares_the_second_reading() -> None:
    """304 without a body while nothing has changed, the job again once something has."""
    async with running(started=False) as api:
        job_id = await api.job()
        first = await api.get(f"/api/jobs/{job_id}")
        known = {"If-None-Match": f'"other", W/{first.headers["ETag"]}'}
        again = await api.get(f"/api/jobs/{job_id}", headers=known)
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        await api.post(f"/api/jobs/{job_id}/cancel")
        changed = await api.get(f"/api/jobs/{job_id}", headers=known)
        assert (changed.status, changed.json["status"]) == (200, "cancelled")


async def test_cancel_and_its_conflict() -> None:
    """A pending job is cancelled at once; a final one is a conflict."""
    async with running(started=False) as api:
        job_id = await api.job()
        answer = await api.post(f"/api/jobs/{job_id}/cancel")
        assert (answer.status, answer.json["status"]) == (202, "cancelled")
        (await api.post(f"/api/jobs/{job_id}/cancel")).problem(409, "conflict")


async def test_retry_runs_again_with_another_payload() -> None:
    """With a body its payload is taken, without one the old payload stays."""
    async with running() as api:

        async def picky(job: JobContext) -> Any:
            if job.payload != "good":
                raise Fail("not good")
            return job.payload

        api.queue.register_handler("picky", picky)
        job_id = await api.job("picky", payload="bad")
        assert (await api.final(job_id)).status is JobStatus.FAILED
        assert (await api.post(f"/api/jobs/{job_id}/retry")).status == 202
        assert (await api.final(job_id)).status is JobStatus.FAILED
        answer = await api.post(f"/api/jobs/{job_id}/retry", {"payload": "good"})
        assert (answer.status, answer.json["payload"]) == (202, "good")
        assert (await api.final(job_id)).result == "good"
        (await api.post(f"/api/jobs/{job_id}/retry", {"pay": 1})).problem(400, "validation_failed")
        unknown = await api.post("/api/jobs/nobody/retry", {"payload": None})
        unknown.problem(404, "not_found")


async def test_retry_of_a_live_job_is_a_conflict() -> None:
    """Also of one whose unique key another has taken."""
    async with running(started=False) as api:
        first = await api.job("noop", uniqueKey="k")
        (await api.post(f"/api/jobs/{first}/retry")).problem(409, "conflict")
        await api.post(f"/api/jobs/{first}/cancel")
        await api.job("noop", uniqueKey="k")
        (await api.post(f"/api/jobs/{first}/retry")).problem(409, "unique_key_taken")


async def test_explain_says_why_a_job_does_not_run() -> None:
    """The reason in words, which changes with the queue's state."""
    async with running() as api:
        job_id = await api.job("nobody_knows")
        told = (await api.get(f"/api/jobs/{job_id}/explain")).json
        assert told["id"] == job_id
        assert "no live worker has a handler for nobody_knows" in told["explanation"]
        answer = await api.post("/api/queues/default/pause")
        assert answer.json == {"queue": "default", "paused": True}
        told = (await api.get(f"/api/jobs/{job_id}/explain")).json
        assert "paused" in told["explanation"]
        assert (await api.get("/api/stats")).json["pausedQueues"] == ["default"]
        assert (await api.post("/api/queues/default/resume")).json["paused"] is False
        assert (await api.get("/api/stats")).json["pausedQueues"] == []


@pytest.mark.parametrize("name", ["%00", "x" * 101])
async def test_a_queue_name_that_no_job_can_have_is_refused(name: str) -> None:
    """400 with the field's name."""
    async with running(started=False) as api:
        answer = await api.post(f"/api/queues/{name}/pause")
        answer.problem(400, "validation_failed")
        assert answer.fields() == {"name"}


async def test_an_idempotency_key_makes_one_job() -> None:
    """Five requests at once with one key and one body make one job; other spacing is no other body."""
    async with running(started=False) as api:
        key = {"Idempotency-Key": "abc", "Content-Type": "application/json"}
        bodies = ['{"type":"noop","payload":1}', '{ "payload": 1, "type": "noop" }']
        answers = await asyncio.gather(
            *(api.post("/api/jobs", data=bodies[n % 2], headers=key) for n in range(5))
        )
        assert [answer.status for answer in answers] == [202] * 5
        assert len({answer.json["id"] for answer in answers}) == 1
        other = await api.post(
            "/api/jobs", {"type": "noop", "payload": 2}, headers={"Idempotency-Key": "abc"}
        )
        other.problem(422, "idempotency_key_reused")
        assert (await api.queue.get_stats()).total_jobs == 1


async def test_an_idempotency_key_remembers_the_job_that_holds_the_unique_key() -> None:
    """Repeated, it is answered by that job again, also once the unique key is free."""
    async with running(started=False) as api:
        body = {"type": "noop", "uniqueKey": "k"}
        held = await api.job(**body)
        key = {"Idempotency-Key": "abc"}
        first = await api.post("/api/jobs", body, headers=key)
        await api.post(f"/api/jobs/{held}/cancel")
        again = await api.post("/api/jobs", body, headers=key)
        assert (first.json["id"], again.json["id"]) == (held, held)
        assert (await api.queue.get_stats()).total_jobs == 1


async def test_stats_count_what_the_store_holds() -> None:
    """The names of the Python API in camelCase."""
    async with running(started=False) as api:
        await api.job("noop")
        await api.job("noop", delay=100)
        stats = (await api.get("/api/stats")).json
        assert (stats["totalJobs"], stats["pendingJobs"], stats["scheduledJobs"]) == (2, 2, 1)
        assert stats["jobsByType"]["noop"] == 2
        assert stats["unhandledTypes"] == ["noop"]
        assert stats["waitP50"] == 0.0
        assert timedelta(0) == timedelta(seconds=stats["runP99"])
