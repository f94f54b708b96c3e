"""What `get_stats` answers, put together from the store's maintained figures."""

from collections.abc import Iterable

import msgspec

from durably.domain.histogram import merge, percentile
from durably.domain.job import JobStatus, State
from durably.store import ACTIVITY_KEPT_S, StoreStats, WorkerState


class QueueStats(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Counts of what the store holds, and rates of the last 300 s over all processes.

    Durations are seconds; percentiles are within 5 percent.
    """

    total_jobs: int
    pending_jobs: int
    """Scheduled ones included."""
    processing_jobs: int
    completed_jobs: int
    failed_jobs: int
    cancelled_jobs: int
    scheduled_jobs: int
    """Pending, and their time has not come."""
    jobs_by_type: dict[str, int]
    """Jobs of every status; registered types appear with 0."""
    throughput: float
    """Jobs that became final, per second."""
    error_rate: float
    """Failed attempts by all attempts, 0 to 1."""
    wait_p50: float
    """From ready to handler start."""
    wait_p95: float
    wait_p99: float
    run_p50: float
    """From handler start to its end."""
    run_p95: float
    run_p99: float
    late_outcomes: int
    """Outcomes refused because their lease was lost, since the store was made."""
    unhandled_types: tuple[str, ...]
    """Types of pending jobs that no live worker has a handler for."""


def queue_stats(
    figures: StoreStats, registered: Iterable[str], workers: Iterable[WorkerState]
) -> QueueStats:
    """The answer from the figures of a store."""
    by_state = dict.fromkeys(State, 0)
    by_type = dict.fromkeys(registered, 0)
    pending: set[str] = set()
    for counted in figures.counts:
        state = State(counted.state)
        by_state[state] += counted.count
        by_type[counted.type] = by_type.get(counted.type, 0) + counted.count
        if state.status is JobStatus.PENDING:
            pending.add(counted.type)
    by_status = dict.fromkeys(JobStatus, 0)
    for state, count in by_state.items():
        by_status[state.status] += count
    handled = {kind for worker in workers if worker.alive for kind in worker.info.types}
    attempts = sum(a.attempts for a in figures.activity)
    wait = merge(a.wait for a in figures.activity)
    run = merge(a.run for a in figures.activity)
    return QueueStats(
        total_jobs=sum(by_state.values()),
        pending_jobs=by_status[JobStatus.PENDING],
        processing_jobs=by_status[JobStatus.PROCESSING],
        completed_jobs=by_status[JobStatus.COMPLETED],
        failed_jobs=by_status[JobStatus.FAILED],
        cancelled_jobs=by_status[JobStatus.CANCELLED],
        scheduled_jobs=by_state[State.SCHEDULED],
        jobs_by_type=by_type,
        throughput=sum(a.finished for a in figures.activity) / ACTIVITY_KEPT_S,
        error_rate=sum(a.failed for a in figures.activity) / attempts if attempts else 0.0,
        wait_p50=percentile(wait, 0.50),
        wait_p95=percentile(wait, 0.95),
        wait_p99=percentile(wait, 0.99),
        run_p50=percentile(run, 0.50),
        run_p95=percentile(run, 0.95),
        run_p99=percentile(run, 0.99),
        late_outcomes=figures.late_outcomes,
        unhandled_types=tuple(sorted(pending - handled)),
    )
