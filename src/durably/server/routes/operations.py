"""What operators and their tools ask: figures, metrics, health, audit."""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.params import QueryParameter

from durably import QueueStats
from durably.server.answers import answer, problems
from durably.server.audit import entries
from durably.server.auth import Role, require
from durably.server.errors import ApiError
from durably.server.parameters import no_other_query
from durably.server.schemas import AuditPage, Health, StatsView
from durably.server.service import service_of

_NOT_READY_RETRY_S = 5


@get(
    "/api/stats",
    guards=[require(Role.VIEWER)],
    summary="Figures of the queue",
    responses=problems(),
)
async def stats(request: Request[Any, Any, Any]) -> Response[StatsView]:
    """Counts, and rates of the last 300 s over all processes."""
    queue = service_of(request).queue
    figures = await queue.get_stats()
    fields = {name: getattr(figures, name) for name in QueueStats.__struct_fields__}
    return answer(StatsView(**fields, paused_queues=sorted(await queue.paused_queues())))


@get(
    "/metrics",
    guards=[require(Role.VIEWER)],
    media_type="text/plain",
    summary="Figures for Prometheus",
    responses=problems(),
)
async def metrics(request: Request[Any, Any, Any]) -> Response[str]:
    """In its text format; every name begins with durably_."""
    service = service_of(request)
    ready = not await service.readiness.reasons()
    text, kind = await service.metrics.exposition(
        service.queue, ready=ready, streams=service.log.followers
    )
    return Response(text.decode(), media_type=kind)


@get("/health/live", summary="Does the process answer?", responses=problems())
async def live() -> Health:
    """Yes, if there is an answer."""
    return Health(status="live")


@get("/health/ready", summary="Is the service of use?", responses=problems())
async def ready(request: Request[Any, Any, Any]) -> Health:
    """Not when claiming or renewing leases gets stuck, no handler is there, or nothing is stored."""
    reasons = await service_of(request).readiness.reasons()
    if reasons:
        raise ApiError(
            503,
            "not_ready",
            "; ".join(reasons),
            headers={"Retry-After": str(_NOT_READY_RETRY_S)},
            reasons=reasons,
        )
    return Health(status="ready")


@get(
    "/api/audit",
    guards=[require(Role.ADMIN)],
    summary="Who changed what, and when",
    responses=problems(400),
)
async def audit(
    request: Request[Any, Any, Any],
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    after: Annotated[
        int,
        QueryParameter(
            ge=0,
            le=2**53 - 1,
            description="Go on after this entry: nextCursor of the page before.",
        ),
    ] = 0,
) -> Response[AuditPage]:
    """Newest first. Kept for 90 days; those of added jobs as long as final jobs are."""
    no_other_query(request, "limit", "after")
    found = await entries(service_of(request).queue, before=after, limit=limit)
    cursor = found[-1].id if len(found) == limit else msgspec.UNSET
    return answer(AuditPage(entries=found, next_cursor=cursor))


HANDLERS = [stats, metrics, live, ready, audit]
