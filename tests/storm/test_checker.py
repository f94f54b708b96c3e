"""The checker is only worth something if it rejects what it should."""

from collections.abc import Iterable
from typing import Any

import pytest
from chaos.checker import Final, Promise, Verdict, check, emptiness, percentile
from chaos.history import Event

PROMISES = {
    "plain": Promise(),
    "limited": Promise(at_once=1),
    "threaded": Promise(stoppable=False),
    "flaky": Promise(attempts=2, wishes=1),
    "parent": Promise(follow_ups=1, effects=1),
    "hopeless": Promise(status="failed"),
}
FIRST, SECOND = 11, 12
LEASE_S = 2.0


def added(job: str, t: float = 0.0) -> list[Event]:
    """A job that a producer asked for and that was accepted."""
    return [
        Event(t=t, what="adding", pid=1, key=f"k-{job}"),
        Event(t=t + 0.01, what="accepted", pid=1, key=f"k-{job}", job=job),
    ]


def ran(
    job: str,
    start: float,
    end: float | None = None,
    *,
    run: str | None = None,
    pid: int = FIRST,
    how: str = "ok",
    kind: str = "plain",
    priority: int = 0,
) -> list[Event]:
    """An execution; without *end* nothing was heard of it any more."""
    name = run or f"{pid}-{job}-{start}"
    events = [
        Event(t=start, what="start", pid=pid, job=job, run=name, type=kind, priority=priority)
    ]
    if end is not None:
        events.append(Event(t=end, what="end", pid=pid, job=job, run=name, how=how))
    return events


def fault(kind: str, start: float, end: float, pid: int = FIRST) -> list[Event]:
    """Something that the nemesis did."""
    return [
        Event(t=start, what="fault", how=kind, pid=pid),
        Event(t=end, what="healed", how=kind, pid=pid),
    ]


def final(job: str, **fields: Any) -> Final:
    """What the store says of a job that went well, but for *fields*."""
    known = {"type": "plain", "status": "completed", "key": f"k-{job}", "attempts": 1, "run": "r"}
    return Final(id=job, **{**known, **fields})


def judged(
    events: Iterable[Iterable[Event]], *finals: Final, slots: int = 4, in_turn: bool = False
) -> Verdict:
    """The verdict on some events, in the order of their times."""
    history = sorted((event for some in events for event in some), key=lambda event: event.t)
    return check(history, finals, PROMISES, slots=slots, lease_s=LEASE_S, in_turn=in_turn)


def violated(events: Iterable[Iterable[Event]], *finals: Final, slots: int = 4) -> list[str]:
    """The kinds of violation found."""
    return [text.partition(":")[0] for text in judged(events, *finals, slots=slots).violations]


def test_a_history_in_order_is_accepted() -> None:
    """Each kept promise: plain work, a retry by wish, a failure, what commits with an outcome."""
    events = [
        added("a") + ran("a", 1, 2, run="r"),
        added("b"),
        ran("b", 1, 2, how="again", kind="flaky"),
        ran("b", 3, 4, run="s", kind="flaky"),
        added("c"),
        ran("c", 1, 2, how="again", kind="hopeless"),
        added("d") + ran("d", 1, 2, run="t", kind="parent"),
        ran("e", 3, 4, run="u"),
    ]
    finals = [
        final("a"),
        final("b", type="flaky", attempts=2, run="s"),
        final("c", type="hopeless", status="failed", run=""),
        final("d", type="parent", run="t", effects=("t",)),
        final("e", key="", parent="d", run="u"),
    ]
    verdict = judged(events, *finals)

    assert verdict.violations == []
    assert (verdict.accepted, verdict.jobs, verdict.executions) == (4, 5, 6)
    assert verdict.duplicates == 0


def test_what_was_not_answered_may_be_there_or_not() -> None:
    """A producer that was killed in between knows nothing, and nothing is asked of it."""
    asked = [Event(t=0, what="adding", pid=1, key="k-a")]

    assert violated([asked]) == []
    assert violated([asked, ran("a", 1, 2, run="r")], final("a")) == []


def test_a_lost_job_is_found() -> None:
    """Accepted, and not in the store."""
    assert violated([added("a")]) == ["lost"]


