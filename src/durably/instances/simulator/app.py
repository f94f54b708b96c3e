"""The simulator's routes: the provider's API, the applications in its instances, the control.

The API lives under the provider's own path and needs the key. ``/app`` is what runs inside the
instances. ``/control`` is for tests and demonstrations and answers to loopback only.
"""

import asyncio
import contextlib
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias, TypeVar

import msgspec
from aiohttp import web

from durably.instances.simulator.faults import (
    CreateEffect,
    Effect,
    Fault,
    FaultPlan,
    Outcome,
    Slow,
    is_applied,
)
from durably.instances.simulator.instance import Instance
from durably.instances.simulator.replies import failure, is_connected, json_reply, spoilt
from durably.instances.simulator.requests import (
    CreateRequest,
    InstanceRequest,
    ProviderError,
    decode,
    page_parameter,
)
from durably.instances.simulator.settings import SimulatorSettings
from durably.instances.simulator.state import Account
from durably.instances.simulator.wire import billing_json, instance_json, state_json

API_PATH = "/gpu-instance/openapi/v1"

_log = logging.getLogger(__name__)
_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as the answers see it: parameters of query and path, body, effects on a create."""

    parameters: Mapping[str, str]
    body: bytes
    effects: tuple[CreateEffect, ...]

    def get(self, key: str) -> str:
        """A parameter; empty if it is not given."""
        return self.parameters.get(key, "")


class Created(msgspec.Struct, frozen=True):
    """Answer to an accepted create."""

    id: str


_Answer: TypeAlias = Callable[[Call], object]


class ProviderApp:
    """The simulated provider as a web application; ``address`` is set once it is bound."""

    def __init__(self, settings: SimulatorSettings, *, now: Callable[[], float]) -> None:
        self.address = ""
        self._settings = settings
        self._now = now
        self._stopping = asyncio.Event()
        self._begin()

    def application(self) -> web.Application:
        """All the routes."""
        app = web.Application(middlewares=[_envelope_and_log])
        app.on_shutdown.append(self._stop)
        for name, path, answer in self._queries():
            app.router.add_get(API_PATH + path, self._route(name, answer), allow_head=False)
        for name, answer in self._commands():
            app.router.add_post(f"{API_PATH}/gpu/instance/{name}", self._route(name, answer))
        probe = self._route("app", self._probe, bearer=False)
        app.router.add_get("/app/{instanceId}/{port:[0-9]{1,5}}", probe)
        app.router.add_get("/control/state", _control(self._state))
        app.router.add_get("/control/billing", _control(self._billing))
        app.router.add_get("/control/faults", _control(self._faults))
        app.router.add_post("/control/faults", _control(self._add_faults))
        app.router.add_delete("/control/faults", _control(self._clear_faults))
        app.router.add_post("/control/reset", _control(self._reset))
        return app

    def _begin(self) -> None:
        settings = self._settings
        # One stream each, so that a fault more or less does not change the ids.
        self._account = Account(settings, now=self._now, random=_seeded(settings.seed))
        self._plan = FaultPlan(settings.faults, random=_seeded(settings.seed + 1))

    def _queries(self) -> tuple[tuple[str, str, _Answer], ...]:
        return (
            ("clusters", "/clusters", lambda _: {"data": self._settings.clusters}),
            ("products", "/products", self._products),
            ("list", "/gpu/instances", self._list),
            ("get", "/gpu/instance", self._get),
            ("templates", "/templates", self._templates),
            ("template", "/template", self._template),
            ("auths", "/repository/auths", self._auths),
            ("jobs", "/jobs", lambda _: {"jobs": [], "total": 0}),
        )

    def _commands(self) -> tuple[tuple[str, _Answer], ...]:
        return (
            ("create", self._create),
            ("start", self._change(Account.start)),
            ("stop", self._change(Account.stop)),
            ("restart", self._change(Account.restart)),
            ("delete", self._change(Account.delete)),
            ("migrate", self._change(Account.migrate)),
        )

    def _route(self, name: str, answer: _Answer, *, bearer: bool = True) -> _Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            if bearer and not _has_bearer(request, self._settings.api_key):
                return failure(401, "UNAUTHORIZED", "missing or wrong API key")
            body = await request.read()
            parameters = {**request.query, **request.match_info}
            effects = self._plan.strike(name, self._subject(parameters, body))
            on_create = tuple(effect for effect in effects if isinstance(effect, CreateEffect))
            call = Call(parameters=parameters, body=body, effects=on_create)
            return await self._serve(request, lambda: answer(call), effects)

        return handle

    async def _serve(
        self, request: web.Request, answer: Callable[[], object], effects: Sequence[Effect]
    ) -> web.StreamResponse:
        outcome = next((effect for effect in effects if isinstance(effect, Outcome)), None)
        slow = [effect for effect in effects if isinstance(effect, Slow)]
        before = sum(effect.seconds for effect in slow if effect.apply == "end")
        await self._wait(self._settings.latency + before)
        result = _attempt(answer) if is_applied(outcome) else None
        await self._wait(sum(effect.seconds for effect in slow if effect.apply == "start"))
        return spoilt(request, outcome) or self._reply(request, result)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _stop(self, _app: web.Application) -> None:
        # A caller that gave up does not end its request: the wait has to.
        self._stopping.set()

    def _reply(self, request: web.Request, result: object) -> web.StreamResponse:
        if isinstance(result, ProviderError):
            return failure(result.status, result.code, result.message)
        if isinstance(result, Created) and is_connected(request):
            self._account.mark_replied(result.id)
        return json_reply(result)

    def _subject(self, parameters: Mapping[str, str], body: bytes) -> str:
        """Name of the instance that a request is about, for the faults' ``match``."""
        fields = {**parameters, **_fields(body)}
        instance = self._account.instances.get(str(fields.get("instanceId")))
        return instance.request.name if instance else str(fields.get("name", ""))

    def _products(self, call: Call) -> object:
        found = self._account.products(
            cluster_id=call.get("clusterId"),
            gpu_num=page_parameter(call.parameters, "gpuNum", 0),
            name=call.get("productName"),
            billing_mode=call.get("billingMethod") or "onDemand",
        )
        return {"data": found}

    def _create(self, call: Call) -> object:
        return Created(self._account.create(decode(call.body, CreateRequest), call.effects))

    def _list(self, call: Call) -> object:
        found = self._account.listed(
            name=call.get("name"), product_name=call.get("productName"), status=call.get("status")
        )
        page = [self._shown(instance) for instance in self._page(call, found)]
        return {"instances": page, "total": len(found)}

    def _get(self, call: Call) -> object:
        return self._shown(self._account.find(call.get("instanceId")))

    def _shown(self, instance: Instance) -> dict[str, object]:
        return instance_json(instance, now=self._now(), address=self.address)

    def _change(self, change: Callable[[Account, str], None]) -> _Answer:
        def answer(call: Call) -> object:
            change(self._account, decode(call.body, InstanceRequest).instance_id)
            return {}

        return answer

    def _templates(self, call: Call) -> object:
        templates = self._settings.templates
        return {
            "template": self._page(call, templates),
            "pageSize": self._page_size(call),
            "pageNum": page_parameter(call.parameters, "pageNum", 0),
            "total": len(templates),
        }

    def _template(self, call: Call) -> object:
        return {"template": self._account.template(call.get("templateId"))}

    def _auths(self, _call: Call) -> object:
        logins = self._settings.registry_auths
        return {"data": [{**msgspec.structs.asdict(a), "password": "******"} for a in logins]}

    def _probe(self, call: Call) -> object:
        self._account.probe(call.get("instanceId"), int(call.get("port")))
        return {"status": "ok"}

    def _page(self, call: Call, items: Sequence[T]) -> Sequence[T]:
        number = page_parameter(call.parameters, "pageNum", 0)
        size = self._page_size(call)
        start = max(0, number - self._settings.first_page) * size
        return items[start : start + size]

    def _page_size(self, call: Call) -> int:
        return page_parameter(call.parameters, "pageSize", 0) or self._settings.page_size

    def _state(self, _body: bytes) -> object:
        instances = self._account.instances.values()
        return state_json(instances, now=self._now(), address=self.address)

    def _billing(self, _body: bytes) -> object:
        return billing_json(self._account, now=self._now())

    def _faults(self, _body: bytes) -> object:
        return self._plan.report()

    def _add_faults(self, body: bytes) -> object:
        self._plan.add(decode(body, list[Fault]))
        return self._plan.report()

    def _clear_faults(self, _body: bytes) -> object:
        self._plan.clear()
        return []

    def _reset(self, _body: bytes) -> object:
        self._begin()
        return {}


def _control(answer: Callable[[bytes], object]) -> _Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        if not request.remote or not ipaddress.ip_address(request.remote).is_loopback:
            return failure(403, "FORBIDDEN", "control answers to loopback only")
        body = await request.read()
        result = _attempt(lambda: answer(body))
        if isinstance(result, ProviderError):
            return failure(result.status, result.code, result.message)
        return json_reply(result)

    return handle


@web.middleware
async def _envelope_and_log(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
    except web.HTTPException as error:
        code = error.reason.upper().replace(" ", "_")
        response = failure(error.status, code, f"{error.reason}: {request.method} {request.path}")
    outcome = response.status if is_connected(request) else "no answer"
    _log.info("%s %s: %s", request.method, request.path, outcome)
    return response


def _attempt(answer: Callable[[], object]) -> object:
    """The value of an answer, or the error that it raised."""
    try:
        return answer()
    except ProviderError as error:
        return error


def _has_bearer(request: web.Request, key: str) -> bool:
    given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
    return hmac.compare_digest(given, f"Bearer {key}".encode())


def _fields(body: bytes) -> dict[str, object]:
    """The fields of a JSON object; none of anything else."""
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - a run must be repeatable from its seed, not secret
