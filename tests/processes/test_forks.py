"""A forked child inherits descriptors, but neither the locks nor the use of a service."""

import asyncio
from pathlib import Path

import pytest
from tests.processes.programs.forker import CHILDREN
from tests.processes.support import LONG_S, Family, rows

from durably import JobContext, JobQueueService, JobStatus
from durably.stores.sqlite.locks import Turnstile

pytestmark = pytest.mark.parametrize("way", ["os", "multiprocessing"])


async def quick(job: JobContext) -> None:
    """Nothing to do."""


def lives(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


async def test_a_forked_child_does_not_keep_its_parent_alive(
    url: str, family: Family, way: str
) -> None:
    """The parent's job is rescued although a child with its descriptors lives on."""
    async with JobQueueService(url) as queue:
        parent = family.start("forker", "work", url, way)
        job = await queue.add_job("hold")
        child = (await parent.expect("forked"))["pid"]
        queue.register_handler("hold", quick)
        await queue.start_processing()

        await parent.kill()
        job = await queue.wait(job.id, timeout=LONG_S)

        assert (job.status, job.crashes) == (JobStatus.COMPLETED, 1)
        assert lives(child)


async def test_a_forked_child_does_not_keep_the_turnstile(
    family: Family, tmp_path: Path, way: str
) -> None:
    """Others enter when the process inside is killed, although its child lives on."""
    parent = family.start("forker", "turnstile", str(tmp_path), way)
    child = (await parent.expect("forked"))["pid"]
    await parent.kill()

    async with asyncio.timeout(LONG_S):
        await asyncio.to_thread(enter, tmp_path)

    assert lives(child)


def enter(folder: Path) -> None:
    turnstile = Turnstile(folder)
    with turnstile:
        pass
    turnstile.close()


async def test_a_service_opened_before_a_fork_is_closed_in_the_child(
    url: str, family: Family, way: str
) -> None:
    """Every call in the child raises StoreClosedError at once; the parent goes on."""
    parent = family.start("forker", "use", url, way)

    accepted = (await parent.expect("accepted"))["id"]
    assert await parent.died() == 0

    refused = [(line["call"], line["error"]) for line in parent.said if line["what"] == "refused"]
    calls = ["add_job", "add_job", "get_job", "get_stats", "start_processing"]
    assert [(call, "StoreClosedError") for call in calls] == refused
    assert accepted in {id for (id,) in rows(url, "SELECT id FROM durably_jobs")}


async def test_a_child_may_open_the_store_anew(url: str, family: Family, way: str) -> None:
    """Nothing that children of a busy process have added is lost, though the parent closes first."""
    parent = family.start("forker", "open", url, way)
    for _ in range(CHILDREN + 1):  # in any order
        await parent.expect("half done")
    parent.close_input()
    assert await parent.died() == 0

    accepted = {line["id"] for line in await parent.rest() if line["what"] == "accepted"}
    assert len(accepted) > 40 * CHILDREN
    assert accepted <= {id for (id,) in rows(url, "SELECT id FROM durably_jobs")}
    assert [("ok",)] == rows(url, "PRAGMA integrity_check")
