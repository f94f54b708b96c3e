"""The Novita.ai client against a scripted server on loopback: requests, answers, faults."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from durably.instances import novita
from durably.instances.novita import NovitaClient
from durably.instances.provider import (
    BillingMode,
    Cluster,
    CreateRequest,
    EnvVar,
    InvalidState,
    NoStock,
    NotFound,
    OutcomeUnknown,
    Port,
    PortMapping,
    Product,
    Provider,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    Template,
    Unauthorized,
    Upstream,
    UpstreamStatus,
)
from durably.instances.templates import InvalidTemplate

KEY = "nv-key-0123456789abcdef"
REQUEST = CreateRequest(name="durably-d1-i1", product_id="4090.16c62g", image="example/image:1")
RUNNING = {"id": "abc123", "name": "durably-d1-i1", "status": "running"}

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]
Operation = Callable[[NovitaClient], Awaitable[object]]

READS: dict[str, Operation] = {
    "clusters": lambda client: client.clusters(),
    "products": lambda client: client.products("RTX", billing=BillingMode.SPOT),
    "template": lambda client: client.template("7"),
    "get": lambda client: client.get("abc123"),
    "list": lambda client: client.list(),
}
WRITES: dict[str, Operation] = {
    "create": lambda client: client.create(REQUEST),
    "start": lambda client: client.start("abc123"),
    "stop": lambda client: client.stop("abc123"),
    "delete": lambda client: client.delete("abc123"),
}


class Seen(msgspec.Struct, frozen=True):
    """A request as the server got it."""

    line: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class FakeNovita:
    """A server that answers every request with the next reply of its script, the last one for ever."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.script: list[Reply] = []
        app = web.Application()
        app.router.add_route("*", "/v1/{route:.*}", self._handle)
        self.server = TestServer(app)

    def will(self, *script: Reply) -> None:
        self.script = list(script)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/v1"))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.seen.append(
            Seen(
                line=f"{request.method} {request.path.removeprefix('/v1')}",
                query=dict(request.query),
                headers=dict(request.headers),
                body=msgspec.json.decode(text) if text else None,
            )
        )
        reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return await reply(request)


class NoJitter(Random):
    """Draws the shortest wait, so that tests of retries do not wait."""

    def uniform(self, a: float, b: float) -> float:
        return a


