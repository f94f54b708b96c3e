"""The simulator's account, meter, fault rules and settings, without HTTP."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec
import pytest

from durably.instances.simulator import (
    Fault,
    SimulatorSettings,
    StatusDurations,
    load_settings,
    parse_fault,
)
from durably.instances.simulator.faults import (
    ROUTES,
    CreateEffect,
    FaultPlan,
    HttpError,
    LostReply,
    Slow,
    SpotReclaim,
    StatusError,
    Unhealthy,
)
from durably.instances.simulator.requests import CreateRequest, ProviderError, decode
from durably.instances.simulator.state import Account

START = 1_000_000.0
DURATIONS = StatusDurations(
    to_create=1,
    creating=2,
    pulling=10,
    requested=1,
    starting=3,
    stopping=2,
    restarting=4,
    removing=2,
    migrating=5,
)


class Clock:
    """Unix seconds that move only when told."""

    def __init__(self) -> None:
        self.seconds = START

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def account(clock: Clock, settings: SimulatorSettings | None = None) -> Account:
    settings = settings or SimulatorSettings(durations=DURATIONS)
    return Account(settings, now=clock, random=Random(0))


def request(**changes: object) -> CreateRequest:
    body = {
        "name": "one",
        "productId": "4090.16c62g",
        "gpuNum": 1,
        "rootfsSize": 60,
        "imageUrl": "ubuntu:24.04",
        "kind": "gpu",
        "clusterId": "us-ca-6",
    }
    return decode(json.dumps({**body, **changes}).encode(), CreateRequest)


class Life:
    """One instance of an account, with shorthands for what the tests ask about it."""

    def __init__(
        self, clock: Clock, effects: Sequence[CreateEffect] = (), **changes: object
    ) -> None:
        self.clock = clock
        self.account = account(clock)
        self.id = self.account.create(request(**changes), effects)
        self.instance = self.account.instances[self.id]

    @property
    def status(self) -> str:
        return self.instance.step(self.clock()).status

    @property
    def spot_status(self) -> str:
        return self.instance.step(self.clock()).spot_status

    @property
    def billed_s(self) -> float:
        return self.instance.billed_seconds(self.clock())

    def statuses(self, seconds: int) -> list[str]:
        """The statuses of the next seconds, each once."""
        seen = [self.status]
        for _ in range(seconds):
            self.clock.advance(1)
            if self.status != seen[-1]:
                seen.append(self.status)
        return seen


def refusal(error: pytest.ExceptionInfo[ProviderError]) -> tuple[int, str]:
    return error.value.status, error.value.code


def test_a_new_instance_comes_to_running(clock: Clock) -> None:
    """A create goes through toCreate, creating and pulling to running, each for its time."""
    life = Life(clock)

    assert life.statuses(12) == ["toCreate", "creating", "pulling"]
    clock.advance(1)
    assert life.status == "running"


@pytest.mark.parametrize(
    ("action", "path"),
    [
        (Account.stop, ["toStop", "stopping", "exited"]),
        (Account.restart, ["toRestart", "restarting", "running"]),
        (Account.delete, ["toRemove", "removing", "removed"]),
        (Account.migrate, ["migrating", "running"]),
    ],
)
def test_actions_follow_the_documented_paths(clock: Clock, action: object, path: list[str]) -> None:
    """From running, each action goes through its passing statuses to its end."""
    assert callable(action)
    life = Life(clock)
    clock.advance(13)

    action(life.account, life.id)

    assert life.statuses(20) == path


def test_a_stopped_instance_starts_again(clock: Clock) -> None:
    """Start leads from exited over toStart and starting to running and moves lastStarted."""
    life = Life(clock)
    clock.advance(13)
    life.account.stop(life.id)
    clock.advance(100)
    stopped_at = life.instance.last_entered("exited", clock())

    life.account.start(life.id)

    assert life.statuses(10) == ["toStart", "starting", "running"]
    assert stopped_at == START + 16
    assert life.instance.last_entered("running", clock()) == START + 117


def test_a_stopped_instance_migrates_without_running(clock: Clock) -> None:
    """Migration of an instance that its owner stopped ends in exited, unbilled."""
    life = Life(clock)
    clock.advance(13)
    life.account.stop(life.id)
    clock.advance(10)
    billed_s = life.billed_s

    life.account.migrate(life.id)

    assert life.statuses(20) == ["migrating", "exited"]
    assert life.billed_s == billed_s


@pytest.mark.parametrize(
    ("action", "age_s"),
    [
        (Account.start, 13),
        (Account.stop, 0),
        (Account.restart, 5),
        (Account.migrate, 5),
    ],
)
def test_a_wrong_state_refuses_the_action(clock: Clock, action: object, age_s: float) -> None:
    """An action that the status does not allow is a 400 that says invalid state change."""
    assert callable(action)
    life = Life(clock)
    clock.advance(age_s)

    with pytest.raises(ProviderError, match="invalid state change") as error:
        action(life.account, life.id)

    assert refusal(error) == (400, "REQUEST")


def test_billing_runs_from_pulling_until_stopped(clock: Clock) -> None:
    """Nothing is billed before pulling or after exited; the seconds between are, with cost."""
    life = Life(clock, gpuNum=2)
    clock.advance(3)
    assert life.billed_s == 0
    clock.advance(3600 - 3)
    life.account.stop(life.id)
    clock.advance(3 + 1000)

    assert life.status == "exited"
    assert life.billed_s == 3600
    assert life.instance.cost_usd(clock()) == pytest.approx(2 * 0.67)


def test_billing_goes_on_after_a_restart_from_stopped(clock: Clock) -> None:
    """A second run adds its seconds, from starting on, to those of the first."""
    life = Life(clock)
    clock.advance(13)
    life.account.stop(life.id)
    clock.advance(1000)
    first = life.billed_s
    life.account.start(life.id)
    clock.advance(1 + 3 + 50)

    assert first == 13
    assert life.billed_s == 13 + 53


def test_removal_ends_billing(clock: Clock) -> None:
    """A deleted instance is billed until the removal is done and unknown from then on."""
    life = Life(clock)
    clock.advance(13)
    life.account.delete(life.id)
    life.account.delete(life.id)
    clock.advance(3)

    with pytest.raises(ProviderError) as error:
        life.account.find(life.id)
    clock.advance(100)

    assert refusal(error) == (400, "RESOURCE_NOT_FOUND")
    assert life.billed_s == 13


def test_an_instance_deleted_before_pulling_costs_nothing(clock: Clock) -> None:
    """Deleting during creating drops the planned phases, so that the meter never starts."""
    life = Life(clock)
    clock.advance(2)
    life.account.delete(life.id)
    clock.advance(100)

    assert life.status == "removed"
    assert life.billed_s == 0


def test_a_status_error_keeps_it_pulling_and_billed(clock: Clock) -> None:
    """With statusError the instance stays in pulling, costs money, and shows it after its time."""
    life = Life(clock, [StatusError(seconds=4, state="broken", message="no such image")])
    clock.advance(100)

    assert life.status == "pulling"
    assert life.billed_s == 97
    assert life.instance.trouble is not None
    assert life.instance.trouble.at == START + 3 + 4


def test_a_spot_instance_is_reclaimed(clock: Clock) -> None:
    """Reclaim goes running, notified, reclaiming, terminated; the status ends as exited."""
    life = Life(clock, [SpotReclaim(seconds=5, notice=6, reclaiming=7)], billingMode="spot")
    seen = []
    for seconds in (13, 5, 6, 7):
        clock.advance(seconds)
        seen.append((life.status, life.spot_status, life.instance.reclaimed_at(clock())))

    gone_at = START + 31
    assert seen == [
        ("running", "running", 0),
        ("running", "notified", gone_at),
        ("running", "reclaiming", gone_at),
        ("exited", "terminated", gone_at),
    ]
    assert life.billed_s == 28


def test_a_reclaimed_instance_runs_again_after_migration(clock: Clock) -> None:
    """Migration brings a reclaimed instance back to running, as spot."""
    life = Life(clock, [SpotReclaim(seconds=0, notice=0, reclaiming=0)], billingMode="spot")
    clock.advance(20)
    life.account.migrate(life.id)
    clock.advance(5)

    assert (life.status, life.spot_status) == ("running", "running")
    assert life.instance.reclaimed_at(clock()) == 0


def test_only_spot_instances_are_reclaimed(clock: Clock) -> None:
    """The reclaim fault leaves an on-demand instance alone and its spot status empty."""
    life = Life(clock, [SpotReclaim(seconds=0)])
    clock.advance(1000)

    assert (life.status, life.spot_status) == ("running", "")


def test_health_probes_fail_first_then_pass(clock: Clock) -> None:
    """A probe needs a running instance with that http port; the unhealthy ones come first."""
    life = Life(clock, [Unhealthy(probes=2)], ports="80/http, 22/tcp")
    answers = []

    def probe(port: int) -> None:
        try:
            life.account.probe(life.id, port)
            answers.append(200)
        except ProviderError as error:
            answers.append(error.status)

    probe(80)
    clock.advance(13)
    for port in (22, 80, 80, 80):
        probe(port)

    assert answers == [502, 502, 503, 503, 200]


def test_stock_runs_out_and_comes_back(clock: Clock) -> None:
    """GPUs in use are missing from stock in their region until the instance is stopped."""
    stock = {"4090.16c62g": {"US-CA-06": 2}}
    shop = account(clock, SimulatorSettings(durations=DURATIONS, stock=stock))
    first = shop.create(request(gpuNum=2))

    with pytest.raises(ProviderError) as error:
        shop.create(request(gpuNum=1))
    elsewhere = shop.create(request(clusterId="as-sgp-2"))
    clock.advance(13)
    shop.stop(first)
    clock.advance(3)
    second = shop.create(request(gpuNum=1))
    with pytest.raises(ProviderError, match="insufficient"):
        shop.start(first)

    assert refusal(error) == (400, "INSUFFICIENT_RESOURCE")
    assert len({first, second, elsewhere}) == 3


def test_products_show_the_stock_left(clock: Clock) -> None:
    """A product without stock where one asks is listed, but not available to deploy."""
    stock = {"4090.16c62g": {"US-CA-06": 1}}
    shop = account(clock, SimulatorSettings(stock=stock))

    def available(cluster_id: str, gpu_num: int) -> dict[str, bool]:
        found = shop.products(
            cluster_id=cluster_id, gpu_num=gpu_num, name="rtx 4090", billing_mode="spot"
        )
        return {product.id: product.available_deploy for product in found}

    assert available("us-ca-6", 1)["4090.16c62g"]
    assert not available("us-ca-6", 2)["4090.16c62g"]
    assert available("", 2)["4090.16c62g"]
    assert available("oc-au-1", 1) == {"4090.32c120g": True}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"productId": "unknown"}, "VALIDATOR_PARAM"),
        ({"clusterId": "nowhere-1"}, "VALIDATOR_PARAM"),
        ({"imageAuthId": "nobody"}, "VALIDATOR_PARAM"),
        ({"clusterId": "eu-de-1"}, "INSUFFICIENT_RESOURCE"),
        ({"productId": "4090.12c60g", "clusterId": ""}, "INSUFFICIENT_RESOURCE"),
        ({"productId": "4090.32c120g", "billingMode": "spot"}, "UNSUPPORTED_BILLING_MODE"),
    ],
)
def test_a_create_that_cannot_be_met_is_refused(
    clock: Clock, changes: dict[str, object], code: str
) -> None:
    """What the catalogue does not have is a 400 with its code, and nothing is created."""
    shop = account(clock)

    with pytest.raises(ProviderError) as error:
        shop.create(request(**changes))

    assert refusal(error) == (400, code)
    assert not shop.creates


def test_placement_without_cluster_is_random_but_repeatable(clock: Clock) -> None:
    """Without a cluster the seed decides where, among those that offer the product."""

    def places() -> list[str]:
        shop = account(clock)
        ids = [shop.create(request(clusterId=None)) for _ in range(20)]
        return [shop.instances[i].cluster.region for i in ids]

    assert places() == places()
    assert set(places()) == {"US-CA-06", "AS-SGP-02", "CN-HK-01"}


@pytest.mark.parametrize(
    "changes",
    [
        {"gpuNum": 0},
        {"gpuNum": 9},
        {"gpuNum": "1"},
        {"rootfsSize": 9},
        {"rootfsSize": 6145},
        {"imageUrl": ""},
        {"imageUrl": "x" * 501},
        {"kind": "tpu"},
        {"name": "x" * 256},
        {"productId": None},
        {"billingMode": "weekly"},
        {"imageAuth": "no-colon"},
        {"command": "x" * 2048},
        {"autoRenewMonth": 13},
        {"envs": [{"key": "k" * 512, "value": ""}]},
        {"envs": [{"key": "k", "value": "v"}] * 101},
        {"networkStorages": [{"Id": "s"}] * 31},
        {"ports": "80"},
        {"ports": "80/udp"},
        {"ports": "0/tcp"},
        {"ports": "65536/tcp"},
        {"ports": "2222/tcp"},
        {"ports": "80/http, 2224/http"},
        {"ports": ",".join(f"{port}/tcp" for port in range(1, 17))},
        {
            "ports": ",".join(f"{port}/tcp" for port in range(1, 16)),
            "tools": [{"name": "Jupyter", "port": 8888, "type": "http"}],
        },
    ],
)
def test_a_create_body_out_of_range_is_refused(changes: dict[str, object]) -> None:
    """Each limit of the create body is checked: 400 VALIDATOR_PARAM."""
    with pytest.raises(ProviderError) as error:
        request(**changes)

    assert refusal(error) == (400, "VALIDATOR_PARAM")


def test_a_create_body_at_its_limits_is_accepted() -> None:
    """The largest values are still allowed, and months make it a subscription."""
    body = request(
        gpuNum=8,
        rootfsSize=6144,
        month=1,
        billingMode="spot",
        ports=" 1/tcp,65535/http",
        envs=[{"key": "k" * 511, "value": "v" * 4095}] * 100,
        somethingNew=True,
    )

    assert body.mode() == "monthly"
    assert [(port.port, port.type) for port in body.opened_ports()] == [
        (1, "tcp"),
        (65535, "http"),
    ]


def test_parse_fault_reads_rule_and_parameters() -> None:
    """The text form gives the rule's own keys and the parameters of its kind."""
    fault = parse_fault("create:lost_reply:count=1,match=abc,after=2,probability=0.5")

    assert fault == Fault(
        route="create", kind="lost_reply", count=1, match="abc", after=2, probability=0.5
    )
    assert fault.effect() == LostReply()
    assert parse_fault("*:error:status=502,body=text,applied=true").effect() == HttpError(
        status=502, body="text", applied=True
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "route:kind"),
        ("create", "route:kind"),
        (":reset", "route:kind"),
        ("create:explode", "unknown fault kind"),
        ("nowhere:reset", "fault reset can strike"),
        ("list:status_error", "fault status_error can strike create or"),
        ("create:reset:count", "key=value"),
        ("create:reset:count=0", "count"),
        ("create:reset:count=many", "count"),
        ("create:reset:probability=2", "probability"),
        ("create:reset:after=-1", "after"),
        ("create:slow:seconds=-1", "seconds"),
        ("create:slow:apply=never", "apply"),
        ("create:slow:minutes=1", "minutes"),
        ("get:error:status=200", "status"),
    ],
)
def test_parse_fault_says_what_is_wrong(text: str, message: str) -> None:
    """A wrong text is a ValueError that names the trouble and ends with what was given."""
    with pytest.raises(ValueError, match=message) as error:
        parse_fault(text)

    assert str(error.value).endswith("'")


