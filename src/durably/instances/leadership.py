"""Which of several processes reconciles and keeps the watch: the one that a record names, for a term.

The leader writes the record anew every few seconds. Another takes it over, for the next term, when the
leader's worker is dead, or when the record has not changed for `LEASE_S` on its own clock: no two
clocks are compared. A leader that was frozen learns of it at its next look. Until then two may act, which
is safe: every change of theirs is a compare-and-set, and what is asked of the provider may be asked twice.
"""

import logging

import msgspec

from durably import Clock, JobQueueService, Record, VersionConflictError

_log = logging.getLogger(__name__)
LEADER = "leader"
LOOK_S = 5.0
"""Between two looks of the leader or of who would be."""
LEASE_S = 30.0


class Leader(msgspec.Struct, frozen=True):
    """The record: who leads, and for the how manieth time somebody else does."""

    worker: int
    term: int


class Leadership:
    """This process's part in it.

    Args:
        queue: whose store keeps the record, and whose worker stands for this process.
        clock: for how long the record has been the same.
    """

    def __init__(self, queue: JobQueueService, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._seen: tuple[int, float] = (0, 0.0)
        self.leads = False
        """Whether this process led at its last look."""

    async def term(self) -> int | None:
        """Take, keep or renew the lead: the term, or None while another leads."""
        term = await self._term()
        self.leads = term is not None
        return term

    async def _term(self) -> int | None:
        me = self._queue.worker_id
        if me is None:
            return None
        record = await self._queue.get_record(LEADER, LEADER)
        leader = None if record is None else msgspec.convert(record.value, Leader)
        if record is None or leader is None:
            mine = Leader(me, 1)
        elif leader.worker == me:
            mine = leader
        elif await self._is_gone(leader, record):
            mine = Leader(me, leader.term + 1)
        else:
            return None
        changes = self._queue.changeset()
        changes.put(LEADER, LEADER, mine, expect=0 if record is None else record.version)
        try:
            await self._queue.commit(changes)
        except VersionConflictError:
            return None  # another was quicker
        if mine != leader:
            _log.info("worker %s leads, term %s", me, mine.term)
        return mine.term

    async def _is_gone(self, leader: Leader, record: Record) -> bool:
        now = self._clock.monotonic()
        version, since = self._seen
        if record.version != version:
            self._seen = record.version, now
            since = now
        if now - since >= LEASE_S:
            return True
        return all(
            worker.id != leader.worker or not worker.alive for worker in await self._queue.workers()
        )
