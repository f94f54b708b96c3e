"""From the arguments of `search_jobs` and its like to checked conditions."""

from collections.abc import Collection
from datetime import datetime
from typing import TypedDict

from durably.domain.job import JobStatus
from durably.domain.payload import check_text
from durably.domain.search import Search
from durably.engine.drafts import QUEUE_LONGEST, TAG_LONGEST, TYPE_LONGEST, check_moment

TEXT_LONGEST = 1_000


class JobFilter(TypedDict, total=False):
    """Which jobs are meant: every condition given must hold; None and () ask nothing."""

    statuses: Collection[JobStatus]
    """`JobStatus` or its value, any of them."""
    type: str | None
    """The job type."""
    queue: str | None
    """The queue."""
    tag: str | None
    """One of the job's tags, as a whole."""
    text: str | None
    """At most 1,000 characters: begins the id, or stands in type, unique key, error, tags or payload
    (as JSON), without regard to the case of ASCII letters."""
    since: datetime | None
    """Created then (aware) or later."""
    until: datetime | None
    """Created earlier (aware)."""


def search_of(
    *,
    statuses: Collection[JobStatus] = (),
    type: str | None = None,
    queue: str | None = None,
    tag: str | None = None,
    text: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Search:
    """The conditions of a `JobFilter`; TypeError or ValueError name the wrong one and its value."""
    return Search(
        statuses=_statuses(statuses),
        type=_optional_text("type", type, TYPE_LONGEST),
        queue=_optional_text("queue", queue, QUEUE_LONGEST),
        tag=_optional_text("tag", tag, TAG_LONGEST),
        text=_optional_text("text", text, TEXT_LONGEST),
        since_us=None if since is None else check_moment("since", since),
        until_us=None if until is None else check_moment("until", until),
    )


def status_of(value: object) -> JobStatus:
    """A `JobStatus` by itself or its value; else ValueError."""
    try:
        return JobStatus(value)  # type: ignore[arg-type]  # checked here
    except ValueError:
        known = ", ".join(JobStatus)
        raise ValueError(f"status must be one of {known}, got {value!r}") from None


def _statuses(values: Collection[JobStatus]) -> tuple[JobStatus, ...]:
    if isinstance(values, str) or not isinstance(values, Collection):
        raise TypeError(f"statuses must be several, for example ['failed'], got {values!r}")
    asked = {status_of(value) for value in values}
    return tuple(status for status in JobStatus if status in asked)


def _optional_text(name: str, value: object, longest: int) -> str | None:
    return None if value is None else check_text(name, value, longest=longest)
