"""Queues: pause and resume."""

from typing import Annotated, Any

from litestar import Request, Response, post
from litestar.params import PathParameter

from durably.instances import Fault
from durably.server.answers import answer, problems
from durably.server.auth import Role, require
from durably.server.errors import invalid
from durably.server.schemas import QueueState
from durably.server.service import origin_of, service_of

_operator = [require(Role.OPERATOR)]
_QueueName = Annotated[str, PathParameter(description="Need not have jobs yet.")]


@post(
    "/api/queues/{name:str}/pause",
    status_code=200,
    guards=_operator,
    summary="Pause a queue",
    responses=problems(400),
)
async def pause_queue(request: Request[Any, Any, Any], name: _QueueName) -> Response[QueueState]:
    """No worker claims from it until it is resumed; what runs goes on."""
    return await _set(request, name, paused=True)


@post(
    "/api/queues/{name:str}/resume",
    status_code=200,
    guards=_operator,
    summary="Resume a queue",
    responses=problems(400),
)
async def resume_queue(request: Request[Any, Any, Any], name: _QueueName) -> Response[QueueState]:
    """Workers claim from it again."""
    return await _set(request, name, paused=False)


async def _set(request: Request[Any, Any, Any], name: str, *, paused: bool) -> Response[QueueState]:
    queue = service_of(request).queue
    changes = queue.changeset()
    action = "queue.pause" if paused else "queue.resume"
    try:
        origin_of(request).note(changes, action, name)
        await (queue.pause if paused else queue.resume)(name, changes=changes)
    except ValueError as error:
        raise invalid(Fault(field="name", message=str(error))) from None
    return answer(QueueState(queue=name, paused=paused))


HANDLERS = [pause_queue, resume_queue]
