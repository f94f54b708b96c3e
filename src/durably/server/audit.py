"""Who changed what through the API, and when: entries of the event log under one subject.

An entry commits in the transaction of its change, so that there is none without the other.
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from durably import Changeset, Event, JobQueueService
from durably.domain.clock import to_datetime
from durably.server.auth import Principal

AUDIT_SUBJECT = "audit"
ENQUEUE_SUBJECT = "audit.enqueue"
"""Of added jobs: as many as there are jobs, so they are kept no longer than those."""
AUDIT_SUBJECTS = frozenset({AUDIT_SUBJECT, ENQUEUE_SUBJECT})
_ENQUEUE = "job.enqueue"
_KEPT_S = 90 * 86_400.0
"""The other entries are removed when they are older."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a change comes from."""

    principal: Principal
    request_id: str

    def note(self, changes: Changeset, action: str, subject: str, **details: object) -> None:
        """Add the entry of *action* on *subject* (an id or a queue's name) to *changes*."""
        entry = {
            "by": self.principal.name,
            "requestId": self.request_id,
            "subject": subject,
            "details": details,
        }
        filed = ENQUEUE_SUBJECT if action == _ENQUEUE else AUDIT_SUBJECT
        changes.emit(action, filed, entry)


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One change made through the API."""

    id: int
    at: datetime
    by: Annotated[str, Meta(description="The token: its role and the start of its SHA-256.")]
    action: Annotated[str, Meta(description="For example job.enqueue or instance.delete.")]
    subject: Annotated[str, Meta(description="The id of the job or instance, or the queue.")]
    request_id: str
    details: dict[str, Any]


async def entries(queue: JobQueueService, *, before: int, limit: int) -> list[AuditEntry]:
    """Entries with ids below *before* (0: the newest), newest first."""
    found = [
        event
        for subject in AUDIT_SUBJECTS
        for event in await queue.get_events(
            after=before, subject=subject, limit=limit, newest_first=True
        )
    ]
    found.sort(key=lambda event: event.id, reverse=True)
    return [_entry(event) for event in found[:limit]]


async def prune(queue: JobQueueService) -> None:
    """Remove old entries."""
    await queue.prune_events(AUDIT_SUBJECT, _KEPT_S)
    await queue.prune_events(ENQUEUE_SUBJECT, queue.retention)


def _entry(event: Event) -> AuditEntry:
    return AuditEntry(
        id=event.id,
        at=to_datetime(event.at_us),
        by=event.data["by"],
        action=event.topic,
        subject=event.data["subject"],
        request_id=event.data["requestId"],
        details=event.data["details"],
    )
