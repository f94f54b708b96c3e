"""Starting and stopping the simulator on a port of this machine."""

import asyncio
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from durably.instances.simulator.app import API_PATH, ProviderApp
from durably.instances.simulator.settings import SimulatorSettings

_log = logging.getLogger(__name__)


class Simulator:
    """The provider on a local port while the ``async with`` block lasts.

    Args:
        settings: How it behaves.
        now: Unix seconds; steers statuses, billing and list lag, but not the waits of latency and
            of slow answers, which are real. By default the machine's time.
    """

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._settings = settings or SimulatorSettings()
        self._app = ProviderApp(self._settings, now=now or _unix_clock())
        self._runner = web.AppRunner(self._app.application(), access_log=None, shutdown_timeout=1.0)
        self._origin = ""

    @property
    def base_url(self) -> str:
        """URL of the API, without a slash at the end; known once entered."""
        return self._origin + API_PATH

    @property
    def control_url(self) -> str:
        """URL of the control routes, without a slash at the end; known once entered."""
        return f"{self._origin}/control"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        settings = self._settings
        try:
            await web.TCPSite(self._runner, settings.host, settings.port).start()
        except BaseException:
            await self._runner.cleanup()
            raise
        port = self._runner.addresses[0][1]
        self._origin = f"http://{_bracketed(settings.host)}:{port}"
        self._app.address = f"{_bracketed(settings.public_host or settings.host)}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()


async def serve(settings: SimulatorSettings) -> None:
    """Run the simulator until cancelled, and log where it listens."""
    async with Simulator(settings) as simulator:
        _log.info("the simulator listens on %s", simulator.base_url)
        await asyncio.Event().wait()


def _unix_clock() -> Callable[[], float]:
    """Unix seconds that never jump, so that a set clock moves no instance through its statuses."""
    offset = time.clock_gettime(time.CLOCK_REALTIME) - time.monotonic()
    return lambda: offset + time.monotonic()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
