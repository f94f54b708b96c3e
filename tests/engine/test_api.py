"""The names, signatures and defaults that the contract's section 2 fixes."""

import inspect
from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Any

import pytest

import durably
from durably import (
    Cancel,
    Fail,
    Job,
    JobContext,
    JobNotFoundError,
    JobPriority,
    JobQueueService,
    JobStateError,
    JobStatus,
    NewJob,
    PayloadError,
    QueueStats,
    Retry,
    RetryPolicy,
    Snooze,
    UniqueKeyTakenError,
)

NOTHING = inspect.Parameter.empty
ADDING = {
    "priority": JobPriority.NORMAL,
    "max_attempts": None,
    "delay": None,
    "run_at": None,
    "queue": "default",
    "unique_key": None,
    "tags": (),
}
JOB_FIELDS = (
    "id type payload status priority attempts max_attempts created_at processed_at completed_at"
    " next_retry_at error queue run_at result progress errors tags unique_key crashes worker"
)
KEPT = "type payload priority max_attempts created_at queue tags unique_key"
"""What a job's start does not change."""
COROUTINES = (
    "add_job add_jobs get_job get_jobs get_stats start_processing stop_processing shutdown cleanup"
    " cancel_job retry_job wait pause resume explain"
)
STATS_FIELDS = (
    "total_jobs pending_jobs processing_jobs completed_jobs failed_jobs cancelled_jobs"
    " scheduled_jobs jobs_by_type throughput error_rate wait_p50 wait_p95 wait_p99"
    " run_p50 run_p95 run_p99"
)


