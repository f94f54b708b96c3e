"""One storm from beginning to verdict: ``python -m chaos.storm --store sqlite --events 10000 --seed 1``."""

import argparse
import asyncio
import platform
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import msgspec

from chaos import checker
from chaos.checker import Final, Verdict, percentile
from chaos.history import History, read
from chaos.nemesis import Nemesis, Victim
from chaos.places import Place, place
from chaos.proxy import Proxy
from chaos.roles import Settings
from chaos.work import ORDERED, PROMISES
from durably import JobPriority, JobQueueService, NewJob, __version__

_KILL, _TERM, _AHEAD = signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1
HISTORY = "history.jsonl"
WORKERS = 3
PRODUCERS = 2
DRAIN_S = 60.0
"""So long may it take until everything is done, once it is calm."""
ORDERED_JOBS = 1_000
"""They must take much longer than `checker.AHEAD_S`, else no order could be told from another."""


async def storm(
    kind: str, *, events: int, seed: int, folder: Path, seconds: float | None = None
) -> Verdict:
    """Let it rage until *events* jobs were accepted, or for *seconds*; then judge.

    Args:
        kind: of store, see `places.place`.
        events: accepted jobs.
        seed: of the faults and of the work.
        folder: for the history and the processes' log.
        seconds: None: until there were enough events.
    """
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        # Until a process listens to them, and also before its first instruction.
        signal.signal(number, signal.SIG_IGN)
    settings = Settings(seed=seed)
    path = folder / HISTORY
    history, random = History(path), Random(seed)
    async with place(kind) as where, AsyncExitStack() as stack:
        async with JobQueueService(where.url):
            pass  # the schema is there
        await where.prepare()
        fleet = [
            await _victim(role, where, folder, settings, stack)
            for role in ["worker"] * WORKERS + ["producer"] * PRODUCERS
        ]
        for victim in fleet:
            await victim.start()
        try:
            enough = asyncio.Event()
            nemesis = Nemesis(where, fleet, history, random, settings.lease_s)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(nemesis.rage(enough))
                await _until_enough(path, events, seconds)
                enough.set()
            for victim in fleet:
                if victim.role == "producer":
                    victim.send(_KILL)
                    await victim.ended()
            for victim in fleet:
                # What was scheduled while the clock was ahead is due when the clock gets there.
                victim.send(_AHEAD)
            finals = await _calm(where, history)
            codes = await _end([victim for victim in fleet if victim.role == "worker"])
        finally:
            for victim in fleet:
                victim.send(_KILL)
        verdict = checker.check(
            read(path),
            finals,
            PROMISES,
            slots=settings.slots,
            lease_s=settings.lease_s,
            in_turn=not where.port,
        )
        verdict.violations += checker.emptiness(verdict, given=ORDERED_JOBS)
    verdict.violations += [f"exit code {code} after SIGTERM" for code in codes if code != 0]
    return verdict


async def _victim(
    role: str, where: Place, folder: Path, settings: Settings, stack: AsyncExitStack
) -> Victim:
    text = msgspec.json.encode(settings).decode()

    def command(role: str, url: str) -> list[str]:
        return [sys.executable, "-m", "chaos.roles", role, url, str(folder / HISTORY), text]

    log = stack.enter_context((folder / "log").open("ab"))
    if not where.port:
        return Victim(role, command, where.url, log)
    proxy = await stack.enter_async_context(Proxy(where.port))
    victim = Victim(role, command, where.through(proxy.port), log)
    victim.proxy = proxy
    return victim


async def _until_enough(path: Path, events: int, seconds: float | None) -> None:
    started, said = time.monotonic(), 0.0
    while True:
        accepted = await asyncio.to_thread(lambda: path.read_bytes().count(b'"accepted"'))
        passed = time.monotonic() - started
        if passed - said >= 10:
            said = passed
            print(f"{passed:5.0f} s: {accepted} jobs accepted", file=sys.stderr, flush=True)
        if accepted >= events or (seconds is not None and passed >= seconds):
            return
        await asyncio.sleep(0.5)


