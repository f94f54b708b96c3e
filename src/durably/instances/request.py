"""Requests for an instance, and the check that finds all their faults at once."""

import re
from collections.abc import Mapping

import msgspec

from durably import DurablyError
from durably.instances.addresses import AddressPolicy
from durably.instances.provider import BillingMode
from durably.instances.templates import template_id

_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_URL_LONGEST = 2_048


class InstanceRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a user asks for. `JobWorkerService.create_instance` checks it."""

    name: str
    """1 to 100 of letters, digits, hyphen and underscore."""
    product_name: str
    """1 to 200 characters."""
    template_id: str | int
    """A non-blank string or a positive integer."""
    gpu_num: int = 1
    """1 to 8."""
    rootfs_size: int = 60
    """20 to 1,000 GB."""
    region: str = "CN-HK-01"
    """Where to look for a GPU first."""
    webhook_url: str | None = None
    """Gets the events: http or https, at an address that webhooks may reach."""
    billing_mode: BillingMode = BillingMode.SPOT


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with one field, by its name on the wire."""

    field: str
    message: str


class ValidationError(DurablyError, ValueError):
    """A request that cannot be accepted, with all that is wrong with it."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(f"{fault.field}: {fault.message}" for fault in faults))
        self.faults = faults


async def check_request(raw: Mapping[str, object], policy: AddressPolicy) -> InstanceRequest:
    """The request in *raw*, a JSON object with the wire names; other members are ignored.

    Raises:
        ValidationError: it has faults.
    """
    form = _Form(raw)
    name = form.text("name", most=100)
    if name and not _NAME.fullmatch(name):
        form.fault(
            "name", f"must consist of letters, digits, hyphens and underscores, got {name!r}"
        )
    request = InstanceRequest(
        name=name,
        product_name=form.text("productName", most=200).strip(),
        template_id=form.template(),
        gpu_num=form.number("gpuNum", least=1, most=8, default=1),
        rootfs_size=form.number("rootfsSize", least=20, most=1_000, default=60),
        region=form.text("region", most=100, default="CN-HK-01").strip(),
        webhook_url=await form.url("webhookUrl", policy),
        billing_mode=form.billing(),
    )
    if form.faults:
        raise ValidationError(tuple(form.faults))
    return request


class _Form:
    """Reads fields; one that is wrong is noted, and read as something harmless."""

    def __init__(self, raw: Mapping[str, object]) -> None:
        self.faults: list[Fault] = []
        # What is null is absent.
        self._raw = {key: value for key, value in raw.items() if value is not None}

    def fault(self, field: str, message: str) -> None:
        self.faults.append(Fault(field, message))

    def text(self, field: str, *, most: int, default: str | None = None) -> str:
        value = self._raw.get(field, default)
        if value is None:
            self.fault(field, "is required")
        elif not isinstance(value, str):
            self.fault(field, f"must be a string, got {_kind(value)}")
        elif not value.strip() or len(value) > most:
            self.fault(field, f"must have 1 to {most} characters, got {value[:200]!r}")
        elif not _is_storable(value):
            self.fault(field, "must not contain NUL or lone surrogates")
        else:
            return value
        return ""

    def number(self, field: str, *, least: int, most: int, default: int) -> int:
        value = self._raw.get(field, default)
        if isinstance(value, bool) or not isinstance(value, int):
            self.fault(field, f"must be a whole number from {least} to {most}, got {_kind(value)}")
        elif not least <= value <= most:
            self.fault(field, f"must be {least} to {most}, got {value}")
        else:
            return value
        return default

    def template(self) -> str:
        try:
            return template_id(self._raw.get("templateId"))
        except ValueError as error:
            self.fault("templateId", str(error))
            return ""

    def billing(self) -> BillingMode:
        value = self._raw.get("billingMode", BillingMode.SPOT)
        for mode in BillingMode:
            if value == mode:
                return mode
        known = ", ".join(BillingMode)
        self.fault("billingMode", f"must be one of {known}, got {_quoted(value)}")
        return BillingMode.SPOT

    async def url(self, field: str, policy: AddressPolicy) -> str | None:
        if field not in self._raw:
            return None
        value = self.text(field, most=_URL_LONGEST)
        if not value:
            return None
        try:
            await policy.resolve(value)
        except ValueError as error:
            self.fault(field, str(error))
        return value


def _is_storable(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _kind(value: object) -> str:
    return type(value).__name__


def _quoted(value: object) -> str:
    return repr(value[:200]) if isinstance(value, str) else _kind(value)
