"""Webhook deliveries as jobs: order, retries, disabled targets, and what is kept of each attempt."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from tests.instances.support import LONG_S, SECRET, Receiver, World, receiving, serving

from durably import JobStatus, PayloadError, SystemClock
from durably.instances import DeliveryStatus, InstanceStatus, WebhookDelivery
from durably.instances.delivery import DeliveryResult
from durably.instances.events import after_attempt, delivery_id
from durably.testing import until

READY = InstanceStatus.READY
AT = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)


async def attempts(world: World, instance_id: str, sequence: int) -> int:
    """How many attempts a delivery has had."""
    deliveries = await world.service.deliveries(instance_id)
    return len(deliveries[sequence - 1].attempts)


def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@asynccontextmanager
async def another_receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


# Deliveries of an instance's events


async def test_a_failed_delivery_is_retried_with_the_same_id() -> None:
    """Every attempt is kept with its status; the job has spent one attempt only."""
    async with serving() as world:
        world.receiver.answers = [500, 503]
        asked = await world.create()
        await world.reaches(asked, READY)
        await world.delivers_all(asked)
        creating, ready = await world.service.deliveries(asked.id)
        assert creating.job_id is not None
        job = await world.queue.wait(creating.job_id, timeout=LONG_S)

        posts = [event for event in world.receiver.events if event["id"] == creating.id]
        assert [post["answer"] for post in posts] in ([500, 503, 204], [500, 204])
        assert [attempt.status for attempt in creating.attempts] == [p["answer"] for p in posts]
        assert creating.attempts[0].error == "HTTP status 500"
        assert creating.attempts[-1].error is None
        assert creating.status is ready.status is DeliveryStatus.DELIVERED
        assert creating.id == delivery_id(asked.id, 1)
        assert posts[0] == posts[1] | {"answer": 500}
        assert job.attempts == 1


async def test_first_attempts_go_out_in_sequence() -> None:
    """While the first event's attempt is under way, the next event waits."""
    arrived, released = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        arrived.set()
        await released.wait()

    async with serving() as world:
        world.receiver.hold = hold
        asked = await world.create(template_id="107672")
        await arrived.wait()
        await world.reaches(asked, READY)
        assert world.receiver.arrived == 1
        assert [await attempts(world, asked.id, n) for n in (1, 2, 3)] == [0, 0, 0]

        released.set()
        await world.hears("creating", "health_checking", "ready")
        assert [event["sequence"] for event in world.receiver.events] == [1, 2, 3]


async def test_a_failing_event_does_not_hold_back_later_ones() -> None:
    """Once it has had its first attempt, the others go out."""
    async with serving() as world:
        world.receiver.refused = {"instance.creating"}
        asked = await world.create(template_id="107672")
        await world.hears("health_checking", "ready")
        world.receiver.refused = set()
        await world.delivers_all(asked)

        assert world.receiver.types() == ["health_checking", "ready", "creating"]


async def test_a_cancelled_delivery_holds_nobody_back() -> None:
    """When a person cancels the first event's job, the next event goes out."""
    async with serving(started=False) as world:
        asked = await world.create()
        [creating] = await world.service.deliveries(asked.id)
        assert creating.job_id is not None
        await world.queue.cancel_job(creating.job_id)
        await world.service.start()
        await world.hears("ready")


async def test_a_receiver_that_is_down_is_tried_until_it_is_up() -> None:
    """Attempts without an answer are kept too."""
    async with another_receiver() as other, serving() as world:
        asked = await world.create(webhook_url=f"http://127.0.0.1:{closed_port()}/hook")
        await world.reaches(asked, READY)
        await until(lambda: _attempted(world, asked.id, 3), timeout=LONG_S)
        creating = (await world.service.deliveries(asked.id))[0]

        assert creating.status is DeliveryStatus.PENDING
        assert creating.attempts[0].status is None
        assert creating.attempts[0].error is not None
        assert creating.next_attempt_at is not None
        assert other.events == []


async def _attempted(world: World, instance_id: str, times: int) -> bool:
    return await attempts(world, instance_id, 1) >= times


class Shifted(SystemClock):
    """The machine's time, and as much later as it is told."""

    shift_s = 0

    def now_us(self) -> int:
        return super().now_us() + self.shift_s * 1_000_000


