"""What there is to rent, over HTTP, on a simulated provider."""

import asyncio
from pathlib import Path

import msgspec
from tests.instances.support import FAST
from tests.server.processes import Server
from tests.server.support import Api, running

from durably.instances import NovitaClient
from durably.instances.simulator import SimulatorSettings
from durably.instances.simulator.catalogue import Product

PRODUCTS = (
    Product(
        id="4090.16c",
        name="RTX 4090 24GB",
        cpu_per_gpu=16,
        memory_per_gpu=62,
        regions=("US-CA-06 (California)", "CN-HK-01"),
        price="67000",
        spot_price="35000",
    ),
    Product(
        id="h100",
        name="H100",
        cpu_per_gpu=20,
        memory_per_gpu=200,
        regions=("EU-DE-01",),
        price=250_000,
        available_deploy=False,
        billing_methods=("onDemand", "monthly"),
    ),
)
SETTINGS = SimulatorSettings(durations=FAST, products=PRODUCTS)


async def test_the_catalogue_has_products_with_prices_and_regions() -> None:
    """USD per GPU and hour, null where it is not offered; what cannot be rented now is there too."""
    async with running(simulator=SETTINGS, started=False, novita_timeout=30.0) as api:
        answer = await api.get("/api/catalogue")
    assert answer.status == 200
    assert answer.json == {
        "products": [
            {
                "id": "h100",
                "name": "H100",
                "regions": ["EU-DE-01"],
                "available": False,
                "spotPrice": None,
                "onDemandPrice": 2.5,
                "gpuMemory": None,
                "cpus": 20,
                "memory": 200,
            },
            {
                "id": "4090.16c",
                "name": "RTX 4090 24GB",
                "regions": ["US-CA-06", "CN-HK-01"],
                "available": True,
                "spotPrice": 0.35,
                "onDemandPrice": 0.67,
                "gpuMemory": 24,
                "cpus": 16,
                "memory": 62,
            },
        ],
        "regions": ["CN-HK-01", "EU-DE-01", "US-CA-06"],
    }


async def seen(api: Api) -> int:
    return await api.world.calls("products")


async def test_all_callers_share_one_reading() -> None:
    """Ten at once and one later cost the provider two requests: one for each way to pay."""
    async with running(started=False, novita_timeout=30.0) as api:
        await api.world.watch("products")
        answers = await asyncio.gather(*(api.get("/api/catalogue") for _ in range(10)))
        answers.append(await api.get("/api/catalogue"))
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) == 1
        assert await seen(api) == 2


async def test_a_provider_in_trouble_is_a_clear_problem() -> None:
    """503 with its code and Retry-After; those who wait together are told together."""
    faults = ("products:rate_limit:retry_after=20",)
    async with running(started=False, faults=faults, novita_timeout=30.0) as api:
        await api.world.watch("products")
        answers = await asyncio.gather(*(api.get("/api/catalogue") for _ in range(5)))
        for answer in answers:
            told = answer.problem(503, "provider_unavailable")
            assert "429" in told["detail"]
            assert answer.headers["Retry-After"] == "20"
        assert await seen(api) == 1


async def test_a_provider_that_is_silent_is_not_waited_for_for_ever() -> None:
    """The time limit of a call to the provider is that of the whole answer."""
    async with running(started=False, faults=("products:slow:seconds=20",)) as api:
        answer = await api.get("/api/catalogue")
        told = answer.problem(503, "provider_unavailable")
        assert "within 0.4 s" in told["detail"]


async def test_a_key_that_the_provider_refuses_is_said_to_be_the_reason() -> None:
    """503 with another code, and never the key."""
    async with running(started=False, novita_timeout=30.0) as api:
        url = api.world.simulator.base_url
        stranger = NovitaClient("wrong-key-1234", base_url=url)
        api.world.service._catalogue._provider = stranger
        answer = await api.get("/api/catalogue")
        await stranger.close()
        answer.problem(503, "provider_unauthorized")
        assert b"wrong-key" not in answer.body


async def test_a_server_without_workers_and_key_has_no_provider(tmp_path: Path) -> None:
    """503 that says so: nobody is asked."""
    async with (
        Server("--no-worker", folder=tmp_path) as server,
        server.session.get("/api/catalogue") as answer,
    ):
        told = msgspec.json.decode(await answer.read())
        assert (answer.status, told["code"]) == (503, "provider_unauthorized")
        assert "this process has no key of the provider" in told["detail"]
