from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durably.domain import transitions
from durably.domain.clock import to_datetime
from durably.domain.errors import JobStateError
from durably.domain.job import (
    LEASED,
    STATES_OF,
    AttemptError,
    Draft,
    JobPriority,
    JobRecord,
    JobStatus,
    State,
)
from durably.domain.outcome import Failure, Lease, Outcome, OutcomeKind

NOW = 1_800_000_000_000_000
FINAL = (State.COMPLETED, State.FAILED, State.CANCELLED)


def draft(**fields: Any) -> Draft:
    return msgspec.structs.replace(Draft("id", "type", "queue", 2, 3, "null"), **fields)


def record(state: State = State.READY, **fields: Any) -> JobRecord:
    """A job as it stands in *state*: leased ones have token 7, started ones one attempt."""
    made = transitions.create(draft(), 1, NOW)
    made.state = state
    if state in LEASED:
        made.token, made.worker, made.worker_name = 7, 1, "host:1:1"
    if state == State.RUNNING:
        made.attempts, made.processed_at = 1, NOW
    if state in FINAL:
        made.completed_at = NOW
    return msgspec.structs.replace(made, **fields)


def outcome(kind: OutcomeKind, **fields: Any) -> Outcome:
    if kind in (OutcomeKind.RETRY, OutcomeKind.FAILED):
        fields.setdefault("failure", Failure(kind="error", message="boom"))
    return Outcome(Lease("id", 7, 1, "type", "queue"), kind, **fields)


def test_every_state_is_shown_as_one_status() -> None:
    """Scheduled, ready and reserved jobs are pending; the rest shows as it is."""
    assert STATES_OF[JobStatus.PENDING] == (State.SCHEDULED, State.READY, State.RESERVED)
    assert [STATES_OF[status] for status in JobStatus][1:] == [(s,) for s in list(State)[3:]]
    assert [s.status.is_final for s in State] == [s in FINAL for s in State]
    assert [transitions.is_final(record(s)) for s in State] == [s in FINAL for s in State]


@pytest.mark.parametrize(
    ("fields", "state", "ready_at", "run_at"),
    [
        ({}, State.READY, NOW, None),
        ({"delay_us": 5}, State.SCHEDULED, NOW + 5, NOW + 5),
        ({"run_at_us": NOW + 9}, State.SCHEDULED, NOW + 9, NOW + 9),
        ({"run_at_us": NOW}, State.READY, NOW, NOW),
        ({"run_at_us": NOW - 9}, State.READY, NOW, NOW - 9),
        ({"run_at_us": 0}, State.READY, NOW, 0),
    ],
)
def test_a_new_job_is_ready_or_scheduled(
    fields: dict[str, int], state: State, ready_at: int, run_at: int | None
) -> None:
    """A job whose time has gone by is ready since now, for that is since when it exists."""
    made = transitions.create(draft(**fields), 4, NOW)

    assert (made.state, made.ready_at, made.run_at) == (state, ready_at, run_at)
    assert (made.seq, made.created_at, made.attempts, made.granted) == (4, NOW, 0, 3)


@pytest.mark.parametrize("state", State)
def test_a_token_is_owned_while_leased_and_known_after(state: State) -> None:
    """The token decides while its claim lasts; afterwards its report is a repetition."""
    job = record(state, token=7)

    assert transitions.owns(job, 7) == (state in LEASED)
    assert transitions.already_recorded(job, 7) == (state not in LEASED)
    assert not transitions.owns(job, 8)
    assert not transitions.already_recorded(job, 8)
    assert not transitions.owns(None, 7)
    assert not transitions.already_recorded(None, 7)


def test_a_claim_starts_or_reserves() -> None:
    """Only a start spends an attempt and ends the wait for a retry."""
    started, ahead = (record(attempts=1, next_retry_at=NOW) for _ in range(2))
    for job, start in ((started, True), (ahead, False)):
        transitions.claim(job, 9, 3, "h:1:3", NOW + 1, start)

    assert (started.state, started.attempts, started.processed_at) == (State.RUNNING, 2, NOW + 1)
    assert (ahead.state, ahead.attempts, ahead.processed_at) == (State.RESERVED, 1, None)
    assert (started.next_retry_at, ahead.next_retry_at) == (None, NOW)
    assert (ahead.token, ahead.worker, ahead.worker_name) == (9, 3, "h:1:3")


