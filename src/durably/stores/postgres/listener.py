"""The connection that listens for what other processes tell, and comes back when it is lost."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from durably.domain.errors import StoreError
from durably.stores.postgres.database import Address, Connection, connect, translating

_log = logging.getLogger("durably")
_AGAIN_S = (0.1, 2.0)
"""Between attempts to connect: at first, and at most."""
_PING_S = 10.0
_PING_PATIENCE_S = 5.0


class Listener:
    """Calls *heard* for every notification, and once after each new connection: some may be missed.

    Args:
        address: of the store.
        channel: what is listened to.
        heard: called on the event loop.
    """

    def __init__(self, address: Address, channel: str, heard: Callable[[], None]) -> None:
        self._address = address
        self._channel = channel
        self._heard = heard
        self._task = asyncio.get_running_loop().create_task(self._run(), name="durably-listener")

    async def close(self) -> None:
        """Listen no more."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        pause, longest = _AGAIN_S
        while True:
            connection: Connection = None
            try:
                connection = await connect(self._address, session=True)
                pause = _AGAIN_S[0]
                await self._listen(connection)
            except (StoreError, TimeoutError) as error:
                _log.debug("listening again in %g s: %s", pause, error)
            finally:
                if connection is not None:
                    with contextlib.suppress(Exception):
                        connection.terminate()
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    async def _listen(self, connection: Connection) -> None:
        """Until the connection is lost; one that is half open is noticed by a ping."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        async with translating(self._address):
            await connection.add_listener(self._channel, lambda *_: self._heard())
            self._heard()
            while not lost.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PING_S):
                        await lost.wait()
                if not lost.is_set():
                    await connection.execute("SELECT 1", timeout=_PING_PATIENCE_S)
