"""Signing in and out on the dashboard."""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Meta

import durably
from durably.server.answers import answer, problems
from durably.server.auth import Principal
from durably.server.gate import NO_TOKEN, check_same_origin, unauthorized
from durably.server.service import Service, service_of
from durably.server.sessions import SESSION_S
from durably.server.validation import decode_object, fitted


class SignIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who asks to be signed in."""

    token: Annotated[
        str,
        Meta(
            max_length=512,
            description="One of DURABLY_TOKENS, or the code of the link that the first run prints.",
        ),
    ]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Who is signed in."""

    name: str
    role: Annotated[str, Meta(description="viewer, operator or admin.")]
    local: Annotated[
        bool, Meta(description="No tokens are configured: whoever reaches the server may do all.")
    ]
    version: Annotated[str, Meta(description="Of the server.")]


@get(
    "/api/session",
    summary="Who am I?",
    responses=problems(),
)
async def get_session(request: Request[Any, Any, Any]) -> Response[Session]:
    """Of the token or the session that comes with the request."""
    principal = request.scope["state"]["principal"]
    if principal is None:
        raise unauthorized(NO_TOKEN)
    return answer(_session(service_of(request), principal))


@post(
    "/api/session",
    status_code=200,
    summary="Sign in",
    responses=problems(400, 413, 415),
    opt={"body": SignIn, "example": {"token": "a-token-of-16-characters-or-more"}},
)
async def sign_in(request: Request[Any, Any, Any]) -> Response[Session]:
    """Sets a cookie that no script can read and no other site can use; good for 12 hours."""
    service = service_of(request)
    body = fitted(decode_object(await request.body()), SignIn)
    if not service.tokens:
        return answer(_session(service, request.scope["state"]["principal"]))
    if (origin := request.headers.get("origin")) is not None:
        check_same_origin(origin, request.headers.get("host", ""))
    principal = service.tokens.find(body.token) or service.sessions.accept(body.token)
    if principal is None:
        raise unauthorized("the token is unknown; a link signs in once, for 15 minutes")
    cookie = _cookie(request, service.sessions.begin(principal), SESSION_S)
    return answer(_session(service, principal), headers={"Set-Cookie": cookie})


@delete(
    "/api/session",
    status_code=204,
    summary="Sign out",
    responses={204: ResponseSpec(None, description="Signed out."), **problems()},
)
async def sign_out(request: Request[Any, Any, Any]) -> Response[None]:
    """The browser forgets the session."""
    return Response(None, status_code=204, headers={"Set-Cookie": _cookie(request, "", 0)})


def _session(service: Service, principal: Principal) -> Session:
    return Session(
        name=principal.name,
        role=principal.role.name.lower(),
        local=not service.tokens,
        version=durably.__version__,
    )


def _cookie(request: Request[Any, Any, Any], value: str, seconds: int) -> str:
    name = service_of(request).sessions.cookie
    # Whoever claims https without having it only loses the cookie.
    secure = "; Secure" if request.headers.get("x-forwarded-proto") == "https" else ""
    return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


HANDLERS = [get_session, sign_in, sign_out]
