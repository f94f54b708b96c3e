"""Child processes that a test starts, hears, stops and kills; and the store as SQL sees it."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parent.parent.parent
LONG_S = 60.0
"""How long anything may take on a machine that is busy with other things."""


class Child:
    """A process of one of the programs: ``python -m tests.processes.programs.<program>``.

    Args:
        arguments: passed as text, JSON unless they are text.
        output: a file for what it says, instead of `expect`.
    """

    def __init__(self, program: str, *arguments: object, output: IO[str] | None = None) -> None:
        texts = (a if isinstance(a, str) else json.dumps(a) for a in arguments)
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.processes.programs.{program}", *texts],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=output or subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.said: list[dict[str, Any]] = []
        """Every line that `expect` has read."""

    async def expect(self, what: str, **fields: Any) -> dict[str, Any]:
        """The next line that says *what* with these fields."""
        assert self._process.stdout is not None
        async with asyncio.timeout(LONG_S):
            while line := await asyncio.to_thread(self._process.stdout.readline):
                self.said.append(json.loads(line))
                if self.said[-1].items() >= {"what": what, **fields}.items():
                    return self.said[-1]
        raise AssertionError(f"ended before it said {what} {fields}; it said {self.said}")

    async def rest(self) -> list[dict[str, Any]]:
        """All that it has said, once it has ended."""
        assert self._process.stdout is not None
        lines = await asyncio.to_thread(self._process.stdout.readlines)
        self.said += map(json.loads, lines)
        return self.said

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        """Kill -9; returns when the process is gone. Children of its own live on."""
        self._process.kill()
        await self.died()

    async def end(self) -> int:
        """Let it end in good order; its exit code."""
        self.close_input()
        return await self.died()

    async def died(self) -> int:
        """The exit code, once it has ended."""
        return await asyncio.to_thread(self._process.wait, LONG_S)

    def close_input(self) -> None:
        """What it and its own children wait for, to end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def clean_up(self) -> None:
        """Until nothing is left of it."""
        self.close_input()
        await self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Family:
    """Starts children; all of them are gone when the test is."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def start(self, program: str, *arguments: object, output: IO[str] | None = None) -> Child:
        child = Child(program, *arguments, output=output)
        self._children.append(child)
        return child

    async def worker(self, url: str, **options: Any) -> Child:
        """A `worker` that has started processing."""
        child = self.start("worker", url, options)
        await child.expect("ready")
        return child

    async def end(self) -> None:
        for child in self._children:
            await child.clean_up()


async def until(condition: Callable[[], Awaitable[object]], every: float = 0.02) -> None:
    """Wait until the coroutine function *condition* gives something true."""
    async with asyncio.timeout(LONG_S):
        while not await condition():
            await asyncio.sleep(every)


async def until_blocked(child: Child) -> None:
    """Wait until *child* waits in the kernel for a lock that another process holds."""

    async def is_blocked() -> bool:
        # "1: -> FLOCK ADVISORY WRITE <pid> …" stands below the lock that is waited for.
        waiting = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return any(line[1] == "->" and line[5] == str(child.pid) for line in waiting)

    await until(is_blocked)


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def rows(url: str, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    """What a look at the file with plain SQL gives."""
    with closing(sqlite3.connect(file_of(url), timeout=LONG_S)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        found = connection.execute(query, arguments).fetchall()
        connection.commit()
        return found
