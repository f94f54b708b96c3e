"""The seam to a GPU provider: what the instance service asks of one, and how that may fail.

Values and promises only: no HTTP, no retries and no policy. ``durably.instances.novita`` keeps the
promises for Novita.ai.

Errors, and what each allows the caller to do::

    ProviderError
    ├── ProviderUnavailable      nothing was changed: ask again later
    ├── OutcomeUnknown           a write may have happened: look before doing it again
    └── ProviderRefused          permanent: the same request would be refused again
        ├── NotFound             no such instance, template or route
        ├── NoStock              no GPU of that kind there: try the next product or region
        ├── InvalidState         not in the state that it or what it depends on is in
        ├── Unauthorized         the API key is wrong or may not do this
        ├── NoProduct            nothing on offer fits the request (``durably.instances.products``)
        └── InvalidTemplate      the template cannot be used (``durably.instances.templates``)
"""

import builtins
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec


class ProviderError(Exception):
    """Anything that keeps a provider from doing what it was asked to do."""


class ProviderUnavailable(ProviderError):  # noqa: N818 - says what is the case, like its siblings
    """The provider cannot answer now, and nothing was changed: ask again later.

    Network trouble, throttling (429), server errors and unreadable answers to reads; for a write
    only what proves that it was not carried out.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the provider asked to be left alone; None when it did not say."""


class OutcomeUnknown(ProviderError):  # noqa: N818 - says what is the case, like its siblings
    """A write was sent and no trustworthy answer came: it may or may not have been carried out."""


