"""Client of the Novita.ai GPU instance API, version 1: one provider operation, one HTTP request.

A read is tried up to three times, a write is sent once: only the caller can find out what became of
it. Product choice, polling and records are not here.
Source of routes and fields: https://novita.ai/docs/api-reference/gpu-instance-create-instance and
its neighbours. Their shapes vary between the documents, so answers are read leniently.
"""

import asyncio
import builtins
import logging
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import Protocol, TypeVar

import aiohttp
import msgspec
from yarl import URL

from durably.instances.products import region_code
from durably.instances.provider import (
    BillingMode,
    Cluster,
    CreateRequest,
    InvalidState,
    NoStock,
    NotFound,
    OutcomeUnknown,
    Port,
    PortMapping,
    Product,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    Template,
    Unauthorized,
    Upstream,
    UpstreamStatus,
)
from durably.instances.templates import parse_template
from durably.instances.templates import template_id as _template_id

BASE_URL = "https://api.novita.ai/gpu-instance/openapi/v1"

_READ_TRIES = 3
_BACKOFF_FIRST = 0.5  # seconds; doubles, and is drawn from the whole interval (full jitter)
_RETRY_AFTER_WAITED = 10.0  # seconds; a longer one is the caller's to wait for
_RETRY_AFTER_MAX = 3_600.0  # seconds; no throttling is believed to last longer
_ANSWER_BYTES_MAX = 16 * 1024 * 1024
_MESSAGE_CHARS_MAX = 300
_PAGE_SIZE = 100
_PAGES_MAX = 1_000
# Page numbers may start at 0 or at 1, so that the first two pages may be the same one; a provider
# that repeats its last page for ever is not asked for ever.
_STALE_PAGES_MAX = 5

_NOT_FOUND = frozenset({"RESOURCE_NOT_FOUND", "TEMPLATE_NOT_FOUND"})
_NO_STOCK = frozenset({"INSUFFICIENT_RESOURCE", "MIGRATE_INSUFFICIENT_RESOURCE"})
_NOTHING_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_Scalar = str | int | float | bool | None


