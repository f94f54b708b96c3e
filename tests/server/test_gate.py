"""What holds for every request: errors, limits, tokens, headers."""

import asyncio
import contextlib
import io
import json
import logging
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.server.support import ADMIN, OPERATOR, TOKENS, VIEWER, running

PATHS = ("/api/jobs", "/api/instances", "/api/stats", "/metrics", "/api/audit", "/api/events")


async def test_unknown_routes_are_problems() -> None:
    """404 as problem details, whatever the method."""
    async with running(started=False) as api:
        for path in ("/nowhere", "/api", "/api/job", "/api/jobs/a/b/c", "/api/instances/a/nothing"):
            for method in ("GET", "POST", "DELETE", "PATCH"):
                (await api.ask(method, path)).problem(404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/jobs", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("DELETE", "/api/jobs", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("POST", "/api/instances/x", {"GET", "HEAD", "DELETE", "OPTIONS"}),
        ("GET", "/api/jobs/x/cancel", {"POST", "OPTIONS"}),
        ("GET", "/api/queues/x/pause", {"POST", "OPTIONS"}),
        ("POST", "/metrics", {"GET", "HEAD", "OPTIONS"}),
        ("TRACE", "/api/stats", {"GET", "HEAD", "OPTIONS"}),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    method: str, path: str, allowed: set[str]
) -> None:
    """405 with every method of the path in `Allow`."""
    async with running(started=False) as api:
        answer = await api.ask(method, path)
        answer.problem(405, "method_not_allowed")
        assert set(answer.headers["Allow"].split(", ")) == allowed


async def test_head_answers_as_get_without_a_body() -> None:
    """`curl -I` works on every route that can be read."""
    async with running(started=False) as api:
        for path in ("/health/live", "/api/jobs", "/api/stats"):
            answer = await api.ask("HEAD", path)
            assert (answer.status, answer.body) == (200, b""), path


async def test_head_of_a_stream_ends_at_once() -> None:
    """There is no body to wait for: the connection is free for the next request."""
    async with running(started=False) as api, asyncio.timeout(10):
        place = urlsplit(api.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        for line in ("HEAD /api/live?topic=overview", "GET /health/live"):
            writer.write(f"{line} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"text/event-stream" in head
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"\xff", b'{"type": NaN}', b"[" * 100_000, b'"\\ud800"', b"{'type': 1}", b"nul"],
)
async def test_malformed_json_is_a_bad_request(body: bytes) -> None:
    """400, on both routes that need a body."""
    async with running(started=False) as api:
        for path in ("/api/jobs", "/api/instances"):
            headers = {"Content-Type": "application/json"}
            answer = await api.post(path, data=body, headers=headers)
            answer.problem(400, "malformed_json")


@pytest.mark.parametrize("body", [b"[]", b"3", b"null", b'"text"'])
async def test_json_that_is_no_object_is_a_bad_request(body: bytes) -> None:
    """400 says that an object is needed."""
    async with running(started=False) as api:
        answer = await api.post(
            "/api/jobs", data=body, headers={"Content-Type": "application/json"}
        )
        answer.problem(400, "validation_failed")
        assert "must be a JSON object" in answer.json["detail"]


