"""The locks beside the SQLite file: who is alive, whose turn it is, under whatever name."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from durably import JobQueueService
from durably.stores.sqlite.locks import FileLock, Liveness, Turnstile
from durably.stores.sqlite.store import SQLiteStore

LONG_S = 60.0
"""How long anything may take on a machine that is busy with other things."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "locks"
    folder.mkdir()
    return folder


def until_blocked() -> None:
    """Wait until a thread of this process waits in the kernel for a file lock."""
    pause = threading.Event()
    while not any(
        line.split()[1] == "->" and line.split()[5] == str(os.getpid())
        for line in Path("/proc/locks").read_text().splitlines()
    ):
        pause.wait(0.005)


def start(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


# One lock


def test_a_lock_is_held_by_one(folder: Path) -> None:
    """A second opening of the file is refused until the first gives the lock up."""
    first, second = FileLock(folder / "lock"), FileLock(folder / "lock")
    assert first.try_acquire()
    assert not second.try_acquire()

    first.release()

    assert second.try_acquire()
    second.close()
    assert first.try_acquire()
    first.close()
    first.close()


def test_an_error_of_the_system_is_not_taken_for_a_held_lock(folder: Path) -> None:
    """Only "would block" means that another has the lock."""
    lock = FileLock(folder / "lock")
    lock.close()

    with pytest.raises((OSError, ValueError), match="descriptor"):
        lock.try_acquire()


# The turnstile


def test_who_waits_comes_before_who_has_just_left(folder: Path) -> None:
    """A turn that is wanted again at once comes after that of another who has been waiting."""
    mine, other = Turnstile(folder), Turnstile(folder)
    turns = []

    def take_a_turn() -> None:
        with other:
            turns.append("other")

    with mine:
        waiting = start(take_a_turn)
        until_blocked()
    with mine:
        turns.append("mine")
    waiting.join(LONG_S)

    assert ["other", "mine"] == turns
    mine.close()
    other.close()


def test_an_error_inside_passes_the_turn_on(folder: Path) -> None:
    """Whoever leaves by an exception has left."""
    mine, other = Turnstile(folder), Turnstile(folder)

    with pytest.raises(ZeroDivisionError), mine:
        raise ZeroDivisionError
    entered = start(other.__enter__)
    entered.join(LONG_S)

    assert not entered.is_alive()
    mine.close()
    other.close()


async def test_a_block_that_is_cancelled_while_it_waits_passes_the_turn_on(tmp_path: Path) -> None:
    """Cancelling `complete` before it has begun leaves neither a turn nor a transaction open."""
    async with JobQueueService(f"sqlite:///{tmp_path}/jobs.db") as queue:
        store = queue._store
        assert isinstance(store, SQLiteStore)
        other = Turnstile(tmp_path / "jobs.db-locks")

        with other:
            waiting = asyncio.ensure_future(store._own.begin(lambda session: None))
            await asyncio.to_thread(until_blocked)
            waiting.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await waiting

        async with asyncio.timeout(LONG_S):
            await queue.add_job("quick")
        other.close()


# Who is alive


def test_a_held_worker_lives_until_it_is_dropped(folder: Path) -> None:
    """Others see it alive, and dead once it is dropped; its file goes with it."""
    own, others = Liveness(folder), Liveness(folder)
    own.hold(1)
    own.hold(1)

    assert not own.is_dead(1)
    assert not others.is_dead(1)
    with pytest.raises(RuntimeError, match="worker 1 is already alive"):
        others.hold(1)

    own.drop(1)
    own.drop(1)

    assert own.is_dead(1)
    assert others.is_dead(1)
    assert [] == list(folder.iterdir())


def test_closing_drops_every_worker(folder: Path) -> None:
    """Nothing is left of the workers of a closed store."""
    own, others = Liveness(folder), Liveness(folder)
    for worker in range(3):
        own.hold(worker)

    own.close()

    assert [True] * 3 == [others.is_dead(worker) for worker in range(3)]
    assert [] == list(folder.iterdir())


def test_asking_makes_no_file(folder: Path) -> None:
    """Whoever asks for a worker that is gone leaves nothing behind."""
    assert Liveness(folder).is_dead(7)

    assert [] == list(folder.iterdir())


# One file, several names


async def see_each_other(first: JobQueueService, second: JobQueueService) -> None:
    """Each worker is alive for the other's store, and not rescued by it."""
    for queue in (first, second):
        await queue.start_processing()
    for queue in (first, second):
        store = queue._store
        assert isinstance(store, SQLiteStore)
        assert [True, True] == [worker.alive for worker in await store.workers()]
        assert () == (await store.rescue()).workers


async def test_a_link_leads_to_the_same_locks(tmp_path: Path) -> None:
    """Services that open one file by different names share its locks and its log."""
    (tmp_path / "jobs.db").touch()
    (tmp_path / "link.db").symlink_to(tmp_path / "jobs.db")

    async with (
        JobQueueService(f"sqlite:///{tmp_path}/jobs.db") as first,
        JobQueueService(f"sqlite:///{tmp_path}/link.db") as second,
    ):
        await see_each_other(first, second)

    assert ["jobs.db", "jobs.db-locks", "link.db"] == sorted(p.name for p in tmp_path.iterdir())


async def test_the_program_may_change_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is that of the folder the store was opened in, whatever comes later."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    async with (
        JobQueueService("sqlite:///jobs.db") as first,
        JobQueueService(f"sqlite:///{tmp_path}/jobs.db") as second,
    ):
        monkeypatch.chdir(tmp_path / "elsewhere")
        await see_each_other(first, second)
        await first.add_job("quick")

    assert [] == list((tmp_path / "elsewhere").iterdir())
