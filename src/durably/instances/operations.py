"""The start, stop and delete jobs: each looks upstream, takes one step, and looks again later.

A stop and a deletion go on for as long as it takes: giving up would leave a GPU billed.
"""

from durably import JobContext
from durably.instances.instance import InstanceStatus, Operation
from durably.instances.provider import (
    InvalidState,
    ProviderError,
    ProviderRefused,
    Upstream,
    UpstreamStatus,
)
from durably.instances.records import Edit
from durably.instances.workflow import Attempt, Tools, answer_due, load

_GONE = "the instance does not exist upstream any more"
_STOPPING = frozenset({UpstreamStatus.TO_STOP, UpstreamStatus.STOPPING})
_STOPS = frozenset({Operation.STOP, Operation.CLEANUP_STOP})


async def start_instance(tools: Tools, job: JobContext) -> str:
    """Handle a `start_instance` job: once the instance is on its way up, it is monitored."""
    loaded = await load(tools, job)
    if loaded.instance.operation is not Operation.START:
        return "nothing to start"
    return await _Start(tools, job, loaded).step()


async def stop_instance(tools: Tools, job: JobContext) -> str:
    """Handle a `stop_instance` job: until the instance is seen stopped."""
    loaded = await load(tools, job)
    if loaded.instance.operation not in _STOPS:
        return "nothing to stop"
    return await _Stop(tools, job, loaded).step()


async def delete_instance(tools: Tools, job: JobContext) -> str:
    """Handle a `delete_instance` job: until nothing of the instance is seen upstream."""
    loaded = await load(tools, job)
    if not loaded.instance.is_being_deleted:
        return "nothing to delete"
    return await _Deletion(tools, job, loaded).step()


class _Operation(Attempt):
    async def step(self) -> str:
        """Take one step; gives the status at the end.

        Raises:
            Snooze: it is not the end.
        """
        try:
            return await self._step()
        except ProviderError as error:
            raise self.put_off(error, self._until_next()) from error

    async def _step(self) -> str:
        raise NotImplementedError

    @property
    def _id(self) -> str:
        upstream_id = self.instance.novita_instance_id
        assert upstream_id is not None, "what has no upstream id is neither started nor stopped"
        return upstream_id

    async def _look(self) -> Upstream | None:
        """The upstream instance; None when it is gone for good."""
        upstream = await self.provider.get(self._id)
        if upstream is None:
            self.confirm_missing()
        return None if upstream is None or upstream.is_gone else upstream

    def _until_next(self) -> float:
        return self.tools.wait(self.instance.operation_at)


class _Start(_Operation):
    async def _step(self) -> str:
        upstream = await self._look()
        if upstream is None:
            return self._vanished()
        if upstream.status in _STOPPING:
            raise self.look_again(self._until_next())
        if upstream.status is not UpstreamStatus.EXITED:
            self.change(self._hand_over)
            return InstanceStatus.STARTING
        if self.age(self.instance.operation_at) > self.settings.max_wait_time:
            limit = self.settings.max_wait_time
            return self._still_stopped(f"the instance did not start within {limit:g} s")
        try:
            await self.provider.start(self._id)
        except InvalidState:
            # It has begun to start, or is not quite at rest: the next look will tell.
            raise self.look_again(self._until_next()) from None
        except ProviderRefused as error:
            return self._still_stopped(str(error))
        raise self.look_again(self._until_next())

    def _hand_over(self, edit: Edit) -> None:
        now = self.now()
        edit.begin_billing(now)
        edit.set(started_at=now, operation_error=None)
        edit.enqueue_monitor(self.settings)

    def _still_stopped(self, reason: str) -> str:
        self.change(lambda edit: edit.stop(reason))
        return InstanceStatus.STOPPED

    def _vanished(self) -> str:
        def apply(edit: Edit) -> None:
            edit.set(upstream_gone=True)
            edit.fail(_GONE, on_failure=self.settings.on_failure)

        self.change(apply)
        return InstanceStatus.FAILED


class _Stop(_Operation):
    async def _step(self) -> str:
        upstream = await self._look()
        if upstream is None:
            self.change(lambda edit: edit.vanish(_GONE))
            return "gone"
        if upstream.status is UpstreamStatus.EXITED:
            self.change(lambda edit: edit.stop())
            return InstanceStatus.STOPPED
        if upstream.status not in _STOPPING:
            await self.provider.stop(self._id)
        raise self.look_again(self._until_next())


class _Deletion(_Operation):
    async def _step(self) -> str:
        left = await self._left()
        for one in left:
            if not one.is_gone:
                await self.provider.delete(one.id)
        if left:
            raise self.look_again(self._until_next())
        due = answer_due(self.instance, timeout=self.settings.novita_timeout, now=self.now())
        if due > 0:
            raise self.look_again(min(due, self._until_next()))
        self.change(lambda edit: edit.vanish())
        return "gone"

    async def _left(self) -> list[Upstream]:
        """All that exists upstream of the instance, under its id or under its name."""
        upstream_id = self.instance.novita_instance_id
        if upstream_id is None and self.instance.intent is None:
            return []
        name = await self.records.upstream_name(self.instance.id)
        found = await self.provider.list(name=name)
        if upstream_id is not None and all(one.id != upstream_id for one in found):
            own = await self.provider.get(upstream_id)
            found += [] if own is None else [own]
        return [one for one in found if one.status is not UpstreamStatus.REMOVED]
