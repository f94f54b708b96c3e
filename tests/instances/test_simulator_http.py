"""The simulator over real HTTP: wire forms, key, faults carried out, control routes."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from durably.instances.simulator import (
    Fault,
    Simulator,
    SimulatorSettings,
    StatusDurations,
    serve,
)
from durably.instances.simulator.catalogue import RegistryAuth

KEY = "test-key"
INSTANT = StatusDurations(
    to_create=0,
    creating=0,
    pulling=0,
    requested=0,
    starting=0,
    stopping=0,
    restarting=0,
    removing=0,
    migrating=0,
)
BODY: dict[str, Any] = {
    "name": "web-1",
    "productId": "4090.16c62g",
    "gpuNum": 2,
    "rootfsSize": 60,
    "imageUrl": "ubuntu:24.04",
    "imageAuthId": "registry-auth-1",
    "kind": "gpu",
    "billingMode": "spot",
    "clusterId": "us-ca-6",
    "ports": "80/http, 22/tcp",
    "envs": [{"key": "MODE", "value": "test"}],
    "networkStorages": [{"Id": "disk-1"}],
}


class Clock:
    """Unix seconds that move only when told."""

    seconds = 1_700_000_000.5

    def __call__(self) -> float:
        return self.seconds


class Caller:
    """A client of one simulator: calls give status and decoded body."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.session = session

    async def get(self, path: str, **query: str | int) -> tuple[int, Any]:
        return await self._call("GET", self.simulator.base_url + path, params=query)

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        return await self._call("POST", self.simulator.base_url + path, json=body)

    async def create(self, **changes: object) -> tuple[int, Any]:
        return await self.post("/gpu/instance/create", {**BODY, **changes})

    async def act(self, action: str, instance_id: str) -> tuple[int, Any]:
        return await self.post(f"/gpu/instance/{action}", {"instanceId": instance_id})

    async def control(self, path: str, body: object = None, *, method: str = "GET") -> Any:
        status, answer = await self._call(method, self.simulator.control_url + path, json=body)
        assert status == 200, answer
        return answer

    async def has_created(self) -> bool:
        return bool((await self.control("/billing"))["created"])

    async def has_struck(self) -> bool:
        return any(rule["struck"] for rule in await self.control("/faults"))

    async def fault(self, **rule: object) -> None:
        await self.control("/faults", [rule], method="POST")

    async def _call(self, method: str, url: str, **options: Any) -> tuple[int, Any]:
        async with self.session.request(method, url, **options) as response:
            return response.status, await response.json()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield session


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def caller(session: aiohttp.ClientSession, clock: Clock) -> AsyncIterator[Caller]:
    settings = SimulatorSettings(api_key=KEY, durations=INSTANT)
    async with Simulator(settings, now=clock) as simulator:
        yield Caller(simulator, session)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds, at most ten seconds."""
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.005)


async def test_a_running_instance_has_the_documented_form(caller: Caller, clock: Clock) -> None:
    """Numbers are strings where the provider writes them so, times unix seconds as text."""
    status, created = await caller.create()
    got = await caller.get("/gpu/instance", instanceId=created["id"])

    instance = got[1]
    assert (status, list(created), len(created["id"]), got[0]) == (200, ["id"], 16, 200)
    expected = {
        "id": created["id"],
        "name": "web-1",
        "clusterId": "us-ca-6",
        "clusterName": "US-CA-06 (California)",
        "status": "running",
        "imageUrl": "ubuntu:24.04",
        "imageAuthId": "registry-auth-1",
        "cpuNum": "32",
        "memory": "124",
        "gpuNum": "2",
        "productId": "4090.16c62g",
        "productName": "RTX 4090 24GB",
        "rootfsSize": 60,
        "volumeMounts": [{"type": "network", "size": "0", "id": "disk-1", "mountPath": "/network"}],
        "statusError": {"state": "", "message": ""},
        "envs": [{"key": "MODE", "value": "test"}],
        "kind": "gpu",
        "billingMode": "spot",
        "endTime": "-1",
        "spotStatus": "running",
        "spotReclaimTime": "0",
        "createdAt": "1700000000",
        "lastStartedAt": "1700000000",
        "lastStoppedAt": "0",
        "instancePrice": "70000",
    }
    assert {key: instance[key] for key in expected} == expected


async def test_endpoints_lead_to_the_simulator_itself(caller: Caller) -> None:
    """An http endpoint answers 200 while running, a tcp one accepts connections."""
    _, created = await caller.create()
    _, instance = await caller.get("/gpu/instance", instanceId=created["id"])
    http, tcp = instance["portMappings"]

    async with caller.session.get(http["endpoint"], headers={"Authorization": ""}) as response:
        healthy = response.status
    host, _, port = tcp["endpoint"].rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    await writer.wait_closed()

    assert (http["port"], http["type"], tcp["port"], tcp["type"]) == (80, "http", 22, "tcp")
    assert healthy == 200


async def test_port_mappings_only_while_running(session: aiohttp.ClientSession) -> None:
    """Before running and after a stop there are no port mappings and the application is gone."""
    clock = Clock()
    settings = SimulatorSettings(api_key=KEY)
    async with Simulator(settings, now=clock) as simulator:
        caller = Caller(simulator, session)
        _, created = await caller.create()
        seen = []
        instance: dict[str, Any] = {}
        for seconds in (0.0, 1.0, 5.0):
            clock.seconds += seconds
            _, instance = await caller.get("/gpu/instance", instanceId=created["id"])
            seen.append((instance["status"], len(instance["portMappings"])))
        endpoint = instance["portMappings"][0]["endpoint"]
        await caller.act("stop", created["id"])
        clock.seconds += 10
        _, instance = await caller.get("/gpu/instance", instanceId=created["id"])
        async with session.get(endpoint) as response:
            gone = response.status

    assert seen == [("toCreate", 0), ("pulling", 0), ("running", 2)]
    assert (instance["status"], instance["portMappings"], gone) == ("exited", [], 502)
    assert instance["lastStoppedAt"] != "0"


async def test_public_host_is_the_host_of_endpoints(session: aiohttp.ClientSession) -> None:
    """Port mappings carry the public host and the simulator's port."""
    settings = SimulatorSettings(api_key=KEY, durations=INSTANT, public_host="localhost")
    async with Simulator(settings) as simulator:
        caller = Caller(simulator, session)
        _, created = await caller.create()
        _, instance = await caller.get("/gpu/instance", instanceId=created["id"])

    [_, tcp] = instance["portMappings"]
    port = simulator.base_url.split(":")[2].split("/")[0]
    assert tcp["endpoint"] == f"localhost:{port}"


