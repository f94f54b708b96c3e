"""The simulated provider as the demonstration sees it from behind: its faults and its meter."""

from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import ClientSession, ClientTimeout

from durably.instances.simulator import Fault


class Meter(msgspec.Struct):
    """What one upstream instance costs."""

    name: str
    billing: bool


class CarriedOut(msgspec.Struct):
    """A create call that had its effect, whether or not its caller was told."""

    name: str


class Bill(msgspec.Struct):
    """Everything that was ever rented."""

    instances: list[Meter]
    creates: list[CarriedOut]


class _Struck(msgspec.Struct):
    struck: int


class Control:
    """The control routes of a simulator, used as ``async with``.

    Args:
        base_url: The URL of the simulated API.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._session: ClientSession

    async def __aenter__(self) -> Self:
        origin = "/".join(self._base_url.split("/")[:3])
        self._session = ClientSession(origin, timeout=ClientTimeout(total=10))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def add(self, *faults: Fault) -> None:
        """Put faults after those in force."""
        await self._ask("POST", "faults", list[_Struck], msgspec.json.encode(faults))

    async def faults_met(self) -> int:
        """How many requests were struck by a fault."""
        return sum(rule.struck for rule in await self._ask("GET", "faults", list[_Struck]))

    async def bill(self) -> Bill:
        """What is and was rented."""
        return await self._ask("GET", "billing", Bill)  # type: ignore[no-any-return]  # decoded as Bill

    async def _ask(self, method: str, route: str, kind: Any, body: bytes | None = None) -> Any:
        async with self._session.request(method, f"/control/{route}", data=body) as answer:
            answer.raise_for_status()
            return msgspec.json.decode(await answer.read(), type=kind)
