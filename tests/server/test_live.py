"""The live feed: rendered once for all, told when changed, resumed where a client was."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from durably import JobNotFoundError
from durably.server.live import (
    BEAT_S,
    PATIENCE_S,
    SHARE,
    SHARE_OF_ALL,
    TICK_S,
    TOPICS_MOST,
    Feed,
    Render,
)
from durably.testing import VirtualClock


class Source:
    """Something to render, and how often it was."""

    def __init__(self, value: Any = 0) -> None:
        self.value = value
        self.renderings = 0

    async def __call__(self) -> Any:
        self.renderings += 1
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class Told(msgspec.Struct):
    """One event as a client reads it."""

    topic: str
    id: str
    data: Any


class Viewer:
    """A client of the feed."""

    def __init__(self, feed: Feed, *topics: tuple[str, Render], cursor: str | None = None) -> None:
        self._chunks: AsyncGenerator[bytes, None] = feed.follow(topics, cursor)
        self._events: list[Told] = []

    async def next(self) -> Told:
        """The next event."""
        while not self._events:
            self._events = [
                _told(part) for part in (await anext(self._chunks)).split(b"\n\n") if part
            ]
            self._events = [event for event in self._events if event.topic]
        return self._events.pop(0)

    async def leave(self) -> None:
        await self._chunks.aclose()


def _told(part: bytes) -> Told:
    fields = dict(line.split(": ", 1) for line in part.decode().split("\n"))
    data = msgspec.json.decode(fields["data"]) if "data" in fields else None
    return Told(fields.get("event", ""), fields.get("id", ""), data)


async def test_a_viewer_is_told_the_state_and_each_change() -> None:
    """At once, then when a look shows something new; not when it shows the same."""
    clock, source = VirtualClock(), Source("first")
    async with Feed(clock, "boot") as feed:
        viewer = Viewer(feed, ("a", source))
        assert (await viewer.next()).data["data"] == "first"
        waiting = asyncio.ensure_future(viewer.next())
        await clock.advance(3 * TICK_S)
        assert not waiting.done()
        source.value = "second"
        await clock.advance(TICK_S)
        assert (await waiting).data["data"] == "second"
        await viewer.leave()


async def test_a_topic_is_rendered_once_for_all_its_viewers() -> None:
    """Two hundred viewers cost one rendering a look, and each is told."""
    clock, source = VirtualClock(), Source()
    async with Feed(clock, "boot") as feed:
        viewers = [Viewer(feed, ("a", source)) for _ in range(200)]
        first = await asyncio.gather(*(viewer.next() for viewer in viewers))
        assert {event.id for event in first} == {"boot-1"}
        before = source.renderings
        source.value = 1
        waiting = asyncio.gather(*(viewer.next() for viewer in viewers))
        await clock.advance(TICK_S)
        assert {event.data["data"] for event in await waiting} == {1}
        assert source.renderings == before + 1
        assert feed.followers == 200
        for viewer in viewers:
            await viewer.leave()
        assert feed.followers == 0


async def test_nothing_is_rendered_while_nobody_looks() -> None:
    """The store is left alone once the last viewer has gone."""
    clock, source = VirtualClock(), Source()
    async with Feed(clock, "boot") as feed:
        viewer = Viewer(feed, ("a", source))
        await viewer.next()
        await viewer.leave()
        await clock.advance(TICK_S)
        before = source.renderings
        await clock.advance(10 * TICK_S)
        assert source.renderings == before


async def test_who_comes_back_is_told_what_has_changed_since() -> None:
    """By the id of its last event: of two topics only the one that has changed."""
    clock, calm, lively = VirtualClock(), Source("calm"), Source(0)
    topics = (("calm", calm), ("lively", lively))
    async with Feed(clock, "boot") as feed:
        stays, leaves = Viewer(feed, *topics), Viewer(feed, *topics)
        assert {(await stays.next()).topic, (await stays.next()).topic} == {"calm", "lively"}
        await leaves.next()
        cursor = (await leaves.next()).id
        await leaves.leave()
        lively.value = 1
        waiting = asyncio.ensure_future(stays.next())
        await clock.advance(TICK_S)
        assert (await waiting).topic == "lively"
        back = Viewer(feed, *topics, cursor=cursor)
        event = await back.next()
        assert (event.topic, event.data["data"]) == ("lively", 1)
        await back.leave()
        await stays.leave()


async def test_a_cursor_of_another_process_begins_anew() -> None:
    """After a restart, or behind a balancer, everything is told; so it is for what is no cursor."""
    clock = VirtualClock()
    async with Feed(clock, "boot") as feed:
        for cursor in ("other-99", "boot-", "boot-x", "boot-99999999999999999999", "", "é"):
            viewer = Viewer(feed, ("a", Source("state")), cursor=cursor)
            if cursor.startswith("boot-9"):
                await viewer.leave()  # the newest state is known to who has seen a later one
                continue
            assert (await viewer.next()).data["data"] == "state", cursor
            await viewer.leave()


async def test_a_slow_viewer_skips_to_the_newest_state() -> None:
    """What it missed is not kept for it."""
    clock, source = VirtualClock(), Source(0)
    async with Feed(clock, "boot") as feed:
        viewer, other = Viewer(feed, ("a", source)), Viewer(feed, ("a", source))
        await viewer.next()
        await other.next()
        for value in range(1, 6):
            source.value = value
            waiting = asyncio.ensure_future(other.next())
            await clock.advance(TICK_S)
            await waiting
        assert (await viewer.next()).data["data"] == 5
        await viewer.leave()
        await other.leave()


async def test_a_topic_that_fails_tells_why_and_mends() -> None:
    """A problem takes the place of the data; other topics are not touched."""
    clock, broken, sound = VirtualClock(), Source(JobNotFoundError("x")), Source("sound")
    async with Feed(clock, "boot") as feed:
        viewer = Viewer(feed, ("broken", broken), ("sound", sound))
        events = {event.topic: event.data for event in [await viewer.next(), await viewer.next()]}
        assert events["broken"]["problem"]["status"] == 404
        assert events["sound"]["data"] == "sound"
        broken.value = "mended"
        waiting = asyncio.ensure_future(viewer.next())
        await clock.advance(TICK_S)
        assert (await waiting).data["data"] == "mended"
        await viewer.leave()


async def test_a_topic_that_hangs_says_so_and_holds_up_no_other() -> None:
    """Its place has a problem; the others go on; what comes of it at last is shown."""
    clock, sound, freed = VirtualClock(), Source(0), asyncio.Event()

    async def hangs() -> str:
        await freed.wait()
        return "at last"

    async with Feed(clock, "boot") as feed:
        viewer = Viewer(feed, ("hangs", hangs), ("sound", sound))
        first = asyncio.ensure_future(viewer.next())
        await clock.advance(PATIENCE_S)
        events = {event.topic: event.data for event in [await first, await viewer.next()]}
        assert events["hangs"]["problem"]["status"] == 503
        assert events["sound"]["data"] == 0
        for value in (1, 2):
            sound.value = value
            waiting = asyncio.ensure_future(viewer.next())
            await clock.advance(TICK_S)
            assert (await waiting).data["data"] == value
        waiting = asyncio.ensure_future(viewer.next())
        freed.set()
        await clock.advance(TICK_S)
        assert (await waiting).data["data"] == "at last"
        await viewer.leave()


async def test_a_topic_that_begins_to_hang_holds_up_no_other() -> None:
    """After one wait for it, the others are looked at as ever."""
    clock, sound, held = VirtualClock(), Source(0), asyncio.Event()
    held.set()

    async def hangs() -> str:
        await held.wait()
        return "fine"

    async with Feed(clock, "boot") as feed:
        viewer = Viewer(feed, ("hangs", hangs), ("sound", sound))
        assert {(await viewer.next()).topic, (await viewer.next()).topic} == {"hangs", "sound"}
        held.clear()
        waiting = asyncio.ensure_future(viewer.next())
        await clock.advance(TICK_S + PATIENCE_S)
        told = await waiting
        if told.topic == "beat":  # it may come in between
            told = await viewer.next()
        assert (told.topic, told.data["problem"]["status"]) == ("hangs", 503)
        sound.value = 1
        waiting = asyncio.ensure_future(viewer.next())
        await clock.advance(TICK_S)
        assert (await waiting).data["data"] == 1
        await viewer.leave()


async def test_a_topic_that_fails_is_logged_when_its_problem_is_new(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not each second while the store is away."""
    clock, broken = VirtualClock(), Source(OSError("gone"))
    async with Feed(clock, "boot") as feed:
        viewer = Viewer(feed, ("broken", broken))
        await viewer.next()
        await clock.advance(5 * TICK_S)
        assert broken.renderings > 3
        assert len(caplog.records) == 1
        await viewer.leave()


