"""What every request passes before the routes see it, in the order in which it is checked.

Request id, own host and origin, token or session, rate, body; on the way out the headers that every answer
has, the figures and the log. One plain ASGI callable, so that it also holds for answers that no
route gives.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

import msgspec
import uuid_utils

from durably import Clock
from durably.server.auth import LOCAL, Principal, Tokens
from durably.server.errors import PROBLEM_TYPE, ApiError, api_error, log
from durably.server.limits import RateLimiter
from durably.server.sessions import Sessions

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_MAX_BYTES = 1_048_576
DISCARD_MAX_BYTES = 8 * BODY_MAX_BYTES
"""What is read of a body that is too large, so that its sender sees the answer."""
BODY_PATIENCE_S = 30.0
OPEN_PATHS = frozenset({"/", "/health/live", "/health/ready", "/api/openapi.json", "/api/session"})
"""Need no token: who looks after the process has none, the description is no secret, and whoever is
to sign in sees the page and says so."""
ASSETS = "/assets/"
"""Paths below need none either."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_ID_LONGEST = 128
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_log = logging.getLogger("durably.access")
_BASE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class Figures(Protocol):
    """Counts requests."""

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """One has been answered."""
        ...


class Gate:
    """The way in to *app*.

    Args:
        app: answers what passes; finds `Principal` and request id in ``scope["state"]``.
        tokens: who may pass; when there are none, only who asks for this host by its own name.
        sessions: who has signed in.
        limiter: how often.
        figures: counts.
        clock: measures.
        methods: gives the methods of a path: the framework knows only the first of those that it
            is told one by one.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        tokens: Tokens,
        sessions: Sessions,
        limiter: RateLimiter,
        figures: Figures,
        clock: Clock,
        methods: Callable[[str], list[str]],
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._sessions = sessions
        self._limiter = limiter
        self._figures = figures
        self._clock = clock
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            raise RuntimeError(f"only http is served here, not {scope['type']}")
        await _Exchange(self, scope, receive, send).run()

    async def answer(self, exchange: "_Exchange") -> None:
        """Check the request, then have it answered."""
        principal = self._principal(exchange)
        exchange.scope["state"] = {"request_id": exchange.request_id, "principal": principal}
        if principal is not None:
            self._check_rate(principal)
        if exchange.method == "OPTIONS" and (methods := self._methods(exchange.scope["path"])):
            await exchange.send_methods([*methods, "OPTIONS"])
            return
        await exchange.read_body()
        await self._app(exchange.scope, exchange.receive, exchange.send)

    def done(self, exchange: "_Exchange") -> None:
        """Count and log an answer."""
        scope = exchange.scope
        seconds = self._clock.monotonic() - exchange.started
        route = scope.get("path_template") or "unmatched"
        self._figures.request(exchange.method, route, exchange.status, seconds)
        if _log.isEnabledFor(logging.INFO):
            principal = scope.get("state", {}).get("principal")
            _log.info(
                "%s %s %d %.1f ms, request %s by %s",
                exchange.method,
                scope["path"].encode("unicode_escape").decode(),
                exchange.status,
                seconds * 1000,
                exchange.request_id,
                principal.name if principal else "nobody",
            )

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock.monotonic()

    def _principal(self, exchange: "_Exchange") -> Principal | None:
        if not self._tokens:
            _check_own(exchange)
            return LOCAL
        presented = exchange.header(b"authorization")
        if not presented and (found := self._signed_in(exchange)) is not None:
            return found
        kind, _, token = presented.partition(" ")
        found = self._tokens.find(token.strip()) if kind.lower() == "bearer" else None
        if found is None and (presented or not _is_open(exchange.scope["path"])):
            told = "the token is unknown" if presented else NO_TOKEN
            raise unauthorized(told)
        return found

    def _signed_in(self, exchange: "_Exchange") -> Principal | None:
        """Whose session comes with the request.

        Raises:
            ApiError: it would change something, and no page of this server sends it.
        """
        found = self._sessions.find(exchange.cookie(self._sessions.cookie))
        if found is not None and exchange.method not in _SAFE:
            check_same_origin(exchange.header(b"origin"), exchange.header(b"host"))
        return found

    def _check_rate(self, principal: Principal) -> None:
        wait = self._limiter.retry_after(principal.name)
        if wait > 0:
            raise ApiError(
                429,
                "rate_limited",
                f"too many requests with this token; wait {wait:.3f} s",
                headers={"Retry-After": str(max(1, round(wait + 0.5)))},
            )


class _Exchange:
    """One request and its answer."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        self._gate = gate
        self._receive = receive
        self._send = send
        self._body: Message | None = None
        self.scope = scope
        self.method = str(scope["method"])
        if self.method == "HEAD":
            # The server leaves the body out, by its own scope.
            self.scope = {**scope, "method": "GET"}
        self.started = gate.now()
        self.status = 0
        self.request_id = self._own_id() or str(uuid_utils.uuid7())

    async def run(self) -> None:
        """Answer, whatever happens."""
        try:
            await self._gate.answer(self)
        except Exception as error:
            if self.status:
                raise  # half an answer is sent: only the connection's end can tell
            told = api_error(error)
            log(told, error, self.request_id)
            await self._send_problem(told)
        finally:
            self._gate.done(self)

    def header(self, name: bytes) -> str:
        """The value of a header; empty if there is none."""
        for key, value in self.scope["headers"]:
            if key == name:
                return str(value, "latin-1")
        return ""

    def cookie(self, name: str) -> str:
        """The value of a cookie; empty if there is none."""
        for header in self.headers(b"cookie"):
            for pair in header.split(";"):
                key, _, value = pair.strip().partition("=")
                if key == name:
                    return value
        return ""

    def headers(self, name: bytes) -> list[str]:
        """Every value of a header."""
        return [str(value, "latin-1") for key, value in self.scope["headers"] if key == name]

    def _own_id(self) -> str:
        """The client's request id, if it is fit to be echoed and logged."""
        given = self.header(b"x-request-id")
        fit = 1 <= len(given) <= _ID_LONGEST and given.isascii() and given.isprintable()
        return given if fit and " " not in given else ""

    async def receive(self) -> Message:
        """The body, read already, then what comes after it."""
        if self.method == "HEAD" and self.status:
            # All has been said: a stream ends as when its client leaves.
            return {"type": "http.disconnect"}
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return body

    async def send(self, message: Message) -> None:
        """Pass a message on; the first gets the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = [_with_head(pair) for pair in message.get("headers", ())]
            names = {name.lower() for name, _ in given}
            given += [pair for pair in _BASE_HEADERS if pair[0] not in names]
            if b"cache-control" not in names:
                given.append((b"cache-control", b"no-store"))
            given.append((b"x-request-id", self.request_id.encode()))
            message["headers"] = given
        elif self.method == "HEAD":
            return  # it has been ended
        await self._send(message)
        if message["type"] == "http.response.start" and self.method == "HEAD":
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def read_body(self) -> None:
        """Read the whole body, which is small.

        Raises:
            ApiError: it is too large, of another kind than JSON, or does not come.
        """
        if self.method in _SAFE:
            return
        try:
            async with asyncio.timeout(BODY_PATIENCE_S):
                body = await self._whole_body()
        except TimeoutError:
            raise ApiError(
                408,
                "request_timeout",
                f"the body did not come within {BODY_PATIENCE_S:g} s",
                headers={"Connection": "close"},
            ) from None
        if body:
            self._check_kind()
        self._body = {"type": "http.request", "body": body, "more_body": False}

    async def _whole_body(self) -> bytes:
        parts: list[bytes] = []
        size, more = 0, True
        while more and size <= DISCARD_MAX_BYTES:
            message = await self._receive()
            part = message.get("body", b"")
            size += len(part)
            more = message.get("more_body", False)
            if size <= BODY_MAX_BYTES:
                parts.append(part)
        if size > BODY_MAX_BYTES:
            raise ApiError(
                413,
                "payload_too_large",
                f"the body may have at most {BODY_MAX_BYTES:,} bytes",
                headers={"Connection": "close"} if more else {},
            )
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _check_kind(self) -> None:
        kind = self.header(b"content-type").partition(";")[0].strip().lower()
        if kind and kind != "application/json" and not kind.endswith("+json"):
            raise _unsupported(
                f"the body must be JSON (Content-Type: application/json), got {kind!r}"
            )
        coding = self.header(b"content-encoding").strip().lower()
        if coding not in {"", "identity"}:
            raise _unsupported(f"the body must not be compressed, got {coding!r}")

    async def send_methods(self, methods: list[str]) -> None:
        """Answer what may be done here."""
        headers = [(b"allow", ", ".join(methods).encode())]
        await self.send({"type": "http.response.start", "status": 204, "headers": headers})
        await self.send({"type": "http.response.body", "body": b""})

    async def _send_problem(self, told: ApiError) -> None:
        body = msgspec.json.encode(told.problem(self.request_id))
        headers = [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in told.headers.items()),
        ]
        start = {"type": "http.response.start", "status": told.status, "headers": headers}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": body})


def unauthorized(detail: str) -> ApiError:
    """The answer to who has not said who it is."""
    return ApiError(
        401, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="durably"'}
    )


NO_TOKEN = "a token is needed: Authorization: Bearer …, or sign in on the dashboard"  # noqa: S105 - a text


def check_same_origin(origin: str, host: str) -> None:
    """Refuse a change that a page of another origin sends with the cookie of this one (403).

    Browsers name the origin with every request that is not safe. The scheme is left out: a proxy
    may speak https for this server.
    """
    try:
        named = urlsplit(origin).netloc
    except ValueError:  # no URL at all
        named = ""
    if named.lower() != host.lower() or not host:
        raise ApiError(
            403,
            "forbidden",
            f"a session changes things only from this server's own pages; got Origin: {origin[:200]!r}",
        )


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(ASSETS)


def _with_head(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """What may be read may also be asked about: the gate makes HEAD of GET."""
    name, value = header
    may_be_read = name.lower() == b"allow" and b"GET" in value.split(b", ")
    return (name, value + b", HEAD") if may_be_read else header


def _unsupported(detail: str) -> ApiError:
    return ApiError(415, "unsupported_media_type", detail, headers={"Accept": "application/json"})


def _check_own(exchange: _Exchange) -> None:
    """Refuse what a page of somebody else's has a browser send here.

    Without tokens whoever reaches the port may do everything. A browser on this machine does, for
    any page (cross-site posts) and under any name that is made to point here (DNS rebinding).
    """
    port = exchange.scope["server"][1]
    for host in exchange.headers(b"host") or [""]:
        if not _is_own(f"//{host}", port):
            raise _forbidden("Host", host)
    for origin in exchange.headers(b"origin"):
        if not (origin.startswith("http://") and _is_own(origin, port)):
            raise _forbidden("Origin", origin)


def _is_own(url: str, port: int) -> bool:
    try:
        parts = urlsplit(url)
        named = parts.port or 80
    except ValueError:
        return False
    return parts.hostname in _LOOPBACK_NAMES and named == port


def _forbidden(header: str, value: str) -> ApiError:
    return ApiError(
        403,
        "forbidden",
        f"without tokens this server answers only to its own name and pages, such as localhost; "
        f"got {header}: {value[:200]!r}; set DURABLY_TOKENS to serve others",
    )
