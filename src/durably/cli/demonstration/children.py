"""The processes that the demonstration starts, and whose end it sees to."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from types import TracebackType
from typing import Self

_START_S = 20.0
_GRACE_S = 5.0


class Child:
    """A Python module as a process while the ``async with`` block lasts; entered once it is ready.

    It is ready when it has said its first line. It has a session of its own, so that Ctrl-C reaches
    the demonstration alone, which then ends it: by SIGTERM, and by SIGKILL 5 s later.

    Args:
        name: What messages call it.
        arguments: What follows ``python -m``.
        folder: Its working directory, where what it says on stderr is kept.
        orders: What it is told on stdin. That stays open: its end says that we have died.

    Raises:
        ChildProcessError: It ended, or said nothing for 20 s, instead of becoming ready.
    """

    said: str
    """Its first line."""

    def __init__(self, name: str, *arguments: str, folder: Path, orders: bytes = b"") -> None:
        self._name = name
        self._arguments = arguments
        self._folder = folder
        self._orders = orders
        self._log = folder / f"{name}.log"
        self._process: Process

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *self._arguments,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )
        try:
            self.said = await self._first_line()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()

    async def kill(self) -> None:
        """End it by SIGKILL, in the middle of whatever it does."""
        self._process.kill()
        await self._process.wait()

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.returncode is not None

    def last_words(self) -> str:
        """How it ended, with its last line on stderr."""
        lines = self._log.read_text(errors="replace").splitlines()
        said = f": {lines[-1]}" if lines else ""
        return f"the {self._name} ended with code {self._process.returncode}{said}"

    async def _first_line(self) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(self._orders)
        try:
            line = await asyncio.wait_for(stdout.readline(), _START_S)
        except TimeoutError:
            raise ChildProcessError(f"the {self._name} said nothing for {_START_S:g} s") from None
        if not line:
            await self._process.wait()
            raise ChildProcessError(self.last_words())
        return line.decode().strip()

    async def _end(self) -> None:
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), _GRACE_S)
            except TimeoutError:
                await self.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
