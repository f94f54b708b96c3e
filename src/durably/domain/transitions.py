"""What an event makes of a job: every change of state, in one place, for every store.

Each function changes a `JobRecord` in place and takes the store's time in microseconds. Whether the
event may happen (is the token valid, is the job final) is asked first, by `owns` and `check_…`.
"""

from typing import TypeGuard

import msgspec

from durably.domain.clock import to_datetime
from durably.domain.errors import JobStateError
from durably.domain.job import LEASED, STATES_OF, Draft, JobRecord, JobStatus, State
from durably.domain.outcome import Failure, Outcome, OutcomeKind, attempt_error

CRASH_LIMIT = 3
"""So many deaths of its process put a job aside; after a person's retry as many again."""

# Every job's way, looked up once: up to Python 3.11 a member of an enum costs ten names of a module.
_RESERVED, _RUNNING, _DONE = State.RESERVED, State.RUNNING, State.COMPLETED
_COMPLETED, _RETURNED = OutcomeKind.COMPLETED, OutcomeKind.RETURNED
_FINAL = (
    STATES_OF[JobStatus.COMPLETED] + STATES_OF[JobStatus.FAILED] + STATES_OF[JobStatus.CANCELLED]
)


def create(draft: Draft, seq: int, now: int, parent: str | None = None) -> JobRecord:
    """A new job as it is stored. *parent* is the id of the job whose attempt added it."""
    run_at = draft.run_at_us
    if run_at is None and draft.delay_us > 0:
        run_at = now + draft.delay_us
    waits = run_at is not None and run_at > now
    return JobRecord(
        seq=seq,
        id=draft.id,
        type=draft.type,
        queue=draft.queue,
        priority=draft.priority,
        state=State.SCHEDULED if waits else State.READY,
        ready_at=run_at if waits and run_at is not None else now,
        created_at=now,
        max_attempts=draft.max_attempts,
        granted=draft.max_attempts,
        payload=draft.payload,
        tags=draft.tags,
        unique_key=draft.unique_key,
        run_at=run_at,
        parent=parent,
    )


def is_final(record: JobRecord) -> bool:
    """Whether only a person's retry can change the job."""
    return record.state in _FINAL


def owns(record: JobRecord | None, token: int) -> TypeGuard[JobRecord]:
    """Whether *token* is the job's valid lease."""
    return record is not None and record.state in LEASED and record.token == token


def already_recorded(record: JobRecord | None, token: int) -> bool:
    """Whether the attempt of *token* has ended and nobody has claimed since: a repeated report."""
    return record is not None and record.state not in LEASED and record.token == token


def claim(record: JobRecord, token: int, worker: int, name: str, now: int, start: bool) -> None:
    """Lease the job; with *start* its handler starts at once, else it is only reserved."""
    record.state = _RESERVED
    record.token = token
    record.worker = worker
    record.worker_name = name
    if start:
        begin(record, now)


def begin(record: JobRecord, now: int) -> None:
    """The handler of a reserved job starts."""
    record.state = _RUNNING
    record.attempts += 1
    record.processed_at = now
    record.next_retry_at = None


def record_outcome(record: JobRecord, outcome: Outcome, now: int) -> None:
    """End the attempt as *outcome* says. The caller has asked `owns`."""
    if record.state == _RESERVED and outcome.kind is not _RETURNED:
        begin(record, now - int(outcome.run_s * 1e6))
    kind = outcome.kind
    if outcome.failure is not None:
        _note(record, outcome.failure, record.attempts, now, record.processed_at)
    if record.cancel_requested and kind is not _COMPLETED:
        if kind is _RETURNED:
            _unspend(record)
        _end(record, State.CANCELLED, now, error=outcome.reason or "cancelled")
    elif kind is _COMPLETED:
        _end(record, _DONE, now, error=None)
        record.result = outcome.result
    elif kind is OutcomeKind.FAILED:
        _end(record, State.FAILED, now, error=record.error)
    elif kind is OutcomeKind.CANCELLED:
        _end(record, State.CANCELLED, now, error=outcome.reason)
    elif kind is OutcomeKind.RETRY:
        _wait(record, now, outcome.delay_s)
        record.next_retry_at = record.ready_at
    else:
        _unspend(record)
        if kind is OutcomeKind.SNOOZED:
            _wait(record, now, outcome.delay_s)
            record.run_at = record.ready_at
        else:
            # Its place in the lane is the one it had: it has been ready all the time.
            record.state = State.READY


