"""From exceptions to problem details (RFC 9457): the one place that knows what each means to a client.

Details never quote what may hold a path, a secret or a traceback: what a client cannot act on is
logged under the request id and answered in general words.
"""

import logging
import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from msgspec import Meta

from durably import (
    JobNotFoundError,
    JobStateError,
    PayloadError,
    StoreError,
    UniqueKeyTakenError,
)
from durably.instances import (
    DeliveryConflictError,
    DeliveryNotFoundError,
    Fault,
    InstanceConflictError,
    InstanceNotFoundError,
    ProviderError,
    ProviderUnavailable,
    TargetNotDisabledError,
    Unauthorized,
    ValidationError,
)

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
"""What a client is told to wait when the store is in the way."""
PROVIDER_RETRY_S = 5
"""The same when the provider is, and does not say for how long."""
PROVIDER_REFUSES_S = 60
"""The same when it refuses our key, or there is none: somebody has to see to that."""
_log = logging.getLogger("durably.server")
_MISSING = re.compile(r"Missing required \w+ parameter '([^']+)'")
_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "unprocessable",
    429: "rate_limited",
    503: "unavailable",
}


class Problem(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An error as clients see it."""

    type: Annotated[str, Meta(description="A URI that names the kind of problem.")]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: Annotated[str, Meta(description="What happened, and the way out.")]
    code: Annotated[str, Meta(description="The kind of problem, for programs.")]
    request_id: Annotated[str, Meta(description="As in the header X-Request-ID, and in the log.")]
    errors: Annotated[tuple[Fault, ...], Meta(description="Everything that is wrong.")] = ()
    reasons: Annotated[tuple[str, ...], Meta(description="Why the service is not ready.")] = ()


class ApiError(Exception):
    """An answer other than success.

    Args:
        status: of HTTP.
        code: the kind of problem, for programs.
        detail: for people.
        errors: what is wrong with which field.
        headers: of the answer.
        reasons: why the service is not ready.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: tuple[Fault, ...] = (),
        headers: Mapping[str, str] | None = None,
        reasons: tuple[str, ...] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        self.reasons = reasons

    def problem(self, request_id: str) -> Problem:
        """The problem details."""
        return Problem(
            type=f"urn:durably:problem:{self.code}",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            code=self.code,
            request_id=request_id,
            errors=self.errors,
            reasons=self.reasons,
        )


def invalid(*faults: Fault) -> ApiError:
    """The answer to a request with these faults."""
    detail = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
    return ApiError(400, "validation_failed", detail, errors=faults)


def not_found(what: str) -> ApiError:
    """The answer when *what* does not exist."""
    return ApiError(404, "not_found", what)


def api_error(error: BaseException) -> ApiError:
    """What an exception means to the client."""
    match error:
        case ApiError():
            return error
        case ValidationError():
            return invalid(*error.faults)
        case PayloadError():
            return invalid(Fault(field="payload", message=str(error)))
        case (
            JobNotFoundError()
            | InstanceNotFoundError()
            | DeliveryNotFoundError()
            | TargetNotDisabledError()
        ):
            return not_found(str(error))
        case UniqueKeyTakenError():
            return ApiError(409, "unique_key_taken", str(error))
        case JobStateError() | InstanceConflictError() | DeliveryConflictError():
            return ApiError(409, "conflict", str(error))
        case StoreError():
            return ApiError(
                503,
                "unavailable",
                "the store cannot take this now, nothing was changed; try again",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        case ProviderError():
            return _of_provider(error)
        case HTTPException() if error.status_code in _CODES:
            return _of_litestar(error)
        case _:
            return ApiError(
                500, "internal_error", "the server has failed; the request id is in its log"
            )


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Litestar's exception handler: the answer to whatever was raised."""
    told = api_error(error)
    request_id = str(request.scope["state"]["request_id"])
    log(told, error, request_id)
    return Response(
        told.problem(request_id),
        status_code=told.status,
        headers=told.headers,
        media_type=PROBLEM_TYPE,
    )


def log(told: ApiError, error: BaseException, request_id: str) -> None:
    """Log what is the server's fault: the cause, which the client is not told."""
    if told.status == 503 and error is not told:
        _log.warning("request %s: %s", request_id, error)
    elif told.status >= 500 and error is not told:
        _log.error("request %s has failed", request_id, exc_info=error)


def _of_provider(error: ProviderError) -> ApiError:
    """What keeps the provider from answering; its messages hold no key."""
    if isinstance(error, Unauthorized):
        code, wait = "provider_unauthorized", PROVIDER_REFUSES_S
    else:
        asked = error.retry_after if isinstance(error, ProviderUnavailable) else None
        code, wait = "provider_unavailable", max(PROVIDER_RETRY_S, math.ceil(asked or 0.0))
    return ApiError(
        503,
        code,
        f"the provider does not say what it has on offer: {error}",
        headers={"Retry-After": str(wait)},
    )


def _of_litestar(error: HTTPException) -> ApiError:
    """What Litestar itself refuses: unknown routes, methods, parameters that do not fit."""
    if error.status_code == 400 and isinstance(error.extra, list):
        return invalid(*map(_parameter_fault, error.extra))
    if error.status_code == 400 and (missing := _MISSING.match(error.detail)):
        return invalid(Fault(field=missing[1], message="is required"))
    details = {404: "there is no such route", 405: "this route does not have that method"}
    detail = details.get(error.status_code, error.detail)
    return ApiError(error.status_code, _CODES[error.status_code], detail, headers=error.headers)


def _parameter_fault(extra: Any) -> Fault:
    name = str(extra.get("key", ""))
    if extra.get("source") == "header":
        name = name.replace("_", "-").title()
    return Fault(field=name, message=lowered(str(extra["message"])))


def lowered(message: str) -> str:
    """A message of msgspec in our form: without the place, and beginning in lower case.

    >>> lowered("Expected `int`, got `str` - at `$.limit`")
    'expected `int`, got `str`'
    """
    text = message.partition(" - at ")[0]
    return text[:1].lower() + text[1:]
