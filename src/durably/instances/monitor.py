"""The monitor job: watches an instance come up until it is ready, has failed, or took too long.

It holds no worker slot while it waits, and sleeps once it has met its instance in the list that all
monitors share: the watch (`watch`) wakes it when that shows something else. An instance that the list
does not show is asked for by itself, at every tick.
"""

from durably import JobContext, Snooze
from durably.instances.events import TIMEOUT
from durably.instances.instance import HealthCheck, InstanceStatus, checked_health
from durably.instances.pacing import since_tick, until_tick
from durably.instances.probes import probe_all
from durably.instances.provider import ProviderError, Upstream, UpstreamStatus
from durably.instances.records import Edit
from durably.instances.workflow import Attempt, Tools, load

RESTS = 40
"""Poll intervals after which a sleeping monitor looks by itself, in case that nobody has woken it."""
_PROBE_INTERVAL = 5.0
"""Seconds between two rounds of probes, unless instances are polled more often."""


async def monitor_instance(tools: Tools, job: JobContext) -> str:
    """Handle a `monitor_instance` job; gives the status that the instance has reached."""
    loaded = await load(tools, job)
    instance = loaded.instance
    named = job.payload.novita_instance_id
    if not instance.is_coming_up or named not in {None, instance.novita_instance_id}:
        return "nothing to monitor"
    return await _Look(tools, job, loaded).look()


class _Look(Attempt):
    """One look at an instance; it ends in a status, or in the wait for the next look."""

    _listed: Upstream | None = None
    """As the shared list shows it; None: it does not."""

    async def look(self) -> str:
        try:
            upstream = await self._observe()
        except ProviderError as error:
            # Whatever it is, it says nothing about the instance.
            raise self.put_off(error, self._until_next()) from error
        if upstream is None:
            self.confirm_missing()
            return self._vanished("the instance does not exist upstream any more")
        if upstream.is_gone:
            return self._vanished("the instance was deleted upstream")
        if upstream.status_error is not None:
            return self._failed(f"the instance failed to start: {upstream.status_error}")
        if upstream.is_reclaimed:
            return self._stopped("the provider took the spot instance back")
        if upstream.status is UpstreamStatus.EXITED:
            return self._stopped("the instance stopped before it was ready")
        if upstream.status is UpstreamStatus.RUNNING:
            return await self._running(upstream)
        left = self._time_left()
        if left <= 0:
            limit = self._max_wait_time()
            return self._failed(f"the instance did not run within {limit:g} s", TIMEOUT)
        raise self.look_again(min(await self._rest(), left))

    async def _observe(self) -> Upstream | None:
        upstream_id = self.instance.novita_instance_id
        assert upstream_id is not None
        # An older list is of the time before the instance was made, or asked to start.
        snapshot = await self.tools.view.read(self._max_age(), newer_than=self.instance.started_at)
        self._listed = snapshot.instances.get(upstream_id)
        return self._listed or await self.provider.get(upstream_id)

    async def _running(self, upstream: Upstream) -> str:
        if not upstream.port_mappings:
            self.change(_ready_at_once)
            return InstanceStatus.READY
        if self.instance.status is not InstanceStatus.HEALTH_CHECKING:
            await self._begin_health_check(upstream)
        assert self.instance.health_check is not None
        assert self.instance.running_at is not None
        report = await probe_all(upstream.port_mappings, now=self.now)
        check = checked_health(report, started_at=self.instance.health_check.started_at)
        if check.status == "completed":
            self.change(lambda edit: _ready(edit, check))
            return InstanceStatus.READY
        if self.age(self.instance.running_at) > self.settings.max_wait_time:
            limit = f"{self.settings.max_wait_time:g} s"
            return self._failed(f"not all ports answered within {limit}", TIMEOUT, check)
        self.change(lambda edit: edit.set(health_check=check))
        raise Snooze(min(_PROBE_INTERVAL, self.settings.poll_interval))

    async def _begin_health_check(self, upstream: Upstream) -> None:
        check = HealthCheck(status="in_progress", started_at=self.now())

        def apply(edit: Edit) -> None:
            edit.set(port_mappings=upstream.port_mappings, health_check=check)
            edit.set(missing_since=None, operation_error=None)
            edit.move(InstanceStatus.RUNNING)
            edit.move(InstanceStatus.HEALTH_CHECKING)

        await self.commit(apply)

    def _failed(
        self, reason: str, type: str | None = None, check: HealthCheck | None = None
    ) -> str:
        def apply(edit: Edit) -> None:
            edit.set(health_check=check or edit.instance.health_check)
            edit.fail(reason, on_failure=self.settings.on_failure, type=type)

        self.change(apply)
        return InstanceStatus.FAILED

    def _stopped(self, reason: str) -> str:
        def apply(edit: Edit) -> None:
            edit.end_billing()
            edit.fail(reason, on_failure=self.settings.on_failure)

        self.change(apply)
        return InstanceStatus.FAILED

    def _vanished(self, reason: str) -> str:
        def apply(edit: Edit) -> None:
            edit.set(upstream_gone=True)
            edit.fail(reason, on_failure=self.settings.on_failure)

        self.change(apply)
        return InstanceStatus.FAILED

    # Times

    async def _rest(self) -> float:
        """Seconds to sleep, to a tick, for looks together cost less: a late one if the watch wakes it."""
        ticks = RESTS if await self._is_watched() else 1
        return self._until_next() + (ticks - 1) * self.settings.poll_interval

    async def _is_watched(self) -> bool:
        """Whether the watch sees the instance, and can name this job."""
        if self._listed is None or self.job.unique_key != self.instance.id:
            return False
        return self._listed.name == await self.records.upstream_name(self.instance.id)

    def _max_age(self) -> float:
        # Those who wait for a tick, or were woken at one, read a list of that tick; the rounds between
        # two ticks make do with the last one.
        interval = self.settings.poll_interval
        if self.instance.status is InstanceStatus.HEALTH_CHECKING:
            return interval
        return min(interval / 2, since_tick(self.now(), interval) + interval / 10)

    def _until_next(self) -> float:
        return until_tick(self.now(), self.settings.poll_interval)

    def _max_wait_time(self) -> float:
        limit: float | None = self.job.payload.max_wait_time
        return self.settings.max_wait_time if limit is None else limit

    def _time_left(self) -> float:
        started_at = self.job.payload.start_time or self.instance.started_at
        assert started_at is not None
        return self._max_wait_time() - self.age(started_at)


def _ready_at_once(edit: Edit) -> None:
    edit.set(port_mappings=(), health_check=None)
    edit.move(InstanceStatus.RUNNING)
    _finish(edit)


def _ready(edit: Edit, check: HealthCheck) -> None:
    edit.set(health_check=check)
    _finish(edit)


def _finish(edit: Edit) -> None:
    edit.move(InstanceStatus.READY)
    edit.end()
