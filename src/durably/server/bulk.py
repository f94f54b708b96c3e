"""Retry, cancel or delete all jobs that match: batch by batch, each a transaction with its audit entry.

The client repeats its request with the cursor it was given, so that it shows how far it is and may stop
after any batch; nothing is remembered here. The cursor only goes down: what is added meanwhile is not
visited, nor is anything visited twice.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from durably import JobStatus
from durably.domain.bulk import ACT_MOST, BulkAction, statuses_of
from durably.server.audit import Origin
from durably.server.service import Service
from durably.server.views.jobs import JobQuery

_PREVIEW_ROWS = 500_000
"""A preview that has to count looks at so many jobs at most."""
_UNASKED = frozenset({(BulkAction.RETRY, JobStatus.COMPLETED)})
"""Allowed, and yet only done where the filter names the status."""


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What an action would meet."""

    matching: int
    exact: Annotated[bool, Meta(description="False: at least so many, counting was cut short.")]
    statuses: Annotated[
        tuple[JobStatus, ...], Meta(description="It acts on jobs of these statuses only.")
    ]


class Done(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one batch did."""

    changed: int
    refused: Annotated[
        int, Meta(description="Their status, or a unique key that is taken, did not allow it.")
    ]
    next_cursor: (
        Annotated[str, Meta(description="The after of the next batch; absent when all is done.")]
        | msgspec.UnsetType
    ) = msgspec.UNSET


def statuses_for(action: BulkAction, where: JobQuery) -> tuple[JobStatus, ...]:
    """The statuses that *action* may meet within *where*; none when they exclude each other."""
    if where.status is not None:
        return (where.status,) if where.status in statuses_of(action) else ()
    return tuple(one for one in statuses_of(action) if (action, one) not in _UNASKED)


async def preview(service: Service, action: BulkAction, where: JobQuery) -> Preview:
    """How many jobs there are to act on."""
    statuses = statuses_for(action, where)
    if not statuses:
        return Preview(matching=0, exact=True, statuses=())
    if where.is_counted:
        figures = await service.queue.get_figures()
        return Preview(matching=where.count(figures, statuses), exact=True, statuses=statuses)
    matching = scanned = 0
    after = None
    while scanned < _PREVIEW_ROWS:
        found = await service.queue.match_ids(
            limit=10_000, after=after, **where.conditions(statuses)
        )
        matching, scanned, after = matching + len(found.ids), scanned + found.scanned, found.next
        if after is None:
            break
    return Preview(matching=matching, exact=after is None, statuses=statuses)


async def act(
    service: Service, origin: Origin, action: BulkAction, where: JobQuery, after: int | None
) -> Done:
    """Do *action* to one batch of the jobs that match, below the cursor *after*."""
    statuses = statuses_for(action, where)
    if not statuses:
        return Done(changed=0, refused=0)
    found = await service.queue.match_ids(limit=ACT_MOST, after=after, **where.conditions(statuses))
    cursor = msgspec.UNSET if found.next is None else str(found.next)
    if not found.ids:
        return Done(changed=0, refused=0, next_cursor=cursor)
    changes = service.queue.changeset()
    described = {
        name: str(value) for name, value in msgspec.to_builtins(where).items() if value is not None
    }
    origin.note(changes, f"jobs.{action}", "all that match", filter=described, jobs=len(found.ids))
    acted = await service.queue.act_on_jobs(action, found.ids, changes=changes)
    return Done(changed=acted.changed, refused=acted.refused, next_cursor=cursor)
