"""What a job is: the snapshot that users see and the record that stores keep."""

from collections.abc import Collection
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Any

import msgspec

from durably.domain.clock import to_datetime


class JobStatus(StrEnum):
    """Where a job stands. A pending job whose time has not come is shown as scheduled."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether only a person's retry can change the job."""
        return self not in (JobStatus.PENDING, JobStatus.PROCESSING)


class JobPriority(IntEnum):
    """Higher runs first."""

    LOW = 1
    NORMAL = 2
    HIGH = 3
    CRITICAL = 4


class State(IntEnum):
    """What a store distinguishes; users see the coarser `JobStatus`."""

    SCHEDULED = 0
    """Pending, its time has not come."""
    READY = 1
    """Pending, may be claimed."""
    RESERVED = 2
    """Claimed ahead of a free slot; shown as pending."""
    RUNNING = 3
    COMPLETED = 4
    FAILED = 5
    CANCELLED = 6

    @property
    def status(self) -> JobStatus:
        """The status that users see."""
        return _STATUS[self]


LEASED = (State.RESERVED, State.RUNNING)
_STATUS = (
    JobStatus.PENDING,
    JobStatus.PENDING,
    JobStatus.PENDING,
    JobStatus.PROCESSING,
    JobStatus.COMPLETED,
    JobStatus.FAILED,
    JobStatus.CANCELLED,
)
_PRIORITY = {int(priority): priority for priority in JobPriority}
STATES_OF = {
    status: tuple(state for state in State if state.status is status) for status in JobStatus
}


class AttemptError(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How one attempt failed. `kind` is ``error``, ``timeout`` or ``crash``."""

    attempt: int
    at: datetime
    started_at: datetime | None = None
    """When its handler started; None: it crashed while it was held, before a start was told."""
    kind: str
    message: str
    traceback: str = ""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a running job says it is: 0 to 1, and in words."""

    fraction: float
    message: str = ""


class Job(msgspec.Struct, frozen=True, rename="camel"):
    """An immutable snapshot. Times are aware UTC datetimes; ids sort by time (UUIDv7).

    As JSON its fields are in camelCase.
    """

    id: str
    type: str
    payload: Any
    status: JobStatus
    priority: JobPriority
    attempts: int
    """Handler starts that were not snoozed, returned unspent or crashed."""
    max_attempts: int
    created_at: datetime
    processed_at: datetime | None
    """When the last attempt started."""
    completed_at: datetime | None
    """When the job became final, however it ended."""
    next_retry_at: datetime | None
    error: str | None
    """The last attempt's message; None once completed."""
    queue: str
    run_at: datetime | None
    """When a delayed or snoozed job becomes ready."""
    result: Any
    progress: Progress | None
    errors: tuple[AttemptError, ...]
    """One entry for each failed attempt, oldest first."""
    tags: tuple[str, ...]
    unique_key: str | None
    crashes: int
    """How often a process died that held this job."""
    worker: str | None
    """Who holds it, or held it last: ``host:pid:registration``."""
    cancelled: bool
    """Whether somebody asked to cancel it."""
    parent: str | None
    """The id of the job whose attempt added it, which may be gone; None: no attempt did."""


class JobRecord(msgspec.Struct, array_like=True, gc=False):
    """A job as stores keep it: flat, mutable, times in microseconds, JSON as text.

    The order of the fields is the order in which a store hands them over (`FIELDS`).
    """

    seq: int
    id: str
    type: str
    queue: str
    priority: Annotated[int, msgspec.Meta(ge=1, le=4)]
    state: Annotated[int, msgspec.Meta(ge=0, le=6)]
    ready_at: int
    """When it became or becomes ready: the place in its lane."""
    created_at: int
    max_attempts: int
    granted: int
    """How many attempts the enqueue gave; a person's retry gives as many again."""
    payload: str
    tags: str = "[]"
    unique_key: str | None = None
    run_at: int | None = None
    parent: str | None = None
    attempts: int = 0
    crashes: int = 0
    processed_at: int | None = None
    completed_at: int | None = None
    next_retry_at: int | None = None
    error: str | None = None
    errors: str = "[]"
    result: str | None = None
    progress: str | None = None
    token: int | None = None
    """The fencing token of the last claim; None once it is no longer valid for anybody."""
    worker: int | None = None
    worker_name: str | None = None
    cancel_requested: int = 0

    @property
    def suspect(self) -> bool:
        """Whether a process died with this job, so that it is run with care."""
        return self.crashes > 0

    def to_job(self) -> Job:
        """The snapshot that users see, with nothing shared."""
        # By position: with so many fields that takes a third of the time that names would.
        return Job(
            self.id,
            self.type,
            msgspec.json.decode(self.payload),
            _STATUS[self.state],
            _PRIORITY[self.priority],
            self.attempts,
            self.max_attempts,
            to_datetime(self.created_at),
            _optional(self.processed_at),
            _optional(self.completed_at),
            _optional(self.next_retry_at),
            self.error,
            self.queue,
            _optional(self.run_at),
            None if self.result is None else msgspec.json.decode(self.result),
            None if self.progress is None else _progress.decode(self.progress),
            () if self.errors == "[]" else _errors.decode(self.errors),
            () if self.tags == "[]" else _tags.decode(self.tags),
            self.unique_key,
            self.crashes,
            self.worker_name,
            bool(self.cancel_requested),
            self.parent,
        )


FIELDS = JobRecord.__struct_fields__
_progress = msgspec.json.Decoder(Progress)
_errors = msgspec.json.Decoder(tuple[AttemptError, ...])
_tags = msgspec.json.Decoder(tuple[str, ...])


def _optional(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else to_datetime(microseconds)


class _ByPosition(msgspec.Struct, frozen=True):
    type: str
    payload: Any = None


class NewJob(_ByPosition, frozen=True, kw_only=True):
    """One job for `JobQueueService.add_jobs`; the fields are `add_job`'s arguments."""

    priority: JobPriority = JobPriority.NORMAL
    max_attempts: int | None = None
    delay: float | None = None
    run_at: datetime | None = None
    queue: str = "default"
    unique_key: str | None = None
    tags: Collection[str] = ()


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A checked and encoded job on its way into a store, which adds the times."""

    id: str
    type: str
    queue: str
    priority: int
    max_attempts: int
    payload: str
    delay_us: int = 0
    """Microseconds after the store's now; 0 with `run_at_us` None: ready at once."""
    run_at_us: int | None = None
    unique_key: str | None = None
    tags: str = "[]"
