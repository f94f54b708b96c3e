"""What an adapter offers, and the memory that workers share with whoever measures them."""

import mmap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Payload = dict[str, Any]
Handle = Callable[[Payload], None]
"""Called first thing by every job."""

WORKERS = 2
LATENCIES = 4_096
_SLOT = 3 + LATENCIES
_READY = 1 + WORKERS * _SLOT
SETTLER = WORKERS
"""Counts among the processes that are ready, after the workers."""
_DOUBLES = _READY + WORKERS + 1
_BYTES = 8 * _DOUBLES


class Peer:
    """One queue on one store; a process uses one.

    *place* is a folder, a PostgreSQL URL, or empty for a queue in memory.
    """

    bulk: int | None = None
    """So many at a time `add_many` takes; None: it cannot."""
    concurrent = True
    """Whether several callers in one process may await `add` at once."""

    def __init__(self, place: str) -> None:
        self.place = place

    async def prepare(self) -> None:
        """Make the empty store."""

    async def open(self) -> None:
        """Be ready to add and to look."""

    async def close(self) -> None:
        """Undo `open`."""

    async def add(self, payload: Payload) -> None:
        """Add one job; kept, as far as the queue keeps it, on return."""
        raise NotImplementedError

    async def add_many(self, payloads: list[Payload]) -> None:
        """Add several the fastest documented way."""
        raise NotImplementedError

    async def unfinished(self) -> int:
        """How many jobs are left whose end is not recorded; more than none may be any number."""
        raise NotImplementedError

    async def work(self, handle: Handle) -> None:
        """Run jobs for ever, having opened what that needs."""
        raise NotImplementedError


class Tally:
    """Counts of jobs by worker, when each began first, and its latest latencies, in shared memory."""

    def __init__(self, path: Path, *, new: bool = False) -> None:
        if new:
            path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._cells = memoryview(mmap.mmap(file.fileno(), _BYTES)).cast("d")

    def handler(self, worker: int) -> Handle:
        """What the jobs of a worker call."""
        count, first, stamped = range(1 + worker * _SLOT, 4 + worker * _SLOT)
        cells = self._cells

        def handle(payload: Payload) -> None:
            if not cells[count]:
                cells[first] = time.monotonic()
            if due := payload["t"]:
                at = int(cells[stamped])
                cells[stamped + 1 + at % LATENCIES] = time.monotonic() - due
                cells[stamped] = at + 1
            cells[count] += 1

        return handle

    def ready(self, process: int) -> None:
        """Say that a worker, or `SETTLER`, has imported and opened what it needs.

        Each in a cell of its own: of two that add to one at the same time only one would count.
        """
        self._cells[_READY + process] = 1

    def are_ready(self, processes: int) -> bool:
        """Whether so many are."""
        return sum(self._cells[_READY:]) >= processes

    def wait_for_go(self) -> None:
        """Return when `go` was called."""
        while not self._cells[0]:
            time.sleep(0.001)

    def go(self) -> None:
        """Let the workers begin."""
        self._cells[0] = 1

    @property
    def done(self) -> int:
        """Jobs of all workers."""
        return int(sum(self._cells[1 + at * _SLOT] for at in range(WORKERS)))

    @property
    def began(self) -> float:
        """When the first job of all began."""
        return min(filter(None, (self._cells[2 + at * _SLOT] for at in range(WORKERS))))

    def latencies(self) -> list[float]:
        """Of the first worker."""
        return list(self._cells[4 : 4 + min(int(self._cells[3]), LATENCIES)])
