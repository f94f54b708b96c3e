"""Wrong arguments: one clear error, at the call, and nothing happens."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from durably import JobContext, JobQueueService, NewJob, Retry, RetryPolicy, Snooze

WRONG = (ValueError, TypeError)
ADDING: list[dict[str, Any]] = [
    {"type": ""},
    {"type": None},
    {"type": 5},
    {"type": b"mail"},
    {"type": "x" * 1000},
    {"type": "nul\0"},
    {"type": "\udc80"},
    {"priority": 0},
    {"priority": 5},
    {"priority": "high"},
    {"priority": None},
    {"priority": True},
    {"priority": 2.5},
    {"max_attempts": 0},
    {"max_attempts": -1},
    {"max_attempts": 2.0},
    {"max_attempts": "3"},
    {"max_attempts": True},
    {"delay": -1},
    {"delay": -0.001},
    {"delay": float("nan")},
    {"delay": float("inf")},
    {"delay": "5"},
    {"delay": timedelta(seconds=5)},
    {"delay": 1e300},
    {"run_at": datetime(2030, 1, 1)},  # noqa: DTZ001  # naive on purpose
    {"run_at": "2030-01-01T00:00:00Z"},
    {"run_at": 1_900_000_000},
    {"run_at": datetime.fromisoformat("0001-01-01T00:00:00+14:00")},
    {"run_at": datetime.fromisoformat("9999-12-31T23:59:59-14:00")},
    {"run_at": datetime.fromisoformat("1969-12-31T23:59:59+00:00")},
    {"delay": 1, "run_at": datetime.fromisoformat("2030-01-01T00:00:00+00:00")},
    {"queue": ""},
    {"queue": None},
    {"queue": "\udc80"},
    {"unique_key": ""},
    {"unique_key": 5},
    {"unique_key": "nul\0"},
    {"tags": "one"},
    {"tags": [1]},
    {"tags": [""]},
    {"tags": None},
]
SERVICE: list[dict[str, Any]] = [
    {"store": 5},
    {"store": None},
    {"store": ""},
    {"store": "durably.db"},
    {"store": "mysql://localhost/x"},
    {"store": "sqlite://"},
    {"store": "sqlite:///"},
    {"store": "memory://x"},
    {"concurrency": 0},
    {"concurrency": -1},
    {"concurrency": 1.5},
    {"concurrency": True},
    {"concurrency": "4"},
    {"processing_interval": 0},
    {"processing_interval": -1},
    {"processing_interval": float("nan")},
    {"processing_interval": "1"},
    {"retry": 3},
    {"retry": None},
    {"retry": RetryPolicy},
    {"retention": -1},
    {"retention": "1d"},
    {"lease": 0},
    {"lease": -5},
    {"lease": float("inf")},
    {"queues": ()},
    {"queues": "default"},
    {"queues": ("",)},
    {"queues": (1,)},
    {"aging": 0},
    {"aging": -1},
    {"aging": "60"},
    {"clock": 5},
]
POLICY: list[dict[str, Any]] = [
    {"max_attempts": 0},
    {"max_attempts": 1.5},
    {"max_attempts": True},
    {"base_delay": -1},
    {"base_delay": float("nan")},
    {"base_delay": 1e300},
    {"base_delay": True},
    {"base_delay": "1"},
    {"max_delay": -1},
    {"max_delay": float("inf")},
    {"max_delay": 1e300},
    {"jitter": -0.1},
    {"jitter": 1.1},
    {"jitter": float("nan")},
    {"retry_on": "ValueError"},
    {"retry_on": (5,)},
    {"give_up_on": ValueError("an instance")},
]
HANDLER: list[dict[str, Any]] = [
    {"type": ""},
    {"type": 5},
    {"handler": None},
    {"handler": "module:function"},
    {"timeout": 0},
    {"timeout": -1},
    {"timeout": float("nan")},
    {"timeout": "5"},
    {"retry": 3},
    {"max_concurrency": 0},
    {"max_concurrency": 1.5},
    {"max_concurrency": True},
    {"payload_type": 5},
]


def named(arguments: dict[str, Any]) -> str:
    return " ".join(f"{name}={value!r:.30}" for name, value in arguments.items())


def about(arguments: dict[str, Any]) -> str:
    """What the message must match: it names the argument, or the one thing that is wrong in it."""
    name = next(iter(arguments))
    others = {"store": "store|sqlite:", "payload_type": "payload type", "run_at": "run_at|datetime"}
    return others.get(name, name.rstrip("s"))


async def handle(job: JobContext) -> None: ...


@pytest.mark.parametrize("arguments", ADDING, ids=named)
async def test_add_job_refuses(queue: JobQueueService, arguments: dict[str, Any]) -> None:
    """A wrong argument raises at the call, alone and in a batch, and adds nothing."""
    with pytest.raises(WRONG, match=about(arguments)):
        await queue.add_job(**{"type": "mail", **arguments})
    with pytest.raises(WRONG, match=about(arguments)):
        await queue.add_jobs([NewJob("mail"), NewJob(**{"type": "mail", **arguments})])

    assert await queue.get_jobs() == []


async def test_add_job_refuses_unknown_options(queue: JobQueueService) -> None:
    """A misspelt option raises TypeError."""
    with pytest.raises(TypeError):
        await queue.add_job("mail", prioritet=4)  # type: ignore[call-arg]  # that is the point
    with pytest.raises(TypeError):
        NewJob("mail", connection=None)  # type: ignore[call-arg]  # that is the point
    with pytest.raises(TypeError):
        await queue.add_jobs(["mail"])  # type: ignore[list-item]  # that is the point


async def test_messages_name_the_value(queue: JobQueueService) -> None:
    """The error says which argument is wrong and what came."""
    with pytest.raises(ValueError, match=r"max_attempts.*-7"):
        await queue.add_job("mail", max_attempts=-7)
    with pytest.raises(ValueError, match=r"delay.*-3"):
        await queue.add_job("mail", delay=-3)
    with pytest.raises(TypeError, match=r"priority.*'urgent'"):
        await queue.add_job("mail", priority="urgent")  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("arguments", SERVICE, ids=named)
def test_the_service_refuses(arguments: dict[str, Any]) -> None:
    """A wrong setting raises when the service is made."""
    with pytest.raises(WRONG, match=about(arguments)):
        JobQueueService(**{"store": "memory://", **arguments})


@pytest.mark.parametrize("arguments", POLICY, ids=named)
def test_the_retry_policy_refuses(arguments: dict[str, Any]) -> None:
    """A wrong policy raises when it is made."""
    with pytest.raises(WRONG, match=about(arguments)):
        RetryPolicy(**arguments)


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_count_from_one(attempt: int) -> None:
    """There is no delay after attempt 0."""
    with pytest.raises(ValueError, match="attempt"):
        RetryPolicy().delay_after(attempt)


@pytest.mark.parametrize("arguments", HANDLER, ids=named)
def test_register_handler_refuses(arguments: dict[str, Any]) -> None:
    """A wrong argument raises at the registration."""
    queue = JobQueueService("memory://")
    with pytest.raises(WRONG, match=about(arguments)):
        queue.register_handler(**{"type": "mail", "handler": handle, **arguments})


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "5", None])
def test_snooze_and_retry_refuse(seconds: Any) -> None:
    """A wrong delay raises where the handler makes the exception."""
    with pytest.raises(WRONG, match="seconds must be"):
        Snooze(seconds)
    if seconds is not None:
        with pytest.raises(WRONG, match="delay must be"):
            Retry(delay=seconds)


@pytest.mark.parametrize("value", [-1, float("nan"), "5", True])
async def test_durations_of_calls_are_checked(queue: JobQueueService, value: Any) -> None:
    """shutdown, cleanup and wait refuse what is no duration."""
    job = await queue.add_job("mail")
    for call in (queue.shutdown, queue.cleanup, lambda seconds: queue.wait(job.id, seconds)):
        with pytest.raises(WRONG):
            await call(value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": 0},
        {"limit": -1},
        {"limit": 1.5},
        {"limit": None},
        {"limit": True},
        {"status": "done"},
        {"status": 3},
        {"type": 5},
        {"type": "\udc80"},
        {"queue": 5},
        {"after": 5},
    ],
    ids=named,
)
async def test_get_jobs_refuses(queue: JobQueueService, arguments: dict[str, Any]) -> None:
    """A wrong filter raises; in particular a limit of 0 does not mean all."""
    with pytest.raises(WRONG):
        await queue.get_jobs(**arguments)


@pytest.mark.parametrize("id", [None, 5, b"x", ["x"]])
async def test_an_id_is_a_text(queue: JobQueueService, id: Any) -> None:
    """What is no text cannot be an id: TypeError, not a miss."""
    for call in (
        queue.get_job,
        queue.cancel_job,
        queue.retry_job,
        queue.explain,
        queue.wait,
    ):
        with pytest.raises(TypeError):
            await call(id)


@pytest.mark.parametrize("name", ["", None, 5])
async def test_a_queue_has_a_name(queue: JobQueueService, name: Any) -> None:
    """Neither pause nor resume takes what is no queue's name."""
    for call in (queue.pause, queue.resume):
        with pytest.raises(WRONG):
            await call(name)


@pytest.mark.parametrize("keys", ["one", [1], [None], [["k"]], None, 5])
async def test_keys_to_wake_are_texts(queue: JobQueueService, keys: Any) -> None:
    """One key by itself would be taken for its characters; nobody is woken, on any store."""
    await queue.add_job("nap", delay=60, unique_key="o")

    with pytest.raises(TypeError, match=r"unique_keys|unique key|iterable"):
        await queue.wake("nap", keys)


async def test_what_can_be_no_key_wakes_nobody(queue: JobQueueService) -> None:
    """A name from elsewhere may hold anything."""
    await queue.add_job("nap", delay=60, unique_key="k")

    assert await queue.wake("nap", ["", "\0", "\udc80", "k" * 10_000]) == 0
    assert await queue.wake("nap", {"k"}) == 1  # type: ignore[arg-type]  # any collection will do