@pytest.mark.parametrize("state", LEASED)
@pytest.mark.parametrize("cancelled", [0, 1])
@pytest.mark.parametrize(
    ("kind", "ends", "spends"),
    [
        (OutcomeKind.COMPLETED, State.COMPLETED, 1),
        (OutcomeKind.RETRY, State.SCHEDULED, 1),
        (OutcomeKind.FAILED, State.FAILED, 1),
        (OutcomeKind.SNOOZED, State.SCHEDULED, 0),
        (OutcomeKind.CANCELLED, State.CANCELLED, 1),
        (OutcomeKind.RETURNED, State.READY, 0),
    ],
)
def test_how_an_attempt_ends(
    state: State, cancelled: int, kind: OutcomeKind, ends: State, spends: int
) -> None:
    """Each outcome from each leased state; after a cancel only completion is not cancelled."""
    job = record(state, cancel_requested=cancelled)
    transitions.record_outcome(job, outcome(kind, delay_s=5.0, run_s=2.0), NOW + 10_000_000)

    expected = State.CANCELLED if cancelled and ends != State.COMPLETED else ends
    assert job.state == expected
    assert job.token == 7
    if not cancelled or kind is OutcomeKind.RETURNED:
        assert job.attempts == spends
    started = NOW if state == State.RUNNING else NOW + 8_000_000
    unstarted = state == State.RESERVED and kind is OutcomeKind.RETURNED
    assert job.processed_at == (None if unstarted else started)
    assert (job.completed_at is None) == (expected not in FINAL)


@given(st.floats(0.0, 1e9))
def test_a_wait_is_as_long_as_asked_for(delay_s: float) -> None:
    """To the microsecond; a retry shows it as next_retry_at, a snooze as run_at."""
    for kind, name, other in (
        (OutcomeKind.RETRY, "next_retry_at", "run_at"),
        (OutcomeKind.SNOOZED, "run_at", "next_retry_at"),
    ):
        job = record(State.RUNNING)
        transitions.record_outcome(job, outcome(kind, delay_s=delay_s), NOW)

        assert job.ready_at == getattr(job, name) == NOW + int(delay_s * 1e6)
        assert getattr(job, other) is None
        assert job.state == (State.READY if job.ready_at == NOW else State.SCHEDULED)


def test_errors_are_kept_in_order() -> None:
    """Each failed attempt adds one entry with its number, kind and time; success clears `error`."""
    job = record(State.RUNNING)
    nasty = 'quo"te\n[], \\'
    transitions.record_outcome(
        job,
        outcome(
            OutcomeKind.RETRY,
            failure=Failure(kind="timeout", message=nasty, traceback="trace"),
        ),
        NOW + 1,
    )
    transitions.claim(job, 8, 1, "w", NOW + 2, True)
    transitions.crash(job, "w", NOW + 3)
    transitions.claim(job, 9, 1, "w", NOW + 4, True)
    transitions.record_outcome(job, outcome(OutcomeKind.COMPLETED, result="1"), NOW + 5)
    done = job.to_job()

    assert done.error is None
    assert (done.result, done.attempts, done.crashes) == (1, 2, 1)
    first, second = done.errors
    assert first == AttemptError(
        attempt=1,
        at=to_datetime(NOW + 1),
        started_at=to_datetime(NOW),
        kind="timeout",
        message=nasty,
        traceback="trace",
    )
    assert (second.attempt, second.kind, second.at) == (2, "crash", to_datetime(NOW + 3))
    assert second.started_at == to_datetime(NOW + 2)


def test_an_attempt_that_only_held_its_job_has_no_start() -> None:
    """A crash of what was claimed ahead does not show the start of the attempt before."""
    job = record(State.RUNNING)
    transitions.record_outcome(job, outcome(OutcomeKind.RETRY), NOW + 1)
    transitions.claim(job, 8, 1, "w", NOW + 2, False)
    transitions.crash(job, "w", NOW + 3)
    failed, crashed = job.to_job().errors

    assert failed.started_at == to_datetime(NOW)
    assert crashed.started_at is None


