"""One delivery attempt over real sockets, and the pure rules of when to try again."""

import asyncio
import base64
import json
import logging
import random
import re
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import RawTestServer
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from durably.instances.addresses import AddressPolicy
from durably.instances.delivery import (
    Delivery,
    DeliveryResult,
    TargetBackoff,
    WebhookSender,
    check_headers,
    check_secret,
    delivery_delay,
    delivery_expired,
    generate_secret,
    target_of,
)

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
AT = datetime(2026, 5, 4, 12, 0, 0, 900_000, UTC)
BODY = b'{"type": "instance.ready",  "data":{"name":"caf\xc3\xa9"}}'

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Receiver:
    """Answers every request as told and keeps what came."""

    def __init__(self, answer: Handler) -> None:
        self.answer = answer
        self.requests: list[web.BaseRequest] = []
        self.bodies: list[bytes] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return await self.answer(request)


class Scripted(AbstractResolver):
    """Answers any look-up with the next address."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        address = self.addresses.pop(0)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
        ]

    async def close(self) -> None:
        pass


def answering(
    status: int = 200, *, body: bytes = b"", headers: dict[str, str] | None = None
) -> Handler:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return answer


@asynccontextmanager
async def receiving(answer: Handler) -> AsyncIterator[tuple[Receiver, str]]:
    receiver = Receiver(answer)
    async with RawTestServer(receiver.handle) as server:
        yield receiver, str(server.make_url("/hook?token=t0ken"))


def sender(
    *,
    secret: str = SECRET,
    allow: Sequence[str] = ("127.0.0.1",),
    now: Callable[[], datetime] = lambda: AT,
    timeout: float = 15.0,
    resolver: AbstractResolver | None = None,
) -> WebhookSender:
    return WebhookSender(
        secret, policy=AddressPolicy(allow), now=now, timeout=timeout, resolver=resolver
    )


def delivery(url: str, **headers: str) -> Delivery:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Delivery(url=url, webhook_id="msg_1", body=BODY, headers=named)


async def attempt(answer: Handler, *, timeout: float = 15.0) -> DeliveryResult:
    async with receiving(answer) as (_, url), sender(timeout=timeout) as hook:
        return await hook.send(delivery(url))


async def test_a_delivery_is_signed_and_sent_byte_for_byte() -> None:
    """The receiver's own library verifies id, time and the very bytes it got."""
    now = datetime.now(UTC)
    async with (
        receiving(answering(204)) as (receiver, url),
        sender(now=lambda: now) as hook,
    ):
        result = await hook.send(delivery(url, x_tenant="blue"))

    [request], [body] = receiver.requests, receiver.bodies
    assert body == BODY
    headers = dict(request.headers)
    assert Webhook(SECRET).verify(body, headers) == json.loads(BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", headers)
    lower = {name.lower(): value for name, value in headers.items()}
    assert request.method == "POST"
    assert request.path_qs == "/hook?token=t0ken"
    assert lower["webhook-id"] == "msg_1"
    assert lower["webhook-timestamp"] == str(int(now.timestamp()))
    assert lower["content-type"] == "application/json"
    assert re.fullmatch(r"durably/\d+\.\d+\.\d+\S*", lower["user-agent"])
    assert lower["x-tenant"] == "blue"
    assert (result.status, result.ok, result.error, result.disabled) == (204, True, None, False)
    assert result.duration_s > 0


async def test_each_attempt_is_signed_with_its_own_time() -> None:
    """The id stays, the timestamp is the attempt's, also from a clock of another zone."""
    zone = timezone(timedelta(hours=5, minutes=30))
    times = iter([AT, AT, (AT + timedelta(hours=1)).astimezone(zone), AT])
    async with (
        receiving(answering()) as (receiver, url),
        sender(now=lambda: next(times)) as hook,
    ):
        await hook.send(delivery(url))
        await hook.send(delivery(url))
    first, second = (request.headers for request in receiver.requests)
    assert first["webhook-id"] == second["webhook-id"]
    assert first["webhook-timestamp"] == str(int(AT.timestamp()))
    assert second["webhook-timestamp"] == str(int(AT.timestamp()) + 3600)
    expected = Webhook(SECRET).sign("msg_1", AT + timedelta(hours=1), BODY.decode())
    assert second["webhook-signature"] == expected


async def test_a_caller_may_replace_content_type_and_user_agent() -> None:
    """Other headers of the caller go out as they are, in any case of their names."""
    async with receiving(answering()) as (receiver, url), sender() as hook:
        await hook.send(
            delivery(url, Content_Type="application/cloudevents+json", USER_AGENT="mine")
        )
    [request] = receiver.requests
    assert request.headers.getall("content-type") == ["application/cloudevents+json"]
    assert request.headers.getall("user-agent") == ["mine"]


async def test_a_body_that_is_not_utf_8_is_refused() -> None:
    """It could not be signed as JSON text; nothing is sent."""
    async with receiving(answering()) as (receiver, url), sender() as hook:
        with pytest.raises(ValueError, match="utf-8"):
            await hook.send(Delivery(url=url, webhook_id="m", body=b"\xff"))
    assert receiver.requests == []


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_success(status: int) -> None:
    """Nothing is wrong and nothing is disabled."""
    result = await attempt(answering(status))
    assert (result.status, result.ok, result.error) == (status, True, None)


@pytest.mark.parametrize("status", [304, 400, 401, 404, 408, 429, 500, 502, 503, 599])
async def test_any_other_status_is_a_failure(status: int) -> None:
    """The error names the status."""
    result = await attempt(answering(status))
    assert (result.status, result.ok, result.disabled) == (status, False, False)
    assert str(status) in (result.error or "")


async def test_410_disables_the_target() -> None:
    """Gone: the receiver wants no more, and this one has failed."""
    result = await attempt(answering(410))
    assert (result.ok, result.disabled) == (False, True)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_not_followed(status: int) -> None:
    """The place it points to, allowed or not, is never asked."""
    async with (
        receiving(answering()) as (elsewhere, location),
        receiving(answering(status, headers={"location": location})) as (receiver, url),
        sender() as hook,
    ):
        result = await hook.send(delivery(url))
    assert (result.status, result.ok) == (status, False)
    assert "redirect" in (result.error or "")
    assert len(receiver.requests) == 1
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("status", "value", "expected"),
    [
        (429, "120", 120.0),
        (503, "0", 0.0),
        (503, " 7 ", 7.0),
        (429, "Mon, 04 May 2026 12:01:00 GMT", 59.1),
        (429, "Monday, 04-May-26 12:01:00 GMT", 59.1),
        (429, "Mon May  4 12:01:00 2026", 59.1),
        (503, "Mon, 04 May 2026 11:00:00 GMT", 0.0),
        (429, "", None),
        (429, "soon", None),
        (429, "-5", None),
        (429, "1.5", None),
        (429, "\u0661", None),
        (429, "9" * 5000, None),
        (429, "Mon, 99 May 2026 12:01:00 GMT", None),
        (429, "Mon, 04 May 2026 12:01:00 +99999999999999", None),
        (500, "120", None),
        (200, "120", None),
    ],
)
async def test_retry_after_is_read_from_429_and_503(
    status: int, value: str, expected: float | None
) -> None:
    """Seconds and all three forms of date; what is malformed or past asks for nothing."""
    result = await attempt(answering(status, headers={"retry-after": value}))
    assert result.retry_after == (None if expected is None else pytest.approx(expected))


