"""What the instance workflow decides without asking anybody, and the view that all monitors share."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durably import JobContext, Snooze, StoreFullError, VersionConflictError
from durably.instances import BillingMode, Instance, InstanceStatus, OnFailure, Operation
from durably.instances.instance import Intent, cleanup_after_failure
from durably.instances.pacing import growing, until_tick
from durably.instances.provider import ProviderUnavailable, Upstream, UpstreamStatus
from durably.instances.upstream import UpstreamView
from durably.instances.workflow import Tools, answer_due, first_made, run

AT = datetime(2026, 5, 4, 12, 0, 7, tzinfo=UTC)
INSTANCE = Instance(
    id="inst_1",
    name="web-1",
    product_name="RTX 4090 24GB",
    template_id="bare",
    gpu_num=1,
    rootfs_size=60,
    region="CN-HK-01",
    billing_mode=BillingMode.SPOT,
    operation=Operation.CREATE,
    operation_at=AT,
    created_at=AT,
)


def called(sent_by: datetime | None) -> Instance:
    """The instance with a create call recorded."""
    intent = Intent(upstream_name="durably-x-inst_1", call=1, called_at=AT, sent_by=sent_by)
    return msgspec.structs.replace(INSTANCE, intent=intent)


def upstream(identifier: str, **fields: Any) -> Upstream:
    return Upstream(id=identifier, name="n", **{"status": UpstreamStatus.RUNNING, **fields})


# Waiting


@given(st.floats(0, 1e9))
def test_waits_grow_within_bounds(elapsed: float) -> None:
    """Half of what has passed, at least the first wait and at most the longest."""
    wait = growing(elapsed, first=0.5, most=60)

    assert 0.5 <= wait <= 60
    assert wait in (0.5, 60, elapsed / 2)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.floats(0.01, 3_600))  # noqa: DTZ001 - made aware below
def test_ticks_are_whole_multiples_of_the_interval(now: datetime, interval: float) -> None:
    """All who wait for a tick meet at it, and nobody waits for one that has all but come."""
    aware = now.replace(tzinfo=UTC)
    wait = until_tick(aware, interval)
    phase = (aware.timestamp() + wait) % interval

    assert 0.09 * interval < wait <= 1.11 * interval
    assert min(phase, interval - phase) < 1e-3


def test_monitors_that_wake_apart_meet_at_the_next_tick() -> None:
    """At 12:00:07 and 12:00:22 the next tick of 30 s is 12:00:30."""
    assert until_tick(AT, 30) == 23
    assert until_tick(AT + timedelta(seconds=15), 30) == 8


# Calls without an answer


def test_an_answered_call_is_not_waited_for() -> None:
    """Neither before any call nor when all outcomes are known."""
    assert answer_due(INSTANCE, timeout=30, now=AT) == 0
    assert answer_due(called(None), timeout=30, now=AT) == 0


def test_an_unanswered_call_is_waited_for_during_two_time_outs() -> None:
    """Counted from the latest moment at which it can have been sent."""
    waiting = called(AT + timedelta(seconds=30))

    assert answer_due(waiting, timeout=30, now=AT) == 90
    assert answer_due(waiting, timeout=30, now=AT + timedelta(seconds=89)) == 1
    assert answer_due(waiting, timeout=30, now=AT + timedelta(seconds=91)) == 0


def test_the_first_made_of_several_is_kept() -> None:
    """By their time, then by their id; those being deleted do not count."""
    later, earlier = AT + timedelta(seconds=1), AT
    found = first_made(
        [
            upstream("unknown"),
            upstream("b", created_at=later),
            upstream("c", created_at=earlier),
            upstream("a", created_at=later),
            upstream("gone", status=UpstreamStatus.REMOVING, created_at=earlier),
        ]
    )

    assert [one.id for one in found] == ["c", "a", "b", "unknown"]


# Cleaning up after a failure


@pytest.mark.parametrize(
    ("policy", "operation", "cleanup"),
    [
        (OnFailure.DELETE, Operation.CREATE, Operation.CLEANUP_DELETE),
        (OnFailure.STOP, Operation.CREATE, Operation.CLEANUP_STOP),
        (OnFailure.KEEP, Operation.CREATE, None),
        (OnFailure.DELETE, Operation.START, Operation.CLEANUP_STOP),
        (OnFailure.STOP, Operation.START, Operation.CLEANUP_STOP),
        (OnFailure.KEEP, Operation.START, None),
    ],
)
def test_the_policy_and_the_operation_decide_the_clean_up(
    policy: OnFailure, operation: Operation, cleanup: Operation | None
) -> None:
    """What was started again may hold data, and is never deleted for a failure."""
    known = msgspec.structs.replace(INSTANCE, operation=operation, novita_instance_id="u-1")

    assert cleanup_after_failure(known, policy) is cleanup


@pytest.mark.parametrize("policy", OnFailure)
def test_what_nobody_can_name_is_always_deleted(policy: OnFailure) -> None:
    """Kept or stopped, an instance without a known id would be billed and never found."""
    assert cleanup_after_failure(called(AT), policy) is Operation.CLEANUP_DELETE


@pytest.mark.parametrize("policy", OnFailure)
def test_nothing_upstream_needs_no_clean_up(policy: OnFailure) -> None:
    """Neither what was never made nor what is gone."""
    gone = msgspec.structs.replace(INSTANCE, novita_instance_id="u-1", upstream_gone=True)

    assert cleanup_after_failure(INSTANCE, policy) is None
    assert cleanup_after_failure(called(None), policy) is None
    assert cleanup_after_failure(gone, policy) is None


def test_a_record_survives_its_json() -> None:
    """What is read back is what was written."""
    written = msgspec.structs.replace(
        called(AT), status=InstanceStatus.STARTING, jobs={"create_instance": "j-1"}
    )

    assert msgspec.json.decode(msgspec.json.encode(written), type=Instance) == written


# The shared view


class Lister:
    """A provider that can only be asked for its list, and answers as told."""

    def __init__(self, *answers: Sequence[Upstream] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def list(self, *, name: str | None = None) -> Sequence[Upstream]:
        assert name is None
        self.asked += 1
        await asyncio.sleep(0)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Now:
    """The time, which moves when told."""

    at = AT

    def __call__(self) -> datetime:
        return self.at


def view_of(lister: Lister, now: Now) -> UpstreamView:
    return UpstreamView(lister, now)  # type: ignore[arg-type]  # it is asked for nothing else


async def test_many_who_ask_at_once_share_one_list() -> None:
    """One request serves them all."""
    lister = Lister([upstream("u-1")])
    view = view_of(lister, Now())
    snapshots = await asyncio.gather(*(view.read(15) for _ in range(50)))

    assert lister.asked == 1
    assert all(snapshot is snapshots[0] for snapshot in snapshots)
    assert snapshots[0].at == AT
    assert snapshots[0].instances.keys() == {"u-1"}


async def test_an_old_list_is_not_good_enough() -> None:
    """Past the age that the caller accepts, the provider is asked again."""
    lister, now = Lister([], [upstream("u-1")], []), Now()
    view = view_of(lister, now)
    await view.read(15)
    now.at += timedelta(seconds=14)
    assert not (await view.read(15)).instances
    now.at += timedelta(seconds=1)
    assert (await view.read(15)).instances
    assert not (await view.read(0)).instances
    assert lister.asked == 3


async def test_a_list_from_before_is_not_good_enough() -> None:
    """Who knows of something newer than the last list has the provider asked again."""
    lister, now = Lister([], [upstream("u-1")]), Now()
    view = view_of(lister, now)
    await view.read(15)
    now.at += timedelta(seconds=2)
    assert not (await view.read(15, newer_than=AT - timedelta(seconds=1))).instances
    assert (await view.read(15, newer_than=AT)).instances
    assert lister.asked == 2


async def test_a_failed_list_is_not_repeated_by_everybody() -> None:
    """The others get the same error until it is old; then it is asked again."""
    lister, now = Lister(ProviderUnavailable("down"), []), Now()
    view = view_of(lister, now)
    errors = await asyncio.gather(*(view.read(15) for _ in range(10)), return_exceptions=True)
    assert [str(error) for error in errors] == ["down"] * 10
    assert lister.asked == 1

    now.at += timedelta(seconds=15)
    assert not (await view.read(15)).instances


# What is no fault of a job


@pytest.mark.parametrize(
    ("error", "wait"), [(VersionConflictError("changed"), 0.0), (StoreFullError("full"), 1.0)]
)
async def test_conflicts_and_a_store_in_trouble_spend_no_attempt(
    error: Exception, wait: float
) -> None:
    """The job is snoozed: at once for another look, or until the store may have recovered."""

    async def handler(_tools: Tools, _job: JobContext) -> str:
        raise error

    class Job:
        id = "job-1"

    with pytest.raises(Snooze) as caught:
        await run(handler, None, Job())  # type: ignore[arg-type]  # neither is looked at

    assert caught.value.seconds == wait
