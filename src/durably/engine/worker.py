"""Claims jobs, runs them, records how they ended: one `Store.exchange` after the other."""

import asyncio
import logging
import os
import platform
from collections import deque
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from durably.domain import transitions
from durably.domain.claiming import Claim, Lane, rank_of
from durably.domain.clock import Clock
from durably.domain.errors import StoreError
from durably.domain.outcome import Lease, Outcome, OutcomeKind
from durably.engine.drafts import Drafter
from durably.engine.executor import Attempt, Interruption, Surroundings
from durably.engine.handlers import Handler, Handlers
from durably.engine.health import Pulse
from durably.engine.heartbeat import Heartbeat
from durably.engine.pace import Figures, Pace
from durably.engine.role import Role
from durably.engine.slots import Slots
from durably.engine.threads import Threads
from durably.engine.watch import LoopWatch
from durably.store import Claimed, Exchanged, Notice, NoticeKind, Refusal, Store, WorkerInfo

_log = logging.getLogger("durably")
RESCUE_INTERVAL_S = 2.0
TRY_AGAIN_S = 1.0
"""How long a worker waits at most after its store has failed."""
START_RECORDED_AFTER_S = 0.05
"""A handler of a job claimed ahead that ends sooner is recorded with its end only."""
CANCEL_GRACE_S = 1.0
"""How long a cancelled handler may take to end at shutdown."""
_UNLIMITED = 1_000_000
_RETURNED, _LEASE_LOST = OutcomeKind.RETURNED, Interruption.LEASE_LOST
_FINAL = (OutcomeKind.COMPLETED, OutcomeKind.FAILED, OutcomeKind.CANCELLED)


class _Ahead(NamedTuple):
    """A job claimed and not yet begun; they sort in the order in which jobs are claimed."""

    rank: float
    ready_at: int
    seq: int
    until: float
    """When it is given back unless it has begun, monotonic."""
    claimed: Claimed


