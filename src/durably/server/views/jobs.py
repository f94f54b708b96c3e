"""Lists of jobs, and one job with all that is known of it."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from durably import Job, JobNotFoundError, JobStatus, Progress
from durably.engine.searching import JobFilter, search_of
from durably.instances import Fault
from durably.server.auth import Principal, Role
from durably.server.errors import ApiError, invalid, lowered
from durably.server.schemas import NO_NUL, JobView, Name, QueueName, Tag
from durably.server.service import Service
from durably.store import StoreStats

PREVIEW_MOST = 160
_ERROR_MOST = 240
_RELATED_MOST = 100
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""Between these lies every moment that a store could know."""


class JobQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs; all that is given must hold."""

    status: JobStatus | None = None
    type: Name | None = None
    queue: QueueName | None = None
    tag: Tag | None = None
    text: Annotated[str, Meta(min_length=1, max_length=500, pattern=NO_NUL)] | None = None
    since: Annotated[datetime, Meta(tz=True)] | None = None
    until: Annotated[datetime, Meta(tz=True)] | None = None

    @property
    def is_counted(self) -> bool:
        """Whether maintained counts say how many there are."""
        return not (self.tag or self.text or self.since or self.until)

    def fits(self, job: Job) -> bool:
        """Whether all but the text holds for *job*."""
        return (
            self.status in (None, job.status)
            and self.type in (None, job.type)
            and self.queue in (None, job.queue)
            and (self.tag is None or self.tag in job.tags)
            and (self.since is None or job.created_at >= self.since)
            and (self.until is None or job.created_at < self.until)
        )

    def conditions(self, statuses: Collection[JobStatus] | None = None) -> JobFilter:
        """What the queue is asked for; *statuses* instead of the query's own."""
        own = () if self.status is None else (self.status,)
        return JobFilter(
            statuses=own if statuses is None else statuses,
            type=self.type,
            queue=self.queue,
            tag=self.tag,
            text=self.text,
            since=_countable(self.since),
            until=_countable(self.until),
        )

    def count(self, figures: StoreStats, statuses: Collection[JobStatus] | None = None) -> int:
        """How many there are, by maintained counts; of *statuses* instead of the query's own."""
        search = search_of(**self.conditions(statuses))
        return sum(
            one.count for one in figures.counts if search.covers(one.queue, one.type, one.state)
        )


def job_query(given: Mapping[str, object]) -> JobQuery:
    """What the parameters of a query describe; None is not given.

    Raises:
        ApiError: 400, one does not fit.
    """
    try:
        return msgspec.convert({k: v for k, v in given.items() if v is not None}, JobQuery)
    except msgspec.ValidationError as error:
        place = str(error).partition(" - at `$.")[2].rstrip("`")
        raise invalid(Fault(field=place, message=lowered(str(error)))) from None


def _countable(moment: datetime | None) -> datetime | None:
    """*moment*, or the nearest one that a store could know: no job was added before or after."""
    return None if moment is None else min(max(moment, _FIRST), _LAST)


class JobRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A job in a list."""

    id: str
    type: str
    queue: str
    status: JobStatus
    scheduled: bool
    priority: int
    attempts: int
    max_attempts: int
    created_at: datetime
    due_at: datetime | None
    """When it may run, if that was put off."""
    processed_at: datetime | None
    completed_at: datetime | None
    error: str | None
    """Its beginning."""
    progress: Progress | None
    tags: tuple[str, ...]
    unique_key: str | None
    crashes: int
    worker: str | None
    cancelled: bool
    preview: str
    """The beginning of the payload as JSON."""


class JobList(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Jobs, newest first. A page may be short and yet not the last: nothing more was found so far."""

    jobs: list[JobRow]
    total: int | None
    """How many match; None where that would have to be counted."""
    scanned: int
    """So many jobs were looked at for this page."""
    next_cursor: str | msgspec.UnsetType = msgspec.UNSET


class AttemptView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One attempt of a job, on its timeline."""

    number: int
    ready_at: datetime
    """From when on it waited."""
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str
    """running, completed, cancelled, error, timeout or crash."""
    message: str | None
    traceback: str


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """A durable step that has been done."""

    name: str
    result: Any


class JobDetail(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A job's page."""

    job: JobView
    explanation: str
    attempts: list[AttemptView]
    steps: list[StepView]
    parent: JobRow | None
    """Whose attempt added it."""
    children: list[JobRow]
    """What its attempts added."""
    instance_id: str | None


def check_text_search(service: Service, principal: Principal) -> None:
    """Refuse a viewer to look for a text where fields are hidden: trying would tell their values.

    Raises:
        ApiError: 403.
    """
    if service.redactor.has_names and principal.role < Role.OPERATOR:
        told = "while DURABLY_REDACT hides fields, looking for a text needs the role operator"
        raise ApiError(403, "forbidden", told)


