"""Locks between processes that the kernel releases when their holder dies: `flock` on small files."""

import errno
import fcntl
import os
import weakref
from pathlib import Path
from types import TracebackType
from typing import Self

_open_locks: "weakref.WeakSet[FileLock]" = weakref.WeakSet()


class FileLock:
    """An exclusive `flock` on a file of its own.

    A forked child closes its copy: an inherited descriptor would keep the lock of a dead parent.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT * create, 0o644)
        _open_locks.add(self)

    def acquire(self) -> None:
        """Take the lock; waits in the kernel, without a time limit."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def try_acquire(self) -> bool:
        """Take the lock if it is free."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise
        return True

    def release(self) -> None:
        """Give the lock up."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the lock up and close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _close_in_child() -> None:
    for lock in list(_open_locks):
        lock.close()


os.register_at_fork(after_in_child=_close_in_child)


class Turnstile:
    """Fair mutual exclusion between processes: who waits comes before who has just left.

    SQLite's busy handler sleeps and tries again, so a hot writer starves the others. Here a writer
    holds the gate while it waits for the room: whoever leaves the room and wants it again queues at
    the gate behind the waiting. Both locks are the kernel's, so a dead holder or waiter passes on.
    """

    def __init__(self, folder: Path) -> None:
        self._gate = FileLock(folder / "gate")
        self._room = FileLock(folder / "room")

    def __enter__(self) -> Self:
        self._gate.acquire()
        try:
            self._room.acquire()
        finally:
            self._gate.release()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._room.release()

    def close(self) -> None:
        """Close both files."""
        self._gate.close()
        self._room.close()


class Liveness:
    """One locked file for each worker of this process; a file that can be locked is a dead one's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[int, FileLock] = {}

    def hold(self, worker: int) -> None:
        """Say that *worker* lives, until `drop` or the end of the process."""
        if worker in self._held:
            return  # the transaction that registers it was run again
        lock = FileLock(self._path(worker))
        if not lock.try_acquire():
            lock.close()
            raise RuntimeError(f"worker {worker} is already alive in another process")
        self._held[worker] = lock

    def drop(self, worker: int) -> None:
        """Take it back and remove the file."""
        lock = self._held.pop(worker, None)
        if lock is not None:
            self.forget(worker)
            lock.close()

    def is_dead(self, worker: int) -> bool:
        """Whether no process holds *worker*'s lock."""
        if worker in self._held:
            return False
        try:
            lock = FileLock(self._path(worker), create=False)
        except FileNotFoundError:
            return True
        try:
            return lock.try_acquire()
        finally:
            lock.close()

    def forget(self, worker: int) -> None:
        """Remove the file of a dead worker; its number is never given out again."""
        self._path(worker).unlink(missing_ok=True)

    def close(self) -> None:
        """Drop every worker."""
        for worker in list(self._held):
            self.drop(worker)

    def _path(self, worker: int) -> Path:
        return self._folder / f"worker-{worker}"
