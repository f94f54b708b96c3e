"""The reconciler: compares what exists upstream with the records, and mends the differences.

It adopts what a record wants, deletes what none wants, gives lost jobs back to the records that
need them, wakes monitors that the watch has missed, and notices when a ready instance has stopped
or vanished. It touches no instance whose name is not of this deployment. Of several processes one makes the rounds (`leadership`); two would
do no harm, for every change is a compare-and-set, and everything asked of the provider may be asked
twice.
"""

import asyncio
import logging
from collections import defaultdict
from enum import Enum, auto

import msgspec

from durably import Clock, Job, JobQueueService, JobStatus, VersionConflictError
from durably.instances import jobs
from durably.instances.events import ORPHAN_DELETED
from durably.instances.instance import Instance, InstanceStatus, Operation
from durably.instances.leadership import LOOK_S, Leadership
from durably.instances.provider import ProviderError, Upstream, UpstreamStatus
from durably.instances.records import Edit, Loaded
from durably.instances.upstream import Snapshot
from durably.instances.workflow import Tools, first_made

_log = logging.getLogger(__name__)


class Verdict(Enum):
    """What is to be done with an upstream instance of this deployment's."""

    LEAVE = auto()
    ADOPT = auto()
    DELETE = auto()
    SUSPECT = auto()
    """To be deleted if it is still there in the next round."""


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """What one round has done: upstream ids, and ids of instances."""

    adopted: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    suspected: tuple[str, ...] = ()
    resumed: tuple[str, ...] = ()
    """Instances whose job was gone and that were given another, or failed for it."""
    corrected: tuple[str, ...] = ()
    """Instances that were ready and are found stopped or gone."""


class Reconciler:
    """Compares upstream with the records now and then.

    Args:
        queue: whose store keeps the records.
        tools: what the service's handlers work with.
        clock: where the waiting comes from.
        leadership: whether this process is the one to make rounds.
    """

    def __init__(
        self, queue: JobQueueService, tools: Tools, clock: Clock, leadership: Leadership
    ) -> None:
        self._queue = queue
        self._tools = tools
        self._clock = clock
        self._leadership = leadership
        self._suspects: frozenset[str] = frozenset()
        self._missing: frozenset[str] = frozenset()
        self._term: int | None = None
        """In which this process led at its last look."""
        self._due = 0.0
        self._running: asyncio.Task[None] | None = None
        """The last round."""

    async def run(self) -> None:
        """Make rounds until cancelled, the first of a term at once, as long as no other process leads."""
        never = asyncio.Event()
        self._term = None
        try:
            while True:
                try:
                    wait = self._begin_due(await self._leadership.term())
                except Exception:  # noqa: BLE001 - one bad look must not end the rounds
                    wait = LOOK_S
                    _log.exception("who leads cannot be told; the next look is in %g s", wait)
                await self._clock.wait(never, wait)
        finally:
            if self._running is not None:
                self._running.cancel()
                await asyncio.wait([self._running])

    def _begin_due(self, term: int | None) -> float:
        """Begin a round if one is due in *term*; seconds until the next look."""
        now, interval = self._clock.monotonic(), self._tools.settings.reconcile_interval
        begins, self._term = term != self._term, term
        wait = min(LOOK_S, interval)
        if begins:
            self._due = now
        if term is None or (self._running is not None and not self._running.done()):
            return wait
        if now >= self._due:
            # Beside the looks: a round may last longer than the lead of one who is silent.
            loop = asyncio.get_running_loop()
            self._running = loop.create_task(self._round(), name="durably-round")
            self._due = now + interval
        return min(wait, self._due - now)

    async def _round(self) -> None:
        try:
            await self.run_once()
        except Exception:  # noqa: BLE001 - one bad round must not end the rounds
            _log.exception("the reconciler stumbled; it makes the next round when that is due")

    async def run_once(self) -> Reconciliation:
        """Make one round. Without an answer from the provider only the jobs are looked after."""
        round_ = _Round(self._queue, self._tools, self._suspects, self._missing)
        try:
            snapshot = await self._tools.view.read(0)
        except ProviderError as error:
            _log.warning("upstream cannot be compared with the records: %s", error)
            snapshot = None
        if snapshot is not None:
            await round_.compare(snapshot)
        await round_.look_after(snapshot)
        if snapshot is not None:
            self._suspects = frozenset(round_.suspected)
            self._missing = frozenset(round_.missing)
        return round_.result()


