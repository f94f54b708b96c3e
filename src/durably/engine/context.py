"""What a handler is given: its job, and what it can do besides returning."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, TypeVar, cast

from durably.domain.errors import LeaseLostError, StoreBusyError
from durably.domain.job import AttemptError, JobPriority, JobRecord, JobStatus, Progress
from durably.domain.outcome import NO_CHANGES, Changes, Lease, Outcome, OutcomeKind
from durably.domain.payload import check_text, decode, encode
from durably.engine.drafts import Changeset, Drafter, FollowUp
from durably.store import Store, Transaction

_T = TypeVar("_T")
STEP_LONGEST = 200
inside_complete: ContextVar[bool] = ContextVar("durably_inside_complete", default=False)
"""Whether this task is in a block of `complete`, which keeps the worker's own writes waiting."""


class _Context:
    """The job's fields, and what needs no store."""

    id: str
    type: str
    payload: Any
    """As the handler's payload type, where it has one."""
    status: JobStatus
    priority: JobPriority
    attempts: int
    max_attempts: int
    created_at: datetime
    processed_at: datetime | None
    completed_at: datetime | None
    next_retry_at: datetime | None
    error: str | None
    queue: str
    run_at: datetime | None
    result: Any
    progress: Progress | None
    errors: tuple[AttemptError, ...]
    tags: tuple[str, ...]
    unique_key: str | None
    crashes: int
    worker: str | None
    parent: str | None

    def __init__(self, record: JobRecord, payload: Any, attempt: "AttemptWrites") -> None:
        self.payload = payload
        self._record = record
        self._attempt = attempt

    def __getattr__(self, name: str) -> Any:
        # Only for what is not set: most handlers never ask for more than the payload.
        if name in _Context.__annotations__:
            value = getattr(self._record.to_job(), name)
            setattr(self, name, value)
            return value
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def cancelled(self) -> bool:
        """Whether the handler should stop: a cancel, a timeout, a shutdown or a lost lease."""
        return self._attempt.interrupted

    @property
    def lease(self) -> Lease:
        """The attempt's lease: `lease.token` fences writes to the handler's own systems."""
        return self._attempt.lease

    @property
    def changes(self) -> Changeset:
        """Records, events and jobs that commit with the outcome (see `add_job`)."""
        return self._attempt.open_changes

    def add_job(self, type: str, payload: Any = None, **options: Any) -> FollowUp:
        """A follow-up job; *options* are `JobQueueService.add_job`'s.

        It is committed with the outcome when the handler returns or raises Fail, Cancel, Snooze or
        Retry, and dropped on any other exception, a timeout or a crash. Not visible before.

        Raises:
            LeaseLostError: `complete` has already committed the outcome.
        """
        return self._attempt.open_changes.add_job(type, payload, **options)


class JobContext(_Context):
    """What an async handler is given."""

    async def set_progress(self, fraction: float, message: str = "") -> None:
        """Say how far the job is: 0 to 1, and in words. LeaseLostError as with `step`."""
        await self._attempt.set_progress(fraction, message)

    async def step(self, name: str, fn: Callable[[], Awaitable[_T] | _T]) -> _T:
        """The result of *fn*, stored under *name*: every later attempt gets it without running it.

        *fn* runs again only if the process died before the result was stored. The result must be
        JSON-able, and comes back as JSON gives it, also the first time.

        Raises:
            LeaseLostError: this attempt no longer owns the job; stop.
            PayloadError: the result is not JSON-able or over 1 MiB.
        """
        result: _T = await self._attempt.step(name, fn)
        return result

    @asynccontextmanager
    async def complete(
        self, result: Any = None, *, connection: object = None
    ) -> AsyncIterator["CompletionTransaction"]:
        """A transaction that completes the job together with the handler's own SQL.

        Leaving the block commits; an exception rolls all of it back and counts as the attempt's
        failure. On SQLite it waits its turn, may last 5 s, and keeps other writers waiting.

        Args:
            result: the job's.
            connection: on PostgreSQL, the handler's own, with a transaction open: the job is
                completed in that, and is complete once the handler has committed it. When the
                handler ends without, the attempt has failed.

        Raises:
            LeaseLostError: this attempt no longer owns the job; nothing was written.
            TypeError, ValueError: the store cannot use the connection.
        """
        async with self._attempt.complete(result, connection) as transaction:
            yield transaction

    async def commit(self, changes: Changeset) -> None:
        """Commit *changes* now, if this attempt still owns the job.

        Raises:
            LeaseLostError: it does not; nothing was written.
            VersionConflictError: a record has another version; nothing was written.
        """
        await self._attempt.commit(changes)


