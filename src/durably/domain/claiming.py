"""Which jobs a worker takes, in which order: one decision for every store."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec


class Lane(msgspec.Struct, frozen=True):
    """Ready jobs of one queue and type."""

    queue: str
    type: str
    limit: int
    """How many of the type may be claimed now, whatever their queue: the same in all its lanes."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker could take now."""

    lanes: tuple[Lane, ...]
    start: int
    """Free slots: so many jobs start at once."""
    reserve: int = 0
    """So many more are claimed ahead; a suspect among them ends the claim."""
    suspects: bool = True
    """Whether one job that a process died with may be among them (never ahead of a slot)."""
    aging_s: float | None = None
    """Order by ready time less priority times this, instead of strictly by priority."""


def rank_of(priority: int, ready_at: int, aging_s: float | None) -> float:
    """What jobs are ordered by first: less the priority; with ageing the ready time less its worth."""
    return -priority if aging_s is None else ready_at - priority * aging_s * 1e6


class Candidate(NamedTuple):
    """A ready job in the order in which jobs are claimed: candidates sort by it."""

    rank: float
    ready_at: int
    seq: int
    lane: int
    """Position in `Claim.lanes`."""
    suspect: bool


def candidate(
    priority: int, ready_at: int, seq: int, lane: int, *, suspect: bool, aging_s: float | None
) -> Candidate:
    """A ready job with its rank."""
    return Candidate(rank_of(priority, ready_at, aging_s), ready_at, seq, lane, suspect)


def choose(candidates: Iterable[Candidate], claim: Claim) -> Iterator[tuple[int, bool]]:
    """The (seq, starts at once) of the jobs to claim, from *candidates* in their order.

    The first `start` start at once; those claimed ahead end at a suspect.
    """
    left = {lane.type: lane.limit for lane in claim.lanes}
    taken = 0
    suspect_taken = not claim.suspects
    for _, _, seq, lane, suspect in candidates:
        if taken >= claim.start + claim.reserve:
            return
        kind = claim.lanes[lane].type
        if left[kind] < 1 or (suspect and suspect_taken):
            continue
        starts = taken < claim.start
        if not starts and suspect:
            return
        left[kind] -= 1
        suspect_taken |= suspect
        taken += 1
        yield seq, starts