async def raw(url: str, *parts: bytes) -> bytes:
    """What the server answers to bytes, until it closes."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    with contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return answer


@pytest.mark.parametrize("request_", [b"nonsense\r\n\r\n", b"GET \xff HTTP/1.1\r\n\r\n"])
async def test_what_is_no_http_is_a_problem_too(request_: bytes) -> None:
    """400 as problem details, and the connection is closed."""
    async with running(started=False) as api:
        answer = await raw(api.url, request_)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in answer
        assert b'"code":"malformed_request"' in answer


@pytest.mark.parametrize("header", [b"x" * 10_000 + b"\r\nX: ", b"x" * 10_000])
async def test_headers_without_end_are_refused(header: bytes) -> None:
    """431 after 64 KiB, whether many headers or one."""
    async with running(started=False) as api:
        answer = await raw(api.url, b"GET / HTTP/1.1\r\nX: ", *[header] * 7)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert (await api.get("/health/live")).status == 200


async def test_requests_one_after_the_other_have_a_head_each() -> None:
    """The limit is one of each head, not of the connection."""
    async with running(started=False) as api:
        padding = {"X-Padding": "x" * 7_000}
        for _ in range(30):
            assert (await api.post("/api/jobs", {"type": "a"}, headers=padding)).status == 202


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_other_media_types_are_refused(headers: dict[str, str]) -> None:
    """415 says what is taken."""
    async with running(started=False) as api:
        answer = await api.post("/api/jobs", data=b'{"type": "noop"}', headers=headers)
        answer.problem(415, "unsupported_media_type")
        assert "application/json" in answer.json["detail"] + answer.headers["Accept"]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.x+json"])
async def test_kinds_of_json_are_taken(kind: str) -> None:
    """Parameters and suffixes do not matter."""
    async with running(started=False) as api:
        body = b'{"type": "noop"}'
        assert (
            await api.post("/api/jobs", data=body, headers={"Content-Type": kind})
        ).status == 202


@pytest.mark.parametrize("size", [1_048_577, 3_000_000, 8_000_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_read_and_refused(size: int, chunked: bool) -> None:
    """413 reaches the client, which may go on with the same connection."""
    async with running(started=False) as api:
        headers = {"Content-Type": "application/json"}
        body: Any = b"x" * size
        if chunked:

            async def parts() -> Any:
                for start in range(0, size, 65_536):
                    yield body[start : start + 65_536]

            answer = await api.post("/api/jobs", data=parts(), headers=headers)
        else:
            answer = await api.post("/api/jobs", data=io.BytesIO(body), headers=headers)
        answer.problem(413, "payload_too_large")
        assert (await api.get("/health/live")).status == 200


async def test_a_body_of_exactly_one_mebibyte_is_read() -> None:
    """The limit is a limit of bytes that may be sent."""
    async with running(started=False) as api:
        body = b'{"type": "noop", "payload": "'
        body += b"x" * (1_048_576 - len(body) - 2) + b'"}'
        answer = await api.post(
            "/api/jobs", data=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status == 202
        assert len(body) == 1_048_576


async def test_a_request_id_is_echoed_or_made() -> None:
    """A fit one comes back; a hostile or missing one is replaced; each answer has one."""
    async with running(started=False) as api:
        given = await api.get("/api/stats", headers={"X-Request-ID": "abc-123"})
        assert given.headers["X-Request-ID"] == "abc-123"
        for bad in ("x" * 129, "a b", "ä"):
            answer = await api.get("/nowhere", headers={"X-Request-ID": bad})
            assert answer.headers["X-Request-ID"] not in {bad, ""}
        first, second = await api.get("/nowhere"), await api.get("/nowhere")
        assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]


async def test_every_answer_has_the_security_headers() -> None:
    """Also errors, and also those that no route gives."""
    async with running(started=False, tokens=TOKENS) as api:
        for path in ("/health/live", "/nowhere", "/api/jobs"):
            headers = (await api.get(path)).headers
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert headers["Cache-Control"] == "no-store"
            assert "Server" not in headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8000"},
        {"Host": "localhost"},
        {"Host": "127.0.0.1:1"},
        {"Host": "[::1"},
        {"Host": "localhost:port"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "file://"},
    ],
)
async def test_without_tokens_only_its_own_name_and_pages_are_answered(
    headers: dict[str, str],
) -> None:
    """403 for any other Host or Origin, on every route."""
    async with running(started=False) as api:
        for method, path in (
            ("GET", "/api/jobs"),
            ("POST", "/api/queues/x/pause"),
            ("GET", "/health/live"),
        ):
            answer = await api.ask(method, path, headers=headers)
            answer.problem(403, "forbidden")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "LocalHost"])
async def test_without_tokens_its_own_names_and_pages_are_answered(name: str) -> None:
    """A browser on the machine itself may use it by any of its names."""
    async with running(started=False) as api:
        port = api.url.rpartition(":")[2]
        own = {"Host": f"{name}:{port}", "Origin": f"http://{name.lower()}:{port}"}
        assert (await api.get("/api/jobs", headers=own)).status == 200


async def test_with_tokens_other_names_are_answered() -> None:
    """Behind a proxy the Host is the proxy's; the token protects."""
    async with running(started=False, tokens=TOKENS, token=VIEWER) as api:
        headers = {"Host": "jobs.example", "Origin": "https://pages.example"}
        assert (await api.get("/api/jobs", headers=headers)).status == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer",
        "Bearer ",
        "Bearer wrong-token-0123456789",
        f"Basic {ADMIN}",
        f"Bearer {ADMIN} x",
        "ä",
    ],
)
async def test_a_token_is_needed(authorization: str | None) -> None:
    """401 that names the scheme, on every route but health and the description."""
    async with running(started=False, tokens=TOKENS) as api:
        headers = {} if authorization is None else {"Authorization": authorization}
        for path in (*PATHS, "/nowhere"):
            answer = await api.get(path, headers=headers)
            answer.problem(401, "unauthorized")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_health_and_description_need_no_token() -> None:
    """Who looks after the process has none."""
    async with running(tokens=TOKENS) as api:
        for path in ("/health/live", "/health/ready", "/api/openapi.json"):
            assert (await api.get(path)).status == 200


