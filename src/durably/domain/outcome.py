"""How an attempt ends, and what commits together with its end."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from durably.domain.job import AttemptError, Draft


class Retry(Exception):  # noqa: N818  # a handler raises it to say what to do, it is no error
    """Raised by a handler: this attempt failed, run again later.

    Args:
        reason: kept as the attempt's error.
        delay: seconds; None asks the retry policy.
    """

    def __init__(self, reason: str = "retry requested", *, delay: float | None = None) -> None:
        super().__init__(_check_reason(reason))
        self.delay = None if delay is None else check_seconds("delay", delay)


class Snooze(Exception):  # noqa: N818  # see Retry
    """Raised by a handler: run again after *seconds*; no attempt is spent, no slot held."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"snooze {seconds} s")
        self.seconds = check_seconds("seconds", seconds)


class Cancel(Exception):  # noqa: N818  # see Retry
    """Raised by a handler: the job is no longer wanted; it ends as cancelled."""

    def __init__(self, reason: str = "cancelled by its handler") -> None:
        super().__init__(_check_reason(reason))


class Fail(Exception):  # noqa: N818  # see Retry
    """Raised by a handler: permanent failure, no more attempts."""

    def __init__(self, reason: str = "failed by its handler") -> None:
        super().__init__(_check_reason(reason))


def _check_reason(reason: object) -> str:
    if not isinstance(reason, str):
        raise TypeError(f"reason must be a str (a delay is Retry(delay=5)), got {reason!r}")
    return reason


LONGEST_DELAY = 3_155_760_000.0
"""A hundred years: what lies beyond is a mistake of units."""


def check_seconds(name: str, value: object) -> float:
    """*value* as seconds of 0 to a hundred years."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be seconds as a number, got {value!r}")
    if not 0 <= value <= LONGEST_DELAY:
        raise ValueError(f"{name} must be 0 to {LONGEST_DELAY:.0f} seconds, got {value}")
    return float(value)


class Lease(msgspec.Struct, frozen=True, gc=False):
    """The right to decide how one attempt of one job ends."""

    job_id: str
    token: int
    """From the store; never given out again for this job."""
    ref: int
    """Where the store finds the job."""
    type: str
    queue: str


class Put(msgspec.Struct, frozen=True, kw_only=True):
    """Write a record. `expect` is the version it must have: 0 none yet, None whatever."""

    kind: str
    id: str
    value: str
    expect: int | None = None


class Delete(msgspec.Struct, frozen=True, kw_only=True):
    """Remove a record if it has the version `expect` (None: whatever)."""

    kind: str
    id: str
    expect: int | None = None


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An entry for the event log. `subject` is what it is about, for example an instance's id."""

    topic: str
    subject: str
    data: str


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs, records and events that commit together, or not at all."""

    jobs: tuple[Draft, ...] = ()
    records: tuple[Put | Delete, ...] = ()
    events: tuple[NewEvent, ...] = ()
    cancel: tuple[str, ...] = ()
    """Ids of jobs that this change makes pointless: cancelled if pending, asked to stop if running."""

    def __bool__(self) -> bool:
        return bool(self.jobs or self.records or self.events or self.cancel)


NO_CHANGES = Changes()


class OutcomeKind(StrEnum):
    """What an attempt's end makes of its job."""

    COMPLETED = "completed"
    RETRY = "retry"
    FAILED = "failed"
    SNOOZED = "snoozed"
    CANCELLED = "cancelled"
    RETURNED = "returned"
    """Given back unspent: never started, or interrupted by a shutdown."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong in an attempt; the store adds the number and the time."""

    kind: str
    message: str
    traceback: str = ""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The end of one attempt, as reported to the store."""

    lease: Lease
    kind: OutcomeKind
    run_s: float = 0.0
    """How long the handler ran, seconds."""
    delay_s: float = 0.0
    """For retry and snooze."""
    result: str | None = None
    failure: Failure | None = None
    reason: str | None = None
    """Why it was cancelled."""
    changes: Changes = NO_CHANGES
    untold: bool = False
    """Whether the store was never told that the attempt had started."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A small versioned JSON document kept beside the jobs."""

    kind: str
    id: str
    version: int
    """1 at the first write, one more with each."""
    value: Any


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the append-only event log; ids only grow."""

    id: int
    at_us: int
    topic: str
    subject: str
    data: Any


def attempt_error(
    failure: Failure, attempt: int, at: datetime, started_at: datetime | None
) -> AttemptError:
    """The entry of a job's `errors` for a failed attempt."""
    return AttemptError(
        attempt=attempt,
        at=at,
        started_at=started_at,
        kind=failure.kind,
        message=failure.message,
        traceback=failure.traceback,
    )
