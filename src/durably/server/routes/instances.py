"""GPU instances: ask for one, list, look at, start, stop, delete."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import QueryParameter

from durably import Changeset, VersionConflictError
from durably.instances import Instance, ValidationError
from durably.server.answers import answer, entity, problems
from durably.server.auth import Role, require
from durably.server.errors import invalid
from durably.server.idempotency import Key
from durably.server.parameters import (
    AfterRecord,
    IdempotencyKey,
    IfNoneMatch,
    InstanceId,
    no_other_query,
)
from durably.server.schemas import (
    InstanceAccepted,
    InstanceBody,
    InstanceDetail,
    InstancePage,
    InstanceView,
    instance_fields,
)
from durably.server.service import Service, origin_of, service_of
from durably.server.validation import decode_object, unknown_fields, with_integers
from durably.server.views.instances import instance_detail, instance_page

_operator = [require(Role.OPERATOR)]
_viewer = [require(Role.VIEWER)]
_EXAMPLE = {
    "name": "my-gpu",
    "productName": "RTX 4090 24GB",
    "templateId": "pytorch-serve",
    "gpuNum": 1,
    "rootfsSize": 60,
    "region": "CN-HK-01",
}


@post(
    "/api/instances",
    status_code=202,
    guards=_operator,
    summary="Ask for an instance",
    responses=problems(400, 413, 415, 422),
    opt={"body": InstanceBody, "example": _EXAMPLE},
)
async def create_instance(
    request: Request[Any, Any, Any], idempotency_key: IdempotencyKey = None
) -> Response[InstanceAccepted]:
    """Record and job are durable when answered. A repeated Idempotency-Key gets the same answer."""
    service, origin = service_of(request), origin_of(request)
    raw = with_integers(decode_object(await request.body()), "templateId", "gpuNum", "rootfsSize")
    key = None
    if idempotency_key is not None:
        key = Key(idempotency_key, origin=origin, route="POST /api/instances", raw=raw)
    kept = await service.keys.find(key)
    while kept is None:
        instance, changes = await _prepared(service, raw)
        accepted = InstanceAccepted(
            instance_id=instance.id,
            status=instance.status,
            job_id=instance.jobs["create_instance"],
            message="the instance is being created; its status tells how far it is",
            estimated_ready_time=await service.estimate.ready_time(instance.created_at),
        )
        origin.note(changes, "instance.create", instance.id, name=instance.name)
        service.keys.keep(changes, key, accepted)
        try:
            await service.queue.commit(changes)
        except VersionConflictError:  # the same key was quicker
            kept = await service.keys.find(key)
        else:
            kept = msgspec.to_builtins(accepted)
    location = f"/api/instances/{kept['instanceId']}"
    headers = {"Location": location, **_retry_after(service)}
    return answer(msgspec.convert(kept, InstanceAccepted), status=202, headers=headers)


async def _prepared(service: Service, raw: dict[str, Any]) -> tuple[Instance, Changeset]:
    """The instance and its changes; every fault at once."""
    faults = unknown_fields(raw, InstanceBody)
    try:
        prepared = await service.instances.prepare_instance(raw)
    except ValidationError as error:
        faults += error.faults
    else:
        if not faults:
            return prepared
    raise invalid(*faults)


@get(
    "/api/instances",
    guards=_viewer,
    summary="List instances",
    responses=problems(400),
)
async def list_instances(
    request: Request[Any, Any, Any],
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 50,
    after: AfterRecord = None,
) -> Response[InstancePage]:
    """Newest first, terminated ones included."""
    no_other_query(request, "limit", "after")
    return answer(await instance_page(service_of(request), limit=limit, after=after))


@get(
    "/api/instances/{instance_id:str}",
    guards=_viewer,
    summary="Look at an instance",
    responses=problems(404),
    opt={"may_be_304": True},
)
async def get_instance(
    request: Request[Any, Any, Any], instance_id: InstanceId, if_none_match: IfNoneMatch = None
) -> Response[InstanceDetail]:
    """With `lastError`, its timeline and its webhooks."""
    service = service_of(request)
    detail = await instance_detail(service, instance_id)
    headers = _retry_after(service) if detail.operation is not None else {}
    return entity(detail, if_none_match, **headers)


@delete(
    "/api/instances/{instance_id:str}",
    status_code=202,
    guards=_operator,
    summary="Delete an instance",
    responses=problems(404),
)
async def delete_instance(
    request: Request[Any, Any, Any], instance_id: InstanceId
) -> Response[InstanceView]:
    """In every status, and again. What is being done to it is called off."""
    change = service_of(request).instances.delete_instance
    return await _change(request, instance_id, "instance.delete", change)


@post(
    "/api/instances/{instance_id:str}/start",
    status_code=202,
    guards=_operator,
    summary="Start a stopped instance",
    responses=problems(404, 409),
)
async def start_instance(
    request: Request[Any, Any, Any], instance_id: InstanceId
) -> Response[InstanceView]:
    """Of one that is stopped, or that has failed and exists upstream."""
    change = service_of(request).instances.start_instance
    return await _change(request, instance_id, "instance.start", change)


@post(
    "/api/instances/{instance_id:str}/stop",
    status_code=202,
    guards=_operator,
    summary="Stop a ready instance",
    responses=problems(404, 409),
)
async def stop_instance(
    request: Request[Any, Any, Any], instance_id: InstanceId
) -> Response[InstanceView]:
    """It can be started again."""
    change = service_of(request).instances.stop_instance
    return await _change(request, instance_id, "instance.stop", change)


async def _change(
    request: Request[Any, Any, Any],
    instance_id: str,
    action: str,
    change: Callable[..., Awaitable[Instance]],
) -> Response[InstanceView]:
    service, origin = service_of(request), origin_of(request)
    instance = await change(
        instance_id, note=lambda changes: origin.note(changes, action, instance_id)
    )
    headers = {"Location": f"/api/instances/{instance.id}", **_retry_after(service)}
    shown = InstanceView(**instance_fields(instance, service.now()))
    return answer(shown, status=202, headers=headers)


def _retry_after(service: Service) -> dict[str, str]:
    return {"Retry-After": str(max(1, round(service.instances.poll_interval)))}


HANDLERS = [
    create_instance,
    list_instances,
    get_instance,
    delete_instance,
    start_instance,
    stop_instance,
]
