"""Text that would do harm in SQL, paths, headers or pages, through every field that takes text."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.server.support import INSTANCE, Api, running

HOSTILE = (
    "'; DROP TABLE durably_jobs; --",
    '"; DELETE FROM jobs; --',
    "x') OR 1=1 --",
    "$1",
    ":now",
    "@jobs",
    "%s %n {0.__class__} ${jndi:ldap://x}",
    "../../../etc/passwd",
    "..\\..\\windows",
    "file:///etc/passwd",
    "<img src=x onerror=alert(1)>",
    "\u202etxt.exe",
    "a%00b",
    "{{7*7}}",
    "`id`$(id)",
)
LINES = ("a\r\nX-Injected: 1", "a\nb", "a\0b", "\ud800")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The stores that speak SQL."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/jobs.db"


async def count(api: Api) -> int:
    return int((await api.get("/api/stats")).json["totalJobs"])


@pytest.mark.parametrize("text", HOSTILE)
async def test_text_is_kept_as_it_is(url: str, text: str) -> None:
    """In each field of a job, in filters, ids and paths: it comes back, and nothing else happens."""
    async with running(store=url, started=False) as api:
        before = await api.job("witness", payload="untouched")
        body: dict[str, Any] = {"type": text, "payload": {text: text}, "tags": [text]}
        answer = await api.post("/api/jobs", {**body, "uniqueKey": text, "queue": "q"})
        job = answer.json
        assert answer.status == 202, job
        assert {name: job[name] for name in body} == body

        listed = await api.get("/api/jobs", params={"type": text})
        assert [one["id"] for one in listed.json["jobs"]] == [job["id"]]
        for unknown in (text, f"{job['id']}{text}"):
            found = await api.get(f"/api/jobs/{quote(unknown, safe='')}")
            assert found.status in (400, 404), found.body
        assert (await api.post(f"/api/queues/{quote(text, safe='')}/pause")).status < 500
        assert (await api.get("/api/jobs", params={"queue": text})).status in (200, 400)
        again = await api.post("/api/jobs", {**body, "uniqueKey": text, "queue": "q"})
        assert again.json["id"] == job["id"]

        assert await count(api) == 2
        assert (await api.get(f"/api/jobs/{before}")).json["payload"] == "untouched"


@pytest.mark.parametrize("text", HOSTILE)
async def test_an_instance_keeps_its_text(url: str, text: str) -> None:
    """A name is free text; what is looked up at the provider is only looked up."""
    async with running(store=url, started=False) as api:
        for field in ("name", "productName", "templateId", "region"):
            answer = await api.post("/api/instances", {**INSTANCE, field: text})
            assert answer.status in (202, 400, 422), answer.body
            if answer.status == 202:
                found = await api.get(f"/api/instances/{answer.json['instanceId']}")
                assert found.json[field] == text
        for path in (f"/api/instances/{quote(text, safe='')}", f"/{quote(text, safe='')}"):
            assert (await api.get(path)).status in (400, 404)


@pytest.mark.parametrize("text", LINES)
async def test_lines_and_what_is_no_text_go_nowhere(url: str, text: str) -> None:
    """Refused with the field's name, or kept as JSON: never a header, never an error of ours."""
    async with running(store=url, started=False) as api:
        for field, value in {
            "type": text,
            "queue": text,
            "uniqueKey": text,
            "tags": [text],
        }.items():
            body = {"type": "noop", field: value}
            answer = await api.post("/api/jobs", body)
            assert answer.status in (202, 400, 422), answer.body
            assert "X-Injected" not in answer.headers
        hook = {"webhookUrl": f"https://example.com/{text}"}
        assert (await api.post("/api/instances", {**INSTANCE, **hook})).status in (400, 422)


@pytest.mark.parametrize("path", ["/api/jobs", "/api/instances", "/api/audit"])
async def test_no_query_is_an_error_of_ours(url: str, path: str) -> None:
    """NUL, bytes that are no UTF-8, lines: nothing is found, or the parameter is refused by name."""
    async with running(store=url, started=False) as api:
        for name in ("type", "queue", "status", "limit", "after"):
            for text in ("%00", "a%00b", "%ff", "%ed%a0%80", "%0d%0aX-Injected:%201"):
                answer = await api.get(f"{path}?{name}={text}")
                assert answer.status in (200, 400, 404), answer.body
                assert "X-Injected" not in answer.headers
                if answer.status == 400:
                    assert answer.json["code"] == "validation_failed", answer.body
                    assert [fault["field"] for fault in answer.json["errors"]] == [name]
