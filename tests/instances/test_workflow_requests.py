"""Requests for instances: what is accepted, what is refused, and how they are listed."""

from typing import Any

import pytest
from tests.instances.support import REQUEST, SECRET, serving

from durably import JobQueueService
from durably.instances import Fault, InstanceStatus, JobWorkerService, NovitaClient, ValidationError

BODY: dict[str, Any] = {"name": "web-1", "productName": "RTX 4090 24GB", "templateId": "bare"}


async def test_what_is_left_out_has_the_contract_s_defaults() -> None:
    """One spot GPU, 60 GB, Hong Kong first, no webhook."""
    async with serving(started=False) as world:
        asked = await world.service.create_instance(BODY)

        assert asked.gpu_num == 1
        assert asked.rootfs_size == 60
        assert asked.region == "CN-HK-01"
        assert asked.billing_mode == "spot"
        assert asked.webhook_url is None
        assert asked.status is InstanceStatus.CREATING
        assert await world.service.get(asked.id) == asked


async def test_a_request_is_durable_with_its_job_and_event() -> None:
    """All three are there when the call returns, and nothing was asked of the provider."""
    async with serving(started=False) as world:
        asked = await world.create()
        job = await world.queue.get_job(asked.jobs["create_instance"])
        [event] = await world.queue.get_events(subject=asked.id)
        [delivery] = await world.service.deliveries(asked.id)

        assert job is not None
        assert job.unique_key == asked.id
        assert event.topic == delivery.type == "instance.creating"
        assert delivery.status == "pending"
        assert await world.control("billing") == {
            "instances": [],
            "billingNow": 0,
            "created": 0,
            "creates": [],
        }


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a"},
        {"name": "A-b_9" * 20},
        {"productName": "x" * 200},
        {"templateId": 107672},
        {"templateId": " bare "},
        {"gpuNum": 8},
        {"rootfsSize": 20},
        {"rootfsSize": 1_000},
        {"region": "EU-XX-99"},
        {"billingMode": "onDemand"},
        {"webhookUrl": None},
        {"webhookUrl": "https://nowhere.invalid:8443/hook?key=1"},
        {"unknown": "ignored"},
    ],
    ids=str,
)
async def test_what_the_contract_allows_is_accepted(changes: dict[str, Any]) -> None:
    """The bounds of each field belong to it."""
    async with serving(started=False) as world:
        await world.service.create_instance({**BODY, **changes})


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"name": ""}, "name", "must have 1 to 100 characters"),
        ({"name": "x" * 101}, "name", "must have 1 to 100 characters"),
        ({"name": "a b"}, "name", "letters, digits, hyphens and underscores, got 'a b'"),
        ({"name": " a"}, "name", "letters, digits, hyphens and underscores, got ' a'"),
        ({"name": "ä"}, "name", "letters, digits, hyphens and underscores"),
        ({"name": 7}, "name", "must be a string, got int"),
        ({"productName": None}, "productName", "is required"),
        ({"productName": "x" * 201}, "productName", "must have 1 to 200 characters"),
        ({"productName": "a\0b"}, "productName", "must not contain NUL"),
        ({"productName": "a\ud800"}, "productName", "must not contain NUL or lone surrogates"),
        ({"templateId": "  "}, "templateId", "Template ID is required"),
        ({"templateId": 0}, "templateId", "Template ID is required"),
        ({"templateId": True}, "templateId", "Template ID is required"),
        ({"gpuNum": 0}, "gpuNum", "must be 1 to 8, got 0"),
        ({"gpuNum": 9}, "gpuNum", "must be 1 to 8, got 9"),
        ({"gpuNum": 1.5}, "gpuNum", "must be a whole number from 1 to 8, got float"),
        ({"gpuNum": True}, "gpuNum", "must be a whole number from 1 to 8, got bool"),
        ({"rootfsSize": 19}, "rootfsSize", "must be 20 to 1000, got 19"),
        ({"rootfsSize": 1_001}, "rootfsSize", "must be 20 to 1000, got 1001"),
        ({"region": ""}, "region", "must have 1 to 100 characters"),
        ({"billingMode": "monthly"}, "billingMode", "must be one of spot, onDemand"),
        ({"billingMode": ["spot"]}, "billingMode", "must be one of spot, onDemand, got list"),
        ({"webhookUrl": "ftp://a.example"}, "webhookUrl", "must begin with http:// or https://"),
        ({"webhookUrl": "http://10.0.0.1/"}, "webhookUrl", "DURABLY_WEBHOOK_ALLOW"),
        ({"webhookUrl": "http://localhost/"}, "webhookUrl", "DURABLY_WEBHOOK_ALLOW"),
        ({"webhookUrl": "http://169.254.169.254/"}, "webhookUrl", "DURABLY_WEBHOOK_ALLOW"),
        ({"webhookUrl": 5}, "webhookUrl", "must be a string, got int"),
    ],
    ids=str,
)
async def test_what_the_contract_forbids_is_refused(
    changes: dict[str, Any], field: str, message: str
) -> None:
    """The fault names the field by its wire name, and nothing is written."""
    async with serving(started=False, webhook_allow=()) as world:
        with pytest.raises(ValidationError) as caught:
            await world.service.create_instance({**BODY, **changes})

        [fault] = caught.value.faults
        assert fault.field == field
        assert message in fault.message
        assert (await world.service.list()).total == 0


