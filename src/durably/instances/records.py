"""The instance service's records in the queue's store, and how an instance's record changes.

An instance changes by compare-and-set, in one commit with the event that tells of the change, the
webhook delivery if there is a target, and the jobs that follow.
"""

import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import msgspec

from durably import Changeset, Clock, JobPriority, JobQueueService, VersionConflictError
from durably.instances import jobs
from durably.instances.delivery import generate_secret
from durably.instances.events import (
    CLEANED_UP,
    WEBHOOK_EVENTS,
    WebhookDelivery,
    delivery_id,
    event,
    event_of,
)
from durably.instances.instance import (
    Instance,
    InstanceNotFoundError,
    InstanceStatus,
    OnFailure,
    Operation,
    cleanup_after_failure,
)
from durably.instances.pacing import until_tick
from durably.instances.settings import InstanceSettings

INSTANCE = "instance"
DELIVERY = "delivery"
DEPLOYMENT = "deployment"
SECRET = "webhook_secret"  # noqa: S105 - the kind of a record
TARGET = "webhook_target"

_PAGE = 500
_JOB_OF = {
    Operation.START: jobs.START,
    Operation.STOP: jobs.STOP,
    Operation.DELETE: jobs.DELETE,
    Operation.CLEANUP_DELETE: jobs.DELETE,
    Operation.CLEANUP_STOP: jobs.STOP,
}
_REACHED_AT = {
    InstanceStatus.STARTING: "started_at",
    InstanceStatus.RUNNING: "running_at",
    InstanceStatus.READY: "ready_at",
    InstanceStatus.FAILED: "failed_at",
    InstanceStatus.STOPPED: "stopped_at",
    InstanceStatus.TERMINATED: "terminated_at",
}


def target_id(url: str) -> str:
    """The id of a webhook target's record."""
    # A URL may be longer than an id, and may carry what is not to be read in passing.
    return hashlib.sha256(url.encode()).hexdigest()


class Loaded(msgspec.Struct, frozen=True):
    """An instance with the version of its record: 0 before the first write."""

    instance: Instance
    version: int