async def test_a_full_feed_still_shows_what_is_followed() -> None:
    """Only what would have to be rendered besides is refused."""
    async with Feed(VirtualClock(), "boot") as feed:
        viewer = Viewer(feed, *((f"t{n}", Source()) for n in range(TOPICS_MOST)))
        await viewer.next()
        assert feed.has_room(["t0", "t1"])
        assert not feed.has_room(["t0", "new"])
        await viewer.leave()
        assert feed.has_room(["new"])


async def test_silence_is_broken_by_a_beat() -> None:
    """So that a client can tell a quiet line from a dead one."""
    clock = VirtualClock()
    async with Feed(clock, "boot") as feed:
        viewer = Viewer(feed, ("a", Source()))
        await viewer.next()
        waiting = asyncio.ensure_future(viewer.next())
        await clock.advance(BEAT_S)
        assert (await waiting).topic == "beat"
        await viewer.leave()


async def test_rendering_takes_no_more_than_its_share_of_the_time() -> None:
    """A look that took 2 s is followed by a pause of ten times that."""
    clock = VirtualClock()
    slow = Source()

    async def render() -> int:
        if slow.renderings:
            await clock.wait(asyncio.Event(), 2.0)
        await slow()
        return slow.renderings

    async with Feed(clock, "boot") as feed:
        viewer = Viewer(feed, ("a", render))
        await viewer.next()
        await clock.advance(2.0 + TICK_S)
        before = slow.renderings
        await clock.advance(2.0 * SHARE - 1)
        assert slow.renderings <= before + 1
        await viewer.leave()