async def test_all_faults_are_reported_together() -> None:
    """One answer names everything that is wrong."""
    async with serving(started=False, webhook_allow=()) as world:
        with pytest.raises(ValidationError) as caught:
            await world.service.create_instance(
                {"gpuNum": 0, "rootfsSize": "60", "webhookUrl": "http://127.0.0.1/"}
            )

        assert [fault.field for fault in caught.value.faults] == [
            *("name", "productName", "templateId", "gpuNum", "rootfsSize", "webhookUrl")
        ]
        assert Fault("name", "is required") in caught.value.faults
        assert "name: is required; productName: is required" in str(caught.value)


async def test_instances_are_listed_newest_first_page_by_page() -> None:
    """Each page names the cursor of the next; the last names none."""
    async with serving(started=False) as world:
        asked = [await world.create(name=f"web-{number}") for number in range(5)]
        first = await world.service.list(limit=2)
        second = await world.service.list(limit=2, after=first.next_cursor)
        third = await world.service.list(limit=2, after=second.next_cursor)

        listed = [*first.instances, *second.instances, *third.instances]
        assert [one.id for one in listed] == [one.id for one in reversed(asked)]
        assert {first.total, second.total, third.total} == {5}
        assert third.next_cursor is None


async def test_a_page_that_ends_with_the_last_one_has_no_next() -> None:
    """No cursor leads to an empty page."""
    async with serving(started=False) as world:
        for _ in range(2):
            await world.create()

        assert (await world.service.list(limit=2)).next_cursor is None


@pytest.mark.parametrize("limit", [0, 1_001])
async def test_the_length_of_a_page_is_bounded(limit: int) -> None:
    """Nobody can ask for everything at once."""
    async with serving(started=False) as world:
        with pytest.raises(ValueError, match="limit must be 1 to 1,000"):
            await world.service.list(limit=limit)


async def test_a_caller_can_commit_a_request_with_changes_of_its_own() -> None:
    """Both are written, or neither."""
    async with serving(started=False) as world:
        asked, changes = await world.service.prepare_instance(REQUEST)
        assert await world.service.get(asked.id) is None

        changes.put("idempotency", "key-1", {"instanceId": asked.id}, expect=0)
        await world.queue.commit(changes)

        assert await world.service.get(asked.id) == asked
        assert await world.queue.get_record("idempotency", "key-1") is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"poll_interval": 0}, "poll_interval must be a positive number of seconds, got 0"),
        ({"max_wait_time": float("inf")}, "max_wait_time must be a positive number"),
        ({"novita_timeout": -1.0}, "novita_timeout must be a positive number"),
        ({"max_retry_attempts": 0}, "max_retry_attempts must be at least 1, got 0"),
        ({"on_failure": "explode"}, "on_failure must be one of delete, stop, keep, got 'explode'"),
        ({"webhook_secret": "whsec_short"}, "webhook secret must be"),
        ({"webhook_allow": ["not a host"]}, "DURABLY_WEBHOOK_ALLOW"),
    ],
    ids=str,
)
async def test_settings_that_cannot_be_used_are_refused(
    options: dict[str, Any], message: str
) -> None:
    """The message names the setting and its value; a secret is not quoted."""
    with pytest.raises(ValueError, match=message) as caught:
        JobWorkerService(JobQueueService("memory://"), provider=NovitaClient("key"), **options)

    assert "whsec_short" not in str(caught.value)


async def test_the_service_tells_its_settings() -> None:
    """The document's three settings can be read from the service."""
    service = JobWorkerService(
        JobQueueService("memory://"), provider=NovitaClient("key"), webhook_secret=SECRET
    )

    assert service.poll_interval == 30.0
    assert service.max_wait_time == 1_200.0
    assert service.max_retry_attempts == 3


async def test_the_handlers_are_there_before_the_start() -> None:
    """The job types are known as soon as the service is made."""
    async with serving(started=False) as world:
        stats = await world.queue.get_stats()

        assert {"create_instance", "monitor_instance", "send_webhook"} <= stats.jobs_by_type.keys()
        assert not world.queue.is_processing


async def test_starting_and_stopping_are_idempotent() -> None:
    """Twice is once, and a stopped service can be started again."""
    async with serving() as world:
        await world.service.start()
        await world.service.stop()
        await world.service.stop()
        assert not world.queue.is_processing

        await world.service.start()
        asked = await world.create()
        await world.reaches(asked, InstanceStatus.READY)
        await world.hears("creating", "ready")
