"""What a page shows, kept up to date: each topic is rendered once for all who follow it.

Invariants:

- A topic's version is given out anew by each change of what it shows, and never given out twice in a
  process; a follower's cursor is the version up to which it has been told everything.
- There is no buffer per follower: who reads slowly skips to the newest state.
- While nobody follows, nothing is rendered.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from durably import Clock
from durably.domain.clock import to_datetime
from durably.server.errors import ApiError, api_error, log

TICK_S = 1.0
"""Between two looks, while somebody follows."""
BEAT_S = 10.0
"""Without news a follower is told the time so often: it may take longer silence for a lost line."""
SHARE = 10
"""A topic is rendered for one part in so many of the time at most: one that is slow slows no other."""
SHARE_OF_ALL = 2
"""So many times as long as a round took passes until the next."""
PATIENCE_S = 10.0
"""A topic that takes longer to render says so, and the others are gone on with."""
TOPICS_MOST = 256
_RETRY = b"retry: 2000\n\n"

Render = Callable[[], Awaitable[Any]]
"""Gives what a topic shows, ready for JSON."""


class _Topic:
    """What some page shows."""

    def __init__(self, key: tuple[str, str], render: Render) -> None:
        self.key = key
        _, self.name = key
        self.render = render
        self.followers = 0
        self.version = 0
        self.shown = b""
        self.chunk = b""
        self.due = 0.0
        """When it may be looked at again."""
        self.looking: asyncio.Task[None] | None = None
        self.looked = asyncio.Event()
        """Set when the look in progress has ended."""


class Feed:
    """Renders the topics that somebody follows, used as ``async with``.

    Args:
        clock: where time comes from.
        boot: tells this process's versions from those of others.
    """

    def __init__(self, clock: Clock, boot: str | None = None) -> None:
        self._clock = clock
        self._boot = boot or secrets.token_hex(4)
        self._topics: dict[tuple[str, str], _Topic] = {}
        """By audience and name."""
        self._version = 0
        self._told = 0
        """The version when followers were last woken."""
        self._followers = 0
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        looks = [topic.looking for topic in self._topics.values()]
        tasks = [task for task in (self._task, *looks) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def close(self) -> None:
        """End every stream, now and from now on."""
        self._closed.set()
        self._tell()

    @property
    def followers(self) -> int:
        """How many streams are open."""
        return self._followers

    async def follow(
        self, topics: Sequence[tuple[str, Render]], cursor: str | None, audience: str = ""
    ) -> AsyncGenerator[bytes, None]:
        """The state of *topics* as chunks of an event stream, then each change, until it is closed.

        Args:
            topics: names, and what renders them; the name stands for what is rendered.
            cursor: the id of the last event that was received; None: nothing was.
            audience: only those of the same are shown the same under a name.
        """
        yield _RETRY
        followed = [self._join((audience, name), render) for name, render in topics]
        self._followers += 1
        try:
            # All at once: one that hangs does not add its wait to those of the others.
            await asyncio.gather(*(self._look_at(one) for one in followed if not one.version))
            told = self._resumed(cursor)
            beat = self._clock.monotonic() + BEAT_S
            while not self._closed.is_set():
                changed = self._changed
                news = sorted(
                    (topic for topic in followed if topic.version > told),
                    key=lambda topic: topic.version,
                )
                if news:
                    told = news[-1].version
                    yield b"".join(topic.chunk for topic in news)
                    beat = self._clock.monotonic() + BEAT_S
                elif not await self._clock.wait(changed, max(0.0, beat - self._clock.monotonic())):
                    yield b'event: beat\ndata: "%s"\n\n' % self._now()
                    beat = self._clock.monotonic() + BEAT_S
        finally:
            self._followers -= 1
            for topic in followed:
                self._leave(topic)

    # Topics

    def _join(self, key: tuple[str, str], render: Render) -> _Topic:
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = _Topic(key, render)
        topic.followers += 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(
                self._run(), name="durably-live-feed"
            )
        return topic

    def _leave(self, topic: _Topic) -> None:
        topic.followers -= 1
        if not topic.followers:
            self._topics.pop(topic.key, None)
            if topic.looking is not None:
                topic.looking.cancel()
            topic.looked.set()

    def has_room(self, names: Iterable[str], audience: str = "") -> bool:
        """Whether these topics are taken: those that somebody follows already are in any case."""
        new = sum(1 for name in names if (audience, name) not in self._topics)
        return not new or len(self._topics) + new <= TOPICS_MOST

    def _resumed(self, cursor: str | None) -> int:
        boot, _, version = (cursor or "").partition("-")
        known = boot == self._boot and version.isascii() and version.isdigit()
        return min(int(version[:19]), self._version) if known else 0

    # Rendering

    async def _run(self) -> None:
        while self._topics and not self._closed.is_set():
            took = 0.0
            for topic in list(self._topics.values()):
                started = self._clock.monotonic()
                if topic.looking is None and topic.due <= started and await self._look_at(topic):
                    ended = self._clock.monotonic()
                    topic.due = ended + (ended - started) * SHARE
                    took += ended - started
            if self._version != self._told:
                self._tell()  # once for all: each turn wakes every follower
            await self._clock.wait(self._closed, max(TICK_S, took * SHARE_OF_ALL))

    async def _look_at(self, topic: _Topic) -> bool:
        """Look at a topic, or wait for the look in progress. False: it goes on, and that is shown."""
        if topic.looking is None:
            topic.looked = asyncio.Event()
            topic.looking = asyncio.get_running_loop().create_task(
                self._look(topic), name="durably-live-look"
            )
        if await self._clock.wait(topic.looked, PATIENCE_S):
            return True
        self._show(topic, _problem(_too_slow()))
        return False

    async def _look(self, topic: _Topic) -> None:
        """Render a topic."""
        try:
            shown = b'"data":' + msgspec.json.encode(await topic.render())
        except Exception as error:  # noqa: BLE001  # it belongs to this topic, others go on
            told = api_error(error)
            shown = _problem(told)
            if shown != topic.shown:  # once, not at each look
                log(told, error, f"live topic {topic.name}")
        finally:
            topic.looking = None
            topic.looked.set()
        self._show(topic, shown)

    def _show(self, topic: _Topic, shown: bytes) -> None:
        """If it is something new, that is the topic's next version."""
        if shown != topic.shown:
            self._version += 1
            topic.version, topic.shown = self._version, shown
            topic.chunk = b'event: %s\nid: %s-%d\ndata: {"at":"%s",%s}\n\n' % (
                topic.name.encode(),
                self._boot.encode(),
                self._version,
                self._now(),
                shown,
            )

    def _tell(self) -> None:
        self._told = self._version
        self._changed.set()
        self._changed = asyncio.Event()

    def _now(self) -> bytes:
        at = msgspec.json.encode(to_datetime(self._clock.now_us()))
        return at[1:-1]


def _problem(told: ApiError) -> bytes:
    return b'"problem":' + msgspec.json.encode(told.problem(""))


def _too_slow() -> ApiError:
    return ApiError(
        503, "unavailable", f"no answer within {PATIENCE_S:g} s; it is still waited for"
    )


def too_many_topics() -> ApiError:
    """The answer when no further topic is taken."""
    return ApiError(
        503,
        "too_many_views",
        f"{TOPICS_MOST} different views are being followed; close some, or try again later",
        headers={"Retry-After": "10"},
    )
