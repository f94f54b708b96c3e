"""One attempt to deliver a webhook, signed by the rules of Standard Webhooks, and when to try again.

Left out: what the events say, their order, and the queue and store that keep the deliveries.
Protocol: Standard Webhooks 1.0.0, https://www.standardwebhooks.com.
"""

import asyncio
import contextlib
import re
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from importlib.metadata import version
from random import Random
from types import TracebackType
from typing import Self

import msgspec
from aiohttp import (
    ClientError,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
)
from aiohttp.abc import AbstractResolver
from standardwebhooks import Webhook
from yarl import URL

from durably.instances.addresses import AddressPolicy, PinnedConnector

DELAY_MAX = 3600.0
"""The longest wait between two attempts of a delivery, in seconds."""
DELIVERY_LIFETIME = timedelta(hours=24)
"""A delivery is given up when it has failed for this long."""

_RESPONSE_LIMIT = 64 * 1024
_EXCERPT_LIMIT = 1024
_SECRET_PREFIX = "whsec_"  # noqa: S105 - the public mark of a secret, not one
_USER_AGENT = f"durably/{version('durably')}"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # token: RFC 9110, section 5.6.2
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*")
_RESERVED_HEADER = re.compile(
    r"webhook-.*|proxy-.*"
    r"|connection|content-length|host|keep-alive|te|trailer|transfer-encoding|upgrade",
    re.IGNORECASE,
)
_WEBHOOK_ID = re.compile(r"[!-\-/-~]{1,256}")  # visible ASCII without the dot, which separates


def check_headers(headers: Mapping[str, object]) -> None:
    """Refuse headers that a caller must not add to a webhook; values are never quoted.

    Raises:
        ValueError: A header is reserved (``webhook-*``, ``Host``, ``Content-Length`` and the
            hop-by-hop ones), is not a valid name, or has a value that is not a string or contains
            control characters. The message names the header.
    """
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"webhook header has a name that HTTP does not allow: {name!r}")
        if _RESERVED_HEADER.fullmatch(name):
            raise ValueError(f"webhook header is set by the sender, leave it out: {name!r}")
        if not isinstance(value, str):
            raise ValueError(f"webhook header needs a string as its value: {name!r}")  # noqa: TRY004 - one error type for all bad input
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"webhook header has control characters in its value: {name!r}")


def generate_secret(random_bytes: Callable[[int], bytes]) -> str:
    """Make a new signing secret, ``whsec_`` and the base64 of 32 bytes.

    Args:
        random_bytes: Gives that many unpredictable bytes, such as `secrets.token_bytes`.
    """
    return _SECRET_PREFIX + b64encode(random_bytes(32)).decode()


