from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durably.domain.claiming import Candidate, Claim, Lane, candidate, choose

LANES = (Lane("p", "a", 3), Lane("q", "a", 3), Lane("p", "b", 100))
jobs = st.tuples(
    st.integers(1, 4), st.integers(0, 10**6), st.integers(0, len(LANES) - 1), st.booleans()
)


def made(*specs: tuple[int, int, int, bool], aging_s: float | None = None) -> list[Candidate]:
    """Candidates of (priority, ready_at, lane, suspect), in the order of claims."""
    return sorted(
        candidate(priority, ready, seq, lane, suspect=suspect, aging_s=aging_s)
        for seq, (priority, ready, lane, suspect) in enumerate(specs)
    )


def claim_of(**fields: Any) -> Claim:
    return Claim(lanes=LANES, **fields)


def test_candidates_sort_by_priority_age_and_number() -> None:
    """Highest priority first, then ready longest, then stored first."""
    order = made(
        (1, 0, 2, False), (4, 9, 2, False), (4, 5, 2, False), (2, 0, 2, False), (4, 5, 2, True)
    )

    assert [c.seq for c in order] == [2, 4, 1, 3, 0]


def test_ageing_trades_time_for_priority() -> None:
    """A level is worth `aging_s` of waiting; equal worth is decided by age."""
    low, high = (1, 0, 2, False), (2, 10_000_000, 2, False)

    assert [c.seq for c in made(low, high, aging_s=9.9)] == [0, 1]
    assert [c.seq for c in made(low, high, aging_s=10.1)] == [1, 0]
    assert [c.seq for c in made(low, high, aging_s=10.0)] == [0, 1]


@given(st.lists(jobs, max_size=30), st.integers(0, 8), st.integers(0, 8), st.booleans())
def test_no_limit_is_exceeded(
    specs: list[tuple[int, int, int, bool]], start: int, reserve: int, suspects: bool
) -> None:
    """Starts, claims ahead, the limit of a type and one suspect hold for any candidates."""
    chosen = list(choose(made(*specs), claim_of(start=start, reserve=reserve, suspects=suspects)))

    starts = [seq for seq, begins in chosen if begins]
    ahead = [seq for seq, begins in chosen if not begins]
    assert len(starts) <= start
    assert len(ahead) <= reserve
    assert chosen == [(seq, True) for seq in starts] + [(seq, False) for seq in ahead]
    assert sum(LANES[specs[seq][2]].type == "a" for seq, _ in chosen) <= 3
    assert sum(specs[seq][3] for seq in starts) <= suspects
    assert not any(specs[seq][3] for seq in ahead)


@given(st.lists(jobs, max_size=30), st.integers(0, 8), st.integers(0, 8))
def test_what_is_chosen_is_first_in_order(
    specs: list[tuple[int, int, int, bool]], start: int, reserve: int
) -> None:
    """Nothing of a type is left behind something of that type that was chosen, suspects aside."""
    order = made(*specs)
    chosen = {seq for seq, _ in choose(order, claim_of(start=start, reserve=reserve))}

    for kind in "ab":
        of_kind = [c for c in order if LANES[c.lane].type == kind and not c.suspect]
        taken = [c.seq in chosen for c in of_kind]
        assert taken == sorted(taken, reverse=True)


@pytest.mark.parametrize("suspects", [False, True])
def test_a_suspect_ends_what_is_claimed_ahead(*, suspects: bool) -> None:
    """Behind a suspect that may still be claimed nothing is taken ahead of it."""
    order = made((4, 0, 2, False), (3, 0, 2, True), (2, 0, 2, False))
    chosen = list(choose(order, claim_of(start=1, reserve=5, suspects=suspects)))

    assert chosen == ([(0, True)] if suspects else [(0, True), (2, False)])


def test_one_suspect_may_start_among_others() -> None:
    """A second one is passed over."""
    order = made((4, 0, 2, True), (3, 0, 2, True), (2, 0, 2, False))

    assert list(choose(order, claim_of(start=2, reserve=2))) == [(0, True), (2, True)]


def test_candidates_are_drawn_only_as_needed() -> None:
    """A store may give them lazily: none is asked for once all places are taken."""

    def endless() -> Any:
        yield from made((4, 0, 2, False), (3, 0, 2, False))
        raise AssertionError("one candidate too many was drawn")

    chosen = choose(endless(), claim_of(start=1))

    assert next(chosen) == (0, True)
    with pytest.raises(StopIteration):
        next(chosen)
