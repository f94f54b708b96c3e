"""What goes over the wire: camelCase, times as RFC 3339. Values only."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from durably import Event, Job, JobStatus, QueueStats
from durably.instances import (
    BillingMode,
    DisabledTarget,
    Instance,
    InstanceStatus,
    Operation,
    WebhookDelivery,
)
from durably.instances.events import InstanceEvent
from durably.instances.instance import HealthCheck
from durably.instances.provider import PortMapping
from durably.server.audit import AuditEntry
from durably.server.redaction import Redactor

NO_NUL = r"^[^\x00]*$"
_NOT_BLANK = r"^[^\x00]*[^\s\x00][^\x00]*$"
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_NUL)]
QueueName = Annotated[str, Meta(min_length=1, max_length=100, pattern=NO_NUL)]
Tag = Annotated[str, Meta(min_length=1, max_length=100, pattern=NO_NUL)]
NextCursor = (
    Annotated[str, Meta(description="The after of the next page; absent on the last.")]
    | msgspec.UnsetType
)
HUNDRED_YEARS_S = 3_155_760_000


class JobBody(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """A job to be added."""

    type: Annotated[Name, Meta(description="Names the handler; it need not be known here.")]
    payload: Annotated[Any, Meta(description="What the handler gets; at most 1 MiB.")] = None
    priority: Annotated[
        int, Meta(ge=1, le=4, description="1 low, 2 normal, 3 high, 4 critical; higher runs first.")
    ] = 2
    max_attempts: (
        Annotated[int, Meta(ge=1, le=1_000_000, description="In all.  Default: 3.")] | None
    ) = None
    delay: (
        Annotated[float, Meta(ge=0, le=HUNDRED_YEARS_S, description="Seconds until it may run.")]
        | None
    ) = None
    run_at: (
        Annotated[datetime, Meta(tz=True, description="When it may run, instead of delay.")] | None
    ) = None
    queue: Annotated[QueueName, Meta(description="Which workers look.")] = "default"
    unique_key: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=500,
                pattern=NO_NUL,
                description="While a job of the type with this key is pending or processing, that "
                "one is answered and nothing is added.",
            ),
        ]
        | None
    ) = None
    tags: Annotated[tuple[Tag, ...], Meta(max_length=50)] = ()


class RetryBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a finished job is to run again."""

    payload: Annotated[
        Any, Meta(description="Instead of the old one, whose steps are then forgotten.")
    ] = msgspec.UNSET


class JobView(Job, frozen=True, kw_only=True):
    """A job."""

    scheduled: Annotated[bool, Meta(description="Whether it is pending and its time has not come.")]


class JobPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of jobs, highest priority first, then oldest; without tracebacks."""

    jobs: list[JobView]
    next_cursor: NextCursor = msgspec.UNSET


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job is not running."""

    id: str
    explanation: str


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether workers claim from a queue."""

    queue: str
    paused: bool


class StatsView(QueueStats, frozen=True, kw_only=True, rename="camel"):
    """What the store holds, and rates of the last 300 s."""

    paused_queues: list[str]


class InstanceBody(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """An instance that is asked for. What is null has its default."""

    name: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_-]+$")]
    product_name: Annotated[
        str,
        Meta(
            min_length=1, max_length=200, pattern=_NOT_BLANK, description="Such as RTX 4090 24GB."
        ),
    ]
    template_id: Annotated[
        Annotated[str, Meta(min_length=1, max_length=200, pattern=_NOT_BLANK)]
        | Annotated[int, Meta(ge=1)],
        Meta(description="A string that is not blank, or a positive integer."),
    ]
    gpu_num: Annotated[int, Meta(ge=1, le=8)] | None = 1
    rootfs_size: Annotated[int, Meta(ge=20, le=1000, description="GB.")] | None = 60
    region: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=100,
                pattern=_NOT_BLANK,
                description="Where to look for a GPU first.",
            ),
        ]
        | None
    ) = "CN-HK-01"
    webhook_url: (
        Annotated[
            str,
            Meta(
                max_length=2_048,
                pattern=r"^https?://",
                description="Gets the events. http or https, at an address that may be reached.",
            ),
        ]
        | None
    ) = None
    billing_mode: BillingMode | None = BillingMode.SPOT


class InstanceAccepted(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer to a request for an instance."""

    instance_id: str
    status: InstanceStatus
    job_id: str
    message: str
    estimated_ready_time: Annotated[
        datetime, Meta(description="After the median of the latest creations.")
    ]


