"""Durably beside other queues: `python -m benchmarks.peers.run [--store sqlite] [PEER …]`.

Repetitions are interleaved, so that what the machine does meanwhile hits all of them alike.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from tests.postgres import binaries, running_server

from benchmarks import support
from benchmarks.peers.trial import REQUIREMENTS, STORES, Entry, Places, Trial, cpu_s, end, install
from benchmarks.support import Figures

STAMPED = 200
PATIENCE_S = 15.0
WINDOWS = 6
PEERS = (
    Entry("durably", "memory", "durably:Durably", 40_000, own=True),
    Entry("by hand", "memory", "by_hand:Memory", 100_000, own=True),
    Entry("huey", "memory", "huey:Memory", 20_000),
    Entry("pgqueuer", "memory", "pgqueuer:Memory", 10_000),
    Entry("durably", "sqlite", "durably:Durably", 40_000, own=True),
    Entry("huey", "sqlite", "huey:Sqlite", 4_000, bulk=False, concurrent=False),
    Entry("litequeue", "sqlite", "litequeue:Done", 6_000, bulk=False, concurrent=False),
    Entry("persist-queue", "sqlite", "persist_queue:Acked", 3_000, bulk=False, concurrent=False),
    Entry("durably", "postgres", "durably:Durably", 40_000, lasting=True, own=True),
    Entry(
        "by hand", "postgres", "by_hand:Postgres", 40_000, concurrent=False, lasting=True, own=True
    ),
    Entry("pgqueuer", "postgres", "pgqueuer:Postgres", 30_000, lasting=True),
    Entry("chancy", "postgres", "chancy:Postgres", 8_000),
    Entry("procrastinate", "postgres", "procrastinate:Postgres", 3_000),
    Entry("saq", "postgres", "saq:Postgres", 3_000, bulk=False),
)


def measure(entry: Entry, trial: Trial, scale: float) -> Figures:
    """All that is asked of a peer."""
    jobs = max(40, int(entry.jobs * scale))
    if entry.store == "memory":
        took = trial.do("within", jobs)
        figures = {
            "add_single_per_s": jobs / took["single"],
            "process_1_per_s": jobs / took["process"],
        }
        return figures | support.percentiles("start", trial.tally.latencies())
    trial.do("prepare")
    few = max(20, jobs // 10)
    figures = {"add_single_per_s": few / trial.do("single", few)}
    waiting = few
    if entry.concurrent:
        figures["add_32_per_s"] = jobs / 2 / trial.do("concurrent", jobs // 2)
        waiting += jobs // 2
    for count in (1, 2):
        took = trial.do("bulk" if entry.bulk else "single", jobs)
        if entry.bulk and count == 1:
            figures["add_bulk_per_s"] = jobs / took
        waiting += jobs
        figures |= _drained(trial, count, waiting)
        waiting = 0
    return figures | support.percentiles("start", _latencies(trial, min(1.0, scale)))


def _latencies(trial: Trial, scale: float) -> list[float]:
    """From adding in one process to the start in another, on an idle queue.

    One job comes before: a worker that has just begun may look for jobs of dead ones first.
    """
    jobs = max(20, int(STAMPED * scale))
    trial.renew()
    with trial.workers(1):
        trial.tally.go()
        trial.do("single", 1)
        _wait_for_jobs(trial, 1)
        trial.do("slowly", jobs)
        _wait_for_jobs(trial, 1 + jobs)
    return trial.tally.latencies()


def _wait_for_jobs(trial: Trial, jobs: int) -> None:
    """Until so many have begun. A peer may look for work as seldom as each ten seconds."""
    deadline = time.monotonic() + PATIENCE_S
    while trial.tally.done < jobs and time.monotonic() < deadline:
        time.sleep(0.01)


def _drained(trial: Trial, workers: int, jobs: int) -> Figures:
    """Jobs per second from the first start to the last recorded outcome, and the workers' CPU."""
    trial.renew()
    with trial.workers(workers) as processes:
        settling = trial.start("settle", jobs)
        trial.wait_for(workers + 1, [settling])
        used = cpu_s(processes)
        trial.tally.go()
        took = float(trial.answer(settling))
        used = cpu_s(processes) - used
    return {
        f"process_{workers}_per_s": jobs / took,
        f"process_{workers}_cpu_us": used / jobs * 1e6,
    }


