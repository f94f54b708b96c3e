"""The watch: lists upstream once an interval and wakes the monitors of what has changed.

A monitor that has met its instance in the list sleeps, for long. Of several processes the one that
leads (`leadership`) keeps the watch; while no monitor is live nothing is listed. Waking is a hint: what is
missed here (the leader was killed between two lists) is found by the reconciler's next round.
"""

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta

from durably import Clock, JobQueueService
from durably.instances import jobs
from durably.instances.leadership import Leadership
from durably.instances.pacing import until_tick
from durably.instances.provider import ProviderError, Upstream
from durably.instances.upstream import Snapshot
from durably.instances.workflow import Tools, told_to_wait

_log = logging.getLogger(__name__)


class Watch:
    """This process's part in the watch.

    Args:
        queue: whose jobs are woken.
        tools: what the service's handlers work with.
        clock: where the waiting comes from.
        leadership: whether this process is the one to watch.
    """

    def __init__(
        self, queue: JobQueueService, tools: Tools, clock: Clock, leadership: Leadership
    ) -> None:
        self._queue = queue
        self._tools = tools
        self._clock = clock
        self._leadership = leadership
        self._last: Snapshot | None = None
        self._told: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Look at every tick until cancelled, but leave a provider alone that asks for it."""
        interval, never = self._tools.settings.poll_interval, asyncio.Event()
        asked = 0.0
        while True:
            from_then = self._tools.records.now() + timedelta(seconds=asked)
            await self._clock.wait(never, asked + until_tick(from_then, interval))
            asked = 0.0
            try:
                await self.run_once()
            except ProviderError as error:
                _log.warning("upstream cannot be watched: %s", error)
                asked = told_to_wait(error)
            except Exception:  # noqa: BLE001 - one bad look must not end the watch
                _log.exception("the watch stumbled; it looks again at the next tick")

    async def run_once(self) -> None:
        """Look once, if that is this process's to do and anybody waits for it.

        Raises:
            ProviderError: upstream cannot be listed. What changes meanwhile is told later.
        """
        if not self._leadership.leads or not await self._queue.count_live(jobs.MONITOR):
            self._last, self._told = None, frozenset()
            return
        snapshot = await self._tools.view.read(self._tools.settings.poll_interval / 10)
        news = await self._whose(changed(self._last, snapshot))
        # Twice: a monitor that was at work when its instance changed sleeps by the next tick.
        await self._queue.wake(jobs.MONITOR, list(news | self._told))
        self._last, self._told = snapshot, news

    async def _whose(self, instances: Iterator[Upstream]) -> frozenset[str]:
        """The ids under which records want *instances*; what is not this deployment's is left out."""
        prefix = await self._tools.records.upstream_prefix()
        names = (one.name for one in instances)
        return frozenset(name.removeprefix(prefix) for name in names if name.startswith(prefix))


def changed(last: Snapshot | None, now: Snapshot) -> Iterator[Upstream]:
    """What has become of more interest than that it is coming up, or is missing, since *last*.

    What has another name now is missing under the one it had. Without a list to compare with, all that is not coming up has changed.
    """
    before = {} if last is None else last.instances
    for upstream_id, upstream in now.instances.items():
        if not upstream.is_coming_up and before.get(upstream_id) != upstream:
            yield upstream
    for upstream_id, upstream in before.items():
        still = now.instances.get(upstream_id)
        if still is None or still.name != upstream.name:
            yield upstream