async def test_the_excerpt_is_short_and_printable() -> None:
    """Control characters become spaces, broken text is replaced, at most 1 KiB is kept."""
    result = await attempt(answering(500, body=b"no\x00\x1b[31m\r\n\xff \xe2\x80\xae caf\xc3\xa9"))
    assert result.excerpt == "no  [31m  \ufffd   caf\xe9"
    for body in (b"a" * 5000, b"\xff" * 5000, "é".encode() * 5000):
        excerpt = (await attempt(answering(500, body=body))).excerpt
        assert 1000 < len(excerpt.encode()) <= 1024
        assert excerpt.isprintable()


async def test_a_compressed_answer_is_not_unpacked() -> None:
    """A small answer that would unpack to gigabytes stays small."""
    async with (
        receiving(answering(headers={"content-encoding": "gzip"}, body=b"not gzip")) as (
            receiver,
            url,
        ),
        sender() as hook,
    ):
        result = await hook.send(delivery(url))
    assert (result.ok, result.excerpt) == (True, "not gzip")
    assert receiver.requests[0].headers["accept-encoding"] == "identity"


async def test_an_endless_body_is_cut_off() -> None:
    """The sender hangs up soon after 64 KiB; what was received decides."""
    sent = 0
    hung_up = asyncio.Event()

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 16_384)
                sent += 16_384
        finally:
            hung_up.set()

    async with receiving(endless) as (_, url), sender() as hook:
        result = await hook.send(delivery(url))
        await hung_up.wait()
    assert (result.status, result.ok) == (200, True)
    assert result.excerpt == "x" * 1024
    assert sent < 32 * 1024 * 1024