def test_a_job_that_is_answered_with_anothers_id_is_found() -> None:
    """Two requests whose answers were exchanged; two that were answered with one job."""
    runs = [ran("a", 1, 2, run="r"), ran("b", 1, 2, run="s")]
    exchanged = final("a", key="k-b"), final("b", key="k-a", run="s")
    same = Event(t=0.02, what="accepted", pid=1, key="k-b", job="a")

    assert violated([added("a"), added("b"), *runs], *exchanged) == ["mistaken"] * 2
    assert violated([added("a"), added("b")[:1], [same], runs[0]], final("a")) == ["mistaken"]


def test_a_doubled_job_is_found() -> None:
    """One request, two jobs."""
    runs = [added("a"), ran("a", 1, 2, run="r"), ran("b", 1, 2, run="s")]

    assert violated(runs, final("a"), final("b", key="k-a", run="s")) == ["doubled"]


def test_an_invented_job_is_found() -> None:
    """In the store, but nobody asked for it."""
    assert violated([ran("a", 1, 2, run="r")], final("a")) == ["invented"]


@pytest.mark.parametrize("status", ["pending", "processing"])
def test_a_stuck_job_is_found(status: str) -> None:
    """When all should be done something still waits."""
    assert violated([added("a")], final("a", status=status, run="")) == ["stuck"]


def test_a_wrong_end_is_found() -> None:
    """A job failed that should not."""
    events = [added("a"), ran("a", 1, 2, how="again")]

    assert violated(events, final("a", status="failed", run="")) == ["wrong end"]


def test_a_quarantine_needs_three_deaths() -> None:
    """Set aside after three crashes: each must have its fault."""
    runs = [ran("a", t, pid=t) for t in (1, 3, 5)]
    kills = [fault("kill", t + 0.5, t + 0.6, pid=t) for t in (1, 3, 5)]
    quarantined = final("a", status="failed", crashes=3, run="", attempts=0)

    assert violated([added("a"), *runs, *kills], quarantined) == []
    assert "quarantined" in violated([added("a"), *runs, *kills[:2]], quarantined)


def test_attempts_are_counted() -> None:
    """One too many, or one too few."""
    events = [added("a"), ran("a", 1, 2, run="r")]

    assert violated(events, final("a", attempts=2)) == ["attempts"]
    assert violated(events, final("a", attempts=0)) == ["attempts"]


def test_a_job_that_completed_without_running_is_found() -> None:
    """No result, or the result of an execution that nobody has seen."""
    assert violated([added("a")], final("a", run="")) == ["no execution"]
    assert violated([added("a")], final("a", run="x")) == ["no execution"]


def test_a_late_outcome_is_found() -> None:
    """Recorded is the first execution, which had lost its lease to the second."""
    stopped = fault("stop", 1.5, 5)
    runs = ran("a", 1, 5.1, run="late") + ran("a", 3, 4, run="r", pid=SECOND)

    assert violated([added("a"), stopped, runs], final("a")) == []
    assert violated([added("a"), stopped, runs], final("a", run="late")) == ["late outcome"]


def test_a_job_that_runs_after_its_end_is_found() -> None:
    """Finished, recorded, and run again."""
    runs = ran("a", 1, 2, run="r") + ran("a", 3, 4, run="s")

    assert violated([added("a"), runs], final("a")) == ["late outcome", "unexplained"]


def test_a_repeated_execution_needs_its_fault() -> None:
    """Of its own process or of everybody, at its time, not before and not after."""
    runs = ran("a", 1, 2, how="cancelled") + ran("a", 3, 4, run="r")
    for explains in (fault("kill", 1.5, 1.6), fault("restart", 2, 3, pid=0)):
        assert violated([added("a"), runs, explains], final("a")) == []
    for does_not in (
        fault("kill", 1.5, 1.6, pid=SECOND),
        fault("restart", 0.1, 0.2, pid=0),
        fault("restart", 3.5, 3.6, pid=0),
    ):
        assert violated([added("a"), runs, does_not], final("a")) == ["unexplained"]


def test_a_clock_that_is_set_explains_nothing() -> None:
    """No lease goes by the wall clock: neither a second execution nor a late recovery."""
    clock = fault("clock ahead", 1.5, 1.9, pid=0)
    runs = ran("a", 1, 2, how="cancelled") + ran("a", 3, 4, run="r", pid=SECOND)
    killed = ran("a", 1) + fault("kill", 1.4, 1.5) + ran("a", 9, 9.5, run="r", pid=SECOND)

    assert violated([added("a"), runs, clock], final("a")) == ["unexplained"]
    assert violated([added("a"), killed, clock], final("a")) == ["recovery"]


