"""One attempt: run the handler, and decide what its end means."""

import asyncio
import contextlib
import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable
from enum import StrEnum
from random import Random
from typing import Any, NamedTuple

from durably.domain.errors import LeaseLostError, PayloadError, StoreError
from durably.domain.job import State
from durably.domain.outcome import (
    NO_CHANGES,
    Cancel,
    Changes,
    Fail,
    Failure,
    Outcome,
    OutcomeKind,
    Retry,
    Snooze,
)
from durably.domain.payload import clean_text, encode
from durably.domain.retry import RetryPolicy
from durably.engine.context import AttemptWrites, JobContext, SyncJobContext
from durably.engine.drafts import Drafter
from durably.engine.handlers import Handler
from durably.engine.threads import Threads, original
from durably.store import Claimed, Store

_log = logging.getLogger("durably")
_COMPLETED, _RESERVED = OutcomeKind.COMPLETED, State.RESERVED
UNWIND_LONGEST_S = 5.0
"""So long an async handler may go on after its timeout before its attempt is over without it."""


class Interruption(StrEnum):
    """Why a running handler is asked to stop."""

    CANCEL = "cancelled"
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease lost"


_LEASE_LOST = Interruption.LEASE_LOST


class Surroundings(NamedTuple):
    """What the attempts of one worker share."""

    store: Store
    drafter: Drafter
    threads: Threads
    random: Random
    loop: asyncio.AbstractEventLoop
    now: Callable[[], float]
    """Monotonic seconds. A loop's own time may stand still between two of its turns."""
    policy: Callable[[Handler], RetryPolicy]
    """What a failure of a handler means."""
    report: Callable[["Attempt", Outcome], None]
    """Takes the outcome, once, unless there is nothing left to decide."""
    waits: Callable[["Attempt"], None]
    """Told of a handler that has not returned at once."""