def positional(function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters that may be given by position, with their defaults."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(function).parameters
    return {n: p.default for n, p in found.items() if p.kind in kinds and n != "self"}


def keywords(function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters that must be given by keyword, with their defaults."""
    found = inspect.signature(function).parameters
    return {n: p.default for n, p in found.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def test_statuses_are_the_documents() -> None:
    """Five statuses: a string enum with lower-case values."""
    assert [s.value for s in JobStatus] == [
        "pending",
        "processing",
        "completed",
        "failed",
        "cancelled",
    ]
    assert issubclass(JobStatus, StrEnum)
    assert [s.name for s in JobStatus] == [s.value.upper() for s in JobStatus]


def test_priorities_are_the_documents() -> None:
    """Four priorities: an int enum from LOW=1 to CRITICAL=4."""
    assert {p.name: p.value for p in JobPriority} == {
        "LOW": 1,
        "NORMAL": 2,
        "HIGH": 3,
        "CRITICAL": 4,
    }
    assert issubclass(JobPriority, IntEnum)


def test_the_service_has_the_contracts_settings() -> None:
    """The store comes first; the rest is by keyword, with the contract's defaults."""
    settings = keywords(JobQueueService.__init__)
    settings.pop("clock")

    assert positional(JobQueueService.__init__) == {"store": "sqlite:///durably.db"}
    assert settings == {
        "concurrency": 1,
        "processing_interval": 1.0,
        "retry": RetryPolicy(),
        "retention": 86400.0,
        "lease": 30.0,
        "queues": ("default",),
        "aging": None,
    }


@pytest.mark.parametrize(
    ("name", "by_position", "by_keyword"),
    [
        ("add_job", {"type": NOTHING, "payload": None}, {**ADDING, "connection": None}),
        ("add_jobs", {"jobs": NOTHING}, {}),
        ("get_job", {"id": NOTHING}, {}),
        (
            "get_jobs",
            {},
            {"status": None, "type": None, "queue": None, "limit": 100, "after": None},
        ),
        ("get_stats", {}, {}),
        (
            "register_handler",
            {"type": NOTHING, "handler": NOTHING},
            {"payload_type": None, "timeout": None, "retry": None, "max_concurrency": None},
        ),
        ("start_processing", {}, {}),
        ("stop_processing", {}, {}),
        ("shutdown", {"timeout": 30.0}, {}),
        ("cleanup", {"older_than": 86400.0}, {}),
        ("cancel_job", {"id": NOTHING}, {"changes": None}),
        ("wait", {"id": NOTHING, "timeout": None}, {}),
        ("pause", {"queue": NOTHING}, {"changes": None}),
        ("resume", {"queue": NOTHING}, {"changes": None}),
        ("explain", {"id": NOTHING}, {}),
    ],
)
def test_every_call_has_the_contracts_signature(
    name: str, by_position: dict[str, Any], by_keyword: dict[str, Any]
) -> None:
    """Names, order and defaults of the table's calls."""
    function = getattr(JobQueueService, name)

    assert positional(function) == by_position
    assert keywords(function) == by_keyword


def test_retry_job_takes_a_payload_by_keyword() -> None:
    """`retry_job(id, *, payload=…)`: None is a payload like any other."""
    assert positional(JobQueueService.retry_job) == {"id": NOTHING}
    assert list(keywords(JobQueueService.retry_job)) == ["payload", "changes"]
    assert keywords(JobQueueService.retry_job)["payload"] is not None


def test_every_call_is_a_coroutine_but_three() -> None:
    """`register_handler` and `task` are plain calls, `is_processing` is a property."""
    for name in COROUTINES.split():
        assert inspect.iscoroutinefunction(getattr(JobQueueService, name)), name
    assert not inspect.iscoroutinefunction(JobQueueService.register_handler)
    assert not inspect.iscoroutinefunction(JobQueueService.task)
    assert isinstance(JobQueueService.is_processing, property)


def test_a_new_job_takes_type_and_payload_by_position() -> None:
    """`NewJob(type, payload=None, *, …)` has add_job's keywords but `connection`."""
    job = NewJob("mail", {"to": "ada"}, priority=JobPriority.HIGH)

    assert (job.type, job.payload, job.priority) == ("mail", {"to": "ada"}, JobPriority.HIGH)
    assert positional(NewJob) == {"type": NOTHING, "payload": None}
    assert keywords(NewJob) == ADDING


def test_the_snapshot_has_the_contracts_fields() -> None:
    """The document's fields and the contract's, by these names."""
    assert set(JOB_FIELDS.split()) <= set(Job.__struct_fields__)


def test_the_statistics_have_the_contracts_fields() -> None:
    """Counts, rates and percentiles, by these names."""
    assert set(STATS_FIELDS.split()) <= set(QueueStats.__struct_fields__)


async def test_the_context_has_the_jobs_fields(queue: JobQueueService) -> None:
    """A handler reads every field of its job from the context."""
    seen: dict[str, Any] = {}

    async def handler(job: JobContext) -> None:
        seen.update({name: getattr(job, name) for name in JOB_FIELDS.split()})
        seen["cancelled"] = job.cancelled

    queue.register_handler("mail", handler)
    await queue.start_processing()
    added = await queue.add_job(
        "mail", {"to": "ada"}, tags=["a", "b"], unique_key="k", queue="default"
    )
    done = await queue.wait(added.id, timeout=5)

    assert seen["id"] == added.id
    assert seen["status"] is JobStatus.PROCESSING
    assert seen["attempts"] == 1
    assert seen["processed_at"] == done.processed_at
    assert seen["worker"] == done.worker
    assert seen["cancelled"] is False
    for name in KEPT.split():
        assert seen[name] == getattr(added, name), name


def test_the_policy_has_the_contracts_defaults() -> None:
    """Three attempts, 1 s doubling to 300 s, half of it drawn."""
    policy = RetryPolicy()

    assert (policy.max_attempts, policy.base_delay, policy.max_delay, policy.jitter) == (
        3,
        1.0,
        300.0,
        0.5,
    )
    assert {"retry_on", "give_up_on"} <= set(inspect.signature(RetryPolicy).parameters)
    assert list(inspect.signature(RetryPolicy.delay_after).parameters) == [
        "self",
        "attempt",
        "random",
    ]


def test_control_flow_is_raised_as_the_contract_writes_it() -> None:
    """`Retry(delay=…)`, `Snooze(seconds)`, `Cancel("why")` and `Fail("why")` are exceptions."""
    raised = [Retry(delay=3), Snooze(5), Cancel("why"), Fail("why"), Retry()]

    assert all(isinstance(error, Exception) for error in raised)
    assert [str(raised[2]), str(raised[3])] == ["why", "why"]


def test_errors_are_kinds_of_what_the_contract_names() -> None:
    """A bad payload is a ValueError; a taken unique key is a matter of the job's state."""
    assert issubclass(PayloadError, ValueError)
    assert issubclass(UniqueKeyTakenError, JobStateError)
    for error in (PayloadError, JobNotFoundError, JobStateError, durably.LeaseLostError):
        assert issubclass(error, durably.DurablyError)
