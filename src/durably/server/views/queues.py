"""The queues: which are paused, who works on them, what their limits are."""

from datetime import datetime

import msgspec

from durably.server.service import Service
from durably.server.views.depth import Counts, DepthRow, counted, depth_rows, grouped, oldest_of
from durably.store import WorkerState


class TypeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A type of jobs within a queue."""

    type: str
    handled: bool
    limit: int | None
    """So many at a time in each process; None: as many as it has slots."""
    ready: int
    processing: int


class QueueRow(Counts, frozen=True, kw_only=True, rename="camel"):
    """A queue that has jobs, workers or a pause."""

    name: str
    paused: bool
    oldest_ready_at: datetime | None
    workers: int
    """Live ones that take its jobs."""
    slots: int
    types: list[TypeRow]


class Queues(msgspec.Struct, frozen=True, kw_only=True):
    """All queues, by name."""

    queues: list[QueueRow]


async def queues(service: Service) -> Queues:
    """The page."""
    figures, workers = await service.queue.get_figures(), await service.queue.workers()
    paused = await service.queue.paused_queues()
    alive = [worker for worker in workers if worker.alive]
    rows = depth_rows(figures.counts, await service.queue.oldest_ready(), workers, paused)
    by_queue = grouped(rows, lambda row: row.queue)
    counts = grouped(figures.counts, lambda one: one.queue)
    names = {*by_queue, *paused, *(queue for one in alive for queue in one.info.queues)}
    return Queues(
        queues=[
            _queue_row(
                name,
                by_queue.get(name, []),
                [worker for worker in alive if name in worker.info.queues],
                counted(counts.get(name, ())),
                paused=name in paused,
            )
            for name in sorted(names)
        ]
    )


def _queue_row(
    name: str,
    rows: list[DepthRow],
    workers: list[WorkerState],
    counts: dict[str, int],
    *,
    paused: bool,
) -> QueueRow:
    return QueueRow(
        name=name,
        paused=paused,
        oldest_ready_at=oldest_of(rows),
        workers=len(workers),
        slots=sum(worker.info.concurrency for worker in workers),
        types=_type_rows(rows, _limits(workers)),
        **counts,
    )


def _type_rows(rows: list[DepthRow], limits: dict[str, int]) -> list[TypeRow]:
    """Types that have jobs, and those that have a limit."""
    by_type = {row.type: row for row in rows}
    found = []
    for kind in sorted({*by_type, *limits}):
        row = by_type.get(kind)
        found.append(
            TypeRow(
                type=kind,
                handled=row is None or row.handled,
                limit=limits.get(kind),
                ready=0 if row is None else row.ready,
                processing=0 if row is None else row.processing,
            )
        )
    return found


def _limits(workers: list[WorkerState]) -> dict[str, int]:
    """By type the smallest limit that some worker has."""
    limits: dict[str, int] = {}
    for worker in workers:
        for kind, limit in worker.info.limits.items():
            limits[kind] = min(limit, limits.get(kind, limit))
    return limits
