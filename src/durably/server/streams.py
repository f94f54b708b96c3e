"""The event stream: one reader of the store's event log per process, its followers cursors over it.

Invariants:

- The tail holds every event with an id above `_floor` up to `_last`, audit entries left out.
- A follower's cursor is the id up to which it has been given everything it follows. Between `_floor`
  and `_last` it reads the tail, below the store; so nothing is missed where one meets the other,
  and nothing is given twice.
- There is no buffer per follower: who reads slowly is a cursor that is behind.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from durably import Clock, Event, JobQueueService, StoreError
from durably.server.audit import AUDIT_SUBJECTS
from durably.server.redaction import Redactor
from durably.store import Notice, NoticeKind

KEEP_ALIVE_S = 15.0
POLL_INTERVAL_S = 0.5
"""Between looks for events of other processes, while somebody follows."""
GATHER_S = 0.02
"""Between readings in a burst: what comes meanwhile is read together."""
_TAIL = 1_024
_PAGE = 500
_LAST_OF_ALL = "instance.terminated"
"""Nothing follows on the timeline of an instance."""
_RETRY = b"retry: 2000\n\n"
_KEEP_ALIVE = b": keep-alive\n\n"
_log = logging.getLogger("durably.server")


class _Entry(NamedTuple):
    id: int
    subject: str
    topic: str
    chunk: bytes


class EventLog:
    """Follows the events of a queue's store, used as ``async with``; asks nothing while nobody does.

    Args:
        queue: whose events.
        clock: where time comes from.
        redactor: hides what is not shown; None: credentials in headers only.
    """

    def __init__(
        self, queue: JobQueueService, clock: Clock, redactor: Redactor | None = None
    ) -> None:
        self._redactor = redactor or Redactor()
        self._queue = queue
        self._clock = clock
        self._tail: deque[_Entry] = deque()
        self._floor = 0
        self._last = 0
        self._followers = 0
        self._reading = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._unsubscribe = self._queue.subscribe(self._notice)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._unsubscribe()
        self.close()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])

    def close(self) -> None:
        """End every stream, now and from now on."""
        self._closed.set()
        self._changed.set()

    @property
    def followers(self) -> int:
        """How many streams are open."""
        return self._followers

    async def follow(self, after: int | None, subject: str | None) -> AsyncGenerator[bytes, None]:
        """The events about *subject* (None: all) as chunks of an event stream, until it is closed.

        Args:
            after: the id to go on after; None, or one that does not exist yet: what comes next, or
                with a subject all there is of it.
            subject: the id of an instance; then it ends after ``instance.terminated``.
        """
        yield _RETRY
        self._followers += 1
        try:
            if not await self._begin():
                return  # the client comes again
            cursor = self._first_cursor(after, subject)
            beat = self._clock.monotonic() + KEEP_ALIVE_S
            while not self._closed.is_set():
                changed = self._changed
                entries, cursor = await self._beyond(cursor, subject)
                if entries:
                    yield b"".join(entry.chunk for entry in entries)
                    beat = self._clock.monotonic() + KEEP_ALIVE_S
                    if subject is not None and entries[-1].topic == _LAST_OF_ALL:
                        return
                elif cursor >= self._last and not await self._clock.wait(
                    changed, max(0.0, beat - self._clock.monotonic())
                ):
                    yield _KEEP_ALIVE
                    beat = self._clock.monotonic() + KEEP_ALIVE_S
        finally:
            self._followers -= 1

    def _first_cursor(self, after: int | None, subject: str | None) -> int:
        if after is None:
            return self._last if subject is None else 0
        return min(after, self._last)

    async def _beyond(self, cursor: int, subject: str | None) -> tuple[Sequence[_Entry], int]:
        """What comes beyond the cursor, and the cursor after it."""
        if cursor >= self._floor:
            found: deque[_Entry] = deque()
            for entry in reversed(self._tail):
                if entry.id <= cursor:
                    break
                if subject in (None, entry.subject):
                    found.appendleft(entry)
            return found, max(cursor, self._last)
        last = self._last
        try:
            page = await self._queue.get_events(after=cursor, subject=subject, limit=_PAGE)
        except StoreError:
            await self._clock.wait(self._closed, POLL_INTERVAL_S)
            return (), cursor
        # A page that is not full ends beyond all that had been read when it was asked for.
        ends = page[-1].id if len(page) == _PAGE else max(last, page[-1].id if page else 0)
        return self._entries(page), ends

    # Reading

    def _notice(self, notice: Notice) -> None:
        if notice.kind is NoticeKind.EVENTS:
            self._news.set()

    async def _begin(self) -> bool:
        """For a new follower: be up to date, and stay so; whether that can be done."""
        async with self._reading:
            try:
                if self._reader is not None and not self._reader.done():
                    await self._read()
                else:
                    await self._start_reader()
            except StoreError as error:
                _log.warning("the event log cannot be read: %s", error)
                return False
            return True

    async def _start_reader(self) -> None:
        newest = await self._queue.get_events(limit=1, newest_first=True)
        self._tail.clear()
        self._floor = self._last = newest[0].id if newest else 0
        self._reader = asyncio.get_running_loop().create_task(
            self._read_while_followed(), name="durably-event-log"
        )

    async def _read_while_followed(self) -> None:
        failing = False
        while self._followers and not self._closed.is_set():
            await self._clock.wait(self._news, POLL_INTERVAL_S)
            self._news.clear()
            try:
                async with self._reading:
                    await self._read()
                failing = False
            except StoreError as error:
                if not failing:
                    _log.warning("the event log cannot be read, it is tried again: %s", error)
                failing = True
            await self._clock.wait(self._closed, GATHER_S)

    async def _read(self) -> None:
        """Take what has been appended into the tail, and wake the followers."""
        full = True
        while full:
            page = await self._queue.get_events(after=self._last, limit=_PAGE)
            full = len(page) == _PAGE
            if page:
                self._tail.extend(self._entries(page))
                self._last = page[-1].id
                while len(self._tail) > _TAIL:
                    self._floor = self._tail.popleft().id
                self._changed.set()
                self._changed = asyncio.Event()

    def _entries(self, page: Sequence[Event]) -> list[_Entry]:
        return [
            _Entry(event.id, event.subject, event.topic, _chunk(event, self._redactor))
            for event in page
            if event.subject not in AUDIT_SUBJECTS
        ]


def _chunk(event: Event, redactor: Redactor) -> bytes:
    topic = event.topic.replace("\r", " ").replace("\n", " ")
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        event.id,
        topic.encode(),
        msgspec.json.encode(redactor.hide(event.data)),
    )


async def send_stream(
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
    chunks: AsyncGenerator[bytes, None],
    *,
    patience: float,
) -> None:
    """Send *chunks* as the answer until they end, the client leaves, or it takes nothing.

    Args:
        receive: of ASGI.
        send: of ASGI; waits while the client's buffers are full.
        chunks: closed in any case.
        patience: seconds that a client may take nothing.
    """
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    loop = asyncio.get_running_loop()
    sending = loop.create_task(_send_all(send, chunks, patience), name="durably-stream")
    leaving = loop.create_task(_disconnected(receive), name="durably-stream-watch")
    try:
        await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.wait([sending, leaving])
    if not sending.cancelled() and (error := sending.exception()) is not None:
        raise error


async def _send_all(
    send: Callable[[Any], Awaitable[None]], chunks: AsyncGenerator[bytes, None], patience: float
) -> None:
    body = {"type": "http.response.body", "body": b"", "more_body": True}
    try:
        async for chunk in chunks:
            async with asyncio.timeout(patience):
                await send({**body, "body": chunk})
        await send({**body, "more_body": False})
    except TimeoutError:
        _log.warning("a client of an event stream took nothing for %g s: dropped", patience)
    finally:
        await chunks.aclose()


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
