"""The overview: is it healthy, what is late, do the workers keep up?"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from urllib.parse import urlencode

import msgspec

from durably.engine.stats import QueueStats, queue_stats
from durably.instances.records import TARGET
from durably.server.service import Service
from durably.server.views.capacity import Capacity, capacity
from durably.server.views.depth import Counts, DepthRow, counted, depth_rows, oldest_of
from durably.store import StoreStats, WorkerState

_LATE_S = 60.0
"""A job that has been ready for longer is worth a warning."""
_ERRORS, _OF_ATTEMPTS = 0.1, 20


class Warning(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person should look at."""

    kind: str
    """unhandled, paused, deadWorker, noWorker, late, errors or targets."""
    text: str
    link: str
    """Where on the dashboard."""


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """As `/health/ready` has it."""

    ready: bool
    reasons: tuple[str, ...]


class Shell(HealthView, frozen=True, kw_only=True, rename="camel"):
    """What every page shows."""

    failed_jobs: int
    paused_queues: list[str]
    warnings: int


class TotalCounts(Counts, frozen=True, kw_only=True, rename="camel"):
    """All jobs."""

    total: int


class Rates(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of the last 300 s over all processes; durations are seconds."""

    throughput: float
    arrival: float
    error_rate: float
    wait_p50: float
    wait_p95: float
    wait_p99: float
    run_p50: float
    run_p95: float
    run_p99: float


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A registered worker."""

    id: int
    host: str
    pid: int
    alive: bool
    queues: tuple[str, ...]
    types: tuple[str, ...]
    limits: dict[str, int]
    """Of jobs at a time, by type."""
    slots: int
    held: int
    memory_bytes: int | None
    renewed_ago: int | None
    """Seconds since its lease was renewed."""
    lease: float


class Overview(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One screen."""

    health: HealthView
    warnings: list[Warning]
    counts: TotalCounts
    depth: list[DepthRow]
    oldest_ready_at: datetime | None
    rates: Rates
    capacity: Capacity
    workers: list[WorkerRow]


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at the store gives."""

    now: datetime
    reasons: tuple[str, ...]
    figures: StoreStats
    stats: QueueStats
    depth: list[DepthRow]
    workers: list[WorkerState]
    paused: frozenset[str]
    disabled_targets: int

    @property
    def oldest_ready_at(self) -> datetime | None:
        return oldest_of(self.depth)


async def overview(service: Service) -> Overview:
    """The page."""
    seen = await _look(service)
    alive = [worker for worker in seen.workers if worker.alive]
    counts = counted(seen.figures.counts)
    growth = service.history.growth()
    return Overview(
        health=HealthView(ready=not seen.reasons, reasons=seen.reasons),
        warnings=list(_warnings(seen)),
        counts=TotalCounts(**counts, total=sum(counts.values())),
        depth=seen.depth,
        oldest_ready_at=seen.oldest_ready_at,
        rates=_rates(seen.stats, growth),
        capacity=capacity(
            seen.figures,
            slots=sum(worker.info.concurrency for worker in alive),
            held=sum(worker.held for worker in alive),
            ready=sum(row.ready for row in seen.depth if row.handled and not row.paused),
            throughput=seen.stats.throughput,
            growth=growth,
        ),
        workers=[_worker_row(worker) for worker in seen.workers],
    )


async def shell(service: Service) -> Shell:
    """What surrounds every page."""
    seen = await _look(service)
    return Shell(
        ready=not seen.reasons,
        reasons=seen.reasons,
        failed_jobs=seen.stats.failed_jobs,
        paused_queues=sorted(seen.paused),
        warnings=sum(1 for _ in _warnings(seen)),
    )


async def _look(service: Service) -> _Seen:
    queue = service.queue
    figures, workers = await queue.get_figures(), await queue.workers()
    paused = await queue.paused_queues()
    return _Seen(
        now=service.now(),
        reasons=await service.readiness.reasons(),
        figures=figures,
        stats=queue_stats(figures, (), workers),
        depth=depth_rows(figures.counts, await queue.oldest_ready(), workers, paused),
        workers=workers,
        paused=paused,
        disabled_targets=await queue.count_records(TARGET),
    )


def _rates(stats: QueueStats, growth: float) -> Rates:
    fields = {
        name: getattr(stats, name) for name in Rates.__struct_fields__ if hasattr(stats, name)
    }
    return Rates(**fields, arrival=max(0.0, stats.throughput + growth))


def _worker_row(worker: WorkerState) -> WorkerRow:
    info, ago = worker.info, worker.renewed_ago_s
    return WorkerRow(
        id=worker.id,
        host=info.host,
        pid=info.pid,
        alive=worker.alive,
        queues=info.queues,
        types=info.types,
        limits=info.limits,
        slots=info.concurrency,
        held=worker.held,
        memory_bytes=worker.memory_bytes,
        renewed_ago=None if ago is None else max(0, round(ago)),
        lease=info.lease_s,
    )


# What a person should look at


def _warnings(seen: _Seen) -> Iterator[Warning]:
    waiting = [row for row in seen.depth if row.ready]
    if waiting and not any(worker.alive for worker in seen.workers):
        yield Warning(
            kind="noWorker",
            text=f"No live worker: {_waits(sum(row.ready for row in waiting))}",
            link=_jobs_link(status="pending"),
        )
    else:
        yield from _unhandled(waiting)
    for queue in sorted(seen.paused):
        ready = sum(row.ready for row in waiting if row.queue == queue)
        if ready:
            text = f"Queue {queue} is paused: {_waits(ready)}"
            yield Warning(kind="paused", text=text, link="#/queues")
    dead = [worker for worker in seen.workers if not worker.alive]
    for worker in dead:
        text = (
            f"The worker {worker.info.host}:{worker.info.pid} has died, its jobs are being rescued"
        )
        yield Warning(kind="deadWorker", text=text, link="#/")
    yield from _late(seen, waiting)
    yield from _failing(seen.stats, sum(one.attempts for one in seen.figures.activity))
    if seen.disabled_targets:
        text = f"{seen.disabled_targets} webhook targets answered 410 Gone and are sent nothing"
        yield Warning(kind="targets", text=text, link="#/webhooks")


def _unhandled(waiting: Sequence[DepthRow]) -> Iterator[Warning]:
    for row in waiting:
        if not row.handled:
            yield Warning(
                kind="unhandled",
                text=f"No live worker runs {row.type} of queue {row.queue}: {_waits(row.ready)}",
                link=_jobs_link(queue=row.queue, status="pending", type=row.type),
            )


def _late(seen: _Seen, waiting: Sequence[DepthRow]) -> Iterator[Warning]:
    """What has been ready for long although somebody runs it."""
    for row in waiting:
        if row.handled and not row.paused and row.oldest_ready_at is not None:
            late_s = (seen.now - row.oldest_ready_at).total_seconds()
            if late_s > _LATE_S:
                minutes = round(late_s / 60)
                yield Warning(
                    kind="late",
                    text=f"The oldest ready {row.type} has waited for {minutes} min",
                    link=_jobs_link(queue=row.queue, status="pending", type=row.type),
                )


def _failing(stats: QueueStats, attempts: int) -> Iterator[Warning]:
    if stats.error_rate >= _ERRORS and attempts >= _OF_ATTEMPTS:
        yield Warning(
            kind="errors",
            text=f"{stats.error_rate:.0%} of the attempts of the last five minutes have failed",
            link=_jobs_link(status="failed"),
        )


def _waits(count: int) -> str:
    return "1 job waits" if count == 1 else f"{count:,} jobs wait"


def _jobs_link(**query: str) -> str:
    return f"#/jobs?{urlencode(query)}"
