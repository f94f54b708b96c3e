"""The SQLite store where it cannot work: what each failure is called, and that nothing is lost."""

import asyncio
import gc
import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from durably import (
    Changeset,
    Job,
    JobContext,
    JobNotFoundError,
    JobQueueService,
    JobStatus,
    NewJob,
    SettingsError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnsupportedError,
)
from durably.store import Exchanged
from durably.stores.sqlite import database
from durably.stores.sqlite.store import SQLiteStore

LONG_S = 60.0
"""How long anything may take on a machine that is busy with other things."""
BIG = "x" * 10_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def service(path: Path, **options: Any) -> JobQueueService:
    return JobQueueService(f"sqlite:///{path}", processing_interval=0.1, **options)


def sqlite_store(queue: JobQueueService) -> SQLiteStore:
    store = queue._store
    assert isinstance(store, SQLiteStore)
    return store


async def quick(job: JobContext) -> None:
    """Nothing to do."""


async def fill(path: Path, jobs: int = 200) -> None:
    """Make a store with so many jobs."""
    async with service(path) as queue:
        await queue.add_jobs([NewJob(type="quick", payload=BIG[:1000]) for _ in range(jobs)])


async def use(path: Path) -> list[Job]:
    """Open the store, read every job, and add one."""
    async with service(path) as queue:
        await queue.add_job("quick")
        return await queue.get_jobs(limit=1000)


# Files that are no store of ours


@pytest.mark.parametrize(
    "content",
    [b"just text, longer than a header would be" * 100, Random(1).randbytes(20_000), b"x" * 10],
    ids=["text", "noise", "short"],
)
async def test_a_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    """The error says so and names the file, which stays as it was."""
    path.write_bytes(content)

    with pytest.raises(StoreCorruptError, match=f"not an SQLite database: {path}"):
        await use(path)

    assert path.read_bytes() == content


async def test_a_directory_is_refused(path: Path) -> None:
    """A folder is no store."""
    path.mkdir()

    with pytest.raises(StoreError, match=f"not a file: {path}"):
        await use(path)


async def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """No folder is made: a wrong path is more likely a mistake."""
    with pytest.raises(StoreError, match=f"folder of the store does not exist: {tmp_path}/none"):
        await use(tmp_path / "none" / "jobs.db")


async def test_a_newer_schema_is_refused(path: Path) -> None:
    """A store that a later version has changed is left alone."""
    await fill(path, 1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE durably_meta SET value = '999' WHERE key = 'schema'")
        connection.commit()

    with pytest.raises(StoreUnsupportedError, match="has schema 999, this Durably knows 1"):
        await use(path)


async def test_a_foreign_table_of_our_name_is_refused(path: Path) -> None:
    """A file whose tables only look like ours is not used."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE durably_meta (key, value)")
        connection.commit()

    with pytest.raises(StoreUnsupportedError, match="has schema"):
        await use(path)


async def test_tables_of_the_user_stay_as_they_are(path: Path) -> None:
    """The user's tables and rows in the same file are untouched by all that jobs do."""

    def dump(connection: sqlite3.Connection) -> list[str]:
        return [line for line in connection.iterdump() if "durably_" not in line]

    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE jobs (id INTEGER PRIMARY KEY, name TEXT);"
            "CREATE INDEX by_name ON jobs (name);"
            "INSERT INTO jobs (name) VALUES ('mine'), ('yours');"
        )
        before = dump(connection)

    async with service(path) as queue:
        queue.register_handler("quick", quick)
        await queue.start_processing()
        await queue.wait((await queue.add_job("quick")).id, timeout=LONG_S)
        await queue.cleanup(0)

    with closing(sqlite3.connect(path)) as connection:
        assert before == [line for line in dump(connection) if "sqlite_sequence" not in line]


# Damage


