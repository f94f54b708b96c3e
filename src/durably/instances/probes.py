"""Health probes of an instance's ports: one look at each, with no retries, since callers poll.

Endpoints come from the provider, which is trusted: they pass no address policy.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from importlib.metadata import version
from typing import Protocol

import msgspec
from aiohttp import (
    ClientConnectorDNSError,
    ClientError,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from yarl import URL

_USER_AGENT = f"durably/{version('durably')}"


class ProbeTarget(Protocol):
    """One port of an instance and where the provider publishes it."""

    @property
    def port(self) -> int:
        """The port inside the instance."""
        ...

    @property
    def endpoint(self) -> str:
        """A URL, or ``host:port``."""
        ...

    @property
    def type(self) -> str:
        """``http``, ``https``, ``tcp`` or ``udp``, in any case."""
        ...


class Health(StrEnum):
    """What the probes of an instance say together."""

    HEALTHY = "healthy"
    PARTIAL = "partial"
    UNHEALTHY = "unhealthy"


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe of one port found."""

    port: int
    endpoint: str
    type: str
    healthy: bool
    """True for a udp port too, which is not probed: silence would say nothing about it."""
    error: str | None = None
    response_time_s: float = 0.0
    """Seconds until the answer; 0 for an unhealthy port and one that is not probed."""
    checked_at: datetime


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the probes of all ports found, in the order of the mappings."""

    overall: Health
    endpoints: tuple[ProbeResult, ...]
    total_response_time_s: float
    """The sum over the endpoints."""


async def probe_all(
    mappings: Sequence[ProbeTarget],
    *,
    now: Callable[[], datetime],
    timeout: float = 10.0,
    concurrency: int = 16,
) -> HealthReport:
    """Probe every port once, all in parallel.

    An http or https port is healthy when GET is answered by 200 to 399; redirects are not
    followed and the body is not read. An endpoint without scheme is asked by https if it is port
    443, else by http. A tcp port is healthy when it accepts a connection. A udp port is not probed
    and counts neither for nor against the instance. With no port to probe the instance is healthy.

    Args:
        mappings: The instance's ports.
        now: The wall clock, for ``checked_at``.
        timeout: Seconds for each probe, from the look-up of the name to the answer.
        concurrency: Probes at once.

    Returns:
        The report; whatever a probe met is in its result, nothing is raised.
    """
    slots = asyncio.Semaphore(concurrency)
    async with (
        ClientSession(
            connector=TCPConnector(force_close=True, use_dns_cache=False, limit=0),
            timeout=ClientTimeout(total=None),
            cookie_jar=DummyCookieJar(),
            headers={"user-agent": _USER_AGENT},
            trust_env=False,
        ) as session,
        asyncio.TaskGroup() as group,
    ):
        prober = _Prober(session, slots, now, timeout)
        tasks = [group.create_task(prober.probe(mapping)) for mapping in mappings]
    return _report(tuple(task.result() for task in tasks))


class _Prober:
    def __init__(
        self,
        session: ClientSession,
        slots: asyncio.Semaphore,
        now: Callable[[], datetime],
        timeout: float,
    ) -> None:
        self._session = session
        self._slots = slots
        self._now = now
        self._timeout = timeout

    async def probe(self, target: ProbeTarget) -> ProbeResult:
        clock = asyncio.get_running_loop().time
        async with self._slots:
            started = clock()
            error = None if _is_skipped(target) else await self._fault(target)
            taken = clock() - started
        return ProbeResult(
            port=target.port,
            endpoint=target.endpoint,
            type=target.type,
            healthy=error is None,
            error=error,
            response_time_s=0.0 if error or _is_skipped(target) else taken,
            checked_at=self._now(),
        )

    async def _fault(self, target: ProbeTarget) -> str | None:
        try:
            async with asyncio.timeout(self._timeout):
                match target.type.lower():
                    case "http" | "https":
                        return await self._get(_http_url(target))
                    case "tcp":
                        await _connect(*_host_and_port(target.endpoint))
                        return None
                    case _:
                        return f"port type is not http, https, tcp or udp: {target.type!r}"
        except (ClientError, OSError, ValueError) as fault:
            return self._explain(fault)

    async def _get(self, url: URL) -> str | None:
        async with self._session.get(url, allow_redirects=False) as response:
            return None if 200 <= response.status < 400 else _status_text(response.status)

    def _explain(self, fault: Exception) -> str:
        match fault:
            case TimeoutError():
                return f"Request timeout after {self._timeout * 1000:.0f}ms"
            case ClientConnectorDNSError() | socket.gaierror():
                return "DNS resolution failed - hostname could not be resolved"
            case ClientSSLError():
                return f"SSL/TLS error: {_reason(fault.__cause__ or fault)}"
            case OSError(errno=errno.ECONNREFUSED):
                return "Connection refused - service is not accepting connections"
            case _:
                return str(fault) or type(fault).__name__


async def _connect(host: str, port: int) -> None:
    """Connect to the first address of *host* that accepts, and hang up.

    Raises:
        OSError: None accepts; why the last one does not.
    """
    loop = asyncio.get_running_loop()
    refusal = OSError(f"host has no address: {host!r}")
    # `create_connection` would melt the faults of several addresses into one without errno.
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        try:
            with socket.socket(family, kind, protocol) as connection:
                connection.setblocking(False)
                await loop.sock_connect(connection, address)
        except OSError as fault:
            refusal = fault
        else:
            return
    raise refusal


def _report(results: tuple[ProbeResult, ...]) -> HealthReport:
    healthy = [result.healthy for result in results if not _is_skipped(result)]
    if all(healthy):
        overall = Health.HEALTHY
    else:
        overall = Health.PARTIAL if any(healthy) else Health.UNHEALTHY
    return HealthReport(
        overall=overall,
        endpoints=results,
        total_response_time_s=sum(result.response_time_s for result in results),
    )


def _is_skipped(target: ProbeTarget) -> bool:
    return target.type.lower() == "udp"


def _http_url(target: ProbeTarget) -> URL:
    url = _url(target.endpoint, scheme="http")
    if "://" not in target.endpoint and (
        target.type.lower() == "https" or 443 in {target.port, url.port}
    ):
        url = _url(target.endpoint, scheme="https")
    if url.scheme not in {"http", "https"}:
        raise ValueError(f"endpoint of an http port has another scheme: {target.endpoint!r}")
    return url


def _host_and_port(endpoint: str) -> tuple[str, int]:
    url = _url(endpoint, scheme="tcp")
    if url.host is None or url.port is None:
        raise ValueError(f"endpoint of a tcp port is not host:port: {endpoint!r}")
    return url.host, url.port


def _url(endpoint: str, *, scheme: str) -> URL:
    try:
        url = URL(endpoint if "://" in endpoint else f"{scheme}://{endpoint}")
    except ValueError:
        url = URL()
    if not url.host or any(character.isspace() for character in endpoint):
        raise ValueError(f"endpoint is neither a url nor host:port: {endpoint!r}")
    return url


def _status_text(status: int) -> str:
    try:
        return f"{HTTPStatus(status).phrase} ({status})"
    except ValueError:
        return f"HTTP status ({status})"


def _reason(fault: BaseException) -> str:
    return (fault.strerror if isinstance(fault, OSError) else None) or str(fault)
