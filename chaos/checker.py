"""Decides from a history and from what the store says in the end whether the promises were kept.

It knows nothing of how the engine works. Each rule names the promise that it checks and speaks of one
job, so that a violation can be looked up in the history.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import msgspec

from chaos.history import Event

SLACK_S = 0.25
"""A fault is felt a little later than it is written down, and an end is recorded a little later."""
AHEAD_S = 0.25
"""Claimed ahead are 20 ms of work; the rest is for stamps of processes that wait for a core."""
RECOVERY_S = 5.0
DEADLY = frozenset({"kill", "stop"})
"""After them a process does nothing more for as long as they last."""
SILENCING = frozenset({"stop", "stall", "half-open", "lost reply"})
"""After them a process lives, and holds what it has claimed until its lease ends."""
HARMLESS = frozenset({"clock ahead", "clock back"})
"""They explain nothing: no lease goes by the wall clock."""
REPORT_S = 2.0
"""How long the end of an execution may take to be recorded: a fault that comes later cannot have
kept it from that. What ends while its process still feels the fault before waits for the pause after
an error (0.5 s) and for a new connection; the rest is for processes that wait for a core."""
LEAST_LEASE = 0.5
"""A lease is renewed each third: of a process that stops it lasts two thirds, less a late renewal."""


class Final(msgspec.Struct, frozen=True, kw_only=True):
    """What the store says of a job in the end."""

    id: str
    type: str
    status: str
    key: str = ""
    parent: str = ""
    attempts: int = 0
    crashes: int = 0
    run: str = ""
    """The execution whose result was recorded."""
    effects: tuple[str, ...] = ()
    """The executions whose own SQL was committed."""


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What jobs of a type must come to."""

    status: str = "completed"
    attempts: int = 1
    follow_ups: int = 0
    effects: int = 0
    wishes: int = 0
    """How many of its executions end with the wish for another one."""
    at_once: int | None = None
    """How many of them a process may run at the same time."""
    stoppable: bool = True
    """Whether a handler can be stopped when its lease is lost; a thread cannot."""


class Run(msgspec.Struct, kw_only=True):
    """One execution of a handler."""

    name: str
    job: str
    type: str
    pid: int
    start: float
    priority: int = 0
    end: float | None = None
    how: str = ""
    """Empty: nothing was heard of its end."""


class Fault(msgspec.Struct, kw_only=True):
    """Something that the nemesis did, for some time, to one process or (pid 0) to all."""

    kind: str
    pid: int
    start: float
    end: float


class Verdict(msgspec.Struct, kw_only=True):
    """Whether the promises were kept, and the figures."""

    violations: list[str]
    accepted: int
    jobs: int
    executions: int
    duplicates: int
    """Executions beyond those that a job's own wish explains; each has a fault that explains it."""
    faults: dict[str, int]
    crashes: int
    recoveries: list[float]
    """Seconds from a process's death to the next start of each job that it ran, sorted."""
    waits: list[float]
    """Seconds from acceptance to the first start, sorted."""


def emptiness(verdict: Verdict, *, given: int = 0) -> list[str]:
    """What did not happen: where nothing ran, or nothing went wrong, no promise was put to the test.

    Args:
        verdict: on the run.
        given: how many of the accepted jobs are there in any case.
    """
    counts = {
        "job was accepted": verdict.accepted - given,
        "handler ran": verdict.executions - given,
        "fault struck": sum(verdict.faults.values()),
    }
    return [f"empty: no {what}" for what, count in counts.items() if count < 1]


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted values; 0 when there are none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def check(
    events: Sequence[Event],
    finals: Iterable[Final],
    promises: dict[str, Promise],
    *,
    slots: int,
    lease_s: float,
    in_turn: bool = False,
) -> Verdict:
    """Hold a history against what the store says of every job.

    Args:
        events: in the order of their times.
        finals: every job that is in the store in the end.
        promises: by type.
        slots: how many handlers a process may run at the same time.
        lease_s: of the workers.
        in_turn: whether processes write one after the other: one that is stopped may have the turn.
    """
    case = _Case(events, finals, promises, slots, lease_s)
    case.in_turn = in_turn
    violations = [text for rule in _RULES for text in rule(case)]
    return Verdict(
        violations=violations,
        accepted=len(case.accepted),
        jobs=len(case.finals),
        executions=sum(map(len, case.runs.values())),
        duplicates=sum(len(extra) for extra in map(case.repeated, case.runs)),
        faults=dict(Counter(fault.kind for fault in case.faults)),
        crashes=sum(final.crashes for final in case.finals.values()),
        recoveries=sorted(again - killed for killed, again in case.recoveries()),
        waits=sorted(case.waits()),
    )