def check_secret(text: str) -> None:
    """Refuse a text that is no signing secret; the message does not quote it.

    Raises:
        ValueError: Not ``whsec_`` followed by the base64 of 24 to 64 bytes.
    """
    encoded = text.removeprefix(_SECRET_PREFIX)
    try:
        size = len(b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
    except ValueError:
        size = 0
    if not text.startswith(_SECRET_PREFIX) or not 24 <= size <= 64:
        raise ValueError(
            f"webhook secret must be {_SECRET_PREFIX!r} followed by the base64 of 24 to 64 bytes"
        )


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent, the same at every attempt.

    Raises:
        ValueError: The id or a header (see `check_headers`) is not allowed.
    """

    url: str
    webhook_id: str
    """Stable over all attempts, the receiver's key to drop duplicates: visible ASCII, no dot."""
    body: bytes
    """UTF-8 JSON; exactly these bytes are signed and sent."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """The caller's own headers; they may replace the content type and the user agent."""

    def __post_init__(self) -> None:
        if not _WEBHOOK_ID.fullmatch(self.webhook_id):
            raise ValueError(
                "webhook id must be 1 to 256 visible ASCII characters without a dot, "
                f"got {self.webhook_id!r}"
            )
        check_headers(self.headers)


class DeliveryResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt ended."""

    status: int | None = None
    """The HTTP status; None when no answer came."""
    error: str | None = None
    """Why the attempt failed; None when it succeeded."""
    duration_s: float
    retry_after: float | None = None
    """Seconds that a 429 or 503 asks to wait."""
    excerpt: str = ""
    """The beginning of the answer's body: printable characters, at most 1 KiB of UTF-8."""

    @property
    def ok(self) -> bool:
        """Whether the receiver took the delivery: any 2xx, and nothing else."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def disabled(self) -> bool:
        """Whether the receiver wants no more deliveries at all: 410 Gone."""
        return self.status == HTTPStatus.GONE


class WebhookSender:
    """Signs deliveries and posts them. Used as ``async with``; any number of sends at once.

    Connections go only to addresses that *policy* allows (see `PinnedConnector`). Redirects are
    never followed, proxies of the environment not used, cookies not kept.

    Args:
        secret: The signing secret, see `check_secret`. It appears in no repr, error or log.
        policy: Which addresses may be reached.
        now: The wall clock, aware. Each attempt is signed with its own time.
        timeout: Seconds for a whole attempt, from the look-up to the end of the answer.
        resolver: Looks host names up; the platform's resolver by default.

    Raises:
        ValueError: The secret is malformed or the timeout not positive.
    """

    def __init__(
        self,
        secret: str,
        *,
        policy: AddressPolicy,
        now: Callable[[], datetime],
        timeout: float = 15.0,
        resolver: AbstractResolver | None = None,
    ) -> None:
        check_secret(secret)
        if not timeout > 0:
            raise ValueError(f"webhook timeout must be more than 0 s, got {timeout}")
        self._webhook = Webhook(secret)
        self._policy = policy
        self._now = now
        self._timeout = timeout
        self._resolver = resolver
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            connector=PinnedConnector(self._policy, resolver=self._resolver),
            timeout=ClientTimeout(total=self._timeout),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def send(self, delivery: Delivery) -> DeliveryResult:
        """Make one attempt. Whatever the network or the receiver does is in the result.

        The status line decides: a body that fails to arrive in time makes no failure of a 2xx,
        since the receiver has the delivery by then.

        Raises:
            ValueError: The body is not UTF-8.
        """
        assert self._session is not None, "a sender sends inside its 'async with'"
        headers = self._headers(delivery)
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            async with self._session.post(
                self._policy.check_url(delivery.url),
                data=delivery.body,
                headers=headers,
                allow_redirects=False,
            ) as response:
                excerpt = await _excerpt(response)
        except (ClientError, OSError, ValueError) as fault:
            return DeliveryResult(error=self._explain(fault), duration_s=clock() - started)
        return DeliveryResult(
            status=response.status,
            error=_status_error(response.status),
            duration_s=clock() - started,
            retry_after=_retry_after(response, self._now()),
            excerpt=excerpt,
        )

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        # `sign` takes the local time of any other zone for UTC.
        at = self._now().astimezone(UTC)
        headers = {
            "content-type": "application/json",
            "user-agent": _USER_AGENT,
            "accept-encoding": "identity",
        }
        headers.update((name.lower(), value) for name, value in delivery.headers.items())
        headers["webhook-id"] = delivery.webhook_id
        headers["webhook-timestamp"] = str(int(at.timestamp()))
        headers["webhook-signature"] = self._webhook.sign(
            delivery.webhook_id, at, delivery.body.decode()
        )
        return headers

    def _explain(self, fault: Exception) -> str:
        if isinstance(fault, TimeoutError):
            return f"no answer within {self._timeout:g} s"
        if isinstance(fault, ClientResponseError):
            # Its text has the whole URL, which may carry the receiver's secrets.
            return f"malformed answer: {_printable(fault.message.encode())}"
        return str(fault) or type(fault).__name__


async def _excerpt(response: ClientResponse) -> str:
    body = bytearray()
    with contextlib.suppress(ClientError, OSError):
        while chunk := await response.content.read(_RESPONSE_LIMIT - len(body)):
            body += chunk
    return _printable(body)


def _printable(data: bytes | bytearray) -> str:
    text = data[:_EXCERPT_LIMIT].decode(errors="replace")
    printable = "".join(character if character.isprintable() else " " for character in text)
    return printable.encode()[:_EXCERPT_LIMIT].decode(errors="ignore")


def _status_error(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"redirects are not followed: HTTP status {status}"
    return f"HTTP status {status}"


def _retry_after(response: ClientResponse, now: datetime) -> float | None:
    """The header's seconds or date (RFC 9110, section 10.2.3); None when absent or malformed."""
    value = response.headers.get("retry-after", "").strip()
    if response.status not in {429, 503} or not value:
        return None
    if re.fullmatch(r"[0-9]{1,10}", value):
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (OverflowError, ValueError):
        return None
    # The form of ANSI C's asctime names no zone; HTTP's dates are UTC.
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


def delivery_delay(attempt: int, *, base: float, random: Random) -> float:
    """Seconds to wait once *attempt* (1-based) of a delivery has failed.

    The delay *d* is ``base * 2**(attempt - 1)``, at most an hour; the wait is drawn uniformly from
    ``[d / 2, d]``, so that deliveries that failed together do not come back together.
    """
    assert attempt >= 1, f"attempts count from 1, got {attempt}"
    # 2.0 ** 1024 raises OverflowError.
    delay = min(base * 2.0 ** min(attempt - 1, 1_000), DELAY_MAX)
    return random.uniform(delay / 2, delay)


def delivery_expired(first_at: datetime, now: datetime) -> bool:
    """Whether a delivery that was first attempted at *first_at* is to be given up."""
    return now - first_at >= DELIVERY_LIFETIME


def target_of(url: str) -> str:
    """Return the part of a URL that shares a back-off: scheme, host and port."""
    return str(URL(url).origin())


class TargetBackoff:
    """Remembers which targets have failed just now, so that a dead one is not hit by everybody.

    A failure blocks its target until that delivery is due again, so the back-off grows as the
    delays of the deliveries do and never exceeds the delay of the delivery that caused it. A
    failure during a back-off may shorten it, not lengthen it. In memory only; times are seconds of
    any one monotonic clock.

    Args:
        limit: Targets remembered; the one that failed longest ago is forgotten first.
    """

    def __init__(self, limit: int = 1_024) -> None:
        assert limit >= 1, f"a back-off needs room for a target, got {limit}"
        self._limit = limit
        self._blocked_until: OrderedDict[str, float] = OrderedDict()

    def blocked_for(self, target: str, now: float) -> float:
        """Seconds until *target* (see `target_of`) may be hit again; 0 when it may be now."""
        return max(0.0, self._blocked_until.get(target, now) - now)

    def failed(self, target: str, now: float, delay: float) -> None:
        """Note that a delivery to *target* failed and is due again in *delay* seconds."""
        due = now + delay
        earlier = self._blocked_until.pop(target, due)
        self._blocked_until[target] = min(earlier, due) if earlier > now else due
        if len(self._blocked_until) > self._limit:
            self._blocked_until.popitem(last=False)

    def succeeded(self, target: str) -> None:
        """Forget the failures of *target*."""
        self._blocked_until.pop(target, None)
