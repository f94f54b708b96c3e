"""One attempt: run the handler, and decide what its end means."""

import asyncio
import inspect
import logging
import traceback
from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import Any

from durably.domain.errors import LeaseLostError, PayloadError
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


class Interruption(StrEnum):
    """Why a running handler is asked to stop."""

    CANCEL = "cancelled"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease lost"


class Attempt:
    """A leased job being run.

    Args:
        claimed: the job and its lease.
        handler: what runs it.
        policy: what a failure means.
        report: takes the outcome, once, unless there is nothing left to decide.
    """

    def __init__(
        self,
        claimed: Claimed,
        handler: Handler,
        policy: RetryPolicy,
        *,
        store: Store,
        drafter: Drafter,
        threads: Threads,
        random: Random,
        report: Callable[["Attempt", Outcome], None],
    ) -> None:
        self.claimed = claimed
        self.lease = claimed.lease
        self.handler = handler
        self.task: asyncio.Task[None] | None = None
        self.why: Interruption | None = None
        self._policy = policy
        self._threads = threads
        self._random = random
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._writes = AttemptWrites(store, claimed.lease, drafter)
        self._writes.started_at = self._loop.time()
        self._reported = False

    def interrupt(self, why: Interruption) -> None:
        """Ask the handler to stop: `cancelled` is set, and an async one is cancelled."""
        if self.why is Interruption.LEASE_LOST:
            return
        self.why = why
        self._writes.interrupted = True
        if self.task is not None and self.handler.is_async:
            self.task.cancel()

    async def run(self) -> None:
        """Run the handler and report how it ended; returns when nothing of it runs any more."""
        outcome: Outcome | None
        try:
            if self.handler.is_async:
                outcome = await self._run_async()
            else:
                outcome = await self._run_in_thread()
        except asyncio.CancelledError:
            outcome = self._cancelled()
        except BaseException as error:  # noqa: BLE001  # SystemExit too: a job ends no worker
            outcome = self._failed(original(error))
        if outcome is not None:
            self._finish(outcome)

    async def _run_async(self) -> Outcome:
        context = JobContext(self.claimed.record, self._payload(), self._writes)
        if self.handler.timeout is None:
            return self._completed(await self.handler.function(context))
        limit = asyncio.timeout(self.handler.timeout)
        try:
            async with limit:
                result = await self.handler.function(context)
        except TimeoutError as error:
            if not limit.expired():
                raise
            self._writes.interrupted = True
            return self._timed_out(error)
        return self._completed(result)

    async def _run_in_thread(self) -> Outcome | None:
        context = SyncJobContext(self.claimed.record, self._payload(), self._writes, self._loop)
        future = self._threads.run(lambda: self.handler.function(context))
        done, _ = await asyncio.wait([future], timeout=self.handler.timeout)
        if not done:
            # The thread cannot be stopped. The attempt is over, and fenced; its slot stays taken
            # until the thread has ended, so that no more run than were asked for.
            self._writes.interrupted = True
            self._finish(self._timed_out(TimeoutError()))
            await asyncio.wait([future])
            _log.info("job %s: its thread has ended, after the timeout", self.lease.job_id)
            future.exception()  # seen: it decides nothing any more
            return None
        result = future.result()
        if inspect.isawaitable(result):
            # A plain function that returns a coroutine, for example a lambda.
            result = await result
        return self._completed(result)

    def _payload(self) -> Any:
        return self.handler.payload(self.claimed.record.payload)

    def _finish(self, outcome: Outcome) -> None:
        if self._reported or self.why is Interruption.LEASE_LOST:
            return
        self._reported = True
        self._report(self, outcome)

    # What an end means

    def _completed(self, result: Any) -> Outcome:
        if self._writes.completed is not None:
            return self._writes.completed
        # A result that cannot be kept fails for good: to run again would repeat what was done.
        text = None if result is None else encode(result, what="result")
        return self._outcome(OutcomeKind.COMPLETED, result=text, changes=self._changes())

    def _cancelled(self) -> Outcome | None:
        if self._writes.completed is not None:
            return self._writes.completed
        if self.why is Interruption.CANCEL:
            return self._outcome(OutcomeKind.CANCELLED, reason="cancelled")
        if self.why is Interruption.SHUTDOWN:
            return self._outcome(OutcomeKind.RETURNED)
        return self._failed(asyncio.CancelledError("the handler cancelled itself"))

    def _timed_out(self, error: BaseException) -> Outcome:
        message = f"timed out after {self.handler.timeout:g} s"
        timeout = TimeoutError(message).with_traceback(error.__traceback__)
        return self._failed(timeout, kind="timeout")

    def _failed(self, error: BaseException, *, kind: str = "error") -> Outcome:
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
        failure = Failure(kind=kind, message=_message(error), traceback=_traceback(error))
        changes = self._changes() if isinstance(error, Fail | Retry) else NO_CHANGES
        if self._gives_up(error):
            return self._outcome(OutcomeKind.FAILED, failure=failure, changes=changes)
        delay = error.delay if isinstance(error, Retry) else None
        if delay is None:
            delay = self._policy.delay_after(self._attempts, random=self._random)
        return self._outcome(OutcomeKind.RETRY, delay_s=delay, failure=failure, changes=changes)

    def _gives_up(self, error: BaseException) -> bool:
        if (
            isinstance(error, Fail | PayloadError)
            or self._attempts >= self.claimed.record.max_attempts
        ):
            return True
        # A lost lease raised by a write of ours decides nothing: the store refuses the outcome.
        return not isinstance(error, Retry | LeaseLostError) and not self._policy.retries(error)

    @property
    def _attempts(self) -> int:
        return self.claimed.record.attempts

    def _changes(self) -> Changes:
        return self._writes.changes.freeze()

    def _outcome(self, kind: OutcomeKind, **fields: Any) -> Outcome:
        return Outcome(self.lease, kind, self._loop.time() - self._writes.started_at, **fields)


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # a foreign __str__ may raise anything
        text = ""
    return clean_text(text or type(error).__name__)


def _traceback(error: BaseException) -> str:
    if isinstance(error, Fail | Retry):
        return ""
    try:
        return clean_text("".join(traceback.format_exception(error)))
    except Exception:  # noqa: BLE001  # see _message
        return ""