async def test_a_body_that_never_ends_in_time_leaves_the_status_to_decide() -> None:
    """The time limit covers the body; a receiver that said 200 has the delivery."""

    async def dripping(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"beginning")
        await asyncio.Event().wait()
        return response

    result = await attempt(dripping, timeout=0.1)
    assert (result.status, result.ok, result.excerpt) == (200, True, "beginning")
    assert 0.05 < result.duration_s < 5


async def test_a_receiver_that_does_not_answer_times_out() -> None:
    """The whole attempt has one time limit, named in the error."""

    async def silent(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    result = await attempt(silent, timeout=0.1)
    assert (result.status, result.ok) == (None, False)
    assert result.error == "no answer within 0.1 s"
    assert 0.05 < result.duration_s < 5


async def test_a_refused_connection_is_a_failed_attempt(unused_tcp_port: int) -> None:
    """The error names host and port."""
    async with sender() as hook:
        result = await hook.send(delivery(f"http://127.0.0.1:{unused_tcp_port}/?token=t0ken"))
    assert (result.status, result.ok) == (None, False)
    assert f"127.0.0.1:{unused_tcp_port}" in (result.error or "")


@pytest.mark.parametrize(
    "answer",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n"],
)
async def test_an_answer_that_is_no_http_is_a_failed_attempt(answer: bytes) -> None:
    """A closed connection, garbage or an endless header: an error that has no secret of the URL."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(BODY)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server, sender() as hook:
        port = server.sockets[0].getsockname()[1]
        result = await hook.send(delivery(f"http://127.0.0.1:{port}/hook?token=t0ken"))
    assert (result.status, result.ok) == (None, False)
    assert result.error
    assert result.error.isprintable()
    assert len(result.error) < 1100
    assert "t0ken" not in result.error


async def test_a_refused_address_is_a_failed_attempt() -> None:
    """The error names the setting; the receiver hears nothing."""
    async with receiving(answering()) as (receiver, url), sender(allow=()) as hook:
        result = await hook.send(delivery(url))
    assert (result.status, result.ok) == (None, False)
    assert "DURABLY_WEBHOOK_ALLOW" in (result.error or "")
    assert receiver.requests == []


async def test_a_malformed_url_is_a_failed_attempt() -> None:
    """A record whose URL is no target does not break its sender."""
    async with sender() as hook:
        result = await hook.send(delivery("http://user:pw@127.0.0.1/"))
    assert "user name or password" in (result.error or "")


async def test_a_rebound_name_is_a_failed_attempt() -> None:
    """The address is judged at the connection, whatever an earlier look-up said."""
    resolver = Scripted("8.8.8.8", "127.0.0.1")
    async with receiving(answering()) as (receiver, url):
        named = url.replace("127.0.0.1", "hook.example")
        await AddressPolicy().resolve(named, resolver=resolver)
        async with sender(allow=(), resolver=resolver) as hook:
            result = await hook.send(delivery(named))
    assert "127.0.0.1" in (result.error or "")
    assert receiver.requests == []


async def test_the_environment_gives_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would reach what the policy refuses."""
    async with (
        receiving(answering(500)) as (proxy, proxy_url),
        receiving(answering()) as (_, url),
    ):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy_url)
        async with sender() as hook:
            result = await hook.send(delivery(url))
    assert result.ok
    assert proxy.requests == []


async def test_cookies_are_not_kept() -> None:
    """One receiver's cookie is no part of the next delivery."""
    resolver = Scripted("127.0.0.1", "127.0.0.1")
    async with (
        receiving(answering(headers={"set-cookie": "a=b; Path=/"})) as (receiver, url),
        sender(resolver=resolver) as hook,
    ):
        named = url.replace("127.0.0.1", "hook.example")
        await hook.send(delivery(named))
        await hook.send(delivery(named))
    assert ["cookie" in request.headers for request in receiver.requests] == [False, False]


async def test_many_deliveries_go_out_at_once() -> None:
    """No pool makes a delivery wait for others, which would count as its own time."""
    together = 120
    arrived = 0
    everybody = asyncio.Event()

    async def wait_for_all(_: web.BaseRequest) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        if arrived == together:
            everybody.set()
        await everybody.wait()
        return web.Response()

    async with receiving(wait_for_all) as (_, url), sender() as hook:
        results = await asyncio.gather(*(hook.send(delivery(url)) for _ in range(together)))
    assert all(result.ok for result in results)


