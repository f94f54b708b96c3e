"""Which addresses an outbound request may reach, and a connector that reaches no other.

Left out: what is sent there (``durably.instances.delivery``).
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import Sequence
from contextvars import ContextVar
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from aiohttp import (
    AddrInfoType,
    ClientRequest,
    ClientTimeout,
    TCPConnector,
    ThreadedResolver,
)
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

SETTING = "DURABLY_WEBHOOK_ALLOW"
"""The setting that exempts hosts; every refusal names it."""

_RESOLVE_TIMEOUT = 5.0
# Listed although `is_global` knows some of them: its tables differ between releases of Python,
# and it calls multicast and tunnels global.
_BLOCKED = tuple(
    ip_network(network)
    for network in (
        "100.64.0.0/10",  # carrier NAT, some clouds' metadata
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "224.0.0.0/4",  # multicast
        "2001::/23",  # protocol assignments, Teredo among them
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",  # documentation
    )
)
# The only block that IANA has opened for global unicast. What lies outside embeds IPv4 addresses
# (::/96, NAT64) or is local to a host, link, site or multicast group.
_IPV6_UNICAST = IPv6Network("2000::/3")
_METADATA_NAMES = frozenset(
    {"instance-data", "metadata", "metadata.goog", "metadata.tencentyun.com"}
)
_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.ASCII)
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)", re.ASCII)


class AddressRefused(ValueError):  # noqa: N818 - the refusal of a target, told to the user as such
    """A target that must not be reached; the message names it and the setting that exempts it."""


class AddressPolicy:
    """Decides which hosts and addresses a webhook may reach: public unicast ones.

    Args:
        allow: Exemptions. A host name exempts whatever that one name resolves to (not its
            sub-domains), an IP address or CIDR exempts the addresses in it under any name.

    Raises:
        ValueError: An entry is none of these.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        networks: list[IPv4Network | IPv6Network] = []
        names: set[str] = set()
        for entry in allow:
            try:
                networks.append(ip_network(entry))
            except ValueError:
                names.add(_host_name(entry))
        self._networks = tuple(networks)
        self._names = frozenset(names)

    def check_ip(self, ip: str | IPv4Address | IPv6Address, host: str) -> None:
        """Judge one address that *host* has.

        An IPv4-mapped address is judged by the IPv4 address in it, an IPv6 zone is ignored.

        Raises:
            AddressRefused: The address is not public and neither it nor *host* is exempt.
        """
        judged = _judged(ip_address(ip))
        if _normal(host) in self._names or any(judged in network for network in self._networks):
            return
        if not _is_public(judged):
            raise AddressRefused(
                f"webhook host {host!r} has an address that is not public, exempt it by "
                f"{SETTING} if that is meant: {ip}"
            )

    def check_url(self, url: str) -> URL:
        """Judge all that *url* says by itself, without a look-up.

        A literal address is judged in every notation that the platform would connect to, decimal,
        octal, hexadecimal and short forms such as ``127.1`` included.

        Returns:
            The URL to send to: *url* with such a literal in its usual notation.

        Raises:
            AddressRefused: The host is a literal or a name that must not be reached.
            ValueError: Not an http or https URL with a host, without user name and password. The
                message does not quote the URL, which may carry secrets.
        """
        target = _parse(url)
        host = _host_of(target)
        if host in self._names:
            return target
        literal = _literal(host)
        if literal is None:
            self._check_name(host)
            return target
        self.check_ip(literal, host)
        return target if isinstance(literal, IPv6Address) else target.with_host(str(literal))

    async def resolve(self, url: str, *, resolver: AbstractResolver | None = None) -> URL:
        """As `check_url`, and judge every address that the host resolves to.

        A host that does not resolve (within 5 s) is accepted: it may come to exist, and
        `PinnedConnector` judges again at each connection.

        Args:
            url: The target.
            resolver: Looks names up; the platform's resolver by default.

        Raises:
            AddressRefused: The host or any of its addresses must not be reached.
            ValueError: As `check_url`.
        """
        target = self.check_url(url)
        checked = CheckedResolver(self, resolver or ThreadedResolver())
        with contextlib.suppress(OSError):
            async with asyncio.timeout(_RESOLVE_TIMEOUT):
                await checked.resolve(_host_of(target), target.port or 0, socket.AF_UNSPEC)
        return target

    def _check_name(self, host: str) -> None:
        if host == "localhost" or host.endswith(".localhost"):
            # These names mean loopback whatever a server answers: RFC 6761, section 6.3.
            self.check_ip("127.0.0.1", host)
        elif host.endswith(".internal") or host in _METADATA_NAMES:
            raise AddressRefused(
                f"webhook host is a name of internal services, exempt it by {SETTING} if that is "
                f"meant: {host!r}"
            )


