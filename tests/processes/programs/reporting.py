"""How a program tells its test what happens: one JSON object a line, on standard output."""

import asyncio
import json
import os
import stat
import sys
from typing import Any

_ON_DISK = stat.S_ISREG(os.fstat(1).st_mode)


def say(what: str, **more: Any) -> None:
    """One write: it is whole even when the next instruction kills the process.

    A kill during the write may cut it where a page of the file ends: what comes next begins its own
    line therefore.
    """
    line = json.dumps({"what": what, "pid": os.getpid(), **more}).encode()
    os.write(1, b"\n" + line + b"\n" if _ON_DISK else line + b"\n")
    if _ON_DISK:
        os.fsync(1)


async def orders() -> asyncio.StreamReader:
    """Standard input; its end means that the test wants the program to end."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader
