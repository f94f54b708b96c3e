"""How the demonstration ended, and whether the promises were kept: a decision only, no I/O."""

from collections.abc import Sequence

import msgspec

READY = "ready"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request for an instance."""

    name: str
    instance_id: str
    status: str
    error: str | None
    seconds: float | None
    """From the request until it was ready; None: it never was."""
    creates: int
    """Create calls that the provider carried out."""
    billed: int
    """GPUs of it that are billed at the end."""
    webhooks: int
    """Webhooks received, repetitions left out."""
    verified: int
    """Those of them whose signature is good."""
    terminal_events: tuple[str, ...]
    """What ended the creation; exactly one of them should."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The demonstration as a whole."""

    ok: bool
    problems: tuple[str, ...]
    instances: tuple[Outcome, ...]
    faults_met: int
    """Requests that the provider answered by one of our faults."""
    kills: int
    """How often the service was killed in the middle."""
    seconds: float


def problems(outcomes: Sequence[Outcome], *, created: int, forged: int) -> list[str]:
    """What is wrong, in words; empty when every promise was kept.

    Args:
        outcomes: One for each request.
        created: Create calls that the provider carried out, whatever for.
        forged: Webhooks received, repetitions included, whose signature is not good.
    """
    found = [problem for outcome in outcomes for problem in _of(outcome)]
    strange = created - sum(outcome.creates for outcome in outcomes)
    if strange:
        found.append(f"{strange} upstream instances belong to no request")
    if forged:
        found.append(f"{forged} webhooks could not be verified")
    return found


def _of(outcome: Outcome) -> list[str]:
    name, found = outcome.name, []
    wanted = 1 if outcome.status == READY else 0
    if not wanted:
        why = f": {outcome.error}" if outcome.error else ""
        found.append(f"{name} is {outcome.status}, not {READY}{why}")
    if outcome.creates > 1 or outcome.creates < wanted:
        found.append(f"{name} was rented {outcome.creates} times")
    if outcome.billed != wanted:
        found.append(f"{name} is {outcome.status} and billed for {outcome.billed} GPUs")
    if len(outcome.terminal_events) != 1:
        told = ", ".join(outcome.terminal_events) or "none"
        found.append(f"{name} needs exactly one terminal event, got {told}")
    return found