@pytest.mark.parametrize("header", ["", "Bearer wrong", KEY, f"Basic {KEY}", "Bearer \udcff"])
async def test_a_wrong_key_is_401(caller: Caller, header: str) -> None:
    """Without the right bearer token nothing is done, and the answer is an UNAUTHORIZED."""
    url = f"{caller.simulator.base_url}/gpu/instance/create"
    headers = {"Authorization": header}
    async with caller.session.post(url, json=BODY, headers=headers) as response:
        body = await response.json()

    assert (response.status, body["code"]) == (401, "UNAUTHORIZED")
    assert (await caller.control("/billing"))["created"] == 0


async def test_the_log_has_a_line_a_request_without_the_key(
    caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """Each request is logged with method, path and status; the key never is."""
    with caplog.at_level(logging.INFO, logger="durably.instances.simulator"):
        await caller.get("/clusters")

    assert [record.getMessage() for record in caplog.records] == [
        "GET /gpu-instance/openapi/v1/clusters: 200"
    ]
    assert KEY not in caplog.text


async def test_unknown_routes_and_methods_are_json_errors(caller: Caller) -> None:
    """An unknown path is 404 and a wrong method 405, each in the error envelope."""
    unknown = await caller.get("/gpu/instance/list")
    wrong = await caller.post("/clusters", {})

    assert (unknown[0], unknown[1]["code"]) == (404, "NOT_FOUND")
    assert (wrong[0], wrong[1]["code"]) == (405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "REQUEST"),
        (b"{", "REQUEST"),
        (b'{"name": "\xff"}', "REQUEST"),
        (b"[]", "VALIDATOR_PARAM"),
        (b"{}", "VALIDATOR_PARAM"),
        (json.dumps({**BODY, "gpuNum": 9}).encode(), "VALIDATOR_PARAM"),
        (json.dumps({**BODY, "ports": "2222/tcp"}).encode(), "VALIDATOR_PARAM"),
    ],
)
async def test_a_bad_body_is_400(caller: Caller, body: bytes, code: str) -> None:
    """Malformed JSON and wrong fields are refused and create nothing."""
    url = f"{caller.simulator.base_url}/gpu/instance/create"
    async with caller.session.post(url, data=body) as response:
        answer = await response.json()

    assert (response.status, answer["code"]) == (400, code)
    assert (await caller.control("/billing"))["created"] == 0


