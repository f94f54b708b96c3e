"""What an outbound request may reach: judged by url, by look-up and by socket."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Sequence
from ipaddress import IPv4Address, ip_address

import pytest
from aiohttp import ClientSession, web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import RawTestServer
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from durably.instances.addresses import AddressPolicy, AddressRefused, PinnedConnector


class FakeResolver(AbstractResolver):
    """Answers each look-up of a host with the next of its answers, the last one for ever."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.answers = {host.replace("_", "."): list(found) for host, found in answers.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        found = self.answers[host]
        addresses = found.pop(0) if len(found) > 1 else found[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        pass


class Receiver:
    """A server on loopback that counts its requests."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.port = 0

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.hosts.append(request.host)
        return web.Response(text="here")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with RawTestServer(receiver.handle) as server:
        assert server.port is not None
        receiver.port = server.port
        yield receiver


NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.9",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "4000::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "192.1.0.1",
    "223.255.255.254",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
]


@pytest.mark.parametrize("ip", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused(ip: str) -> None:
    """The error names host, address and the setting that would exempt them."""
    with pytest.raises(AddressRefused) as refusal:
        AddressPolicy().check_ip(ip, "hook.example")
    assert "hook.example" in str(refusal.value)
    assert str(refusal.value).endswith(ip)
    assert "DURABLY_WEBHOOK_ALLOW" in str(refusal.value)


@pytest.mark.parametrize("ip", PUBLIC)
def test_a_public_address_is_allowed(ip: str) -> None:
    """Global unicast addresses pass, as objects too."""
    AddressPolicy().check_ip(ip, "hook.example")
    AddressPolicy().check_ip(ip_address(ip), "hook.example")


@given(st.integers(0, 2**32 - 1))
def test_a_mapped_address_is_judged_as_the_address_in_it(number: int) -> None:
    """Whatever the IPv4 address, its mapped form meets the same judgement."""

    def refused(ip: str) -> bool:
        try:
            AddressPolicy().check_ip(ip, "h")
        except AddressRefused:
            return True
        return False

    plain = str(IPv4Address(number))
    assert refused(plain) == refused(f"::ffff:{plain}")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0177.0.0.01",
        "0x7f000001",
        "0x7F.0x0.0x0.0x1",
        "0x7f.1",
        "0",
        "0.0.0.0",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.16689662",
        "\uff11\uff12\uff17.\uff10.\uff10.\uff11",  # full width
        "127。0。0。1",
        "①②⑦.0.0.1",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::FFFF:A9FE:A9FE]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[::1%25lo]",
        "[fd00:ec2::254]",
    ],
)
@pytest.mark.parametrize("port", ["", ":80", ":8443"])
def test_a_literal_in_any_notation_is_judged(host: str, port: str) -> None:
    """Decimal, octal, hexadecimal, short, full-width and IPv6 spellings hide no address."""
    with pytest.raises(AddressRefused):
        AddressPolicy().check_url(f"http://{host}{port}/hook")


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{}", "0x{:x}", "0{:o}"]))
def test_a_number_is_judged_as_the_address_that_the_platform_takes_it_for(
    number: int, notation: str
) -> None:
    """An accepted number is rewritten to exactly the address of the C library."""
    text = notation.format(number)
    expected = socket.inet_ntoa(socket.inet_aton(text))
    try:
        url = AddressPolicy().check_url(f"http://{text}/")
    except AddressRefused:
        with pytest.raises(AddressRefused):
            AddressPolicy().check_ip(expected, "h")
    else:
        assert url.host == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://134744072/x?y=1", "http://8.8.8.8/x?y=1"),
        ("https://010.8.8.8:8443/", "https://8.8.8.8:8443/"),
        ("https://8.8.8.8", "https://8.8.8.8/"),
        ("http://[2001:4860:4860::8888]:65535/a", "http://[2001:4860:4860::8888]:65535/a"),
        ("HTTPS://Hook.Example:1/A%2Fb", "https://hook.example:1/A%2Fb"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://a_b.example/", "https://a_b.example/"),
    ],
)
def test_an_allowed_url_comes_back_as_it_is_sent_to(url: str, expected: str) -> None:
    """Any port is allowed; a literal is rewritten to its usual notation."""
    assert AddressPolicy().check_url(url) == URL(expected)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://hook.example/", "got 'ftp'"),
        ("file:///etc/passwd", "got 'file'"),
        ("hook.example/x", "got ''"),
        ("//hook.example/x", "got ''"),
        ("", "got ''"),
        ("http://user:s3cret@hook.example/", "user name or password"),
        ("http://s3cret@hook.example/", "user name or password"),
        ("http://:@hook.example/", "user name or password"),
        ("http://8.8.8.8@127.0.0.1/", "user name or password"),
        ("http://hook.example\\@127.0.0.1/", "malformed"),
        ("http:///x", "host name, got ''"),
        ("http:hook.example", "host name, got ''"),
        ("http://?s3cret", "host name, got ''"),
        ("http://hook.example:0/s3cret", "got 0"),
        ("http://hook.example:65536/s3cret", "malformed"),
        ("http://hook.example:-1/s3cret", "malformed"),
        ("http://hook.example:http/s3cret", "malformed"),
        ("http://[::1/", "malformed"),
        ("http://[127.0.0.1]/", "malformed"),
        ("http://%31%32%37.0.0.1/", "valid host name"),
        ("http://a..b/", "valid host name"),
        ("http://./", "valid host name"),
        (f"http://{'a' * 64}.example/", "valid host name"),
        ("http://hook.example/a b", "white space"),
        (" http://hook.example/", "white space"),
        ("http://hook.example/\r\nx-evil: 1", "white space"),
        ("http://127.0.\t0.1/", "white space"),
        ("http://hook\x00.example/", "white space"),
    ],
)
def test_a_url_that_is_no_target_is_refused(url: str, message: str) -> None:
    """One clear error, which quotes no more of the URL than its scheme, host or port."""
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        AddressPolicy().check_url(url)
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost",
        "localhost.",
        "api.localhost",
        "ⓛocalhost",
        "metadata",
        "metadata.google.internal",
        "METADATA.GOOGLE.INTERNAL.",
        "db.corp.internal",
        "instance-data",
    ],
)
def test_names_of_internal_services_are_refused(host: str) -> None:
    """They are refused by name, before and whatever they resolve to."""
    with pytest.raises(AddressRefused, match="DURABLY_WEBHOOK_ALLOW"):
        AddressPolicy().check_url(f"http://{host}/")
    AddressPolicy([host]).check_url(f"http://{host}/")


def test_loopback_names_are_allowed_with_their_address() -> None:
    """Who exempts 127.0.0.0/8 may write localhost for it; other internal names stay refused."""
    policy = AddressPolicy(["127.0.0.0/8"])
    assert policy.check_url("http://localhost:9000/").host == "localhost"
    with pytest.raises(AddressRefused):
        policy.check_url("http://metadata/")


def test_an_exempt_network_exempts_the_addresses_in_it_alone() -> None:
    """IPv4, IPv6 and single addresses can be exempt, under any name."""
    policy = AddressPolicy(["10.1.0.0/16", "::1", "192.168.0.7"])
    for ip in ("10.1.2.3", "::ffff:10.1.2.3", "::1", "192.168.0.7"):
        policy.check_ip(ip, "any.example")
    for ip in ("10.2.0.1", "::2", "192.168.0.8", "127.0.0.1"):
        with pytest.raises(AddressRefused):
            policy.check_ip(ip, "any.example")


def test_an_exempt_name_exempts_that_name_alone() -> None:
    """Neither its addresses nor its sub-domains are exempt under another name."""
    policy = AddressPolicy(["Hook.Example."])
    policy.check_ip("127.0.0.1", "hook.example")
    policy.check_ip("127.0.0.1", "HOOK.example.")
    for host in ("other.example", "sub.hook.example", "example", "127.0.0.1"):
        with pytest.raises(AddressRefused):
            policy.check_ip("127.0.0.1", host)


@pytest.mark.parametrize(
    "entry",
    ["", " ", "a b", "*.example", "h:80", "http://h", "[::1]", "127.1", "10.0.0.1/8", "1.2.3.4/33"],
)
def test_a_bad_exemption_is_named(entry: str) -> None:
    """An entry that is neither host name, IP nor CIDR is no silent exemption of nothing."""
    with pytest.raises(ValueError, match=re.escape(f"got {entry!r}")):
        AddressPolicy(["10.0.0.0/8", entry])


async def test_a_name_with_any_refused_address_is_refused() -> None:
    """One private address among public ones is enough."""
    resolver = FakeResolver(mixed_example=[["8.8.8.8", "2606:4700::1111", "10.0.0.1"]])
    with pytest.raises(AddressRefused, match=r"'mixed\.example'.*10\.0\.0\.1$"):
        await AddressPolicy().resolve("https://mixed.example/", resolver=resolver)


async def test_a_name_with_public_addresses_is_accepted() -> None:
    """The checked URL comes back."""
    resolver = FakeResolver(hook_example=[["8.8.8.8", "2606:4700::1111"]])
    url = await AddressPolicy().resolve("https://Hook.example/x", resolver=resolver)
    assert url == URL("https://hook.example/x")
    assert resolver.asked == ["hook.example"]


async def test_a_name_that_does_not_resolve_is_accepted() -> None:
    """It may come to exist; the connection is checked all the same."""
    url = await AddressPolicy().resolve("https://later.example/", resolver=FakeResolver())
    assert url.host == "later.example"


async def test_a_look_up_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent name server counts as a name that does not resolve."""

    class Silent(FakeResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            await asyncio.Event().wait()
            return []

    monkeypatch.setattr("durably.instances.addresses._RESOLVE_TIMEOUT", 0.01)
    url = await AddressPolicy().resolve("https://slow.example/", resolver=Silent())
    assert url.host == "slow.example"


async def test_resolving_judges_the_url_too() -> None:
    """What `check_url` refuses is not looked up."""
    resolver = FakeResolver()
    with pytest.raises(AddressRefused):
        await AddressPolicy().resolve("http://0x7f.1/", resolver=resolver)
    with pytest.raises(ValueError, match="malformed"):
        await AddressPolicy().resolve("http://[::1/", resolver=resolver)
    assert resolver.asked == []


async def test_the_platform_resolver_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a resolver of its own the check asks the operating system."""

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[object]:
        assert host == "hook.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.9.8.7", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(AddressRefused, match=r"10\.9\.8\.7"):
        await AddressPolicy().resolve("https://hook.example/")


async def get(url: str, allow: Sequence[str] = (), resolver: AbstractResolver | None = None) -> str:
    """Ask past `check_url`, so that the connector alone decides."""
    connector = PinnedConnector(AddressPolicy(allow), resolver=resolver)
    async with ClientSession(connector=connector) as session, session.get(url) as response:
        return await response.text()


async def test_the_connector_refuses_literals(receiver: Receiver) -> None:
    """A literal passes no resolver; the socket is refused."""
    with pytest.raises(AddressRefused, match=r"127\.0\.0\.1"):
        await get(f"http://127.0.0.1:{receiver.port}/")
    assert receiver.hosts == []


async def test_the_connector_refuses_ipv6_literals() -> None:
    """Also where the address needs no look-up at all."""
    for host in ("::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"):
        with pytest.raises(AddressRefused):
            await get(f"http://[{host}]:9/")


async def test_the_connector_refuses_names_of_refused_addresses(receiver: Receiver) -> None:
    """One refused address refuses the name, so that no connection tries the others."""
    resolver = FakeResolver(hook_example=[["8.8.8.8", "127.0.0.1"]])
    with pytest.raises(AddressRefused, match=r"hook\.example"):
        await get(f"http://hook.example:{receiver.port}/", resolver=resolver)
    assert receiver.hosts == []


async def test_an_exempt_address_is_reached_under_any_name(receiver: Receiver) -> None:
    """The request keeps the name that was asked for."""
    resolver = FakeResolver(hook_example=[["127.0.0.1"]])
    url = f"http://hook.example:{receiver.port}/"
    assert await get(url, ["127.0.0.0/8"], resolver) == "here"
    assert receiver.hosts == [f"hook.example:{receiver.port}"]


async def test_a_rebound_name_is_refused_at_the_connection(receiver: Receiver) -> None:
    """A name that was public when it was checked and is loopback now reaches nothing."""
    resolver = FakeResolver(hook_example=[["8.8.8.8"], ["127.0.0.1"]])
    url = f"http://hook.example:{receiver.port}/"
    await AddressPolicy().resolve(url, resolver=resolver)
    with pytest.raises(AddressRefused, match=r"127\.0\.0\.1"):
        await get(url, resolver=resolver)
    assert receiver.hosts == []


async def test_the_connection_goes_to_the_judged_answer(receiver: Receiver) -> None:
    """A connection looks up once: there is no second answer to rebind it by."""
    resolver = FakeResolver(hook_example=[["127.0.0.1"], ["10.0.0.1"]])
    url = f"http://hook.example:{receiver.port}/"
    assert await get(url, ["127.0.0.1"], resolver) == "here"
    assert resolver.asked == ["hook.example"]


async def test_every_request_is_judged_anew(receiver: Receiver) -> None:
    """Neither a kept connection nor a kept answer carries a request past the judgement."""
    resolver = FakeResolver(hook_example=[["127.0.0.1"], ["10.0.0.1"]])
    url = f"http://hook.example:{receiver.port}/"
    connector = PinnedConnector(AddressPolicy(["127.0.0.1"]), resolver=resolver)
    async with ClientSession(connector=connector) as session:
        async with session.get(url) as response:
            assert await response.text() == "here"
        with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
            await session.get(url)
    assert len(receiver.hosts) == 1


async def test_an_exempt_name_opens_its_address_to_no_other(receiver: Receiver) -> None:
    """Neither at the same time nor after it, by name or by literal."""
    resolver = FakeResolver(hook_example=[["127.0.0.1"]], other_example=[["127.0.0.1"]])
    policy = AddressPolicy(["hook.example"])
    connector = PinnedConnector(policy, resolver=resolver)

    async with ClientSession(connector=connector) as session:

        async def status(host: str) -> int:
            async with session.get(f"http://{host}:{receiver.port}/") as response:
                return response.status

        hosts = ["hook.example", "127.0.0.1", "other.example", "hook.example", "127.0.0.1"]
        answers = await asyncio.gather(*map(status, hosts), return_exceptions=True)
        assert [a if isinstance(a, int) else type(a) for a in answers] == [
            200,
            AddressRefused,
            AddressRefused,
            200,
            AddressRefused,
        ]
        for host in ("127.0.0.1", "other.example"):
            with pytest.raises(AddressRefused):
                await status(host)


async def test_the_connector_refuses_the_target_of_a_redirect() -> None:
    """Even a session that follows redirects reaches no refused address."""

    async def redirect(_: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"location": "http://127.0.0.1:9/"})

    resolver = FakeResolver(hook_example=[["127.0.0.1"]])
    async with RawTestServer(redirect) as server:
        with pytest.raises(AddressRefused, match=r"127\.0\.0\.1"):
            await get(f"http://hook.example:{server.port}/", ["hook.example"], resolver)