class _Round:
    def __init__(
        self,
        queue: JobQueueService,
        tools: Tools,
        suspects: frozenset[str],
        missing: frozenset[str],
    ) -> None:
        self._queue = queue
        self._tools = tools
        self._records = tools.records
        self._provider = tools.provider
        self._suspects = suspects
        self._missing_before = missing
        self.suspected: list[str] = []
        self.missing: list[str] = []
        self._adopted: list[str] = []
        self._deleted: list[str] = []
        self._resumed: list[str] = []
        self._corrected: list[str] = []
        self._overlooked: list[str] = []
        """Instances with news of which their monitors may sleep."""

    def result(self) -> Reconciliation:
        return Reconciliation(
            adopted=tuple(self._adopted),
            deleted=tuple(self._deleted),
            suspected=tuple(self.suspected),
            resumed=tuple(self._resumed),
            corrected=tuple(self._corrected),
        )

    # What exists upstream

    async def compare(self, snapshot: Snapshot) -> None:
        """Adopt and delete upstream instances of this deployment."""
        prefix = await self._records.upstream_prefix()
        ours: defaultdict[str, list[Upstream]] = defaultdict(list)
        for one in snapshot.instances.values():
            if one.name.startswith(prefix):
                ours[one.name.removeprefix(prefix)].append(one)
        for instance_id, found in ours.items():
            loaded = await self._records.find(instance_id)
            instance = None if loaded is None else loaded.instance
            for one in first_made(found):
                instance = await self._settle(instance_id, instance, one)

    async def _settle(
        self, instance_id: str, instance: Instance | None, upstream: Upstream
    ) -> Instance | None:
        match judge(instance, upstream):
            case Verdict.ADOPT:
                instance = await self._tools.adopt(instance_id, upstream.id)
                self._adopted += [upstream.id] * instance.wants(upstream.id)
            case Verdict.DELETE:
                await self._delete(instance_id, upstream.id)
            case Verdict.SUSPECT if upstream.id in self._suspects:
                await self._delete(instance_id, upstream.id)
            case Verdict.SUSPECT:
                self.suspected.append(upstream.id)
            case Verdict.LEAVE:
                pass
        return instance

    async def _delete(self, instance_id: str, upstream_id: str) -> None:
        # Stays suspected until it is gone.
        self.suspected.append(upstream_id)
        try:
            current = await self._provider.get(upstream_id)
            if current is None or current.is_gone:
                return
            await self._provider.delete(upstream_id)
        except ProviderError as error:
            _log.warning("orphan %s could not be deleted: %s", upstream_id, error)
            return
        _log.warning(
            "deleted upstream instance %s of %s, which no record wants", upstream_id, instance_id
        )
        self._deleted.append(upstream_id)
        changes = self._records.changeset()
        changes.emit(
            ORPHAN_DELETED,
            instance_id,
            {
                "type": ORPHAN_DELETED,
                "timestamp": self._records.now(),
                "data": {"instanceId": instance_id, "novitaInstanceId": upstream_id},
            },
        )
        await self._queue.commit(changes)

    # What the records say

    async def look_after(self, snapshot: Snapshot | None) -> None:
        """See that every operation has its job, and that what is ready still runs."""
        async for loaded in self._records.walk():
            instance = loaded.instance
            try:
                if instance.operation is not None:
                    await self._resume(loaded, snapshot)
                elif snapshot is not None and instance.status is InstanceStatus.READY:
                    await self._correct(loaded, snapshot)
            except VersionConflictError:
                continue  # it has moved on by itself
            except ProviderError as error:
                _log.warning("instance %s could not be looked up: %s", instance.id, error)
        await self._queue.wake(jobs.MONITOR, self._overlooked)

    async def _resume(self, loaded: Loaded, snapshot: Snapshot | None) -> None:
        """Give an operation whose job has been lost another one, and wake one that was missed."""
        instance = loaded.instance
        found = [await self._job(instance, kind) for kind in _jobs_of(instance)]
        if any(job is not None and not job.status.is_final for job in found):
            self._overlooked += [instance.id] * _has_news(instance, snapshot)
            return
        changes = self._records.changeset()
        edit = self._records.edit(changes, loaded)
        if (reason := _dead_end(instance, found[0])) is not None:
            edit.fail(reason, on_failure=self._tools.settings.on_failure)
        elif instance.awaits_creation:
            edit.enqueue_creation()
        elif instance.operation is Operation.CREATE:
            edit.enqueue_monitor(self._tools.settings)
        else:
            edit.enqueue_operation()
        edit.write()
        await self._queue.commit(changes)
        _log.warning("the %s of instance %s had no job any more", instance.operation, instance.id)
        self._resumed.append(instance.id)

    async def _job(self, instance: Instance, kind: str) -> Job | None:
        job_id = instance.jobs.get(kind)
        return None if job_id is None else await self._queue.get_job(job_id)

    async def _correct(self, loaded: Loaded, snapshot: Snapshot) -> None:
        """Say so when a ready instance runs no more."""
        instance = loaded.instance
        assert instance.novita_instance_id is not None
        assert instance.ready_at is not None
        if snapshot.at <= instance.ready_at:
            return  # the list is of the time before
        upstream = snapshot.instances.get(instance.novita_instance_id)
        if upstream is None:
            upstream = await self._provider.get(instance.novita_instance_id)
        if upstream is None and instance.id not in self._missing_before:
            self.missing.append(instance.id)
            return
        changes = self._records.changeset()
        edit = self._records.edit(changes, loaded)
        if not _correct(edit, upstream):
            return
        edit.write()
        await self._queue.commit(changes)
        self._corrected.append(instance.id)


