"""Jobs: add, list, look at, wait for, cancel, retry, explain, delete."""

import asyncio
import re
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import HeaderParameter, QueryParameter

from durably import (
    Changeset,
    FollowUp,
    Job,
    JobNotFoundError,
    JobPriority,
    PayloadError,
    VersionConflictError,
)
from durably.domain.payload import encode
from durably.instances import Fault
from durably.server.answers import answer, entity, problems
from durably.server.auth import Role, require
from durably.server.errors import invalid
from durably.server.idempotency import Key
from durably.server.parameters import (
    IdempotencyKey,
    IfNoneMatch,
    JobId,
    OfQueue,
    OfStatus,
    OfType,
    no_other_query,
)
from durably.server.redaction import RedactedValueError
from durably.server.schemas import (
    Explanation,
    JobBody,
    JobPage,
    JobView,
    RetryBody,
)
from durably.server.service import Service, origin_of, service_of
from durably.server.validation import decode_object, fitted, with_integers

WAIT_MOST_S = 60
RETRY_AFTER = {"Retry-After": "1"}
_PAGE_BYTES = 8_388_608
"""A page is cut short beyond this, so that a few large payloads do not become one huge answer."""
_operator = [require(Role.OPERATOR)]
_viewer = [require(Role.VIEWER)]
_EXAMPLE = {
    "type": "send_mail",
    "payload": {"to": "ann@example.org"},
    "priority": 3,
    "maxAttempts": 5,
    "uniqueKey": "welcome-ann",
}


@post(
    "/api/jobs",
    status_code=202,
    guards=_operator,
    summary="Add a job",
    responses=problems(400, 404, 413, 415, 422),
    opt={"body": JobBody, "example": _EXAMPLE},
)
async def add_job(
    request: Request[Any, Any, Any], idempotency_key: IdempotencyKey = None
) -> Response[JobView]:
    """Durable when answered. A repeated Idempotency-Key gets the job of the first request."""
    service, origin = service_of(request), origin_of(request)
    raw = decode_object(await request.body())
    body = fitted(with_integers(raw, "priority", "maxAttempts"), JobBody)
    if body.delay is not None and body.run_at is not None:
        raise invalid(Fault(field="runAt", message="give delay or runAt, not both"))
    key = None
    if idempotency_key is not None:
        key = Key(idempotency_key, origin=origin, route="POST /api/jobs", raw=raw)
    kept = await service.keys.find(key)
    while kept is None:
        changes = service.queue.changeset()
        new = _added(changes, body)
        origin.note(changes, "job.enqueue", new.id, type=body.type, queue=body.queue)
        service.keys.keep(changes, key, new.id)
        try:
            [job] = await service.queue.commit(changes)
        except VersionConflictError:  # the same key was quicker
            kept = await service.keys.find(key)
            continue
        if job.id != new.id:  # its unique key was held
            await service.keys.correct(key, job.id)
        return _accepted(service, job)
    return _accepted(service, await _known(service, kept))


def _added(changes: Changeset, body: JobBody) -> FollowUp:
    try:
        return changes.add_job(
            body.type,
            body.payload,
            priority=JobPriority(body.priority),
            max_attempts=body.max_attempts,
            delay=body.delay,
            run_at=body.run_at,
            queue=body.queue,
            unique_key=body.unique_key,
            tags=body.tags,
        )
    except PayloadError:
        raise
    except ValueError as error:  # all that the schema does not say is about this field
        raise invalid(Fault(field="runAt", message=str(error))) from None


@get(
    "/api/jobs",
    guards=_viewer,
    summary="List jobs",
    responses=problems(400, 404),
)
async def list_jobs(
    request: Request[Any, Any, Any],
    status: OfStatus = None,
    type: OfType = None,
    queue: OfQueue = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    after: Annotated[
        str | None,
        QueryParameter(
            min_length=1, description="Go on after this job: nextCursor of the page before."
        ),
    ] = None,
) -> Response[JobPage]:
    """Highest priority first, then oldest. Filters are ANDed. Tracebacks are in the detail."""
    no_other_query(request, "status", "type", "queue", "limit", "after")
    service = service_of(request)
    found = await service.queue.get_jobs(
        status=status, type=type, queue=queue, limit=limit, after=after
    )
    shown: list[JobView] = []
    size = 0
    for job in found:
        view = service.view(job, tracebacks=False)
        size += len(msgspec.json.encode(view))
        if shown and size > _PAGE_BYTES:
            break
        shown.append(view)
    more = len(shown) < len(found) or len(found) == limit
    return answer(
        JobPage(jobs=shown, next_cursor=shown[-1].id if more and shown else msgspec.UNSET)
    )