class ProviderRefused(ProviderError):  # noqa: N818 - says what is the case, like its siblings
    """The provider understood the request and will not carry it out, now or later."""

    def __init__(self, message: str, *, code: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        """The provider's word for the reason, such as ``BALANCE_NOT_ENOUGH``; may be empty."""
        self.status = status
        """HTTP status of the refusal; None when it did not come over HTTP."""


class NotFound(ProviderRefused):
    """What the request names does not exist."""


class NoStock(ProviderRefused):
    """No capacity for this product in this cluster; another one may have some."""


class InvalidState(ProviderRefused):
    """The instance, or what it depends on, is in a state that does not allow this."""


class Unauthorized(ProviderRefused):
    """The API key is missing, wrong, or not allowed to do this."""


class BillingMode(StrEnum):
    """How a GPU is paid for. ``SPOT`` is cheaper and may be taken back at any time."""

    SPOT = "spot"
    ON_DEMAND = "onDemand"


class UpstreamStatus(StrEnum):
    """Where an instance is in the provider's life cycle; there is no status for failure.

    Any other value becomes ``UNKNOWN``, so that a new status upstream breaks nothing.
    """

    TO_CREATE = "toCreate"
    CREATING = "creating"
    PULLING = "pulling"
    RUNNING = "running"
    TO_START = "toStart"
    STARTING = "starting"
    TO_STOP = "toStop"
    STOPPING = "stopping"
    EXITED = "exited"
    TO_RESTART = "toRestart"
    RESTARTING = "restarting"
    TO_REMOVE = "toRemove"
    REMOVING = "removing"
    REMOVED = "removed"
    TO_RESET = "toReset"
    RESETTING = "resetting"
    MIGRATING = "migrating"
    FREEZING = "freezing"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> "UpstreamStatus":  # noqa: ARG003 - any other value
        return cls.UNKNOWN


_GONE = frozenset({UpstreamStatus.TO_REMOVE, UpstreamStatus.REMOVING, UpstreamStatus.REMOVED})
_SETTLED = _GONE | {UpstreamStatus.RUNNING, UpstreamStatus.EXITED}
_TAKEN_BACK = frozenset({"reclaiming", "terminated"})


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A data centre that instances are placed in."""

    id: str
    name: str
    region: str
    """Region code, such as ``US-CA-06``."""


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of GPU on offer. Prices are in 1e-5 USD per GPU and hour; 0: not offered that way."""

    id: str
    name: str
    regions: tuple[str, ...] = ()
    """Region codes, such as ``US-CA-06``."""
    available: bool = False
    price_e5: int = 0
    """Price on demand."""
    spot_price_e5: int = 0
    memory_per_gpu: int = 0
    """Host memory in GB, not the GPU's own."""
    cpu_per_gpu: int = 0
    billing_methods: tuple[str, ...] = ()
    """The provider's names, ``spot`` or ``onDemand`` among them; empty when it does not say."""


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """A port to be opened: 1 to 65535, type ``tcp``, ``udp``, ``http`` or ``https``."""

    port: int
    type: str


class EnvVar(msgspec.Struct, frozen=True, kw_only=True):
    """An environment variable of the container; the value is often a secret."""

    key: str
    value: str

    def __repr__(self) -> str:
        return f"EnvVar(key={self.key!r}, value='***')"


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """What runs on an instance: an image and how to start and reach it."""

    id: str
    name: str
    image: str
    image_auth_id: str | None = None
    """Id of the registry credentials that the provider keeps; None for a public image."""
    command: str | None = None
    """Start command; None leaves the image's own."""
    ports: tuple[Port, ...] = ()
    envs: tuple[EnvVar, ...] = ()


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An instance to be rented."""

    name: str
    """Chosen by the caller and deterministic: the only way to find an instance whose id was lost."""
    product_id: str
    image: str
    cluster_id: str = ""
    """Where to place it; empty: anywhere."""
    gpu_num: int = 1
    rootfs_size: int = 60
    """Size of the root file system in GB."""
    billing_mode: BillingMode = BillingMode.SPOT
    image_auth_id: str | None = None
    command: str | None = None
    ports: tuple[Port, ...] = ()
    envs: tuple[EnvVar, ...] = ()


class PortMapping(msgspec.Struct, frozen=True, kw_only=True):
    """Where a port of a running instance can be reached from outside."""

    port: int
    endpoint: str
    type: str
    """``http`` or ``tcp``."""


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as the provider reports it."""

    id: str
    name: str
    status: UpstreamStatus
    status_error: str | None = None
    """Why the instance is in trouble; None when it is not."""
    port_mappings: tuple[PortMapping, ...] = ()
    """Empty until the instance runs."""
    cluster_id: str = ""
    product_id: str = ""
    gpu_num: int = 0
    billing_mode: BillingMode | None = None
    """None for a mode that this service never asks for."""
    price_e5: int = 0
    """Price in 1e-5 USD per hour, as the provider states it; 0 when it does not."""
    spot_status: str = ""
    """``running``, ``notified``, ``reclaiming`` or ``terminated``; empty when not a spot one."""
    spot_reclaim_at: datetime | None = None
    """When the GPU is or was taken back; None while that is not planned."""
    created_at: datetime | None = None
    last_started_at: datetime | None = None
    last_stopped_at: datetime | None = None

    @property
    def is_gone(self) -> bool:
        """Whether it is deleted or being deleted: it will not come back."""
        return self.status in _GONE

    @property
    def is_coming_up(self) -> bool:
        """Whether there is nothing to say of it but that it does not run yet."""
        return not (self.status in _SETTLED or self.status_error is not None or self.is_reclaimed)

    @property
    def is_reclaimed(self) -> bool:
        """Whether the provider took, or is taking, the spot GPU back; a mere notice is not that."""
        stopped_by_provider = (
            self.status is UpstreamStatus.EXITED and self.spot_reclaim_at is not None
        )
        return self.spot_status in _TAKEN_BACK or stopped_by_provider


class Provider(Protocol):
    """A place to rent GPUs from.

    Every call may raise ProviderUnavailable and ProviderRefused; the writes (``create``, ``start``,
    ``stop``, ``delete``) also OutcomeUnknown. A write is sent at most once per call.
    """

    async def clusters(self) -> builtins.list[Cluster]:
        """All data centres."""
        ...

    async def products(self, name: str, *, billing: BillingMode) -> builtins.list[Product]:
        """What is on offer under a name like *name*, in every region, available or not; "": all.

        The provider matches names loosely: ``durably.instances.products`` chooses among them.
        """
        ...

    async def template(self, template_id: str | int) -> Template:
        """The template of that id, checked.

        Raises:
            ValueError: *template_id* is neither a non-blank string nor a positive integer.
            NotFound: there is no such template.
            InvalidTemplate: it cannot be used; the message names the field.
        """
        ...

    async def create(self, request: CreateRequest) -> str:
        """Rent an instance and return its upstream id; it starts by itself, and billing with it.

        Not idempotent: after OutcomeUnknown look for the name before creating again.
        """
        ...

    async def get(self, upstream_id: str) -> Upstream | None:
        """The instance of that id, or None when the provider knows none."""
        ...

    async def start(self, upstream_id: str) -> None:
        """Ask for a stopped instance to be started; it has begun at best when this returns."""
        ...

    async def stop(self, upstream_id: str) -> None:
        """Ask for a running instance to be stopped; it has begun at best when this returns."""
        ...

    async def delete(self, upstream_id: str) -> None:
        """Ask for an instance to be deleted; succeeds for one that does not exist."""
        ...

    async def list(self, *, name: str | None = None) -> builtins.list[Upstream]:
        """All instances of the account, or those with exactly this *name*; each id once.

        The list is a walk over pages, not a snapshot: an instance that is missing from it may still
        exist, so ask ``get`` before concluding that it does not.
        """
        ...

    async def close(self) -> None:
        """Release connections; the provider cannot be used afterwards."""
        ...
