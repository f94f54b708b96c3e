"""How the queue fared over time: a record a minute, kept in the store so that it survives restarts.

Every server on a store looks; the first to write a minute has written it. Hours are the sums of their
minutes, written along with them, so that a week is read as 168 records. What workers did while no
server looked is found out up to four minutes later; how many jobs waited then is not known.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from durably import Changeset, Clock, JobQueueService, VersionConflictError
from durably.domain.histogram import merge, percentile
from durably.domain.job import LEASED, State
from durably.store import ACTIVITY_KEPT_S, ACTIVITY_WINDOW_S, Activity, StoreStats

LOOK_INTERVAL_S = 15.0
_SETTLED_S = 15
"""So long after its end a minute is still being reported by workers."""
_MINUTE, _HOUR, _DAY, _WEEK = 60, 3_600, 86_400, 604_800
_MINUTES, _HOURS = "history_minute", "history_hour"
_KEPT_S = {_MINUTES: _DAY + _HOUR, _HOURS: 5 * _WEEK}
_LATEST_LOST = ACTIVITY_KEPT_S // _MINUTE - 1
_PAGE = 10_000


class Range(StrEnum):
    """How far back."""

    LIVE = "live"
    """Five minutes, as workers report them."""
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


class _Scale(NamedTuple):
    kind: str
    unit: int
    """Seconds that a record of that kind covers."""
    step: int
    """Seconds between two points."""
    span: int


_SCALES = {
    Range.LIVE: _Scale("", ACTIVITY_WINDOW_S, ACTIVITY_WINDOW_S, ACTIVITY_KEPT_S),
    Range.HOUR: _Scale(_MINUTES, _MINUTE, _MINUTE, _HOUR),
    Range.DAY: _Scale(_MINUTES, _MINUTE, 5 * _MINUTE, _DAY),
    Range.WEEK: _Scale(_HOURS, _HOUR, _HOUR, _WEEK),
}


class Depth(msgspec.Struct, frozen=True, array_like=True):
    """How many jobs there were at the end of a time."""

    ready: int
    scheduled: int
    processing: int

    @property
    def due(self) -> int:
        """Those whose time has come and that are not final."""
        return self.ready + self.processing


class _Look(NamedTuple):
    """What one look found."""

    at: float
    """Monotonic seconds."""
    wall_s: int
    depth: Depth


class Point(msgspec.Struct, frozen=True, array_like=True):
    """What happened within a time."""

    finished: int = 0
    attempts: int = 0
    failed: int = 0
    wait: dict[int, int] = {}
    run: dict[int, int] = {}
    depth: Depth | None = None
    """None: nobody looked."""


class HistoryView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Evenly spaced points as columns, oldest first. Durations are seconds."""

    range: Range
    step: int
    at: list[int]
    """When each begins, seconds since 1970."""
    finished: list[int]
    failed: list[int]
    """Failed attempts."""
    attempts: list[int]
    wait_p50: list[float | None]
    """From ready to handler start; None while nothing started."""
    wait_p95: list[float | None]
    wait_p99: list[float | None]
    run_p50: list[float | None]
    run_p95: list[float | None]
    run_p99: list[float | None]
    ready: list[int | None]
    """None: nobody looked then."""
    scheduled: list[int | None]
    processing: list[int | None]


