"""Request bodies and query parameters of the provider's API, with the limits it checks."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

_PORT = re.compile(r"(\d{1,5})/(tcp|http)")
_PORTS_RESERVED = range(2222, 2225)
_PORTS_MAX = 15

BillingMode: TypeAlias = Literal["onDemand", "monthly", "spot"]
T = TypeVar("T")


class ProviderError(Exception):
    """An error answer of the provider: HTTP status, code, message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Port(Struct, frozen=True):
    """A port that an instance opens."""

    port: int
    type: str


class RequestEnv(Struct, frozen=True, kw_only=True):
    """An environment variable of a create request."""

    key: Annotated[str, Meta(max_length=511)]
    value: Annotated[str, Meta(max_length=4095)]


class Tool(Struct, frozen=True, kw_only=True):
    """A tool such as Jupyter, which takes one port."""

    name: str
    port: int | str
    type: str


class NetworkStorage(Struct, frozen=True, kw_only=True):
    """A cloud storage to mount."""

    id: str = msgspec.field(name="Id")
    mount_point: str = msgspec.field(name="mountPoint", default="/network")


class CreateRequest(Struct, frozen=True, kw_only=True, rename="camel"):
    """Body of a create; unknown fields are ignored, as the provider does."""

    product_id: Annotated[str, Meta(min_length=1, max_length=255)]
    gpu_num: Annotated[int, Meta(ge=1, le=8)]
    rootfs_size: Annotated[int, Meta(ge=10, le=6144)]
    image_url: Annotated[str, Meta(min_length=1, max_length=500)]
    kind: Literal["gpu", "cpu"]
    name: Annotated[str, Meta(max_length=255)] = ""
    image_auth: Annotated[str, Meta(max_length=10239)] | None = None
    image_auth_id: str | None = None
    ports: str | None = None
    envs: Annotated[tuple[RequestEnv, ...], Meta(max_length=100)] = ()
    tools: tuple[Tool, ...] = ()
    command: Annotated[str, Meta(max_length=2047)] | None = None
    entrypoint: str | None = None
    cluster_id: str | None = None
    network_storages: Annotated[tuple[NetworkStorage, ...], Meta(max_length=30)] = ()
    network_id: str | None = None
    month: Annotated[int, Meta(ge=0)] | None = None
    billing_mode: BillingMode | None = None
    auto_renew: bool = False
    auto_renew_month: Annotated[int, Meta(ge=1, le=12)] | None = None
    min_cuda_version: str | None = None

    def __post_init__(self) -> None:
        if self.image_auth and ":" not in self.image_auth:
            raise ValueError("imageAuth must be user:password")
        if len(self.opened_ports()) + len(self.tools) > _PORTS_MAX:
            raise ValueError(f"ports and tools must not exceed {_PORTS_MAX}")

    def opened_ports(self) -> tuple[Port, ...]:
        """The ports of the list ``80/http, 3306/tcp``.

        Raises:
            ValueError: for an entry of another form, a reserved port or one out of range.
        """
        entries = (self.ports or "").split(",") if (self.ports or "").strip() else ()
        return tuple(_port(entry.strip()) for entry in entries)

    def mode(self) -> BillingMode:
        """The billing mode: monthly whenever months are given, on demand unless told."""
        return "monthly" if self.month else (self.billing_mode or "onDemand")


class InstanceRequest(Struct, frozen=True, kw_only=True, rename="camel"):
    """Body of start, stop, restart, delete and migrate."""

    instance_id: Annotated[str, Meta(min_length=1)]


def decode(body: bytes, form: type[T]) -> T:
    """Read a JSON body.

    Raises:
        ProviderError: 400 REQUEST for what is no JSON, 400 VALIDATOR_PARAM for wrong fields.
    """
    try:
        return msgspec.json.decode(body, type=form)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProviderError(400, "REQUEST", f"malformed JSON: {error}") from error


def page_parameter(query: Mapping[str, str], key: str, default: int) -> int:
    """A whole number from the query, at least 0 and of at most nine digits.

    Raises:
        ProviderError: 400 VALIDATOR_PARAM for anything else.
    """
    text = query.get(key, str(default))
    if re.fullmatch(r"[0-9]{1,9}", text) is None:
        raise invalid(f"{key} must be a whole number of at least 0, got {text!r}")
    return int(text)


def invalid(message: str) -> ProviderError:
    """The answer to a request with a wrong parameter."""
    return ProviderError(400, "VALIDATOR_PARAM", message)


def _port(entry: str) -> Port:
    found = _PORT.fullmatch(entry)
    if found is None:
        raise ValueError(f"ports must look like 80/http, 3306/tcp, got {entry!r}")
    number = int(found[1])
    if not 1 <= number <= 65535 or number in _PORTS_RESERVED:
        raise ValueError(f"a port must be 1 to 65535 but not 2222 to 2224, got {number}")
    return Port(port=number, type=found[2])