class NovitaClient:
    """The provider Novita.ai; see ``durably.instances.provider.Provider`` for its operations.

    Reads and writes have *max_concurrent* requests each, so that slow creates delay no read.

    Args:
        api_key: The secret of ``NOVITA_API_KEY``; None: every call raises Unauthorized, and nothing
            is sent.
        base_url: Where the API is, ``http`` or ``https``; the setting ``NOVITA_API_BASE_URL``.
        timeout: Seconds for one request, its answer included.
        max_concurrent: Requests under way at once, for reads and for writes.
        random: Source of the jitter between tries; a seeded one makes a test repeatable.

    Raises:
        ValueError: an argument is unusable; the key is not quoted.
    """

    def __init__(
        self,
        api_key: str | None,
        *,
        base_url: str = BASE_URL,
        timeout: float = 30.0,
        max_concurrent: int = 16,
        random: Random | None = None,
    ) -> None:
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout must be a positive number of seconds, got {timeout!r}")
        if max_concurrent < 1:
            raise ValueError(f"max_concurrent must be at least 1, got {max_concurrent!r}")
        self._api_key = None if api_key is None else _checked_key(api_key)
        self._base_url = _checked_url(base_url)
        self._timeout = timeout
        self._random = random or Random()  # noqa: S311 - jitter is no secret
        self._reads = asyncio.Semaphore(max_concurrent)
        self._writes = asyncio.Semaphore(max_concurrent)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"NovitaClient(base_url={self._base_url!r})"

    async def clusters(self) -> builtins.list[Cluster]:
        """All data centres."""
        return await self._read("/clusters", _list_decoder("data", _WireCluster))

    async def products(self, name: str, *, billing: BillingMode) -> builtins.list[Product]:
        """What is on offer under a name like *name*, in every region, available or not; "": all."""
        query = {"billingMethod": billing.value}
        if name:
            query["productName"] = name
        return await self._read("/products", _list_decoder("data", _WireProduct), query)

    async def template(self, template_id: str | int) -> Template:
        """The template of that id, checked; see the protocol for what it raises."""
        identifier = _template_id(template_id)
        try:
            return await self._read("/template", _decode_template, {"templateId": identifier})
        except NotFound as error:
            raise NotFound(
                f"Template not found: {identifier}", code=error.code, status=error.status
            ) from error

    async def create(self, request: CreateRequest) -> str:
        """Rent an instance and return its upstream id; not idempotent.

        The API opens ``tcp`` and ``http`` ports only: ``https`` ones are asked for as ``http``,
        ``udp`` ones are left out with a warning.
        """
        return await self._write("/gpu/instance/create", _create_body(request), _decode_id)

    async def get(self, upstream_id: str) -> Upstream | None:
        """The instance of that id, or None when the provider knows none."""
        try:
            return await self._read("/gpu/instance", _decode_instance, {"instanceId": upstream_id})
        except NotFound:
            return None

    async def start(self, upstream_id: str) -> None:
        """Ask for a stopped instance to be started."""
        await self._act("start", upstream_id)

    async def stop(self, upstream_id: str) -> None:
        """Ask for a running instance to be stopped."""
        await self._act("stop", upstream_id)

    async def delete(self, upstream_id: str) -> None:
        """Ask for an instance to be deleted; succeeds for one that does not exist."""
        try:
            await self._act("delete", upstream_id)
        except NotFound:
            _log.debug("instance %s was gone before it was deleted", upstream_id)

    async def list(self, *, name: str | None = None) -> builtins.list[Upstream]:
        """All instances of the account, or those with exactly this *name*; each id once.

        Page after page until one is empty, because the stated total cannot be relied on.

        Raises:
            ProviderUnavailable: also when there are more than 1,000 pages: half a list is worse
                than none to somebody who looks for what is missing.
        """
        found: dict[str, Upstream] = {}
        stale_pages = 0
        for number in range(_PAGES_MAX):
            page = await self._page(number, name)
            known = len(found)
            found.update((instance.id, instance) for instance in page)
            stale_pages = stale_pages + 1 if len(found) == known else 0
            if not page or stale_pages == _STALE_PAGES_MAX:
                # The API searches names loosely: "a-1" also finds "a-10".
                return [one for one in found.values() if name is None or one.name == name]
        raise ProviderUnavailable(f"GET /gpu/instances has no end after {_PAGES_MAX:,} pages")

    async def close(self) -> None:
        """Close the connections; idempotent, and final."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _page(self, number: int, name: str | None) -> builtins.list[Upstream]:
        query = {"pageNum": str(number), "pageSize": str(_PAGE_SIZE)}
        if name is not None:
            query["name"] = name
        return await self._read("/gpu/instances", _list_decoder("instances", _WireInstance), query)

    async def _act(self, verb: str, upstream_id: str) -> None:
        body = {"instanceId": upstream_id}
        await self._write(f"/gpu/instance/{verb}", body, _decode_acknowledgement)

    async def _read(
        self, route: str, decode: Callable[[bytes], _T], query: Mapping[str, str] | None = None
    ) -> _T:
        """GET, tried again while the provider is unavailable, unless it asks for a long pause."""
        for attempt in range(1, _READ_TRIES):
            try:
                return await self._request("GET", route, decode, query=query)
            except ProviderUnavailable as error:
                asked = error.retry_after or 0.0
                if asked > _RETRY_AFTER_WAITED:
                    raise
                jittered = self._random.uniform(0.0, _BACKOFF_FIRST * 2 ** (attempt - 1))
                delay = max(asked, jittered)
                _log.info("%s; asking again in %.1f s", error, delay)
            await asyncio.sleep(delay)
        return await self._request("GET", route, decode, query=query)

    async def _write(
        self, route: str, body: Mapping[str, object], decode: Callable[[bytes], _T]
    ) -> _T:
        """POST, exactly once."""
        return await self._request("POST", route, decode, body=msgspec.json.encode(body))

    async def _request(
        self,
        method: str,
        route: str,
        decode: Callable[[bytes], _T],
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> _T:
        """Send one request and decode the answer, or raise the ProviderError that fits.

        Errors of the HTTP library are not chained: they hold the request's headers, key included.
        """
        if self._api_key is None:
            raise Unauthorized("this process has no key of the provider: NOVITA_API_KEY is not set")
        what = f"{method} {route}"
        lane = self._reads if method == "GET" else self._writes
        try:
            async with (
                lane,
                self._open_session().request(
                    method, self._base_url + route, params=query, data=body, allow_redirects=False
                ) as response,
            ):
                status, headers = response.status, response.headers
                content = await _read_capped(response.content)
        except _NOTHING_SENT as error:
            raise ProviderUnavailable(f"{what} found no connection: {self._said(error)}") from None
        except TimeoutError:
            raise _untrusted(method, f"{what} had no answer within {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _untrusted(method, f"{what} got no whole answer: {self._said(error)}") from None
        if not 200 <= status < 300:
            raise self._failure(method, what, status, headers, content)
        try:
            return decode(content)
        except _UNREADABLE as error:
            raise _untrusted(
                method, f"{what} answered what cannot be read: {self._said(error)}"
            ) from None

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # The semaphores limit: a limit here would let writes delay reads after all.
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={
                    "Authorization": f"Bearer {self._api_key}",
                    "Accept": "application/json",
                    "Content-Type": "application/json",
                    "User-Agent": "durably",
                },
                # Connecting has a limit of its own: running into it proves that nothing was sent.
                timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=self._timeout / 2),
                trust_env=False,
            )
            # aiohttp sends a GET again whose connection broke; without this, three tries were six.
            self._session._retry_connection = False  # noqa: SLF001
        return self._session

    def _failure(
        self, method: str, what: str, status: int, headers: Mapping[str, str], content: bytes
    ) -> ProviderError:
        """The error for an answer that is no success.

        Only 4xx answers tell what became of a request; 408 is a gateway's, not the provider's.
        """
        code, message = _told(content)
        text = " ".join(part for part in (what, "answered", str(status), code) if part)
        if message:
            text = f"{text}: {self._redacted(message)}"
        retry_after = _retry_after(headers)
        if not 400 <= status < 500 or status == 408:
            return _untrusted(method, text, retry_after=retry_after)
        if status == 429 or code == "RATE_LIMIT_EXCEEDED":
            return ProviderUnavailable(text, retry_after=retry_after)
        return _refusal(text, status, code, message)

    def _said(self, error: Exception) -> str:
        return self._redacted(str(error)) or type(error).__name__

    def _redacted(self, text: str) -> str:
        """*text* on one line, without the key, and only then shortened: half a key is one too."""
        assert self._api_key is not None
        return " ".join(text.replace(self._api_key, "***").split())[:_MESSAGE_CHARS_MAX]


def _checked_key(api_key: str) -> str:
    key = api_key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("api_key must be printable ASCII without blanks; set NOVITA_API_KEY")
    return key


def _checked_url(base_url: str) -> str:
    problem = "base_url must be an http or https URL without credentials, query or fragment"
    try:
        url = URL(base_url)
        port = url.port
    except ValueError:
        raise ValueError(f"{problem}; check NOVITA_API_BASE_URL") from None
    if url.user is not None or url.password is not None:
        raise ValueError(f"{problem}; check NOVITA_API_BASE_URL")
    if url.scheme not in {"http", "https"} or not url.host or not port or url.query or url.fragment:
        raise ValueError(f"{problem}; check NOVITA_API_BASE_URL, got {base_url!r}")
    return str(url).rstrip("/")


async def _read_capped(stream: aiohttp.StreamReader) -> bytes:
    content = bytearray()
    async for chunk in stream.iter_any():
        content += chunk
        if len(content) > _ANSWER_BYTES_MAX:
            raise aiohttp.ClientPayloadError(f"answer exceeds {_ANSWER_BYTES_MAX:,} bytes")
    return bytes(content)


# Errors


def _untrusted(method: str, text: str, *, retry_after: float | None = None) -> ProviderError:
    """The error for an answer that proves nothing: a write may have been carried out."""
    if method == "GET":
        return ProviderUnavailable(text, retry_after=retry_after)
    return OutcomeUnknown(text)


def _refusal(text: str, status: int, code: str, message: str) -> ProviderRefused:
    kind = _kind_of_refusal(status, code, message.lower())
    if kind is Unauthorized:
        text = f"{text}; check NOVITA_API_KEY"
    elif status == 404 and not code:
        # Without a code it may well be the route that does not exist.
        text = f"{text}; check NOVITA_API_BASE_URL"
    return kind(text, code=code, status=status)


def _kind_of_refusal(status: int, code: str, message: str) -> type[ProviderRefused]:
    if status in {401, 403}:
        return Unauthorized
    if code in _NO_STOCK:
        return NoStock
    # "not fount" is how some of the provider's messages spell it.
    if status == 404 or code in _NOT_FOUND or (not code and re.search("not foun[dt]", message)):
        return NotFound
    if status == 409 or code == "CONFLICT" or code.endswith(("_STATE", "_STATUS")):
        return InvalidState
    if "invalid state change" in message:
        return InvalidState
    return ProviderRefused


def _told(content: bytes) -> tuple[str, str]:
    """The code and the message in the body of an error; each may be empty.

    Seen: ``{code, reason, message, metadata}`` with a number or a word as the code, ``{message}``,
    ``{error}`` with a string or an object of these, and plain text.
    """
    try:
        body = msgspec.json.decode(content)
    except _UNREADABLE:
        return "", content.decode("utf-8", "replace")
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    if not isinstance(body, dict):
        return "", _word(body)
    words = [word for key in ("code", "reason", "error") if (word := _word(body.get(key)))]
    code = next((word for word in words if re.fullmatch("[A-Z][A-Z0-9_]*", word)), "")
    message = _word(body.get("message")) or next((word for word in words if word != code), "")
    details = body.get("details") or body.get("metadata")
    if details:
        message = f"{message} {_word(details) or msgspec.json.encode(details).decode()}".strip()
    return code, message


def _word(value: object) -> str:
    """The text of *value*; empty for anything else, and for a number in the guise of a text."""
    return value.strip() if isinstance(value, str) and not value.strip().isdigit() else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from ``Retry-After``, at most an hour; None when it is missing or unreadable.

    A date is measured against the answer's own ``Date``, so that clocks need not agree.
    """
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text) if text[:1].isdigit() else _seconds_until(text, headers["Date"])
    except (KeyError, TypeError, ValueError):
        return None
    return min(max(seconds, 0.0), _RETRY_AFTER_MAX)


