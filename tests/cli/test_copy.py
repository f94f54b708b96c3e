"""``durably copy``: between files and servers."""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL
from pathlib import Path

from tests.cli.support import Run

from durably import JobQueueService, NewJob


async def fill(url: str, count: int) -> None:
    async with JobQueueService(url) as queue:
        await queue.add_jobs([NewJob("mail", {"n": n}, tags=["é"]) for n in range(count)])
        cancelled = await queue.add_job("gone", unique_key="k")
        await queue.cancel_job(cancelled.id)
        await queue.pause("slow")
        changes = queue.changeset()
        changes.put("deployment", "deployment", "abcdef")
        changes.emit("topic", "subject", {"a": 1})
        await queue.commit(changes)


async def content(url: str) -> tuple[object, ...]:
    async with JobQueueService(url) as queue:
        return (
            await queue.get_jobs(limit=1_000),
            await queue.get_records("deployment"),
            await queue.get_events(),
            await queue.paused_queues(),
            (await queue.get_stats()).total_jobs,
        )


def test_from_a_file_to_a_server_and_back(run: Run, tmp_path: Path, postgres_url: str) -> None:
    """Everything arrives, and comes back the same; both commands say how much."""
    old, new = (f"sqlite:///{tmp_path / name}" for name in ("old.db", "new.db"))
    asyncio.run(fill(old, 50))
    there = run("copy", old, postgres_url, "--json")
    back = run("copy", postgres_url, new)

    assert there.exit_code == 0, there.output
    assert json.loads(there.output) == {
        "jobs": 51, "steps": 0, "records": 1, "events": 1, "paused": 1
    }  # fmt: skip
    assert back.output == ("copied and compared: 51 jobs, 0 steps, 1 records, 1 events, 1 paused\n")
    expected = asyncio.run(content(old))
    assert asyncio.run(content(postgres_url)) == expected
    assert asyncio.run(content(new)) == expected


def test_what_cannot_be_copied_is_said(run: Run, tmp_path: Path) -> None:
    """No source, a target in use, one store twice: a line each, and nothing is made or changed."""
    old, used = (f"sqlite:///{tmp_path / name}" for name in ("old.db", "used.db"))
    missing = run("copy", old, used)
    assert (missing.exit_code, missing.output) == (
        3,
        f"error: the store does not exist: {tmp_path}/old.db\n",
    )
    assert list(tmp_path.iterdir()) == []

    for url in (old, used):
        asyncio.run(fill(url, 1))
    for arguments, code, said in (
        ((old, used), 1, "the target has jobs of its own: copy into an empty store"),
        ((old, old), 2, "need two stores"),
        ((old, "memory://"), 2, "need two stores"),
        ((old, "redis://x"), 2, "no store is known"),
    ):
        result = run("copy", *arguments)
        assert (result.exit_code, "Traceback" in result.output) == (code, False)
        assert said in result.output
    assert asyncio.run(content(used)) != asyncio.run(content(old))


async def test_a_killed_copy_goes_on(tmp_path: Path, postgres_url: str) -> None:
    """The same command, repeated after kill -9 at several points, ends with equal stores."""
    old = f"sqlite:///{tmp_path / 'old.db'}"
    await fill(old, 20_000)
    async with JobQueueService(postgres_url) as queue:
        for reached in (1, 5_000, 12_000):
            copying = await start_copy(old, postgres_url)
            while (await queue.get_stats()).total_jobs < reached:
                assert copying.returncode is None
            copying.kill()
            await copying.wait()
        assert (await queue.get_stats()).total_jobs < 20_001
    last = await start_copy(old, postgres_url)
    assert await last.wait() == 0
    assert await content(postgres_url) == await content(old)


async def start_copy(source: str, target: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "durably", "copy", source, target, "--json"), stdout=DEVNULL
    )
