from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durably.domain.histogram import bucket_of, merge, percentile

durations = st.floats(1e-6, 1e7)


@given(durations)
def test_a_bucket_is_within_five_percent(seconds: float) -> None:
    """The middle of a duration's bucket is no more than 5 percent off."""
    assert percentile({bucket_of(seconds): 1}, 0.5) == pytest.approx(seconds, rel=0.05)


@given(durations, durations)
def test_buckets_keep_the_order(one: float, other: float) -> None:
    """A longer duration is never in a smaller bucket."""
    assert (bucket_of(one) <= bucket_of(other)) == (one <= other) or bucket_of(one) == bucket_of(
        other
    )


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-9, 1e-6])
def test_what_is_too_short_is_in_the_first_bucket(seconds: float) -> None:
    """Nothing is shorter than a microsecond, also when a clock went back."""
    assert bucket_of(seconds) == 0


@given(st.lists(durations, min_size=1, max_size=200), st.floats(0.0, 1.0))
def test_a_percentile_is_that_of_the_entries(entries: list[float], share: float) -> None:
    """Within 5 percent of the smallest entry that *share* of all do not exceed."""
    histogram = merge({bucket_of(seconds): 1} for seconds in entries)
    ordered = sorted(entries)
    position = max(1, -(-share * len(ordered) // 1))

    assert percentile(histogram, share) == pytest.approx(ordered[int(position) - 1], rel=0.05)


def test_an_empty_histogram_has_no_percentiles() -> None:
    """0 seconds when nothing was counted."""
    assert percentile({}, 0.99) == 0.0
    assert merge([]) == {}
    assert merge([{}, {}]) == {}


def test_merging_adds() -> None:
    """The sum has the entries of all, and leaves its parts alone."""
    one, other = {1: 2, 3: 1}, {3: 4, 5: 1}

    assert merge([one, other]) == {1: 2, 3: 5, 5: 1}
    assert (one, other) == ({1: 2, 3: 1}, {3: 4, 5: 1})


def test_percentiles_of_many_are_near() -> None:
    """Of ten thousand drawn durations each percentile is within 5 percent."""
    random = Random(7)
    entries = sorted(random.expovariate(10) for _ in range(10_000))
    histogram = merge({bucket_of(seconds): 1} for seconds in entries)

    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        exact = entries[int(share * len(entries)) - 1]
        assert percentile(histogram, share) == pytest.approx(exact, rel=0.05)