async def _calm(where: Place, history: History) -> list[Final]:
    """No more faults: everything is done in time; then some jobs whose order is looked at."""
    async with JobQueueService(where.url) as queue:
        await _drained(queue)
        await queue.pause(ORDERED)
        random = Random(0)
        new = [
            NewJob(
                "ordered",
                {"key": f"ordered-{n}"},
                queue=ORDERED,
                priority=random.choice([*JobPriority]),
            )
            for n in range(ORDERED_JOBS)
        ]
        for asked in new:
            history.say("adding", key=asked.payload["key"])
        for job in await queue.add_jobs(new):
            history.say("accepted", key=job.payload["key"], job=job.id)
        history.say("calm")
        await queue.resume(ORDERED)
        await _drained(queue)
        return await _finals(queue, where)


async def _drained(queue: JobQueueService) -> None:
    """Until nothing waits or runs, or the time is up: what is left then is stuck."""
    deadline = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline:
        stats = await queue.get_stats()
        if stats.pending_jobs == stats.processing_jobs == 0:
            return
        await asyncio.sleep(0.1)


async def _finals(queue: JobQueueService, where: Place) -> list[Final]:
    effects: dict[str, tuple[str, ...]] = {}
    for job, run in await where.effects():
        effects[job] = (*effects.get(job, ()), run)
    finals: list[Final] = []
    after = None
    while jobs := await queue.get_jobs(limit=1_000, after=after):
        after = jobs[-1].id
        finals += [
            Final(
                id=job.id,
                type=job.type,
                status=str(job.status),
                key=job.payload.get("key", ""),
                parent=job.payload.get("parent", ""),
                attempts=job.attempts,
                crashes=job.crashes,
                run=job.result or "",
                effects=effects.get(job.id, ()),
            )
            for job in jobs
        ]
    return finals


async def _end(workers: list[Victim]) -> list[int]:
    for victim in workers:
        victim.send(_TERM)
    return [await victim.ended() for victim in workers]


def report(verdict: Verdict, *, kind: str, seed: int) -> str:
    """The verdict in words."""
    recoveries, waits = verdict.recoveries, verdict.waits
    faults = ", ".join(f"{count} {name}" for name, count in sorted(verdict.faults.items()))
    lines = [
        f"store       {kind}, durably {__version__}, Python {platform.python_version()}",
        f"seed        {seed}",
        f"jobs        {verdict.accepted} accepted, {verdict.jobs} in the store with follow-ups",
        f"executions  {verdict.executions}, of them {verdict.duplicates} repeated because of a fault",
        f"faults      {sum(verdict.faults.values())}: {faults}",
        f"crashes     {verdict.crashes} on the jobs' records",
        "recovery    "
        + _percentiles(recoveries)
        + f" s from a process's death until each of its {len(recoveries)} jobs ran again",
        "wait        " + _percentiles(waits) + " s from acceptance to the first start",
    ]
    if verdict.violations:
        lines += [f"VIOLATED    {text}" for text in verdict.violations]
    else:
        lines.append("verdict     every promise was kept")
    return "\n".join(lines)


def _percentiles(values: list[float]) -> str:
    named = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return ", ".join(f"{name} {percentile(values, share):.2f}" for name, share in named.items())


def main() -> None:
    """Parse, rage, judge; exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m chaos.storm", description=__doc__)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--events", type=int, default=2_000, help="accepted jobs (2,000)")
    parser.add_argument("--seconds", type=float, help="end after so long in any case")
    parser.add_argument("--seed", type=int, default=1, help="of faults and work (1)")
    parser.add_argument("--keep", type=Path, help="folder for the history; else it is thrown away")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / HISTORY).unlink(missing_ok=True)
        verdict = asyncio.run(
            storm(
                given.store,
                events=given.events,
                seed=given.seed,
                folder=folder,
                seconds=given.seconds,
            )
        )
    print(report(verdict, kind=given.store, seed=given.seed))
    sys.exit(bool(verdict.violations))


if __name__ == "__main__":
    main()
