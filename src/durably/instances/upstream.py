"""One shared look at all upstream instances, for all who watch some of them."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from durably.instances.provider import Provider, ProviderError, Upstream


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What one list of the provider showed."""

    at: datetime
    """When the list was asked for: it is at least as new as that."""
    instances: Mapping[str, Upstream]
    """By upstream id."""


class UpstreamView:
    """Lists the upstream instances at most once for everybody who asks within a time.

    Args:
        provider: who is asked.
        now: the wall clock.
    """

    def __init__(self, provider: Provider, now: Callable[[], datetime]) -> None:
        self._provider = provider
        self._now = now
        self._asking = asyncio.Lock()
        self._snapshot: Snapshot | None = None
        self._failure: tuple[datetime, ProviderError] | None = None

    async def read(self, max_age: float, *, newer_than: datetime | None = None) -> Snapshot:
        """All upstream instances, as they were at most *max_age* seconds ago.

        Args:
            max_age: seconds; 0 always asks the provider.
            newer_than: a list that was asked for at this moment or before is too old as well.

        Raises:
            ProviderError: the list failed, within that time: a provider in trouble is not asked by
                everybody in turn.
        """
        async with self._asking:
            last = self._snapshot
            if last is not None and self._age(last.at) < max_age and _is_newer(last, newer_than):
                return last
            if self._failure is not None and self._age(self._failure[0]) < max_age:
                raise self._failure[1].with_traceback(None)
            at = self._now()
            try:
                listed = await self._provider.list()
            except ProviderError as error:
                self._failure = (at, error)
                raise
            self._failure = None
            self._snapshot = Snapshot(at=at, instances={one.id: one for one in listed})
            return self._snapshot

    def _age(self, at: datetime) -> float:
        return (self._now() - at).total_seconds()


def _is_newer(snapshot: Snapshot, moment: datetime | None) -> bool:
    return moment is None or snapshot.at > moment
