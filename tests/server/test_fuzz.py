"""Hostile and random requests: the service stays what its description says, and never fails."""

import asyncio
import json
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.server.processes import Server

HERE = Path(__file__).parent
TOKEN = "admin-token-0123456789"
REQUESTS = 10_000
PATHS = (
    "/api/jobs",
    "/api/instances",
    "/api/jobs/x/retry",
    "/api/jobs/x/cancel",
    "/api/queues/q/pause",
    "/api/instances/x",
    "/api/instances/x/start",
    "/api/stats",
    "/api/audit",
    "/metrics",
    "/health/ready",
    "/nowhere",
)
METHODS = ("GET", "POST", "POST", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "HEAD", "TRACE")
NASTY: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**400, 1.5, -0.0, 1e308, "", " ", "a", "\0"),
    *("x" * 5_000, "\ud800", "😀", "../../etc/passwd", "' OR 1=1 --", "<script>", "${jndi:x}"),
    *(
        [],
        {},
        [[]],
        {"a": {"b": []}},
        ["x"] * 60,
        "2030-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "http://[::1]/",
        "\r\nX: y",
    ),
)
FIELDS = (
    *("type", "payload", "priority", "maxAttempts", "delay", "runAt", "queue", "uniqueKey", "tags"),
    *("name", "productName", "templateId", "gpuNum", "rootfsSize", "region", "webhookUrl"),
    *("billingMode", "__class__", "", "\0", "type "),
)
RAW = (
    *(
        b"",
        b"{",
        b"[" * 200_000,
        b'{"type":' * 5_000,
        b"\xff\xfe",
        b"\0" * 100,
        b"NaN",
        b'"\\ud800"',
    ),
    *(b"1e999", b'{"type":"a","payload":1e999}', b"x" * 1_100_000, b'{"type":"a","type":"b"}'),
)
HEADERS: tuple[dict[str, str], ...] = (
    *({}, {"Content-Type": "text/xml"}, {"Content-Type": "application/json; charset=utf-7"}),
    *({"Content-Encoding": "gzip"}, {"Prefer": "wait=99999999999999999999999"}, {"Prefer": ";;=,"}),
    *({"If-None-Match": '"' * 500}, {"Idempotency-Key": "k" * 300}, {"Idempotency-Key": " "}),
    *({"X-Request-ID": "é" * 40}, {"X-Request-ID": "x" * 4_000}, {"Authorization": "Bearer \x80"}),
    *({"Host": ""}, {"Host": "a" * 300}, {"Origin": "null"}, {"Last-Event-ID": "9" * 100}),
    *({"Accept": "image/png"}, {"Range": "bytes=0-"}, {"Expect": "100-continue"}),
)
QUERIES = (
    "",
    "",
    "?limit=-1",
    "?limit=1e5",
    "?after=%00",
    "?status=%F0%9F",
    "?limit=1&limit=2",
    "?=&&=",
    "?" + "a=b&" * 500,
)


def a_body(random: Random) -> bytes:
    if random.random() < 0.2:
        return random.choice(RAW)
    names = random.sample(FIELDS, random.randrange(len(FIELDS)))
    return json.dumps({name: random.choice(NASTY) for name in names}).encode()


def a_request(random: Random, host: str) -> bytes:
    """A request as bytes: what a client library would refuse to send is sent too."""
    method, body = random.choice(METHODS), a_body(random)
    fields = {
        "Host": host,
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": "application/json",
        "Connection": "close",
        **random.choice(HEADERS),
    }
    length = len(body) if random.random() < 0.97 else random.choice([0, len(body) // 2])
    fields["Content-Length"] = str(length)
    head = f"{method} {random.choice(PATHS)}{random.choice(QUERIES)} HTTP/1.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode("utf-8", "surrogateescape") + b"\r\n" + body


async def status_of(server: Server, request: bytes) -> int:
    """The status of the answer; 0 when the connection was closed without one."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        await writer.drain()
        line = await asyncio.wait_for(reader.readline(), 60)
        while b" 100 " in line or line == b"\r\n":
            line = await asyncio.wait_for(reader.readline(), 60)
    except ConnectionError:
        line = b""
    finally:
        writer.close()
    return int(line.split()[1]) if line else 0


async def test_ten_thousand_hostile_requests_meet_no_5xx(tmp_path: Path) -> None:
    """Every one is answered by 2xx or 4xx, and afterwards the service is well and its log quiet."""
    settings = {"DURABLY_TOKENS": f"admin:{TOKEN}"}
    async with Server("--no-worker", folder=tmp_path, **settings) as server:
        random = Random(20261124)
        host = server.url.removeprefix("http://")
        requests = [a_request(random, host) for _ in range(REQUESTS)]
        statuses: list[tuple[int, bytes]] = []

        async def send() -> None:
            while requests:
                request = requests.pop()
                statuses.append((await status_of(server, request), request[:2_000]))

        await asyncio.gather(*(send() for _ in range(16)))
        bad = [(status, request) for status, request in statuses if not 200 <= status < 500]
        assert bad == []
        assert len({status for status, _ in statuses}) > 8
        server.session.headers.update({"Authorization": f"Bearer {TOKEN}"})
        assert (await server.get("/health/ready"))["status"] == "ready"
    assert not any("Traceback" in line or "has failed" in line for line in server.said)


@pytest.mark.parametrize("token", [None, TOKEN], ids=["without tokens", "with a token"])
async def test_schemathesis_finds_nothing(tmp_path: Path, token: str | None) -> None:
    """Every check, in every phase: what the description says is what the service does."""
    settings = {"DURABLY_TOKENS": f"admin:{token}"} if token else {}
    async with Server(folder=tmp_path, DURABLY_POLL_INTERVAL="0.2", **settings) as server:
        header = ("-H", f"Authorization: Bearer {token}") if token else ()
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "schemathesis.cli",
                "--config-file",
                str(HERE / "schemathesis.toml"),
            ),
            *("run", f"{server.url}/api/openapi.json", "--exclude-path-regex", "events$"),
            *(
                "--max-examples",
                "15",
                "--no-color",
                "--continue-on-failure",
                "--seed",
                "1",
                *header,
            ),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 240)
    assert process.returncode == 0, output.decode()[-6_000:]
