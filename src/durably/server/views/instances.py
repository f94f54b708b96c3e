"""GPU instances and their webhooks, as the API and the dashboard's pages show them."""

import msgspec

from durably.instances import (
    DeliveryStatus,
    DisabledTarget,
    InstanceNotFoundError,
    WebhookDelivery,
)
from durably.server.schemas import (
    DeliveriesView,
    InstanceDetail,
    InstancePage,
    InstanceView,
    instance_fields,
    timeline_event,
)
from durably.server.service import Service

_EVENTS_MOST = 1_000
"""Of one timeline; later ones are in the event stream."""
_PAGE_BYTES = 8_388_608
"""A page of deliveries is cut short beyond this."""


class WebhooksView(DeliveriesView, frozen=True, kw_only=True, rename="camel"):
    """A page of deliveries, and the targets that are sent nothing."""

    targets: list[DisabledTarget]


async def instance_page(service: Service, *, limit: int, after: str | None = None) -> InstancePage:
    """A page of instances, newest first."""
    page = await service.instances.list(limit=limit, after=after)
    now = service.now()
    return InstancePage(
        instances=[InstanceView(**instance_fields(one, now)) for one in page.instances],
        total=page.total,
        next_cursor=page.next_cursor or msgspec.UNSET,
    )


async def instance_detail(service: Service, instance_id: str) -> InstanceDetail:
    """One instance, with its timeline and webhooks. InstanceNotFoundError."""
    instance = await service.instances.get(instance_id)
    if instance is None:
        raise InstanceNotFoundError(instance_id)
    events = await service.queue.get_events(subject=instance_id, limit=_EVENTS_MOST)
    return InstanceDetail(
        **instance_fields(instance, service.now()),
        timeline=[timeline_event(event, service.redactor) for event in events],
        deliveries=[
            service.delivery(one) for one in await service.instances.deliveries(instance_id)
        ],
    )


async def delivery_page(
    service: Service, *, status: DeliveryStatus | None, limit: int, after: str | None = None
) -> DeliveriesView:
    """A page of deliveries, those of the newest instances first."""
    page = await service.instances.list_deliveries(status=status, limit=limit, after=after)
    cursor, size = page.next_cursor, 0
    shown: list[WebhookDelivery] = []
    for delivery in map(service.delivery, page.deliveries):
        size += len(msgspec.json.encode(delivery))
        if shown and size > _PAGE_BYTES:
            cursor = shown[-1].id
            break
        shown.append(delivery)
    return DeliveriesView(deliveries=shown, next_cursor=cursor or msgspec.UNSET)


async def webhooks(service: Service, status: DeliveryStatus | None, *, limit: int) -> WebhooksView:
    """The page of webhooks."""
    page = await delivery_page(service, status=status, limit=limit)
    return WebhooksView(
        deliveries=page.deliveries,
        next_cursor=page.next_cursor,
        targets=await service.instances.disabled_targets(),
    )