def last(trial: Trial, seconds: float, *, snapshot: str | None = None) -> Figures:
    """One process adds and one works, for a while: jobs per second over all and in each sixth.

    With *snapshot*, a PostgreSQL URL, somebody holds a REPEATABLE READ transaction all the while.
    """
    trial.do("prepare")
    with trial.workers(1), _held(snapshot):
        trial.tally.go()
        feeding = trial.start("feed", int(seconds) + 3)
        while not trial.tally.done:
            if feeding.poll() is not None:
                raise RuntimeError("no job of the feeder's has begun")
            time.sleep(0.01)
        windows = []
        for _ in range(WINDOWS):
            before, begun = trial.tally.done, time.monotonic()
            time.sleep(seconds / WINDOWS)
            windows.append((trial.tally.done - before) / (time.monotonic() - begun))
        end(feeding)
    return {
        "continuous_per_s": sum(windows) / WINDOWS,
        **{f"window_{at}_per_s": rate for at, rate in enumerate(windows, 1)},
        "last_of_first": windows[-1] / windows[0] if windows[0] else 0.0,
    }


@contextmanager
def _held(url: str | None) -> Iterator[None]:
    if url is None:
        yield
        return
    import psycopg

    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT count(*) FROM pg_class")
        yield
        connection.rollback()


class Run:
    """All repetitions of all peers, and who has failed."""

    def __init__(self, places: Places, *, scale: float, seconds: float) -> None:
        self._places = places
        self._scale = scale
        self._seconds = seconds
        self._rows: dict[str, dict[str, list[Figures]]] = {}
        self.failed: dict[str, str] = {}

    def repeat(self, entries: Sequence[Entry]) -> None:
        """Ask everybody everything once."""
        for entry in entries:
            self._ask(f"peers_{entry.store}", entry, self._measured)
        for entry in entries:
            if entry.lasting and self._seconds:
                self._ask("peers_continuous", entry, self._lasted)
                self._ask("peers_pinned", entry, partial(self._lasted, pinned=True))

    def _ask(self, question: str, entry: Entry, ask: Callable[[Entry], Figures]) -> None:
        key = f"{question} {entry.name}"
        if key in self.failed:
            return
        try:
            figures = ask(entry)
        except RuntimeError as error:
            self.failed[key] = str(error)
            print(error, file=sys.stderr)
            return
        self._rows.setdefault(question, {}).setdefault(entry.name, []).append(figures)
        print(question, entry.name, {name: round(value, 2) for name, value in figures.items()})

    def _measured(self, entry: Entry) -> Figures:
        with self._places.place(entry.store) as (place, folder):
            return measure(entry, Trial(entry, place, folder), self._scale)

    def _lasted(self, entry: Entry, *, pinned: bool = False) -> Figures:
        with self._places.place(entry.store) as (place, folder):
            trial = Trial(entry, place, folder)
            return last(trial, self._seconds, snapshot=place if pinned else None)

    def answers(self) -> dict[str, dict[str, support.Summary]]:
        """Medians and spread."""
        return {
            question: {peer: support.summary(rows) for peer, rows in peers.items()}
            for question, peers in self._rows.items()
        }


def main() -> None:
    """Measure, print and save."""
    options = _options()
    support.end_in_good_order()
    programs = binaries()
    if programs is None:
        print(support.NO_SERVER, file=sys.stderr)
    with nullcontext() if programs is None else running_server(programs) as server:
        places = Places(server)
        entries = [
            entry
            for entry in PEERS
            if entry.store in (options.store or places.stores)
            and entry.name in (options.peer or [entry.name])
        ]
        if not all(entry.own for entry in entries):
            install()
        run = Run(places, scale=options.scale, seconds=options.seconds)
        for _ in range(options.repetitions):
            run.repeat(entries)
    for question, subjects in run.answers().items():
        for peer, figures in subjects.items():
            support.show(question, peer, figures)
    settings = {"scale": options.scale, "seconds": options.seconds, "failed": run.failed,
                "repetitions": options.repetitions, "versions": _versions()}  # fmt: skip
    print("saved", support.save(run.answers(), options.out, settings))


def _versions() -> dict[str, str]:
    lines = REQUIREMENTS.read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {name.partition("[")[0]: version for name, version in pairs}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", action="append", choices=STORES)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of jobs")
    parser.add_argument(
        "--seconds", type=float, default=18.0, help="of each continuous trial; 0: none"
    )
    parser.add_argument("--out", type=Path, default=support.RESULTS / "local")
    parser.add_argument("peer", nargs="*", help=f"of {', '.join({e.name: 0 for e in PEERS})}; all")
    options = parser.parse_args()
    if unknown := set(options.peer) - {entry.name for entry in PEERS}:
        parser.error(f"unknown peer {min(unknown)!r}")
    return options


if __name__ == "__main__":
    main()