class Edit:
    """One change of one instance, gathered into a changeset; `write` comes last, once."""

    def __init__(self, changes: Changeset, loaded: Loaded, now: datetime) -> None:
        self.instance = loaded.instance
        self._changes = changes
        self._version = loaded.version
        self._now = now

    @property
    def written(self) -> Loaded:
        """The instance and its version once the changeset is committed."""
        return Loaded(self.instance, self._version + 1)

    def set(self, **fields: object) -> None:
        """Replace fields of the instance."""
        self.instance = msgspec.structs.replace(self.instance, **fields)

    def settle_calls(self) -> None:
        """The outcome of every create call is known."""
        if self.instance.intent is not None:
            self.set(intent=msgspec.structs.replace(self.instance.intent, sent_by=None))

    def move(
        self, status: InstanceStatus, *, type: str | None = None, error: str | None = None
    ) -> None:
        """Change the status and tell of it, by the event *type* if not by the status's own."""
        self.set(status=status)
        if status in _REACHED_AT:
            self.set(**{_REACHED_AT[status]: self._now})
        if error is not None:
            self.set(last_error=error)
        self.tell(type or event_of(status), error=error)

    def tell(self, type: str, *, error: str | None = None) -> None:
        """Append an event to the timeline, and deliver it if it is one for webhooks."""
        if type in WEBHOOK_EVENTS:
            self.set(sequence=self.instance.sequence + 1)
        told = event(type, self.instance, now=self._now, error=error)
        self._changes.emit(type, self.instance.id, told)
        if told.sequence is not None and self.instance.webhook_url is not None:
            self._deliver(type, told.sequence, msgspec.to_builtins(told))

    def begin_billing(self, since: datetime) -> None:
        """It is billed from then on, unless it is already."""
        if self.instance.billed_since is None:
            self.set(billed_since=since)

    def end_billing(self) -> None:
        """It is billed no more: it has stopped, or is gone."""
        since = self.instance.billed_since
        if since is not None:
            passed = max(0.0, (self._now - since).total_seconds())
            self.set(billed_s=self.instance.billed_s + passed, billed_since=None)

    def begin(self, operation: Operation) -> None:
        """Make *operation* the one in progress, and see that it has a job."""
        before = self.instance.operation
        self.set(operation=operation, operation_at=self._now, operation_error=None)
        # A deletion that supersedes a clean-up goes on with its job.
        if before is None or _JOB_OF.get(before) != _JOB_OF[operation]:
            self.enqueue_operation()

    def end(self) -> None:
        """No operation is in progress any more."""
        self.set(operation=None, operation_error=None, missing_since=None)

    def fail(self, reason: str, *, on_failure: OnFailure, type: str | None = None) -> None:
        """End a creation or start by failure, told by *type*, and clean up behind it."""
        cleanup = cleanup_after_failure(self.instance, on_failure)
        if not self.instance.may_exist_upstream:
            self.set(upstream_gone=True)
        if self.instance.upstream_gone:
            self.end_billing()
        self._end_health_check()
        self.move(InstanceStatus.FAILED, type=type, error=reason)
        self.end()
        if cleanup is not None:
            self.begin(cleanup)

    def vanish(self, reason: str | None = None) -> None:
        """Nothing is left upstream: end the operation in progress; *reason* if nobody asked for it."""
        self.end_billing()
        self.set(upstream_gone=True, intent=None)
        if self.instance.operation in {Operation.CLEANUP_DELETE, Operation.CLEANUP_STOP}:
            self.tell(CLEANED_UP)
        else:
            self.move(InstanceStatus.TERMINATED, error=reason)
        self.end()

    def stop(self, reason: str | None = None) -> None:
        """It has stopped: end the operation in progress; *reason* if nobody asked for it."""
        self.end_billing()
        if self.instance.operation is Operation.CLEANUP_STOP:
            self.tell(CLEANED_UP)
        else:
            self.move(InstanceStatus.STOPPED, error=reason)
        self.end()

    def enqueue_monitor(self, settings: InstanceSettings) -> None:
        """Watch it from the next tick on: before, there is little to see."""
        instance = self.instance
        payload = jobs.MonitorInstanceJob(
            instance_id=instance.id,
            novita_instance_id=instance.novita_instance_id,
            webhook_url=instance.webhook_url,
            start_time=instance.started_at,
            max_wait_time=settings.max_wait_time,
        )
        first_look = min(until_tick(self._now, settings.poll_interval), settings.max_wait_time)
        self._enqueue(jobs.MONITOR, payload, first_look)

    def enqueue_creation(self) -> None:
        """Have it created."""
        instance = self.instance
        payload = jobs.CreateInstanceJob(
            instance_id=instance.id,
            name=instance.name,
            product_name=instance.product_name,
            template_id=instance.template_id,
            gpu_num=instance.gpu_num,
            rootfs_size=instance.rootfs_size,
            region=instance.region,
            webhook_url=instance.webhook_url,
        )
        self._enqueue(jobs.CREATE, payload)

    def enqueue_operation(self) -> None:
        """Have the operation in progress carried out; not for a creation."""
        assert self.instance.operation is not None
        kind = _JOB_OF[self.instance.operation]
        self._enqueue(kind, jobs.OperationJob(instance_id=self.instance.id))

    def cancel_job(self, kind: str) -> None:
        """Cancel the instance's last job of a type, unless it is final."""
        if kind in self.instance.jobs:
            self._changes.cancel_job(self.instance.jobs[kind])

    def write(self) -> None:
        """Put the record into the changeset, to be written if nobody else has changed it."""
        self._changes.put(INSTANCE, self.instance.id, self.instance, expect=self._version)

    def _enqueue(self, kind: str, payload: msgspec.Struct, delay: float = 0.0) -> None:
        job = self._changes.add_job(
            kind, payload, priority=JobPriority.HIGH, delay=delay, unique_key=self.instance.id
        )
        self.set(jobs={**self.instance.jobs, kind: job.id})

    def _deliver(self, type: str, sequence: int, payload: dict[str, object]) -> None:
        url = self.instance.webhook_url
        assert url is not None
        identifier = delivery_id(self.instance.id, sequence)
        job = self._changes.add_job(
            jobs.WEBHOOK,
            jobs.SendWebhookJob(url=url, payload=payload, delivery_id=identifier),
            unique_key=identifier,
        )
        delivery = WebhookDelivery(
            id=identifier,
            instance_id=self.instance.id,
            sequence=sequence,
            type=type,
            url=url,
            payload=payload,
            created_at=self._now,
            job_id=job.id,
        )
        self._changes.put(DELIVERY, identifier, delivery, expect=0)

    def _end_health_check(self) -> None:
        check = self.instance.health_check
        if check is not None and check.status == "in_progress":
            ended = msgspec.structs.replace(check, status="failed", completed_at=self._now)
            self.set(health_check=ended)