@get(
    "/api/jobs/{job_id:str}",
    guards=_viewer,
    summary="Look at a job, or wait for it",
    responses=problems(404),
    opt={"may_be_304": True},
)
async def get_job(
    request: Request[Any, Any, Any],
    job_id: JobId,
    prefer: Annotated[
        str | None,
        HeaderParameter(
            name="Prefer", description="wait=N: answer once it is final, or after N seconds."
        ),
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Response[JobView]:
    """With every attempt's error. `Prefer: wait=N` waits up to 60 seconds for the end."""
    service = service_of(request)
    job = await _known(service, job_id)
    headers: dict[str, str] = {}
    wait = _wait_of(prefer or "")
    if wait is not None:
        headers["Preference-Applied"] = f"wait={wait}"
        job = await _waited(service, job, wait)
    if not job.status.is_final:
        headers |= RETRY_AFTER
    return entity(service.view(job), if_none_match, **headers)


def _wait_of(prefer: str) -> int | None:
    """The seconds of ``Prefer: wait=N`` (RFC 7240), at most 60; None: there is no such wish."""
    for preference in re.split(r"[,;]", prefer):
        name, _, value = preference.partition("=")
        value = value.strip().strip('"')
        if name.strip().lower() == "wait" and value.isascii() and value.isdigit():
            return min(int(value[:9]), WAIT_MOST_S)
    return None


async def _waited(service: Service, job: Job, seconds: int) -> Job:
    """The job once it is final, or as it is when the time is up or the service is about to end."""
    loop = asyncio.get_running_loop()
    waiting = loop.create_task(service.queue.wait(job.id, timeout=float(seconds)))
    draining = loop.create_task(service.readiness.draining.wait())
    try:
        await asyncio.wait([waiting, draining], return_when=asyncio.FIRST_COMPLETED)
        if waiting.done() and not isinstance(waiting.exception(), TimeoutError):
            return waiting.result()
    finally:
        waiting.cancel()
        draining.cancel()
        await asyncio.wait([waiting, draining])
    return await _known(service, job.id)


@delete(
    "/api/jobs/{job_id:str}",
    status_code=204,
    guards=_operator,
    summary="Delete a finished job",
    responses=problems(404, 409),
)
async def delete_job(request: Request[Any, Any, Any], job_id: JobId) -> None:
    """With its history and steps, for good."""
    queue = service_of(request).queue
    changes = queue.changeset()
    origin_of(request).note(changes, "job.delete", _storable(job_id))
    await queue.delete_job(job_id, changes=changes)


@post(
    "/api/jobs/{job_id:str}/cancel",
    status_code=202,
    guards=_operator,
    summary="Cancel a job",
    responses=problems(404, 409),
)
async def cancel_job(request: Request[Any, Any, Any], job_id: JobId) -> Response[JobView]:
    """A pending one at once; a running one is asked, and is processing until its handler ends."""
    service = service_of(request)
    changes = service.queue.changeset()
    origin_of(request).note(changes, "job.cancel", _storable(job_id))
    return _accepted(service, await service.queue.cancel_job(job_id, changes=changes))


@post(
    "/api/jobs/{job_id:str}/retry",
    status_code=202,
    guards=_operator,
    summary="Run a finished job again",
    responses=problems(400, 404, 409, 413, 415),
    opt={"body": RetryBody, "optional": True, "example": {"payload": {"to": "bob@example.org"}}},
)
async def retry_job(request: Request[Any, Any, Any], job_id: JobId) -> Response[JobView]:
    """Its history stays, and it is given as many attempts as at first.

    A `[redacted]` that comes back in an edited payload stands for the value that was not shown.
    """
    service = service_of(request)
    content = await request.body()
    body = fitted(decode_object(content) if content else {}, RetryBody)
    edited = body.payload is not msgspec.UNSET
    changes = service.queue.changeset()
    origin_of(request).note(changes, "job.retry", _storable(job_id), edited=edited)
    options = {"payload": await _restored(service, job_id, body.payload)} if edited else {}
    return _accepted(service, await service.queue.retry_job(job_id, changes=changes, **options))


@get(
    "/api/jobs/{job_id:str}/explain",
    guards=_viewer,
    summary="Why is this job not running?",
    responses=problems(404),
)
async def explain_job(request: Request[Any, Any, Any], job_id: JobId) -> Response[Explanation]:
    """In words."""
    explanation = await service_of(request).queue.explain(job_id)
    return answer(Explanation(id=job_id, explanation=explanation))


async def _restored(service: Service, job_id: str, edited: Any) -> Any:
    """*edited* with what the payload of the job has where it was not shown."""
    original = (await _known(service, job_id)).payload
    encode(edited)  # what is no payload is refused for that
    try:
        return service.redactor.restore(edited, original)
    except RedactedValueError as error:
        raise invalid(Fault(field="payload", message=str(error))) from None


async def _known(service: Service, job_id: str) -> Job:
    job = await service.queue.get_job(job_id)
    if job is None:
        raise JobNotFoundError(job_id)
    return job


def _storable(job_id: str) -> str:
    """An id that an audit entry can hold; no job has any other."""
    if not 1 <= len(job_id) <= 100 or not job_id.isascii() or not job_id.isprintable():
        raise JobNotFoundError(job_id[:100])
    return job_id


def _accepted(service: Service, job: Job) -> Response[JobView]:
    headers = {"Location": f"/api/jobs/{job.id}", **RETRY_AFTER}
    return answer(service.view(job), status=202, headers=headers)


HANDLERS = [add_job, list_jobs, get_job, delete_job, cancel_job, retry_job, explain_job]