async def test_pages_have_exact_totals(caller: Caller) -> None:
    """Pages count from 0, newest first; the total is that of the filtered list."""
    for n in range(7):
        await caller.create(name=f"web-{n}" if n % 2 else f"db-{n}")
    pages = [await caller.get("/gpu/instances", pageSize=3, pageNum=n) for n in range(4)]

    names = [[i["name"] for i in page["instances"]] for _, page in pages]
    assert names == [["db-6", "web-5", "db-4"], ["web-3", "db-2", "web-1"], ["db-0"], []]
    assert {page["total"] for _, page in pages} == {7}
    _, webs = await caller.get("/gpu/instances", name="web", pageSize=2)
    assert (webs["total"], len(webs["instances"])) == (3, 2)
    _, stopped = await caller.get("/gpu/instances", status="exited")
    assert stopped == {"instances": [], "total": 0}
    _, others = await caller.get("/gpu/instances", productName="h100")
    assert others["total"] == 0


@pytest.mark.parametrize("query", [{"pageNum": "-1"}, {"pageSize": "x"}, {"pageNum": "9" * 5000}])
async def test_a_bad_page_is_400(caller: Caller, query: dict[str, str]) -> None:
    """Page parameters that are no whole numbers are refused."""
    status, answer = await caller.get("/gpu/instances", **query)

    assert (status, answer["code"]) == (400, "VALIDATOR_PARAM")


async def test_the_default_page_and_a_first_page_of_one(session: aiohttp.ClientSession) -> None:
    """The page size is a setting; counted from 1, page 0 and page 1 are the same."""
    settings = SimulatorSettings(api_key=KEY, page_size=2, first_page=1)
    async with Simulator(settings) as simulator:
        caller = Caller(simulator, session)
        for n in range(3):
            await caller.create(name=f"n{n}")
        pages = [await caller.get("/gpu/instances", pageNum=n) for n in range(4)]

    names = [[i["name"] for i in page["instances"]] for _, page in pages]
    assert names == [["n2", "n1"], ["n2", "n1"], ["n0"], []]


async def test_a_new_instance_is_missing_from_the_list_during_the_lag(
    session: aiohttp.ClientSession, clock: Clock
) -> None:
    """With list lag a get finds the instance at once, the list and its total only later."""
    settings = SimulatorSettings(api_key=KEY, list_lag=5)
    async with Simulator(settings, now=clock) as simulator:
        caller = Caller(simulator, session)
        _, created = await caller.create()
        status, _ = await caller.get("/gpu/instance", instanceId=created["id"])
        _, early = await caller.get("/gpu/instances")
        clock.seconds += 5
        _, late = await caller.get("/gpu/instances")

    assert status == 200
    assert (early["total"], late["total"]) == (0, 1)


