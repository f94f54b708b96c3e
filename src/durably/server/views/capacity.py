"""Whether the workers keep up: Little's law over what the last five minutes showed."""

import math

import msgspec

from durably.domain.histogram import mean, merge
from durably.store import StoreStats

_COMFORT = 0.8
"""Of the slots may be busy on average before jobs begin to queue noticeably."""


class Capacity(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What comes, what can be done, and what follows. Rates are jobs a second."""

    slots: int
    """Of all live workers."""
    busy: int
    service_rate: float | None
    """What the slots can do at the mean run time; None while nothing has run."""
    arrival_rate: float
    utilisation: float | None
    """Share of the slots that the arrivals keep busy; above 1 the backlog grows."""
    slots_needed: int | None
    """To keep four of five busy at most."""
    time_to_drain: float | None
    """Seconds until nothing waits, at this pace; None: never."""
    backlog: int
    """Jobs that are ready and that some worker may take."""


def capacity(
    figures: StoreStats, *, slots: int, held: int, ready: int, throughput: float, growth: float
) -> Capacity:
    """What the figures of the last five minutes say.

    Args:
        figures: of the store.
        slots: of all live workers.
        held: jobs that they hold.
        ready: jobs that wait and may be taken.
        throughput: jobs a second that become final.
        growth: jobs a second by which the number of those that are due and not final changes.
    """
    arrival = max(0.0, throughput + growth)
    attempts = sum(one.attempts for one in figures.activity)
    finished = sum(one.finished for one in figures.activity)
    busy_s = mean(merge(one.run for one in figures.activity)) * max(1.0, attempts / (finished or 1))
    # Source: J. D. C. Little, "A Proof for the Queuing Formula L = λW", 1961.
    needed = arrival * busy_s
    rate = slots / busy_s if busy_s else None
    if rate is not None and ready > slots > 0 and throughput:
        rate = min(rate, throughput)  # they have had enough to do: this is what they manage
    return Capacity(
        slots=slots,
        busy=min(slots, held),
        service_rate=rate,
        arrival_rate=arrival,
        utilisation=needed / slots if slots and busy_s else None,
        slots_needed=math.ceil(needed / _COMFORT) if busy_s else None,
        time_to_drain=_time_to_drain(ready, rate, arrival),
        backlog=ready,
    )


def _time_to_drain(ready: int, rate: float | None, arrival: float) -> float | None:
    if not ready:
        return 0.0
    if rate is None or rate <= arrival:
        return None
    return ready / (rate - arrival)