class _Case:
    """The history, arranged."""

    def __init__(
        self,
        events: Sequence[Event],
        finals: Iterable[Final],
        promises: dict[str, Promise],
        slots: int,
        lease_s: float,
    ) -> None:
        self.in_turn = False
        self.promises = promises
        self.slots = slots
        self.lease_s = lease_s
        self.first = events[0].t if events else 0.0
        self.last = events[-1].t if events else 0.0
        self.finals = {final.id: final for final in finals}
        self.asked = {e.key for e in events if e.what == "adding"}
        self.answers = [e for e in events if e.what == "accepted"]
        self.accepted = {e.job: e for e in self.answers}
        self.calm = min((e.t for e in events if e.what == "calm"), default=self.last)
        self.runs: defaultdict[str, list[Run]] = defaultdict(list)
        self.by_name: dict[str, Run] = {}
        for event in events:
            if event.what == "start":
                run = Run(
                    name=event.run,
                    job=event.job,
                    type=event.type,
                    pid=event.pid,
                    start=event.t,
                    priority=event.priority,
                )
                self.runs[event.job].append(run)
                self.by_name[event.run] = run
            elif event.what == "end" and event.run in self.by_name:
                run = self.by_name[event.run]
                run.end, run.how = event.t, event.how
        self.faults = list(_faults(events, self.last))
        self.harmful = [fault for fault in self.faults if fault.kind not in HARMLESS]

    def told(self, run: Run) -> str:
        """Its name and times, in seconds of the history."""
        end = "" if run.end is None else f"{run.end - self.first:.2f} {run.how}"
        return f"{run.name} ({run.start - self.first:.2f}-{end})"

    def over(self, run: Run) -> float:
        """When *run* did its last: it ended, or its process was stopped for good."""
        if run.end is not None:
            return run.end
        # It was alive when the kill was noted, and dead when it was healed.
        kills = [f.end for f in self.faults if f.kind == "kill" and f.pid == run.pid]
        return min((t for t in kills if t >= run.start), default=self.last)

    def struck(self, run: Run, until: float) -> bool:
        """Whether a fault met *run* or its report before *until*."""
        if run.end is not None:
            until = min(until, run.end + REPORT_S)
        return any(
            (fault.pid in (0, run.pid) or (self.in_turn and fault.kind == "stop"))
            and fault.start <= until
            and fault.end + SLACK_S >= run.start
            for fault in self.harmful
        )

    def repeated(self, job: str) -> list[tuple[Run, Run]]:
        """Executions that were followed by another although they did not ask for it.

        A wish counts as often as its type has one: who asks again has not been heard.
        """
        runs = self.runs[job]
        wishes = [run for run in runs if run.how == "again"]
        granted = wishes[len(wishes) - self.promises[runs[0].type].wishes :] if wishes else []
        return [(a, b) for a, b in pairwise(runs) if not any(a is run for run in granted)]

    def recoveries(self) -> Iterator[tuple[float, float]]:
        """For what was running in a killed process: when it was killed, and when it ran again."""
        wide = [fault for fault in self.harmful if fault.pid == 0]
        for fault in self.faults:
            if fault.kind != "kill":
                continue
            for runs in self.runs.values():
                for a, b in pairwise(runs):
                    if a.pid != fault.pid or a.end is not None or a.start > fault.end:
                        continue
                    # While nobody reaches the store nobody can recover.
                    if not any(w.start <= b.start and w.end >= fault.start for w in wide):
                        yield fault.start, b.start

    def waits(self) -> Iterator[float]:
        """How long accepted jobs waited for their first start."""
        for job, event in self.accepted.items():
            if self.runs[job]:
                yield max(0.0, self.runs[job][0].start - event.t)


