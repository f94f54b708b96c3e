"""Whether a service gets on: judged from when its worker last did what it must do now and then.

A process that is there, but claims nothing, renews nothing or can write nothing, is not healthy.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from durably.domain.clock import Clock
from durably.domain.errors import (
    StoreBusyError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
)

CLAIM_PATIENCE_S = 5.0
"""A worker that has not reached its store for longer is stuck, if that is three intervals too."""
RENEWAL_PATIENCE = 2 / 3
"""Of the lease. Renewals come at a third of it."""
PROBE_INTERVAL_S = 5.0
PROBE_PATIENCE_S = 2.0
_KINDS = {
    StoreFullError: "the disk is full",
    StoreReadOnlyError: "it is read-only",
    StoreBusyError: "others keep it locked",
    StoreCorruptError: "it is damaged",
    StoreClosedError: "it is closed",
}


class Pulse(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself. All in seconds."""

    exchange_age: float
    """Since it last reached its store."""
    interval: float
    """Between looks for work: what an idle worker's exchange age may come to."""
    renewal_age: float
    """Since its leases were renewed; 0 while it holds nothing."""
    lease: float


def worker_faults(pulse: Pulse, *, types: int) -> tuple[str, ...]:
    """What is wrong with a worker that has handlers of so many *types*."""
    found = []
    if types == 0:
        found.append("no handler is registered")
    if pulse.exchange_age > max(CLAIM_PATIENCE_S, 3 * pulse.interval):
        found.append(f"the worker has not reached the store for {pulse.exchange_age:.0f} s")
    if pulse.renewal_age > pulse.lease * RENEWAL_PATIENCE:
        found.append(
            f"the leases have not been renewed for {pulse.renewal_age:.0f} s of {pulse.lease:.0f} s"
        )
    return tuple(found)


class WriteProbe:
    """Whether the store takes writes: tried at most every 5 s, by one caller for all.

    Args:
        write: a small write.
        clock: where time comes from.
    """

    def __init__(self, write: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._write = write
        self._clock = clock
        self._found: tuple[str, ...] = ()
        self._good_until = -1.0
        self._turn = asyncio.Lock()

    async def faults(self) -> tuple[str, ...]:
        """What is wrong with the store."""
        async with self._turn:
            if self._clock.monotonic() >= self._good_until:
                self._found = await self._probe()
                self._good_until = self._clock.monotonic() + PROBE_INTERVAL_S
        return self._found

    async def _probe(self) -> tuple[str, ...]:
        done = asyncio.Event()
        task = asyncio.get_running_loop().create_task(_run(self._write, done), name="durably-probe")
        if not await self._clock.wait(done, PROBE_PATIENCE_S):
            task.cancel()
            return (f"the store has not taken a write for {PROBE_PATIENCE_S:g} s",)
        error = await task
        if error is None:
            return ()
        return (f"the store refuses writes: {_KINDS.get(type(error), 'it has failed')}",)


async def _run(write: Callable[[], Awaitable[None]], done: asyncio.Event) -> StoreError | None:
    try:
        await write()
    except StoreError as error:
        return error
    finally:
        done.set()
    return None