async def test_a_delivery_that_fails_for_24_hours_is_given_up() -> None:
    """Its job fails, and keeps for people to see what it met."""
    clock = Shifted()
    async with serving(clock=clock) as world:
        asked = await world.create(webhook_url=f"http://127.0.0.1:{closed_port()}/hook")
        await until(lambda: _attempted(world, asked.id, 1), timeout=LONG_S)
        clock.shift_s = 25 * 3_600
        [creating, *_] = await world.service.deliveries(asked.id)
        assert creating.job_id is not None
        job = await world.queue.wait(creating.job_id, timeout=LONG_S)

        assert job.status is JobStatus.FAILED
        assert job.error is not None
        assert job.error.startswith("given up after 2 attempts")
        [creating, *_] = await world.service.deliveries(asked.id)
        assert creating.status is DeliveryStatus.EXPIRED


async def test_410_disables_the_target() -> None:
    """Its other deliveries are not sent, which their records say; other targets go on."""
    async with another_receiver() as other, serving() as world:
        world.receiver.answers = [410] * 100
        asked = await world.create()
        await world.reaches(asked, READY)
        await world.delivers_all(asked)
        later = await world.create()
        await world.reaches(later, READY)
        await world.delivers_all(later)
        elsewhere = await world.create(webhook_url=other.url)
        await world.reaches(elsewhere, READY)
        await world.delivers_all(elsewhere)

        creating, ready = await world.service.deliveries(asked.id)
        unsent = await world.service.deliveries(later.id)
        assert [attempt.status for attempt in creating.attempts] == [410]
        assert {d.status for d in (creating, ready, *unsent)} == {DeliveryStatus.DISABLED}
        assert [d.attempts for d in (ready, *unsent)] == [(), (), ()]
        assert len(world.receiver.events) == 1
        assert other.types() == ["creating", "ready"]


async def test_a_person_can_retry_a_disabled_delivery() -> None:
    """What the target takes then enables it again."""
    async with serving() as world:
        world.receiver.answers = [410]
        asked = await world.create()
        await world.reaches(asked, READY)
        await world.delivers_all(asked)
        creating = (await world.service.deliveries(asked.id))[0]
        assert creating.job_id is not None
        await world.queue.retry_job(creating.job_id)
        job = await world.queue.wait(creating.job_id, timeout=LONG_S)
        later = await world.create()
        await world.reaches(later, READY)
        await world.hears("creating", "creating", "ready")

        assert job.status is JobStatus.COMPLETED
        creating = (await world.service.deliveries(asked.id))[0]
        assert [attempt.status for attempt in creating.attempts] == [410, 204]


async def test_the_secret_is_made_once_and_kept(sqlite_url: str) -> None:
    """Without a secret of its own, every service of a store signs with the same one."""
    async with serving(store=sqlite_url, started=False, webhook_secret=None) as world:
        secrets = {await world.service._records.webhook_secret() for _ in range(2)}
        record = await world.queue.get_record("webhook_secret", "webhook_secret")

        assert record is not None
        assert secrets == {record.value}
        assert record.version == 1
        assert str(record.value).startswith("whsec_")
        assert record.value != SECRET


# Webhooks enqueued by hand


async def test_a_webhook_made_by_hand_is_signed_and_kept() -> None:
    """The document's plain form: its id is the job's, and its attempts are kept."""
    async with serving() as world:
        job = await world.queue.add_job(
            "send_webhook",
            {"url": world.receiver.url, "payload": {"type": "x"}, "headers": {"x-tag": "1"}},
        )
        done = await world.queue.wait(job.id, timeout=LONG_S)
        record = await world.queue.get_record("delivery", job.id)

        assert done.result == "delivered"
        [event] = world.receiver.events
        assert event == {"id": job.id, "answer": 204, "type": "x"}
        assert record is not None
        assert record.value["status"] == "delivered"
        assert len(record.value["attempts"]) == 1


