"""From the arguments of `add_job` to a checked draft; and changes gathered to commit together."""

import math
from collections.abc import Callable, Collection, Generator
from datetime import UTC, datetime
from typing import Any, Self

import msgspec

from durably.domain.clock import to_us
from durably.domain.job import Draft, JobPriority, NewJob
from durably.domain.outcome import Changes, Delete, NewEvent, Put, check_seconds
from durably.domain.payload import check_text, encode

TYPE_LONGEST = 200
QUEUE_LONGEST = 100
KEY_LONGEST = 500
TAG_LONGEST = 100
TAGS_MOST = 50
MAX_ATTEMPTS_MOST = 1_000_000
_LAST_US = to_us(datetime.max.replace(tzinfo=UTC))


class Drafter:
    """Checks new jobs for one service.

    Args:
        new_id: makes the ids.
        defaults: the max_attempts of a type.
        check: refuses a payload (JSON text) that does not fit its type, where the type is known.
    """

    def __init__(
        self,
        new_id: Callable[[], str],
        defaults: Callable[[str], int],
        check: Callable[[str, str], None],
    ) -> None:
        self._new_id = new_id
        self._defaults = defaults
        self._check = check

    def draft(self, job: NewJob) -> Draft:
        """The draft of *job*.

        Raises:
            TypeError, ValueError: an argument is wrong; the message names it and its value.
            PayloadError: the payload is not JSON-able, too large, or not of its type's shape.
        """
        check_text("type", job.type, longest=TYPE_LONGEST)
        check_text("queue", job.queue, longest=QUEUE_LONGEST)
        if job.unique_key is not None:
            check_text("unique_key", job.unique_key, longest=KEY_LONGEST)
        payload = encode(job.payload)
        self._check(job.type, payload)
        delay_us, run_at_us = _when(job.delay, job.run_at)
        attempts = self._defaults(job.type) if job.max_attempts is None else job.max_attempts
        return Draft(
            self._new_id(),
            job.type,
            job.queue,
            check_priority(job.priority),
            check_count("max_attempts", attempts, most=MAX_ATTEMPTS_MOST),
            payload,
            delay_us,
            run_at_us,
            job.unique_key,
            _tags(job.tags),
        )


def check_priority(value: object) -> int:
    """A `JobPriority` or its number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"priority must be a JobPriority, got {value!r}")
    if not 1 <= value <= 4:
        known = ", ".join(f"{p.name}={p.value}" for p in JobPriority)
        raise ValueError(f"priority must be one of {known}, got {value}")
    return int(value)


def check_count(name: str, value: object, *, most: int, least: int = 1) -> int:
    """An int within bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be {least} to {most:,}, got {value:,}")
    return value


def _when(delay: float | None, run_at: datetime | None) -> tuple[int, int | None]:
    if delay is not None and run_at is not None:
        raise ValueError(f"give delay or run_at, not both: delay={delay}, run_at={run_at}")
    if delay is not None:
        return math.ceil(check_seconds("delay", delay) * 1e6), None
    if run_at is None:
        return 0, None
    return 0, check_moment("run_at", run_at)


def check_moment(name: str, value: object) -> int:
    """An aware datetime of the years 1970 to 9999, as microseconds since 1970."""
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be an aware datetime, got {value!r}")
    if value.tzinfo is None:
        raise ValueError(f"{name} must be aware, for example with tzinfo=UTC, got {value!r}")
    try:
        moment_us = to_us(value)
    except OverflowError:
        moment_us = -1  # its offset takes it out of what a datetime can be
    if not 0 <= moment_us <= _LAST_US:
        raise ValueError(f"{name} must be in the years 1970 to 9999 (UTC), got {value}")
    return moment_us


def _tags(tags: Collection[str]) -> str:
    if tags == ():
        return "[]"
    if isinstance(tags, str) or not isinstance(tags, Collection):
        raise TypeError(f"tags must be a list of str, got {tags!r}")
    if len(tags) > TAGS_MOST:
        raise ValueError(f"at most {TAGS_MOST} tags, got {len(tags)}")
    checked = [check_text("tag", tag, longest=TAG_LONGEST) for tag in tags]
    return msgspec.json.encode(checked).decode()


class FollowUp:
    """A job that will exist once its changes are committed. May be awaited, which gives itself."""

    def __init__(self, draft: Draft) -> None:
        self.id = draft.id
        """The id it will have, unless its unique key is then held by another job."""
        self.type = draft.type

    def __await__(self) -> Generator[None, None, Self]:
        return self
        yield


class Changeset:
    """Jobs, records, events and cancellations that commit together or not at all.

    Made by `JobQueueService.changeset` and by every `JobContext`, which commits its own with the
    outcome.
    """

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._jobs: list[Draft] = []
        self._records: list[Put | Delete] = []
        self._events: list[NewEvent] = []
        self._cancel: list[str] = []

    def add_job(self, type: str, payload: Any = None, **options: Any) -> FollowUp:
        """A new job; *options* are `JobQueueService.add_job`'s. Errors as there."""
        draft = self._drafter.draft(NewJob(type=type, payload=payload, **options))
        self._jobs.append(draft)
        return FollowUp(draft)

    def put(self, kind: str, id: str, value: Any, *, expect: int | None = None) -> None:
        """Write a record; *expect* is the version it must have (0: none yet, None: whatever)."""
        _check_name(kind, id)
        text = encode(value, what=f"{kind} {id}")
        self._records.append(Put(kind=kind, id=id, value=text, expect=expect))

    def delete(self, kind: str, id: str, *, expect: int | None = None) -> None:
        """Remove a record."""
        _check_name(kind, id)
        self._records.append(Delete(kind=kind, id=id, expect=expect))

    def emit(self, topic: str, subject: str, data: Any) -> None:
        """Append an event about *subject*."""
        _check_name(topic, subject)
        text = encode(data, what=f"event {topic}")
        self._events.append(NewEvent(topic=topic, subject=subject, data=text))

    def cancel_job(self, job_id: str) -> None:
        """Cancel a job unless it is final by then."""
        check_text("job_id", job_id, longest=KEY_LONGEST)
        self._cancel.append(job_id)

    def roll_back_to(self, changes: Changes) -> None:
        """Forget what has been gathered since `freeze` gave *changes*."""
        self._jobs = list(changes.jobs)
        self._records = list(changes.records)
        self._events = list(changes.events)
        self._cancel = list(changes.cancel)

    def freeze(self) -> Changes:
        """What has been gathered until now."""
        return Changes(
            jobs=tuple(self._jobs),
            records=tuple(self._records),
            events=tuple(self._events),
            cancel=tuple(self._cancel),
        )


def _check_name(kind: str, id: str) -> None:
    check_text("kind", kind, longest=TYPE_LONGEST)
    check_text("id", id, longest=KEY_LONGEST)