def _seconds_until(date: str, now: str) -> float:
    return (parsedate_to_datetime(date) - parsedate_to_datetime(now)).total_seconds()


# Requests


def _create_body(request: CreateRequest) -> dict[str, object]:
    """The body of ``/gpu/instance/create``, without what is absent."""
    body: dict[str, object] = {
        "name": request.name,
        "productId": request.product_id,
        "gpuNum": request.gpu_num,
        "rootfsSize": request.rootfs_size,
        "imageUrl": request.image,
        "kind": "gpu",
        "billingMode": request.billing_mode,
    }
    optional: dict[str, object] = {
        "clusterId": request.cluster_id,
        "imageAuthId": request.image_auth_id,
        "command": request.command,
        "ports": _ports_text(request.ports),
        "envs": [{"key": env.key, "value": env.value} for env in request.envs],
    }
    return body | {key: value for key, value in optional.items() if value}


def _ports_text(ports: tuple[Port, ...]) -> str:
    opened_as = {"tcp": "tcp", "http": "http", "https": "http"}
    left_out = [f"{port.port}/{port.type}" for port in ports if port.type not in opened_as]
    if left_out:
        _log.warning(
            "the provider opens tcp and http ports only; left out: %s", ", ".join(left_out)
        )
    # An http and an https port of one number are one port.
    return ",".join(
        dict.fromkeys(
            f"{port.port}/{opened_as[port.type]}" for port in ports if port.type in opened_as
        )
    )