@pytest.mark.parametrize("name", ["webhook-id", "Host", "connection", "Transfer-Encoding"])
async def test_headers_of_the_protocols_are_refused_at_once(name: str) -> None:
    """What the sender sets cannot be set by a caller."""
    async with serving(started=False) as world:
        with pytest.raises(PayloadError, match=name):
            await world.queue.add_job(
                "send_webhook", {"url": "http://a.example", "payload": {}, "headers": {name: "x"}}
            )


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://127.0.0.1:1/", "file:///etc/passwd"])
async def test_an_internal_target_is_refused_for_good(url: str) -> None:
    """Nothing is sent, the job fails at its first attempt, and the delivery says refused."""
    async with serving(webhook_allow=()) as world:
        job = await world.queue.add_job("send_webhook", {"url": url, "payload": {}})
        done = await world.queue.wait(job.id, timeout=LONG_S)
        record = await world.queue.get_record("delivery", job.id)

        assert done.status is JobStatus.FAILED
        assert done.attempts == 1
        assert record is not None
        assert record.value["status"] == "refused"


async def test_a_job_for_an_unknown_delivery_fails_for_good() -> None:
    """A delivery's record says what is sent, not the job."""
    async with serving() as world:
        payload = {"url": world.receiver.url, "payload": {}, "deliveryId": "nope"}
        job = await world.queue.add_job("send_webhook", payload)
        done = await world.queue.wait(job.id, timeout=LONG_S)

        assert done.error == "no delivery has the id 'nope'"
        assert world.receiver.events == []


async def test_a_first_attempt_waits_for_a_failing_target_at_most_its_own_delay() -> None:
    """A target that fails for long holds a new delivery back for the base delay, no longer."""
    base = 0.2
    async with serving(retry_base_delay=base) as world:
        world.receiver.answers = [500] * 6
        first = await world.queue.add_job(
            "send_webhook", {"url": world.receiver.url, "payload": {"n": 1}}
        )
        await until(lambda: len(world.receiver.events) >= 4, timeout=LONG_S)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        second = await world.queue.add_job(
            "send_webhook", {"url": world.receiver.url, "payload": {"n": 2}}
        )
        await until(lambda: any(e.get("n") == 2 for e in world.receiver.events), timeout=LONG_S)
        waited = loop.time() - begun
        await world.queue.wait(first.id, timeout=LONG_S)
        await world.queue.wait(second.id, timeout=LONG_S)

        # The first delivery's fifth attempt comes 0.8 to 1.6 s after its fourth.
        assert waited < 0.7


# What an attempt makes of a delivery: pure


def delivery() -> WebhookDelivery:
    return WebhookDelivery(id="d-1", url="http://a.example/", payload={}, created_at=AT)


def attempt(
    before: WebhookDelivery, status: int | None, *, after: timedelta = timedelta(0)
) -> WebhookDelivery:
    """*before* after an attempt that long after the first one."""
    error = None if status == 204 else "trouble"
    return after_attempt(
        before,
        DeliveryResult(status=status, error=error, duration_s=0.1),
        at=AT + after,
        now=AT + after,
        delay=10.0,
    )


def test_a_delivery_is_given_up_after_24_hours() -> None:
    """It is pending for as long as an attempt fails earlier than that."""
    first = attempt(delivery(), 500)
    late = attempt(first, None, after=timedelta(hours=23, minutes=59))
    last = attempt(late, 500, after=timedelta(hours=24))

    assert first.status is late.status is DeliveryStatus.PENDING
    assert late.next_attempt_at == AT + timedelta(hours=23, minutes=59, seconds=10)
    assert last.status is DeliveryStatus.EXPIRED
    assert last.next_attempt_at is None
    assert [one.status for one in last.attempts] == [500, None, 500]


def test_a_late_success_is_a_success() -> None:
    """The last attempt decides, also after 24 hours."""
    last = attempt(attempt(delivery(), 500), 204, after=timedelta(hours=25))

    assert last.status is DeliveryStatus.DELIVERED


def test_gone_ends_a_delivery() -> None:
    """410 is the receiver's last word."""
    assert attempt(delivery(), 410).status is DeliveryStatus.DISABLED


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500, None])
def test_every_other_answer_is_a_failed_attempt(status: int | None) -> None:
    """Only 2xx takes a delivery, only 410 refuses it for good."""
    assert attempt(delivery(), status).status is DeliveryStatus.PENDING


def test_the_ids_of_an_instance_s_deliveries_sort_by_sequence() -> None:
    """They are read in order, however many there are."""
    numbers = list(range(1, 2_000))
    random.Random(1).shuffle(numbers)

    assert sorted(delivery_id("inst_1", n) for n in numbers) == [
        delivery_id("inst_1", n) for n in sorted(numbers)
    ]
