"""The demonstration's service process: a worker with the instance service, until told to stop.

Run as a module. Its settings come as one line of JSON on stdin, so that no secret is seen in the
list of processes; it says ``ready``, and ends by SIGTERM or when stdin is closed.
"""

import asyncio
import os
import signal
import sys

import msgspec

from durably import app
from durably.settings import Settings

_CONCURRENCY = 32


def main() -> None:
    """Read the settings and serve."""
    line = sys.stdin.buffer.readline()
    asyncio.run(_serve(msgspec.json.decode(line, type=Settings)))


async def _serve(settings: Settings) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 1):
            loop.remove_reader(sys.stdin)
            stopped.set()

    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    loop.add_reader(sys.stdin, read)
    async with (
        app.open_queue(settings, concurrency=_CONCURRENCY) as queue,
        app.instance_service(settings, queue) as service,
    ):
        await service.start()
        print("ready", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    main()