def answer(
    body: object = None, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Reply:
    """Answer with *body* as JSON."""
    return raw(msgspec.json.encode(body), status=status, headers=headers)


def raw(content: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    async def reply(request: web.Request) -> web.StreamResponse:
        return web.Response(body=content, status=status, headers=headers)

    return reply


def error(status: int, code: str, message: str = "told so") -> Reply:
    return answer({"code": code, "message": message}, status=status)


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Close the connection after the whole request was read: the reply is lost."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def reset(request: web.Request) -> web.StreamResponse:
    """Reset the connection after the whole request was read."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut(request: web.Request) -> web.StreamResponse:
    """Promise a hundred bytes, send a few and close."""
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"id": ')
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.fixture
async def fake() -> AsyncIterator[FakeNovita]:
    started = FakeNovita()
    await started.server.start_server()
    yield started
    await started.server.close()


@pytest.fixture
async def client(fake: FakeNovita) -> AsyncIterator[NovitaClient]:
    opened = NovitaClient(KEY, base_url=fake.url, random=NoJitter())
    yield opened
    await opened.close()


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


async def failure(operation: Operation, client: NovitaClient) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await operation(client)
    return caught.value


# Requests


async def test_create_sends_the_documented_body_once(
    fake: FakeNovita, client: NovitaClient
) -> None:
    """Everything that is present is sent under the API's names, and the id comes back."""
    fake.will(answer({"id": "abc123"}))
    request = CreateRequest(
        name="durably-d1-i1",
        product_id="4090.16c62g",
        image="example/image:1",
        cluster_id="us-ca-6",
        gpu_num=2,
        rootfs_size=80,
        billing_mode=BillingMode.ON_DEMAND,
        image_auth_id="auth-7",
        command="start.sh",
        ports=(Port(port=80, type="http"), Port(port=22, type="tcp")),
        envs=(EnvVar(key="A", value="1"),),
    )

    upstream_id = await client.create(request)

    assert upstream_id == "abc123"
    [seen] = fake.seen
    assert seen.line == "POST /gpu/instance/create"
    assert seen.headers["Authorization"] == f"Bearer {KEY}"
    assert seen.headers["Content-Type"] == "application/json"
    assert seen.body == {
        "name": "durably-d1-i1",
        "productId": "4090.16c62g",
        "gpuNum": 2,
        "rootfsSize": 80,
        "imageUrl": "example/image:1",
        "kind": "gpu",
        "billingMode": "onDemand",
        "clusterId": "us-ca-6",
        "imageAuthId": "auth-7",
        "command": "start.sh",
        "ports": "80/http,22/tcp",
        "envs": [{"key": "A", "value": "1"}],
    }


async def test_create_leaves_out_what_is_absent(fake: FakeNovita, client: NovitaClient) -> None:
    """No cluster, auth, command, ports or variables: no such members."""
    fake.will(answer({"id": "abc123"}))

    await client.create(REQUEST)

    assert fake.seen[0].body == {
        "name": "durably-d1-i1",
        "productId": "4090.16c62g",
        "gpuNum": 1,
        "rootfsSize": 60,
        "imageUrl": "example/image:1",
        "kind": "gpu",
        "billingMode": "spot",
    }


async def test_create_asks_for_https_as_http_and_leaves_udp_out(
    fake: FakeNovita, client: NovitaClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The API opens tcp and http ports only; a port that is left out is named in the log."""
    fake.will(answer({"id": "abc123"}))
    ports = (
        Port(port=443, type="https"),
        Port(port=443, type="http"),
        Port(port=53, type="udp"),
        Port(port=22, type="tcp"),
    )

    await client.create(msgspec.structs.replace(REQUEST, ports=ports))

    assert fake.seen[0].body["ports"] == "443/http,22/tcp"
    assert "53/udp" in caplog.text


async def test_udp_ports_alone_are_no_ports(fake: FakeNovita, client: NovitaClient) -> None:
    """When nothing is left of the ports, the member is absent rather than empty."""
    fake.will(answer({"id": "abc123"}))

    await client.create(msgspec.structs.replace(REQUEST, ports=(Port(port=53, type="udp"),)))

    assert "ports" not in fake.seen[0].body


@pytest.mark.parametrize("verb", ["start", "stop", "delete"])
@pytest.mark.parametrize(
    "content", [b"{}", b"", b'{"instanceId": "abc123", "state": "toStop"}', b" \n"]
)
async def test_actions_name_the_instance_and_accept_every_acknowledgement(
    fake: FakeNovita, client: NovitaClient, verb: str, content: bytes
) -> None:
    """An empty object, a described state and an empty body all mean that it was accepted."""
    fake.will(raw(content))

    await WRITES[verb](client)

    [seen] = fake.seen
    assert (seen.line, seen.body) == (f"POST /gpu/instance/{verb}", {"instanceId": "abc123"})


async def test_no_content_acknowledges_too(fake: FakeNovita, client: NovitaClient) -> None:
    """Status 204 is a success without a body."""
    fake.will(raw(b"", status=204))

    await client.stop("abc123")

    assert len(fake.seen) == 1


async def test_reads_ask_the_documented_routes(fake: FakeNovita, client: NovitaClient) -> None:
    """Each read is a GET with its parameters in the query."""
    fake.will(
        answer({"data": []}),
        answer({"data": []}),
        answer({"template": {"Id": "7", "image": "i"}}),
        answer(RUNNING),
        answer({"instances": [], "total": 0}),
    )

    for read in READS.values():
        await read(client)

    assert [(seen.line, seen.query) for seen in fake.seen] == [
        ("GET /clusters", {}),
        ("GET /products", {"productName": "RTX", "billingMethod": "spot"}),
        ("GET /template", {"templateId": "7"}),
        ("GET /gpu/instance", {"instanceId": "abc123"}),
        ("GET /gpu/instances", {"pageNum": "0", "pageSize": "100"}),
    ]


async def test_ids_are_quoted_in_the_query(fake: FakeNovita, client: NovitaClient) -> None:
    """An id with special characters stays one parameter."""
    fake.will(answer(RUNNING))

    await client.get("a&b=c d/é")

    assert fake.seen[0].query == {"instanceId": "a&b=c d/é"}


async def test_a_trailing_slash_of_the_base_url_does_not_count(fake: FakeNovita) -> None:
    """``…/v1/`` and ``…/v1`` are the same base."""
    fake.will(answer({"data": []}))
    client = NovitaClient(KEY, base_url=fake.url + "/")

    await client.clusters()
    await client.close()

    assert fake.seen[0].line == "GET /clusters"


# Answers


async def test_clusters_are_read(fake: FakeNovita, client: NovitaClient) -> None:
    """The region is the code before the first blank of the name."""
    fake.will(answer({"data": [{"id": "us-ca-6", "name": "US-CA-06 (California)", "extra": []}]}))

    assert await client.clusters() == [
        Cluster(id="us-ca-6", name="US-CA-06 (California)", region="US-CA-06")
    ]


@pytest.mark.parametrize("number", [str, int, float])
async def test_products_are_read_with_numbers_in_any_form(
    fake: FakeNovita, client: NovitaClient, number: type
) -> None:
    """Prices and sizes come as texts or as numbers; regions with and without a place."""
    wire = {
        "id": "4090.16c62g",
        "name": "RTX 4090 24GB",
        "cpuPerGpu": number(16),
        "memoryPerGpu": number(62),
        "availableDeploy": True,
        "regions": ["US-CA-06 (California)", "CN-HK-01"],
        "price": number(67000),
        "spotPrice": number(35000),
        "billingMethods": ["onDemand", "spot"],
        "monthlyPrice": [{"price": 1, "month": 1}],
    }
    fake.will(answer({"data": [wire]}))

    assert await client.products("4090", billing=BillingMode.ON_DEMAND) == [
        Product(
            id="4090.16c62g",
            name="RTX 4090 24GB",
            regions=("US-CA-06", "CN-HK-01"),
            available=True,
            price_e5=67_000,
            spot_price_e5=35_000,
            memory_per_gpu=62,
            cpu_per_gpu=16,
            billing_methods=("onDemand", "spot"),
        )
    ]


async def test_a_product_of_only_an_id_is_not_available(
    fake: FakeNovita, client: NovitaClient
) -> None:
    """Missing and null members have harmless values: no regions, no price, not available."""
    fake.will(answer({"data": [{"id": 7, "regions": None, "price": None, "spotPrice": "?"}]}))

    assert await client.products("x", billing=BillingMode.SPOT) == [Product(id="7", name="")]


@pytest.mark.parametrize("number", [str, int])
async def test_an_instance_is_read(fake: FakeNovita, client: NovitaClient, number: type) -> None:
    """All that the service uses is read, numbers and times as texts or as numbers."""
    fake.will(
        answer(
            {
                **RUNNING,
                "clusterId": "us-ca-6",
                "statusError": {"state": "", "message": ""},
                "portMappings": [
                    {"port": number(80), "endpoint": "https://x.example", "type": "http"},
                    {"port": number(22), "endpoint": "x.example:22", "type": "TCP"},
                ],
                "productId": "4090.16c62g",
                "gpuNum": number(2),
                "cpuNum": "32",
                "billingMode": "spot",
                "spotStatus": "notified",
                "spotReclaimTime": number(1_760_000_000),
                "instancePrice": number(250_000),
                "createdAt": number(1_750_000_000),
                "lastStartedAt": number(1_750_000_060),
                "lastStoppedAt": number(0),
                "envs": None,
            }
        )
    )

    assert await client.get("abc123") == Upstream(
        id="abc123",
        name="durably-d1-i1",
        status=UpstreamStatus.RUNNING,
        status_error=None,
        port_mappings=(
            PortMapping(port=80, endpoint="https://x.example", type="http"),
            PortMapping(port=22, endpoint="x.example:22", type="tcp"),
        ),
        cluster_id="us-ca-6",
        product_id="4090.16c62g",
        gpu_num=2,
        billing_mode=BillingMode.SPOT,
        price_e5=250_000,
        spot_status="notified",
        spot_reclaim_at=datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC),
        created_at=datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC),
        last_started_at=datetime(2025, 6, 15, 15, 7, 40, tzinfo=UTC),
        last_stopped_at=None,
    )


async def test_an_instance_of_only_an_id_is_read(fake: FakeNovita, client: NovitaClient) -> None:
    """Missing members have harmless values, and the status is unknown."""
    fake.will(answer({"id": "abc123", "portMappings": None, "billingMode": "monthly"}))

    assert await client.get("abc123") == Upstream(
        id="abc123", name="", status=UpstreamStatus.UNKNOWN
    )


@pytest.mark.parametrize(
    ("status_error", "expected"),
    [
        (None, None),
        ("", None),
        ({}, None),
        ({"state": None, "message": None}, None),
        ({"state": "pullFailed", "message": "no such image"}, "no such image"),
        ({"state": "pullFailed", "message": ""}, "pullFailed"),
        ("no such image", "no such image"),
    ],
)
async def test_trouble_is_told_by_message_or_state(
    fake: FakeNovita, client: NovitaClient, status_error: object, expected: str | None
) -> None:
    """A status error means trouble only when it says something."""
    fake.will(answer({**RUNNING, "statusError": status_error}))

    instance = await client.get("abc123")

    assert instance is not None
    assert instance.status_error == expected


STATUSES = [
    *("toCreate", "creating", "pulling", "running", "toStart", "starting", "toStop", "stopping"),
    *("exited", "toRestart", "restarting", "toRemove", "removing", "removed", "toReset"),
    *("resetting", "migrating", "freezing"),
]


def test_all_documented_statuses_are_known_and_others_are_unknown() -> None:
    """Eighteen statuses have a member each; anything else maps to UNKNOWN and never raises."""
    assert [UpstreamStatus(status).value for status in STATUSES] == STATUSES
    assert len(UpstreamStatus) == len(STATUSES) + 1
    assert UpstreamStatus("hibernating") is UpstreamStatus.UNKNOWN


@pytest.mark.parametrize("status", UpstreamStatus)
def test_only_removal_means_gone(status: UpstreamStatus) -> None:
    """toRemove, removing and removed are gone, an exited one is not."""
    instance = Upstream(id="a", name="a", status=status)

    assert instance.is_gone == (status.value in {"toRemove", "removing", "removed"})


@pytest.mark.parametrize(
    ("status", "spot_status", "has_reclaim_time", "expected"),
    [
        ("running", "running", False, False),
        ("running", "notified", True, False),
        ("running", "reclaiming", True, True),
        ("exited", "terminated", True, True),
        ("exited", "", True, True),
        ("exited", "running", False, False),
    ],
)
def test_a_reclaimed_instance_is_told_from_a_stopped_one(
    status: str, spot_status: str, has_reclaim_time: bool, expected: bool
) -> None:
    """Taken back: being reclaimed, terminated, or exited with a reclaim time; not just notified."""
    instance = Upstream(
        id="a",
        name="a",
        status=UpstreamStatus(status),
        spot_status=spot_status,
        spot_reclaim_at=datetime(2025, 1, 1, tzinfo=UTC) if has_reclaim_time else None,
    )

    assert instance.is_reclaimed == expected


@pytest.mark.parametrize("moment", ["0", 0, "", None, "-1", "soon", "1e999", 10**30, "nan"])
async def test_what_is_no_time_is_none(
    fake: FakeNovita, client: NovitaClient, moment: object
) -> None:
    """Zero, negative, unreadable and impossible times are None, and raise nothing."""
    fake.will(answer({**RUNNING, "createdAt": moment}))

    instance = await client.get("abc123")

    assert instance is not None
    assert instance.created_at is None


async def test_a_template_is_read_and_checked(fake: FakeNovita, client: NovitaClient) -> None:
    """The template member is parsed; a number is as good an id as its text."""
    wire = {"Id": 7, "name": "t", "image": "i:1", "ports": [{"type": "http", "ports": [80]}]}
    fake.will(answer({"template": wire}))

    template = await client.template(7)

    assert template == Template(id="7", name="t", image="i:1", ports=(Port(port=80, type="http"),))
    assert fake.seen[0].query == {"templateId": "7"}


@pytest.mark.parametrize("wire", [None, {"Id": "7"}, {"Id": "7", "image": "i", "envs": 3}])
async def test_an_unusable_template_is_refused_at_once(
    fake: FakeNovita, client: NovitaClient, wire: object
) -> None:
    """A template that is null or wrong will be so again: one request, permanent error."""
    fake.will(answer({"template": wire}))

    with pytest.raises(InvalidTemplate):
        await client.template("7")

    assert len(fake.seen) == 1


async def test_a_bad_template_id_is_refused_before_anything_is_sent(
    fake: FakeNovita, client: NovitaClient
) -> None:
    """A blank id is the caller's mistake, told without a request."""
    with pytest.raises(ValueError, match="Template ID is required"):
        await client.template("  ")

    assert fake.seen == []


@pytest.mark.parametrize(
    "reply",
    [error(400, "TEMPLATE_NOT_FOUND"), error(400, "RESOURCE_NOT_FOUND"), raw(b"", status=404)],
)
async def test_a_missing_template_is_named(
    fake: FakeNovita, client: NovitaClient, reply: Reply
) -> None:
    """Whichever way the provider says so, the error names the template."""
    fake.will(reply)

    with pytest.raises(NotFound, match="Template not found: 107672"):
        await client.template(107672)


RUBBISH = [
    b"",
    b"<html>maintenance</html>",
    b"null",
    b"7",
    b'"text"',
    b"[]",
    b'{"id": ',
    b"\xff\xfe\x00",
    b'"\xff"',
    b'{"x": ' + b"[" * 100_000,
    b'{"id": "\xff", "data": [{"id": "\xff"}], "instances": [{"id": "\xff"}], "template": "\xff"}',
    b'{"message": "try again"}',
    b'{"id": "", "data": 7, "instances": {}, "template_": 1}',
    b'{"id": null, "data": [7], "instances": [null]}',
    b'{"id": {}, "data": [{"id": " "}], "instances": [{"id": ""}]}',
]


@pytest.mark.parametrize("content", RUBBISH)
@pytest.mark.parametrize("read", READS)
async def test_rubbish_for_a_read_is_unavailability(
    fake: FakeNovita, client: NovitaClient, read: str, content: bytes
) -> None:
    """A 200 that makes no sense proves nothing; the error names the route, and it is tried again."""
    fake.will(raw(content))

    problem = await failure(READS[read], client)

    assert type(problem) is ProviderUnavailable
    assert fake.seen[0].line in str(problem)
    assert len(fake.seen) == 3


@pytest.mark.parametrize("content", RUBBISH)
async def test_rubbish_for_a_create_leaves_the_outcome_unknown(
    fake: FakeNovita, client: NovitaClient, content: bytes
) -> None:
    """Without an id nobody knows whether a GPU was rented; the create is not repeated."""
    fake.will(raw(content))

    problem = await failure(WRITES["create"], client)

    assert type(problem) is OutcomeUnknown
    assert "POST /gpu/instance/create" in str(problem)
    assert len(fake.seen) == 1


@pytest.mark.parametrize("content", [b"<html>maintenance</html>", b"null", b"[]", b'{"a":'])
@pytest.mark.parametrize("verb", ["start", "stop", "delete"])
async def test_rubbish_for_an_action_leaves_the_outcome_unknown(
    fake: FakeNovita, client: NovitaClient, verb: str, content: bytes
) -> None:
    """A page of some proxy is no acknowledgement."""
    fake.will(raw(content))

    assert type(await failure(WRITES[verb], client)) is OutcomeUnknown


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
ANY_JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["name", "status", "statusError", "portMappings", "gpuNum", "billingMode", "createdAt"]
        ),
        ANY_JSON,
    )
)
def test_any_json_is_an_instance_or_unreadable(members: dict[str, object]) -> None:
    """No answer makes the decoder raise anything but what is mapped to a provider error."""
    content = msgspec.json.encode({"id": "a", **members})
    try:
        instance = novita._decode_instance(content)
    except msgspec.ValidationError:
        return

    assert instance.id == "a"


@given(st.dictionaries(st.sampled_from(["name", "status", "gpuNum", "createdAt"]), SCALARS))
def test_any_scalar_is_accepted_where_a_scalar_is_expected(members: dict[str, object]) -> None:
    """Texts, numbers, booleans and null never make an instance unreadable."""
    content = msgspec.json.encode({"id": 5, **members})

    assert novita._decode_instance(content).id == "5"


async def test_an_answer_of_more_than_16_mib_is_not_read(
    fake: FakeNovita, client: NovitaClient
) -> None:
    """A huge answer is cut off: unavailable for a read, unknown for a write."""
    fake.will(raw(b'{"id": "' + b"x" * (16 * 1024 * 1024) + b'"}'))

    assert type(await failure(READS["get"], client)) is ProviderUnavailable
    assert type(await failure(WRITES["create"], client)) is OutcomeUnknown


# Lists


def instances(*ids: str) -> list[dict[str, str]]:
    return [{"id": one, "name": f"name-{one}", "status": "running"} for one in ids]


def pages(*of_ids: str, total: object = None) -> list[Reply]:
    return [answer({"instances": instances(*ids.split()), "total": total}) for ids in of_ids]


async def test_all_pages_are_read_until_one_is_empty(
    fake: FakeNovita, client: NovitaClient
) -> None:
    """Short pages do not end the list, an empty one does; pages are counted from 0."""
    fake.will(*pages("a b", "c", "d e", ""))

    found = await client.list()

    assert [one.id for one in found] == ["a", "b", "c", "d", "e"]
    assert [seen.query["pageNum"] for seen in fake.seen] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("total", [0, 1, "2", 1_000_000, -1, None, "many"])
