"""The ASGI application: every route behind the gate."""

from typing import Any

import msgspec
from litestar import Litestar, Response, get
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.utils import normalize_path

from durably.server.answers import problems
from durably.server.assets import built_assets, dashboard
from durably.server.errors import answer_error
from durably.server.gate import AsgiApp, Gate
from durably.server.openapi import document
from durably.server.routes import (
    catalogue,
    events,
    instances,
    jobs,
    live,
    operations,
    queues,
    search,
    sessions,
    webhooks,
)
from durably.server.service import Service

ROUTES: list[HTTPRouteHandler] = [
    *instances.HANDLERS,
    *catalogue.HANDLERS,
    *search.HANDLERS,
    *webhooks.HANDLERS,
    *jobs.HANDLERS,
    *queues.HANDLERS,
    *events.HANDLERS,
    *live.HANDLERS,
    *sessions.HANDLERS,
    *operations.HANDLERS,
]


def create_app(service: Service) -> AsgiApp:
    """The application that answers for *service*, which the caller opens and closes."""
    app = Litestar(
        [*ROUTES, *dashboard(built_assets()), _description(tokens=bool(service.tokens))],
        exception_handlers={Exception: answer_error},
        openapi_config=None,
        state=State({"service": service}),
        logging_config=None,
    )
    return Gate(
        app,  # type: ignore[arg-type]  # its ASGI types are narrower
        tokens=service.tokens,
        sessions=service.sessions,
        limiter=service.limiter,
        figures=service.metrics,
        clock=service.clock,
        methods=lambda path: _methods(app, path),
    )


def _methods(app: Litestar, path: str) -> list[str]:
    """The methods of a path; empty when there is no such route."""
    found = []
    for method in ("DELETE", "GET", "POST"):
        try:
            app.asgi_router.handle_routing(path=normalize_path(path), method=method)
        except HTTPException:
            continue
        found.append(method)
    return found


def _description(*, tokens: bool) -> HTTPRouteHandler:
    """The route of the API's description, which is made when it is first asked for."""
    described: list[bytes] = []

    @get(
        "/api/openapi.json",
        summary="This description",
        responses={200: ResponseSpec(dict[str, Any], generate_examples=False), **problems()},
    )
    async def description() -> Response[dict[str, Any]]:
        """OpenAPI 3.1."""
        if not described:
            routes = [*ROUTES, _description(tokens=tokens)]
            described.append(msgspec.json.encode(document(routes, tokens=tokens)))
        content: Any = described[0]
        return Response(content, media_type="application/json")

    return description