# Answers: structs name the members that are used; scalars come as numbers or as strings


class _Wire(Protocol[_T_co]):
    def value(self) -> _T_co: ...


class _WireCluster(msgspec.Struct):
    id: str | int
    name: _Scalar = None

    def value(self) -> Cluster:
        name = _text(self.name)
        return Cluster(id=_identifier(self.id), name=name, region=region_code(name))


class _WireProduct(msgspec.Struct, rename="camel"):
    id: str | int
    name: _Scalar = None
    regions: list[_Scalar] | None = None
    available_deploy: _Scalar = None
    price: _Scalar = None
    spot_price: _Scalar = None
    memory_per_gpu: _Scalar = None
    cpu_per_gpu: _Scalar = None
    billing_methods: list[_Scalar] | None = None

    def value(self) -> Product:
        return Product(
            id=_identifier(self.id),
            name=_text(self.name),
            regions=tuple(region_code(_text(region)) for region in self.regions or ()),
            available=_text(self.available_deploy).lower() in {"true", "1"},
            price_e5=_number(self.price),
            spot_price_e5=_number(self.spot_price),
            memory_per_gpu=_number(self.memory_per_gpu),
            cpu_per_gpu=_number(self.cpu_per_gpu),
            billing_methods=tuple(_text(method) for method in self.billing_methods or ()),
        )


