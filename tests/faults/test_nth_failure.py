"""One scenario, run once for each call that it makes of its store, and that call fails.

Not carried out, carried out with its reply lost, or the end of the process: whichever call it is,
the same promises hold in the end.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from durably import (
    Cancel,
    Fail,
    Job,
    JobContext,
    JobQueueService,
    JobStatus,
    RetryPolicy,
    Snooze,
    StoreError,
)
from durably.domain.clock import to_datetime
from durably.store import Store
from durably.stores.memory import MemoryStore
from durably.stores.sqlite.store import SQLiteStore
from durably.testing import Fault, FaultyStore, Plan, VirtualClock, at_random, on_call, until
from durably.testing.conformance.support import by_status

STEP_S = 0.25
LONGEST_S = 10.0
"""Real seconds for one run, which takes a small part of one."""
FAILURES = (Fault.FAIL_BEFORE, Fault.FAIL_AFTER)
CRASHES = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER)
EXPECTED = {
    "plain": JobStatus.COMPLETED,
    "flaky": JobStatus.COMPLETED,
    "sleepy": JobStatus.COMPLETED,
    "stepping": JobStatus.COMPLETED,
    "writing": JobStatus.COMPLETED,
    "completing": JobStatus.COMPLETED,
    "hopeless": JobStatus.FAILED,
    "quitting": JobStatus.CANCELLED,
    "late": JobStatus.COMPLETED,
}


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What fails on purpose hundreds of times is not worth printing."""
    caplog.set_level(logging.CRITICAL, logger="durably")
    caplog.set_level(logging.CRITICAL, logger="asyncio")


class Scenario:
    """A program with a handler of each sort, and what its handlers did in the world.

    What it did is kept here, outside of the store, and by the lives of several processes.
    """

    def __init__(self) -> None:
        self.accepted: dict[str, str] = {}
        """Type by id of the jobs that `add_job` returned."""
        self.cancelled: set[str] = set()
        """Ids of the jobs for which `cancel_job` returned."""
        self.starts = Counter[str]()
        self.snoozes = Counter[str]()
        self.failures = Counter[str]()
        self.steps = Counter[tuple[str, str]]()
        self.finished = Counter[str]()
        """How often a handler of the job came to its good end."""
        self._todo = [*EXPECTED, "delayed", "unwanted", "twin", "twin"]

    def service(self, store: Store, clock: VirtualClock) -> JobQueueService:
        """The queue with its handlers but the late one."""
        queue = JobQueueService(
            store,
            concurrency=3,
            clock=clock,
            retry=RetryPolicy(max_attempts=50, base_delay=0.5, max_delay=2.0, jitter=0),
        )
        for kind in EXPECTED:
            if kind != "late":
                queue.register_handler(kind, self._counted(getattr(self, f"_{kind}")))
        return queue

    async def produce(self, queue: JobQueueService) -> None:
        """Add what has not been added yet, and cancel one; what fails is tried again."""
        while self._todo:
            await self._insist(queue, self._todo[0])
            del self._todo[0]
        for job_id, kind in self.accepted.items():
            if kind == "unwanted":
                await self._insist_on_cancel(queue, job_id)
        queue.register_handler("late", self._counted(self._plain))

    async def _insist(self, queue: JobQueueService, kind: str) -> None:
        options: dict[str, dict[str, Any]] = {
            "delayed": {"delay": 3.0},
            "unwanted": {"delay": 60.0},
            "twin": {"delay": 1.0, "unique_key": "twin"},
        }
        job_type = "plain" if kind in options else kind
        while True:
            try:
                job = await queue.add_job(job_type, kind, **options.get(kind, {}))
            except StoreError:
                continue
            self.accepted[job.id] = kind
            return

    async def _insist_on_cancel(self, queue: JobQueueService, job_id: str) -> None:
        while True:
            try:
                if (job := await queue.get_job(job_id)) is None or job.status.is_final:
                    return
                await queue.cancel_job(job_id)
                self.cancelled.add(job_id)
            except StoreError:
                continue

    # Handlers

    def _counted(self, handler: Callable[[JobContext], Any]) -> Callable[[JobContext], Any]:
        async def run(job: JobContext) -> Any:
            self.starts[job.id] += 1
            result = await handler(job)
            self.finished[job.id] += 1
            return result

        return run

    async def _plain(self, job: JobContext) -> Any:
        return job.payload

    async def _flaky(self, job: JobContext) -> str:
        self.failures[job.id] += 1
        if self.failures[job.id] <= 2:
            raise ConnectionError("not yet")
        return "at last"

    async def _sleepy(self, job: JobContext) -> str:
        self.snoozes[job.id] += 1
        if self.snoozes[job.id] == 1:
            raise Snooze(1.5)
        return "awake"

    async def _stepping(self, job: JobContext) -> int:
        total = 0
        for number, name in enumerate(("one", "two"), start=1):
            total += await job.step(name, partial(self._step, job, name, number))
            await job.set_progress(number / 2, name)
        return total

    def _step(self, job: JobContext, name: str, result: int) -> int:
        self.steps[job.id, name] += 1
        return result

    async def _writing(self, job: JobContext) -> None:
        job.changes.put("thing", job.id, "written")
        job.changes.emit("written", job.id, None)
        job.add_job("plain", {"parent": job.id})

    async def _completing(self, job: JobContext) -> None:
        async with job.complete("done") as tx:
            tx.add_job("plain", {"parent": job.id})
            job.changes.put("thing", job.id, "written")
            job.changes.emit("written", job.id, None)

    async def _hopeless(self, job: JobContext) -> None:
        job.changes.emit("written", job.id, None)
        job.add_job("plain", {"parent": job.id})
        raise Fail("never")

    async def _quitting(self, job: JobContext) -> None:
        raise Cancel("not today")