def test_what_was_recorded_before_the_fault_is_not_explained_by_it() -> None:
    """Long after the end its process is killed, and the finished job is rescued."""
    runs = ran("a", 1, 2) + ran("a", 62, 63, run="r", pid=SECOND)

    assert violated([added("a"), runs, fault("kill", 60, 60.1)], final("a")) == ["unexplained"]
    assert violated([added("a"), runs, fault("kill", 2.1, 2.2)], final("a")) == []


def test_who_is_stopped_may_have_the_turn() -> None:
    """In a file one writes after the other: then the stop of any process keeps all from recording."""
    runs = ran("a", 1, 2) + ran("a", 4, 5, run="r", pid=SECOND)
    history = [added("a"), runs, fault("stop", 1.9, 3.8, pid=13)]

    assert judged(history, final("a"), in_turn=True).violations == []
    assert violated(history, final("a")) == ["unexplained"]


def test_a_wish_is_granted_once() -> None:
    """It is told only once that an execution wants another; one that failed for good wants none."""
    again = [ran("a", t, t + 0.5, how="again", kind="flaky") for t in (1, 3)]
    flaky = final("a", type="flaky", attempts=2)
    last = ran("a", 5, 6, run="r", kind="flaky")
    never = [ran("a", t, t + 0.5, how="again", kind="hopeless") for t in (1, 3)]
    hopeless = final("a", type="hopeless", status="failed", run="")

    assert violated([added("a"), again[1], last], flaky) == []
    assert violated([added("a"), *again, last], flaky) == ["unexplained"]
    assert violated([added("a"), *again, last, fault("cut", 1.2, 1.3)], flaky) == []
    assert violated([added("a"), *never], hopeless) == ["unexplained"]


def test_an_overlap_is_found() -> None:
    """The first still runs, and its process is well: not excused by a fault of the store."""
    runs = ran("a", 1, 4, how="cancelled") + ran("a", 3, 5, run="r", pid=SECOND)

    assert violated([added("a"), runs, fault("restart", 2, 2.5, pid=0)], final("a")) == ["overlap"]
    assert violated([added("a"), runs, fault("stop", 2, 3.9)], final("a")) == []
    assert violated([added("a"), runs, fault("stop", 0.1, 0.5)], final("a")) == [
        "unexplained",
        "overlap",
    ]


def test_a_short_stop_ends_no_lease() -> None:
    """Who stopped a moment ago still holds its jobs, unless it could not renew before either."""
    runs = ran("a", 1, 2.7, how="cancelled") + ran("a", 2.2, 4, run="r", pid=SECOND)
    stopped = fault("stop", 2, 2.6)

    assert violated([added("a"), runs, stopped], final("a")) == ["overlap"]
    assert violated([added("a"), runs, stopped, fault("hog", 0.5, 1.5, pid=0)], final("a")) == []


def test_who_goes_on_after_a_stop_soon_knows() -> None:
    """It has lost its leases: what it runs is cancelled."""
    later = ran("a", 4, 5, run="r", pid=SECOND)
    stopped = fault("stop", 2, 6)

    assert violated([added("a"), ran("a", 1, 7, how="cancelled"), later, stopped], final("a")) == []
    assert violated([added("a"), ran("a", 1, 99, how="cancelled"), later, stopped], final("a")) == [
        "overlap"
    ]


def test_the_dead_do_not_overlap() -> None:
    """An execution without an end lasts until its process was killed; without a kill for ever."""
    runs = ran("a", 1) + ran("a", 3, 5, run="r", pid=SECOND)

    assert violated([added("a"), runs, fault("kill", 2, 2.1)], final("a")) == []
    assert violated([added("a"), runs, fault("hog", 2, 2.1, pid=0)], final("a")) == ["overlap"]


def test_what_begins_while_the_kill_is_on_its_way_dies_of_it() -> None:
    """The process lived until the kill was healed."""
    runs = ran("a", 2.05) + ran("a", 3, 5, run="r", pid=SECOND)

    assert violated([added("a"), runs, fault("kill", 2, 2.1)], final("a")) == []