async def job_list(
    service: Service, where: JobQuery, *, limit: int, after: int | None = None
) -> JobList:
    """A page of the jobs that match."""
    if after is None and (job := await _named(service, where)) is not None:
        return JobList(jobs=[_row(service, job)], total=None, scanned=1)
    found = await service.queue.search_jobs(limit=limit, after=after, **where.conditions())
    total = None
    if where.is_counted:
        total = where.count(await service.queue.get_figures())
    return JobList(
        jobs=[_row(service, job) for job in found.jobs],
        total=total,
        scanned=found.scanned,
        next_cursor=msgspec.UNSET if found.next is None else str(found.next),
    )


async def _named(service: Service, where: JobQuery) -> Job | None:
    """The job whose id is the text that is looked for: no search walks down to an old one in a page."""
    job = None if where.text is None else await service.queue.get_job(where.text)
    return job if job is not None and where.fits(job) else None


async def job_detail(service: Service, job_id: str) -> JobDetail:
    """The page of a job. JobNotFoundError."""
    queue = service.queue
    job = await queue.get_job(job_id)
    if job is None:
        raise JobNotFoundError(job_id)
    parent = None if job.parent is None else await queue.get_job(job.parent)
    children = await queue.get_children(job.id, limit=_RELATED_MOST)
    steps = await queue.get_steps(job.id)
    return JobDetail(
        job=service.view(job),
        explanation=await queue.explain(job.id),
        attempts=attempts_of(job),
        steps=[
            StepView(name=name, result=service.redactor.hide(result))
            for name, result in steps.items()
        ],
        parent=None if parent is None else _row(service, parent),
        children=[_row(service, child) for child in children],
        instance_id=_instance_of(job),
    )


def attempts_of(job: Job) -> list[AttemptView]:
    """What is known of each attempt, oldest first; the last may still run."""
    attempts = []
    ready_at = job.run_at if job.run_at and job.run_at > job.created_at else job.created_at
    for error in job.errors:
        attempts.append(
            AttemptView(
                number=error.attempt,
                ready_at=min(ready_at, error.started_at or error.at),
                started_at=error.started_at,
                ended_at=error.at,
                outcome=error.kind,
                message=error.message,
                traceback=error.traceback,
            )
        )
        ready_at = error.at
    last = _last(job, ready_at)
    return [*attempts, last] if last is not None else attempts


def _last(job: Job, ready_at: datetime) -> AttemptView | None:
    """The attempt that is no error: it runs, or has ended well, or was cancelled."""
    runs = job.status is JobStatus.PROCESSING
    ended = job.status in (JobStatus.COMPLETED, JobStatus.CANCELLED)
    if job.processed_at is None or not (runs or ended) or job.processed_at < ready_at:
        return None
    return AttemptView(
        number=job.attempts,
        ready_at=min(ready_at, job.processed_at),
        started_at=job.processed_at,
        ended_at=None if runs else job.completed_at,
        outcome="running" if runs else str(job.status),
        message=None,
        traceback="",
    )


def _row(service: Service, job: Job) -> JobRow:
    # Payload and result are large, and hiding looks at all of them: rows need only a beginning.
    payload, whole = beginning(job.payload, 2 * PREVIEW_MOST)
    view = service.view(msgspec.structs.replace(job, payload=payload, result=None, errors=()))
    same = {name: getattr(view, name) for name in JobRow.__struct_fields__ if hasattr(view, name)}
    return JobRow(
        **{
            **same,
            "error": None if view.error is None else shortened(view.error, _ERROR_MOST),
            "due_at": view.next_retry_at or view.run_at,
            "preview": _preview(view.payload, whole=whole),
        }
    )


def _preview(payload: Any, *, whole: bool) -> str:
    if payload is None:
        return ""
    text = shortened(msgspec.json.encode(payload).decode(), PREVIEW_MOST)
    return text if whole or text.endswith("…") else f"{text}…"


def beginning(value: Any, most: int) -> tuple[Any, bool]:
    """The beginning of *value*, about *most* characters as JSON, and whether that is all of it.

    >>> beginning({"a": [1, 2, 3], "b": 4}, 9)
    ({'a': [1]}, False)
    """
    left, whole = most, True

    def taken(value: Any) -> Any:  # at most *most* deep: each level takes of what is left
        nonlocal left, whole
        if isinstance(value, str):
            part = value[:most]
            left -= len(part) + 2
            whole = whole and len(part) == len(value)
            return part
        if not isinstance(value, dict | list):
            left -= 1
            return value
        left -= 2
        cut: list[Any] = []
        for item in value.items() if isinstance(value, dict) else value:
            if left <= 0:
                whole = False
                break
            if isinstance(value, dict):
                left -= len(item[0]) + 3
                cut.append((item[0], taken(item[1])))
            else:
                cut.append(taken(item))
        return dict(cut) if isinstance(value, dict) else cut

    return taken(value), whole


def shortened(text: str, most: int) -> str:
    """The beginning of a text.

    >>> shortened("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _instance_of(job: Job) -> str | None:
    """The instance that the job is about."""
    named = job.payload.get("instanceId") if isinstance(job.payload, dict) else None
    return named if isinstance(named, str) else None