async def test_the_stated_total_is_not_believed(
    fake: FakeNovita, client: NovitaClient, total: object
) -> None:
    """Whatever total the provider states, the pages decide."""
    fake.will(*pages("a b", "c", "", total=total))

    assert [one.id for one in await client.list()] == ["a", "b", "c"]


async def test_an_instance_on_two_pages_is_listed_once_and_as_last_seen(
    fake: FakeNovita, client: NovitaClient
) -> None:
    """Pages shift while they are read; each id comes once, with its newest state."""
    first = instances("a", "b")
    second = [{**instances("b")[0], "status": "exited"}, *instances("c")]
    fake.will(
        answer({"instances": first}), answer({"instances": second}), answer({"instances": []})
    )

    found = await client.list()

    assert [(one.id, one.status.value) for one in found] == [
        ("a", "running"),
        ("b", "exited"),
        ("c", "running"),
    ]


async def test_a_repeated_first_page_does_not_end_the_list(
    fake: FakeNovita, client: NovitaClient
) -> None:
    """Where pages are counted from 1, page 0 and page 1 are the same; the rest is still read."""
    fake.will(*pages("a b", "a b", "c", ""))

    assert [one.id for one in await client.list()] == ["a", "b", "c"]


async def test_a_page_that_repeats_for_ever_is_not_asked_for_ever(
    fake: FakeNovita, client: NovitaClient
) -> None:
    """A provider that ignores the page number is asked a few times, and its list is whole."""
    fake.will(*pages("a b"))

    assert [one.id for one in await client.list()] == ["a", "b"]
    assert len(fake.seen) == 6