async def test_roles_decide() -> None:
    """A viewer reads, an operator changes, an admin also reads the audit."""
    async with running(started=False, tokens=TOKENS) as api:
        statuses = {}
        for token in (VIEWER, OPERATOR, ADMIN):
            api.token = token
            statuses[token] = [
                (await api.get("/api/jobs")).status,
                (await api.post("/api/jobs", {"type": "noop"})).status,
                (await api.post("/api/queues/x/pause")).status,
                (await api.post("/api/instances", {})).status,
                (await api.delete("/api/instances/x")).status,
                (await api.get("/api/audit")).status,
            ]
        assert statuses[VIEWER] == [200, 403, 403, 403, 403, 403]
        assert statuses[OPERATOR] == [200, 202, 200, 400, 404, 403]
        assert statuses[ADMIN] == [200, 202, 200, 400, 404, 200]
        api.token = VIEWER
        refused = await api.post("/api/jobs", {"type": "noop"})
        assert "operator" in refused.problem(403, "forbidden")["detail"]


async def test_each_token_has_its_own_rate() -> None:
    """429 with Retry-After for who asks too often, while another token goes on."""
    async with running(started=False, tokens=TOKENS, token=VIEWER, rate_limit=5) as api:
        answers = [await api.get("/api/stats") for _ in range(30)]
        refused = [answer for answer in answers if answer.status == 429]
        assert refused
        refused[0].problem(429, "rate_limited")
        assert int(refused[0].headers["Retry-After"]) >= 1
        assert answers[0].status == 200
        api.token = ADMIN
        assert (await api.get("/api/stats")).status == 200


async def test_every_change_is_in_the_audit() -> None:
    """Who, what and when, newest first, page by page; what was refused is not there."""
    async with running(started=False, tokens=TOKENS, token=OPERATOR) as api:
        job_id = await api.job("noop")
        await api.post(f"/api/jobs/{job_id}/cancel", headers={"X-Request-ID": "req-1"})
        await api.post(f"/api/jobs/{job_id}/cancel")  # refused
        await api.post(f"/api/jobs/{job_id}/retry", {"payload": 1})
        await api.post("/api/queues/mail/pause")
        await api.post("/api/queues/mail/resume")
        instance_id = await api.instance()
        await api.delete(f"/api/instances/{instance_id}")
        await api.delete(f"/api/instances/{instance_id}")  # changes nothing
        api.token = ADMIN
        found: list[Any] = []
        after = ""
        while True:
            page = (await api.get(f"/api/audit?limit=2{after}")).json
            found += page["entries"]
            if "nextCursor" not in page:
                break
            after = f"&after={page['nextCursor']}"
        assert [(entry["action"], entry["subject"]) for entry in reversed(found)] == [
            ("job.enqueue", job_id),
            ("job.cancel", job_id),
            ("job.retry", job_id),
            ("queue.pause", "mail"),
            ("queue.resume", "mail"),
            ("instance.create", instance_id),
            ("instance.delete", instance_id),
        ]
        assert {entry["by"].partition("-")[0] for entry in found} == {"operator"}
        assert OPERATOR not in json.dumps(found)
        assert next(e for e in found if e["action"] == "job.cancel")["requestId"] == "req-1"


async def test_a_bug_is_a_plain_500_and_its_cause_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client learns the request id only; the log has it with the cause."""
    async with running(started=False, tokens=TOKENS, token=ADMIN) as api:

        async def broken(**_: object) -> None:
            raise RuntimeError("a secret in /var/lib/secret")

        monkeypatch.setattr(api.queue, "get_jobs", broken)
        answer = await api.get("/api/jobs")
        answer.problem(500, "internal_error")
        assert b"secret" not in answer.body
        assert b"Traceback" not in answer.body
        assert answer.json["requestId"] in caplog.text


async def test_tokens_are_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Neither those that fit nor those that do not."""
    caplog.set_level(logging.DEBUG)
    async with running(started=False, tokens=TOKENS, token=ADMIN) as api:
        await api.get("/api/jobs")
        api.token = "wrong-token-0123456789"
        await api.get("/api/jobs")
        await asyncio.sleep(0)
    for secret in (ADMIN, VIEWER, OPERATOR, "wrong-token"):
        assert secret not in caplog.text


async def test_a_log_line_cannot_be_forged(caplog: pytest.LogCaptureFixture) -> None:
    """Line ends in a path come out escaped."""
    caplog.set_level(logging.INFO)
    async with running(started=False) as api:
        await api.ask("GET", "/nowhere%0d%0aERROR%20all%20is%20lost")
    assert "\nERROR" not in caplog.text.replace("\r", "\n")