def test_every_route_of_the_wildcard_is_one_the_kind_can_strike() -> None:
    """The route * stands for all routes, but for creates only where nothing else makes sense."""
    everywhere = Fault(kind="slow")
    on_create = Fault(kind="status_error")

    assert all(everywhere.matches(route, "") for route in ROUTES)
    assert [route for route in ROUTES if on_create.matches(route, "")] == ["create"]


def test_count_after_and_match_choose_the_requests() -> None:
    """A rule passes the first ones, strikes as often as it says, and only its names."""
    plan = FaultPlan(
        [Fault(kind="reset", route="create", after=1, count=2, match="web")], random=Random(0)
    )

    struck = [bool(plan.strike("create", f"web-{n}")) for n in range(5)]

    assert struck == [False, True, True, False, False]
    assert not plan.strike("create", "database")
    assert not plan.strike("get", "web-1")
    assert [(rule["seen"], rule["struck"]) for rule in plan.report()] == [(5, 2)]


def test_one_outcome_a_request_but_every_other_effect() -> None:
    """The first outcome wins and the next rule keeps its count; slowness adds to either."""
    rules = [
        Fault(kind="error", count=1),
        Fault(kind="lost_reply", count=1),
        Fault(kind="slow", params={"seconds": 3}),
    ]
    plan = FaultPlan(rules, random=Random(0))

    strikes = [plan.strike("create", "") for _ in range(3)]

    slow = Slow(seconds=3)
    assert strikes == [[HttpError(), slow], [LostReply(), slow], [slow]]