def crash(record: JobRecord, who: str, now: int) -> None:
    """The process that held the job died, or its lease ended. Ready at once, or put aside."""
    started = record.state == State.RUNNING
    message = f"worker {who} died or lost its lease while it {'ran' if started else 'held'} the job"
    failure = Failure(kind="crash", message=message)
    # Of a job that was only held it is when an earlier attempt started.
    started_at = record.processed_at if started else None
    _note(record, failure, record.attempts + (not started), now, started_at)
    _unspend(record)
    record.crashes += 1
    if record.cancel_requested:
        _end(record, State.CANCELLED, now, error="cancelled")
    elif record.crashes % CRASH_LIMIT == 0:
        error = f"quarantined: its process died {record.crashes} times; last: {message}"
        _end(record, State.FAILED, now, error=error)
    else:
        record.state = State.READY
        record.ready_at = now
    record.token = None


def request_cancel(record: JobRecord, now: int) -> None:
    """Cancel a pending job; ask the worker of a leased one. JobStateError when it is final."""
    if is_final(record):
        raise _forbidden(record, "cancelled")
    record.cancel_requested = 1
    if record.state not in LEASED:
        _end(record, State.CANCELLED, now, error="cancelled")


def sleeps(record: JobRecord | None, now: int) -> TypeGuard[JobRecord]:
    """Whether the job waits for a later time because somebody wished so, and not after a failure."""
    return (
        record is not None
        and record.state == State.SCHEDULED
        and record.ready_at > now
        and record.next_retry_at is None
    )


def wake(record: JobRecord, now: int) -> None:
    """Its time has come already. The caller has asked `sleeps`."""
    record.state = State.READY
    record.ready_at = record.run_at = now


def redrive(record: JobRecord, payload: str | None, now: int) -> None:
    """A person runs a final job again, with as many attempts as it was given at first."""
    if not is_final(record):
        raise _forbidden(record, "retried")
    if record.state == State.CANCELLED:
        # The reason of a cancel is no attempt's message.
        past = msgspec.json.decode(record.errors)
        record.error = past[-1]["message"] if past else None
    record.state = State.READY
    record.ready_at = now
    record.max_attempts = record.attempts + record.granted
    record.completed_at = record.next_retry_at = record.run_at = None
    record.result = record.progress = None
    record.cancel_requested = 0
    record.token = None
    if payload is not None:
        record.payload = payload


def check_deletable(record: JobRecord) -> None:
    """JobStateError unless the job is final: only then may a person delete it."""
    if not is_final(record):
        raise _forbidden(record, "deleted")


def _forbidden(record: JobRecord, verb: str) -> JobStateError:
    status = State(record.state).status
    return JobStateError(f"a {status} job cannot be {verb}: {record.id}")


def _end(record: JobRecord, state: State, now: int, *, error: str | None) -> None:
    record.state = state
    record.completed_at = now
    record.next_retry_at = None
    record.error = error


def _wait(record: JobRecord, now: int, delay_s: float) -> None:
    record.ready_at = now + int(delay_s * 1e6)
    record.state = State.SCHEDULED if record.ready_at > now else State.READY


def _unspend(record: JobRecord) -> None:
    if record.state == State.RUNNING:
        record.attempts -= 1


def _note(
    record: JobRecord, failure: Failure, attempt: int, now: int, started_at: int | None
) -> None:
    record.error = failure.message
    started = None if started_at is None else to_datetime(started_at)
    error = attempt_error(failure, attempt, to_datetime(now), started)
    entry = msgspec.json.encode(error).decode()
    # The list is JSON text: appending to it spares decoding what came before.
    record.errors = f"[{entry}]" if record.errors == "[]" else f"{record.errors[:-1]},{entry}]"