class History:
    """Keeps the history of a queue's store, and tells it.

    Args:
        queue: whose figures.
        clock: where time comes from.
    """

    def __init__(self, queue: JobQueueService, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._written_to = 0
        """The minute after the last that is known to be written."""
        self._looks = deque[_Look](maxlen=int(ACTIVITY_KEPT_S / LOOK_INTERVAL_S) + 1)
        self._told: dict[Range, tuple[int, HistoryView]] = {}

    async def look(self) -> None:
        """Write the minutes that have come to an end."""
        figures = await self._queue.get_figures()
        self._note(figures)
        now_s = self._now_s()
        last = (now_s - _SETTLED_S) // _MINUTE
        self._written_to = min(self._written_to, last)  # the clock may have been ahead
        for minute in range(max(self._written_to, last - _LATEST_LOST), last):
            depth = _depth(figures) if minute == last - 1 else None
            await self._write(minute, _point(figures.activity, minute * _MINUTE, _MINUTE, depth))
            self._written_to = minute + 1

    def growth(self) -> float:
        """Jobs a second by which those that are due grow (or shrink), over at most the last 300 s."""
        if not self._looks:
            return 0.0
        last = self._looks[-1]
        first = next(look for look in self._looks if last.at - look.at <= ACTIVITY_KEPT_S)
        took = last.at - first.at
        return (last.depth.due - first.depth.due) / took if took > 0 else 0.0

    async def view(self, range: Range) -> HistoryView:
        """The points of a range, up to the last step that is complete: part of one would look like a fall."""
        scale = _SCALES[range]
        now_s = self._now_s()
        if range is Range.LIVE:
            figures = await self._queue.get_figures()
            self._note(figures)
            return _view(range, _live(figures, now_s, self._looks))
        end = (now_s - _SETTLED_S) // scale.step * scale.step
        known = self._told.get(range)
        if known is None or known[0] != end or self._written_to * _MINUTE < end:
            self._told[range] = known = (end, _view(range, await self._read(scale, end)))
        return known[1]

    async def prune(self) -> None:
        """Remove what is too old."""
        for kind, unit in ((_MINUTES, _MINUTE), (_HOURS, _HOUR)):
            oldest = _id((self._now_s() - _KEPT_S[kind]) // unit)
            while old := [
                record
                for record in await self._queue.get_records(kind, limit=500)
                if record.id < oldest
            ]:
                changes = self._queue.changeset()
                for record in old:
                    changes.delete(kind, record.id)
                await self._queue.commit(changes)

    def _note(self, figures: StoreStats) -> None:
        """Remember how many jobs there are, every 15 s."""
        at = self._clock.monotonic()
        if not self._looks or at - self._looks[-1].at >= LOOK_INTERVAL_S:
            self._looks.append(_Look(at, self._now_s(), _depth(figures)))

    # Writing

    async def _write(self, minute: int, point: Point) -> None:
        """Write a minute and add it to its hour, unless another server has."""
        while await self._queue.get_record(_MINUTES, _id(minute)) is None:
            changes = self._queue.changeset()
            changes.put(_MINUTES, _id(minute), point, expect=0)
            await self._add_to_hour(changes, minute // 60, point)
            try:
                await self._queue.commit(changes)
            except VersionConflictError:
                continue

    async def _add_to_hour(self, changes: Changeset, hour: int, point: Point) -> None:
        record = await self._queue.get_record(_HOURS, _id(hour))
        version = 0
        if record is not None:
            version = record.version
            point = _sum([_stored(record.value), point])
        changes.put(_HOURS, _id(hour), point, expect=version)

    # Reading

    async def _read(self, scale: _Scale, end: int) -> dict[int, Point]:
        first = end - scale.span
        records = await self._queue.get_records(
            scale.kind, after=_id(first // scale.unit - 1), limit=_PAGE
        )
        steps: dict[int, list[Point]] = {at: [] for at in range(first, end, scale.step)}
        for record in records:
            at = int(record.id) * scale.unit // scale.step * scale.step
            if at in steps:
                steps[at].append(_stored(record.value))
        return {at: _sum(points) for at, points in steps.items()}

    def _now_s(self) -> int:
        return self._clock.now_us() // 1_000_000


def _depth(figures: StoreStats) -> Depth:
    by_state = dict.fromkeys(State, 0)
    for counted in figures.counts:
        by_state[State(counted.state)] += counted.count
    return Depth(
        ready=by_state[State.READY],
        scheduled=by_state[State.SCHEDULED],
        processing=sum(by_state[state] for state in LEASED),
    )


def _live(figures: StoreStats, now_s: int, looks: Sequence[_Look]) -> dict[int, Point]:
    """The windows that workers have reported; the current one is not complete."""
    width = ACTIVITY_WINDOW_S
    end = now_s // width * width
    points = {}
    for at in range(end - ACTIVITY_KEPT_S + width, end, width):
        near = [look.depth for look in looks if at - LOOK_INTERVAL_S < look.wall_s < at + width]
        points[at] = _point(figures.activity, at, width, near[-1] if near else None)
    return points


def _point(activity: Iterable[Activity], at: int, seconds: int, depth: Depth | None) -> Point:
    return _added(
        [one for one in activity if at <= one.window * ACTIVITY_WINDOW_S < at + seconds], depth
    )


def _sum(points: Sequence[Point]) -> Point:
    depths = (one.depth for one in reversed(points))
    return _added(points, next((depth for depth in depths if depth is not None), None))


def _added(parts: Sequence[Activity | Point], depth: Depth | None) -> Point:
    return Point(
        finished=sum(one.finished for one in parts),
        attempts=sum(one.attempts for one in parts),
        failed=sum(one.failed for one in parts),
        wait=merge(one.wait for one in parts),
        run=merge(one.run for one in parts),
        depth=depth,
    )


def _view(range: Range, points: dict[int, Point]) -> HistoryView:
    values = list(points.values())
    return HistoryView(
        range=range,
        step=_SCALES[range].step,
        at=list(points),
        finished=[one.finished for one in values],
        failed=[one.failed for one in values],
        attempts=[one.attempts for one in values],
        wait_p50=[_percentile(one.wait, 0.50) for one in values],
        wait_p95=[_percentile(one.wait, 0.95) for one in values],
        wait_p99=[_percentile(one.wait, 0.99) for one in values],
        run_p50=[_percentile(one.run, 0.50) for one in values],
        run_p95=[_percentile(one.run, 0.95) for one in values],
        run_p99=[_percentile(one.run, 0.99) for one in values],
        ready=[one.depth.ready if one.depth else None for one in values],
        scheduled=[one.depth.scheduled if one.depth else None for one in values],
        processing=[one.depth.processing if one.depth else None for one in values],
    )


def _percentile(histogram: dict[int, int], share: float) -> float | None:
    return percentile(histogram, share) if histogram else None


def _stored(value: object) -> Point:
    return msgspec.convert(value, Point, str_keys=True)


def _id(number: int) -> str:
    """Ids of records are texts: of equal length they sort as numbers do."""
    return f"{number:010d}"