@pytest.mark.parametrize("variant", ["400", "404"])
async def test_both_variants_of_not_found(session: aiohttp.ClientSession, variant: Any) -> None:
    """Unknown instances and templates are 400 or 404 by the setting, with their codes."""
    settings = SimulatorSettings(api_key=KEY, not_found=variant)
    async with Simulator(settings) as simulator:
        caller = Caller(simulator, session)
        instance = await caller.get("/gpu/instance", instanceId="nobody")
        deletion = await caller.act("delete", "nobody")
        template = await caller.get("/template", templateId="nothing")

    assert (instance[0], instance[1]["code"]) == (int(variant), "RESOURCE_NOT_FOUND")
    assert (deletion[0], deletion[1]["code"]) == (int(variant), "RESOURCE_NOT_FOUND")
    assert (template[0], template[1]["code"]) == (int(variant), "TEMPLATE_NOT_FOUND")


async def test_actions_answer_an_empty_object(caller: Caller) -> None:
    """Stop, start, restart, migrate and delete take effect; then the instance is unknown."""
    _, created = await caller.create()
    statuses = []
    for action in ("stop", "start", "restart", "migrate"):
        assert await caller.act(action, created["id"]) == (200, {})
        _, instance = await caller.get("/gpu/instance", instanceId=created["id"])
        statuses.append(instance["status"])
    wrong = await caller.act("start", created["id"])
    deleted = await caller.act("delete", created["id"])
    gone, _ = await caller.get("/gpu/instance", instanceId=created["id"])
    _, listed = await caller.get("/gpu/instances")

    assert statuses == ["exited", "running", "running", "running"]
    assert wrong[0] == 400
    assert "invalid state change" in wrong[1]["message"]
    assert (deleted, gone, listed["total"]) == ((200, {}), 400, 0)


async def test_catalogue_routes(caller: Caller) -> None:
    """Clusters, products and templates have the provider's envelopes and filters."""
    _, clusters = await caller.get("/clusters")
    _, products = await caller.get(
        "/products", clusterId="cn-hongkong-1", productName="4090", billingMethod="spot", gpuNum=1
    )
    _, templates = await caller.get("/templates", pageSize=2, pageNum=1)
    _, template = await caller.get("/template", templateId="pytorch-serve")
    _, numeric = await caller.get("/template", templateId=107672)
    _, jobs = await caller.get("/jobs")

    by_id = {cluster["id"]: cluster["name"].split(" ")[0] for cluster in clusters["data"]}
    assert by_id["cn-hongkong-1"] == "CN-HK-01"
    assert [product["id"] for product in products["data"]] == [
        "4090.16c62g",
        "4090.18c125g",
        "4090.12c60g",
        "4090.32c120g",
    ]
    assert products["data"][2]["availableDeploy"] is False
    assert products["data"][0]["spotPrice"] == "35000"
    assert products["data"][0]["minRootFS"] == 10
    assert [t["Id"] for t in templates["template"]] == ["107672"]
    assert (templates["total"], templates["pageNum"], templates["pageSize"]) == (3, 1, 2)
    assert template["template"]["ports"] == [
        {"type": "http", "ports": [8080, 8888]},
        {"type": "tcp", "ports": [22]},
    ]
    assert template["template"]["startCommand"]
    assert numeric["template"]["Id"] == "107672"
    assert jobs == {"jobs": [], "total": 0}


async def test_registry_passwords_are_masked(session: aiohttp.ClientSession) -> None:
    """The list of registry logins shows stars for every password."""
    logins = (RegistryAuth(id="a", name="mine", username="me"),)
    async with Simulator(SimulatorSettings(api_key=KEY, registry_auths=logins)) as simulator:
        _, auths = await Caller(simulator, session).get("/repository/auths")

    assert auths == {"data": [{"id": "a", "name": "mine", "username": "me", "password": "******"}]}