class Attempt:
    """A leased job being run.

    Args:
        claimed: the job and its lease.
        handler: what runs it.
        around: what it shares with others.
    """

    __slots__ = (
        *("claimed", "lease", "handler", "untold", "task", "why", "cancellable"),
        *("_around", "_writes", "_timer", "_reported"),
    )

    def __init__(self, claimed: Claimed, handler: Handler, around: Surroundings) -> None:
        self.claimed = claimed
        self.lease = claimed.lease
        self.handler = handler
        self.untold = claimed.record.state == _RESERVED
        """Whether the store does not know that it runs."""
        self.task: asyncio.Task[None] | None = None
        """What runs it; set before `run`."""
        self.why: Interruption | None = None
        """The first reason to stop, or that the lease is lost."""
        self.cancellable = handler.is_async
        """Whether the handler runs on the loop; a thread can only be asked."""
        self._around = around
        self._writes = AttemptWrites(around.store, claimed.lease, around.drafter, around.now)
        self._timer: asyncio.TimerHandle | None = None
        self._reported = False

    def interrupt(self, why: Interruption) -> None:
        """Ask the handler to stop: `cancelled` is set, and an async one is cancelled."""
        if self.why is Interruption.LEASE_LOST:
            return
        if self.why is None or why is Interruption.LEASE_LOST:
            self.why = why
        self._writes.interrupted = True
        if self.cancellable and self.task is not None:
            self.task.cancel()

    def waits(self) -> None:
        """The handler has not returned at once: from now on its time limit is watched."""
        if self.handler.timeout is not None and self._timer is None:
            left = self.handler.timeout - self._writes.ran_s()
            self._timer = self._around.loop.call_later(left, self._overrun)
        self._around.waits(self)

    async def run(self) -> None:
        """Run the handler and report how it ended; returns when nothing of it runs any more."""
        try:
            if self.handler.is_async:
                result = await self.handler.function(self._context())
            else:
                result = await self._in_thread()
            if self._writes.unsettled:
                await self._writes.settle()
            outcome = self._completed(result)
        except BaseException as error:  # noqa: BLE001  # SystemExit too: a job ends no worker
            # It has failed in any case, also when it is interrupted meanwhile.
            with contextlib.suppress(RuntimeError, StoreError, asyncio.CancelledError):
                await self._writes.settle()
            outcome = self._raised(original(error))
        if self._timer is not None:
            self._timer.cancel()
        self._finish(outcome)

    def _context(self) -> JobContext:
        record = self.claimed.record
        return JobContext(record, self.handler.payload(record.payload), self._writes)

    async def _in_thread(self) -> Any:
        record = self.claimed.record
        payload = self.handler.payload(record.payload)
        context = SyncJobContext(record, payload, self._writes, self._around.loop)
        thread = self._around.threads.run(lambda: self.handler.function(context))
        await asyncio.wait([thread])
        result = thread.result()
        if inspect.isawaitable(result):
            # A plain function that returns a coroutine, for example a lambda.
            return await self._on_loop(result, context)
        return result

    async def _on_loop(self, rest: Awaitable[Any], context: SyncJobContext) -> Any:
        """Run what a thread has returned as if the handler had been async from the start."""
        if self.why is not None:
            if inspect.iscoroutine(rest):
                rest.close()
            raise asyncio.CancelledError
        self.cancellable = True
        context.become_async()
        return await rest

    def _overrun(self) -> None:
        """The handler's time is up. The attempt ends with the handler, or soon without it.

        A thread cannot be stopped, and a handler may swallow its cancellation: then the attempt is
        over and fenced, but its slot stays taken, so that no more run than were asked for.
        """
        self.interrupt(Interruption.TIMEOUT)
        patience = UNWIND_LONGEST_S if self.cancellable else 0.0
        self._timer = self._around.loop.call_later(
            patience, lambda: self._finish(self._raised(asyncio.CancelledError()))
        )

    def _finish(self, outcome: Outcome) -> None:
        if self._reported or self.why is _LEASE_LOST:
            return
        self._reported = True
        self._around.report(self, outcome)

    # What an end means

    def _completed(self, result: Any) -> Outcome:
        if self._writes.completed is not None:
            return self._writes.completed
        # A result that cannot be kept fails for good: to run again would repeat what was done.
        text = None if result is None else encode(result, what="result")
        ran_s, changes = self._writes.ran_s(), self._writes.changed()
        return Outcome(
            self.lease, _COMPLETED, ran_s, result=text, changes=changes, untold=self.untold
        )

    def _raised(self, error: BaseException) -> Outcome:
        if self._writes.completed is not None:
            _log.warning("job %s raised after it was completed: %r", self.lease.job_id, error)
            return self._writes.completed
        if isinstance(error, Snooze):
            return self._outcome(
                OutcomeKind.SNOOZED, delay_s=error.seconds, changes=self._changes()
            )
        if isinstance(error, Cancel):
            return self._outcome(
                OutcomeKind.CANCELLED, reason=_message(error), changes=self._changes()
            )
        if isinstance(error, Fail | Retry):
            return self._failed(error, changes=self._changes())
        # What else a handler raises while it is being stopped says nothing about its job.
        if self.why is Interruption.SHUTDOWN:
            return self._outcome(OutcomeKind.RETURNED)
        if self.why is Interruption.TIMEOUT:
            late = TimeoutError(f"timed out after {self.handler.timeout:g} s")
            return self._failed(late.with_traceback(error.__traceback__), kind="timeout")
        if isinstance(error, asyncio.CancelledError):
            if self.why is Interruption.CANCEL:
                return self._outcome(OutcomeKind.CANCELLED, reason="cancelled")
            error.args = error.args or ("the handler cancelled itself",)
        return self._failed(error)

    def _failed(
        self, error: BaseException, *, kind: str = "error", changes: Changes = NO_CHANGES
    ) -> Outcome:
        failure = Failure(kind=kind, message=_message(error), traceback=_traceback(error))
        if self._gives_up(error):
            return self._outcome(OutcomeKind.FAILED, failure=failure, changes=changes)
        delay = error.delay if isinstance(error, Retry) else None
        if delay is None:
            policy = self._around.policy(self.handler)
            delay = policy.delay_after(self._attempts, random=self._around.random)
        return self._outcome(OutcomeKind.RETRY, delay_s=delay, failure=failure, changes=changes)

    def _gives_up(self, error: BaseException) -> bool:
        if (
            isinstance(error, Fail | PayloadError)
            or self._attempts >= self.claimed.record.max_attempts
        ):
            return True
        # A lost lease raised by a write of ours decides nothing: the store refuses the outcome.
        if isinstance(error, Retry | LeaseLostError):
            return False
        return not self._around.policy(self.handler).retries(error)

    @property
    def _attempts(self) -> int:
        return self.claimed.record.attempts

    def _changes(self) -> Changes:
        return self._writes.changed()

    def _outcome(self, kind: OutcomeKind, **fields: Any) -> Outcome:
        return Outcome(self.lease, kind, self._writes.ran_s(), **fields)


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001  # a foreign __str__ may raise anything
        text = ""
    return clean_text(text or type(error).__name__)


def _traceback(error: BaseException) -> str:
    if isinstance(error, Fail | Retry):
        return ""
    try:
        return clean_text("".join(traceback.format_exception(error)))
    except BaseException:  # noqa: BLE001  # see _message
        return ""