class Records:
    """Reads the service's records, and begins their changes.

    Args:
        queue: whose store keeps them.
        clock: for what is stamped into them.
    """

    def __init__(self, queue: JobQueueService, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._deployment: str | None = None

    def now(self) -> datetime:
        """The time, aware and UTC."""
        return datetime.fromtimestamp(self._clock.now_us() / 1e6, UTC)

    async def find(self, instance_id: str) -> Loaded | None:
        """The instance of that id; None for any text that is none's."""
        record = await self._queue.get_record(INSTANCE, instance_id)
        if record is None:
            return None
        return Loaded(msgspec.convert(record.value, Instance), record.version)

    async def load(self, instance_id: str) -> Loaded:
        """The instance of that id, or InstanceNotFoundError."""
        loaded = await self.find(instance_id)
        if loaded is None:
            raise InstanceNotFoundError(instance_id)
        return loaded

    async def page(self, *, limit: int, after: str | None) -> list[Instance]:
        """Instances, newest first, beyond the id *after*."""
        records = await self._queue.get_records(
            INSTANCE, limit=limit, after=after, newest_first=True
        )
        return [msgspec.convert(record.value, Instance) for record in records]

    async def count(self) -> int:
        """How many instances there are, terminated ones included."""
        return await self._queue.count_records(INSTANCE)

    async def walk(self) -> AsyncIterator[Loaded]:
        """Every instance, oldest first."""
        after = None
        while records := await self._queue.get_records(INSTANCE, limit=_PAGE, after=after):
            for record in records:
                yield Loaded(msgspec.convert(record.value, Instance), record.version)
            after = records[-1].id

    async def deliveries(self, instance_id: str) -> list[WebhookDelivery]:
        """The webhook deliveries of an instance in their sequence."""
        found: list[WebhookDelivery] = []
        after = f"{instance_id}_"
        while True:
            records = await self._queue.get_records(DELIVERY, limit=_PAGE, after=after)
            own = [record for record in records if record.id.startswith(f"{instance_id}_")]
            found += [msgspec.convert(record.value, WebhookDelivery) for record in own]
            if len(own) < _PAGE:
                return found
            after = own[-1].id

    def edit(self, changes: Changeset, loaded: Loaded) -> Edit:
        """Begin a change of *loaded* within *changes*."""
        return Edit(changes, loaded, self.now())

    def changeset(self) -> Changeset:
        """Gathers changes for one commit."""
        return self._queue.changeset()

    async def change(
        self,
        instance_id: str,
        apply: Callable[[Edit], bool],
        note: Callable[[Changeset], None] | None = None,
    ) -> Instance:
        """Change an instance at once; if somebody was quicker, decide again.

        Args:
            instance_id: which.
            apply: gets the `Edit` and says whether anything is to be changed.
            note: gets the changeset of the change, to add to it.

        Returns:
            The instance as it is now.

        Raises:
            InstanceNotFoundError: there is none.
        """
        while True:
            changes = self._queue.changeset()
            edit = self.edit(changes, await self.load(instance_id))
            if not apply(edit):
                return edit.instance
            edit.write()
            if note is not None:
                note(changes)
            try:
                await self._queue.commit(changes)
            except VersionConflictError:
                continue
            return edit.instance

    async def deployment(self) -> str:
        """The id of this deployment, twelve hexadecimal digits; made at the first call ever."""
        if self._deployment is None:
            self._deployment, _ = await self._queue.keep_once(
                DEPLOYMENT, lambda: secrets.token_hex(6)
            )
        return self._deployment

    async def upstream_name(self, instance_id: str) -> str:
        """The name of an instance upstream: the same in every process and at every attempt."""
        return f"{await self.upstream_prefix()}{instance_id}"

    async def upstream_prefix(self) -> str:
        """What the names of all of this deployment's upstream instances begin with."""
        return f"durably-{await self.deployment()}-"

    async def webhook_secret(self) -> str:
        """The signing secret of this store; made at the first call ever."""
        secret, _ = await self._queue.keep_once(
            SECRET, lambda: generate_secret(secrets.token_bytes)
        )
        return secret
