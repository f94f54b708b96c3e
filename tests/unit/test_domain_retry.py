from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durably import RetryPolicy

delays = st.just(0.0) | st.floats(1e-6, 1e6)


@pytest.mark.parametrize(
    ("attempt", "expected"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (9, 256.0), (10, 300.0)]
)
def test_without_jitter_the_formula_is_exact(attempt: int, expected: float) -> None:
    """The delay doubles from base_delay with each failed attempt, up to max_delay."""
    assert RetryPolicy(jitter=0).delay_after(attempt) == expected


def test_the_defaults_are_those_of_the_document() -> None:
    """Three attempts in all, one second at first, at most five minutes, half of it drawn."""
    policy = RetryPolicy()

    assert (policy.max_attempts, policy.base_delay, policy.max_delay) == (3, 1.0, 300.0)
    assert policy.jitter == 0.5


@given(
    attempt=st.integers(1, 2_000_000),
    base=delays,
    most=delays,
    jitter=st.floats(0.0, 1.0),
    seed=st.integers(),
)
def test_a_delay_stays_within_its_bounds(
    attempt: int, base: float, most: float, jitter: float, seed: int
) -> None:
    """Any attempt waits between (1 - jitter) and 1 times the exact delay, never over max_delay."""
    policy = RetryPolicy(base_delay=base, max_delay=most, jitter=jitter)
    exact = RetryPolicy(base_delay=base, max_delay=most, jitter=0).delay_after(attempt)
    delay = policy.delay_after(attempt, random=Random(seed))

    assert exact == min(base * 2.0 ** min(attempt - 1, 900), most)
    assert (1 - jitter) * exact <= delay * (1 + 1e-9)
    assert delay <= exact


def test_jitter_is_spread_over_the_whole_interval() -> None:
    """Both ends of the interval are drawn, and its middle is the mean."""
    policy, random = RetryPolicy(base_delay=100.0, jitter=0.5), Random(1)
    drawn = [policy.delay_after(1, random=random) for _ in range(5_000)]

    assert 50.0 <= min(drawn) < 51.0
    assert 99.0 < max(drawn) <= 100.0
    assert sum(drawn) / len(drawn) == pytest.approx(75.0, abs=1.0)


def test_without_a_random_each_policy_draws_anew() -> None:
    """Jobs that failed together do not come back together."""
    policy = RetryPolicy(jitter=1)

    assert len({policy.delay_after(5) for _ in range(20)}) > 1


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_count_from_one(attempt: int) -> None:
    """There is no delay after no attempt."""
    with pytest.raises(ValueError, match=f"attempts count from 1, got {attempt}"):
        RetryPolicy().delay_after(attempt)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", -3),
        ("max_attempts", 1_000_001),
        ("base_delay", -0.1),
        ("base_delay", float("nan")),
        ("base_delay", float("inf")),
        ("max_delay", -1.0),
        ("max_delay", float("inf")),
        ("max_delay", float("nan")),
        ("jitter", -0.1),
        ("jitter", 1.1),
        ("jitter", float("nan")),
    ],
)
def test_what_is_out_of_range_is_refused(name: str, value: float) -> None:
    """ValueError names the setting and the value."""
    with pytest.raises(ValueError, match=name) as caught:
        RetryPolicy(**{name: value})  # type: ignore[arg-type]  # each name in turn

    assert f"{value:,}" in str(caught.value) or str(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_attempts", True),
        ("max_attempts", 3.0),
        ("max_attempts", "3"),
        ("base_delay", "1"),
        ("max_delay", None),
        ("jitter", "half"),
        ("retry_on", "ValueError"),
        ("retry_on", (ValueError, "x")),
        ("give_up_on", ValueError("an instance")),
        ("give_up_on", [int]),
    ],
)
def test_what_is_of_the_wrong_type_is_refused(name: str, value: Any) -> None:
    """TypeError for a setting of another type."""
    with pytest.raises(TypeError):
        RetryPolicy(**{name: value})


def test_which_errors_are_worth_another_attempt() -> None:
    """Those in retry_on, subclasses included, unless they are in give_up_on."""
    policy = RetryPolicy(retry_on=(OSError, ValueError), give_up_on=[UnicodeError])  # type: ignore[arg-type]  # a list is taken too

    assert policy.retries(ConnectionError())
    assert policy.retries(ValueError())
    assert not policy.retries(UnicodeDecodeError("utf-8", b"", 0, 1, "why"))
    assert not policy.retries(KeyError())
    assert RetryPolicy().retries(SystemExit())


def test_a_single_exception_type_is_enough() -> None:
    """A type may be given where a tuple of types is meant."""
    policy = RetryPolicy(retry_on=OSError, give_up_on=FileNotFoundError)  # type: ignore[arg-type]  # taken too

    assert policy.retries(OSError())
    assert not policy.retries(FileNotFoundError())