class SyncJobContext(_Context):
    """What a handler in a thread is given: the same, blocking."""

    def __init__(
        self,
        record: JobRecord,
        payload: Any,
        attempt: "AttemptWrites",
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(record, payload, attempt)
        self._loop = loop

    def set_progress(self, fraction: float, message: str = "") -> None:
        """See `JobContext.set_progress`."""
        self._wait(self._attempt.set_progress(fraction, message))

    def step(self, name: str, fn: Callable[[], _T]) -> _T:
        """See `JobContext.step`; *fn* runs in this thread."""
        stored, result = self._wait(self._attempt.stored_step(name))
        if not stored:
            text = encode(fn(), what=f"result of step {name!r}")
            result = self._wait(self._attempt.save_step(name, text))
        return result  # type: ignore[no-any-return]  # JSON

    @contextmanager
    def complete(
        self, result: Any = None, *, connection: object = None
    ) -> Iterator["SyncCompletionTransaction"]:
        """See `JobContext.complete`; a *connection* is one that blocks, or none."""
        entered: Future[CompletionTransaction] = Future()
        left: Future[None] = Future()

        async def hold() -> None:
            async with self._attempt.complete(result, connection) as transaction:
                entered.set_result(transaction)
                await asyncio.wrap_future(left)

        holding = asyncio.run_coroutine_threadsafe(hold(), self._loop)
        wait(cast("list[Future[object]]", [entered, holding]), return_when=FIRST_COMPLETED)
        if not entered.done():
            holding.result()
        try:
            yield SyncCompletionTransaction(entered.result(), self._wait)
        except BaseException as error:  # noqa: BLE001  # raised again from there
            left.set_exception(error)
            holding.result()  # raises it
        else:
            left.set_result(None)
            holding.result()

    def become_async(self) -> None:
        """Turn into a `JobContext`: the function returned a coroutine, which runs on the loop."""
        self.__class__ = JobContext  # type: ignore[assignment]  # the fields are the same

    def _wait(self, call: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()


class CompletionTransaction:
    """The `tx` of `JobContext.complete`."""

    def __init__(self, transaction: Transaction, attempt: "AttemptWrites") -> None:
        self._transaction = transaction
        self._attempt = attempt

    async def execute(self, sql: str, *args: Any) -> int:
        """Run a statement; how many rows it changed."""
        return await self._transaction.execute(sql, *args)

    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return await self._transaction.fetch(sql, *args)

    def add_job(self, type: str, payload: Any = None, **options: Any) -> FollowUp:
        """A follow-up job in the same transaction."""
        return self._attempt.open_changes.add_job(type, payload, **options)


class SyncCompletionTransaction:
    """The `tx` of `SyncJobContext.complete`."""

    def __init__(self, transaction: CompletionTransaction, wait: Callable[..., Any]) -> None:
        self._transaction = transaction
        self._wait = wait

    def execute(self, sql: str, *args: Any) -> int:
        """Run a statement; how many rows it changed."""
        changed: int = self._wait(self._transaction.execute(sql, *args))
        return changed

    def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        rows: list[tuple[Any, ...]] = self._wait(self._transaction.fetch(sql, *args))
        return rows

    def add_job(self, type: str, payload: Any = None, **options: Any) -> FollowUp:
        """A follow-up job in the same transaction."""
        return self._transaction.add_job(type, payload, **options)


class AttemptWrites:
    """What one attempt writes before its outcome, always under its lease."""

    __slots__ = (
        *("lease", "interrupted", "completed", "unsettled", "_now", "_started_at"),
        *("_store", "_drafter", "_changes", "_steps", "_step_locks", "_completing"),
    )

    def __init__(
        self, store: Store, lease: Lease, drafter: Drafter, now: Callable[[], float]
    ) -> None:
        self.lease = lease
        self._now = now
        self._started_at = now()
        self.interrupted = False
        self.completed: Outcome | None = None
        """Set once `complete` has recorded the outcome."""
        self.unsettled: tuple[Outcome, Changes] | None = None
        """The outcome left to a transaction of the handler's, and the changes before it."""
        self._store = store
        self._drafter = drafter
        # Most handlers need none of what follows.
        self._changes: Changeset | None = None
        self._steps: dict[str, Any] | None = None
        self._step_locks: dict[str, asyncio.Lock] | None = None
        self._completing = False

    def ran_s(self) -> float:
        """Seconds since the attempt began."""
        return self._now() - self._started_at

    @property
    def open_changes(self) -> Changeset:
        """What commits with the outcome, unless it has been: what came after would be lost."""
        if self.completed is not None or self.unsettled is not None:
            raise LeaseLostError(f"job {self.lease.job_id} has already been completed")
        if self._changes is None:
            self._changes = Changeset(self._drafter)
        return self._changes

    def changed(self) -> Changes:
        """What commits with the outcome, as it stands now."""
        return NO_CHANGES if self._changes is None else self._changes.freeze()

    async def set_progress(self, fraction: float, message: str) -> None:
        """See `JobContext.set_progress`."""
        if isinstance(fraction, bool) or not isinstance(fraction, int | float):
            raise TypeError(f"fraction must be a number, got {fraction!r}")
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction must be 0 to 1, got {fraction}")
        if not isinstance(message, str):
            raise TypeError(f"message must be a str, got {message!r}")
        encode(message, what="message", limit=10_000)
        progress = Progress(fraction=float(fraction), message=message)
        await self._checkpoint(progress=progress)

    async def step(self, name: str, fn: Callable[[], Any]) -> Any:
        """See `JobContext.step`."""
        # Two calls of one name at a time must run it once.
        if self._step_locks is None:
            self._step_locks = {}
        async with self._step_locks.setdefault(name, asyncio.Lock()):
            stored, result = await self.stored_step(name)
            if stored:
                return result
            result = fn()
            if inspect.isawaitable(result):
                result = await result
            return await self.save_step(name, encode(result, what=f"result of step {name!r}"))

    async def stored_step(self, name: str) -> tuple[bool, Any]:
        """Whether the step has a stored result, and that."""
        check_text("step name", name, longest=STEP_LONGEST)
        if self._steps is None:
            stored = await self._store.steps(self.lease.job_id)
            # Of several steps at a time each asks; what one has saved since must not be forgotten.
            if self._steps is None:
                self._steps = {key: decode(text) for key, text in stored.items()}
        return name in self._steps, self._steps.get(name)

    async def save_step(self, name: str, text: str) -> Any:
        """Store a step's result; gives it as JSON gives it."""
        await self._checkpoint(step=(name, text))
        result = decode(text)
        assert self._steps is not None, "stored_step comes first"
        self._steps[name] = result
        return result

    async def commit(self, changes: Changeset) -> None:
        """See `JobContext.commit`."""
        await self._checkpoint(changes=changes.freeze())

    async def _checkpoint(self, **what: Any) -> None:
        if self._completing:
            raise StoreBusyError("inside complete() this would wait for it for ever; use its `tx`")
        await self._store.checkpoint(self.lease, **what)

    async def settle(self) -> None:
        """Learn whether the handler has committed the transaction that it completed the job in.

        Raises:
            RuntimeError: it has not.
        """
        if self.unsettled is None:
            return
        (outcome, before), self.unsettled = self.unsettled, None
        committed = False
        try:
            job = await self._store.get(self.lease.job_id)
            committed = job is not None and job.status is JobStatus.COMPLETED
        finally:
            # Also when nobody could say so: they were for that transaction only.
            if not committed and self._changes is not None:
                self._changes.roll_back_to(before)
        if not committed:
            raise RuntimeError(
                "the handler has not committed the transaction of complete(connection=…)"
            )
        self.completed = outcome

    @asynccontextmanager
    async def complete(
        self, result: Any, connection: object = None
    ) -> AsyncIterator[CompletionTransaction]:
        """See `JobContext.complete`."""
        changes = self.open_changes
        before = changes.freeze()
        text = None if result is None else encode(result, what="result")

        def finish() -> Outcome:
            return Outcome(
                self.lease,
                OutcomeKind.COMPLETED,
                self.ran_s(),
                result=text,
                changes=changes.freeze(),
            )

        inside = inside_complete.set(True)
        self._completing = True
        try:
            async with self._store.complete(self.lease, finish, connection) as transaction:
                yield CompletionTransaction(transaction, self)
        except BaseException:
            changes.roll_back_to(before)
            raise
        finally:
            self._completing = False
            inside_complete.reset(inside)
        if connection is None:
            self.completed = finish()
        else:
            self.unsettled = finish(), before