class Worker:
    """The running half of a service.

    Args:
        concurrency: slots; with 1, strictly one job at a time and nothing is claimed ahead.
        interval: seconds between looks when nothing wakes it.
        lease: seconds that a claim is good for without renewal.
        queues: which queues it claims from.
        aging: see `JobQueueService`.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        handlers: Handlers,
        drafter: Drafter,
        *,
        concurrency: int,
        interval: float,
        lease: float,
        queues: tuple[str, ...],
        aging: float | None,
        random: Random,
    ) -> None:
        self._store = store
        self._clock = clock
        self._handlers = handlers
        self._concurrency = concurrency
        self._interval = interval
        self._lease = lease
        self._queues = queues
        self._aging = aging
        self._pace = Pace()
        self._figures = Figures()
        self._loop = asyncio.get_running_loop()
        self._around = Surroundings(
            store=store,
            drafter=drafter,
            threads=Threads(),
            random=random,
            loop=self._loop,
            now=clock.monotonic,
            policy=handlers.policy,
            report=self._report,
            waits=self._waits,
        )
        self._wake = asyncio.Event()
        self._round = asyncio.Event()
        self._rounds = 0
        self._in_flight = False
        self._ahead: deque[_Ahead] = deque()
        self._slots = Slots(
            concurrency,
            waiting=lambda: len(self._ahead) if self._claiming else 0,
            take=self._next_attempt,
            left=self._left,
        )
        self._unrecorded_starts: dict[Attempt, float] = {}
        """Since when they run, oldest first."""
        self._outbox: list[Outcome] = []
        """Reported and not yet recorded."""
        self._look = True
        """The next exchange claims, if a slot is free: there may be something to take."""
        self._news = False
        """Jobs have become ready since the last claim."""
        self._ask = True
        """The next exchange is made even if there is nothing to tell or to take."""
        self._more = False
        """The last claim was filled: the store has more."""
        self._due_at: float | None = None
        """When the next scheduled job becomes ready, on the monotonic clock."""
        self._unsure = False
        """An answer was lost: the next exchange says what is held here, the store takes back the rest."""
        self._claiming = False
        """New jobs are taken."""
        self._stopped = False
        """`pause` came last, not `resume`: the registration says so too."""
        self._ending = asyncio.Event()
        self._id = 0

    # Life

    async def start(self) -> None:
        """Register, rescue the jobs of dead processes, then begin; `resume` starts claiming."""
        await self._register()
        try:
            while (await self._store.rescue(self._id)).workers:
                pass
        except BaseException:
            await self._resign()
            raise
        self._rescuer = Role("rescuer", RESCUE_INTERVAL_S, self._rescue, self._clock)
        self._task = self._loop.create_task(self._run(), name="durably-worker")

    @property
    def id(self) -> int:
        """The number of its registration, another one after it was taken for dead."""
        return self._id

    @property
    def claiming(self) -> bool:
        """Whether it takes new jobs."""
        return self._claiming

    @property
    def running(self) -> int:
        """How many handlers run."""
        return len(self._slots.running)

    @property
    def running_threads(self) -> int:
        """How many of them run in threads, which cannot be stopped."""
        return sum(not attempt.cancellable for attempt in self._slots.running)

    def pulse(self) -> Pulse:
        """When it last got on with what a worker must do."""
        return Pulse(
            exchange_age=self._clock.monotonic() - self._exchanged_at,
            interval=self._interval,
            renewal_age=self._heartbeat.age(),
            lease=self._lease,
        )

    def resume(self) -> None:
        """Take new jobs."""
        self._claiming = True
        self._announce |= self._stopped
        self._stopped = False
        self._look_now()

    async def pause(self) -> None:
        """Take no new jobs and give back, unspent, what has not started."""
        self._claiming = False
        self._announce |= not self._stopped
        self._stopped = True
        self._return_ahead(self._ahead)
        await self.flush()
        if self._outbox:
            await self.flush()  # a claim that was on its way has been given back

    async def flush(self) -> None:
        """Until an exchange that begins after now has ended, well or not."""
        if self._task.done():
            return
        last = self._rounds + (2 if self._in_flight else 1)
        self._ask = True
        self._wake.set()
        while self._rounds < last and not self._task.done():
            await self._round.wait()

    async def record_starts(self) -> None:
        """Until every handler that has started is known to have in the store."""
        self._slots.look()
        if self._unrecorded_starts:
            await self.flush()

    async def drain(self, timeout: float) -> int:
        """Wait for running handlers; after *timeout* seconds cancel the async ones.

        Gives how many were still running then. Their jobs are returned unspent.
        """
        await self._clock.wait(self._slots.until_idle(), timeout)
        left = list(self._slots.running)
        for attempt in left:
            _log.warning(
                "job %s (%s) is still running at shutdown", attempt.lease.job_id, attempt.lease.type
            )
            attempt.interrupt(Interruption.SHUTDOWN)
        tasks = [a.task for a in left if a.cancellable and a.task is not None]
        if tasks:
            # A handler that swallows its cancellation must not keep the program alive.
            await asyncio.wait(tasks, timeout=CANCEL_GRACE_S)
        await self.flush()
        return len(left)

    async def end(self) -> None:
        """Stop everything; what is still held is returned unspent, late outcomes are fenced."""
        self._claiming = False
        self._ending.set()
        self._wake.set()
        await asyncio.wait([self._task])  # a loop that closes may have cancelled it
        await self._rescuer.stop()
        for attempt in self._slots.running:
            attempt.interrupt(Interruption.LEASE_LOST)
        await self._resign()
        self._around.threads.close()

    async def _resign(self) -> None:
        await asyncio.to_thread(self._heartbeat.stop)
        try:
            await self._store.resign(self._id)
        except StoreError as error:
            _log.warning("worker %s could not resign: %s", self._id, error)

    def notice(self, notice: Notice) -> None:
        """What the store tells."""
        if notice.kind is NoticeKind.READY:
            self._news = True
            self._look_now()
        elif notice.kind is NoticeKind.COMING:
            if not self._slots.running and not self._ahead:
                self._look_now()  # who has something to do asks often enough
        elif notice.kind is NoticeKind.CONTROL:
            self._look = self._ask = True
            self._wake.set()

    def handlers_changed(self) -> None:
        """There are new types to claim."""
        self._announce = True
        self._look_now()

    def _look_now(self) -> None:
        self._look = True
        if self._claiming:
            self._wake.set()

    # The loop

    async def _run(self) -> None:
        try:
            await self._exchange_until_ending()
        finally:
            # Also when an event loop that closes cancels it: `flush` must not wait for ever. No
            # flush waits for more than two rounds.
            self._rounds += 2
            self._end_round()

    async def _exchange_until_ending(self) -> None:
        while not self._ending.is_set():
            if not await self._clock.wait(self._wake, self._patience()):
                self._look = self._ask = True
            await self._work_off()
            self._wake.clear()
            self._in_flight = True
            try:
                await self._exchange()
            except Exception as error:  # noqa: BLE001  # nothing may end the loop
                pause = min(self._interval, TRY_AGAIN_S)
                if isinstance(error, StoreError):
                    _log.warning("%s; trying again in %g s", error, pause)
                else:
                    _log.exception("the worker stumbled; it goes on")
                self._unsure = self._ask = self._announce = True
                self._end_round()
                await self._clock.wait(self._ending, pause)
                self._wake.set()
            else:
                self._end_round()
                if not self._wake.is_set():
                    await asyncio.sleep(0)  # what has been claimed begins first

    async def _work_off(self) -> None:
        """Let handlers that return at once do what is at hand, if an exchange takes far longer.

        What it tells and takes is settled when it begins, and beside other processes it waits long
        for its turn: of those the one that asked with half of its work done would take the less.
        """
        if not self._ahead:
            return
        until = self._clock.monotonic() + self._pace.patience_s
        while (  # noqa: ASYNC110  # there is nothing to wait for: the slots need turns
            self._ahead and not self._slots.running and self._clock.monotonic() < until
        ):
            await asyncio.sleep(0)

    def _end_round(self) -> None:
        self._in_flight = False
        self._rounds += 1
        self._round.set()
        self._round.clear()

    def _patience(self) -> float:
        """Seconds to wait for a wake-up."""
        moments = [ahead.until for ahead in self._ahead]
        moments += [
            moment for moment in (self._due_at, self._figures.due_at()) if moment is not None
        ]
        for since in self._unrecorded_starts.values():
            moments.append(since + START_RECORDED_AFTER_S)
            break
        if not moments:
            return self._interval
        return min(self._interval, max(0.0, min(moments) - self._clock.monotonic()))

    async def _exchange(self) -> None:
        """Tell the store what happened and take what comes next; nothing if there is nothing."""
        if self._announce:
            self._announce = False
            await self._store.announce(self._id, self._info())
        self._return_overdue()
        claim = self._claim() if self._claiming and self._look else None
        outcomes = self._outbox[:]
        asked_at = self._clock.monotonic()
        begun = [
            attempt
            for attempt, since in self._unrecorded_starts.items()
            if self._ask or since + START_RECORDED_AFTER_S <= asked_at
        ]
        activity = self._figures.to_tell(asked_at, len(outcomes))
        if not (outcomes or begun or claim or activity or self._ask or self._unsure):
            return
        # What is set while the exchange is on its way is for the next.
        asked, self._ask = self._ask, False
        unsure, self._unsure = self._unsure, False
        if claim is not None:
            self._look = self._news = False
        try:
            result = await self._store.exchange(
                self._id,
                outcomes=outcomes,
                started=[attempt.lease for attempt in begun],
                held=[*self._held(), *(o.lease for o in outcomes)] if unsure else None,
                claim=claim,
                activity=activity,
            )
        except BaseException:
            self._look = True
            self._ask |= asked
            self._unsure |= unsure
            raise
        self._exchanged_at = self._clock.monotonic()
        self._pace.exchanged(self._exchanged_at - asked_at)
        # What has been reported meanwhile stays for the next.
        del self._outbox[: len(outcomes)]
        for attempt in begun:
            self._unrecorded_starts.pop(attempt, None)
        if activity is not None:
            self._figures.told(activity, self._exchanged_at)
        await self._take(result, outcomes, asked_at, claimed_for=claim)

    async def _take(
        self, result: Exchanged, outcomes: list[Outcome], asked_at: float, claimed_for: Claim | None
    ) -> None:
        for position, refusal in result.refused.items():
            self._refused(outcomes[position], refusal)
        if result.lost:
            await self._start_over()
            return
        if result.claimed:
            self._heartbeat.claimed(asked_at)
        if self._claiming:
            self._keep(result.claimed)
        else:  # stopped while the claim was on its way
            for claimed in result.claimed:
                self._give_back(claimed)
        self._slots.fill()
        for job_id in result.cancel:
            self._cancel(job_id)
        if claimed_for is not None:
            self._more = result.more
        self._due_at = None if result.due_in_s is None else asked_at + result.due_in_s
        if self._more and self._claiming and self._free() > 0:
            self._look_now()
        if not self._slots.running and not self._ahead:
            self._heartbeat.idle()

    def _held(self) -> list[Lease]:
        """What runs or waits here."""
        return [
            *(attempt.lease for attempt in self._slots.running),
            *(ahead.claimed.lease for ahead in self._ahead),
        ]

    # Claiming

    def _claim(self) -> Claim | None:
        """What could be taken now; None when nothing could."""
        free = self._free()
        reserve = 0
        if self._concurrency > 1:
            # While the store has more, slots that stand empty wait for an exchange.
            busy = free == 0 or self._more
            reserve = self._pace.ahead(self._clock.monotonic(), len(self._ahead), busy=busy)
            if self._news and self._ahead:
                # What is new may go before what was claimed ahead.
                reserve = max(1, reserve)
        if free + reserve < 1:
            return None
        held = [lease.type for lease in self._held()]
        lanes = tuple(
            Lane(queue, handler.type, limit)
            for handler in self._handlers.all()
            if (limit := self._limit(handler, held)) > 0
            for queue in self._queues
        )
        if not lanes:
            return None
        suspects = not any(a.claimed.record.suspect for a in self._slots.running)
        return Claim(
            lanes=lanes, start=free, reserve=reserve, suspects=suspects, aging_s=self._aging
        )

    def _limit(self, handler: Handler, held: list[str]) -> int:
        """How many more jobs of the handler's type may be here, beside those of the types *held*."""
        most = handler.max_concurrency
        return _UNLIMITED if most is None else most - held.count(handler.type)

    def _free(self) -> int:
        """Slots that nothing runs in and that nothing claimed will take."""
        return max(0, self._slots.free - len(self._ahead))

    def _keep(self, claimed: Sequence[Claimed]) -> None:
        """Put what has been claimed in its place among what waits here."""
        if not claimed:
            return
        now = self._clock.monotonic()
        self._pace.fed(now)
        until = now + self._pace.ahead_longest_s
        new = [
            _Ahead(
                rank_of(record.priority, record.ready_at, self._aging),
                record.ready_at,
                record.seq,
                until,
                one,
            )
            for one in claimed
            for record in (one.record,)
        ]
        self._ahead = deque(sorted([*self._ahead, *new]))

    def _return_overdue(self) -> None:
        """What was claimed ahead and has met no free slot belongs to whoever has one.

        All of it: a part would let younger jobs start before older ones.
        """
        if not self._ahead:
            return
        now = self._clock.monotonic()
        if any(ahead.until <= now for ahead in self._ahead):
            self._return_ahead(self._ahead)
            self._pace.slow_down()

    def _next_attempt(self) -> Attempt | None:
        """Begin what comes next of what has been claimed; called by a slot that is free."""
        if not self._claiming:
            return None
        now = self._clock.monotonic()
        while self._ahead:
            if self._ahead[0].until <= now:
                self._return_overdue()
                return None
            claimed = self._ahead.popleft().claimed
            handler = self._handlers.get(claimed.lease.type)
            if handler is None:
                # Claimed for a handler that was there when it was asked for.
                self._give_back(claimed)
                continue
            attempt = Attempt(claimed, handler, self._around)
            if attempt.untold:
                transitions.begin(claimed.record, self._clock.now_us())
            return attempt
        return None

    def _waits(self, attempt: Attempt) -> None:
        """Its start is told once it has lasted a little; of one that returns at once, only the end."""
        if attempt.untold:
            attempt.untold = False
            if not self._unrecorded_starts:
                self._wake.set()
            self._unrecorded_starts[attempt] = self._clock.monotonic()

    def _return_ahead(self, back: Sequence[_Ahead]) -> None:
        gone = {ahead.claimed.lease for ahead in back}
        self._ahead = deque(ahead for ahead in self._ahead if ahead.claimed.lease not in gone)
        for ahead in back:
            self._give_back(ahead.claimed)

    def _give_back(self, claimed: Claimed) -> None:
        self._outbox.append(Outcome(claimed.lease, OutcomeKind.RETURNED))
        self._wake.set()

    # Attempts

    def _left(self, attempt: Attempt) -> None:
        self._unrecorded_starts.pop(attempt, None)
        if attempt.why is _LEASE_LOST:
            # If the registration has survived, the store still holds the job for this worker: only
            # now that nothing of it runs any more may it be given back.
            self._unsure = True
        self._pace.ended()
        if not self._ahead and not self._slots.running:
            self._pace.starved(self._clock.monotonic())
        if self._more or attempt.handler.max_concurrency or attempt.claimed.record.suspect:
            self._look = True
        self._wake.set()

    def _report(self, attempt: Attempt, outcome: Outcome) -> None:
        self._outbox.append(outcome)
        if outcome.kind is not _RETURNED:
            now_us = self._clock.now_us()
            waited_us = now_us - int(outcome.run_s * 1e6) - attempt.claimed.record.ready_at
            final, failed = outcome.kind in _FINAL, outcome.failure is not None
            self._figures.add(now_us, waited_us / 1e6, outcome.run_s, final, failed)
        self._wake.set()

    def _cancel(self, job_id: str) -> None:
        for attempt in self._slots.running:
            if attempt.lease.job_id == job_id and attempt.why is None:
                attempt.interrupt(Interruption.CANCEL)
        # What has not started is cancelled when it is given back.
        self._return_ahead([a for a in self._ahead if a.claimed.lease.job_id == job_id])

    def _refused(self, outcome: Outcome, refusal: Refusal) -> None:
        if refusal is Refusal.CONFLICT:
            # The attempt worked on records that have changed: it looks again, at no charge.
            self._outbox.append(Outcome(outcome.lease, OutcomeKind.SNOOZED, outcome.run_s))
            self._wake.set()
        elif outcome.kind is not OutcomeKind.RETURNED:
            _log.warning(
                "the outcome of job %s (%s) came after its lease was lost and was refused",
                outcome.lease.job_id,
                outcome.kind,
            )

    # Leases

    def _info(self) -> WorkerInfo:
        return WorkerInfo(
            host=platform.node(),
            pid=os.getpid(),
            queues=() if self._stopped else self._queues,
            types=tuple(handler.type for handler in self._handlers.all()),
            concurrency=self._concurrency,
            lease_s=self._lease,
            limits={
                handler.type: handler.max_concurrency
                for handler in self._handlers.all()
                if handler.max_concurrency is not None
            },
        )

    async def _register(self) -> None:
        self._announce = False
        registering = self._loop.create_task(self._store.register(self._info()))
        try:
            self._id = await asyncio.shield(registering)
        except asyncio.CancelledError:
            # What has been registered would seem to live for as long as this process does.
            await asyncio.wait([registering])
            if registering.exception() is None:
                await self._store.resign(registering.result())
            raise
        self._exchanged_at = self._clock.monotonic()
        self._heartbeat = Heartbeat(
            self._store,
            self._clock,
            self._id,
            self._lease,
            self._lost_in_thread,
            LoopWatch(self._loop, self._clock).look,
        )

    def _lost_in_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._leases_lost)

    def _leases_lost(self) -> None:
        """Stop every handler before somebody else may run its job."""
        for attempt in self._slots.running:
            attempt.interrupt(Interruption.LEASE_LOST)
        self._ahead.clear()
        self._unsure = True
        self._look = True
        self._wake.set()

    async def _start_over(self) -> None:
        """This worker was taken for dead: what it held is no longer its own."""
        _log.warning("worker %s was taken for dead; it registers again", self._id)
        self._leases_lost()
        await self._resign()
        await self._register()

    async def _rescue(self) -> None:
        rescued = await self._store.rescue(self._id)
        if rescued.workers:
            _log.warning(
                "rescued the jobs of %s: %d ready again, %d final",
                ", ".join(rescued.workers),
                rescued.ready,
                rescued.final,
            )
