import asyncio
import threading
from datetime import UTC, datetime

import pytest

from durably.testing import VirtualClock


def test_time_stands_still() -> None:
    """It starts where it is told to, and does not go on by itself."""
    clock = VirtualClock(datetime(2030, 5, 6, tzinfo=UTC))
    first = (clock.now_us(), clock.monotonic())

    assert first[0] == 1_904_256_000_000_000
    assert (clock.now_us(), clock.monotonic()) == first


async def test_both_times_advance_together() -> None:
    """Wall time in microseconds and monotonic time in seconds."""
    clock = VirtualClock()
    wall, monotonic = clock.now_us(), clock.monotonic()
    await clock.advance(1.5)
    await clock.advance(0.000_001)

    assert clock.now_us() - wall == 1_500_001
    assert clock.monotonic() - monotonic == pytest.approx(1.500_001)


async def test_time_does_not_go_back() -> None:
    """Only 0 or more seconds can pass."""
    with pytest.raises(ValueError, match="seconds"):
        await VirtualClock().advance(-1)


async def test_who_waits_is_woken_at_the_time() -> None:
    """Each in the order of the times, and each sees its own time."""
    clock, woken = VirtualClock(), list[tuple[float, bool]]()
    start = clock.monotonic()

    async def sleep(seconds: float) -> None:
        is_set = await clock.wait(asyncio.Event(), seconds)
        woken.append((round(clock.monotonic() - start, 6), is_set))

    async with asyncio.TaskGroup() as tasks:
        for seconds in (3.0, 1.0, 2.5, 1.0):
            tasks.create_task(sleep(seconds))
        await clock.advance(2.0)
        early = list(woken)
        await clock.advance(2.0)

    assert early == [(1.0, False), (1.0, False)]
    assert woken[2:] == [(2.5, False), (3.0, False)]


async def test_one_advance_covers_many_waits() -> None:
    """A loop that waits again and again turns as often as it would have."""
    clock, turns = VirtualClock(), list[float]()
    stop = asyncio.Event()

    async def turn() -> None:
        while not await clock.wait(stop, 0.5):
            turns.append(clock.monotonic())

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(turn())
        await clock.advance(5.0)
        count = len(turns)
        stop.set()

    assert count == 10
    assert len(turns) == 10


async def test_an_event_ends_the_wait_without_time() -> None:
    """True at once when the event is set, before or during the wait, with or without a limit."""
    clock, event = VirtualClock(), asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)

    assert await clock.wait(event, 10.0) is True
    for timeout in (None, 0.0, 5.0):
        assert await clock.wait(event, timeout) is True


async def test_no_time_is_no_wait() -> None:
    """A timeout of 0 or less looks once."""
    clock = VirtualClock()

    assert await clock.wait(asyncio.Event(), 0.0) is False
    assert await clock.wait(asyncio.Event(), -1.0) is False


async def test_a_cancelled_wait_is_forgotten() -> None:
    """Time passes over it without effect."""
    clock = VirtualClock()
    task = asyncio.get_running_loop().create_task(clock.wait(asyncio.Event(), 1.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await clock.advance(5.0)

    assert clock._waiting == []


async def test_a_ticker_is_called_as_time_passes() -> None:
    """First after its interval, then at each further one, in a thread that may block."""
    clock, calls = VirtualClock(), list[tuple[float, threading.Thread]]()
    start = clock.monotonic()
    ticker = clock.every(
        2.0, lambda: calls.append((clock.monotonic() - start, threading.current_thread())), "name"
    )
    await clock.advance(1.9)
    early = len(calls)
    await clock.advance(4.2)
    ticker.stop()
    await clock.advance(10.0)

    assert early == 0
    assert [when for when, _ in calls] == pytest.approx([2.0, 4.0, 6.0])
    assert all(thread is not threading.current_thread() for _, thread in calls)


async def test_a_ticker_may_stop_itself() -> None:
    """`stop` from within the call ends it; stopping twice does no harm."""
    clock, calls = VirtualClock(), list[int]()

    def call() -> None:
        calls.append(1)
        ticker.stop()

    ticker = clock.every(1.0, call, "name")
    await clock.advance(5.0)
    ticker.stop()

    assert calls == [1]


async def test_calls_and_waits_come_in_one_order() -> None:
    """What is woken by a call of a ticker acts before time goes on."""
    clock, seen = VirtualClock(), list[float]()
    start = clock.monotonic()
    loop, rung = asyncio.get_running_loop(), asyncio.Event()

    def ring() -> None:
        loop.call_soon_threadsafe(rung.set)

    ticker = clock.every(1.0, ring, "name")

    async def hear() -> None:
        await clock.wait(rung, 10.0)
        seen.append(clock.monotonic() - start)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(hear())
        await clock.advance(3.0)
    ticker.stop()

    assert seen == [1.0]
