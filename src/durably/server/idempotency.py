"""Idempotency-Key: a repeated request is answered as the first was, and changes nothing.

The key's record commits in the transaction of what the request makes. It is written under the
current day and the next, and read under the current one: so that it holds for 24 to 48 hours, no
request at midnight slips through, and old days can be dropped whole.
"""

import hashlib
from typing import Any

import msgspec

from durably import Changeset, Clock, JobQueueService
from durably.server.audit import Origin
from durably.server.errors import ApiError

HEADER = "Idempotency-Key"
_DAY_US = 86_400_000_000
_PAGE = 500
_DAYS_PRUNED = 7
"""So long a server may have been off without leaving records behind."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a request."""

    body: str
    """Digest of its body."""
    answer: Any
    """What its answer is made of."""


class Key:
    """One key of one principal on one route, with the digest of the body it came with.

    Args:
        text: the header's value.
        origin: keys of different principals are different keys.
        route: likewise of different routes.
        raw: the JSON body; spaces and the order of its members do not matter.
    """

    def __init__(self, text: str, *, origin: Origin, route: str, raw: dict[str, Any]) -> None:
        scope = f"{origin.principal.name}\n{route}\n{text}"
        self.id = hashlib.sha256(scope.encode()).hexdigest()
        self.body = hashlib.sha256(msgspec.json.encode(raw, order="sorted")).hexdigest()


class IdempotencyKeys:
    """The keys that a store remembers."""

    def __init__(self, queue: JobQueueService, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock

    async def find(self, key: Key | None) -> Any:
        """The answer that was kept for *key*; None: there is none.

        Raises:
            ApiError: 422, the key came with another body before.
        """
        record = None if key is None else await self._queue.get_record(_kind(self._today()), key.id)
        if key is None or record is None:
            return None
        kept = msgspec.convert(record.value, Kept)
        if kept.body != key.body:
            raise ApiError(
                422,
                "idempotency_key_reused",
                f"this {HEADER} came with another body before; use a new key for a new request",
            )
        return kept.answer

    def keep(self, changes: Changeset, key: Key | None, answer: object) -> None:
        """Remember *answer* with *changes*; VersionConflictError if the key is there by then."""
        if key is not None:
            self._put(changes, key, answer, expect=0)

    async def correct(self, key: Key | None, answer: object) -> None:
        """Remember another *answer*: what the first commit made was not what it had promised."""
        if key is not None:
            changes = self._queue.changeset()
            self._put(changes, key, answer, expect=None)
            await self._queue.commit(changes)

    def _put(self, changes: Changeset, key: Key, answer: object, *, expect: int | None) -> None:
        kept = Kept(body=key.body, answer=answer)
        today = self._today()
        for day in (today, today + 1):
            changes.put(_kind(day), key.id, kept, expect=expect)

    async def prune(self) -> None:
        """Forget the keys of past days."""
        today = self._today()
        for day in range(today - _DAYS_PRUNED, today):
            while records := await self._queue.get_records(_kind(day), limit=_PAGE):
                changes = self._queue.changeset()
                for record in records:
                    changes.delete(record.kind, record.id)
                await self._queue.commit(changes)

    def _today(self) -> int:
        return self._clock.now_us() // _DAY_US


def _kind(day: int) -> str:
    return f"idempotency:{day}"
