"""Jobs by more than their status: search, and change all that match."""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.params import QueryParameter
from msgspec import Meta

from durably.domain.bulk import BulkAction
from durably.server import bulk
from durably.server.answers import answer, problems
from durably.server.auth import Role, require
from durably.server.parameters import OfQueue, OfStatus, OfType, no_other_query
from durably.server.schemas import NO_NUL
from durably.server.service import origin_of, service_of
from durably.server.validation import decode_object, fitted
from durably.server.views.jobs import JobList, JobQuery, check_text_search, job_list, job_query

_LARGEST_CURSOR = 2**63 - 1
_A_TIME = {"format": "date-time"}
_PLACE = r"^[1-9][0-9]{0,18}$"
_Cursor = Annotated[str, Meta(pattern=_PLACE, description="Of the page before.")]
_EXAMPLE = {"action": "retry", "filter": {"status": "failed", "type": "send_mail"}, "dryRun": True}


class BulkBody(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """What is to be done to all jobs that match."""

    action: Annotated[
        BulkAction,
        Meta(
            description="retry meets failed and cancelled jobs (completed ones if the filter names"
            " that status), cancel pending and processing ones, delete final ones."
        ),
    ]
    filter: Annotated[JobQuery, Meta(description="As of GET /api/jobs/search; {} is all jobs.")]
    dry_run: Annotated[bool, Meta(description="Only say how many there are.")] = False
    after: Annotated[_Cursor, Meta(description="nextCursor of the batch before.")] | None = None


@get(
    "/api/jobs/search",
    guards=[require(Role.VIEWER)],
    summary="Search jobs",
    responses=problems(400),
)
async def search_jobs(
    request: Request[Any, Any, Any],
    status: OfStatus = None,
    type: OfType = None,
    queue: OfQueue = None,
    tag: Annotated[str | None, QueryParameter(min_length=1, max_length=100, pattern=NO_NUL)] = None,
    text: Annotated[
        str | None,
        QueryParameter(
            min_length=1,
            max_length=500,
            pattern=NO_NUL,
            description="In id, type, unique key, error, tags or payload; ASCII in any case.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        QueryParameter(description="Added at this time or after it.", schema_extra=_A_TIME),
    ] = None,
    until: Annotated[
        str | None, QueryParameter(description="Added before this time.", schema_extra=_A_TIME)
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    after: Annotated[
        str | None,
        QueryParameter(pattern=_PLACE, description="Go on after: nextCursor of the page before."),
    ] = None,
) -> Response[JobList]:
    """Newest first. A page looks at 20,000 jobs at most: it may be short and yet have a nextCursor."""
    given = {"status": status, "type": type, "queue": queue, "tag": tag, "text": text}
    no_other_query(request, *given, "since", "until", "limit", "after")
    where = job_query({**given, "since": since, "until": until})
    if text is not None:
        check_text_search(service_of(request), request.scope["state"]["principal"])
    page = await job_list(service_of(request), where, limit=limit, after=_number(after))
    return answer(page)


@post(
    "/api/jobs/bulk",
    status_code=200,
    guards=[require(Role.OPERATOR)],
    summary="Retry, cancel or delete all jobs that match",
    responses=problems(400, 413, 415),
    opt={"body": BulkBody, "example": _EXAMPLE},
)
async def change_jobs(
    request: Request[Any, Any, Any],
) -> Response[bulk.Preview | bulk.Done]:
    """One batch of at most 1,000: repeat it with `after` until there is no `nextCursor`."""
    service = service_of(request)
    body = fitted(decode_object(await request.body()), BulkBody)
    if body.dry_run:
        return answer(await bulk.preview(service, body.action, body.filter))
    done = await bulk.act(
        service, origin_of(request), body.action, body.filter, _number(body.after)
    )
    return answer(done)


def _number(cursor: str | None) -> int | None:
    return None if cursor is None else min(int(cursor), _LARGEST_CURSOR)


HANDLERS = [search_jobs, change_jobs]