async def test_a_slow_topic_slows_no_other() -> None:
    """While one that takes 2 s pauses for twenty, another is looked at every second."""
    clock = VirtualClock()
    quick = Source()
    looks = 0

    async def render_slowly() -> int:
        nonlocal looks
        looks += 1
        if looks > 1:
            await clock.wait(asyncio.Event(), 2.0)
        return looks

    async with Feed(clock, "boot") as feed:
        viewer = Viewer(feed, ("slow", render_slowly), ("quick", quick))
        await viewer.next()
        await clock.advance(TICK_S)
        await clock.advance(
            2.0 + 2.0 * SHARE_OF_ALL
        )  # the look that is slow, and the pause after it
        before, looked = quick.renderings, looks
        for _ in range(8):
            await clock.advance(TICK_S)
        assert quick.renderings >= before + 7
        assert looks == looked
        await viewer.leave()


async def test_closing_ends_every_stream() -> None:
    """At the end of the service nobody is left waiting, and newcomers are let go."""
    clock = VirtualClock()
    async with Feed(clock, "boot") as feed:
        viewer = Viewer(feed, ("a", Source()))
        await viewer.next()
        chunks = feed.follow([("a", Source())], None)
        waiting = asyncio.ensure_future(viewer.next())
        await asyncio.sleep(0)
        feed.close()
        for ending in (waiting, _drained(chunks)):
            try:
                await ending
            except StopAsyncIteration:
                continue


async def _drained(chunks: AsyncGenerator[bytes, None]) -> None:
    async for _ in chunks:
        pass
