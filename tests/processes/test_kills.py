"""`kill -9` of busy processes at random moments: what was accepted is done, and done once."""

import asyncio
import json
from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from typing import Any

from tests.processes.support import Child, Family, rows, until

from durably.domain.job import State
from durably.domain.transitions import CRASH_LIMIT

ROUNDS = 20


class Log:
    """The side file that the processes append to; each line is on disk before they go on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.file = path.open("a")

    def lines(self) -> list[dict[str, Any]]:
        # The last line may be on its way; of others a kill may have left a beginning.
        whole = self._path.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.endswith("}")]

    def ids(self, what: str) -> set[str]:
        return {line["id"] for line in self.lines() if line["what"] == what}

    async def busy(self, child: Child) -> None:
        """Until *child* has begun to work."""

        async def has_begun() -> bool:
            return any(
                line["pid"] == child.pid and line["what"] == "started" for line in self.lines()
            )

        await until(has_begun)


async def test_no_kill_loses_a_job_or_finishes_one_twice(
    url: str, family: Family, tmp_path: Path
) -> None:
    """Twenty kills, of the only process, then of one of three, at seeded random moments."""
    random = Random(20)
    log = Log(tmp_path / "log")
    killed: set[int] = set()

    def start() -> Child:
        return family.start("busy", url, output=log.file)

    async def kill(child: Child) -> None:
        # Some of the kills may come while it opens the store and rescues.
        if random.random() > 0.25:
            await log.busy(child)
        await asyncio.sleep(random.uniform(0, 0.6))
        await child.kill()
        killed.add(child.pid)

    for number in range(ROUNDS // 2):
        await kill(start())
        if number % 2:  # a look at the file recovers it: every other time that is left to the next
            leases_are_explained(url)
    several = [start() for _ in range(3)]
    for _ in range(ROUNDS // 2):
        await kill(several.pop(random.randrange(3)))
        several.append(start())
    for child in several:
        await log.busy(child)
    assert [0, 0, 0] == await asyncio.gather(*(child.end() for child in several))
    log.file.close()

    assert len(log.ids("accepted")) > 10 * ROUNDS
    every_job_is_done_once(url, log, killed)
    counters_are_right(url)
    assert [] == rows(url, "SELECT id FROM durably_jobs WHERE state IN (2, 3)")
    assert [] == rows(url, "SELECT id FROM durably_workers")
    assert [("ok",)] == rows(url, "PRAGMA integrity_check")


def leases_are_explained(url: str) -> None:
    """Whoever holds a job is registered, so that it will be rescued."""
    held_by_nobody = (
        "SELECT id FROM durably_jobs WHERE state IN (2, 3)"
        " AND (token IS NULL OR worker NOT IN (SELECT id FROM durably_workers))"
    )
    assert [] == rows(url, held_by_nobody)


def every_job_is_done_once(url: str, log: Log, killed: set[int]) -> None:
    """Accepted means completed, by one attempt; what died with its process says so."""
    starts = defaultdict[str, list[int]](list)
    for line in log.lines():
        if line["what"] == "started":
            starts[line["id"]].append(line["pid"])
    noted = Counter(subject for (subject,) in rows(url, "SELECT subject FROM durably_events"))
    versions = dict(rows(url, "SELECT id, version FROM durably_records"))
    jobs = rows(url, "SELECT id, type, state, attempts, crashes, errors FROM durably_jobs")

    assert log.ids("accepted") <= {job[0] for job in jobs}
    for id, kind, state, attempts, crashes, errors in jobs:
        completed = state == State.COMPLETED
        # A job that three processes died with is put aside, guilty or not.
        assert completed or (state == State.FAILED and crashes == CRASH_LIMIT)
        assert attempts == completed
        assert ["crash"] * crashes == [error["kind"] for error in json.loads(errors)]
        assert len(starts[id]) - completed <= crashes
        assert len(set(starts[id])) == len(starts[id]), "started twice by one process"
        assert len(set(starts[id]) - killed) <= 1, "started twice, though none was killed"
        expected = 1 if completed and kind == "noted" else 0
        assert (noted[id], versions.get(id, 0)) == (expected, expected)


def counters_are_right(url: str) -> None:
    """The maintained counts are what SQL counts."""
    maintained = "SELECT queue, type, state, count FROM durably_counts WHERE count <> 0"
    counted = "SELECT queue, type, state, count(*) FROM durably_jobs GROUP BY 1, 2, 3"
    assert set(rows(url, counted)) == set(rows(url, maintained))
    records = rows(url, "SELECT 'records:' || kind, count(*) FROM durably_records GROUP BY kind")
    assert set(records) <= set(rows(url, "SELECT name, value FROM durably_numbers"))
