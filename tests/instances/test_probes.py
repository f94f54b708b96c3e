"""Health probes over real loopback servers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, RawTestServer

from durably.instances.probes import Health, HealthReport, ProbeResult, probe_all

AT = datetime(2026, 5, 4, 12, tzinfo=UTC)
REFUSED = "Connection refused - service is not accepting connections"
UNRESOLVED = "DNS resolution failed - hostname could not be resolved"


@dataclass(frozen=True)
class Mapping:
    port: int
    endpoint: str
    type: str = "http"


async def probe(*mappings: Mapping, timeout: float = 10.0, concurrency: int = 16) -> HealthReport:
    return await probe_all(mappings, now=lambda: AT, timeout=timeout, concurrency=concurrency)


async def probe_one(mapping: Mapping, *, timeout: float = 10.0) -> ProbeResult:
    [result] = (await probe(mapping, timeout=timeout)).endpoints
    return result


@asynccontextmanager
async def answering(status: int = 200, *, location: str = "") -> AsyncIterator[BaseTestServer]:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers={"location": location} if location else None)

    async with RawTestServer(answer) as server:
        yield server


@contextmanager
def listening() -> Iterator[int]:
    """A socket that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_all_healthy() -> None:
    """Http and tcp ports that answer make the instance healthy; times are measured and summed."""
    async with answering() as server:
        endpoint = str(server.make_url("/lab"))
        with listening() as tcp_port:
            report = await probe(
                Mapping(8888, endpoint), Mapping(22, f"127.0.0.1:{tcp_port}", "tcp")
            )
    assert report.overall is Health.HEALTHY
    web_port, ssh = report.endpoints
    assert web_port == ProbeResult(
        port=8888,
        endpoint=endpoint,
        type="http",
        healthy=True,
        error=None,
        response_time_s=web_port.response_time_s,
        checked_at=AT,
    )
    assert (ssh.port, ssh.type, ssh.healthy, ssh.error) == (22, "tcp", True, None)
    assert min(web_port.response_time_s, ssh.response_time_s) > 0
    assert report.total_response_time_s == web_port.response_time_s + ssh.response_time_s


async def test_no_ports_are_healthy() -> None:
    """An instance without port mappings has nothing that could be unhealthy."""
    assert await probe() == HealthReport(
        overall=Health.HEALTHY, endpoints=(), total_response_time_s=0
    )


async def test_some_healthy_are_partial(unused_tcp_port: int) -> None:
    """One that answers and one that does not, in the order of the mappings."""
    async with answering() as server:
        report = await probe(
            Mapping(1, f"127.0.0.1:{unused_tcp_port}"),
            Mapping(2, f"127.0.0.1:{server.port}"),
        )
    assert report.overall is Health.PARTIAL
    assert [result.healthy for result in report.endpoints] == [False, True]
    assert report.total_response_time_s == report.endpoints[1].response_time_s


@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_a_refused_connection(kind: str, unused_tcp_port: int) -> None:
    """Nobody listens: unhealthy, with a response time of 0."""
    report = await probe(Mapping(80, f"127.0.0.1:{unused_tcp_port}", kind))
    assert report.overall is Health.UNHEALTHY
    [result] = report.endpoints
    assert (result.error, result.response_time_s) == (REFUSED, 0)


@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_a_host_of_several_addresses_that_all_refuse(
    kind: str, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is not lost among several addresses."""
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    result = await probe_one(Mapping(80, f"gpu.example:{unused_tcp_port}", kind))
    assert result.error == REFUSED


@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_a_host_with_one_address_that_accepts(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any of its addresses will do."""
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")
    async with answering() as server:
        result = await probe_one(Mapping(80, f"gpu.example:{server.port}", kind))
    assert (result.healthy, result.error) == (True, None)


@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_a_host_that_does_not_resolve(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says so, for http and for tcp."""

    def getaddrinfo(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert (await probe_one(Mapping(80, "gone.example:80", kind))).error == UNRESOLVED


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:{}/", "https://127.0.0.1:{}/"])
async def test_a_port_that_accepts_and_says_nothing_times_out(endpoint: str) -> None:
    """One time limit for all of a probe, told in milliseconds."""
    with listening() as port:
        result = await probe_one(Mapping(80, endpoint.format(port)), timeout=0.05)
    assert (result.healthy, result.error) == (False, "Request timeout after 50ms")


async def test_a_connection_that_hangs_times_out() -> None:
    """A full backlog leaves the connection attempt unanswered."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            while True:
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                async with asyncio.timeout(0.1):
                    await loop.sock_connect(client, server.getsockname())
        endpoint = f"127.0.0.1:{server.getsockname()[1]}"
        result = await probe_one(Mapping(22, endpoint, "tcp"), timeout=0.05)
    assert result.error == "Request timeout after 50ms"


async def test_a_port_without_tls_asked_by_https() -> None:
    """The error begins as the earlier service's did and keeps the reason."""
    async with answering() as server:
        result = await probe_one(Mapping(443, f"127.0.0.1:{server.port}"))
    assert result.healthy is False
    assert (result.error or "").startswith("SSL/TLS error: ")
    assert len(result.error or "") > len("SSL/TLS error: ")


@pytest.mark.parametrize(
    ("mapping", "secure"),
    [
        (Mapping(8888, "127.0.0.1:{}"), False),
        (Mapping(443, "127.0.0.1:{}"), True),
        (Mapping(8888, "127.0.0.1:{}", "https"), True),
        (Mapping(443, "http://127.0.0.1:{}"), False),
        (Mapping(80, "https://127.0.0.1:{}"), True),
        (Mapping(80, "127.0.0.1:{}/path", "HTTP"), False),
    ],
)
async def test_the_scheme_of_an_http_endpoint(mapping: Mapping, secure: bool) -> None:
    """What the endpoint says, else https for port 443 and type https, else http."""
    heard = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.readexactly(1))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await probe(Mapping(mapping.port, mapping.endpoint.format(port), mapping.type))
        tls_handshake = b"\x16"
        assert await heard == (tls_handshake if secure else b"G")


@pytest.mark.parametrize("status", [200, 204, 301, 302, 304, 399])
async def test_200_to_399_is_healthy(status: int) -> None:
    """A redirect is an answer."""
    async with answering(status) as server:
        assert (await probe_one(Mapping(80, f"127.0.0.1:{server.port}"))).healthy


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, "Unauthorized (401)"),
        (404, "Not Found (404)"),
        (500, "Internal Server Error (500)"),
        (502, "Bad Gateway (502)"),
        (599, "HTTP status (599)"),
    ],
)
async def test_other_statuses_are_unhealthy(status: int, error: str) -> None:
    """The error is the name and number of the status."""
    async with answering(status) as server:
        result = await probe_one(Mapping(80, f"127.0.0.1:{server.port}"))
    assert (result.healthy, result.error, result.response_time_s) == (False, error, 0)


