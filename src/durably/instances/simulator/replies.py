"""How answers leave the simulator: JSON, error envelopes, and the ways an answer can go wrong."""

import socket
import struct
from typing import assert_never

import msgspec
from aiohttp import web

from durably.instances.simulator.faults import (
    HttpError,
    LostReply,
    NoStock,
    Outcome,
    RateLimit,
    Reset,
    Rubbish,
)

_NO_JSON = "<html><body><h1>upstream error</h1></body></html>"


def json_reply(
    value: object, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """An answer with a JSON body."""
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def failure(
    status: int, code: str, message: str, *, headers: dict[str, str] | None = None
) -> web.Response:
    """An error in the provider's envelope."""
    envelope = {"code": code, "message": message, "metadata": {}}
    return json_reply(envelope, status=status, headers=headers)


def spoilt(request: web.Request, outcome: Outcome | None) -> web.Response | None:
    """The answer that a fault puts in place of the proper one; None: there is no such fault."""
    match outcome:
        case None:
            return None
        case RateLimit():
            headers = {"Retry-After": str(outcome.retry_after)}
            return failure(429, "RATE_LIMIT_EXCEEDED", "too many requests", headers=headers)
        case NoStock():
            return failure(400, "INSUFFICIENT_RESOURCE", "insufficient resource")
        case HttpError(body="text"):
            return web.Response(text=_NO_JSON, status=outcome.status, content_type="text/html")
        case HttpError():
            return failure(outcome.status, outcome.code, "simulated failure")
        case Rubbish(body="text"):
            return web.Response(text=_NO_JSON, content_type="text/html")
        case Rubbish():
            return json_reply([{"unexpected": True}])
        case Reset():
            return _cut(request, reset=True)
        case LostReply():
            return _cut(request, reset=False)
        case _:
            assert_never(outcome)


def is_connected(request: web.Request) -> bool:
    """Whether the caller is still there to be answered, as far as the machine knows."""
    return request.transport is not None and not request.transport.is_closing()


def _cut(request: web.Request, *, reset: bool) -> web.Response:
    """Close the connection; the response is only for the framework and goes nowhere."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        if reset and connection is not None:
            # With linger 0 the kernel sends RST instead of FIN.
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.transport.abort()
    return web.Response()