class CheckedResolver(AbstractResolver):
    """Resolves as *resolver* does; a host with one refused address is refused altogether."""

    def __init__(self, policy: AddressPolicy, resolver: AbstractResolver) -> None:
        self._policy = policy
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Look *host* up and judge every address.

        Raises:
            AddressRefused: One of the addresses must not be reached.
            OSError: The host does not resolve.
        """
        results = await self._resolver.resolve(host, port, family)
        for result in results:
            self._policy.check_ip(result["host"], host)
        return results

    async def close(self) -> None:
        """Close the resolver inside."""
        await self._resolver.close()


_connecting_to: ContextVar[str] = ContextVar("_connecting_to")


class PinnedConnector(TCPConnector):
    """Connects to no address that *policy* refuses; requests fail with `AddressRefused`.

    A name is looked up once per connection, and the connection goes to one of the addresses that
    were judged. Each socket is judged again just before it is made, because addresses given as
    literals pass no resolver. No connection is used twice, so that none made for an exempt name
    serves another host. Made inside a running event loop.

    Args:
        policy: The judge.
        resolver: Looks names up; the platform's resolver by default.
    """

    def __init__(self, policy: AddressPolicy, *, resolver: AbstractResolver | None = None) -> None:
        self._policy = policy
        super().__init__(
            resolver=CheckedResolver(policy, resolver or ThreadedResolver()),
            use_dns_cache=False,
            socket_factory=self._checked_socket,
            force_close=True,
            # The queue bounds the number of deliveries; waiting here would count as their time.
            limit=0,
        )

    async def connect(
        self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout
    ) -> Connection:
        """Connect for *req*, remembering its host for the judgement of the socket."""
        token = _connecting_to.set(req.url.raw_host or "")
        try:
            return await super().connect(req, traces, timeout)
        finally:
            _connecting_to.reset(token)

    def _checked_socket(self, info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        self._policy.check_ip(str(address[0]), _connecting_to.get())
        return socket.socket(family, kind, protocol)


def _judged(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return mapped or ip


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    return (
        ip.is_global
        and (isinstance(ip, IPv4Address) or ip in _IPV6_UNICAST)
        and not any(ip in network for network in _BLOCKED)
    )


def _parse(url: str) -> URL:
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("webhook url must not contain white space or control characters")
    try:
        target = URL(url)
    except ValueError:
        raise ValueError("webhook url is malformed, check its host and port") from None
    if target.scheme not in {"http", "https"}:
        raise ValueError(f"webhook url must begin with http:// or https://, got {target.scheme!r}")
    if "@" in target.raw_authority:
        raise ValueError("webhook url must not carry a user name or password, use headers instead")
    if target.port == 0:
        raise ValueError("webhook url needs a port from 1 to 65535, got 0")
    host = _host_of(target)
    if ":" not in host and not _HOST_NAME.fullmatch(host):
        raise ValueError(f"webhook url needs a valid host name, got {host!r}")
    return target


def _host_of(url: URL) -> str:
    host = url.raw_host or ""
    # The zone of an IPv6 address is decoded in `host` alone.
    return url.host or "" if ":" in host else _normal(host)


def _normal(host: str) -> str:
    return host.lower().removesuffix(".")


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        # `ipaddress` knows only dotted decimals; connecting goes by the C library's rules.
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _host_name(entry: str) -> str:
    try:
        host = _normal(URL.build(scheme="http", host=entry).raw_host or "")
    except ValueError:
        host = ""
    if not _HOST_NAME.fullmatch(host) or _ENDS_IN_NUMBER.fullmatch(host):
        raise ValueError(
            f"{SETTING} takes host names, IP addresses and CIDRs without host bits, got {entry!r}"
        )
    return host
