"""The payloads of the service's jobs, in the wire names of the job queue document."""

from datetime import datetime
from typing import Annotated, Any

import msgspec

from durably.instances.delivery import check_headers

CREATE = "create_instance"
MONITOR = "monitor_instance"
WEBHOOK = "send_webhook"
START = "start_instance"
STOP = "stop_instance"
DELETE = "delete_instance"


class _Payload(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Camel case on the wire, without what is absent."""


class CreateInstanceJob(_Payload, frozen=True, kw_only=True):
    """Create what the instance's record wants. The other fields tell readers; the record counts."""

    instance_id: str
    name: str | None = None
    product_name: str | None = None
    template_id: str | int | None = None
    gpu_num: int | None = None
    rootfs_size: int | None = None
    region: str | None = None
    webhook_url: str | None = None


class MonitorInstanceJob(_Payload, frozen=True, kw_only=True):
    """Watch an instance until it is ready, has failed, or has taken too long."""

    instance_id: str
    novita_instance_id: str | None = None
    """Another one than the record's ends the job; None: whichever the record has."""
    webhook_url: str | None = None
    start_time: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    """None: when the record says that it began to start."""
    max_wait_time: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Seconds from `start_time` until it must be running; None: the service's setting."""


class OperationJob(_Payload, frozen=True, kw_only=True):
    """Start, stop or delete an instance, as its record says."""

    instance_id: str


class SendWebhookJob(_Payload, frozen=True, kw_only=True):
    """Deliver a webhook."""

    url: str
    payload: dict[str, Any]
    """The body."""
    headers: dict[str, str] = {}
    """Added to the sender's own; see `durably.instances.delivery.check_headers`."""
    delivery_id: str | None = None
    """The delivery's record, which then says what is sent; None: this job is the delivery."""

    def __post_init__(self) -> None:
        check_headers(self.headers)
