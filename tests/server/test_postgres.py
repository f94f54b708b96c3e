"""The instance service and the HTTP service on PostgreSQL, several processes' worth side by side."""

import asyncio

from tests.instances.support import REQUEST, serving
from tests.server.support import INSTANCE, Api, running

from durably.instances import InstanceStatus
from durably.testing import until


async def test_an_instance_is_created_watched_and_deleted(postgres_url: str) -> None:
    """The same program as on the other stores: one GPU, its events in order, none left."""
    async with serving(store=postgres_url) as world:
        asked = await world.create()
        await world.reaches(asked, InstanceStatus.READY)
        await world.hears("creating", "ready")
        assert await world.creates() == 1
        await world.service.delete_instance(asked.id)
        await world.reaches(asked, InstanceStatus.TERMINATED)
        assert await world.upstream() == []
        topics = [event.topic for event in await world.queue.get_events(subject=asked.id)]
        assert topics[0] == "instance.creating"
        assert topics[-1] == "instance.terminated"


async def test_a_stopped_service_is_continued_by_another(postgres_url: str) -> None:
    """What one has accepted another carries out."""
    async with serving(store=postgres_url, started=False) as first:
        asked = await first.service.create_instance(REQUEST)
    async with serving(store=postgres_url) as second:
        await second.reaches(asked, InstanceStatus.READY)
        assert await second.creates() == 1


async def test_two_services_are_one(postgres_url: str) -> None:
    """Keys, events, audit and answers are the same whichever process the client meets."""
    async with (
        running(store=postgres_url) as one,
        running(store=postgres_url, started=False) as other,
    ):
        follower = asyncio.ensure_future(first_chunk(other))
        await until(lambda: other.service.log.followers == 1)
        key = {"Idempotency-Key": "order-1"}
        answers = await asyncio.gather(
            *(api.post("/api/instances", INSTANCE, headers=key) for api in [one, other] * 4)
        )
        assert {answer.status for answer in answers} == {202}
        assert len({answer.body for answer in answers}) == 1
        instance_id = answers[0].json["instanceId"]
        assert instance_id.encode() in await asyncio.wait_for(follower, 30)
        await one.reaches(instance_id, "ready")
        shown = [(await api.get(f"/api/instances/{instance_id}")).json for api in (one, other)]
        assert shown[0] == shown[1]
        assert await one.world.creates() == 1
        entries = (await other.get("/api/audit")).json["entries"]
        assert [entry["action"] for entry in entries] == ["instance.create"]
        assert (await other.get("/health/ready")).json == {"status": "ready"}


async def first_chunk(api: Api) -> bytes:
    async for chunk in api.service.log.follow(None, None):
        if chunk.startswith(b"id:"):
            return bytes(chunk)
    raise AssertionError


async def test_events_are_seen_in_the_order_of_their_ids(postgres_url: str) -> None:
    """Two that write at once: no reader passes an id that is committed after a larger one."""
    async with (
        running(store=postgres_url, started=False) as one,
        running(store=postgres_url, started=False) as other,
    ):
        seen: list[int] = []

        async def read() -> None:
            while len(seen) < 400:
                events = await one.queue.get_events(after=seen[-1] if seen else 0, limit=50)
                seen.extend(event.id for event in events)

        async def write(api: Api) -> None:
            for n in range(200):
                changes = api.queue.changeset()
                changes.emit("topic", "subject", n)
                await api.queue.commit(changes)

        await asyncio.wait_for(asyncio.gather(read(), write(one), write(other)), 60)
        assert len(set(seen)) == 400
