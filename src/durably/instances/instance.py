"""What the service knows of one GPU instance, and what follows from it. Values only: no I/O."""

from datetime import datetime
from enum import StrEnum
from typing import NoReturn

import msgspec

from durably import DurablyError
from durably.instances.probes import Health, HealthReport
from durably.instances.provider import BillingMode, PortMapping


class InstanceNotFoundError(DurablyError, LookupError):
    """No instance has this id."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(f"no instance has the id {instance_id!r}")
        self.instance_id = instance_id


class InstanceConflictError(DurablyError):
    """The instance's status, or an operation in progress, does not allow what was asked."""


class InstanceStatus(StrEnum):
    """Where an instance is, as users see it."""

    CREATING = "creating"
    """Wanted; nothing is known to exist upstream."""
    STARTING = "starting"
    """It exists upstream and does not run yet."""
    RUNNING = "running"
    """Seen running upstream; passed on the way to the next status, within one commit."""
    HEALTH_CHECKING = "health_checking"
    """It runs; its ports do not all answer yet."""
    READY = "ready"
    STOPPING = "stopping"
    """Being stopped, or deleted because a user asked for it."""
    STOPPED = "stopped"
    FAILED = "failed"
    TERMINATED = "terminated"


class Operation(StrEnum):
    """What is being done to an instance: at most one thing at a time."""

    CREATE = "create"
    """From the request until it is ready."""
    START = "start"
    STOP = "stop"
    DELETE = "delete"
    CLEANUP_DELETE = "cleanup_delete"
    """Deleting upstream what a failure left behind; the record stays failed."""
    CLEANUP_STOP = "cleanup_stop"
    """Stopping it instead."""


class OnFailure(StrEnum):
    """What becomes of the upstream instance when a creation fails or times out."""

    DELETE = "delete"
    STOP = "stop"
    KEEP = "keep"

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        known = ", ".join(cls)
        raise ValueError(f"on_failure must be one of {known}, got {value!r}")


_COMING_UP = frozenset(
    {InstanceStatus.STARTING, InstanceStatus.RUNNING, InstanceStatus.HEALTH_CHECKING}
)
_DELETING = frozenset({Operation.DELETE, Operation.CLEANUP_DELETE})


