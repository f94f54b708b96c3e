"""Nudges between processes: an empty datagram on loopback says "look again", and no more.

Whoever misses one looks at its processing interval; whoever gets one too many looks in vain.
"""

import asyncio
from collections.abc import Callable


class WakeUp(asyncio.DatagramProtocol):
    """Listens on a loopback port of its own."""

    def __init__(self, nudged: Callable[[], None]) -> None:
        self._nudged = nudged
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    @classmethod
    async def start(cls, nudged: Callable[[], None]) -> "WakeUp":
        """Listen; *nudged* is called on the loop."""
        loop = asyncio.get_running_loop()
        transport, listener = await loop.create_datagram_endpoint(
            lambda: cls(nudged), local_addr=("127.0.0.1", 0)
        )
        listener._transport = transport  # noqa: SLF001  # its own class's
        listener.port = int(transport.get_extra_info("sockname")[1])
        return listener

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002  # the protocol's
        """Anything that arrives is a nudge."""
        self._nudged()

    def close(self) -> None:
        """Listen no more."""
        if self._transport is not None:
            self._transport.close()
