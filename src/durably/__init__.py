"""Durably: a job queue that is durable on SQLite, embedded, asyncio.

The public names are imported on first use: a command that needs one of them does not wait for all.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durably.domain.bulk import Acted, BulkAction
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
    from durably.domain.search import Found, FoundIds
    from durably.engine.context import CompletionTransaction, JobContext, SyncJobContext
    from durably.engine.drafts import Changeset, FollowUp
    from durably.engine.queue import JobQueueService
    from durably.engine.searching import JobFilter
    from durably.engine.stats import QueueStats
    from durably.engine.tasks import Task
    from durably.stores import open_store

__version__ = "0.1.0"

__all__ = [
    "Acted",
    "AttemptError",
    "BulkAction",
    "Cancel",
    "Changeset",
    "Clock",
    "CompletionTransaction",
    "DurablyError",
    "Event",
    "Fail",
    "FollowUp",
    "Found",
    "FoundIds",
    "Job",
    "JobContext",
    "JobFilter",
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

_HOMES = {
    "durably.domain.bulk": ("Acted", "BulkAction"),
    "durably.domain.clock": ("Clock", "SystemClock"),
    "durably.domain.errors": (
        "DurablyError",
        "JobNotFoundError",
        "JobStateError",
        "LeaseLostError",
        "PayloadError",
        "SettingsError",
        "StoreBusyError",
        "StoreClosedError",
        "StoreCorruptError",
        "StoreError",
        "StoreFullError",
        "StoreReadOnlyError",
        "StoreUnsupportedError",
        "UniqueKeyTakenError",
        "VersionConflictError",
    ),
    "durably.domain.job": ("AttemptError", "Job", "JobPriority", "JobStatus", "NewJob", "Progress"),
    "durably.domain.outcome": ("Cancel", "Event", "Fail", "Record", "Retry", "Snooze"),
    "durably.domain.retry": ("RetryPolicy",),
    "durably.domain.search": ("Found", "FoundIds"),
    "durably.engine.context": ("CompletionTransaction", "JobContext", "SyncJobContext"),
    "durably.engine.drafts": ("Changeset", "FollowUp"),
    "durably.engine.queue": ("JobQueueService",),
    "durably.engine.searching": ("JobFilter",),
    "durably.engine.stats": ("QueueStats",),
    "durably.engine.tasks": ("Task",),
    "durably.stores": ("open_store",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'durably' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
