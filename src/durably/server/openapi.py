"""The description of the API (OpenAPI 3.1): Litestar's, completed by what it cannot see.

Bodies are read by `validation`, so that all their faults are told at once; their schemas therefore
come from msgspec, by the ``body`` that a route names in its ``opt``.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig

import durably
from durably.server.gate import OPEN_PATHS

_DESCRIPTION = """Long operations as jobs, and GPU instances made of them.

Errors are problem details (RFC 9457) with `code`, `requestId` and, for faults of the request,
`errors`. Times are RFC 3339, durations are seconds. Every answer has `X-Request-ID`.
"""
_REF = "#/components/schemas/{name}"


def document(handlers: Sequence[HTTPRouteHandler], *, tokens: bool) -> dict[str, Any]:
    """The OpenAPI document of *handlers*; with *tokens* they need one."""
    config = OpenAPIConfig(
        title="Durably", version=durably.__version__, description=_DESCRIPTION, path="/description"
    )
    described: dict[str, Any] = Litestar(
        list(handlers), openapi_config=config
    ).openapi_schema.to_schema()
    components = described.setdefault("components", {})
    if tokens:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for handler in handlers:
        for path in handler.paths:
            plain = path.replace(":str", "")
            operation = described["paths"][plain][_method(handler)]
            _complete(operation, handler.opt, components["schemas"])
            if tokens and plain not in OPEN_PATHS:
                operation["security"] = [{"token": []}]
    return described


def _method(handler: HTTPRouteHandler) -> str:
    (method,) = handler.http_methods
    return method.lower()


def _complete(operation: dict[str, Any], opt: dict[str, Any], schemas: dict[str, Any]) -> None:
    if body := opt.get("body"):
        (schema,), found = msgspec.json.schema_components([body], ref_template=_REF)
        schemas.update(found)
        content = {"schema": schema, "example": opt["example"]}
        operation["requestBody"] = {
            "required": not opt.get("optional", False),
            "content": {"application/json": content},
        }
    if opt.get("may_be_304"):
        operation["responses"]["304"] = {"description": "What the client has is what there is."}
    for status, answer in operation["responses"].items():
        if status in {"202", "429", "503"}:
            answer.setdefault("headers", {})["Retry-After"] = {
                "schema": {"type": "integer", "minimum": 1},
                "description": "Seconds.",
            }
        if status == "202":
            answer["headers"]["Location"] = {"schema": {"type": "string"}}