@pytest.mark.parametrize("state", LEASED)
def test_a_crash_spends_nothing(state: State) -> None:
    """The job is ready at once, unspent, and its token is void for everybody."""
    job = record(state)
    transitions.crash(job, "host:1:1", NOW + 5)

    assert (job.state, job.ready_at, job.attempts, job.crashes) == (State.READY, NOW + 5, 0, 1)
    assert (job.token, job.suspect) == (None, True)
    assert not transitions.owns(job, 7)
    assert not transitions.already_recorded(job, 7)
    [entry] = job.to_job().errors
    assert (entry.attempt, entry.kind) == (1, "crash")
    assert ("ran" if state == State.RUNNING else "held") in entry.message


@pytest.mark.parametrize("crashes", range(9))
def test_every_third_crash_puts_aside(crashes: int) -> None:
    """Failed at 3, and after a person's retry again at 6 and 9."""
    job = record(State.RUNNING, crashes=crashes)
    transitions.crash(job, "host:1:1", NOW)

    aside = (crashes + 1) % 3 == 0
    assert job.state == (State.FAILED if aside else State.READY)
    assert (job.completed_at == NOW) == aside
    assert ("quarantined" in (job.error or "")) == aside


def test_a_crash_after_a_cancel_is_the_end() -> None:
    """Cancelled, not quarantined, also at the third crash."""
    job = record(State.RUNNING, crashes=2, cancel_requested=1)
    transitions.crash(job, "host:1:1", NOW)

    assert (job.state, job.error, job.crashes) == (State.CANCELLED, "cancelled", 3)


@pytest.mark.parametrize("state", State)
def test_who_can_be_cancelled(state: State) -> None:
    """Pending jobs end at once, leased ones are asked, final ones cannot be."""
    job = record(state)
    if state in FINAL:
        with pytest.raises(JobStateError, match=f"a {state.status} job cannot be cancelled: id"):
            transitions.request_cancel(job, NOW + 1)
        assert job == record(state)
        return
    transitions.request_cancel(job, NOW + 1)

    assert job.cancel_requested == 1
    if state in LEASED:
        assert (job.state, job.completed_at, job.token) == (state, None, 7)
    else:
        assert (job.state, job.completed_at) == (State.CANCELLED, NOW + 1)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("payload", [None, '"new"'])
def test_who_can_be_run_again(state: State, payload: str | None) -> None:
    """Only final jobs, with as many attempts as they were given at first."""
    fields = {"attempts": 4, "max_attempts": 4, "errors": "[]", "crashes": 3, "error": "boom"}
    job = record(state, **fields, cancel_requested=1, run_at=NOW, result="1", progress="{}")
    if state not in FINAL:
        with pytest.raises(JobStateError, match=f"a {state.status} job cannot be retried: id"):
            transitions.redrive(job, payload, NOW + 9)
        return
    transitions.redrive(job, payload, NOW + 9)

    assert (job.state, job.ready_at, job.token) == (State.READY, NOW + 9, None)
    assert (job.attempts, job.max_attempts, job.crashes) == (4, 7, 3)
    assert (job.run_at, job.next_retry_at, job.completed_at) == (None, None, None)
    assert (job.result, job.progress, job.cancel_requested) == (None, None, 0)
    assert job.payload == ("null" if payload is None else payload)


def test_a_record_becomes_the_job_that_users_see() -> None:
    """Times are aware, JSON is decoded, the priority has its name."""
    job = record(
        payload='{"a":[1]}',
        tags='["x"]',
        result="2.5",
        progress='{"fraction":0.5,"message":"half"}',
        run_at=NOW,
        next_retry_at=NOW + 1,
        processed_at=NOW + 2,
        completed_at=NOW + 3,
        unique_key="k",
        cancel_requested=1,
        priority=4,
    ).to_job()

    assert (job.payload, job.tags, job.result) == ({"a": [1]}, ("x",), 2.5)
    assert job.progress is not None
    assert (job.progress.fraction, job.progress.message) == (0.5, "half")
    times = (job.created_at, job.run_at, job.next_retry_at, job.processed_at, job.completed_at)
    assert times == tuple(map(to_datetime, (NOW, NOW, NOW + 1, NOW + 2, NOW + 3)))
    assert job.priority is JobPriority.CRITICAL
    assert (job.unique_key, job.cancelled) == ("k", True)


@pytest.mark.parametrize(
    "change", [lambda job: setattr(job, "status", "x"), lambda job: setattr(job, "attempts", 9)]
)
def test_a_snapshot_cannot_be_changed(change: Callable[[Any], None]) -> None:
    """What users see is immutable."""
    with pytest.raises(AttributeError):
        change(record().to_job())
