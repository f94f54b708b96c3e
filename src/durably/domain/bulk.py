"""One action on many jobs: which of them it may change, for every store."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from durably.domain import transitions
from durably.domain.job import JobRecord, JobStatus

ACT_MOST = 1_000
"""So many jobs one action names: others wait for its transaction."""


class BulkAction(StrEnum):
    """What is done to each of many jobs."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"


class Acted(msgspec.Struct, frozen=True):
    """What became of the jobs that an action named."""

    changed: int
    refused: int
    """Unknown, in a status that forbids it, or its unique key is another's."""


def statuses_of(action: BulkAction) -> tuple[JobStatus, ...]:
    """The statuses that *action* may meet."""
    final = action is not BulkAction.CANCEL
    return tuple(status for status in JobStatus if status.is_final is final)


def allowed(
    action: BulkAction, records: Iterable[JobRecord], taken: Iterable[tuple[str, str]] = ()
) -> list[JobRecord]:
    """Those of *records* that *action* may change, in their order.

    *taken* are the (type, unique key) of live jobs; each retried job takes its own from the later.
    """
    if action is BulkAction.CANCEL:
        return [record for record in records if not transitions.is_final(record)]
    final = [record for record in records if transitions.is_final(record)]
    return final if action is BulkAction.DELETE else _without_taken(final, set(taken))


def _without_taken(records: list[JobRecord], taken: set[tuple[str, str]]) -> list[JobRecord]:
    free = []
    for record in records:
        if record.unique_key is not None:
            key = (record.type, record.unique_key)
            if key in taken:
                continue
            taken.add(key)
        free.append(record)
    return free
