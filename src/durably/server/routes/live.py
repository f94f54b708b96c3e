"""The live stream: what pages show, kept up to date."""

from typing import Annotated, Any

from litestar import Request, get
from litestar.params import QueryParameter
from litestar.types import ASGIApp

from durably.server.answers import problems
from durably.server.auth import Role, require
from durably.server.live import too_many_topics
from durably.server.parameters import no_other_query
from durably.server.routes.events import STREAM_RESPONSE, LastEventId, stream
from durably.server.service import service_of
from durably.server.views.topics import render_of

_MOST = 8


@get(
    "/api/live",
    guards=[require(Role.VIEWER)],
    summary="Follow what the dashboard shows",
    responses={**STREAM_RESPONSE, **problems(400, 404)},
)
async def live(
    request: Request[Any, Any, Any],
    topic: Annotated[
        list[str],
        QueryParameter(
            min_items=1,
            max_items=_MOST,
            description="shell, overview, history?range=, jobs?status=…, job/<id>, instances,"
            " instance/<id>, webhooks, queues, audit; each is the event's name.",
        ),
    ],
    last_event_id: LastEventId = None,
) -> ASGIApp:
    """The state of each topic at once, then whenever it changes; `beat` while nothing does."""
    no_other_query(request, "topic")
    service = service_of(request)
    principal = request.scope["state"]["principal"]
    rendered = [(name, render_of(service, principal, name)) for name in dict.fromkeys(topic)]
    audience = principal.role.name  # what one role is refused another may see
    if not service.feed.has_room((name for name, _ in rendered), audience):
        raise too_many_topics()
    return stream(request, service.feed.follow(rendered, last_event_id, audience))


HANDLERS = [live]
