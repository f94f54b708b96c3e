"""Commands as processes of their own, with a folder, and a client for those that serve."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

LONG_S = 60.0
"""How long anything may take on a machine that is busy with other things."""


class Command:
    """``durably ARGUMENTS`` while the ``async with`` block lasts; killed at its end if it still runs.

    Args:
        arguments: of the command line.
        folder: its working directory.
        settings: environment variables, beside the machine's own without ours.
    """

    def __init__(self, *arguments: str, folder: Path, **settings: str) -> None:
        self._arguments = arguments
        self._folder = folder
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("DURABLY_", "NOVITA_"))}
        self._environ = {**outside, **settings}
        self.said: list[str] = []
        """The lines that `hears` has read."""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "durably", *self._arguments),
            cwd=self._folder,
            env=self._environ,
            stderr=PIPE,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.returncode is None:
            self.signal(signal.SIGKILL)
        await self.ends()

    async def hears(self, text: str) -> str:
        """Wait for a line on stderr that contains *text*."""
        assert self._process.stderr is not None
        async with asyncio.timeout(LONG_S):
            while line := (await self._process.stderr.readline()).decode():
                self.said.append(line.rstrip("\n"))
                if text in line:
                    return line
        raise AssertionError(f"ended without {text!r}; it said {self.said}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def ends(self) -> int:
        """Wait for its end; the exit code."""
        assert self._process.stderr is not None
        async with asyncio.timeout(LONG_S):
            rest = (await self._process.stderr.read()).decode()
            self.said += rest.splitlines()
            return await self._process.wait()


class Server(Command):
    """``durably serve`` on a free port, entered once it listens."""

    def __init__(self, *arguments: str, folder: Path, **settings: str) -> None:
        super().__init__("serve", "--port", "0", *arguments, folder=folder, **settings)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        line = await self.hears("listening on")
        found = re.search(r"http://\S+:\d+", line)
        assert found is not None
        self.url = found[0]
        self.session = aiohttp.ClientSession(self.url)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.session.close()
        await super().__aexit__(kind, error, trace)

    async def post(self, path: str, body: object = None, **headers: str) -> dict[str, Any]:
        """The JSON answer of a POST, which must succeed."""
        async with self.session.post(path, json=body, headers=headers) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()  # type: ignore[no-any-return]

    async def get(self, path: str, **headers: str) -> dict[str, Any]:
        """The JSON answer of a GET, which must succeed."""
        async with self.session.get(path, headers=headers) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()  # type: ignore[no-any-return]
