"""Event streams (server-sent events)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from litestar import Request, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter
from litestar.types import ASGIApp, Receive, Scope, Send

from durably import Clock
from durably.instances import InstanceNotFoundError
from durably.server.answers import problems
from durably.server.auth import Role, require
from durably.server.parameters import InstanceId
from durably.server.service import service_of
from durably.server.streams import send_stream

_viewer = [require(Role.VIEWER)]
_PATIENCE_S = 30.0
"""So long a client may take nothing."""
LastEventId = Annotated[
    str | None,
    HeaderParameter(name="Last-Event-ID", description="Go on after the event with this id."),
]
STREAM_RESPONSE = {
    200: ResponseSpec(
        str,
        description="Server-sent events.",
        media_type="text/event-stream",
        generate_examples=False,
    )
}


@get(
    "/api/events",
    guards=_viewer,
    summary="Follow the events of all instances",
    responses={**STREAM_RESPONSE, **problems()},
)
async def events(request: Request[Any, Any, Any], last_event_id: LastEventId = None) -> ASGIApp:
    """From now on, or after `Last-Event-ID`."""
    service = service_of(request)
    return stream(request, service.log.follow(_cursor(last_event_id), None))


@get(
    "/api/instances/{instance_id:str}/events",
    guards=_viewer,
    summary="Follow the events of an instance",
    responses={**STREAM_RESPONSE, **problems(404)},
)
async def instance_events(
    request: Request[Any, Any, Any], instance_id: InstanceId, last_event_id: LastEventId = None
) -> ASGIApp:
    """From its first on, or after `Last-Event-ID`; ends when it is terminated."""
    service = service_of(request)
    if await service.instances.get(instance_id) is None:
        raise InstanceNotFoundError(instance_id)
    return stream(request, service.log.follow(_cursor(last_event_id), instance_id))


def _cursor(last_event_id: str | None) -> int | None:
    """The id to go on after; None for what is no id, as the specification of EventSource has it."""
    if last_event_id is None or not (last_event_id.isascii() and last_event_id.isdigit()):
        return None
    return int(last_event_id[:19])


def stream(request: Request[Any, Any, Any], chunks: AsyncGenerator[bytes, None]) -> ASGIApp:
    """Answer with *chunks*; a browser's end soon after its session: who comes again is asked again."""
    ends_at: int | None = request.scope["state"]["principal"].ends_at
    if ends_at is not None:
        chunks = _ending(chunks, service_of(request).clock, ends_at)

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await send_stream(receive, send, chunks, patience=_PATIENCE_S)

    return app


async def _ending(
    chunks: AsyncGenerator[bytes, None], clock: Clock, ends_at: int
) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        async for chunk in chunks:  # one comes every few seconds, also while nothing happens
            yield chunk
            if clock.now_us() >= ends_at * 1_000_000:
                return


HANDLERS = [events, instance_events]
