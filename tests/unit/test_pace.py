"""How far a worker claims ahead, and what it tells of what it has finished."""

import pytest

from durably.engine.pace import AHEAD_MOST, Figures, Pace
from durably.store import ACTIVITY_WINDOW_S, Activity

WINDOW_US = ACTIVITY_WINDOW_S * 1_000_000


def measured(ended: int, seconds: float, *, held: int = 0) -> tuple[Pace, int]:
    """A pace that has seen so many ends in so many seconds, and what it then claims ahead."""
    pace = Pace()
    pace.ahead(100.0, 0, busy=True)
    pace.fed(100.0)
    for _ in range(ended):
        pace.ended()
    return pace, pace.ahead(100.0 + seconds, held, busy=True)


def test_nothing_is_claimed_ahead_before_anything_has_ended() -> None:
    """Nothing has been measured."""
    assert measured(0, 1.0)[1] == 0


@pytest.mark.parametrize(
    ("held", "ahead"), [(0, 6), (3, 6), (6, 6), (7, 5), (11, 1), (12, 0), (99, 0)]
)
def test_so_much_is_at_hand_as_ends_in_four_milliseconds(held: int, ahead: int) -> None:
    """Of three thousand a second twelve, with what is held already; half of them at a time."""
    assert measured(1_500, 0.5, held=held)[1] == ahead


def test_a_single_job_is_claimed_ahead_whole() -> None:
    """Where one ends in that time, half of it is one too."""
    assert measured(130, 0.5)[1] == 1


def test_no_more_than_four_hundred_are_claimed_ahead() -> None:
    """However fast they end."""
    assert measured(2_000, 0.001, held=AHEAD_MOST - 3)[1] == 3
    assert measured(2_000, 0.001)[1] == AHEAD_MOST / 2 == 200


def test_waiting_for_the_store_does_not_lower_the_rate() -> None:
    """1,500 ended in half a second, then nothing was here: so many could end, however long that took."""
    pace = Pace()
    pace.ahead(100.0, 0, busy=True)
    pace.fed(101.0)
    for _ in range(1_500):
        pace.ended()
    pace.starved(101.5)

    assert pace.ahead(109.0, 0, busy=True) == 6


def test_waiting_is_left_out_on_both_sides_of_a_look() -> None:
    """What a worker waits before it asks and until the answer comes is no time in which it works."""
    pace, _ = measured(1_500, 0.5)
    pace.starved(100.5)
    pace.ahead(101.0, 0, busy=True)
    pace.fed(107.0)
    for _ in range(3_000):
        pace.ended()

    assert pace.ahead(108.0, 0, busy=True) == 6


def test_an_idle_while_does_not_lower_the_rate_and_a_busy_one_does() -> None:
    """What came in while slots stood empty says nothing of what could have been done.

    A quarter of what is new: 3,000 become 2,376 a second, of which 9 end in 4 ms.
    """
    pace, ahead = measured(1_500, 0.5)
    for _ in range(500):
        pace.ended()
    idle = pace.ahead(101.5, 0, busy=False)
    for _ in range(500):
        pace.ended()
    busy = pace.ahead(102.5, 0, busy=True)

    assert (ahead, idle, busy) == (6, 6, 5)


def test_a_call_at_the_same_time_measures_nothing() -> None:
    """The clock has not moved, so there is no rate; what has ended is not counted later either."""
    pace, ahead = measured(1_500, 0.5)
    pace.ended()

    assert pace.ahead(100.5, 0, busy=True) == ahead
    assert pace.ahead(101.5, 0, busy=True) == ahead


def test_slowing_down_measures_afresh() -> None:
    """What was claimed ahead was not begun in time; the next measurement counts whole."""
    pace, _ = measured(1_500, 0.5)
    pace.slow_down()
    assert pace.ahead(101.0, 0, busy=True) == 0

    for _ in range(1_000):
        pace.ended()
    assert pace.ahead(102.0, 0, busy=True) == 2


@pytest.mark.parametrize(
    ("round_trip", "ahead", "longest"),
    [(0.0, 0.004, 0.020), (0.005, 0.011, 0.022), (1.0, 0.020, 0.040)],
)
def test_a_slow_store_is_claimed_from_further_ahead(
    round_trip: float, ahead: float, longest: float
) -> None:
    """2.2 round trips, within 4 and 20 ms; to be begun in twice that, or in 20 ms."""
    pace = Pace()
    for _ in range(200):
        pace.exchanged(round_trip)

    assert pace.ahead_s == pytest.approx(ahead)
    assert pace.ahead_longest_s == pytest.approx(longest)


def test_one_slow_exchange_counts_for_an_eighth() -> None:
    """A single stutter does not change much."""
    pace = Pace()
    pace.exchanged(0.064)

    assert pace.ahead_s == pytest.approx(0.0176)


def test_figures_are_of_one_window() -> None:
    """What has ended, failed and been attempted, with the times in the buckets of a histogram."""
    figures = Figures()
    figures.add(WINDOW_US * 7, 0.5, 0.0, final=True, failed=False)
    figures.add(WINDOW_US * 7 + 1, 0.5, 0.0, final=False, failed=True)
    figures.add(WINDOW_US * 8 - 1, 0.5, 0.0, final=True, failed=True)
    told = figures.to_tell(0.0, 1)

    assert told is not None
    assert (told.window, told.finished, told.attempts, told.failed) == (7, 2, 3, 2)
    assert sum(told.wait.values()) == sum(told.run.values()) == 3
    assert len(told.wait) == len(told.run) == 1
    assert told.wait.keys() != told.run.keys()


def test_nothing_is_told_twice() -> None:
    """Once it has arrived there is nothing to tell until something ends."""
    figures = Figures()
    assert figures.due_at() is None
    assert figures.to_tell(5.0, 1) is None
    told = ended(figures, 7)
    figures.told(told, 5.0)

    assert figures.due_at() is None
    assert figures.to_tell(9.0, 1) is None


def test_what_ended_while_it_was_told_is_told_next() -> None:
    """The figures of the window are told anew, with what came in between."""
    figures = Figures()
    told = ended(figures, 7)
    figures.add(WINDOW_US * 7, 0.5, 0.1, final=True, failed=False)
    figures.told(told, 5.0)
    again = figures.to_tell(5.0, 1)

    assert figures.due_at() == 6.0
    assert again is not None
    assert again.attempts == 2


def test_the_window_before_is_told_first() -> None:
    """It is not lost when it ended before all of it was told, and it is told once."""
    figures = Figures()
    ended(figures, 7)
    before = ended(figures, 8)
    figures.told(before, 5.0)
    then = figures.to_tell(5.0, 1)

    assert (before.window, before.attempts) == (7, 1)
    assert then is not None
    assert (then.window, then.attempts) == (8, 1)


def test_a_busy_worker_tells_once_a_second() -> None:
    """With more than 32 outcomes an exchange the figures wait; with fewer they cost nothing more."""
    figures = Figures()
    figures.told(ended(figures, 7), 5.0)
    ended(figures, 7)

    assert figures.to_tell(5.9, 33) is None
    assert figures.to_tell(5.9, 32) is not None
    assert figures.to_tell(6.0, 33) is not None


def ended(figures: Figures, window: int) -> Activity:
    """An attempt has ended in *window*: what there is to tell."""
    figures.add(WINDOW_US * window, 0.5, 0.1, final=True, failed=False)
    told = figures.to_tell(0.0, 1)
    assert told is not None
    return told