class _WireStatusError(msgspec.Struct):
    state: _Scalar = None
    message: _Scalar = None


class _WirePortMapping(msgspec.Struct):
    port: _Scalar = None
    endpoint: _Scalar = None
    type: _Scalar = None

    def value(self) -> PortMapping:
        return PortMapping(
            port=_number(self.port), endpoint=_text(self.endpoint), type=_text(self.type).lower()
        )


class _WireInstance(msgspec.Struct, rename="camel"):
    id: str | int
    name: _Scalar = None
    status: _Scalar = None
    status_error: _WireStatusError | _Scalar = None
    port_mappings: list[_WirePortMapping] | None = None
    cluster_id: _Scalar = None
    product_id: _Scalar = None
    gpu_num: _Scalar = None
    billing_mode: _Scalar = None
    instance_price: _Scalar = None
    spot_status: _Scalar = None
    spot_reclaim_time: _Scalar = None
    created_at: _Scalar = None
    last_started_at: _Scalar = None
    last_stopped_at: _Scalar = None

    def value(self) -> Upstream:
        return Upstream(
            id=_identifier(self.id),
            name=_text(self.name),
            status=UpstreamStatus(_text(self.status)),
            status_error=self._trouble(),
            port_mappings=tuple(mapping.value() for mapping in self.port_mappings or ()),
            cluster_id=_text(self.cluster_id),
            product_id=_text(self.product_id),
            gpu_num=_number(self.gpu_num),
            billing_mode=_billing_mode(_text(self.billing_mode)),
            price_e5=_number(self.instance_price),
            spot_status=_text(self.spot_status),
            spot_reclaim_at=_instant(self.spot_reclaim_time),
            created_at=_instant(self.created_at),
            last_started_at=_instant(self.last_started_at),
            last_stopped_at=_instant(self.last_stopped_at),
        )

    def _trouble(self) -> str | None:
        error = self.status_error
        if not isinstance(error, _WireStatusError):
            return _text(error) or None
        return _text(error.message) or _text(error.state) or None


class _WireCreated(msgspec.Struct):
    id: str | int


def _list_decoder(member: str, item: type[_Wire[_T]]) -> Callable[[bytes], list[_T]]:
    """A decoder of the list under *member* of an answer; null is an empty list.

    A missing member is an empty list only if nothing but counts is there instead (servers that
    leave out what is empty), because an error report taken for "no instances" would cost a GPU.
    """

    def decode(content: bytes) -> list[_T]:
        answer = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        if member not in answer and not answer.keys() <= {"total", "pageNum", "pageSize"}:
            raise msgspec.ValidationError(f"object without {member!r}")
        found = msgspec.json.decode(answer.get(member, b"null"), type=list[msgspec.Raw] | None)
        return [msgspec.json.decode(raw, type=item).value() for raw in found or ()]

    return decode


def _decode_template(content: bytes) -> Template:
    answer = msgspec.json.decode(content, type=dict[str, object])
    if "template" not in answer:
        raise msgspec.ValidationError("object without 'template'")
    return parse_template(answer["template"])


def _decode_instance(content: bytes) -> Upstream:
    return msgspec.json.decode(content, type=_WireInstance).value()


def _decode_id(content: bytes) -> str:
    return _identifier(msgspec.json.decode(content, type=_WireCreated).id)


def _decode_acknowledgement(content: bytes) -> None:
    """Accept ``{}``, ``{instanceId, state}`` and an empty body; refuse what no API would say."""
    if content.strip():
        msgspec.json.decode(content, type=dict[str, object])


def _identifier(value: str | int) -> str:
    identifier = str(value).strip()
    if not identifier:
        raise msgspec.ValidationError("empty id")
    return identifier


def _text(value: _Scalar) -> str:
    return "" if value is None else str(value).strip()


def _number(value: _Scalar) -> int:
    """The number in *value*, rounded; 0 for what is none."""
    try:
        return round(float(value or 0))
    except (ValueError, OverflowError):
        return 0


def _billing_mode(value: str) -> BillingMode | None:
    return BillingMode(value) if value in set(BillingMode) else None


def _instant(value: _Scalar) -> datetime | None:
    """The time of Unix seconds; None for 0, negative numbers and what is no time."""
    seconds = _number(value)
    try:
        return datetime.fromtimestamp(seconds, tz=UTC) if seconds > 0 else None
    except (ValueError, OverflowError, OSError):
        return None
