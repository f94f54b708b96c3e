"""The watch over the event loop: what it says, and that it says it once."""

import asyncio

import pytest

from durably import SystemClock
from durably.engine.watch import LoopWatch


class Stopwatch(SystemClock):
    """Its monotonic time is set by hand: no turn of the event loop passes meanwhile."""

    at = 0.0

    def monotonic(self) -> float:
        return self.at


async def test_a_blocked_loop_is_told_of_once_and_when_it_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However often one looks; the next time it is blocked is told of again."""
    clock = Stopwatch()
    watch = LoopWatch(asyncio.get_running_loop(), clock)
    for _ in range(2):
        watch.look()
        clock.at += 1.0
        watch.look()
        clock.at += 0.5
        watch.look()
        await asyncio.sleep(0)

    said = [record.getMessage() for record in caplog.records]

    assert len(said) == 4
    assert "blocked for 1.0 s" in said[0]
    assert said[1] == "the event loop goes on after 1.5 s"
    assert [said[0].splitlines()[0], said[1]] == [said[2].splitlines()[0], said[3]]


async def test_a_loop_that_answers_in_time_is_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """Neither that it was blocked nor that it goes on."""
    clock = Stopwatch()
    watch = LoopWatch(asyncio.get_running_loop(), clock)
    for _ in range(3):
        watch.look()
        clock.at += 0.9
        watch.look()
        await asyncio.sleep(0)
        clock.at += 5

    assert [] == caplog.records


async def test_an_answer_between_two_looks_at_the_clock_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The loop answers while the thread computes: its thread lives on, and nothing is said."""

    class AnswersMeanwhile(Stopwatch):
        def monotonic(self) -> float:
            if self.at:
                watch._answer()
            return self.at

    clock = AnswersMeanwhile()
    watch = LoopWatch(asyncio.get_running_loop(), clock)
    watch.look()
    clock.at = 0.9
    watch.look()

    assert [] == caplog.records
