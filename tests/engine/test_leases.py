"""Promises P3 and P4 within reach of one test: fencing, lost leases, a blocked event loop."""

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.engine.support import LONG_S, happened, until

from durably import (
    JobContext,
    JobQueueService,
    JobStatus,
    LeaseLostError,
    StoreBusyError,
    SyncJobContext,
)
from durably.engine import worker
from durably.store import Exchanged, Rescued, Store, WorkerInfo
from durably.stores.memory import MemoryStore

THIEF = """
import asyncio, sys
from durably import JobQueueService
from durably.engine import worker

worker.RESCUE_INTERVAL_S = 0.02

async def main(url, log):
    async def handler(job):
        with open(log, "a") as file:
            file.write("thief\\n")

    async with JobQueueService(url, processing_interval=0.02) as queue:
        queue.register_handler("a", handler)
        await queue.start_processing()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def eager_rescue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services look for lapsed leases all the time."""
    monkeypatch.setattr(worker, "RESCUE_INTERVAL_S", 0.02)


async def test_a_late_attempt_writes_nothing(
    store: Store, eager_rescue: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker thinks that it renews; another has run the job meanwhile. The fence holds."""
    monkeypatch.setattr(store, "renew", lambda _: True)
    running, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    late: list[type[BaseException]] = []

    async def slow(job: JobContext) -> str:
        running.set()
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue
        writes: list[Any] = [lambda: job.set_progress(1), lambda: job.step("late", lambda: 1)]
        for write in writes:
            try:
                await write()
            except LeaseLostError as error:
                late.append(type(error))
        ended.set()
        return "too late"

    async def quick(job: JobContext) -> Any:
        return job.payload

    async with (
        JobQueueService(store, lease=0.15, processing_interval=0.05) as one,
        JobQueueService(store) as two,
    ):
        one.register_handler("a", slow)
        one.register_handler("own", quick)
        two.register_handler("a", quick)
        await one.start_processing()
        job = await one.add_job("a", "in time")
        await happened(running)
        await two.start_processing()
        done = await two.wait(job.id, timeout=LONG_S)
        go.set()
        await happened(ended)
        # The worker that was taken for dead goes on under a new registration.
        own = await one.wait((await one.add_job("own", 1)).id, timeout=LONG_S)
        after = await two.get_job(job.id)
        await one.shutdown()

    assert (done.status, done.result, done.attempts) == (JobStatus.COMPLETED, "in time", 1)
    assert (done.crashes, [e.kind for e in done.errors]) == (1, ["crash"])
    assert late == [LeaseLostError] * 2
    assert after == done
    assert own.result == 1


async def test_who_cannot_renew_stops_before_the_lease_ends(
    store: Store, eager_rescue: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Async handlers are cancelled in time: nobody else runs the job before they have ended."""

    def fail(_: int) -> bool:
        raise StoreBusyError("the disk is gone")

    history: list[str] = []
    running = asyncio.Event()

    async def slow(job: JobContext) -> None:
        history.append("one starts")
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            history.append(f"one ends, cancelled={job.cancelled}")

    async def quick(job: JobContext) -> None:
        history.append("two starts")

    async with (
        JobQueueService(store, lease=0.5, processing_interval=60) as one,
        JobQueueService(store, processing_interval=0.02) as two,
    ):
        one.register_handler("a", slow)
        two.register_handler("a", quick)
        await one.start_processing()
        monkeypatch.setattr(store, "renew", fail)
        job = await one.add_job("a")
        await happened(running)
        await one.stop_processing()
        await two.start_processing()
        done = await two.wait(job.id, timeout=LONG_S)
        monkeypatch.undo()

    assert history == ["one starts", "one ends, cancelled=True", "two starts"]
    assert (done.status, done.attempts) == (JobStatus.COMPLETED, 1)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_lost_lease_costs_no_job(
    store: Store, monkeypatch: pytest.MonkeyPatch, in_thread: bool
) -> None:
    """A lone worker that could not renew for a while runs its jobs again afterwards."""

    def fail(_: int) -> bool:
        raise StoreBusyError("the disk is gone")

    running, told = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    runs = 0

    async def on_loop(job: JobContext) -> str:
        nonlocal runs
        runs += 1
        if runs == 1:
            running.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                told.set()
        return f"run {runs}"

    def thread(job: SyncJobContext) -> str:
        nonlocal runs
        runs += 1
        if runs == 1:
            loop.call_soon_threadsafe(running.set)
            while not job.cancelled:
                time.sleep(0.001)
            loop.call_soon_threadsafe(told.set)
        return f"run {runs}"

    async with JobQueueService(store, lease=0.3, processing_interval=0.05) as queue:
        queue.register_handler("a", thread if in_thread else on_loop)
        await queue.start_processing()
        with monkeypatch.context() as patch:
            patch.setattr(store, "renew", fail)
            job = await queue.add_job("a")
            await happened(running)
            await happened(told)
        done = await queue.wait(job.id, timeout=LONG_S)

    assert (done.status, done.result, done.attempts) == (JobStatus.COMPLETED, "run 2", 1)


class SlowReplies(MemoryStore):
    """Answers late: much happens while an exchange is on its way."""

    async def exchange(self, worker: int, **options: Any) -> Exchanged:
        result = await super().exchange(worker, **options)
        await asyncio.sleep(0.02)
        return result


async def test_a_lease_lost_during_an_exchange_costs_no_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The handler ends while the worker waits for the store; the job is run again all the same."""
    running, told = asyncio.Event(), asyncio.Event()

    async def handler(job: JobContext) -> str:
        if running.is_set():
            return "again"
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.set()
        return "never"

    def fail(_: int) -> bool:
        raise StoreBusyError("the disk is gone")

    store = SlowReplies()
    async with JobQueueService(store, lease=0.3, processing_interval=0.001) as queue:
        queue.register_handler("a", handler)
        await queue.start_processing()
        with monkeypatch.context() as patch:
            patch.setattr(store, "renew", fail)
            job = await queue.add_job("a")
            await happened(running)
            await happened(told)
        done = await queue.wait(job.id, timeout=LONG_S)

    assert (done.status, done.result, done.attempts) == (JobStatus.COMPLETED, "again", 1)


async def test_a_cancelled_job_of_a_dead_worker_is_not_run_again(
    store: Store, eager_rescue: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked to cancel and its worker fell silent: rescued, it is cancelled."""
    monkeypatch.setattr(store, "renew", lambda _: True)
    running, go = asyncio.Event(), asyncio.Event()
    ran: list[str] = []

    async def silent(job: JobContext) -> None:
        running.set()
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()

    async def eager(job: JobContext) -> None:
        ran.append(job.id)

    async with JobQueueService(store, lease=0.2) as one, JobQueueService(store) as two:
        one.register_handler("a", silent)
        two.register_handler("a", eager)
        await one.start_processing()
        job = await one.add_job("a")
        await happened(running)
        asked = await two.cancel_job(job.id)
        await two.start_processing()
        done = await two.wait(job.id, timeout=LONG_S)
        go.set()

    assert (asked.status, asked.cancelled) == (JobStatus.PROCESSING, True)
    assert (done.status, done.crashes, ran) == (JobStatus.CANCELLED, 1, [])


async def test_a_job_far_longer_than_the_lease_runs_once(store: Store, eager_rescue: None) -> None:
    """It is renewed for as long as it runs; others look on."""
    runs: list[str] = []

    async def slow(job: JobContext) -> str:
        runs.append(str(job.worker))
        await asyncio.sleep(0.8)
        return "done"

    async with (
        JobQueueService(store, lease=0.2) as one,
        JobQueueService(store, lease=0.2) as two,
    ):
        for queue in (one, two):
            queue.register_handler("a", slow)
            await queue.start_processing()
        done = await one.wait((await one.add_job("a")).id, timeout=LONG_S)

    assert (done.result, done.attempts, done.crashes, len(runs)) == ("done", 1, 0, 1)


async def test_a_blocked_event_loop_loses_no_lease(sqlite_url: str, tmp_path: Path) -> None:
    """The handler blocks the loop for longer than the lease; another process may not steal."""
    log = tmp_path / "runs"
    program = tmp_path / "thief.py"
    program.write_text(THIEF)
    running, go = asyncio.Event(), asyncio.Event()

    async def rude(job: JobContext) -> str:
        with log.open("a") as file:
            file.write("owner\n")
        running.set()
        await go.wait()
        time.sleep(1.5)  # that is the point
        return "owner"

    async with JobQueueService(sqlite_url, lease=0.6) as queue:
        queue.register_handler("a", rude)
        await queue.start_processing()
        job = await queue.add_job("a")
        await happened(running)
        thief = subprocess.Popen(
            [sys.executable, str(program), sqlite_url, str(log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert thief.stdin is not None
        assert thief.stdout is not None
        try:
            assert await asyncio.to_thread(thief.stdout.readline) == b"ready\n"
            go.set()
            done = await queue.wait(job.id, timeout=LONG_S)
            # The thief is alive and able: it takes what is free.
            await queue.stop_processing()
            free = await queue.add_job("a")
            await until(queue, free.id, lambda job: job.status.is_final)
        finally:
            thief.stdin.close()
            await asyncio.to_thread(thief.wait, LONG_S)
            thief.stdout.close()

    assert (done.result, done.attempts, done.crashes, done.errors) == ("owner", 1, 0, ())
    assert log.read_text() == "owner\nthief\n"


async def test_a_handlers_thread_may_outlive_the_loops_patience(sqlite_url: str) -> None:
    """A thread that holds no lock of the interpreter keeps its lease however long it takes."""
    go = threading.Event()

    def slow(job: SyncJobContext) -> str:
        go.wait(0.7)
        return "done"

    async with JobQueueService(sqlite_url, lease=0.2) as queue:
        queue.register_handler("a", slow)
        await queue.start_processing()
        done = await queue.wait((await queue.add_job("a")).id, timeout=LONG_S)

    assert (done.result, done.attempts, done.crashes) == ("done", 1, 0)


async def test_a_worker_asks_for_all_dead_but_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been late with its own lease and still hold it: others judge that."""
    monkeypatch.setattr(worker, "RESCUE_INTERVAL_S", 0.001)
    asked = asyncio.Event()
    registered: list[int] = []
    excepted: list[int | None] = []

    class Watched(MemoryStore):
        async def register(self, info: WorkerInfo) -> int:
            registered.append(await super().register(info))
            return registered[-1]

        async def rescue(self, worker: int | None = None) -> Rescued:
            excepted.append(worker)
            if len(excepted) == 3:  # at its start, and now and then
                asked.set()
            return await super().rescue(worker)

    async with JobQueueService(Watched()) as queue:
        await queue.start_processing()
        await happened(asked)

    assert set(excepted) == set(registered)