def _faults(events: Sequence[Event], last: float) -> Iterator[Fault]:
    open_ones: dict[tuple[str, int], float] = {}
    for event in events:
        key = (event.how, event.pid)
        if event.what == "fault":
            open_ones.setdefault(key, event.t)
        elif event.what == "healed" and key in open_ones:
            yield Fault(kind=event.how, pid=event.pid, start=open_ones.pop(key), end=event.t)
    for (kind, pid), start in open_ones.items():
        yield Fault(kind=kind, pid=pid, start=start, end=last)


# The rules


def _lost(case: _Case) -> Iterator[str]:
    """P1: what was accepted is in the store."""
    for answer in case.answers:
        if answer.job not in case.finals:
            yield f"lost: job {answer.job} was accepted and is not in the store"
        elif case.finals[answer.job].key != answer.key:
            yield f"mistaken: {answer.key} was accepted as {answer.job}, which is another's job"


def _invented(case: _Case) -> Iterator[str]:
    """Nothing is in the store that nobody asked for, and nothing twice."""
    keys = Counter(final.key for final in case.finals.values() if final.key)
    for key, count in keys.items():
        if key not in case.asked:
            yield f"invented: nobody asked for {key}"
        elif count > 1:
            yield f"doubled: {key} was asked for once and is there {count} times"


def _final(case: _Case) -> Iterator[str]:
    """P2: every job comes to what its type promises, after as many attempts."""
    for final in case.finals.values():
        promise = case.promises[final.type]
        if final.status in ("pending", "processing"):
            yield f"stuck: job {final.id} is {final.status}"
        elif final.status == "failed" and final.crashes >= 3:
            deaths = sum(case.struck(run, case.last) for run in case.runs[final.id])
            if deaths < 3:
                yield f"quarantined: job {final.id} met {deaths} faults"
        elif final.status != promise.status:
            yield f"wrong end: job {final.id} ({final.type}) is {final.status}"
        else:
            # A handler whose call of the store failed has failed; `_explained` asks for the fault.
            most = promise.attempts + sum(run.how == "error" for run in case.runs[final.id])
            if not promise.attempts <= final.attempts <= most:
                yield f"attempts: job {final.id} ({final.type}) counts {final.attempts}"


def _recorded(case: _Case) -> Iterator[str]:
    """P2, P3: what is recorded is the last execution: it was not late, and none came after it."""
    for final in case.finals.values():
        if not final.run:
            if final.status == "completed":
                yield f"no execution: job {final.id} completed without one"
            continue
        runs = case.runs[final.id]
        if not runs or final.run not in {run.name for run in runs}:
            yield f"no execution: job {final.id} has the result of {final.run}"
        elif runs[-1].name != final.run:
            later = [run.name for run in runs if run.start > case.by_name[final.run].start]
            yield f"late outcome: job {final.id} has the result of {final.run}, but {later} began later"


def _explained(case: _Case) -> Iterator[str]:
    """P4: nothing runs again without its own wish or a fault that struck it."""
    for job in case.runs:
        for earlier, later in case.repeated(job):
            if not case.struck(earlier, later.start):
                yield (
                    f"unexplained: job {job} ran as {case.told(earlier)}, then as {case.told(later)}"
                )


def _overlapping(case: _Case) -> Iterator[str]:
    """P3, P4: two executions of a job overlap only while the first one's process cannot know."""
    for job, runs in case.runs.items():
        for earlier, later in pairwise(runs):
            if case.over(earlier) <= later.start:
                continue
            if not case.promises[earlier.type].stoppable and case.struck(earlier, later.start):
                continue
            if not any(_excuses(case, fault, earlier, later) for fault in case.faults):
                yield f"overlap: {case.told(earlier)} of job {job} still ran, {case.told(later)}"