async def test_rate_limit_tells_when_to_come_back(caller: Caller) -> None:
    """The fault rate_limit is a 429 with Retry-After and applies nothing."""
    await caller.fault(route="create", kind="rate_limit", count=1, params={"retry_after": 7})
    url = f"{caller.simulator.base_url}/gpu/instance/create"
    async with caller.session.post(url, json=BODY) as response:
        body = await response.json()

    assert (response.status, response.headers["Retry-After"]) == (429, "7")
    assert body["code"] == "RATE_LIMIT_EXCEEDED"
    assert (await caller.control("/billing"))["created"] == 0
    assert (await caller.create())[0] == 200


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_errors_as_envelope_or_as_text(caller: Caller, status: int) -> None:
    """The fault error answers its status, once as JSON and once as something else."""
    await caller.fault(route="create", kind="error", count=1, params={"status": status})
    await caller.fault(
        route="create", kind="error", count=1, params={"status": status, "body": "text"}
    )
    url = f"{caller.simulator.base_url}/gpu/instance/create"
    first = await caller.create()
    async with caller.session.post(url, json=BODY) as second:
        text = await second.text()

    assert (first[0], first[1]["code"], second.status) == (status, "UNKNOWN", status)
    assert text.startswith("<html>")
    assert (await caller.control("/billing"))["created"] == 0


async def test_an_error_may_come_after_the_request_was_applied(caller: Caller) -> None:
    """With applied, a gateway error hides a create that took place: it counts as not replied."""
    await caller.fault(
        route="create", kind="error", count=1, params={"status": 502, "applied": True}
    )

    status, _ = await caller.create()

    [record] = (await caller.control("/billing"))["creates"]
    assert (status, record["name"], record["replied"]) == (502, "web-1", False)


async def test_reset_cuts_before_anything_is_applied(caller: Caller) -> None:
    """The fault reset ends the connection with a reset and creates nothing."""
    await caller.fault(route="create", kind="reset", count=1)

    with pytest.raises(aiohttp.ClientOSError) as error:
        await caller.create()

    assert isinstance(error.value, ConnectionResetError) or error.value.errno == 104
    assert (await caller.control("/billing"))["created"] == 0


async def test_a_lost_reply_hides_an_accepted_create(caller: Caller) -> None:
    """The fault lost_reply creates the instance, billed, and cuts the connection."""
    await caller.fault(route="create", kind="lost_reply", count=1, match="web")

    with pytest.raises(aiohttp.ServerDisconnectedError):
        await caller.create()

    billing = await caller.control("/billing")
    [record] = billing["creates"]
    assert (record["name"], record["replied"], billing["billingNow"]) == ("web-1", False, 1)
    _, listed = await caller.get("/gpu/instances", name="web-1")
    assert [i["id"] for i in listed["instances"]] == [record["id"]]


async def test_a_lost_reply_applies_actions_too(caller: Caller) -> None:
    """The match of a fault is the name of the instance that an action or a get is about."""
    _, one = await caller.create(name="one")
    _, two = await caller.create(name="two")
    await caller.fault(route="delete", kind="lost_reply", match="one")

    assert await caller.act("delete", two["id"]) == (200, {})
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await caller.act("delete", one["id"])

    assert (await caller.control("/billing"))["billingNow"] == 0


async def test_a_slow_create_is_applied_at_the_start(caller: Caller) -> None:
    """By default a slow request has its effect at once and only the answer is late."""
    await caller.fault(route="create", kind="slow", params={"seconds": 60})
    task = asyncio.ensure_future(caller.create())
    await until(caller.has_created)
    [record] = (await caller.control("/billing"))["creates"]

    assert not task.done()
    assert record["replied"] is False
    task.cancel()
    await asyncio.wait([task])


