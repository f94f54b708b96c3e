"""The HTTP service on a real socket, with a client, around the world of the instance tests."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from tests.instances.support import World
from tests.instances.support import serving as a_world

from durably import Clock, Job, JobQueueService, SystemClock
from durably.instances import JobWorkerService
from durably.server.application import create_app
from durably.server.auth import Tokens
from durably.server.estimate import Estimate
from durably.server.history import History
from durably.server.idempotency import IdempotencyKeys
from durably.server.limits import RateLimiter
from durably.server.live import Feed
from durably.server.metrics import Metrics
from durably.server.readiness import Readiness
from durably.server.redaction import Redactor
from durably.server.service import Service
from durably.server.serving import address_of, bind, serving
from durably.server.sessions import Sessions
from durably.server.streams import EventLog
from durably.testing import until

VIEWER, OPERATOR, ADMIN = (
    "viewer-token-0123456789",
    "operator-token-012345678",
    "admin-token-0123456789",
)
TOKENS = f"viewer:{VIEWER},operator:{OPERATOR},admin:{ADMIN}"
INSTANCE = {"name": "gpu-1", "productName": "RTX 4090 24GB", "templateId": "bare"}


class Answer(msgspec.Struct, frozen=True):
    """An answer that has been read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What it says."""
        return msgspec.json.decode(self.body)

    def problem(self, status: int, code: str) -> Any:
        """Its problem details, which must have this status and code."""
        told = self.json
        assert (self.status, told["code"]) == (status, code), told
        assert self.headers["Content-Type"] == "application/problem+json"
        assert told["status"] == status
        assert told["requestId"] == self.headers["X-Request-ID"]
        assert told["detail"]
        return told

    def fields(self) -> set[str]:
        """The fields that a problem names."""
        return {error["field"] for error in self.json["errors"]}


class Api:
    """A client of a service under test."""

    def __init__(
        self, url: str, session: aiohttp.ClientSession, world: World, service: Service
    ) -> None:
        self.url = url
        self.session = session
        self.world = world
        self.queue = world.queue
        self.service = service
        self.token: str | None = None

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        """Any request; *options* are aiohttp's."""
        headers = dict(options.pop("headers", {}))
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        async with self.session.request(
            method, self.url + path, headers=headers, allow_redirects=False, **options
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, body: object = None, **options: Any) -> Answer:
        if body is not None:
            options["json"] = body
        return await self.ask("POST", path, **options)

    async def delete(self, path: str, **options: Any) -> Answer:
        return await self.ask("DELETE", path, **options)

    async def job(self, type: str = "noop", **fields: Any) -> str:
        """Add a job; its id."""
        answer = await self.post("/api/jobs", {"type": type, **fields})
        assert answer.status == 202, answer.body
        return str(answer.json["id"])

    async def final(self, job_id: str) -> Job:
        """The job once it is final."""
        return await self.queue.wait(job_id, timeout=30)

    async def instance(self, **fields: Any) -> str:
        """Ask for an instance; its id."""
        answer = await self.post("/api/instances", {**INSTANCE, **fields})
        assert answer.status == 202, answer.body
        return str(answer.json["instanceId"])

    async def reaches(self, instance_id: str, *statuses: str) -> dict[str, Any]:
        """The instance's detail once it has one of *statuses* and nothing is done to it."""
        found: dict[str, Any] = {}

        async def reached() -> bool:
            found.update((await self.get(f"/api/instances/{instance_id}")).json)
            return found["status"] in statuses and found["operation"] is None

        await until(reached, timeout=30)
        return found


@asynccontextmanager
async def service_around(
    queue: JobQueueService,
    instances: JobWorkerService,
    *,
    tokens: str = "",
    rate_limit: float = 0.0,
    workers: bool = True,
    redact: Sequence[str] = (),
    clock: Clock | None = None,
) -> AsyncIterator[Service]:
    """What the routes share, as the composition root makes it."""
    clock = clock or SystemClock()
    redactor = Redactor(redact)
    known = Tokens.parse(tokens)
    async with EventLog(queue, clock, redactor) as log, Feed(clock) as feed:
        service = Service(
            queue=queue,
            instances=instances,
            log=log,
            feed=feed,
            history=History(queue, clock),
            sessions=Sessions(b"k" * 32, known, clock),
            keys=IdempotencyKeys(queue, clock),
            estimate=Estimate(instances, clock),
            readiness=Readiness(queue, workers=workers),
            metrics=Metrics(),
            redactor=redactor,
            tokens=known,
            limiter=RateLimiter(rate_limit, clock),
            clock=clock,
        )
        yield service
        service.drain()


@asynccontextmanager
async def running(
    *,
    tokens: str = "",
    token: str | None = None,
    rate_limit: float = 0.0,
    started: bool = True,
    redact: Sequence[str] = (),
    **options: Any,
) -> AsyncIterator[Api]:
    """The service with a simulated provider; *options* are those of `tests.instances.support`."""
    async with (
        a_world(started=started, **options) as world,
        service_around(
            world.queue,
            world.service,
            tokens=tokens,
            rate_limit=rate_limit,
            workers=started,
            redact=redact,
        ) as service,
    ):
        listening = bind("127.0.0.1", 0)
        url = address_of(listening)
        async with serving(create_app(service), listening), aiohttp.ClientSession() as session:
            api = Api(url, session, world, service)
            api.token = token
            yield api
            service.drain()
