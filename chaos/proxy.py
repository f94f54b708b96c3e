"""A TCP proxy that stalls, cuts, goes deaf, or swallows the reply to a commit."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Self

_CHUNK = 65_536
_COMMIT = b"COMMIT"


class Proxy:
    """Stands between one process and a server on loopback.

    Args:
        target: the server's port.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._far: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._swallow = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._flowing.set()
        self.cut()
        if self._pumps:
            await asyncio.wait(self._pumps)

    def stall(self) -> None:
        """Nothing passes in either direction, and nobody is told."""
        self._flowing.clear()

    def flow(self) -> None:
        """What was held back passes."""
        self._flowing.set()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in tuple(self._open):
            writer.transport.abort()

    def cut_far(self) -> None:
        """Reset the server's side only."""
        for writer in tuple(self._far):
            writer.transport.abort()

    def swallow(self, commits: int = 1) -> None:
        """The next commits arrive, their replies do not: the connection is cut instead."""
        self._swallow = commits

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        writers = [writer]
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(back)
            self._open.update(writers)
            self._far.add(back)
            committing = asyncio.Event()

            async def forward(data: bytes) -> None:
                if self._swallow and _COMMIT in data:
                    self._swallow -= 1
                    committing.set()
                await _send(back, data)

            async def reply(data: bytes) -> None:
                if committing.is_set():
                    raise ConnectionResetError  # the server has answered: it is committed
                await _send(writer, data)

            with contextlib.suppress(BaseExceptionGroup):
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(reader, forward))
                    pumps.create_task(self._pump(there, reply))
        except OSError:
            pass  # the server is down: so is our side
        finally:
            for one in writers:
                self._open.discard(one)
                self._far.discard(one)
                one.transport.abort()
            self._pumps.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, send: Callable[[bytes], Awaitable[None]]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flowing.wait()
                await send(data)
        await self._flowing.wait()
        raise ConnectionResetError  # one side has closed: so does the other


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
