"""How long to wait before looking again: pure functions of time, with nothing to remember."""

from datetime import datetime


def growing(elapsed: float, *, first: float, most: float) -> float:
    """Seconds to wait after *elapsed* seconds of waiting: half as long again, within bounds.

    The waits of a loop that uses it grow by half each time, whoever runs it and however often it
    is restarted.

    >>> [growing(elapsed, first=1, most=60) for elapsed in (0, 10, 1_000)]
    [1, 5.0, 60]
    """
    return min(max(elapsed / 2, first), most)


def since_tick(now: datetime, interval: float) -> float:
    """Seconds that *now* is past the last whole multiple of *interval*."""
    return now.timestamp() % interval


def until_tick(now: datetime, interval: float) -> float:
    """Seconds from *now* to the next whole multiple of *interval*, and a tenth of one at least.

    All who wait for ticks wake together, so that one look upstream serves them all.
    """
    left = interval - since_tick(now, interval)
    return left if left >= interval / 10 else left + interval