class Intent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A create call as it was recorded before it was made."""

    upstream_name: str
    call: int
    """How many create calls have been recorded, this one included."""
    called_at: datetime
    sent_by: datetime | None
    """The latest moment at which a call whose outcome is unknown was sent; None: all are known."""


class EndpointHealth(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the last probe of one port found."""

    port: int
    endpoint: str
    type: str
    status: str
    """``healthy`` or ``unhealthy``."""
    last_checked: datetime
    response_time: float
    """Seconds; 0 when unhealthy."""
    error: str | None = None


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The health checks of an instance so far. Times are aware, durations seconds."""

    status: str
    """``in_progress``, ``completed`` or ``failed``."""
    overall_status: Health | None = None
    endpoints: tuple[EndpointHealth, ...] = ()
    started_at: datetime
    completed_at: datetime | None = None
    total_response_time: float = 0.0


class Instance(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An instance, as it is kept in the store. Times are aware and UTC."""

    id: str
    name: str
    product_name: str
    template_id: str
    gpu_num: int
    rootfs_size: int
    """GB."""
    region: str
    """The preferred one."""
    billing_mode: BillingMode
    webhook_url: str | None = None

    status: InstanceStatus = InstanceStatus.CREATING
    operation: Operation | None = None
    operation_at: datetime
    """When the operation in progress, or the last one, began."""
    operation_error: str | None = None
    """What stands in the way of the operation in progress; it goes on."""
    last_error: str | None = None
    """Why it failed, or did not start; None while all is well."""

    intent: Intent | None = None
    novita_instance_id: str | None = None
    upstream_gone: bool = False
    """Whether nothing of it is left upstream, as far as can be known."""
    missing_since: datetime | None = None
    """Since when the provider has denied knowing it."""
    product_id: str | None = None
    chosen_region: str | None = None
    cluster_id: str | None = None
    price_e5: int | None = None
    """In 1e-5 USD per GPU and hour."""
    billed_s: float = 0.0
    """Seconds that have been billed until `billed_since`, or in all."""
    billed_since: datetime | None = None
    """Since when it is being billed; None while it is not: there is none upstream, or it has stopped."""
    port_mappings: tuple[PortMapping, ...] = ()
    health_check: HealthCheck | None = None

    created_at: datetime
    started_at: datetime | None = None
    """When it was first known to exist upstream, or was last asked to start."""
    running_at: datetime | None = None
    ready_at: datetime | None = None
    failed_at: datetime | None = None
    stopped_at: datetime | None = None
    terminated_at: datetime | None = None

    sequence: int = 0
    """Of the last event that webhooks tell of."""
    jobs: dict[str, str] = {}
    """Id of the last job by its type."""

    @property
    def awaits_creation(self) -> bool:
        """Whether an upstream instance is wanted and none is known."""
        return self.operation is Operation.CREATE and self.novita_instance_id is None

    @property
    def is_coming_up(self) -> bool:
        """Whether it exists upstream and is to become ready."""
        return (
            self.operation in {Operation.CREATE, Operation.START}
            and self.status in _COMING_UP
            and self.novita_instance_id is not None
        )

    @property
    def is_being_deleted(self) -> bool:
        """Whether a job is at work to remove whatever exists upstream."""
        return self.operation in _DELETING

    @property
    def may_exist_upstream(self) -> bool:
        """Whether a create call has made it, or may have."""
        return self.novita_instance_id is not None or (
            self.intent is not None and self.intent.sent_by is not None
        )

    @property
    def may_be_started(self) -> bool:
        """Whether it can be asked to start again."""
        return (
            self.operation is None
            and self.status in {InstanceStatus.STOPPED, InstanceStatus.FAILED}
            and self.novita_instance_id is not None
            and not self.upstream_gone
        )

    @property
    def hourly_price(self) -> float | None:
        """In USD, all its GPUs; None while no product is chosen."""
        return None if self.price_e5 is None else self.price_e5 * self.gpu_num / 100_000

    def cost(self, now: datetime) -> float | None:
        """What it has cost until *now*, in USD to a hundredth of a cent; None without a price.

        An estimate by our own clock, of what we know to exist, before the provider's rounding; not
        its bill. While it is billed only whole minutes count, so that it changes once a minute.
        """
        if self.hourly_price is None:
            return None
        running = 0.0
        if self.billed_since is not None:
            running = max(0.0, (now - self.billed_since).total_seconds()) // 60 * 60
        return round(self.hourly_price * (self.billed_s + running) / 3_600, 4)

    def wants(self, upstream_id: str) -> bool:
        """Whether the upstream instance of this id is to go on existing."""
        return not self.upstream_gone and self.novita_instance_id == upstream_id


def cleanup_after_failure(instance: Instance, policy: OnFailure) -> Operation | None:
    """How to clean up after *instance* has failed; None: nothing is to be done.

    What nobody knows the id of is always deleted: kept or stopped it would be billed and never be
    found. What was started again holds the user's data and is stopped at most.
    """
    if not instance.may_exist_upstream or instance.upstream_gone:
        return None
    if instance.novita_instance_id is None:
        return Operation.CLEANUP_DELETE
    if policy is OnFailure.KEEP:
        return None
    if policy is OnFailure.STOP or instance.operation is Operation.START:
        return Operation.CLEANUP_STOP
    return Operation.CLEANUP_DELETE


def checked_health(report: HealthReport, *, started_at: datetime) -> HealthCheck:
    """The health check that *report* has brought forward; completed when all is healthy."""
    healthy = report.overall is Health.HEALTHY
    endpoints = tuple(
        EndpointHealth(
            port=result.port,
            endpoint=result.endpoint,
            type=result.type,
            status="healthy" if result.healthy else "unhealthy",
            last_checked=result.checked_at,
            response_time=result.response_time_s,
            error=result.error,
        )
        for result in report.endpoints
    )
    return HealthCheck(
        status="completed" if healthy else "in_progress",
        overall_status=report.overall,
        endpoints=endpoints,
        started_at=started_at,
        completed_at=max((one.last_checked for one in endpoints), default=started_at)
        if healthy
        else None,
        total_response_time=report.total_response_time_s,
    )
