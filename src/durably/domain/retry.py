"""When a failed job runs again: a decision only, with no clock of its own."""

from dataclasses import dataclass
from random import Random

from durably.domain.outcome import check_seconds

_RANDOM = Random()  # noqa: S311  # spreads retries; nothing secret depends on it


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff, bounded in count and length, with jitter.

    The delay after failed attempt *n* is ``min(base_delay * 2**(n-1), max_delay)``, then drawn
    uniformly from ``[(1 - jitter) * delay, delay]``, so that jobs that failed together do not come
    back together. ``jitter=0`` is the exact formula of the job queue document; the idea of jitter
    is from M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    max_attempts: int = 3
    """Attempts in all, the first included: 1 to 1,000,000."""
    base_delay: float = 1.0
    """Seconds after the first failure; doubles with each further one."""
    max_delay: float = 300.0
    """No delay is longer, seconds; not even the first."""
    jitter: float = 0.5
    """0 (none) to 1 (from the whole interval)."""
    retry_on: tuple[type[BaseException], ...] = (BaseException,)
    """Only these are retried."""
    give_up_on: tuple[type[BaseException], ...] = ()
    """These fail the job at once, also if they are in `retry_on`."""

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int):
            raise TypeError(f"max_attempts must be an int, got {self.max_attempts!r}")
        if not 1 <= self.max_attempts <= 1_000_000:
            raise ValueError(f"max_attempts must be 1 to 1,000,000, got {self.max_attempts}")
        check_seconds("base_delay", self.base_delay)
        check_seconds("max_delay", self.max_delay)
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be 0 to 1, got {self.jitter}")
        for name in ("retry_on", "give_up_on"):
            object.__setattr__(self, name, _exception_types(name, getattr(self, name)))

    def delay_after(self, attempt: int, *, random: Random | None = None) -> float:
        """Seconds to wait once *attempt* (1-based) has failed.

        >>> RetryPolicy(base_delay=1, jitter=0).delay_after(3)
        4.0
        """
        if attempt < 1:
            raise ValueError(f"attempts count from 1, got {attempt}")
        # 2.0 ** 1024 overflows; by 2 ** 63 every usable max_delay has long been reached.
        longest = min(self.base_delay * 2.0 ** min(attempt - 1, 63), self.max_delay)
        return float(longest - (random or _RANDOM).random() * self.jitter * longest)

    def retries(self, error: BaseException) -> bool:
        """Whether *error* is worth another attempt."""
        return isinstance(error, self.retry_on) and not isinstance(error, self.give_up_on)


def _exception_types(name: str, given: object) -> tuple[type[BaseException], ...]:
    types: list[type[BaseException]] = []
    for item in given if isinstance(given, tuple | list) else (given,):
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            raise TypeError(f"{name} must hold exception types, got {item!r}")
        types.append(item)
    return tuple(types)
