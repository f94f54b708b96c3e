from typing import Any

import pytest

from durably.stores.postgres.servertime import ASKED_EVERY_S, ROUND_TRIP_LONGEST_S, ServerTime


class Server:
    """A connection to a server whose clock says what it is told to, and a clock of our own."""

    def __init__(self) -> None:
        self.now_us = 1_000_000_000
        self.ours = 50.0
        self.asked = 0
        self.there_s: list[float] = []
        """How long the next questions take, and the next answers; a millisecond by default."""
        self.back_s: list[float] = []

    def wait(self, seconds: float) -> None:
        """Both clocks go on."""
        self.ours += seconds
        self.now_us += int(seconds * 1e6)

    async def fetchval(self, _: str) -> Any:
        self.asked += 1
        self.wait(self.there_s.pop() if self.there_s else 0.001)
        answer = self.now_us
        self.wait(self.back_s.pop() if self.back_s else 0.001)
        return answer


async def test_the_server_is_asked_once_a_second_at_most() -> None:
    """In between its time goes on by our own clock, from the middle of the round trip."""
    server = Server()
    time = ServerTime(lambda: server.ours)
    first = await time.now_us(server)
    server.wait(0.5)
    second = await time.now_us(server)

    assert first == 1_000_001_000
    assert abs(second - server.now_us) <= 1
    assert server.asked == 1


async def test_a_clock_that_was_set_is_followed() -> None:
    """At the next question, forwards and backwards."""
    server = Server()
    time = ServerTime(lambda: server.ours)
    await time.now_us(server)
    for hour_us in (3_600_000_000, -7_200_000_000):
        server.now_us += hour_us
        server.wait(2 * ASKED_EVERY_S)

        assert abs(await time.now_us(server) - server.now_us) <= 1_000


@pytest.mark.parametrize("way", ["there_s", "back_s"])
async def test_an_answer_that_was_long_on_its_way_is_not_counted_on_from(way: str) -> None:
    """A network that stood still, a process that was stopped: its age is unknown, so ask again.

    Ahead by half of a minute, the leases of living workers would seem to have ended.
    """
    server = Server()
    time = ServerTime(lambda: server.ours)
    setattr(server, way, [60.0])
    for _ in range(2):
        assert abs(await time.now_us(server) - server.now_us) <= 1_001
        server.wait(0.1)

    assert server.asked == 2


async def test_a_server_that_is_always_slow_is_asked_each_time() -> None:
    """Its time is then too early by the way back at most, never too late."""
    server = Server()
    time = ServerTime(lambda: server.ours)
    slow = ROUND_TRIP_LONGEST_S
    for _ in range(2):
        server.there_s, server.back_s = [slow] * 10, [slow] * 10

        found = await time.now_us(server)
        assert server.now_us - found == int(slow * 1e6)