def test_probability_is_repeatable_from_the_seed() -> None:
    """About the given share is struck, and the same requests for the same seed."""

    def struck(seed: int) -> list[bool]:
        plan = FaultPlan([Fault(kind="reset", probability=0.3)], random=Random(seed))
        return [bool(plan.strike("get", "")) for _ in range(1000)]

    assert struck(1) == struck(1)
    assert struck(1) != struck(2)
    assert 200 < sum(struck(1)) < 400


def test_settings_come_from_toml_and_json(tmp_path: Path) -> None:
    """Both forms give the same settings, and what they leave out is default."""
    toml = tmp_path / "sim.toml"
    toml.write_text(
        """
        latency = 0.25
        [durations]
        pulling = 7
        [[faults]]
        kind = "slow"
        route = "list"
        params = { seconds = 2 }
        [[clusters]]
        id = "xx-1"
        name = "XX-01 (Nowhere)"
        """
    )
    other = tmp_path / "sim.json"
    other.write_text(
        json.dumps(
            {
                "latency": 0.25,
                "durations": {"pulling": 7},
                "faults": [{"kind": "slow", "route": "list", "params": {"seconds": 2}}],
                "clusters": [{"id": "xx-1", "name": "XX-01 (Nowhere)"}],
            }
        )
    )

    settings = load_settings(toml)

    assert settings == load_settings(other)
    assert settings.durations == StatusDurations(pulling=7)
    assert [cluster.region for cluster in settings.clusters] == ["XX-01"]
    assert settings.products == SimulatorSettings().products


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sim.toml", "latency = [", "sim.toml"),
        ("sim.json", "{", "sim.json"),
        ("sim.json", '{"latncy": 1}', "latncy"),
        ("sim.json", '{"durations": {"pulling": -1}}', "pulling"),
        ("sim.json", '{"faults": [{"kind": "explode"}]}', "unknown fault kind"),
        ("sim.json", '{"not_found": 500}', "not_found"),
    ],
)
def test_wrong_settings_name_the_fault_and_the_file(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    """A file that cannot be used is one ValueError with the reason and the path."""
    path = tmp_path / name
    path.write_text(content)

    with pytest.raises(ValueError, match=message) as error:
        load_settings(path)

    assert str(path) in str(error.value)


def test_the_key_is_not_shown() -> None:
    """The settings' repr leaves the API key out."""
    settings = SimulatorSettings(api_key="very-secret")

    assert "very-secret" not in repr(settings)
    assert "latency=0.0" in repr(settings)


def test_the_catalogue_has_the_provider_s_traps() -> None:
    """Both region forms, prices as text and number, an unavailable product, spot price "0"."""
    products = msgspec.to_builtins(SimulatorSettings().products)

    regions = {region for product in products for region in product["regions"]}
    assert {"US-CA-06", "US-CA-06 (California)"} <= regions
    assert {type(product["price"]) for product in products} == {str, int}
    assert min(products, key=lambda p: int(p["spotPrice"]) or 10**9)["availableDeploy"] is False
    assert "0" in {product["spotPrice"] for product in products}
