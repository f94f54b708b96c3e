"""Moving everything that a store keeps to another one, so that a service goes on there.

Batches are loaded in the order of their keys, and a marker in the target says how far: an interrupted
copy goes on. At the end both stores are read again and compared. A lease is not moved: nobody may run
jobs meanwhile.
"""

import hashlib
from collections.abc import AsyncIterator, Callable

import msgspec

from durably.domain.errors import DurablyError, VersionConflictError
from durably.domain.job import FIELDS, LEASED
from durably.domain.outcome import Changes, Delete, Put
from durably.store import Part, Row, Store

MARKER = "durably-copy"
"""Kind and id of the record in a target that is not complete."""
BATCH = 1_000
_STATE, _TOKEN, _WORKER = (FIELDS.index(name) for name in ("state", "token", "worker"))


class CopyError(DurablyError):
    """The stores cannot be copied, or are not equal afterwards; the message says the way out."""


class _Marker(msgspec.Struct):
    source: str
    reached: dict[Part, Row]
    """The last key of each part that has arrived."""


async def copy(
    source: Store, target: Store, *, told: Callable[[str, int], None] = lambda *_: None
) -> dict[Part, int]:
    """Copy all of *source* into the empty *target*, both open, or go on where that was interrupted.

    Args:
        source: is left as it is.
        target: holds nothing, or what an interrupted copy of *source* has left.
        told: called with what is going on and how many rows it has reached.

    Returns:
        How many rows of each part both hold now.

    Raises:
        CopyError: a worker runs, the target is not empty, or the source has changed meanwhile.
        StoreError: one of them fails; the copy can be repeated.
    """
    await _check_idle(source, target)
    marker = await _begin(source, target)
    for part in Part:
        done = 0
        async for rows in _batches(source, part, marker.reached.get(part)):
            await target.load(part, rows)
            marker.reached[part] = part.key(rows[-1])
            await target.write(_marked(marker))
            done += len(rows)
            told(f"copying {part}", done)
    counts = {}
    for part in Part:
        ours, theirs = [await _digest(store, part, told) for store in (source, target)]
        if ours != theirs:
            raise CopyError(
                f"the {part} differ ({ours[0]:,} in the source, {theirs[0]:,} in the target): somebody"
                " has written meanwhile; stop what uses either, empty the target and copy again"
            )
        counts[part] = ours[0]
    await target.write(Changes(records=(Delete(kind=MARKER, id=MARKER),)))
    return counts


async def _check_idle(source: Store, target: Store) -> None:
    for name, store in (("source", source), ("target", target)):
        if running := [worker for worker in await store.workers() if worker.alive]:
            where = ", ".join(f"{w.info.host}:{w.info.pid}" for w in running)
            raise CopyError(f"workers run on the {name} ({where}): stop them first")
    while (await source.rescue()).workers:
        pass  # what dead workers held is ready again


async def _begin(source: Store, target: Store) -> _Marker:
    if await source.record(MARKER, MARKER) is not None:
        raise CopyError("the source is itself the target of a copy that is not complete")
    found = await target.record(MARKER, MARKER)
    if found is not None:
        marker = msgspec.convert(found.value, _Marker)
        if marker.source != source.url:
            raise CopyError(
                f"the target holds part of a copy of {marker.source}: finish that first"
            )
        return marker
    for part in Part:
        if await target.dump(part, after=None, limit=1):
            raise CopyError(f"the target has {part} of its own: copy into an empty store")
    marker = _Marker(source.url, {})
    try:
        await target.write(_marked(marker, expect=0))
    except VersionConflictError:
        raise CopyError("another copy into the target has begun just now") from None
    return marker


def _marked(marker: _Marker, expect: int | None = None) -> Changes:
    value = msgspec.json.encode(marker).decode()
    return Changes(records=(Put(kind=MARKER, id=MARKER, value=value, expect=expect),))


async def _batches(store: Store, part: Part, after: Row | None) -> AsyncIterator[list[Row]]:
    while rows := await store.dump(part, after=after, limit=BATCH):
        after = part.key(rows[-1])
        if portable := [_portable(part, row) for row in rows if part.key(row) != (MARKER, MARKER)]:
            yield portable


def _portable(part: Part, row: Row) -> Row:
    """Without what means something in its store only."""
    if part is not Part.JOBS:
        return row
    if row[_STATE] in LEASED:
        raise CopyError(f"job {part.key(row)[0]} is being run: stop the workers first")
    return tuple(None if at in (_TOKEN, _WORKER) else value for at, value in enumerate(row))


async def _digest(store: Store, part: Part, told: Callable[[str, int], None]) -> tuple[int, str]:
    """How many rows, and a checksum of all that they say."""
    count, digest = 0, hashlib.sha256()
    async for rows in _batches(store, part, None):
        for row in rows:
            digest.update(msgspec.json.encode(row))
        count += len(rows)
        told(f"comparing {part}", count)
    return count, digest.hexdigest()