def judge(instance: Instance | None, upstream: Upstream) -> Verdict:
    """What becomes of *upstream*, whose name says that it was made for *instance*."""
    if instance is None:
        return Verdict.SUSPECT
    if instance.wants(upstream.id) or instance.is_being_deleted:
        return Verdict.LEAVE
    if instance.awaits_creation:
        return Verdict.ADOPT
    return Verdict.DELETE


def _jobs_of(instance: Instance) -> tuple[str, ...]:
    """The types of the jobs of which one must be at work."""
    match instance.operation:
        case Operation.CREATE:
            return (jobs.CREATE,) if instance.awaits_creation else (jobs.MONITOR,)
        case Operation.START:
            return (jobs.START, jobs.MONITOR)
        case Operation.STOP | Operation.CLEANUP_STOP:
            return (jobs.STOP,)
        case _:
            return (jobs.DELETE,)


def _has_news(instance: Instance, snapshot: Snapshot | None) -> bool:
    """Whether an instance that is coming up is shown as anything else, or is missing."""
    if snapshot is None or instance.novita_instance_id is None or not instance.is_coming_up:
        return False
    upstream = snapshot.instances.get(instance.novita_instance_id)
    return upstream is None or not upstream.is_coming_up


def _dead_end(instance: Instance, job: Job | None) -> str | None:
    """Why a creation cannot go on; None if another job may take it up.

    A job that was put aside because processes died of it would only take more of them along.
    """
    if instance.operation is not Operation.CREATE or job is None:
        return None
    if job.status is JobStatus.FAILED:
        return f"its job {job.type} failed: {job.error}"
    if job.status is JobStatus.CANCELLED and instance.awaits_creation:
        return f"its job {job.type} was cancelled"
    return None


def _correct(edit: Edit, upstream: Upstream | None) -> bool:
    if upstream is None or upstream.is_gone:
        edit.vanish("the instance does not exist upstream any more")
    elif upstream.is_reclaimed:
        edit.stop("the provider took the spot instance back")
    elif upstream.status is UpstreamStatus.EXITED:
        edit.stop("the instance was stopped upstream")
    else:
        return False
    return True
