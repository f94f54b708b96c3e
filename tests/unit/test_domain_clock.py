import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durably.domain.clock import SystemClock, to_datetime, to_us

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC)))
def test_conversion_is_exact_both_ways(moment: datetime) -> None:
    """Every aware datetime to the microsecond, before 1970 and up to the year 9999."""
    assert to_datetime(to_us(moment)) == moment


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_microseconds_come_back(microseconds: int) -> None:
    """No rounding by floating point."""
    moment = to_datetime(microseconds)

    assert to_us(moment) == microseconds
    assert moment == EPOCH + timedelta(microseconds=microseconds)
    assert moment.tzinfo is UTC


def test_any_time_zone_is_taken() -> None:
    """The instant counts, not how it is written."""
    there = datetime(2026, 7, 1, 12, 0, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    assert to_us(there) == to_us(there.astimezone(UTC))


def test_a_naive_datetime_is_refused() -> None:
    """ValueError says how to make it aware."""
    with pytest.raises(ValueError, match="need an aware datetime, for example with tzinfo=UTC"):
        to_us(datetime(2026, 1, 1))  # noqa: DTZ001  # refused for that reason


def test_the_system_clock_tells_the_time() -> None:
    """Wall time in microseconds, and a monotonic time in seconds that goes on."""
    clock = SystemClock()
    before, first = time.time_ns() // 1_000, clock.monotonic()

    assert before <= clock.now_us() <= time.time_ns() // 1_000
    assert first <= clock.monotonic() < first + 60


async def test_waiting_ends_with_the_event() -> None:
    """True as soon as the event is set, also when it is set already."""
    clock, event = SystemClock(), asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)

    assert await clock.wait(event, 10.0) is True
    assert await clock.wait(event, 0.0) is True
    assert await clock.wait(event, None) is True


async def test_waiting_ends_with_the_timeout() -> None:
    """False when the event was not set in time."""
    assert await SystemClock().wait(asyncio.Event(), 0.001) is False
    assert await SystemClock().wait(asyncio.Event(), 0.0) is False


def test_a_ticker_calls_until_it_is_stopped() -> None:
    """From its own named daemon thread, again and again; after `stop` no more."""
    called: list[threading.Thread] = []
    thrice = threading.Event()

    def call() -> None:
        called.append(threading.current_thread())
        if len(called) == 3:
            thrice.set()

    ticker = SystemClock().every(0.001, call, "durably-test")
    assert thrice.wait(10)
    ticker.stop()
    count = len(called)

    assert not called[0].is_alive()
    assert called[0].name == "durably-test"
    assert called[0].daemon
    assert len(called) == count


def test_a_ticker_may_stop_itself() -> None:
    """`stop` from within the call does not wait for the call."""
    made, done = threading.Event(), threading.Event()

    def call() -> None:
        made.wait(10)
        ticker.stop()
        done.set()

    ticker = SystemClock().every(0.001, call, "durably-test")
    made.set()

    assert done.wait(10)