async def test_a_slow_create_can_be_applied_at_the_end(session: aiohttp.ClientSession) -> None:
    """With apply=end nothing exists until the wait is over, here by the end of the simulator."""
    fault = Fault(route="create", kind="slow", params={"seconds": 60, "apply": "end"})
    async with Simulator(SimulatorSettings(api_key=KEY, faults=(fault,))) as simulator:
        caller = Caller(simulator, session)
        task = asyncio.ensure_future(caller.create())
        await until(caller.has_struck)
        early = await caller.has_created()
    status, body = await task

    assert (early, status, list(body)) == (False, 200, ["id"])


async def test_a_caller_that_gives_up_has_no_reply(
    caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """A create whose caller hung up takes place all the same and counts as not replied."""
    await caller.fault(route="create", kind="slow", params={"seconds": 1})
    with caplog.at_level(logging.INFO, logger="durably.instances.simulator"):
        task = asyncio.ensure_future(caller.create())
        await until(caller.has_created)
        task.cancel()

        async def ended() -> bool:
            return "/create: " in caplog.text

        await until(ended)

    [record] = (await caller.control("/billing"))["creates"]
    assert "/create: no answer" in caplog.text
    assert record["replied"] is False


async def test_stopping_does_not_wait_for_slow_answers(session: aiohttp.ClientSession) -> None:
    """Leaving the simulator ends the waits under way, also of callers that are gone."""
    fault = Fault(route="create", kind="slow", params={"seconds": 3600})
    async with asyncio.timeout(10):
        async with Simulator(SimulatorSettings(api_key=KEY, faults=(fault,))) as simulator:
            caller = Caller(simulator, session)
            given_up = asyncio.ensure_future(caller.create(name="given-up"))
            await until(caller.has_created)
            given_up.cancel()
            waiting = asyncio.ensure_future(caller.create(name="waiting"))

            async def both() -> bool:
                return bool((await caller.control("/billing"))["created"] == 2)

            await until(both)
        status, _ = await waiting

    assert status == 200


async def test_latency_delays_the_api_but_not_the_control(session: aiohttp.ClientSession) -> None:
    """With latency an API answer takes at least that long; the control answers at once."""
    loop = asyncio.get_running_loop()
    async with Simulator(SimulatorSettings(api_key=KEY, latency=0.2)) as simulator:
        caller = Caller(simulator, session)
        before = loop.time()
        await caller.get("/clusters")
        took_s = loop.time() - before

    assert took_s >= 0.2


async def test_rubbish_answers(caller: Caller) -> None:
    """The fault rubbish is a 200 with no JSON, or with JSON of the wrong shape."""
    await caller.fault(route="list", kind="rubbish", count=1)
    await caller.fault(route="list", kind="rubbish", count=1, params={"body": "shape"})
    url = f"{caller.simulator.base_url}/gpu/instances"
    async with caller.session.get(url) as first:
        text = await first.text()
    second = await caller.get("/gpu/instances")

    assert (first.status, text.startswith("<html>")) == (200, True)
    assert second[0] == 200
    assert isinstance(second[1], list)


async def test_no_stock_and_a_chosen_code(caller: Caller) -> None:
    """The fault no_stock is INSUFFICIENT_RESOURCE; error can play any other refusal."""
    await caller.fault(kind="no_stock", count=1)
    await caller.fault(
        route="create",
        kind="error",
        count=1,
        params={"status": 400, "code": "BALANCE_NOT_ENOUGH"},
    )

    answers = [await caller.create() for _ in range(2)]

    assert [(status, body["code"]) for status, body in answers] == [
        (400, "INSUFFICIENT_RESOURCE"),
        (400, "BALANCE_NOT_ENOUGH"),
    ]
    assert (await caller.control("/billing"))["created"] == 0


async def test_stock_of_the_settings(session: aiohttp.ClientSession) -> None:
    """When the GPUs of a region are taken, a create there is INSUFFICIENT_RESOURCE."""
    settings = SimulatorSettings(api_key=KEY, stock={"4090.16c62g": {"US-CA-06": 3}})
    async with Simulator(settings) as simulator:
        caller = Caller(simulator, session)
        answers = [await caller.create(name=f"n{n}") for n in range(2)]
        elsewhere = await caller.create(clusterId="as-sgp-2")

    assert [status for status, _ in answers] == [200, 400]
    assert answers[1][1]["code"] == "INSUFFICIENT_RESOURCE"
    assert elsewhere[0] == 200


async def test_a_status_error_shows_on_the_wire(caller: Caller, clock: Clock) -> None:
    """The fault status_error leaves the instance in pulling with state and message set."""
    await caller.fault(route="create", kind="status_error", params={"seconds": 2, "message": "no"})
    _, created = await caller.create()
    _, early = await caller.get("/gpu/instance", instanceId=created["id"])
    clock.seconds += 2
    _, late = await caller.get("/gpu/instance", instanceId=created["id"])

    assert (early["status"], early["statusError"]["message"]) == ("pulling", "")
    assert (late["status"], late["statusError"]["message"]) == ("pulling", "no")
    assert late["statusError"]["state"]


async def test_a_spot_reclaim_shows_on_the_wire(caller: Caller, clock: Clock) -> None:
    """The fault spot_reclaim moves spotStatus along and sets spotReclaimTime."""
    params = {"seconds": 1, "notice": 2, "reclaiming": 3}
    await caller.fault(route="create", kind="spot_reclaim", params=params)
    _, created = await caller.create()
    seen = []
    for seconds in (0, 1, 2, 3):
        clock.seconds += seconds
        _, instance = await caller.get("/gpu/instance", instanceId=created["id"])
        seen.append((instance["status"], instance["spotStatus"], instance["spotReclaimTime"]))

    assert seen == [
        ("running", "running", "0"),
        ("running", "notified", "1700000006"),
        ("running", "reclaiming", "1700000006"),
        ("exited", "terminated", "1700000006"),
    ]
    assert (await caller.control("/billing"))["billingNow"] == 0


async def test_an_unhealthy_application_recovers(caller: Caller) -> None:
    """The fault unhealthy makes the first probes of the instance 503, then 200."""
    await caller.fault(route="create", kind="unhealthy", params={"probes": 2})
    _, created = await caller.create()
    _, instance = await caller.get("/gpu/instance", instanceId=created["id"])
    answers = []
    for _ in range(3):
        async with caller.session.get(instance["portMappings"][0]["endpoint"]) as response:
            answers.append(response.status)

    assert answers == [503, 503, 200]


async def test_faults_strike_applications_too(caller: Caller) -> None:
    """The route app is the application inside the instances, matched by instance name."""
    await caller.fault(route="app", kind="error", match="web", params={"status": 503})
    answers = []
    for name in ("web-1", "db-1"):
        _, created = await caller.create(name=name)
        _, instance = await caller.get("/gpu/instance", instanceId=created["id"])
        async with caller.session.get(instance["portMappings"][0]["endpoint"]) as response:
            answers.append(response.status)

    assert answers == [503, 200]


async def test_faults_of_the_settings_strike_and_are_shown(session: aiohttp.ClientSession) -> None:
    """Rules from the settings are in force at once; the control shows and drops them."""
    async with Simulator(_settings_with_reset()) as simulator:
        caller = Caller(simulator, session)
        with pytest.raises(aiohttp.ClientError):
            await caller.get("/clusters")
        [rule] = await caller.control("/faults")
        left = await caller.control("/faults", method="DELETE")
        status, _ = await caller.get("/clusters")

    # The client repeats a GET that lost its connection once, by itself.
    assert (rule["kind"], rule["seen"], rule["struck"]) == ("reset", 2, 2)
    assert (left, status) == ([], 200)


async def test_bad_fault_rules_are_refused_whole(caller: Caller) -> None:
    """A list with one wrong rule is a 400 that names it, and adds none."""
    rules = [{"kind": "reset"}, {"kind": "slow", "params": {"minutes": 1}}]
    url = f"{caller.simulator.control_url}/faults"
    async with caller.session.post(url, json=rules) as response:
        body = await response.json()

    assert (response.status, body["code"]) == (400, "VALIDATOR_PARAM")
    assert "minutes" in body["message"]
    assert await caller.control("/faults") == []


async def test_control_tells_what_was_billed(caller: Caller, clock: Clock) -> None:
    """State and billing show every instance, removed ones too, with seconds and cost."""
    _, kept = await caller.create(name="kept", billingMode="onDemand", gpuNum=1)
    _, removed = await caller.create(name="removed")
    clock.seconds += 3600
    await caller.act("delete", removed["id"])
    clock.seconds += 3600
    billing = await caller.control("/billing")
    state = await caller.control("/state")

    assert billing["instances"] == [
        {
            "id": kept["id"],
            "name": "kept",
            "status": "running",
            "billedSeconds": 7200.0,
            "billing": True,
            "costUsd": pytest.approx(1.34),
        },
        {
            "id": removed["id"],
            "name": "removed",
            "status": "removed",
            "billedSeconds": 3600.0,
            "billing": False,
            "costUsd": pytest.approx(0.70),
        },
    ]
    assert (billing["billingNow"], billing["created"]) == (1, 2)
    assert billing["creates"] == [
        {"name": "kept", "at": 1700000000.5, "id": kept["id"], "replied": True},
        {"name": "removed", "at": 1700000000.5, "id": removed["id"], "replied": True},
    ]
    [first, second] = state["instances"]
    assert (first["clusterId"], first["billedSeconds"]) == ("us-ca-6", 7200.0)
    assert (second["status"], second["billing"]) == ("removed", False)


async def test_reset_forgets_everything(session: aiohttp.ClientSession) -> None:
    """After a reset there are no instances, only the settings' faults, and the same ids."""
    async with Simulator(_settings_with_reset()) as simulator:
        caller = Caller(simulator, session)
        _, first = await caller.create()
        await caller.fault(kind="no_stock")
        await caller.control("/reset", method="POST")
        rules = await caller.control("/faults")
        billing = await caller.control("/billing")
        _, second = await caller.create()

    assert [(rule["kind"], rule["struck"]) for rule in rules] == [("reset", 0)]
    assert billing == {"instances": [], "billingNow": 0, "created": 0, "creates": []}
    assert first == second


async def test_a_taken_port_is_an_error_that_leaves_nothing_open(
    session: aiohttp.ClientSession,
) -> None:
    """A port in use is an OSError at the start; the first simulator goes on."""
    async with Simulator(SimulatorSettings(api_key=KEY)) as simulator:
        port = int(simulator.base_url.split(":")[2].split("/")[0])
        with pytest.raises(OSError, match="address already in use"):
            async with Simulator(SimulatorSettings(api_key=KEY, port=port)):
                pass
        status, _ = await Caller(simulator, session).get("/clusters")

    assert status == 200


async def test_serve_runs_until_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """The serve coroutine listens, says where, and closes its port when it is cancelled."""
    with caplog.at_level(logging.INFO, logger="durably.instances.simulator"):
        task = asyncio.ensure_future(serve(SimulatorSettings(api_key=KEY)))

        async def listening() -> bool:
            return "listens on" in caplog.text

        await until(listening)
        address = caplog.text.split("http://")[1].split("/")[0]
        host, _, port = address.partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        await writer.wait_closed()
        task.cancel()
        await asyncio.wait([task])

    assert task.cancelled()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


def _settings_with_reset() -> SimulatorSettings:
    fault = Fault(route="clusters", kind="reset")
    return SimulatorSettings(api_key=KEY, faults=(fault,))