class InstanceView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An instance."""

    id: str
    instance_id: Annotated[str, Meta(description="The same as id.")]
    name: str
    product_name: str
    template_id: str
    gpu_num: int
    rootfs_size: int
    region: Annotated[str, Meta(description="The preferred one.")]
    billing_mode: BillingMode
    webhook_url: str | None
    status: InstanceStatus
    operation: Annotated[Operation, Meta(description="What is being done to it.")] | None
    operation_error: (
        Annotated[str, Meta(description="What stands in the way; the operation goes on.")] | None
    )
    last_error: Annotated[str, Meta(description="Why it failed, or did not start.")] | None
    novita_instance_id: str | None
    product_id: str | None
    chosen_region: str | None
    cluster_id: str | None
    hourly_price: Annotated[float, Meta(description="USD an hour, all its GPUs.")] | None
    cost: (
        Annotated[
            float,
            Meta(
                description="USD so far, by the minute: an estimate by this service's clock, not the "
                "provider's bill."
            ),
        ]
        | None
    )
    port_mappings: tuple[PortMapping, ...]
    health_check: HealthCheck | None
    created_at: datetime
    started_at: datetime | None
    running_at: datetime | None
    ready_at: datetime | None
    failed_at: datetime | None
    stopped_at: datetime | None
    terminated_at: datetime | None
    jobs: Annotated[dict[str, str], Meta(description="Id of the last job by its type.")]


class TimelineEvent(InstanceEvent, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An event of an instance."""

    id: Annotated[int, Meta(description="As in the event stream.")]


class InstanceDetail(InstanceView, frozen=True, kw_only=True, rename="camel"):
    """An instance with what happened to it."""

    timeline: list[TimelineEvent]
    deliveries: Annotated[
        list[WebhookDelivery], Meta(description="Its webhooks, with every attempt.")
    ]


class InstancePage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of instances, newest first."""

    instances: list[InstanceView]
    total: Annotated[int, Meta(description="All there are, on whatever page.")]
    next_cursor: NextCursor = msgspec.UNSET


class DeliveriesView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of webhook deliveries, those of the newest instances first."""

    deliveries: list[WebhookDelivery]
    next_cursor: NextCursor = msgspec.UNSET


class Targets(msgspec.Struct, frozen=True, kw_only=True):
    """The disabled targets, the latest first."""

    targets: list[DisabledTarget]


class TargetBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A target."""

    url: Annotated[str, Meta(min_length=1, max_length=2_048)]


class AuditPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of the audit, newest first."""

    entries: list[AuditEntry]
    next_cursor: (
        Annotated[int, Meta(description="The after of the next page; absent on the last.")]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """That the process answers, or that it is ready."""

    status: str


def job_view(job: Job, now: datetime, redactor: Redactor, *, tracebacks: bool = True) -> JobView:
    """*job* as clients see it."""
    fields = {name: getattr(job, name) for name in Job.__struct_fields__}
    fields["payload"] = redactor.hide(job.payload)
    fields["result"] = redactor.hide(job.result)
    if not tracebacks and job.errors:
        fields["errors"] = tuple(msgspec.structs.replace(e, traceback="") for e in job.errors)
    due = job.next_retry_at or job.run_at
    waits = job.status is JobStatus.PENDING and due is not None and due > now
    return JobView(**fields, scheduled=waits)


def delivery_view(delivery: WebhookDelivery, redactor: Redactor) -> WebhookDelivery:
    """*delivery* as clients see it."""
    return msgspec.structs.replace(
        delivery,
        payload=redactor.hide(delivery.payload),
        headers=redactor.hide(delivery.headers, headers=True),
    )


def timeline_event(event: Event, redactor: Redactor) -> TimelineEvent:
    """*event* of an instance as clients see it."""
    told = msgspec.convert(event.data, InstanceEvent)
    fields = {name: getattr(told, name) for name in InstanceEvent.__struct_fields__}
    fields["data"] = redactor.hide(msgspec.to_builtins(told.data))
    return TimelineEvent(id=event.id, **fields)


def instance_fields(instance: Instance, now: datetime) -> dict[str, Any]:
    """The fields of `InstanceView` for *instance* as it is *now*."""
    return {
        **{name: getattr(instance, name) for name in _SAME},
        "instance_id": instance.id,
        "hourly_price": instance.hourly_price,
        "cost": instance.cost(now),
    }


_SAME = [name for name in InstanceView.__struct_fields__ if name in Instance.__struct_fields__]
