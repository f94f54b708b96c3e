"""The one thread that writes: operations in, group commits out.

What has gathered while one commit was on its way shares the next. An operation is a function of a
`Session`; it raises one of our errors before it has written anything, and may then stand beside
others in a transaction. Any other exception rolls the batch back, and each operation is tried alone.
"""

import queue
import socket
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from durably.domain.clock import Clock
from durably.domain.errors import DurablyError
from durably.stores.sqlite.database import StoreFile, connect, is_busy, translate
from durably.stores.sqlite.forks import traffic
from durably.stores.sqlite.locks import Turnstile
from durably.stores.sqlite.session import Effects, Session

Operation = Callable[[Session], Any]
Peek = Callable[[Session], bool]
Done = Callable[[Any, BaseException | None], None]
"""Takes an operation's result or its error, on the event loop."""

_BATCH_MAX = 1_000
_CHECKPOINT_COMMITS = 200
_CHECKPOINT_BYTES = 4_194_304


class _Work(NamedTuple):
    operation: Operation
    done: Done
    peek: Peek | None
    synced: bool


Settled = list[tuple[Done, Any, BaseException | None]]


class Writer:
    """Owns the writing connection of one store object.

    Args:
        path: the database file.
        folder: where the locks lie.
        clock: gives the time of each transaction.
        settled: called on the writer's thread after each batch with what is done and what to tell
            listeners: one call, so that the event loop wakes once.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        clock: Clock,
        settled: Callable[[Settled, Effects], None],
    ) -> None:
        self._path = path
        self._file = StoreFile(path)
        self._clock = clock
        self._settled = settled
        self._connection = connect(path)
        self._synced = True
        # Holds the write lock during checkpoints (see `_checkpoint`).
        self._guard = connect(path)
        self._wal = path.with_name(path.name + "-wal")
        self._wal_bytes = _CHECKPOINT_BYTES
        self._commits = 0
        """Since the log was moved, by whichever process."""
        self._moved: int | None = None
        """When the file itself was last written; None: not looked yet."""
        self.written = 0
        """So many transactions. The file's `Session.version` tells only of other connections."""
        self._turnstile = Turnstile(folder)
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._closed = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self.own_ports: set[int] = set()
        self._thread = threading.Thread(target=self._main, name="durably-writer", daemon=True)
        self._thread.start()

    def submit(
        self, operation: Operation, done: Done, *, peek: Peek | None = None, synced: bool = True
    ) -> None:
        """Queue *operation*; *done* gets its result once that is durable, or its error.

        Args:
            operation: what to do.
            done: told of its end.
            peek: runs first, outside a transaction; False spares the operation, whose result is
                None.
            synced: False: a power cut may undo it (a killed process may not). It is then not
                waited for the disk, unless it shares its commit with what needs that.
        """
        self._queue.put(_Work(operation, done, peek, synced))

    def close(self) -> None:
        """Finish what is queued, then stop. Blocks."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def _main(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                self._serve(batch)
        finally:
            self._guard.close()
            self._connection.close()
            self._turnstile.close()
            self._socket.close()

    def _next_batch(self) -> list[_Work] | None:
        """Everything that waits; None when closed and empty."""
        work = self._queue.get()
        if work is None:
            return None
        batch = [work]
        while len(batch) < _BATCH_MAX:
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                break
            if work is None:
                self._queue.put(None)
                break
            batch.append(work)
        return batch

    def _serve(self, batch: list[_Work]) -> None:
        settled: Settled = []
        effects = Effects()
        try:
            with traffic:
                writing = [work for work in batch if self._must_write(work, settled)]
            if writing:
                with self._turnstile, traffic:
                    self._commit(writing, settled, effects)
                    if self._must_checkpoint():
                        # Nobody need wait for that, nor for another turn of ours. Without it the
                        # turn ends first: the event loop would hold it up once it has been told.
                        self._settled(settled, effects)
                        settled, effects = [], Effects()
                        self._checkpoint()
        finally:
            self._settled(settled, effects)

    def _must_write(self, work: _Work, settled: Settled) -> bool:
        if work.peek is None:
            return True
        try:
            if work.peek(Session(self._connection, self._clock.now_us(), Effects())):
                return True
        except Exception as error:  # noqa: BLE001  # reaches its caller
            settled.append((work.done, None, translate(error, self._path)))
            return False
        settled.append((work.done, None, None))
        return False

    def _commit(self, batch: list[_Work], settled: Settled, effects: Effects) -> None:
        """Run *batch* in one transaction, or each alone when one of them breaks it."""
        try:
            done, told = self._transaction(batch)
        except Exception as error:  # noqa: BLE001  # tried alone, it reaches its caller
            # A lock of another program fails them all: alone each would wait for it again.
            if len(batch) == 1 or is_busy(error):
                ours = translate(error, self._path)
                settled += [(work.done, None, ours) for work in batch]
            else:
                for work in batch:
                    self._commit([work], settled, effects)
        else:
            settled += done
            effects.add(told)

    def _transaction(self, batch: list[_Work]) -> tuple[Settled, Effects]:
        """Run *batch* in one transaction; what to settle and tell once it is durable."""
        run = self._connection.execute
        effects = Effects()
        settled: Settled = []
        ports: set[int] = set()
        synced = any(work.synced for work in batch)
        if synced is not self._synced:
            run(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            self._synced = synced
        run("BEGIN IMMEDIATE")
        try:
            session = Session(self._connection, self._clock.now_us(), effects)
            for work in batch:
                try:
                    settled.append((work.done, work.operation(session), None))
                except DurablyError as error:
                    settled.append((work.done, None, error))
            if effects.ready or effects.control:
                ports = session.wake_ports() - self.own_ports
            self._file.commit(self._connection)
            self.written += 1
        except BaseException:
            if self._connection.in_transaction:
                run("ROLLBACK")
            raise
        self.wake(ports)
        return settled, effects

    def wake(self, ports: set[int]) -> None:
        """Nudge the workers of other processes. Whoever misses it looks at its interval."""
        for port in ports:
            try:
                self._socket.sendto(b"", ("127.0.0.1", port))
            except OSError:
                continue

    def _must_checkpoint(self) -> bool:
        """Whether to move the log into the file: now and then, and when it has grown."""
        try:
            size, moved = self._wal.stat().st_size, self._path.stat().st_mtime_ns
        except OSError:
            return False
        if moved != self._moved:
            # Nothing else writes to the file itself: somebody has moved the log. Who is new here does
            # not know that: if each who adds a job and leaves took the log for moved, it would grow
            # without end.
            if self._moved is not None:
                self._begin_count(size)
            self._moved = moved
        self._commits += 1
        if self._commits < _CHECKPOINT_COMMITS and size <= self._wal_bytes:
            return False
        # Also where the file's time is too coarse to tell of it, or a reader holds the log back.
        self._begin_count(size)
        return True

    def _begin_count(self, size: int) -> None:
        self._commits = 0
        self._wal_bytes = max(size, _CHECKPOINT_BYTES)

    def _checkpoint(self) -> None:
        """Move the log into the file. The turnstile is held.

        SQLite up to 3.51.2 can corrupt the log when one connection commits while another
        checkpoints. Our writers are kept out by the turnstile, the user's own connections by the
        write lock, which a second connection holds meanwhile.
        """
        try:
            self._guard.execute("BEGIN IMMEDIATE")
            try:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            finally:
                self._guard.execute("ROLLBACK")
        except sqlite3.Error:
            return  # the log only grows meanwhile; a later commit tries again
