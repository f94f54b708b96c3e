"""The application on a socket, until it is told to stop: uvicorn, embedded.

uvicorn's own signal handling is left out: it would end the process by the signal once it has
served, and the jobs that still run would be lost to a restart instead of being waited for.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import uvicorn

from durably import SettingsError
from durably.server.gate import AsgiApp
from durably.server.protocol import Protocol

_GRACE_S = 5
"""How long requests in progress may take at the end."""
_BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        SettingsError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named so that asyncio switches Nagle's algorithm off: it knows it by that.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; "
            "choose another with --port or DURABLY_PORT"
        ) from None
    listening.setblocking(False)
    return listening


def address_of(listening: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the program."""
        yield


@asynccontextmanager
async def serving(app: AsgiApp, listening: socket.socket) -> AsyncIterator[asyncio.Event]:
    """Answer requests while the block lasts; leaving it lets those in progress end.

    Gives an event that is set when the server has ended by itself.
    """
    config = uvicorn.Config(
        cast("Any", app),
        http=Protocol,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Server(config)
    ended = asyncio.Event()
    task = asyncio.get_running_loop().create_task(server.serve([listening]), name="durably-http")
    task.add_done_callback(lambda _: ended.set())
    try:
        yield ended
    finally:
        server.should_exit = True
        await task
