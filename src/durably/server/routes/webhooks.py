"""Webhooks: list deliveries, have one tried again, see and enable disabled targets."""

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.params import PathParameter, QueryParameter

from durably.instances import DeliveryStatus, WebhookDelivery
from durably.server.answers import answer, problems
from durably.server.auth import Role, require
from durably.server.parameters import AfterRecord, no_other_query
from durably.server.schemas import DeliveriesView, TargetBody, Targets
from durably.server.service import origin_of, service_of
from durably.server.validation import decode_object, fitted
from durably.server.views.instances import delivery_page

_operator = [require(Role.OPERATOR)]
_viewer = [require(Role.VIEWER)]


@get(
    "/api/webhooks",
    guards=_viewer,
    summary="List webhook deliveries",
    responses=problems(400),
)
async def list_webhooks(
    request: Request[Any, Any, Any],
    status: Annotated[DeliveryStatus | None, QueryParameter(description="Only these.")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 50,
    after: AfterRecord = None,
) -> Response[DeliveriesView]:
    """Those of the newest instances first, with every attempt.

    A page looks at 2,000 deliveries at most: with `status` it may be short, or empty, and not be the
    last.
    """
    no_other_query(request, "status", "limit", "after")
    page = await delivery_page(service_of(request), status=status, limit=limit, after=after)
    return answer(page)


@post(
    "/api/webhooks/{delivery_id:str}/retry",
    status_code=202,
    guards=_operator,
    summary="Try a webhook again",
    responses=problems(404, 409),
)
async def retry_webhook(
    request: Request[Any, Any, Any],
    delivery_id: Annotated[str, PathParameter(description="The id of the delivery.")],
) -> Response[WebhookDelivery]:
    """Of one that has ended undelivered, even if its target is disabled; `Location` is its job."""
    service, origin = service_of(request), origin_of(request)
    delivery = await service.instances.retry_delivery(
        delivery_id, note=lambda changes: origin.note(changes, "webhook.retry", delivery_id)
    )
    headers = {"Location": f"/api/jobs/{delivery.job_id}", "Retry-After": "1"}
    return answer(service.delivery(delivery), status=202, headers=headers)


@get(
    "/api/webhooks/targets",
    guards=_viewer,
    summary="List disabled targets",
    responses=problems(),
)
async def list_targets(request: Request[Any, Any, Any]) -> Response[Targets]:
    """Those that have answered 410 Gone and are sent nothing, the latest first; up to 1,000."""
    return answer(Targets(targets=await service_of(request).instances.disabled_targets()))


@post(
    "/api/webhooks/targets/enable",
    status_code=200,
    guards=_operator,
    summary="Enable a disabled target",
    responses=problems(400, 404, 413, 415),
    opt={"body": TargetBody, "example": {"url": "https://example.org/hook"}},
)
async def enable_target(request: Request[Any, Any, Any]) -> Response[Targets]:
    """It is sent what is told from now on; the answer is what is disabled still."""
    service, origin = service_of(request), origin_of(request)
    url = fitted(decode_object(await request.body()), TargetBody).url
    await service.instances.enable_target(
        url, note=lambda changes: origin.note(changes, "webhook.enable", url)
    )
    return answer(Targets(targets=await service.instances.disabled_targets()))


HANDLERS = [list_webhooks, retry_webhook, list_targets, enable_target]