@asynccontextmanager
async def passing(clock: VirtualClock) -> AsyncIterator[None]:
    """Time passes by itself within the block, some hundred times as fast as it does."""

    async def go_on() -> None:
        while True:
            await clock.advance(STEP_S)
            # SQLite's threads need a moment of real time.
            await asyncio.sleep(0.000_5)

    task = asyncio.get_running_loop().create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def mortal(queue: JobQueueService, faulty: FaultyStore) -> AsyncIterator[JobQueueService]:
    """The open service, which is shut down after the block, unless its process has died."""
    await queue.__aenter__()
    try:
        yield queue
    finally:
        if not faulty.crashed:
            await queue.__aexit__(None, None, None)


async def _jobs(store: Store) -> list[Job]:
    return await store.find(limit=1_000)


async def _all_is_done(store: Store) -> bool:
    """Whether every job is final, and whoever looks sees all handlers of the worker."""
    announced = {kind for worker in await store.workers() for kind in worker.info.types}
    return announced == set(EXPECTED) and all(job.status.is_final for job in await _jobs(store))


async def work(scenario: Scenario, faulty: FaultyStore, clock: VirtualClock) -> None:
    """The scenario in one process from its start to its shutdown."""
    store = faulty.store
    try:
        async with (
            asyncio.timeout(LONGEST_S),
            passing(clock),
            mortal(scenario.service(faulty, clock), faulty) as queue,
        ):
            await start(queue)
            await scenario.produce(queue)
            await until(lambda: _all_is_done(store), timeout=LONGEST_S / 2, interval=0.001)
    except TimeoutError as error:
        error.add_note(f"workers: {await store.workers()}")
        error.add_note(f"not final: {[j for j in await _jobs(store) if not j.status.is_final]}")
        raise


async def start(queue: JobQueueService) -> None:
    """Start processing, and try again when that fails."""
    while not queue.is_processing:
        try:
            await queue.start_processing()
        except StoreError:
            continue


# The promises


async def check(scenario: Scenario, store: Store, clock: VirtualClock) -> None:
    """What must hold in the end, whichever call failed."""
    jobs = {job.id: job for job in await _jobs(store)}
    for job_id, kind in scenario.accepted.items():
        assert job_id in jobs, f"the accepted job {kind} is lost"
        if kind != "unwanted":
            assert jobs[job_id].status is EXPECTED.get(kind, JobStatus.COMPLETED), jobs[job_id]
        elif job_id in scenario.cancelled:
            assert jobs[job_id].status is JobStatus.CANCELLED
    for job in jobs.values():
        check_job(scenario, job)
    await check_follow_ups(store, list(jobs.values()))
    figures = await store.stats()
    counts = Counter((job.queue, job.type, job.status) for job in jobs.values())
    assert counts == by_status(figures)
    assert figures.late_outcomes == 0
    assert {worker.held for worker in await store.workers()} <= {0}


def check_job(scenario: Scenario, job: Job) -> None:
    """The job did what its status says, once; every start is accounted for."""
    assert job.crashes <= 1
    # `complete` may have committed though its handler was told otherwise.
    least = job.status is JobStatus.COMPLETED and job.type != "completing"
    most = 1 + job.crashes if job.status is JobStatus.COMPLETED else 0
    assert least <= scenario.finished[job.id] <= most
    starts = scenario.starts[job.id]
    snoozed = min(1, scenario.snoozes[job.id])
    assert job.attempts <= starts <= job.attempts + snoozed + job.crashes


async def check_follow_ups(store: Store, jobs: list[Job]) -> None:
    """What commits with an outcome is there exactly once: follow-up, record, event."""
    parents = [job.payload["parent"] for job in jobs if isinstance(job.payload, dict)]
    expected = [job.id for job in jobs if job.type in ("writing", "completing", "hopeless")]
    assert sorted(parents) == sorted(expected)
    assert sorted(event.subject for event in await store.events()) == sorted(expected)
    records = await store.records("thing")
    written = [job.id for job in jobs if job.type in ("writing", "completing")]
    assert sorted(record.id for record in records) == sorted(written)
    assert {record.version for record in records} == {1}


