"""One simulated instance: its timeline of statuses and its billing meter, both functions of time.

Nothing ticks: an instance holds the phases it has been through and those still planned, and every
question is answered for a given moment. Times are unix seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from durably.instances.simulator.catalogue import Cluster, Product
from durably.instances.simulator.requests import CreateRequest


@dataclass(frozen=True, slots=True)
class Step:
    """A status to go through; without ``seconds`` it lasts until something else is asked."""

    status: str
    seconds: float = inf
    billed: bool = False
    spot_status: str = ""


@dataclass(frozen=True, slots=True)
class Phase:
    """A step with the moment it begins."""

    at: float
    step: Step


@dataclass(frozen=True, slots=True)
class Trouble:
    """What ``statusError`` shows from a moment on."""

    at: float
    state: str
    message: str


@dataclass(slots=True, kw_only=True)
class Instance:
    """An instance that was created, also after its removal."""

    id: str
    request: CreateRequest
    product: Product
    cluster: Cluster
    created_at: float
    unhealthy_probes: int = 0
    trouble: Trouble | None = None
    phases: list[Phase] = field(default_factory=list)

    def follow(self, now: float, steps: Iterable[Step]) -> None:
        """Drop what was planned after *now* and go through *steps* instead."""
        self.phases = [phase for phase in self.phases if phase.at <= now]
        for step in steps:
            self.phases.append(Phase(now, step))
            now += step.seconds

    def step(self, now: float) -> Step:
        """The step it is in."""
        return next(phase.step for phase in reversed(self.phases) if phase.at <= now)

    def last_entered(self, status: str, now: float) -> float:
        """When it last came to *status* from another one; 0 if never."""
        before = [Phase(0, Step("")), *(phase for phase in self.phases if phase.at <= now)]
        entries = (
            late.at
            for early, late in pairwise(before)
            if late.step.status == status != early.step.status
        )
        return max(entries, default=0)

    def reclaimed_at(self, now: float) -> float:
        """When its spot machine is or was taken back, known from the notice on; 0 before."""
        if self.step(now).spot_status not in ("notified", "reclaiming", "terminated"):
            return 0
        return max(phase.at for phase in self.phases if phase.step.spot_status == "terminated")

    def billed_seconds(self, now: float) -> float:
        """Seconds billed up to *now*: from pulling until it is stopped or removed."""
        ends = [*(phase.at for phase in self.phases[1:]), inf]
        return sum(
            max(0.0, min(end, now) - phase.at)
            for phase, end in zip(self.phases, ends, strict=True)
            if phase.step.billed
        )

    def price_per_hour(self) -> int:
        """1e-5 USD per hour for all its GPUs."""
        return self.product.price_per_hour(self.request.mode()) * self.request.gpu_num

    def cost_usd(self, now: float) -> float:
        """What the billed seconds cost in USD."""
        return self.billed_seconds(now) / 3600 * self.price_per_hour() / 100_000

    def holds_gpus(self, now: float) -> bool:
        """Whether its GPUs are missing from stock."""
        return self.step(now).status not in ("exited", "toRemove", "removing", "removed")
