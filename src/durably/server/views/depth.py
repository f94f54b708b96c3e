"""How many jobs there are, by queue and type, from maintained counts."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from durably.domain.clock import to_datetime
from durably.domain.job import LEASED, State
from durably.store import Counted, Oldest, WorkerState

_T = TypeVar("_T")
_FIELD = {
    State.SCHEDULED: "scheduled",
    State.READY: "ready",
    **dict.fromkeys(LEASED, "processing"),
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
}


class Counts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Jobs by where they stand."""

    scheduled: int = 0
    ready: int = 0
    processing: int = 0
    """Claimed ones included."""
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class DepthRow(Counts, frozen=True, kw_only=True, rename="camel"):
    """The jobs of a type in a queue."""

    queue: str
    type: str
    handled: bool
    """Whether a live worker runs the type from this queue."""
    paused: bool
    oldest_ready_at: datetime | None


def counted(counts: Iterable[Counted]) -> dict[str, int]:
    """The fields of `Counts`, over all of *counts*."""
    fields = dict.fromkeys(Counts.__struct_fields__, 0)
    for one in counts:
        fields[_FIELD[State(one.state)]] += one.count
    return fields


def depth_rows(
    counts: Iterable[Counted],
    oldest: Iterable[Oldest],
    workers: Iterable[WorkerState],
    paused: frozenset[str],
) -> list[DepthRow]:
    """A row for each queue and type that has jobs, by queue, then type."""
    since = {(one.queue, one.type): to_datetime(one.ready_at_us) for one in oldest}
    handled = handled_lanes(workers)
    groups = grouped(counts, lambda one: (one.queue, one.type))
    return [
        DepthRow(
            queue=queue,
            type=kind,
            handled=(queue, kind) in handled,
            paused=queue in paused,
            oldest_ready_at=since.get((queue, kind)),
            **counted(group),
        )
        for (queue, kind), group in sorted(groups.items())
        if any(one.count for one in group)
    ]


def oldest_of(rows: Iterable[DepthRow]) -> datetime | None:
    """Since when the job that has been ready longest in any of *rows* has been so."""
    times = (row.oldest_ready_at for row in rows)
    return min((at for at in times if at is not None), default=None)


def handled_lanes(workers: Iterable[WorkerState]) -> set[tuple[str, str]]:
    """The (queue, type) that some live worker runs."""
    return {
        (queue, kind)
        for worker in workers
        if worker.alive
        for queue in worker.info.queues
        for kind in worker.info.types
    }


def grouped(values: Iterable[_T], key: Any) -> dict[Any, list[_T]]:
    """*values* by their key, in their order."""
    groups: dict[Any, list[_T]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return groups