async def test_a_redirect_is_not_followed() -> None:
    """Even to a place that answers 500 the port itself is healthy."""
    asked: list[str] = []

    async def fail(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(status=500)

    async with (
        RawTestServer(fail) as elsewhere,
        answering(302, location=str(elsewhere.make_url("/login"))) as server,
    ):
        assert (await probe_one(Mapping(80, f"127.0.0.1:{server.port}"))).healthy
    assert asked == []


async def test_the_body_is_not_judged_nor_waited_for() -> None:
    """An endless page that says "service unavailable" under 200 is healthy, at once."""
    hung_up = asyncio.Event()

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"503 service unavailable" * 1000)
        finally:
            hung_up.set()

    async with RawTestServer(endless) as server:
        assert (await probe_one(Mapping(80, f"127.0.0.1:{server.port}"))).healthy
        await hung_up.wait()


async def test_an_answer_that_is_no_http_is_unhealthy() -> None:
    """A service that speaks another protocol or hangs up leaves an error."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        writer.close()

    for behave in (hang_up, babble):
        server = await asyncio.start_server(behave, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            result = await probe_one(Mapping(80, f"127.0.0.1:{port}"))
        assert result.healthy is False
        assert result.error


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:{}", "tcp://127.0.0.1:{}", "ssh://root@127.0.0.1:{}", "localhost:{}"]
)
async def test_the_forms_of_a_tcp_endpoint(endpoint: str) -> None:
    """Host and port, bare or in a URL."""
    with listening() as port:
        assert (await probe_one(Mapping(22, endpoint.format(port), "tcp"))).healthy


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "host.example",
        "tcp://host.example",
        "ssh root@host.example -p 22",
        "ssh root@host.example:22",
        "host.example:port",
        "host.example:99999",
        ":22",
        "tcp://",
    ],
)
async def test_other_forms_of_a_tcp_endpoint_are_unhealthy(endpoint: str) -> None:
    """The error quotes the endpoint."""
    result = await probe_one(Mapping(22, endpoint, "tcp"))
    assert result.healthy is False
    assert "host:port" in (result.error or "")
    assert (result.error or "").endswith(repr(endpoint))


@pytest.mark.parametrize("endpoint", ["", "http://", "a b", "ftp://host.example/", "http://[::1/"])
async def test_other_forms_of_an_http_endpoint_are_unhealthy(endpoint: str) -> None:
    """The error quotes the endpoint."""
    result = await probe_one(Mapping(80, endpoint))
    assert result.healthy is False
    assert (result.error or "").endswith(repr(endpoint))


async def test_an_unknown_type_is_unhealthy() -> None:
    """The error names the type and those that are known."""
    result = await probe_one(Mapping(80, "127.0.0.1:80", "grpc"))
    assert result.error == "port type is not http, https, tcp or udp: 'grpc'"


async def test_udp_is_not_probed(unused_tcp_port: int) -> None:
    """It shows as healthy, and counts neither for nor against the instance."""
    udp = Mapping(53, "127.0.0.1:53", "udp")
    alone = await probe(udp)
    assert alone.overall is Health.HEALTHY
    [result] = alone.endpoints
    assert (result.healthy, result.error, result.response_time_s) == (True, None, 0)
    beside = await probe(udp, Mapping(22, f"127.0.0.1:{unused_tcp_port}", "tcp"))
    assert beside.overall is Health.UNHEALTHY


@pytest.mark.parametrize("concurrency", [1, 3, 8])
async def test_probes_run_in_parallel_within_a_bound(concurrency: int) -> None:
    """As many at once as allowed, and no more."""
    now_open = 0
    most_open = 0
    full = asyncio.Event()

    async def count(_: web.BaseRequest) -> web.StreamResponse:
        nonlocal now_open, most_open
        now_open += 1
        most_open = max(most_open, now_open)
        if now_open == concurrency:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        now_open -= 1
        return web.Response()

    async with RawTestServer(count) as server:
        mappings = [Mapping(port, f"127.0.0.1:{server.port}") for port in range(1, 9)]
        report = await probe(*mappings, concurrency=concurrency)
    assert report.overall is Health.HEALTHY
    assert most_open == concurrency
    assert [result.port for result in report.endpoints] == list(range(1, 9))


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name resolve to *addresses*."""

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> Sequence[object]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
