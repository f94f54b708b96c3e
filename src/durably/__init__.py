"""Durably: a job queue that is durable on SQLite, embedded, asyncio."""

from durably.domain.clock import Clock, SystemClock
from durably.domain.errors import (
    DurablyError,
    JobNotFoundError,
    JobStateError,
    LeaseLostError,
    PayloadError,
    SettingsError,
    StoreBusyError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnsupportedError,
    UniqueKeyTakenError,
    VersionConflictError,
)
from durably.domain.job import AttemptError, Job, JobPriority, JobStatus, NewJob, Progress
from durably.domain.outcome import Cancel, Event, Fail, Record, Retry, Snooze
from durably.domain.retry import RetryPolicy
from durably.engine.context import CompletionTransaction, JobContext, SyncJobContext
from durably.engine.drafts import Changeset, FollowUp
from durably.engine.queue import JobQueueService
from durably.engine.stats import QueueStats
from durably.engine.tasks import Task
from durably.stores import open_store

__version__ = "0.1.0"

__all__ = [
    "AttemptError",
    "Cancel",
    "Changeset",
    "Clock",
    "CompletionTransaction",
    "DurablyError",
    "Event",
    "Fail",
    "FollowUp",
    "Job",
    "JobContext",
    "JobNotFoundError",
    "JobPriority",
    "JobQueueService",
    "JobStateError",
    "JobStatus",
    "LeaseLostError",
    "NewJob",
    "PayloadError",
    "Progress",
    "QueueStats",
    "Record",
    "Retry",
    "RetryPolicy",
    "SettingsError",
    "Snooze",
    "StoreBusyError",
    "StoreClosedError",
    "StoreCorruptError",
    "StoreError",
    "StoreFullError",
    "StoreReadOnlyError",
    "StoreUnsupportedError",
    "SyncJobContext",
    "SystemClock",
    "Task",
    "UniqueKeyTakenError",
    "VersionConflictError",
    "__version__",
    "open_store",
]