async def test_a_list_without_end_is_an_error_and_not_half_a_list(
    fake: FakeNovita, client: NovitaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With new instances on every page up to the bound, nothing is returned."""
    monkeypatch.setattr(novita, "_PAGES_MAX", 20)

    async def another(request: web.Request) -> web.StreamResponse:
        return await answer({"instances": instances(request.query["pageNum"])})(request)

    fake.will(another)

    with pytest.raises(ProviderUnavailable, match="no end after 20 pages"):
        await client.list()
    assert len(fake.seen) == 20


async def test_a_list_by_name_is_exact(fake: FakeNovita, client: NovitaClient) -> None:
    """The provider searches loosely; only instances of exactly that name are returned."""
    fake.will(*pages("1", "10 1x", ""))

    found = await client.list(name="name-1")

    assert [one.id for one in found] == ["1"]
    assert {seen.query["name"] for seen in fake.seen} == {"name-1"}


@pytest.mark.parametrize(
    "content", [b"{}", b'{"total": "0"}', b'{"instances": null, "total": 0}', b'{"instances": []}']
)
async def test_every_form_of_an_empty_list_is_empty(
    fake: FakeNovita, client: NovitaClient, content: bytes
) -> None:
    """Null, missing and empty lists end the pages."""
    fake.will(raw(content))

    assert await client.list() == []


async def test_an_error_on_a_later_page_fails_the_list(
    fake: FakeNovita, client: NovitaClient
) -> None:
    """Half a list would pass for all there is, so it is not returned."""
    fake.will(*pages("a"), error(500, "UNKNOWN"))

    assert type(await failure(READS["list"], client)) is ProviderUnavailable


# Refusals

REFUSALS = [
    (401, "UNAUTHORIZED", Unauthorized),
    (403, "FORBIDDEN", Unauthorized),
    (400, "RESOURCE_NOT_FOUND", NotFound),
    (404, "RESOURCE_NOT_FOUND", NotFound),
    (404, "WHATEVER", NotFound),
    (400, "INSUFFICIENT_RESOURCE", NoStock),
    (400, "MIGRATE_INSUFFICIENT_RESOURCE", NoStock),
    (400, "CONFLICT", InvalidState),
    (409, "", InvalidState),
    (400, "DEPENDENT_RESOURCE_STATE", InvalidState),
    (400, "CLUSTER_STATUS", InvalidState),
    (400, "NODE_STATUS", InvalidState),
    (400, "VALIDATOR_PARAM", ProviderRefused),
    (400, "REQUEST", ProviderRefused),
    (400, "OPERATION_LIMIT", ProviderRefused),
    (400, "BALANCE_NOT_ENOUGH", ProviderRefused),
    (400, "EXPIRED_OR_BALANCE_NOT_ENOUGH", ProviderRefused),
    (400, "UNSUPPORTED_BILLING_MODE", ProviderRefused),
    (400, "CREATE_INSTANCE_LIMIT", ProviderRefused),
    (400, "IMAGE_NOT_FOUND", ProviderRefused),
    (400, "IMAGE_AUTH_IN_USE", ProviderRefused),
    (400, "NETWORK_IN_USE", ProviderRefused),
    (400, "TEMPLATE_IS_PRIVATE", ProviderRefused),
    (400, "INVALID_COMMAND_PARAM", ProviderRefused),
    (400, "PREPAID_INSTANCE_NOT_SUPPORT_RELEASE", ProviderRefused),
    (422, "", ProviderRefused),
]


@pytest.mark.parametrize(("status", "code", "kind"), REFUSALS)
@pytest.mark.parametrize("name", ["create", "start", "products"])
async def test_refusals_are_permanent_and_told_apart(
    fake: FakeNovita,
    client: NovitaClient,
    name: str,
    status: int,
    code: str,
    kind: type[ProviderRefused],
) -> None:
    """A 4xx is asked once, and its error carries code, status and message."""
    fake.will(error(status, code))

    problem = await failure({**READS, **WRITES}[name], client)

    assert type(problem) is kind
    assert isinstance(problem, ProviderRefused)
    assert (problem.code, problem.status) == (code, status)
    assert "told so" in str(problem)
    assert str(status) in str(problem)
    assert fake.seen[0].line in str(problem)
    assert len(fake.seen) == 1


@pytest.mark.parametrize("code", ["", "REQUEST"])
async def test_the_text_invalid_state_change_is_an_invalid_state(
    fake: FakeNovita, client: NovitaClient, code: str
) -> None:
    """The provider says it in the message only."""
    fake.will(error(400, code, "Invalid state change: running -> starting"))

    assert type(await failure(WRITES["start"], client)) is InvalidState


@pytest.mark.parametrize(
    "reply",
    [
        error(400, "RESOURCE_NOT_FOUND"),
        error(404, "RESOURCE_NOT_FOUND"),
        raw(b"404 page not found", status=404),
        raw(b"", status=404),
        answer({"message": "instance not found"}, status=400),
        answer({"message": "instance not fount"}, status=400),
        answer({"code": 400, "reason": "RESOURCE_NOT_FOUND"}, status=400),
    ],
)
async def test_a_missing_instance_is_none_and_deleted(
    fake: FakeNovita, client: NovitaClient, reply: Reply
) -> None:
    """However the provider says it: get answers None, delete succeeds, start and stop fail."""
    fake.will(reply)

    assert await client.get("abc123") is None
    await client.delete("abc123")
    assert type(await failure(WRITES["start"], client)) is NotFound
    assert type(await failure(WRITES["stop"], client)) is NotFound


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ({"code": "REQUEST", "message": "bad"}, "REQUEST", "400 REQUEST: bad"),
        ({"code": "REQUEST", "reason": "bad"}, "REQUEST", "400 REQUEST: bad"),
        ({"code": 400, "reason": "REQUEST", "message": "bad"}, "REQUEST", "400 REQUEST: bad"),
        ({"code": "400", "reason": "REQUEST", "message": "bad"}, "REQUEST", "400 REQUEST: bad"),
        ({"message": "bad"}, "", "400: bad"),
        ({"error": "bad"}, "", "400: bad"),
        ({"error": {"code": "REQUEST", "message": "bad"}}, "REQUEST", "400 REQUEST: bad"),
        (
            {"code": "REQUEST", "message": "bad", "details": {"field": "gpuNum"}},
            "REQUEST",
            '400 REQUEST: bad {"field":"gpuNum"}',
        ),
        ({"code": "REQUEST", "metadata": {"a": "b"}}, "REQUEST", '400 REQUEST: {"a":"b"}'),
        ({"code": "REQUEST", "message": "bad", "details": "d"}, "REQUEST", "400 REQUEST: bad d"),
        ("bad", "", "400: bad"),
        (["bad"], "", "400"),
        (None, "", "400"),
        ({"code": None, "message": 7}, "", "400"),
    ],
)
async def test_every_form_of_an_error_body_is_read(
    fake: FakeNovita, client: NovitaClient, body: object, code: str, text: str
) -> None:
    """Code and message are found in all the shapes that the documents show."""
    fake.will(answer(body, status=400))

    problem = await failure(WRITES["stop"], client)

    assert isinstance(problem, ProviderRefused)
    assert problem.code == code
    assert str(problem) == f"POST /gpu/instance/stop answered {text}"


async def test_an_error_in_plain_text_is_quoted_on_one_line_and_shortened(
    fake: FakeNovita, client: NovitaClient
) -> None:
    """A page of HTML does not flood the log."""
    fake.will(raw(b"<html>\n  bad\xff gateway\n" + b"x" * 5_000, status=400))

    problem = await failure(WRITES["stop"], client)

    assert "<html> bad\ufffd gateway xxx" in str(problem)
    assert len(str(problem)) < 400


async def test_an_error_of_absurd_depth_is_still_a_refusal(
    fake: FakeNovita, client: NovitaClient
) -> None:
    """JSON that cannot be decoded is quoted like any other text."""
    fake.will(raw(b"[" * 100_000, status=400))

    assert type(await failure(WRITES["stop"], client)) is ProviderRefused


async def test_an_unauthorized_call_names_the_setting(
    fake: FakeNovita, client: NovitaClient
) -> None:
    """The way out of a 401 is NOVITA_API_KEY."""
    fake.will(error(401, "UNAUTHORIZED"))

    assert "NOVITA_API_KEY" in str(await failure(READS["products"], client))


async def test_a_bare_404_points_at_the_base_url(fake: FakeNovita, client: NovitaClient) -> None:
    """A route that does not exist is most likely a wrong NOVITA_API_BASE_URL."""
    fake.will(raw(b"404 page not found", status=404))

    assert "NOVITA_API_BASE_URL" in str(await failure(READS["products"], client))


# Unavailability and unknown outcomes

NO_ANSWER: list[Reply] = [
    error(500, "UNKNOWN"),
    error(500, "WALLET_NOT_FOUND"),
    raw(b"bad gateway", status=502),
    raw(b"", status=503),
    raw(b"", status=408),
    raw(b"", status=301, headers={"Location": "/v1/elsewhere"}),
    error(503, "INSUFFICIENT_RESOURCE"),
    hang_up,
    reset,
    cut,
]


@pytest.mark.parametrize("reply", NO_ANSWER)
@pytest.mark.parametrize("read", READS)
async def test_a_read_without_a_trustworthy_answer_is_tried_three_times(
    fake: FakeNovita, client: NovitaClient, read: str, reply: Reply
) -> None:
    """Server errors, lost and broken replies and redirects: three requests, then unavailable."""
    fake.will(reply)

    problem = await failure(READS[read], client)

    assert type(problem) is ProviderUnavailable
    assert fake.seen[0].line in str(problem)
    assert len(fake.seen) == 3


@pytest.mark.parametrize("reply", NO_ANSWER)
@pytest.mark.parametrize("write", WRITES)
async def test_a_write_without_a_trustworthy_answer_is_sent_once_and_unknown(
    fake: FakeNovita, client: NovitaClient, write: str, reply: Reply
) -> None:
    """The same for a write: exactly one request, and nobody claims to know what became of it."""
    fake.will(reply)

    problem = await failure(WRITES[write], client)

    assert type(problem) is OutcomeUnknown
    assert fake.seen[0].line in str(problem)
    assert len(fake.seen) == 1


async def test_a_lost_reply_on_a_kept_connection_is_unknown_and_not_resent(
    fake: FakeNovita, client: NovitaClient
) -> None:
    """A pooled connection that breaks after the request gives no second create either."""
    fake.will(answer(RUNNING), hang_up)
    await client.get("abc123")

    assert type(await failure(WRITES["create"], client)) is OutcomeUnknown
    assert [seen.line for seen in fake.seen][1:] == ["POST /gpu/instance/create"]


@pytest.mark.parametrize("replies", [1, 2])
async def test_a_read_that_recovers_in_time_succeeds(
    fake: FakeNovita, client: NovitaClient, replies: int
) -> None:
    """One or two failures of a read are not seen by the caller."""
    fake.will(*[error(500, "UNKNOWN")] * replies, answer(RUNNING))

    instance = await client.get("abc123")

    assert instance is not None
    assert len(fake.seen) == replies + 1


@pytest.mark.parametrize(
    "reply", [error(429, "RATE_LIMIT_EXCEEDED"), error(400, "RATE_LIMIT_EXCEEDED")]
)
async def test_throttling_changes_nothing(
    fake: FakeNovita, client: NovitaClient, reply: Reply
) -> None:
    """A throttled write did not happen and is not repeated here; a throttled read is."""
    fake.will(reply)

    assert type(await failure(WRITES["create"], client)) is ProviderUnavailable
    assert len(fake.seen) == 1
    assert type(await failure(READS["get"], client)) is ProviderUnavailable
    assert len(fake.seen) == 4


@pytest.mark.parametrize("operation", [READS["get"], WRITES["create"]])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "11"}, 11.0),
        ({"Retry-After": " 60 "}, 60.0),
        ({"Retry-After": "1000000"}, 3_600.0),
        (
            {
                "Retry-After": "Wed, 21 Oct 2026 07:30:00 GMT",
                "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            120.0,
        ),
    ],
)
async def test_a_long_retry_after_is_handed_to_the_caller_at_once(
    fake: FakeNovita,
    client: NovitaClient,
    operation: Operation,
    headers: dict[str, str],
    seconds: float,
) -> None:
    """More than ten seconds are not waited for here: one request, and the pause in the error."""
    fake.will(answer({}, status=429, headers=headers))

    problem = await failure(operation, client)

    assert isinstance(problem, ProviderUnavailable)
    assert problem.retry_after == seconds
    assert len(fake.seen) == 1


@pytest.mark.parametrize(
    "retry_after", ["", "soon", "-5", "nan", "inf", "Wed, 21 Oct 2026 07:30:00 GMT"]
)
async def test_an_unreadable_retry_after_is_ignored(
    fake: FakeNovita, client: NovitaClient, retry_after: str
) -> None:
    """Rubbish, and a date without the answer's own date to measure it by, say nothing."""
    headers = {"Retry-After": retry_after, "Date": "today"}
    fake.will(answer({}, status=503, headers=headers))

    problem = await failure(READS["get"], client)

    assert isinstance(problem, ProviderUnavailable)
    assert problem.retry_after is None
    assert len(fake.seen) == 3


async def test_a_short_retry_after_is_waited_for(
    fake: FakeNovita, client: NovitaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to ten seconds are waited for before the read is tried again."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    fake.will(
        answer({}, status=429, headers={"Retry-After": "10"}),
        answer({}, status=503, headers={"Retry-After": "3"}),
        answer(RUNNING),
    )

    assert await client.get("abc123") is not None
    assert waits == [10.0, 3.0]


async def test_waits_between_tries_grow_and_are_drawn_from_the_whole_interval(
    fake: FakeNovita, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full jitter: from [0, 0.5 s], then from [0, 1 s], by the generator that was given."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    fake.will(error(500, "UNKNOWN"))
    client = NovitaClient(KEY, base_url=fake.url, random=Random(7))

    await failure(READS["get"], client)
    await client.close()

    same = Random(7)
    assert waits == [same.uniform(0.0, 0.5), same.uniform(0.0, 1.0)]


@pytest.mark.parametrize("operation", [*READS.values(), *WRITES.values()])
async def test_a_refused_connection_means_that_nothing_happened(operation: Operation) -> None:
    """Nothing was sent, so that even a create is known not to have happened."""
    client = NovitaClient(KEY, base_url=f"http://127.0.0.1:{closed_port()}/v1", random=NoJitter())

    problem = await failure(operation, client)
    await client.close()

    assert type(problem) is ProviderUnavailable


async def test_a_connection_that_is_not_made_in_time_means_that_nothing_happened(
    client: NovitaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time-out while connecting is no unknown outcome either."""

    async def connect(*args: object, **kwargs: object) -> None:
        raise aiohttp.ConnectionTimeoutError("connection timeout to host")

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect)

    assert type(await failure(WRITES["create"], client)) is ProviderUnavailable


@pytest.mark.parametrize(
    ("operation", "kind", "requests"),
    [(READS["get"], ProviderUnavailable, 3), (WRITES["create"], OutcomeUnknown, 1)],
)
async def test_an_answer_that_takes_too_long_is_given_up(
    fake: FakeNovita, operation: Operation, kind: type[ProviderError], requests: int
) -> None:
    """The time limit holds for the whole answer; the error says how long it was."""
    end_of_test = asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await end_of_test.wait()
        return response

    fake.will(never)
    client = NovitaClient(KEY, base_url=fake.url, timeout=0.4, random=NoJitter())

    problem = await failure(operation, client)
    await client.close()
    end_of_test.set()

    assert type(problem) is kind
    assert "no answer within 0.4 s" in str(problem)
    assert len(fake.seen) == requests


async def test_redirects_are_not_followed(fake: FakeNovita, client: NovitaClient) -> None:
    """The key is not carried to wherever an answer points."""
    fake.will(raw(b"", status=307, headers={"Location": "/v1/elsewhere"}))

    await failure(WRITES["create"], client)

    assert [seen.line for seen in fake.seen] == ["POST /gpu/instance/create"]


async def test_proxies_of_the_environment_are_not_used(
    fake: FakeNovita, client: NovitaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY does not divert requests, and with them the key."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("NO_PROXY", "")
    fake.will(answer(RUNNING))

    assert await client.get("abc123") is not None


# Concurrency


async def test_slow_creates_delay_no_read(fake: FakeNovita) -> None:
    """With every place for writes taken, gets and lists are answered all the same."""
    created, may_answer = asyncio.Event(), asyncio.Event()

    async def reply(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return await answer({**RUNNING, "instances": []})(request)
        created.set()
        await may_answer.wait()
        return await answer({"id": "abc123"})(request)

    fake.will(reply)
    client = NovitaClient(KEY, base_url=fake.url, max_concurrent=1)

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        creates = [tasks.create_task(client.create(REQUEST)) for _ in range(3)]
        await created.wait()
        assert await client.get("abc123") is not None
        await client.list()
        assert [seen.line for seen in fake.seen].count("POST /gpu/instance/create") == 1
        may_answer.set()
    await client.close()

    assert [create.result() for create in creates] == ["abc123"] * 3


async def test_requests_under_way_are_limited(fake: FakeNovita) -> None:
    """No more than max_concurrent reads are at the provider at once, and all are answered."""
    under_way = most = 0
    full = asyncio.Event()

    async def reply(request: web.Request) -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 4:
            full.set()
        await full.wait()
        under_way -= 1
        return await answer(RUNNING)(request)

    fake.will(reply)
    client = NovitaClient(KEY, base_url=fake.url, max_concurrent=4)

    async with asyncio.timeout(10):
        found = await asyncio.gather(*(client.get("abc123") for _ in range(20)))
    await client.close()

    assert len(found) == 20
    assert most == 4


async def test_a_read_that_waits_to_try_again_holds_no_place(
    fake: FakeNovita, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one read backs off, another one may use its place."""
    waiting, may_go_on = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await may_go_on.wait()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    fake.will(error(500, "UNKNOWN"), answer(RUNNING))
    client = NovitaClient(KEY, base_url=fake.url, max_concurrent=1)

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(client.get("abc123"))
        await waiting.wait()
        assert await client.get("abc123") is not None
        assert not first.done()
        may_go_on.set()
    await client.close()


# The secret


def chain(problem: BaseException | None) -> list[BaseException]:
    """An error and all that it says it was caused by."""
    if problem is None:
        return []
    return [problem, *chain(problem.__cause__)]


async def echo(request: web.Request) -> web.StreamResponse:
    told = request.headers["Authorization"]
    body = {"code": "REQUEST", "message": f"bad {told}", "details": {"got": told}, "reason": told}
    return await answer(body, status=400)(request)


async def echo_as_text(request: web.Request) -> web.StreamResponse:
    # Half of the key would stand at the end of the shortened message.
    text = "x" * 280 + request.headers["Authorization"]
    return await raw(text.encode(), status=500)(request)


async def echo_unauthorized(request: web.Request) -> web.StreamResponse:
    told = {"message": f"unknown key {request.headers['Authorization']}"}
    return await answer(told, status=401)(request)


async def echo_broken(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    transport = request.transport
    assert isinstance(transport, asyncio.WriteTransport)
    transport.write(f"{request.headers['Authorization']} is no HTTP\r\n\r\n".encode())
    transport.close()
    return web.Response()


@pytest.mark.parametrize(
    "reply", [echo, echo_as_text, echo_unauthorized, echo_broken, hang_up, raw(b"rubbish")]
)
@pytest.mark.parametrize("operation", [READS["get"], READS["template"], WRITES["create"]])
async def test_the_key_is_in_no_error_and_no_log(
    fake: FakeNovita,
    client: NovitaClient,
    caplog: pytest.LogCaptureFixture,
    operation: Operation,
    reply: Reply,
) -> None:
    """Even when the provider sends it back, neither the key nor its beginning is shown."""
    caplog.set_level(logging.DEBUG, logger="durably")
    fake.will(reply)

    problem = await failure(operation, client)

    shown = [repr(one) + str(one) for one in chain(problem)] + [caplog.text]
    assert not [text for text in shown if KEY[:8] in text]


def test_the_key_is_in_no_repr() -> None:
    """A client shows where it talks to, not with what."""
    client = NovitaClient(KEY, base_url="https://api.example/v1")

    assert repr(client) == "NovitaClient(base_url='https://api.example/v1')"


# Arguments and life cycle


def test_the_client_is_a_provider() -> None:
    """The type checker and a look at the names agree."""
    provider: Provider = NovitaClient(KEY)

    assert "api.novita.ai/gpu-instance/openapi/v1" in repr(provider)


@pytest.mark.parametrize("key", ["", "  ", "two words", "line\nbreak", "schlüssel"])
def test_an_unusable_key_is_refused_without_being_quoted(key: str) -> None:
    """A header could not carry it; the error names the setting."""
    with pytest.raises(ValueError, match="NOVITA_API_KEY") as caught:
        NovitaClient(key)

    assert not key.strip() or key not in str(caught.value)


async def test_blanks_around_the_key_do_not_count(fake: FakeNovita) -> None:
    """A key from a file often ends in a line break."""
    fake.will(answer(RUNNING))
    client = NovitaClient(f" {KEY}\n", base_url=fake.url)

    await client.get("abc123")
    await client.close()

    assert fake.seen[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.example/v1",
        "ftp://api.example/v1",
        "https://",
        "/v1",
        "https://api.example/v1?a=b",
        "https://api.example/v1#a",
        "http://api.example:99999/v1",
        "http://[::1/v1",
    ],
)
def test_a_base_url_that_is_none_is_refused(base_url: str) -> None:
    """Only http and https URLs with a host and nothing after the path will do."""
    with pytest.raises(ValueError, match="base_url must be an http or https URL"):
        NovitaClient(KEY, base_url=base_url)


def test_credentials_in_the_base_url_are_refused_and_not_quoted() -> None:
    """A password there would end up in errors and logs."""
    with pytest.raises(ValueError, match="without credentials") as caught:
        NovitaClient(KEY, base_url="https://user:hunter2@api.example/v1")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_an_impossible_time_limit_is_refused(timeout: float) -> None:
    """Every request must end at some time."""
    with pytest.raises(ValueError, match="timeout must be a positive number"):
        NovitaClient(KEY, timeout=timeout)


def test_a_limit_of_no_requests_is_refused() -> None:
    """With no place at all nothing would ever be sent."""
    with pytest.raises(ValueError, match="max_concurrent must be at least 1, got 0"):
        NovitaClient(KEY, max_concurrent=0)


async def test_a_closed_client_stays_closed(fake: FakeNovita, client: NovitaClient) -> None:
    """Closing twice is fine; calling afterwards is a mistake and opens nothing."""
    fake.will(answer(RUNNING))
    await client.get("abc123")
    await client.close()
    await client.close()

    with pytest.raises(RuntimeError, match="closed"):
        await client.get("abc123")


async def test_closing_an_unused_client_does_nothing() -> None:
    """The session is made at the first request only."""
    await NovitaClient(KEY).close()