async def test_a_truncated_file_is_found_out(path: Path) -> None:
    """Half a file is called damaged."""
    await fill(path)
    os.truncate(path, path.stat().st_size // 2)

    with pytest.raises(StoreCorruptError, match=f"damaged; restore a backup: {path}"):
        await use(path)


@pytest.mark.parametrize("seed", range(12))
async def test_damage_in_the_middle_is_an_error_of_ours(path: Path, seed: int) -> None:
    """Flipped bits are found on access, or do no harm; no other error comes through."""
    random = Random(seed)
    await fill(path)
    content = bytearray(path.read_bytes())
    for _ in range(40):
        content[random.randrange(1000, len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)

    # A damaged index may also hide a job.
    with suppress(StoreCorruptError, JobNotFoundError):
        async with service(path) as queue:
            jobs = await queue.get_jobs(limit=1000)
            await queue.add_jobs([NewJob(type="quick") for _ in range(50)])
            for job in jobs[:5]:
                await queue.cancel_job(job.id)


async def test_a_page_of_rubbish_is_found_out(path: Path) -> None:
    """Reading a page that was overwritten raises, and so does writing there."""
    await fill(path)
    content = bytearray(path.read_bytes())
    size = len(content)
    content[size // 2 : size] = b"\xff" * (size - size // 2)
    path.write_bytes(content)

    async with service(path) as queue:
        with pytest.raises(StoreCorruptError):
            await queue.get_jobs(limit=1000)


@pytest.mark.parametrize("column", ["payload", "errors", "tags"])
async def test_text_that_is_no_json_is_called_damage(path: Path, column: str) -> None:
    """A row that cannot be decoded is not passed on as an error of the decoder."""
    await fill(path, 1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE durably_jobs SET {column} = '{{'")
        connection.commit()

    with pytest.raises(StoreCorruptError, match=f"damaged; restore a backup: {path}"):
        await use(path)


# Disks that refuse


@contextmanager
def mounted(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A small file system of its own; skips the test where it may not be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system may not be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_read_only_file_is_refused(path: Path) -> None:
    """A store that nobody may change is not opened, to fail at the first job."""
    await fill(path, 1)
    # Root may write whatever the mode is, but not what is immutable.
    command = ["chmod", "a-w", str(path)] if os.geteuid() else ["chattr", "+i", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file cannot be made read-only here")
    try:
        with pytest.raises(StoreReadOnlyError, match=f"cannot be written: {path}"):
            await use(path)
    finally:
        subprocess.run(["chattr", "-i", path], capture_output=True, check=False)


@pytest.mark.parametrize("exists", [False, True])
async def test_a_read_only_disk_is_refused(tmp_path: Path, exists: bool) -> None:
    """Neither a new store nor an existing one opens where nothing can be written."""
    with mounted(tmp_path / "disk", 4096) as disk:
        if exists:
            await fill(disk / "jobs.db", 1)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)

        with pytest.raises(StoreReadOnlyError, match=str(disk)):
            await use(disk / "jobs.db")


async def fill_up(queue: JobQueueService) -> set[str]:
    """Add jobs, large then small, until the disk is full; the ids of those accepted."""
    accepted = set[str]()
    for payload in (BIG, ""):
        with pytest.raises(StoreFullError, match="cannot grow: the disk is full"):  # noqa: PT012
            while True:
                accepted.add((await queue.add_job("unknown", payload)).id)
    return accepted


async def test_a_full_disk_refuses_jobs_and_loses_none(tmp_path: Path) -> None:
    """What a full disk accepted is kept, what it refused is not there; with space all goes on."""
    with mounted(tmp_path / "disk", 4096) as disk:
        path = disk / "jobs.db"
        async with service(path, concurrency=2) as queue:
            held = Held(queue)
            running = [(await queue.add_job("held")).id for _ in range(2)]
            await queue.start_processing()
            await held.until_running(2)

            accepted = await fill_up(queue)
            stored = {job.id for job in await queue.get_jobs(type="unknown", limit=10_000)}
            held.release.set()
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            later = [(await queue.add_job("held")).id for _ in range(3)]
            ended = [await queue.wait(id, timeout=LONG_S) for id in running + later]

        assert stored == accepted
        assert [(JobStatus.COMPLETED, 1, 0)] * 5 == [
            (job.status, job.attempts, job.crashes) for job in ended
        ]
        assert held.runs == 5
        async with service(path) as queue:
            stored = {job.id for job in await queue.get_jobs(type="unknown", limit=10_000)}
            assert stored == accepted
        with closing(sqlite3.connect(path)) as connection:
            assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()


async def test_a_file_that_may_not_grow_refuses_jobs_whole(path: Path) -> None:
    """Of a batch that does not fit nothing is stored; what fits is, also beside it."""
    async with service(path) as queue:
        connection = sqlite_store(queue)._writer._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")

        results = await asyncio.gather(
            queue.add_jobs([NewJob(type="large", payload=BIG) for _ in range(50)]),
            queue.commit(changes(queue, "small")),
            queue.commit(changes(queue, "large", BIG * 20)),
            return_exceptions=True,
        )

        assert [StoreFullError, list, StoreFullError] == [type(result) for result in results]
        assert [] == await queue.get_jobs()
        assert 1 == await queue.count_records("small")
        assert 0 == await queue.count_records("large")
        connection.execute("PRAGMA max_page_count = 1000000")
        await queue.add_job("large", BIG)


def changes(queue: JobQueueService, kind: str, value: str = "") -> Changeset:
    changeset = queue.changeset()
    changeset.put(kind, "1", value)
    return changeset


async def test_a_worker_that_cannot_register_leaves_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed start can be tried again, here and in another service."""

    def refuse(connection: sqlite3.Connection) -> None:
        raise StoreFullError("no space")

    async with service(path) as first, service(path) as second:
        monkeypatch.setattr(sqlite_store(first)._writer._file, "commit", refuse)
        with pytest.raises(StoreFullError):
            await first.start_processing()
        monkeypatch.undo()
        assert [] == await first.workers()

        await second.start_processing()
        await first.start_processing()

        assert [True, True] == [worker.alive for worker in await first.workers()]


async def test_a_start_that_cannot_rescue_leaves_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the rescue of dead workers fails, the worker that was to start is no more."""
    async with service(path) as queue:

        async def refuse(worker: int | None = None) -> None:
            raise StoreFullError("no space")

        monkeypatch.setattr(sqlite_store(queue), "rescue", refuse)
        with pytest.raises(StoreFullError):
            await queue.start_processing()
        monkeypatch.undo()

        assert [] == await queue.workers()
        assert [] == [name for name in own_threads() if "heartbeat" in name]
        await queue.start_processing()


# A store that refuses writes for a while


class Held:
    """Runs `held` jobs until released, and counts."""

    def __init__(self, queue: JobQueueService) -> None:
        self.release = asyncio.Event()
        self.interrupted = asyncio.Event()
        self.runs = 0
        self.running = 0
        self.most = 0
        self._changed = asyncio.Condition()
        queue.register_handler("held", self)

    async def __call__(self, job: JobContext) -> None:
        async with self._changed:
            self.runs += 1
            self.running += 1
            self.most = max(self.most, self.running)
            self._changed.notify_all()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.interrupted.set()
            raise
        finally:
            self.running -= 1

    async def until_running(self, count: int) -> None:
        """Until so many run at once."""
        async with asyncio.timeout(LONG_S), self._changed:
            await self._changed.wait_for(lambda: self.running == count)


@contextmanager
def refusing(queue: JobQueueService) -> Iterator[None]:
    """Every write of the service's store is refused within the block."""
    store = sqlite_store(queue)
    writing = (store._writer._connection, store._renewer, store._own._connection)
    for connection in writing:
        connection.execute("PRAGMA query_only = 1")
    try:
        yield
    finally:
        for connection in writing:
            connection.execute("PRAGMA query_only = 0")


async def test_outcomes_wait_until_the_store_accepts_them(path: Path) -> None:
    """A handler that ends while nothing can be written has run once, and is completed later."""
    async with service(path) as queue:
        held = Held(queue)
        job = await queue.add_job("held")
        await queue.start_processing()
        await held.until_running(1)

        with refusing(queue):
            held.release.set()
            with pytest.raises(StoreReadOnlyError):
                await queue.add_job("held")
            await refused_rounds(queue, 3)
            before = await sqlite_store(queue).get(job.id)
        job = await queue.wait(job.id, timeout=LONG_S)

        assert before is not None
        assert before.status == JobStatus.PROCESSING
        assert (job.status, job.attempts, job.crashes) == (JobStatus.COMPLETED, 1, 0)
        assert held.runs == 1
        assert 1 == (await queue.get_stats()).total_jobs


async def refused_rounds(queue: JobQueueService, count: int) -> None:
    """Until the worker has tried in vain so many times."""
    worker = queue._worker
    assert worker is not None
    for _ in range(count):
        await worker.flush()


async def test_a_worker_that_cannot_renew_stops_its_handlers(path: Path) -> None:
    """Before its lease ends the handler is cancelled; later the job runs again, never twice at once."""
    async with service(path, lease=1.0) as queue:
        held = Held(queue)
        job = await queue.add_job("held")
        await queue.start_processing()
        await held.until_running(1)

        with refusing(queue):
            async with asyncio.timeout(LONG_S):
                await held.interrupted.wait()
        await held.until_running(1)
        held.release.set()
        job = await queue.wait(job.id, timeout=LONG_S)

        assert (job.status, job.attempts) == (JobStatus.COMPLETED, 1)
        assert (held.runs, held.most) == (2, 1)


async def test_a_renewal_that_hangs_does_not_keep_handlers_past_their_lease(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that neither renews nor refuses is noticed all the same."""
    async with service(path, lease=1.0) as queue:
        held = Held(queue)
        unblock = threading.Event()
        renew = sqlite_store(queue).renew

        def hang(worker: int) -> bool:
            unblock.wait(LONG_S)
            return renew(worker)

        monkeypatch.setattr(sqlite_store(queue), "renew", hang)
        job = await queue.add_job("held")
        await queue.start_processing()

        async with asyncio.timeout(LONG_S / 2):
            await held.interrupted.wait()
        unblock.set()
        await held.until_running(1)
        held.release.set()

        assert (await queue.wait(job.id, timeout=LONG_S)).status == JobStatus.COMPLETED


async def test_every_outcome_of_a_lost_registration_is_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends while the worker learns that it was taken for dead is refused too, not dropped."""
    async with service(path, concurrency=2) as queue:
        store = sqlite_store(queue)
        ends = {name: asyncio.Event() for name in ("first", "second")}

        async def handler(job: JobContext) -> None:
            await ends[job.payload].wait()

        async def exchange(worker: int, **arguments: Any) -> Exchanged:
            if arguments["outcomes"] and not ends["second"].is_set():
                ends["second"].set()
                await until(lambda: queue._worker is not None and queue._worker.running == 0)
            return await SQLiteStore.exchange(store, worker, **arguments)

        queue.register_handler("ends", handler)
        jobs = await queue.add_jobs([NewJob(type="ends", payload=name) for name in ends])
        await queue.start_processing()
        await until(lambda: queue._worker is not None and queue._worker.running == 2)
        (registered,) = await queue.workers()
        monkeypatch.setattr(store, "exchange", exchange)
        await store._write(lambda session: session.crash(registered.id, "taken for dead"))
        await store._write(lambda session: session.delete_worker(registered.id))

        ends["first"].set()
        for job in jobs:
            job = await queue.wait(job.id, timeout=LONG_S)  # noqa: PLW2901
            assert (job.status, job.attempts, job.crashes) == (JobStatus.COMPLETED, 1, 1)

        assert 2 == (await store.stats()).late_outcomes


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.005)


# Others at the same file


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait only briefly for locks of other programs."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.5)


@contextmanager
def foreign_transaction(path: Path) -> Iterator[None]:
    """Another program keeps the write lock within the block."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


async def test_a_lock_of_another_program_is_named(path: Path, impatient: None) -> None:
    """Writes raise StoreBusyError after the timeout; nothing is stored; reads go on."""
    async with service(path) as queue:
        job = await queue.add_job("quick")
        with foreign_transaction(path):
            with pytest.raises(StoreBusyError, match=f"locked by another program: {path}"):
                await queue.add_job("quick")
            assert [job] == await queue.get_jobs()

        await queue.add_job("quick")

        assert 2 == (await queue.get_stats()).total_jobs


async def test_all_who_wait_for_a_lock_wait_once(path: Path, impatient: None) -> None:
    """Operations that share a transaction share its timeout: it does not add up."""
    async with service(path) as queue:
        with foreign_transaction(path):
            async with asyncio.timeout(LONG_S / 2):
                results = await asyncio.gather(
                    *(queue.commit(changes(queue, f"k{n}")) for n in range(200)),
                    return_exceptions=True,
                )

        assert {StoreBusyError} == {type(result) for result in results}


async def test_a_locked_file_cannot_be_opened(path: Path, impatient: None) -> None:
    """Opening waits for the lock, then says what is wrong, and can be tried again."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (id)")
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreBusyError, match=f"locked by another program: {path}"):
            await use(path)

    assert 1 == len(await use(path))


async def test_two_services_of_one_process_share_a_file(path: Path) -> None:
    """Each does jobs, neither takes the other for dead, and one goes on when the other closes."""
    async with service(path) as first:
        held = Held(first)
        async with service(path) as second:
            second.register_handler("quick", quick)
            await first.start_processing()
            await second.start_processing()
            slow = await first.add_job("held")
            for _ in range(20):
                job = await second.wait((await first.add_job("quick")).id, timeout=LONG_S)
                assert job.status == JobStatus.COMPLETED
            assert () == (await sqlite_store(second).rescue()).workers
        held.release.set()
        job = await first.wait(slow.id, timeout=LONG_S)

        assert (job.status, job.crashes) == (JobStatus.COMPLETED, 0)
        assert 1 == len(await first.workers())
    assert (held.runs, [("ok",)]) == (1, check(path))


def check(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall()


@pytest.mark.parametrize("way", ["deleted", "replaced"])
async def test_a_file_that_is_taken_away_is_missed(path: Path, tmp_path: Path, way: str) -> None:
    """Once the file is deleted or replaced nothing more is accepted: it would be lost unnoticed."""
    async with service(path) as queue:
        queue.register_handler("quick", quick)
        await queue.start_processing()
        await queue.wait((await queue.add_job("quick")).id, timeout=LONG_S)
        if way == "deleted":
            path.unlink()
        else:
            await fill(tmp_path / "other.db", 1)
            (tmp_path / "other.db").rename(path)

        with pytest.raises(StoreError, match=f"was deleted or replaced.*: {path}"):
            await queue.add_job("quick")


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "lustre", "9p", "fuse.sshfs"])
def test_each_network_file_system_is_known(tmp_path: Path, kind: str) -> None:
    """By the name that the kernel gives it."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"21 1 0:40 / / rw - {kind} server:/export rw\n")

    with pytest.raises(StoreUnsupportedError, match=f"network file system {kind}"):
        database.check_place(tmp_path / "jobs.db", mounts=mounts)


@pytest.mark.skipif(not Path("/proc/sys/kernel/random").exists(), reason="only Linux has it")
def test_a_start_of_the_machine_has_the_kernels_name() -> None:
    """On Linux; elsewhere, or where it cannot be read, the machine's own name must do."""

    def missing() -> str:
        raise FileNotFoundError

    assert database.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert database.boot_id(read=missing) == os.uname().nodename


async def test_a_network_file_system_is_refused(tmp_path: Path) -> None:
    """The file system is that of the longest mount point above the file, the last one on it."""
    mounts = tmp_path / "mountinfo"
    lines = [
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw",
        f"22 21 0:40 / {tmp_path}/a\\040b rw shared:1 - nfs4 server:/export rw",
        f"23 22 0:41 / {tmp_path}/a\\040b/local rw - tmpfs tmpfs rw",
        f"24 21 0:42 / {tmp_path}/over rw - ext4 /dev/sdb rw",
        f"25 21 0:43 / {tmp_path}/over rw - fuse.sshfs host: rw",
    ]
    mounts.write_text("\n".join(lines) + "\n")
    for folder in ("a b/local", "over", "a bc"):
        (tmp_path / folder).mkdir(parents=True)

    for folder in ("a b", "over"):
        with pytest.raises(StoreUnsupportedError, match=r"network file system (nfs4|fuse\.sshfs)"):
            database.check_place(tmp_path / folder / "jobs.db", mounts=mounts)
    for folder in ("", "a b/local", "a bc"):
        database.check_place(tmp_path / folder / "jobs.db", mounts=mounts)
    database.check_place(tmp_path / "jobs.db", mounts=tmp_path / "not there")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite:jobs.db",
        "sqlite:/jobs.db",
        "sqlite://host/jobs.db",
        "sqlite:///:memory:",
        "sqlite:///file:jobs.db?mode=ro",
        "sqlite:///jobs\0.db",
        "SQLITE:///jobs.db",
    ],
)
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    """The mistake is named where it is made, not when the store is opened."""
    with pytest.raises(SettingsError):
        JobQueueService(url)


