import pytest

from durably.domain.bulk import BulkAction, allowed
from durably.domain.job import JobRecord, JobStatus, State
from durably.domain.search import Search


def record(seq: int = 1, state: State = State.READY, key: str | None = None) -> JobRecord:
    return JobRecord(
        seq=seq,
        id=f"JOB-{seq}",
        type="mail",
        queue="default",
        priority=2,
        state=state,
        ready_at=0,
        created_at=1_000,
        max_attempts=1,
        granted=1,
        payload='{"to":"Ann \\"A\\" É"}',
        tags='["a"]',
        unique_key=key,
    )


def test_statuses_are_states_of_a_store() -> None:
    """A reserved job is pending; no status asks for every state."""
    assert Search(statuses=(JobStatus.PENDING,)).states == (0, 1, 2)
    assert Search(statuses=(JobStatus.FAILED, JobStatus.PROCESSING)).states == (3, 5)
    assert Search().states == tuple(State)


@pytest.mark.parametrize("text", ["job-1", "JOB", "MAI", "key", "ann", 'Ann "a"', 'Ann \\"', "É"])
def test_text_that_is_found(text: str) -> None:
    """Without regard to the case of ASCII letters, as written and as meant."""
    assert Search(text=text).matches(record(key="a key"))


@pytest.mark.parametrize("text", ["OB-1", "default", "é", "Anna", "Ann A"])
def test_text_that_is_not_found(text: str) -> None:
    """Within the id, in the queue, with another case of a letter that is not ASCII."""
    assert not Search(text=text).matches(record(key="a key"))


@pytest.mark.parametrize("text", ["nul\0", "\ud800", "a\udfff"])
def test_what_no_store_can_hold(text: str) -> None:
    """Such a search may not match; the same text within others' company neither."""
    for name in ("type", "queue", "tag", "text"):
        assert not Search(**{name: text}).may_match  # type: ignore[arg-type]  # by name
    assert Search(text="é\U0001f600\x7f").may_match


def test_what_an_action_may_change() -> None:
    """Live jobs are cancelled, final ones retried and deleted, in their order."""
    records = [record(state, state) for state in reversed(State)]
    states = {action: [r.state for r in allowed(action, records)] for action in BulkAction}

    assert states[BulkAction.CANCEL] == [3, 2, 1, 0]
    assert states[BulkAction.RETRY] == states[BulkAction.DELETE] == [6, 5, 4]


def test_each_unique_key_is_retried_once() -> None:
    """The first takes it; one that a live job holds refuses all. A delete needs no key."""
    keys = ("k", "k", None, None, "l")
    records = [record(i, State.FAILED, key) for i, key in enumerate(keys)]
    taken = [("mail", "l"), ("other", "k")]

    assert [r.seq for r in allowed(BulkAction.RETRY, records, taken)] == [0, 2, 3]
    assert allowed(BulkAction.DELETE, records, taken) == records
