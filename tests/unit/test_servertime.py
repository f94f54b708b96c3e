from typing import Any

from durably.stores.postgres.servertime import ASKED_EVERY_S, ServerTime


class Server:
    """A connection to a server whose clock says what it is told to, and a clock of our own."""

    def __init__(self) -> None:
        self.now_us = 1_000_000_000
        self.ours = 50.0
        self.asked = 0

    async def fetchval(self, _: str) -> Any:
        self.asked += 1
        self.ours += 0.002  # the way there and back
        return self.now_us


async def test_the_server_is_asked_once_a_second_at_most() -> None:
    """In between its time goes on by our own clock, from the middle of the round trip."""
    server = Server()
    time = ServerTime(lambda: server.ours)
    first = await time.now_us(server)
    server.ours += 0.5
    second = await time.now_us(server)

    assert first == 1_000_000_000
    assert abs(second - first - 501_000) <= 1
    assert server.asked == 1


async def test_a_clock_that_was_set_is_followed() -> None:
    """At the next question, forwards and backwards."""
    server = Server()
    time = ServerTime(lambda: server.ours)
    await time.now_us(server)
    for hour_us in (3_600_000_000, -7_200_000_000):
        server.now_us += hour_us
        server.ours += 2 * ASKED_EVERY_S

        assert await time.now_us(server) == server.now_us
