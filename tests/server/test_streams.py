"""Event streams: every event once, from wherever a client goes on, whoever else is slow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from random import Random
from typing import Any

import aiohttp
import pytest
from tests.server.support import running

from durably import JobQueueService, StoreError
from durably.server.audit import AUDIT_SUBJECT, ENQUEUE_SUBJECT
from durably.server.streams import KEEP_ALIVE_S, EventLog, send_stream
from durably.stores.memory import MemoryStore
from durably.testing import VirtualClock, until
from durably.testing.faults import Call, Fault, FaultyStore


async def emit(queue: JobQueueService, *subjects: str, topic: str = "instance.starting") -> None:
    changes = queue.changeset()
    for subject in subjects:
        changes.emit(topic, subject, {"about": subject})
    await queue.commit(changes)


def ids(chunk: bytes) -> list[int]:
    return [int(line[4:]) for line in chunk.decode().splitlines() if line.startswith("id: ")]


async def following(
    log: EventLog, after: int | None, subject: str | None, *, last: int, pause: float = 0.0
) -> list[int]:
    """The ids that a follower is given, until it has been given *last*."""
    found: list[int] = []
    async with aclosing(log.follow(after, subject)) as chunks:
        async for chunk in chunks:
            found += ids(chunk)
            if found and found[-1] >= last:
                return found
            await asyncio.sleep(pause)
    return found


async def test_followers_get_each_event_once_wherever_they_start() -> None:
    """Also across the seam of memory and store, also beside writers, also when they are slow."""
    random = Random(7)
    queue = JobQueueService("memory://")
    async with queue, EventLog(queue, queue._clock) as log:
        total = 3_000
        followers = [
            asyncio.ensure_future(
                following(log, 0, None, last=total, pause=random.choice([0, 0.001]))
            )
            for _ in range(5)
        ]
        late: list[tuple[int, asyncio.Future[list[int]]]] = []
        written = 0
        while written < total:
            batch = min(random.randrange(1, 120), total - written)
            await emit(queue, *(f"i{n % 3}" for n in range(batch)))
            written += batch
            if random.random() < 0.3:
                start = random.randrange(written)
                behind = following(log, start, None, last=total, pause=random.choice([0, 0.002]))
                late.append((start, asyncio.ensure_future(behind)))
        async with asyncio.timeout(60):
            for follower in followers:
                assert await follower == list(range(1, total + 1))
            for start, other in late:
                assert await other == list(range(start + 1, total + 1))
    assert late


async def test_a_subject_has_its_own_events_only_and_its_whole_timeline() -> None:
    """Without an id the story begins at its beginning; the end of the instance ends the stream."""
    queue = JobQueueService("memory://")
    async with queue, EventLog(queue, queue._clock) as log:
        await emit(queue, "a", "b", "a", AUDIT_SUBJECT)
        follower = asyncio.ensure_future(following(log, None, "a", last=10**9))
        await until(lambda: log.followers == 1)
        await emit(queue, "b", "a")
        await emit(queue, "a", topic="instance.terminated")
        assert await asyncio.wait_for(follower, 30) == [1, 3, 6, 7]


async def test_all_events_begin_with_what_comes_next_and_leave_the_audit_out() -> None:
    """A new viewer is not told the past; what admins may read stays theirs."""
    queue = JobQueueService("memory://")
    async with queue, EventLog(queue, queue._clock) as log:
        await emit(queue, "a", "a")
        chunks = log.follow(None, None)
        assert await anext(chunks) == b"retry: 2000\n\n"
        next_chunk = asyncio.ensure_future(anext(chunks))
        await until(lambda: log._reader is not None)
        await emit(queue, AUDIT_SUBJECT, ENQUEUE_SUBJECT, "b")
        assert ids(await asyncio.wait_for(next_chunk, 30)) == [5]
        await chunks.aclose()


@pytest.mark.parametrize("after", [2, 500])
async def test_an_id_that_is_not_there_yet_means_what_comes_next(after: int) -> None:
    """A client that comes with the id of another store is not left waiting for it."""
    queue = JobQueueService("memory://")
    async with queue, EventLog(queue, queue._clock) as log:
        await emit(queue, "a", "a")
        follower = asyncio.ensure_future(following(log, after, None, last=3))
        await until(lambda: log._reader is not None)
        await emit(queue, "a")
        assert await asyncio.wait_for(follower, 30) == [3]


async def test_events_of_other_processes_are_found() -> None:
    """Without a notice from the store the log is looked at every half second."""
    clock = VirtualClock()
    store = MemoryStore(clock=clock)
    queue = JobQueueService(store, clock=clock)
    async with queue, EventLog(queue, clock) as log:
        listeners = store._listeners[:]
        store._listeners.clear()
        follower = asyncio.ensure_future(following(log, None, None, last=1))
        await until(lambda: log._reader is not None)
        await emit(queue, "a")
        while not follower.done():
            await clock.advance(0.25)
        assert follower.result() == [1]
        store._listeners += listeners


async def test_nobody_follows_nobody_asks() -> None:
    """The store hears nothing of a log that nobody reads, before the first and after the last."""
    clock = VirtualClock()
    store = FaultyStore(MemoryStore(clock=clock))
    queue = JobQueueService(store, clock=clock)
    async with queue, EventLog(queue, clock) as log:
        await clock.advance(10)
        assert store.calls["events"] == 0
        chunks = log.follow(None, None)
        await anext(chunks)
        waiting = asyncio.ensure_future(anext(chunks))
        await until(lambda: store.calls["events"] > 0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await chunks.aclose()
        await clock.advance(2)
        asked = store.calls["events"]
        await clock.advance(10)
        assert store.calls["events"] == asked


async def test_a_silent_stream_is_kept_alive() -> None:
    """A comment every 15 s, also while others are told something."""
    clock = VirtualClock()
    queue = JobQueueService(MemoryStore(clock=clock), clock=clock)
    async with queue, EventLog(queue, clock) as log:
        chunks = log.follow(None, "a")
        await anext(chunks)
        waiting = asyncio.ensure_future(anext(chunks))
        await until(lambda: log._reader is not None)
        for _ in range(int(KEEP_ALIVE_S) + 1):
            assert not waiting.done() or clock.monotonic() >= KEEP_ALIVE_S
            await emit(queue, "b")
            await clock.advance(1)
        assert await asyncio.wait_for(waiting, 30) == b": keep-alive\n\n"
        await chunks.aclose()


async def test_closing_ends_every_stream() -> None:
    """Those that are open, and those that come later."""
    queue = JobQueueService("memory://")
    async with queue, EventLog(queue, queue._clock) as log:
        open_ones = [
            asyncio.ensure_future(following(log, None, None, last=10**9)) for _ in range(3)
        ]
        await until(lambda: log.followers == 3)
        log.close()
        assert await asyncio.gather(*open_ones) == [[], [], []]
        assert await following(log, None, None, last=10**9) == []


async def test_a_store_that_fails_for_a_while_loses_nothing() -> None:
    """Followers stay, and get what has been written meanwhile."""
    failing = False

    def plan(call: Call) -> Fault | None:
        return Fault.FAIL_BEFORE if failing and call.name == "events" else None

    store = FaultyStore(MemoryStore(), plan)
    queue = JobQueueService(store)
    async with queue, EventLog(queue, queue._clock) as log:
        follower = asyncio.ensure_future(following(log, None, None, last=2))
        await until(lambda: log._reader is not None)
        failing = True
        await emit(queue, "a")
        tried = store.calls["events"]
        await until(lambda: store.calls["events"] > tried)
        failing = False
        await emit(queue, "b")
        assert await asyncio.wait_for(follower, 30) == [1, 2]
        failing = True
        with pytest.raises(StoreError):
            await queue.get_events()


async def never() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_client_that_takes_nothing_is_dropped_alone() -> None:
    """One stuck socket among 500 does not hold up the others."""
    queue = JobQueueService("memory://")
    async with queue, EventLog(queue, queue._clock) as log:
        heard = [0] * 500
        stuck = asyncio.Event()

        def sender(number: int) -> Any:
            async def send(message: dict[str, Any]) -> None:
                if number == 0 and message["type"] == "http.response.body":
                    stuck.set()
                    await asyncio.Event().wait()
                heard[number] += len(ids(message.get("body", b"")))

            return send

        streams = [
            asyncio.ensure_future(
                send_stream(
                    never, sender(n), log.follow(None, None), patience=0.5 if n == 0 else 60
                )
            )
            for n in range(500)
        ]
        await until(lambda: log.followers == 499, timeout=30)
        assert stuck.is_set()
        for _ in range(20):
            await emit(queue, "a", "b")
        await until(lambda: heard[1:] == [40] * 499, timeout=60)
        await asyncio.wait_for(streams[0], 30)
        assert heard[0] == 0
        log.close()
        await asyncio.gather(*streams)


async def test_a_client_that_leaves_ends_its_stream() -> None:
    """Nothing of it stays behind."""
    queue = JobQueueService("memory://")
    left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(_: dict[str, Any]) -> None:
        return None

    async with queue, EventLog(queue, queue._clock) as log:
        stream = asyncio.ensure_future(
            send_stream(receive, send, log.follow(None, None), patience=60)
        )
        await until(lambda: log.followers == 1)
        left.set()
        await asyncio.wait_for(stream, 30)
        assert log.followers == 0


# Over HTTP


async def lines(stream: aiohttp.StreamReader) -> AsyncIterator[str]:
    while line := await stream.readline():
        yield line.decode().rstrip("\n")


async def test_a_stream_over_http_is_resumed_by_its_last_id() -> None:
    """Media type, fields, and no event missing or twice when the connection is made again."""
    async with running() as api:
        instance_id = await api.instance()
        await api.reaches(instance_id, "ready")
        seen: list[tuple[str, str]] = []
        after = ""
        while True:
            headers = {} if not after else {"Last-Event-ID": after}
            url = f"{api.url}/api/instances/{instance_id}/events"
            async with api.session.get(url, headers=headers) as answer:
                assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
                assert answer.headers["X-Accel-Buffering"] == "no"
                fields: dict[str, str] = {}
                async for line in lines(answer.content):
                    name, _, value = line.partition(": ")
                    if line:
                        fields[name] = value
                    elif "id" in fields:
                        break
            seen.append((fields["id"], fields["event"]))
            after = fields["id"]
            if fields["event"] == "instance.ready":
                break
        detail = (await api.get(f"/api/instances/{instance_id}")).json
        assert seen == [(str(e["id"]), e["type"]) for e in detail["timeline"]]


async def test_five_hundred_streams_hold_over_http() -> None:
    """All of them are told, and the API answers meanwhile."""
    async with running() as api:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def first_event() -> bytes:
                async with session.get(f"{api.url}/api/events") as answer:
                    async for line in lines(answer.content):
                        if line.startswith("id: "):
                            return line.encode()
                raise AssertionError("no event")

            streams = [asyncio.ensure_future(first_event()) for _ in range(500)]
            await until(lambda: api.service.log.followers == 500, timeout=60)
            instance_id = await api.instance()
            assert len(set(await asyncio.wait_for(asyncio.gather(*streams), 60))) == 1
            await api.reaches(instance_id, "ready")
        await until(lambda: api.service.log.followers == 0, timeout=30)
