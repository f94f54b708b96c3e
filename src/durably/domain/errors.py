"""Every exception that Durably raises on purpose.

DurablyError
├── PayloadError (ValueError)        not JSON-able, over 1 MiB, or not of the type's shape
├── SettingsError (ValueError)       a setting, flag or store URL that cannot be used
├── JobNotFoundError (LookupError)   no job has this id
├── JobStateError                    the job's status forbids what was asked
│   └── UniqueKeyTakenError          another live job holds the key
├── LeaseLostError                   the attempt no longer owns its job; nothing was written
├── VersionConflictError             a record has changed since it was read
└── StoreError                       the store could not do it; nothing was written
    ├── StoreClosedError             not opened yet, closed, or opened before a fork
    ├── StoreBusyError               locked by others for too long, or by this task's `complete`
    ├── StoreReadOnlyError
    ├── StoreFullError
    ├── StoreCorruptError
    └── StoreUnsupportedError        network file system, foreign or newer schema, old SQLite
"""


class DurablyError(Exception):
    """The root of all errors raised on purpose."""


class PayloadError(DurablyError, ValueError):
    """A payload or result is not JSON-able, too large, or not of its type's shape."""


class SettingsError(DurablyError, ValueError):
    """A setting or store URL cannot be used; the message names it and the way out."""


class JobNotFoundError(DurablyError, LookupError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job has the id {job_id!r}")
        self.job_id = job_id


class JobStateError(DurablyError):
    """The job's status forbids what was asked."""


class UniqueKeyTakenError(JobStateError):
    """Another pending or processing job of this type holds the unique key."""


class LeaseLostError(DurablyError):
    """The attempt's lease is no longer valid: the store refused the write."""


class VersionConflictError(DurablyError):
    """A record has another version than the writer expected; nothing was written."""


class StoreError(DurablyError):
    """The store could not carry out the operation; nothing was written."""


class StoreClosedError(StoreError):
    """The store is not open in this process."""


class StoreBusyError(StoreError):
    """The store is locked: by other processes for too long, or by this task's own `complete`."""


class StoreReadOnlyError(StoreError):
    """The store's file or folder cannot be written."""


class StoreFullError(StoreError):
    """The disk is full."""


class StoreCorruptError(StoreError):
    """The file is damaged or no database of ours."""


class StoreUnsupportedError(StoreError):
    """The store exists but must not be used: its file system, schema or engine does not fit."""
