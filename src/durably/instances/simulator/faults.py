"""What goes wrong and when: fault rules, their text form, and the plan that draws from them.

Decisions only: the HTTP side carries the effects out.
"""

from collections.abc import Iterable
from random import Random
from typing import Annotated, Literal, TypeAlias, assert_never

import msgspec
from msgspec import Meta, Struct

Seconds: TypeAlias = Annotated[float, Meta(ge=0)]


class _Effect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What a fault does; the fields are the ``params`` of its rule."""


class RateLimit(_Effect, tag="rate_limit", frozen=True, kw_only=True):
    """429 with Retry-After, nothing applied."""

    retry_after: Annotated[int, Meta(ge=0)] = 1


class HttpError(_Effect, tag="error", frozen=True, kw_only=True):
    """An error status, as an envelope with ``code`` or as text that is no JSON.

    With ``applied`` the request has its effect first, as behind a gateway that gave up waiting.
    """

    status: Annotated[int, Meta(ge=400, le=599)] = 500
    code: str = "UNKNOWN"
    body: Literal["json", "text"] = "json"
    applied: bool = False


class Reset(_Effect, tag="reset", frozen=True, kw_only=True):
    """The connection is reset, nothing applied."""


class LostReply(_Effect, tag="lost_reply", frozen=True, kw_only=True):
    """The request is applied, then the connection is closed without an answer."""


class Slow(_Effect, tag="slow", frozen=True, kw_only=True):
    """The answer comes late; the request is applied at the start or at the end of the wait."""

    seconds: Seconds = 1.0
    apply: Literal["start", "end"] = "start"


class Rubbish(_Effect, tag="rubbish", frozen=True, kw_only=True):
    """Applied, then 200 with text that is no JSON, or with JSON of the wrong shape."""

    body: Literal["text", "shape"] = "text"


class NoStock(_Effect, tag="no_stock", frozen=True, kw_only=True):
    """400 INSUFFICIENT_RESOURCE, nothing applied."""


class StatusError(_Effect, tag="status_error", frozen=True, kw_only=True):
    """The new instance never leaves pulling; its statusError is set some seconds into it."""

    seconds: Seconds = 0.0
    state: str = "imagePullFailed"
    message: str = "failed to pull image: manifest unknown"


class SpotReclaim(_Effect, tag="spot_reclaim", frozen=True, kw_only=True):
    """A new spot instance is taken away: ``seconds`` running, then notified, then reclaiming."""

    seconds: Seconds = 1.0
    notice: Seconds = 1.0
    reclaiming: Seconds = 1.0


class Unhealthy(_Effect, tag="unhealthy", frozen=True, kw_only=True):
    """The first ``probes`` requests to the application of the new instance get 503."""

    probes: Annotated[int, Meta(ge=1)] = 1


Outcome: TypeAlias = RateLimit | HttpError | Reset | LostReply | Rubbish | NoStock
"""Effects that decide the answer: at most one strikes a request."""
CreateEffect: TypeAlias = StatusError | SpotReclaim | Unhealthy
"""Effects on the life of the instance that a create makes."""
Effect: TypeAlias = Outcome | CreateEffect | Slow

ROUTES = (
    *("clusters", "products", "create", "list", "get", "start", "stop", "restart", "delete"),
    *("migrate", "templates", "template", "auths", "jobs", "app"),
)
"""Names of the routes for ``Fault.route``; ``app`` is the application inside an instance."""

_ROUTES_BY_KIND: dict[str, tuple[str, ...]] = {
    "rate_limit": ROUTES,
    "error": ROUTES,
    "reset": ROUTES,
    "lost_reply": ROUTES,
    "slow": ROUTES,
    "rubbish": ROUTES,
    "no_stock": ("create", "start"),
    "status_error": ("create",),
    "spot_reclaim": ("create",),
    "unhealthy": ("create",),
}


def is_applied(outcome: Outcome | None) -> bool:
    """Whether a request that meets this outcome has its effect all the same."""
    match outcome:
        case RateLimit() | NoStock() | Reset():
            return False
        case HttpError():
            return outcome.applied
        case LostReply() | Rubbish() | None:
            return True
        case _:
            assert_never(outcome)


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule: which requests a fault strikes, how often, and with what parameters.

    Raises:
        ValueError: for an unknown kind or route, or parameters that the kind does not have.
    """

    kind: str
    route: str = "*"
    """One of ``ROUTES``; ``*`` stands for all that the kind can strike."""
    count: Annotated[int, Meta(ge=1)] | None = None
    """How many requests it strikes; None: no end."""
    probability: Annotated[float, Meta(gt=0, le=1)] = 1.0
    after: Annotated[int, Meta(ge=0)] = 0
    """How many matching requests pass before the first is struck."""
    match: str = ""
    """Part of the instance's name (of a list call: of its name filter)."""
    params: dict[str, str | int | float | bool] = {}
    """The fields of the effect with this kind, such as ``seconds`` of ``slow``."""

    def __post_init__(self) -> None:
        if self.kind not in _ROUTES_BY_KIND:
            known = ", ".join(_ROUTES_BY_KIND)
            raise ValueError(f"unknown fault kind (known: {known}): {self.kind!r}")
        possible = _ROUTES_BY_KIND[self.kind]
        if self.route not in (*possible, "*"):
            routes = ", ".join(possible)
            raise ValueError(f"fault {self.kind} can strike {routes} or *, got {self.route!r}")
        try:
            self.effect()
        except msgspec.ValidationError as error:
            raise ValueError(f"wrong parameter of fault {self.kind}: {error}") from error

    def effect(self) -> Effect:
        """The effect with this rule's parameters; numbers may be given as text."""
        fields = {**self.params, "kind": self.kind}
        return msgspec.convert(fields, Effect, strict=False)  # type: ignore[no-any-return]

    def matches(self, route: str, name: str) -> bool:
        """Whether the rule is about this route and the instance of this name."""
        on_route = self.route == route or (
            self.route == "*" and route in _ROUTES_BY_KIND[self.kind]
        )
        return on_route and self.match in name


