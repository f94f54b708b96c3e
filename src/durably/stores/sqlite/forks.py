"""What a fork does to open connections, so that the child can open the same file anew.

SQLite keeps notes of the locks of its process, and a forked child inherits the notes without the
locks. A file that is open at the fork seems locked there and is not: the next process to close it
deletes the log under the child, with all that the child has committed since. Therefore a fork waits
until no thread is inside SQLite, and the child first closes what it has inherited.
"""

import os
import sqlite3
import threading
import weakref
from pathlib import Path
from types import TracebackType

from durably.domain.errors import StoreClosedError

LONGEST_S = 1.0
"""How long a fork waits for threads inside SQLite."""


class Traffic:
    """The threads inside SQLite; `with traffic:` lets none in while the process forks."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start afresh: in a child no thread is inside, and none holds the lock."""
        self._changed = threading.Condition()
        self._inside = 0
        self._forks = 0

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._forks)
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def is_quiet(self) -> bool:
        """Whether no thread is inside."""
        return self._inside == 0

    def halt(self) -> None:
        """Let nobody in; returns when nobody is inside, or after `LONGEST_S`."""
        with self._changed:
            self._forks += 1
            self._changed.wait_for(self.is_quiet, LONGEST_S)

    def go_on(self) -> None:
        """Undo one `halt`."""
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()


class Connection(sqlite3.Connection):
    """A connection that forked children close; it is called `with traffic:`."""

    def close(self) -> None:
        """Close it."""
        with traffic:
            super().close()
            _open.discard(self)


traffic = Traffic()
_open: "weakref.WeakSet[Connection]" = weakref.WeakSet()
_inherited: list[Connection] = []
"""The parent's that were in use at the fork; kept, for to finalize them would do harm."""


def connect(path: Path, timeout_s: float) -> Connection:
    """A connection for one thread at a time, in autocommit mode.

    Args:
        path: the file.
        timeout_s: how long it waits for locks.

    Raises:
        StoreClosedError: this process was forked while a connection was in use.
    """
    if _inherited:
        raise StoreClosedError(
            "SQLite cannot be used here: the process was forked while its parent was writing to a"
            " store; start processes by spawn, or before a service is opened"
        )
    with traffic:
        connection = sqlite3.connect(
            path,
            timeout=timeout_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            factory=Connection,
        )
        _open.add(connection)
    return connection


def _close_in_child() -> None:
    was_quiet = traffic.is_quiet()
    traffic.reset()
    for connection in list(_open):
        if was_quiet and not connection.in_transaction:
            connection.close()
        else:
            _inherited.append(connection)


os.register_at_fork(
    before=traffic.halt, after_in_parent=traffic.go_on, after_in_child=_close_in_child
)
