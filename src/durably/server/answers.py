"""Answers as the routes give them: entities with an ETag, and what OpenAPI says of errors."""

import hashlib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from litestar import Response
from litestar.openapi.datastructures import ResponseSpec

from durably.server.errors import PROBLEM_TYPE, Problem

_T = TypeVar("_T")
_JSON = "application/json"
_MEANING = {
    400: "The request has faults; all of them are named.",
    401: "A token is needed, or the one given is unknown.",
    403: "The role of the token does not allow this.",
    404: "There is no such thing.",
    409: "The status does not allow this.",
    413: "The body is over 1 MiB.",
    415: "The body is not JSON.",
    422: "The Idempotency-Key came with another body before.",
    429: "Too many requests; Retry-After says how long to wait.",
    500: "The server has failed; its log has the request id.",
    503: "Not now; Retry-After says when to try again.",
}
ALWAYS = (401, 403, 429, 500, 503)
"""Any route may answer these."""


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """What OpenAPI says of the errors of a route."""
    return {
        status: ResponseSpec(
            Problem,
            description=_MEANING[status],
            media_type=PROBLEM_TYPE,
            generate_examples=False,
        )
        for status in sorted({*statuses, *ALWAYS})
    }


def answer(
    value: _T, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response[_T]:
    """*value* as JSON."""
    body: Any = msgspec.json.encode(value)
    return Response(body, status_code=status, headers=headers, media_type=_JSON)


def entity(value: _T, if_none_match: str | None, **headers: str) -> Response[_T]:
    """*value* with an ETag; 304 without a body when the client has it already."""
    body: Any = msgspec.json.encode(value)
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    told = {"ETag": etag, "Cache-Control": "private, no-cache", **headers}
    if _has(if_none_match or "", etag):
        nothing: Any = None
        return Response(nothing, status_code=304, headers=told, media_type=_JSON)
    return Response(body, headers=told, media_type=_JSON)


def _has(if_none_match: str, etag: str) -> bool:
    given = [part.strip().removeprefix("W/") for part in if_none_match.split(",")]
    return etag in given or given == ["*"]