# What stays behind


def own_threads() -> list[str]:
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("durably"))


def open_files() -> list[str]:
    """What the descriptors of this process are."""
    gc.collect()
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except FileNotFoundError:  # the one that lists the folder
            continue
    return sorted(name for name in found if "jobs.db" in name or "socket" in name)


async def test_opening_and_closing_leaves_nothing_behind(path: Path) -> None:
    """No thread, no descriptor, no lock file of a worker, no log."""
    before = open_files()

    for _ in range(20):
        async with service(path, concurrency=2) as queue:
            queue.register_handler("quick", quick)
            await queue.start_processing()
            await queue.wait((await queue.add_job("quick")).id, timeout=LONG_S)

    assert [] == own_threads()
    assert before == open_files()
    assert ["gate", "room"] == sorted(p.name for p in Path(f"{path}-locks").iterdir())
    assert ["jobs.db", "jobs.db-locks"] == sorted(p.name for p in path.parent.iterdir())


async def test_failing_to_open_leaves_nothing_behind(path: Path) -> None:
    """Neither a thread nor a descriptor is left of a store that could not be opened."""
    path.write_bytes(b"just text" * 1000)
    before = open_files()

    for _ in range(5):
        with pytest.raises(StoreCorruptError):
            await use(path)

    assert [] == own_threads()
    assert before == open_files()


async def test_the_log_stays_small(path: Path) -> None:
    """Many commits do not make the write-ahead log grow without end."""
    log = path.with_name("jobs.db-wal")
    largest = 0
    async with service(path) as queue:
        for _ in range(20):
            await asyncio.gather(*(queue.add_job("quick", BIG * 4) for _ in range(50)))
            for _ in range(10):
                await queue.add_job("quick", BIG * 4)
            largest = max(largest, log.stat().st_size)

    assert path.stat().st_size > 40_000_000
    assert largest < 16_000_000
