"""Whether the workers keep up, from figures."""

import pytest

from durably.domain.histogram import bucket_of
from durably.server.views.capacity import Capacity, capacity
from durably.store import Activity, StoreStats


def judged(
    *,
    runs: dict[float, int] | None = None,
    finished: int | None = None,
    slots: int = 10,
    held: int = 0,
    ready: int = 0,
    throughput: float = 0.0,
    growth: float = 0.0,
) -> Capacity:
    runs = runs or {}
    attempts = sum(runs.values())
    histogram = {bucket_of(seconds): count for seconds, count in runs.items()}
    done = attempts if finished is None else finished
    activity = Activity(0, done, attempts, attempts - done, {}, histogram)
    figures = StoreStats(counts=(), activity=(activity,), late_outcomes=0)
    return capacity(
        figures, slots=slots, held=held, ready=ready, throughput=throughput, growth=growth
    )


def test_utilisation_is_arrivals_by_run_time_by_slots() -> None:
    """Five jobs a second of one second each keep five of ten slots busy; seven leave room."""
    told = judged(runs={1.0: 100}, throughput=5.0)
    assert told.utilisation == pytest.approx(0.5, rel=0.06)
    assert told.service_rate == pytest.approx(10, rel=0.06)
    assert told.slots_needed in {6, 7}


def test_attempts_that_fail_take_slots_too() -> None:
    """Two attempts for each job that ends make it take twice as long."""
    told = judged(runs={1.0: 100}, finished=50, throughput=2.5)
    assert told.utilisation == pytest.approx(0.5, rel=0.06)


def test_what_comes_is_what_ends_and_what_piles_up() -> None:
    """Arrivals cannot be fewer than none, even while a clean-up shrinks the backlog."""
    assert judged(throughput=5.0, growth=2.0).arrival_rate == 7.0
    assert judged(throughput=1.0, growth=-4.0).arrival_rate == 0.0


def test_a_backlog_drains_by_what_is_left_over() -> None:
    """100 jobs, ten slots of a second each, five a second coming: twenty seconds."""
    told = judged(runs={1.0: 100}, ready=100, throughput=10.0, growth=-5.0)
    assert told.time_to_drain == pytest.approx(20, rel=0.2)


def test_slots_that_have_had_enough_to_do_show_their_pace() -> None:
    """With jobs waiting, what was done is what can be done, however short the run times are."""
    told = judged(runs={0.00001: 1_000}, ready=5_000, throughput=100.0, growth=-20.0)
    assert told.service_rate == 100.0
    assert told.time_to_drain == pytest.approx(5_000 / 20)


def test_a_backlog_that_grows_never_drains() -> None:
    """None says so; nothing waiting is drained at once."""
    assert judged(runs={1.0: 100}, ready=50, throughput=10.0, growth=3.0).time_to_drain is None
    assert judged(runs={1.0: 100}, throughput=10.0, growth=3.0).time_to_drain == 0.0


def test_nothing_is_invented_without_figures() -> None:
    """No run, no rate; no slot, no utilisation."""
    told = judged(ready=5)
    assert (told.service_rate, told.utilisation, told.slots_needed) == (None, None, None)
    assert told.time_to_drain is None
    assert judged(runs={1.0: 10}, slots=0, throughput=1.0).utilisation is None
    assert judged(slots=4, held=9).busy == 4
