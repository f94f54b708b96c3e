"""The rate limiter."""

import pytest

from durably.server.limits import RateLimiter
from durably.testing import VirtualClock


def passed(limiter: RateLimiter, name: str, tries: int) -> int:
    return sum(limiter.retry_after(name) == 0.0 for _ in range(tries))


async def test_a_second_s_worth_may_come_at_once_then_the_rate_holds() -> None:
    """Ten at once, then one each tenth of a second."""
    clock = VirtualClock()
    limiter = RateLimiter(10.0, clock)
    assert passed(limiter, "a", 30) == 10
    assert limiter.retry_after("a") == pytest.approx(0.1)
    await clock.advance(0.1)
    assert passed(limiter, "a", 5) == 1
    await clock.advance(0.5)
    assert passed(limiter, "a", 30) == 5
    await clock.advance(60)
    assert passed(limiter, "a", 30) == 10


async def test_waiting_as_told_is_enough() -> None:
    """Whoever waits for the seconds it is told passes then."""
    clock = VirtualClock()
    limiter = RateLimiter(3.0, clock)
    for _ in range(20):
        wait = limiter.retry_after("a")
        if wait:
            await clock.advance(wait + 1e-6)
            assert limiter.retry_after("a") == 0.0


def test_each_name_has_its_own_rate() -> None:
    """One that asks too often takes nothing from another."""
    limiter = RateLimiter(2.0, VirtualClock())
    assert passed(limiter, "a", 10) == 2
    assert passed(limiter, "b", 10) == 2


def test_slow_rates_let_one_pass() -> None:
    """Less than one a second still begins with one."""
    assert passed(RateLimiter(0.1, VirtualClock()), "a", 10) == 1


def test_no_rate_is_no_limit() -> None:
    """0 lets everything pass."""
    assert passed(RateLimiter(0.0, VirtualClock()), "a", 1_000) == 1_000