def parse_fault(text: str) -> Fault:
    """Read a rule from its text form ``route:kind[:key=value,...]``.

    Keys are ``count``, ``probability``, ``after``, ``match`` or a parameter of the kind. Values
    hold no comma.

    Raises:
        ValueError: with what is wrong and the text.

    >>> parse_fault("create:slow:count=2,seconds=0.5").effect()
    Slow(seconds=0.5, apply='start')
    """
    route, _, rest = text.partition(":")
    kind, _, options = rest.partition(":")
    if not route or not kind:
        raise ValueError(f"a fault is written route:kind[:key=value,...], got {text!r}")
    fields: dict[str, object] = {"route": route, "kind": kind}
    params: dict[str, str] = {}
    for option in filter(None, options.split(",")):
        key, separator, value = option.partition("=")
        if not separator:
            raise ValueError(f"an option of a fault is written key=value, got {option!r}")
        if key in ("count", "probability", "after", "match"):
            fields[key] = value
        else:
            params[key] = value
    try:
        return msgspec.convert({**fields, "params": params}, Fault, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}, in fault {text!r}") from error


class _Rule:
    """A fault with its counters."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.effect = fault.effect()
        self.seen = 0
        self.struck = 0

    def ready(self) -> bool:
        """Whether the request just seen is one that the rule may strike."""
        spent = self.fault.count is not None and self.struck >= self.fault.count
        return self.seen > self.fault.after and not spent


class FaultPlan:
    """The rules in force, in order; the first outcome wins, other effects add up."""

    def __init__(self, faults: Iterable[Fault], *, random: Random) -> None:
        self._rules = [_Rule(fault) for fault in faults]
        self._random = random

    def add(self, faults: Iterable[Fault]) -> None:
        """Put rules after those in force."""
        self._rules += [_Rule(fault) for fault in faults]

    def clear(self) -> None:
        """Drop every rule."""
        self._rules.clear()

    def report(self) -> list[dict[str, object]]:
        """Each rule with how many requests it has ``seen`` and ``struck``."""
        return [
            {**msgspec.structs.asdict(rule.fault), "seen": rule.seen, "struck": rule.struck}
            for rule in self._rules
        ]

    def strike(self, route: str, name: str) -> list[Effect]:
        """The effects on one request to *route* about the instance *name* (may be empty)."""
        effects: list[Effect] = []
        decided = False
        for rule in self._rules:
            if not rule.fault.matches(route, name):
                continue
            rule.seen += 1
            blocked = decided and isinstance(rule.effect, Outcome)
            if blocked or not rule.ready() or self._random.random() >= rule.fault.probability:
                continue
            rule.struck += 1
            effects.append(rule.effect)
            decided = decided or isinstance(rule.effect, Outcome)
        return effects