def _excuses(case: _Case, fault: Fault, earlier: Run, later: Run) -> bool:
    """Whether *fault* kept the process of *earlier* from knowing that *later* began, and no longer."""
    if fault.kind not in DEADLY or fault.pid != earlier.pid:
        return False
    met = earlier.start - SLACK_S <= fault.start <= later.start <= fault.end + SLACK_S
    if not met or fault.kind == "kill":
        return met
    before = [one for one in case.harmful if one.pid in (0, fault.pid)]
    # What kept it from renewing may have begun before the stop, and may go on after it.
    unable_since = min(
        one.start
        for one in before
        if one.start <= fault.start and one.end + case.lease_s >= fault.start
    )
    if later.start - unable_since < LEAST_LEASE * case.lease_s:
        return False  # its lease was valid
    able_from = fault.end
    for one in before:
        if one.start <= able_from + SLACK_S:
            able_from = max(able_from, one.end)
    return case.over(earlier) <= able_from + case.lease_s


def _follow_ups(case: _Case) -> Iterator[str]:
    """P5: what commits with an outcome is there as often as the outcome, once."""
    children = Counter(final.parent for final in case.finals.values() if final.parent)
    for parent in children:
        if parent not in case.finals:
            yield f"orphan: follow-up of {parent}, which is not there"
    for final in case.finals.values():
        promise = case.promises[final.type]
        done = final.status == promise.status
        if children[final.id] != promise.follow_ups * done:
            yield f"follow-ups: job {final.id} ({final.status}) has {children[final.id]}"
        expected = (final.run,) if promise.effects and done else ()
        if final.effects != expected:
            yield f"effects: job {final.id} ({final.status}, {final.run}) has {final.effects}"


def _limits(case: _Case) -> Iterator[str]:
    """No process runs more at once than it has slots, nor more of a type than that one's limit."""
    by_pid: defaultdict[int, list[Run]] = defaultdict(list)
    for run in case.by_name.values():
        by_pid[run.pid].append(run)
    for pid, runs in by_pid.items():
        if (most := _most_at_once(case, runs)) > case.slots:
            yield f"slots: process {pid} ran {most} handlers at once"
        for kind, promise in case.promises.items():
            if promise.at_once is None:
                continue
            most = _most_at_once(case, [run for run in runs if run.type == kind])
            if most > promise.at_once:
                yield f"limit: process {pid} ran {most} of {kind} at once"


def _most_at_once(case: _Case, runs: Sequence[Run]) -> int:
    moments = [(run.start, 1) for run in runs] + [(case.over(run), -1) for run in runs]
    most = count = 0
    for _, by in sorted(moments):
        count += by
        most = max(most, count)
    return most


def _priorities(case: _Case) -> Iterator[str]:
    """Once it is calm, nothing starts that much before something of higher priority."""
    calm = sorted(
        (runs[0].start, runs[0].priority, runs[0].name)
        for runs in case.runs.values()
        if runs and runs[0].start > case.calm and runs[0].priority
    )
    starts = [start for start, _, _ in calm]
    for start, priority, name in calm:
        for _, other, overtaken in calm[bisect_left(starts, start + AHEAD_S) :]:
            if other > priority:
                yield f"priority: {name} ({priority}) began before {overtaken} ({other})"
                break


def _recovered(case: _Case) -> Iterator[str]:
    """P4: what a killed process ran runs again within 5 s, at the 99th percentile.

    Within a lease more where somebody else fell silent meanwhile, who may have claimed it.
    """
    silences = [fault for fault in case.harmful if fault.pid and fault.kind in SILENCING]
    delays = sorted(
        again
        - killed
        - case.lease_s * any(one.start <= again and one.end >= killed for one in silences)
        for killed, again in case.recoveries()
    )
    if percentile(delays, 0.99) > RECOVERY_S:
        yield f"recovery: p99 is {percentile(delays, 0.99):.2f} s of {len(delays)}"


_RULES: tuple[Callable[[_Case], Iterator[str]], ...] = (
    _lost,
    _invented,
    _final,
    _recorded,
    _explained,
    _overlapping,
    _follow_ups,
    _limits,
    _priorities,
    _recovered,
)