def check_nothing_ran_twice(scenario: Scenario, jobs: list[Job], fault: Fault) -> None:
    """Without a death of the process a good end is never repeated, nor a stored step."""
    for job in jobs:
        assert job.crashes == 0
        assert scenario.finished[job.id] <= 1
        assert scenario.starts[job.id] == job.attempts + min(1, scenario.snoozes[job.id])
    assert max(scenario.steps.values()) <= 1 + (fault is Fault.FAIL_BEFORE)


# The loops


@asynccontextmanager
async def opened(kind: str, folder: Path, clock: VirtualClock) -> AsyncIterator[Store]:
    """A new store of a kind."""
    store: Store = MemoryStore(clock=clock)
    if kind == "sqlite":
        store = SQLiteStore(f"sqlite:///{folder}/jobs.db", clock=clock)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def run_once(kind: str, folder: Path, plan: Plan, fault: Fault) -> int:
    """The scenario with a plan; how many calls it made."""
    folder.mkdir()
    clock, scenario = VirtualClock(), Scenario()
    async with opened(kind, folder, clock) as store:
        faulty = FaultyStore(store, plan)
        await work(scenario, faulty, clock)
        await check(scenario, store, clock)
        check_nothing_ran_twice(scenario, await _jobs(store), fault)
    return faulty.calls.total()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("fault", FAILURES)
async def test_any_one_call_may_fail(tmp_path: Path, kind: str, fault: Fault) -> None:
    """For every k, when call k fails, all promises hold in the end."""
    calls = await run_once(kind, tmp_path / "0", on_call(0, fault), fault)

    assert calls > 30
    for number in range(1, calls + 1):
        try:
            await run_once(kind, tmp_path / str(number), on_call(number, fault), fault)
        except BaseException as error:
            error.add_note(f"{kind}: {fault} at call {number} of {calls}")
            raise


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("seed", range(5))
async def test_many_calls_may_fail(tmp_path: Path, kind: str, seed: int) -> None:
    """With every tenth call failing, late or carried out twice, all promises hold all the same."""
    await run_once(kind, tmp_path / "0", at_random(Random(seed), 0.1), Fault.FAIL_BEFORE)


# Deaths


def live(scenario: Scenario, url: str, clock: VirtualClock, plan: Plan) -> FaultyStore:
    """One life of a process on the file, which ends with the work or with a crash.

    Its event loop is its own: what the crash leaves behind goes with the loop. Closing the store
    object frees the locks of its workers, as the kernel does for those of a dead process.
    """
    inner = SQLiteStore(url, clock=clock)
    faulty = FaultyStore(inner, plan)

    async def main() -> None:
        await inner.open()
        try:
            process = asyncio.get_running_loop().create_task(work(scenario, faulty, clock))
            while not faulty.crashed and not process.done():
                await asyncio.wait([process], timeout=0.001)
            if not faulty.crashed:
                await process
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        finally:
            while inner._opened:  # the dead closed nothing
                await inner.close()

    with asyncio.Runner() as runner:
        runner.run(main())
    return faulty


async def check_file(scenario: Scenario, url: str, clock: VirtualClock) -> None:
    """The promises, seen by a store that knows nothing of the lives before."""
    store = SQLiteStore(url, clock=clock)
    await store.open()
    try:
        await check(scenario, store, clock)
    finally:
        await store.close()


def run_with_crash(folder: Path, plan: Plan) -> int:
    """Lives on one file until one ends well; how many calls the first made."""
    folder.mkdir()
    url, clock, scenario = f"sqlite:///{folder}/jobs.db", VirtualClock(), Scenario()
    first = live(scenario, url, clock, plan)
    if first.crashed:
        clock = VirtualClock(to_datetime(clock.now_us()))
        assert not live(scenario, url, clock, on_call(0, Fault.DELAY)).crashed
    with asyncio.Runner() as runner:
        runner.run(check_file(scenario, url, clock))
    return first.calls.total()


@pytest.mark.parametrize("fault", CRASHES)
def test_the_process_may_die_at_any_call(tmp_path: Path, fault: Fault) -> None:
    """For every k, when the process dies before or after call k, the next one ends the work."""
    calls = run_with_crash(tmp_path / "0", on_call(0, fault))

    assert calls > 30
    for number in range(1, calls + 1):
        try:
            run_with_crash(tmp_path / str(number), on_call(number, fault))
        except BaseException as error:
            error.add_note(f"{fault} at call {number} of {calls}")
            raise


async def test_cancelling_every_task_ends_the_service() -> None:
    """As an event loop does that is closed: the program ends, in whatever order they are told."""

    async def program() -> None:
        async with JobQueueService("memory://") as queue:
            queue.register_handler("work", lambda job: job.payload)
            await queue.start_processing()
            started.set()
            await asyncio.Event().wait()

    started = asyncio.Event()
    main = asyncio.get_running_loop().create_task(program())
    await started.wait()
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task(), main}
    for task in (main, *others):
        task.cancel()
    done, _ = await asyncio.wait([main], timeout=LONGEST_S / 2)
    main.cancel()
    await asyncio.wait([main])

    assert done, "the service waits for ever for a worker that was cancelled"
