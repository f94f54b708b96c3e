"""How often a principal may ask: the generic cell rate algorithm, one number each.

Source: ATM Forum, "Traffic Management Specification" 4.0, 1996, section 4.4.2.
"""

from durably import Clock

_BURST_S = 1.0
_ROUNDING_S = 1e-9


class RateLimiter:
    """Lets each name pass *rate* times a second, with bursts of one second's worth.

    Args:
        rate: per second; 0 is no limit.
        clock: measures.
    """

    def __init__(self, rate: float, clock: Clock) -> None:
        self._every = 1 / rate if rate > 0 else 0.0
        self._clock = clock
        self._next: dict[str, float] = {}
        """When a name's next request is due if it keeps to its rate."""

    def retry_after(self, name: str) -> float:
        """0.0: go on, the request is counted; else the seconds to wait."""
        if not self._every:
            return 0.0
        now = self._clock.monotonic()
        due = max(now, self._next.get(name, 0.0))
        early = due - now - max(0.0, _BURST_S - self._every)
        if early > _ROUNDING_S:
            return early
        self._next[name] = due + self._every
        return 0.0
