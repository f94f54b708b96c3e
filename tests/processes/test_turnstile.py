"""The turnstile between processes: everybody gets a turn, and the dead pass theirs on."""

import asyncio
from collections import Counter
from pathlib import Path

from tests.processes.support import Family, rows, until, until_blocked

from durably import JobQueueService

PROCESSES = 8
TURNS = 4000


async def test_turns_are_shared_fairly(family: Family, tmp_path: Path) -> None:
    """Of eight processes that want every turn, none gets less than half of what another gets."""
    children = [
        family.start("turns", "take", str(tmp_path), number, TURNS) for number in range(PROCESSES)
    ]
    for child in children:
        await child.expect("ready")
    for child in children:
        child.tell("go")
    for child in children:
        assert await child.died() == 0

    taken = Counter((tmp_path / "turns").read_bytes()[:TURNS])
    assert len(taken) == PROCESSES
    assert min(taken.values()) >= max(taken.values()) / 2


async def test_commits_are_shared_fairly(url: str, family: Family) -> None:
    """Eight processes that enqueue as fast as they can get similar shares of one file."""

    def commits() -> Counter[str]:
        return Counter(dict(rows(url, "SELECT type, sum(count) FROM durably_counts GROUP BY type")))

    async def all_have_begun() -> bool:
        begun = commits()
        return len(begun) == PROCESSES and min(begun.values()) > 50

    async def is_enough() -> bool:
        return (commits() - before).total() > TURNS

    async with JobQueueService(url):
        children = [family.start("producer", url) for _ in range(PROCESSES)]
        for child in children:
            await child.expect("ready")
        for child in children:
            child.tell("go")
        await until(all_have_begun)
        before = commits()
        await until(is_enough)
        shares = commits() - before
        await asyncio.gather(*(child.end() for child in children))

    assert len(shares) == PROCESSES
    assert min(shares.values()) >= max(shares.values()) / 2


async def test_a_new_store_may_be_opened_by_many_at_once(url: str, family: Family) -> None:
    """Processes that start together on no file at all agree on one."""
    children = [family.start("producer", url) for _ in range(PROCESSES)]
    for child in children:
        child.tell("go")
    for child in children:
        await child.expect("ready")

    assert [0] * PROCESSES == await asyncio.gather(*(child.end() for child in children))
    assert [("ok",)] == rows(url, "PRAGMA integrity_check")


async def test_a_holder_that_is_killed_passes_the_turn_on(family: Family, tmp_path: Path) -> None:
    """Whoever waits for the room enters once the process inside is dead."""
    holder = family.start("turns", "stay", str(tmp_path))
    await holder.expect("inside")
    waiter = family.start("turns", "wait", str(tmp_path))
    await until_blocked(waiter)

    await holder.kill()

    await waiter.expect("inside")
    assert await waiter.died() == 0


async def test_a_waiter_that_is_killed_holds_nobody_up(family: Family, tmp_path: Path) -> None:
    """The gate of a dead waiter opens to the next."""
    holder = family.start("turns", "stay", str(tmp_path))
    await holder.expect("inside")
    first = family.start("turns", "wait", str(tmp_path))
    await until_blocked(first)
    second = family.start("turns", "wait", str(tmp_path))
    await until_blocked(second)

    await first.kill()
    await holder.kill()

    await second.expect("inside")
    assert await second.died() == 0
