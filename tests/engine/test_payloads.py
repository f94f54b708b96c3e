"""What may be a payload or a result, and payloads with a type."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec
import pytest

from durably import JobContext, JobQueueService, JobStatus, NewJob, PayloadError

MIB = 1024 * 1024


class Mail(msgspec.Struct):
    to: str
    copies: int = 1


@dataclass
class Point:
    x: int
    y: float


class Colour(Enum):
    RED = "red"


class Model:
    """Speaks like a pydantic model."""

    def __init__(self, value: int) -> None:
        self.value = value

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        return {"value": self.value}

    @classmethod
    def model_validate(cls, data: Any) -> "Model":
        if not isinstance(data, dict) or not isinstance(data.get("value"), int):
            raise ValueError("value must be an int")  # noqa: TRY004  # as a validator does
        return cls(data["value"])


def cyclic() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


BAD = {
    "object": object(),
    "function": print,
    "class": Mail,
    "generator": iter([]),
    "cycle": cyclic(),
    "depth": deep(100_000),
    "nan": float("nan"),
    "infinity": {"a": [1, float("-inf")]},
    "nan in a struct": Point(1, float("nan")),
    "surrogate": {"a": "\udc80"},
    "tuple keys": {(1, 2): 3},
    "too large": "x" * MIB,
}


@pytest.mark.parametrize(
    ("payload", "stored"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (-(2**63), -(2**63)),
        (2**200, 2**200),
        (1.5, 1.5),
        ("", ""),
        ("nul \0 and \u2028 and 💚", "nul \0 and \u2028 and 💚"),
        ([], []),
        ((1, 2), [1, 2]),
        ({"a": {"b": [None]}}, {"a": {"b": [None]}}),
        (Mail(to="ada"), {"to": "ada", "copies": 1}),
        (Point(1, 2.5), {"x": 1, "y": 2.5}),
        (Colour.RED, "red"),
        (datetime(2030, 1, 1, tzinfo=UTC), "2030-01-01T00:00:00Z"),
        (Decimal("1.10"), "1.10"),
        (b"bytes", "Ynl0ZXM="),
        (Model(5), {"value": 5}),
    ],
)
async def test_json_and_what_msgspec_makes_of_it(
    queue: JobQueueService, payload: Any, stored: Any
) -> None:
    """JSON comes back as it was; msgspec types come back as their JSON, also to the handler."""

    async def handler(job: JobContext) -> Any:
        return [job.payload]

    queue.register_handler("echo", handler)
    await queue.start_processing()
    job = await queue.add_job("echo", payload)

    assert job.payload == stored
    assert (await queue.wait(job.id, timeout=5)).result == [stored]


@pytest.mark.parametrize("payload", BAD.values(), ids=BAD)
async def test_what_is_not_json_is_refused_at_the_call(
    queue: JobQueueService, payload: Any
) -> None:
    """PayloadError, a ValueError, and no job; nan and infinity would not come back."""
    with pytest.raises(PayloadError):
        await queue.add_job("mail", payload)
    with pytest.raises(PayloadError):
        await queue.add_jobs([NewJob("mail", payload)])

    assert await queue.get_jobs() == []


async def test_the_limit_is_one_mebibyte_of_json(queue: JobQueueService) -> None:
    """1,048,576 bytes are taken, one more is refused; bytes count, not characters."""
    job = await queue.add_job("mail", "x" * (MIB - 2))
    with pytest.raises(PayloadError, match=r"1,048,576.*1,048,577"):
        await queue.add_job("mail", "x" * (MIB - 1))
    with pytest.raises(PayloadError):
        await queue.add_job("mail", "é" * (MIB // 2))

    read = await queue.get_job(job.id)
    assert read is not None
    assert len(read.payload) == MIB - 2


async def test_a_large_batch_is_stored_whole(queue: JobQueueService) -> None:
    """Thirty payloads of nearly 1 MiB in one call."""
    jobs = await queue.add_jobs([NewJob("mail", f"{n:04}" * 260_000) for n in range(30)])

    assert len({job.id for job in jobs}) == 30
    assert (await queue.get_stats()).total_jobs == 30


@pytest.mark.parametrize("result", BAD.values(), ids=BAD)
async def test_a_result_that_cannot_be_kept_fails_the_job(
    queue: JobQueueService, result: Any
) -> None:
    """The handler has done its work: it is not run again for the sake of its result."""
    runs: list[int] = []

    async def handler(job: JobContext) -> Any:
        runs.append(job.attempts)
        return result

    queue.register_handler("mail", handler)
    await queue.start_processing()
    job = await queue.wait((await queue.add_job("mail")).id, timeout=5)

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "result" in job.error
    assert runs == [1]


async def test_a_typed_payload_reaches_the_handler_as_its_type(queue: JobQueueService) -> None:
    """With `payload_type` the handler gets the struct, defaults filled in."""
    seen: list[object] = []

    async def handler(job: JobContext) -> None:
        seen.append(job.payload)

    queue.register_handler("mail", handler, payload_type=Mail)
    await queue.start_processing()
    jobs = [await queue.add_job("mail", {"to": "ada"}), await queue.add_job("mail", Mail("eve", 3))]
    for job in jobs:
        await queue.wait(job.id, timeout=5)

    assert seen == [Mail("ada", 1), Mail("eve", 3)]
    assert jobs[0].payload == {"to": "ada"}


@pytest.mark.parametrize("payload", [None, {}, {"to": 5}, {"to": "ada", "copies": "two"}, [1]])
async def test_a_payload_that_does_not_fit_is_refused_at_the_call(
    queue: JobQueueService, payload: Any
) -> None:
    """Where the type is known, add_job, add_jobs and retry_job check the payload."""

    async def handler(job: JobContext) -> None: ...

    queue.register_handler("mail", handler, payload_type=Mail)
    good = await queue.cancel_job((await queue.add_job("mail", Mail("ada"))).id)

    with pytest.raises(PayloadError, match="mail"):
        await queue.add_job("mail", payload)
    with pytest.raises(PayloadError):
        await queue.add_jobs([NewJob("mail", {"to": "x"}), NewJob("mail", payload)])
    with pytest.raises(PayloadError):
        await queue.retry_job(good.id, payload=payload)
    assert len(await queue.get_jobs()) == 1


async def test_a_payload_that_does_not_fit_at_run_time_fails_for_good(
    queue: JobQueueService,
) -> None:
    """Added before the type was known: one attempt, then failed, and the handler never ran."""
    runs: list[str] = []

    async def handler(job: JobContext) -> None:
        runs.append(job.id)

    job = await queue.add_job("mail", {"to": 5})
    queue.register_handler("mail", handler, payload_type=Mail)
    await queue.start_processing()
    job = await queue.wait(job.id, timeout=5)

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "Mail" in job.error
    assert (runs, len(job.errors), job.max_attempts) == ([], 1, 3)


async def test_other_payload_types(queue: JobQueueService) -> None:
    """Dataclasses, builtins and pydantic-like models are payload types too."""
    seen: list[Any] = []

    async def handler(job: JobContext) -> None:
        seen.append(job.payload)

    queue.register_handler("point", handler, payload_type=Point)
    queue.register_handler("numbers", handler, payload_type=list[int])
    queue.register_handler("model", handler, payload_type=Model)
    await queue.start_processing()
    for name, payload in (
        ("point", Point(1, 2.0)),
        ("numbers", [1, 2]),
        ("model", Model(7)),
    ):
        await queue.wait((await queue.add_job(name, payload)).id, timeout=5)

    assert seen[:2] == [Point(1, 2.0), [1, 2]]
    assert isinstance(seen[2], Model)
    with pytest.raises(PayloadError):
        await queue.add_job("numbers", ["one"])
    with pytest.raises(PayloadError):
        await queue.add_job("model", {"value": "seven"})