def test_threads_overlap_where_a_fault_explains_it() -> None:
    """Nobody can stop them; they are fenced."""
    runs = ran("a", 1, 4, kind="threaded") + ran("a", 3, 5, run="r", pid=SECOND, kind="threaded")
    done = final("a", type="threaded")

    assert violated([added("a"), runs, fault("stall", 2, 3)], done) == []
    assert "overlap" in violated([added("a"), runs], done)


def test_what_commits_with_an_outcome_is_counted() -> None:
    """A follow-up missing, one too many, one without its parent; the handler's own SQL likewise."""
    events = [added("a"), ran("a", 1, 2, run="r", kind="parent")]
    children = [ran(child, 3, 4, run=child) for child in "xyz"]
    parent = final("a", type="parent", effects=("r",))
    x, y, z = (
        final(child, key="", parent=parent_of, run=child)
        for child, parent_of in (("x", "a"), ("y", "a"), ("z", "gone"))
    )

    assert violated([*events, children[0]], parent, x) == []
    assert violated(events, parent) == ["follow-ups"]
    assert violated([*events, *children[:2]], parent, x, y) == ["follow-ups"]
    assert violated([*events, children[0], children[2]], parent, x, z) == ["orphan"]
    for effects in ((), ("r", "r"), ("late", "r"), ("late",)):
        twice = final("a", type="parent", effects=effects)
        assert violated([*events, children[0]], twice, x) == ["effects"]


def test_a_process_that_does_too_much_is_found() -> None:
    """More handlers than slots; more of a type than its limit. Several processes may."""
    jobs = "abcde"
    events = [added(job) + ran(job, 1, 2, run=job) for job in jobs]
    finals = [final(job, run=job) for job in jobs]

    assert violated(events, *finals, slots=5) == []
    assert violated(events, *finals, slots=4) == ["slots"]
    limited = [
        added(job) + ran(job, 1, 2, run=job, kind="limited", pid=pid)
        for job, pid in (("a", 1), ("b", 1), ("c", 2))
    ]
    ends = [final(job, run=job, type="limited") for job in "abc"]
    assert violated(limited, *ends) == ["limit"]
    assert violated(limited[1:], *ends[1:]) == []


def test_a_broken_order_is_found() -> None:
    """In the calm something of low priority begins long before something of high priority."""
    calm = [Event(t=1, what="calm")]
    low = added("a") + ran("a", 2, 2.1, run="r", priority=1)

    def high(start: float) -> list[Event]:
        return added("b") + ran("b", start, start + 0.1, run="s", priority=4)

    finals = final("a"), final("b", run="s")
    assert violated([calm, low, high(2.1)], *finals) == []
    assert violated([calm, low, high(3)], *finals) == ["priority"]
    assert violated([[Event(t=4, what="calm")], low, high(3)], *finals) == []


def test_a_slow_recovery_is_found() -> None:
    """After a kill the job waited longer than promised; not where nobody could reach the store."""
    events = [added("a"), ran("a", 1), fault("kill", 2, 2.1), ran("a", 9, 9.5, run="r", pid=SECOND)]

    assert violated(events, final("a")) == ["recovery"]
    assert violated([*events, fault("restart", 4, 8, pid=0)], final("a")) == []
    assert judged(events, final("a")).recoveries == [7.0]


def test_a_recovery_may_meet_a_second_fault() -> None:
    """Somebody claims the job, falls silent, and holds it for a lease at most."""
    events = [added("a"), ran("a", 1), fault("kill", 2, 2.1)]
    silent = fault("stall", 3, 6, pid=SECOND)

    for again, found in ((8.5, []), (9.5, ["recovery"])):
        runs = ran("a", again, again + 0.1, run="r", pid=13)
        assert violated([*events, runs, silent], final("a")) == found


def test_where_nothing_happened_nothing_was_shown() -> None:
    """No job beyond those that are always there, no execution, no fault."""
    verdict = judged([added("a"), ran("a", 1, 2, run="r")], final("a"))

    assert emptiness(judged([])) == [
        "empty: no job was accepted",
        "empty: no handler ran",
        "empty: no fault struck",
    ]
    assert emptiness(verdict) == ["empty: no fault struck"]
    assert len(emptiness(verdict, given=1)) == 3


def test_percentiles() -> None:
    """Of sorted values; the last one is never passed."""
    values = [float(n) for n in range(100)]

    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [0, 50, 99, 99]
    assert percentile([], 0.5) == 0.0