async def test_the_secret_appears_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Not in repr, results, requests or debug logs, in text or in bytes."""
    caplog.set_level(logging.DEBUG)
    async with receiving(answering(500, body=b"no")) as (receiver, url), sender() as hook:
        result = await hook.send(delivery(url))
        seen = f"{hook!r} {vars(hook)!r} {result!r} {delivery(url)!r} {caplog.text}"
    seen += str(receiver.requests[0].raw_headers)
    for hidden in (SECRET, SECRET.removeprefix("whsec_"), repr(bytes(range(32)))):
        assert hidden not in seen


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan")])
def test_a_timeout_is_positive(timeout: float) -> None:
    """Zero would mean no limit to the HTTP client."""
    with pytest.raises(ValueError, match="webhook timeout"):
        sender(timeout=timeout)


@pytest.mark.parametrize(
    "name",
    [
        "webhook-id",
        "Webhook-Signature",
        "WEBHOOK-ANYTHING",
        "Host",
        "host",
        "Connection",
        "Keep-Alive",
        "Proxy-Authorization",
        "proxy-connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Content-Length",
    ],
)
def test_reserved_headers_are_refused(name: str) -> None:
    """They belong to the protocol or to the connection."""
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        check_headers({"x-fine": "1", name: "s3cret"})


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a:b", "x\r\ny", "x\n", "x\x00", "café", "x-a\r\nwebhook-id: 1"]
)
def test_names_that_http_does_not_allow_are_refused(name: str) -> None:
    """No name can end its line."""
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        check_headers({name: "1"})


@pytest.mark.parametrize(
    "value",
    [
        "s3cret\r\nx-evil: 1",
        "s3cret\n",
        "s3cret\r",
        "s3cret\x00",
        "s3cret\x7f",
        "s3cret\ud800",
        1,
        None,
        b"s3cret",
        ["s3cret"],
    ],
)
def test_values_that_inject_or_are_no_strings_are_refused(value: object) -> None:
    """The error names the header and hides its value."""
    with pytest.raises(ValueError, match="'x-token'") as refusal:
        check_headers({"x-token": value})
    assert "s3cret" not in str(refusal.value)


def test_ordinary_headers_are_accepted() -> None:
    """Also empty values, tabs and letters beyond ASCII."""
    check_headers({})
    check_headers({"Authorization": "Bearer x", "X-Empty": "", "x-tab": "a\tb", "x-name": "café"})
    check_headers({"content-type": "application/json", "te-x": "1", "x-webhook-id": "1"})


@given(st.dictionaries(st.text(), st.text(), max_size=3))
def test_accepted_headers_never_break_a_line(headers: dict[str, str]) -> None:
    """Whatever passes has no character that ends a header."""
    try:
        check_headers(headers)
    except ValueError:
        return
    text = "".join(headers) + "".join(headers.values())
    assert not set(text) & set("\r\n\x00")


def test_a_delivery_checks_its_headers() -> None:
    """A delivery with a forbidden header cannot be made."""
    with pytest.raises(ValueError, match="'webhook-id'"):
        Delivery(url="http://h/", webhook_id="m", body=b"{}", headers={"webhook-id": "x"})


@pytest.mark.parametrize("webhook_id", ["", "a.b", "a b", "a\r\nb", "é", "a" * 257])
def test_a_delivery_checks_its_id(webhook_id: str) -> None:
    """A dot would make the signed text ambiguous."""
    with pytest.raises(ValueError, match="webhook id"):
        Delivery(url="http://h/", webhook_id=webhook_id, body=b"{}")


def test_a_generated_secret_is_valid() -> None:
    """32 random bytes in the form that Standard Webhooks fixes."""
    secret = generate_secret(secrets.token_bytes)
    check_secret(secret)
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert secret != generate_secret(secrets.token_bytes)
    assert generate_secret(random.Random(1).randbytes) == generate_secret(
        random.Random(1).randbytes
    )


@pytest.mark.parametrize("size", [24, 25, 26, 32, 64])
@pytest.mark.parametrize("padded", [True, False])
def test_a_secret_of_24_to_64_bytes_is_accepted(size: int, padded: bool) -> None:
    """With or without the padding of base64."""
    encoded = base64.b64encode(b"k" * size).decode()
    check_secret("whsec_" + (encoded if padded else encoded.rstrip("=")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "hunter2hunter2",
        SECRET.removeprefix("whsec_"),
        "whpk_" + SECRET.removeprefix("whsec_"),
        "whsec_" + base64.b64encode(b"k" * 23).decode(),
        "whsec_" + base64.b64encode(b"k" * 65).decode(),
        "whsec_" + "!" * 32,
        "whsec_" + "é" * 32,
        SECRET + "=",
        SECRET + "\n",
        " " + SECRET,
        SECRET[:20] + " " + SECRET[20:],
    ],
)
def test_a_malformed_secret_is_refused_unseen(text: str) -> None:
    """The error says what is needed and shows nothing of what came."""
    for refuse in (check_secret, lambda text: sender(secret=text)):
        with pytest.raises(ValueError, match="whsec_") as refusal:
            refuse(text)
        assert refusal.value.__cause__ is None
        assert str(refusal.value) == (
            "webhook secret must be 'whsec_' followed by the base64 of 24 to 64 bytes"
        )


@given(
    attempt=st.integers(1, 5000),
    base=st.floats(0.001, 10_000),
    seed=st.integers(0, 2**32),
)
def test_a_delay_doubles_up_to_an_hour_and_is_jittered(
    attempt: int, base: float, seed: int
) -> None:
    """Drawn from the upper half of the exact delay."""
    exact = min(base * 2 ** min(attempt - 1, 60), 3600.0)
    delay = delivery_delay(attempt, base=base, random=random.Random(seed))
    assert exact / 2 <= delay <= exact <= 3600


def test_delays_spread() -> None:
    """Deliveries that failed together come back spread over the range."""
    source = random.Random(7)
    delays = [delivery_delay(3, base=1.0, random=source) for _ in range(200)]
    assert min(delays) < 2.2
    assert max(delays) > 3.8


@given(st.timedeltas(timedelta(0), timedelta(days=3)))
def test_a_delivery_expires_after_24_hours(age: timedelta) -> None:
    """From the first attempt on, not before."""
    assert delivery_expired(AT, AT + age) == (age >= timedelta(hours=24))


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://Hook.example/a?b=c", "https://hook.example"),
        ("https://hook.example:443/d", "https://hook.example"),
        ("https://hook.example:8443/", "https://hook.example:8443"),
        ("http://hook.example/", "http://hook.example"),
    ],
)
def test_a_target_is_scheme_host_and_port(url: str, target: str) -> None:
    """Paths of one server share a back-off, its ports and schemes do not."""
    assert target_of(url) == target


def test_a_failed_target_is_blocked_until_its_delivery_is_due() -> None:
    """The back-off counts down and grows with the delays of the delivery."""
    backoff = TargetBackoff()
    assert backoff.blocked_for("http://a", 0.0) == 0
    now = 0.0
    for delay in (1.0, 2.0, 4.0):
        backoff.failed("http://a", now, delay)
        assert backoff.blocked_for("http://a", now) == delay
        assert backoff.blocked_for("http://a", now + 0.25) == delay - 0.25
        now += delay
        assert backoff.blocked_for("http://a", now) == 0
    assert backoff.blocked_for("http://b", 0.0) == 0


def test_a_success_resets_a_target() -> None:
    """It may be hit at once again; a success of an unknown target is nothing special."""
    backoff = TargetBackoff()
    backoff.failed("http://a", 0.0, 60.0)
    backoff.succeeded("http://a")
    backoff.succeeded("http://b")
    assert backoff.blocked_for("http://a", 0.0) == 0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 3600)), min_size=1))
def test_a_back_off_exceeds_neither_its_delay_nor_itself(
    failures: list[tuple[float, float]],
) -> None:
    """It is as long as the delay of the delivery that failed, unless it ends sooner already."""
    backoff = TargetBackoff()
    now = 0.0
    for passed, delay in failures:
        now += passed
        before = backoff.blocked_for("http://a", now)
        backoff.failed("http://a", now, delay)
        expected = min(before, delay) if before > 0 else delay
        assert backoff.blocked_for("http://a", now) == pytest.approx(expected, abs=1e-6)


def test_a_back_off_is_bounded() -> None:
    """The target that failed longest ago is forgotten first."""
    backoff = TargetBackoff(limit=2)
    for target in ("a", "b", "a", "c"):
        backoff.failed(target, 0.0, 10.0)
    assert [backoff.blocked_for(target, 0.0) for target in "abc"] == [10, 0, 10]
