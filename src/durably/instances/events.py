"""The events of an instance, and the webhook deliveries that tell of them. Values only: no I/O."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from durably import DurablyError
from durably.instances.delivery import DeliveryResult, delivery_expired
from durably.instances.instance import HealthCheck, Instance, InstanceStatus

TIMEOUT = "instance.timeout"
"""The event of a failure for lack of time; the status is ``failed``."""
CLEANED_UP = "instance.cleaned_up"
"""What a failure left upstream is deleted or stopped. On the timeline only."""
ORPHAN_DELETED = "instance.orphan_deleted"
"""An upstream instance that no record wants is being deleted. On the timeline only."""


def event_of(status: InstanceStatus) -> str:
    """The event that a change to *status* is told by."""
    return f"instance.{status}"


WEBHOOK_EVENTS = frozenset(
    {
        TIMEOUT,
        *map(
            event_of,
            (
                InstanceStatus.CREATING,
                InstanceStatus.HEALTH_CHECKING,
                InstanceStatus.READY,
                InstanceStatus.FAILED,
                InstanceStatus.STOPPED,
                InstanceStatus.TERMINATED,
            ),
        ),
    }
)
"""The events that webhooks tell of; the timeline has the others too."""
_OF_HEALTH = frozenset(
    {
        TIMEOUT,
        event_of(InstanceStatus.HEALTH_CHECKING),
        event_of(InstanceStatus.READY),
        event_of(InstanceStatus.FAILED),
    }
)


class EventData(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What an event says of its instance."""

    instance_id: str
    status: InstanceStatus | None = None
    """None where it is about an upstream instance that no record wants."""
    novita_instance_id: str | None = None
    elapsed_time: float | None = None
    """Seconds since the operation in progress, or the last one, began."""
    error: str | None = None
    health_check: HealthCheck | None = None


class InstanceEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An event as the timeline and webhooks show it."""

    type: str
    timestamp: datetime
    sequence: int | None = None
    """Counts the instance's webhook events from 1; None for those of the timeline only."""
    data: EventData


def event(type: str, instance: Instance, *, now: datetime, error: str | None) -> InstanceEvent:
    """The event *type* about *instance*, as it has become."""
    return InstanceEvent(
        type=type,
        timestamp=now,
        sequence=instance.sequence if type in WEBHOOK_EVENTS else None,
        data=EventData(
            instance_id=instance.id,
            status=instance.status,
            novita_instance_id=instance.novita_instance_id,
            elapsed_time=(now - instance.operation_at).total_seconds(),
            error=error,
            health_check=instance.health_check if type in _OF_HEALTH else None,
        ),
    )


class DeliveryNotFoundError(DurablyError, LookupError):
    """No webhook delivery has this id."""

    def __init__(self, delivery_id: str) -> None:
        super().__init__(f"no webhook delivery has the id {delivery_id[:200]!r}")


class DeliveryConflictError(DurablyError):
    """The delivery is in no state to be tried again."""


class TargetNotDisabledError(DurablyError, LookupError):
    """The target is not disabled."""

    def __init__(self) -> None:
        super().__init__("no disabled target has this url")


class DisabledTarget(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A target that has answered 410 Gone. Until a webhook that a person retries is taken."""

    url: str
    at: datetime
    """When it answered so."""


class DeliveryStatus(StrEnum):
    """Where a webhook delivery is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    EXPIRED = "expired"
    """Given up after 24 hours."""
    DISABLED = "disabled"
    """Not sent, or not again: the target has answered 410 Gone."""
    REFUSED = "refused"
    """Not sent: the target must not be reached."""


class DeliveryAttempt(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True
):
    """One attempt of a delivery."""

    at: datetime
    duration: float
    """Seconds."""
    status: int | None = None
    """The HTTP status; None when no answer came."""
    error: str | None = None
    """None when it succeeded."""
    excerpt: str = ""
    """The beginning of the answer's body."""


class WebhookDelivery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A webhook on its way, with every attempt. The id is sent as ``webhook-id``."""

    id: str
    url: str
    payload: dict[str, Any]
    headers: dict[str, str] = {}
    instance_id: str | None = None
    """None for a delivery that is no event of an instance."""
    sequence: int | None = None
    type: str | None = None
    status: DeliveryStatus = DeliveryStatus.PENDING
    attempts: tuple[DeliveryAttempt, ...] = ()
    created_at: datetime
    tried_since: datetime | None = None
    """When it was first attempted; counted anew when a person retries a final delivery."""
    next_attempt_at: datetime | None = None
    job_id: str | None = None


def delivery_id(instance_id: str, sequence: int) -> str:
    """The id of an instance's delivery; an instance's ids sort by their sequence."""
    return f"{instance_id}_{sequence:06d}"


def after_attempt(
    delivery: WebhookDelivery, result: DeliveryResult, *, at: datetime, now: datetime, delay: float
) -> WebhookDelivery:
    """*delivery* after an attempt that began *at* and ended *now*.

    Args:
        delivery: as it was before.
        result: how the attempt ended.
        at: when it began.
        now: when it ended.
        delay: seconds until the next attempt, if there is to be one.
    """
    attempt = DeliveryAttempt(
        at=at,
        duration=result.duration_s,
        status=result.status,
        error=result.error,
        excerpt=result.excerpt,
    )
    tried_since = delivery.tried_since or at
    if result.ok:
        status = DeliveryStatus.DELIVERED
    elif result.disabled:
        status = DeliveryStatus.DISABLED
    elif delivery_expired(tried_since, now):
        status = DeliveryStatus.EXPIRED
    else:
        status = DeliveryStatus.PENDING
    retried = status is DeliveryStatus.PENDING
    return msgspec.structs.replace(
        delivery,
        status=status,
        attempts=(*delivery.attempts, attempt),
        tried_since=tried_since,
        next_attempt_at=now + timedelta(seconds=delay) if retried else None,
    )
