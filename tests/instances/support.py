"""The whole instance service in one process: simulator, client, queue, service, receiver."""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from standardwebhooks import Webhook

from durably import JobQueueService
from durably.instances import (
    Instance,
    InstanceRequest,
    InstanceStatus,
    JobWorkerService,
    NovitaClient,
)
from durably.instances.simulator import Simulator, SimulatorSettings, StatusDurations, parse_fault
from durably.store import Store
from durably.testing import until

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
LONG_S = 30.0
"""How long anything may take on a machine that is busy with other things."""
FAST = StatusDurations(
    to_create=0.02,
    creating=0.02,
    pulling=0.05,
    requested=0.01,
    starting=0.03,
    stopping=0.02,
    restarting=0.02,
    removing=0.02,
    migrating=0.02,
)
REQUEST = InstanceRequest(name="web-1", product_name="RTX 4090 24GB", template_id="bare")
FAST_SERVICE: dict[str, Any] = {
    "poll_interval": 0.05,
    "max_wait_time": 20.0,
    "retry_base_delay": 0.05,
    "reconcile_interval": 3_600.0,
    "novita_timeout": 0.4,
    "webhook_secret": SECRET,
    "webhook_allow": ("127.0.0.1",),
}


class Receiver:
    """Takes webhooks, refuses those whose signature is wrong, and answers as told."""

    def __init__(self) -> None:
        self.url = ""
        self.events: list[dict[str, Any]] = []
        """Every verified post, with the header ``webhook-id`` as ``id`` and its answer's status."""
        self.arrived = 0
        """Posts that have come, answered or not."""
        self.answers: list[int] = []
        """Statuses of the next answers; 204 when there are none."""
        self.refused: set[str] = set()
        """Types of events that are answered by 500."""
        self.hold: Callable[[], Awaitable[None]] | None = None
        self.unverified = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.arrived += 1
        body = await request.text()
        try:
            event = Webhook(SECRET).verify(body, dict(request.headers))
        except Exception:
            self.unverified += 1
            raise
        status = self.answers.pop(0) if self.answers else 204
        if event.get("type") in self.refused:
            status = 500
        told = {"id": request.headers["webhook-id"], "answer": status, **event}
        if self.hold is not None:
            await self.hold()
        self.events.append(told)
        return web.Response(status=status)

    def types(self) -> list[str]:
        """The types of the events that were taken, in the order of arrival, without `instance.`."""
        return [
            event["type"].removeprefix("instance.")
            for event in self.events
            if event["answer"] < 300
        ]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with RawTestServer(receiver.handle) as server:
        receiver.url = str(server.make_url("/hook"))
        yield receiver
        assert receiver.unverified == 0


class World:
    """One service and what it works with."""

    def __init__(
        self,
        simulator: Simulator,
        session: aiohttp.ClientSession,
        queue: JobQueueService,
        provider: NovitaClient,
        service: JobWorkerService,
        receiver: Receiver,
    ) -> None:
        self.simulator = simulator
        self.queue = queue
        self.provider = provider
        self.service = service
        self.receiver = receiver
        self._session = session

    async def create(self, **changes: Any) -> Instance:
        """Ask for an instance that tells the receiver of its events."""
        request = msgspec.structs.replace(REQUEST, webhook_url=self.receiver.url)
        return await self.service.create_instance(msgspec.structs.replace(request, **changes))

    async def get(self, instance: Instance) -> Instance:
        found = await self.service.get(instance.id)
        assert found is not None
        return found

    async def reaches(self, instance: Instance, *statuses: InstanceStatus) -> Instance:
        """The instance once it has one of *statuses* and nothing is being done to it."""

        async def reached() -> bool:
            found = await self.get(instance)
            return found.status in statuses and found.operation is None

        await until(reached, timeout=LONG_S)
        return await self.get(instance)

    async def hears(self, *types: str) -> None:
        """Wait until the receiver has taken exactly these events, in this order."""
        await until(lambda: len(self.receiver.types()) >= len(types), timeout=LONG_S)
        assert self.receiver.types() == list(types)

    async def delivers_all(self, instance: Instance) -> None:
        """Wait until no delivery of the instance is pending."""

        async def delivered() -> bool:
            return all(d.status != "pending" for d in await self.service.deliveries(instance.id))

        await until(delivered, timeout=LONG_S)

    async def control(self, path: str, body: object = None, *, method: str = "GET") -> Any:
        url = f"{self.simulator.control_url}/{path}"
        async with self._session.request(method, url, json=body) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def faults(self, *texts: str) -> None:
        """Put faults into force, in the simulator's text form."""
        rules = [msgspec.to_builtins(parse_fault(text)) for text in texts]
        await self.control("faults", rules, method="POST")

    async def upstream(self) -> list[dict[str, Any]]:
        """The instances that exist upstream."""
        state = await self.control("state")
        return [one for one in state["instances"] if one["status"] != "removed"]

    async def creates(self) -> int:
        """How many create calls the provider has carried out."""
        return int((await self.control("billing"))["created"])

    async def calls(self, route: str) -> int:
        """How many requests to a route a rule has seen that was put in force by `watch`."""
        rules = await self.control("faults")
        return int(next(rule["seen"] for rule in rules if rule["route"] == route))

    async def watch(self, route: str) -> None:
        """Count the requests to a route from now on."""
        await self.faults(f"{route}:slow:seconds=0")


@asynccontextmanager
async def serving(
    simulator: SimulatorSettings | None = None,
    *,
    store: str | Store = "memory://",
    started: bool = True,
    concurrency: int = 8,
    faults: Sequence[str] = (),
    **options: Any,
) -> AsyncIterator[World]:
    """A service on a simulator of its own; *options* are the service's."""
    settings = simulator or SimulatorSettings(durations=FAST)
    settings = msgspec.structs.replace(
        settings, faults=(*settings.faults, *map(parse_fault, faults))
    )
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        running = await stack.enter_async_context(Simulator(settings))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        provider = NovitaClient(settings.api_key, base_url=running.base_url, timeout=5.0)
        stack.push_async_callback(provider.close)
        queue = await stack.enter_async_context(
            JobQueueService(store, concurrency=concurrency, processing_interval=0.05)
        )
        service = JobWorkerService(queue, provider=provider, **{**FAST_SERVICE, **options})
        if started:
            await service.start()
        stack.push_async_callback(service.stop)
        yield World(running, session, queue, provider, service, receiver)
