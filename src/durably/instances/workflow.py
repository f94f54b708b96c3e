"""What the handlers of instance jobs have in common: their tools, and one attempt at a job."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import TypeAlias

from durably import Fail, JobContext, Snooze, StoreError, VersionConflictError
from durably.instances.instance import Instance, InstanceStatus
from durably.instances.pacing import growing
from durably.instances.provider import Provider, ProviderError, ProviderUnavailable, Upstream
from durably.instances.records import Edit, Loaded, Records
from durably.instances.settings import InstanceSettings
from durably.instances.upstream import UpstreamView

_log = logging.getLogger(__name__)
_WAIT_MOST = 60.0
"""Seconds between two looks at something that takes its time."""
_STORE_WAIT = 1.0
"""Seconds for which a job waits for a store in trouble."""


Handler: TypeAlias = Callable[["Tools", JobContext], Awaitable[str]]
"""What does one attempt at a job; gives its result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the handlers and the reconciler work with."""

    records: Records
    provider: Provider
    view: UpstreamView
    settings: InstanceSettings
    random: Random

    def wait(self, since: datetime) -> float:
        """Seconds until the next look at what has been going on *since* then; they grow."""
        elapsed = (self.records.now() - since).total_seconds()
        settings = self.settings
        first = min(1.0, settings.poll_interval, settings.novita_timeout / 10)
        return growing(elapsed, first=first, most=_WAIT_MOST) * self.random.uniform(0.8, 1.0)

    async def adopt(self, instance_id: str, upstream_id: str) -> Instance:
        """Record *upstream_id* as the instance's own and watch it, unless it has one or wants none.

        No lease is asked for: that the upstream instance exists is true, whoever has found out.
        """

        def apply(edit: Edit) -> bool:
            creating = edit.instance.awaits_creation
            nameless = edit.instance.novita_instance_id is None
            if not creating and not (nameless and edit.instance.is_being_deleted):
                return False
            intent = edit.instance.intent
            edit.begin_billing(self.records.now() if intent is None else intent.called_at)
            edit.set(novita_instance_id=upstream_id, operation_error=None)
            edit.settle_calls()
            if creating:
                edit.move(InstanceStatus.STARTING)
                edit.enqueue_monitor(self.settings)
            return True

        return await self.records.change(instance_id, apply)

    async def discard(self, upstream_id: str) -> None:
        """Ask for an instance that no record wants to be deleted; the reconciler sees to it."""
        _log.warning("upstream instance %s is one too many: it is being deleted", upstream_id)
        try:
            await self.provider.delete(upstream_id)
        except ProviderError as error:
            _log.warning("upstream instance %s could not be deleted: %s", upstream_id, error)


class Attempt:
    """One attempt at a job about an instance.

    Args:
        tools: what it works with.
        job: the job's context.
        loaded: the instance's record, as this attempt last read or wrote it.
    """

    def __init__(self, tools: Tools, job: JobContext, loaded: Loaded) -> None:
        self.tools = tools
        self.records = tools.records
        self.provider = tools.provider
        self.settings = tools.settings
        self.job = job
        self.loaded = loaded

    @property
    def instance(self) -> Instance:
        """The instance, as this attempt knows it."""
        return self.loaded.instance

    def now(self) -> datetime:
        """The time, aware and UTC."""
        return self.records.now()

    def age(self, moment: datetime) -> float:
        """Seconds since *moment*."""
        return (self.now() - moment).total_seconds()

    def change(self, apply: Callable[[Edit], None]) -> None:
        """Change the instance together with the attempt's outcome; the last thing it does."""
        edit = self.records.edit(self.job.changes, self.loaded)
        apply(edit)
        edit.write()

    async def commit(self, apply: Callable[[Edit], None]) -> None:
        """Change the instance now, if this attempt still owns its job.

        Raises:
            LeaseLostError: it does not.
            VersionConflictError: the instance has changed since it was read.
        """
        changes = self.records.changeset()
        edit = self.records.edit(changes, self.loaded)
        apply(edit)
        edit.write()
        await self.job.commit(changes)
        self.loaded = edit.written

    def put_off(self, error: ProviderError, wait: float) -> Snooze:
        """The snooze after *error*, which the record shows until the operation gets on again."""
        instance, message = self.instance, str(error)
        if message != instance.operation_error:
            _log.warning("%s of instance %s goes on: %s", instance.operation, instance.id, message)
            self.change(lambda edit: edit.set(operation_error=message))
        return Snooze(max(wait, told_to_wait(error)))

    def look_again(self, wait: float) -> Snooze:
        """The snooze after a look that met nothing in the way."""
        if (self.instance.missing_since, self.instance.operation_error) != (None, None):
            self.change(lambda edit: edit.set(missing_since=None, operation_error=None))
        return Snooze(wait)

    def confirm_missing(self) -> None:
        """Return once the provider has denied knowing the instance twice, an interval apart.

        Raises:
            Snooze: until then.
        """
        since, apart = self.instance.missing_since, self.settings.poll_interval
        if since is not None and self.age(since) >= apart:
            return
        if since is None:
            self.change(lambda edit: edit.set(missing_since=self.now()))
        raise Snooze(apart)


async def run(handler: Handler, tools: Tools, job: JobContext) -> str:
    """Run *handler*; what is no fault of the job's spends none of its attempts."""
    try:
        return await handler(tools, job)
    except VersionConflictError:
        # Somebody has changed the instance meanwhile: read it again.
        raise Snooze(0) from None
    except StoreError as error:
        _log.warning("job %s goes on when the store does: %s", job.id, error)
        raise Snooze(_STORE_WAIT) from error


async def load(tools: Tools, job: JobContext) -> Loaded:
    """The record of a job's instance, without which the job fails."""
    loaded = await tools.records.find(job.payload.instance_id)
    if loaded is None:
        raise Fail(f"no instance has the id {job.payload.instance_id!r}")
    return loaded


def told_to_wait(error: ProviderError) -> float:
    """Seconds that the provider asked to be left alone; 0 when it did not say."""
    return (error.retry_after or 0.0) if isinstance(error, ProviderUnavailable) else 0.0


def first_made(instances: Iterable[Upstream]) -> list[Upstream]:
    """Those of *instances* that still exist, the one made first at the head."""
    alive = [one for one in instances if not one.is_gone]
    return sorted(alive, key=lambda one: (one.created_at is None, one.created_at, one.id))


def answer_due(instance: Instance, *, timeout: float, now: datetime) -> float:
    """Seconds for which an unanswered create call may still show its instance upstream.

    Two time-outs from the moment it was sent at the latest; 0 when every call has been answered.
    """
    if instance.intent is None or instance.intent.sent_by is None:
        return 0.0
    until = instance.intent.sent_by + timedelta(seconds=2 * timeout)
    return max(0.0, (until - now).total_seconds())
