"""Why a job is not running: the first reason that holds, in words."""

from collections.abc import Sequence
from datetime import datetime

from durably.domain.job import Job, JobStatus
from durably.store import WorkerState


def explain(
    job: Job, *, now: datetime, paused: frozenset[str], workers: Sequence[WorkerState]
) -> str:
    """One or two sentences about where *job* stands and what it waits for."""
    if job.status is JobStatus.PROCESSING:
        asked = "; it has been asked to cancel" if job.cancelled else ""
        return (
            f"running: attempt {job.attempts} of {job.max_attempts} on worker {job.worker}{asked}"
        )
    if job.status.is_final:
        return _final(job)
    waits_until = job.next_retry_at or job.run_at
    if waits_until is not None and waits_until > now:
        return _scheduled(job, waits_until, now)
    if job.queue in paused:
        return f"waiting: queue {job.queue!r} is paused; resume it with resume({job.queue!r})"
    return _ready(job, [worker for worker in workers if worker.alive])


def _final(job: Job) -> str:
    text = f"{job.status}: attempt {job.attempts} of {job.max_attempts} was the last"
    return text if job.error is None else f"{text}; error: {job.error}"


def _scheduled(job: Job, until: datetime, now: datetime) -> str:
    wait = f"for {(until - now).total_seconds():.1f} s more, until {until.isoformat()}"
    if job.next_retry_at is not None:
        return (
            f"scheduled: attempt {job.attempts} of {job.max_attempts} failed ({job.error});"
            f" it waits {wait}"
        )
    return f"scheduled: it waits {wait}"


def _ready(job: Job, workers: Sequence[WorkerState]) -> str:
    able = [w for w in workers if job.type in w.info.types]
    if not able:
        none = "" if workers else "; none is registered with this store"
        return f"waiting: no live worker has a handler for {job.type}{none}"
    listening = [w for w in able if job.queue in w.info.queues]
    if not listening:
        return (
            f"waiting: no live worker with a handler for {job.type} takes jobs of queue"
            f" {job.queue!r} now"
        )
    slots = sum(w.info.concurrency for w in listening)
    held = sum(w.held for w in listening)
    if job.crashes:
        return (
            f"waiting: its process died {job.crashes} times, so it runs only where no other"
            f" such job does; {held} jobs are held by the {len(listening)} workers that can run it"
        )
    if held >= slots:
        return (
            f"waiting: all {slots} slots of the {len(listening)} workers that can run it are"
            " taken; higher priorities and older jobs go first"
        )
    return f"ready: one of {len(listening)} workers claims it next, within its processing interval"
