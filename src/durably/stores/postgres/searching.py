"""The queries behind `Store.search`: which index has the newest jobs first, and what a match is."""

from collections.abc import Sequence
from typing import Any

from durably.domain.job import LEASED, JobPriority, State
from durably.domain.search import Search

_PAST_ALL_SEQS = 2**63 - 1
WAITING = "state + 0 < 2"
"""Scheduled or ready, said as the index for listings says it."""
_Query = tuple[Any, ...]
"""A statement and its arguments."""
_Conditions = tuple[list[str], list[Any]]


class Look:
    """One look at so many jobs, the newest below a place first.

    No index has all jobs by their places: one more would cost every job that ends. Those that list
    by priority have them for each priority, to be merged.

    Args:
        where: what is searched for.
        after: the place; None: from the newest.
        scan: so many jobs are looked at, at most.
    """

    def __init__(self, where: Search, *, after: int | None, scan: int) -> None:
        self.where = where
        self.scan = scan
        self._below = _PAST_ALL_SEQS if after is None else after

    def counted(self) -> _Query:
        """A row when the maintained counts know of jobs of the statuses, type and queue."""
        query = (
            f"SELECT FROM @counts WHERE state IN ({_listed(self.where.states)})"
            " AND ($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR queue = $2)"
            " GROUP BY queue, type, state HAVING sum(count) > 0 LIMIT 1"
        )
        return query, self.where.type, self.where.queue

    def matches(self, columns: str, limit: int) -> _Query:
        """The *columns* of each job that matches, newest first."""
        asked, arguments = _conditions(self.where, first=3)
        query = (
            f"SELECT {columns} FROM ({self._jobs('*')}) AS looked"
            f" WHERE {' AND '.join(asked) or 'TRUE'} LIMIT {limit}"
        )
        return query, self._below, 0, *arguments

    def looked_at(self, least: int) -> _Query:
        """How many jobs there were to look at down to the place *least*, and the last one's place."""
        query = f"SELECT count(*), min(seq) FROM ({self._jobs('seq')}) AS looked"
        return query, self._below, least

    def _jobs(self, columns: str) -> str:
        # The limits stand in the text: the planner must know how few rows are read.
        order = f"ORDER BY seq DESC LIMIT {self.scan}"
        parts = [
            f"(SELECT {columns} FROM {source} AND seq < $1 AND seq >= $2 {order})"
            for source in _sources(self.where.states)
        ]
        return f"SELECT * FROM ({' UNION ALL '.join(parts)}) AS parts {order}"


def _sources(states: Sequence[State]) -> list[str]:
    """Where the jobs are in the order of their places: a table and a condition each."""
    waiting = [state for state in states if state < State.RESERVED]
    leased = [state for state in states if state in LEASED]
    sources = [f"@history WHERE state = {int(state)}" for state in states if state > State.RUNNING]
    if waiting:
        # Whoever asks for the one asks for the other: both are pending.
        sources.append(f"@jobs WHERE {WAITING}")
    by_priority = [
        f"{source} AND priority = {int(priority)}" for source in sources for priority in JobPriority
    ]
    # Few: they are sorted.
    few = [f"@jobs WHERE state IN (2, 3) AND state IN ({_listed(leased)})"] if leased else []
    return by_priority + few


def _conditions(where: Search, first: int) -> _Conditions:
    """What a match meets, and the arguments, numbered from *first*."""
    asked: list[str] = []
    arguments: list[Any] = []
    for test, value in (
        ("type = {}", where.type),
        ("queue = {}", where.queue),
        ("tags::jsonb ? {}", where.tag),
        ("created_at >= {}", where.since_us),
        ("created_at < {}", where.until_us),
    ):
        if value is not None:
            asked.append(test.format(f"${first + len(arguments)}"))
            arguments.append(value)
    if where.text is not None:
        needles = dict.fromkeys(where.needles)
        positions = [f"${first + len(arguments) + i}" for i in range(len(needles))]
        asked.append(_has_text(positions[0], positions[1:]))
        arguments += needles
    return asked, arguments


def _has_text(plain: str, written: Sequence[str]) -> str:
    tests = [f"strpos({_lower('id')}, {plain}) = 1"]
    for needle, columns in (
        (plain, ("type", "unique_key", "error", "tags", "payload")),
        *((escaped, ("tags", "payload")) for escaped in written),
    ):
        tests += [f"strpos({_lower(column)}, {needle}) > 0" for column in columns]
    return f"({' OR '.join(tests)})"


def _lower(column: str) -> str:
    return f'lower({column} COLLATE "C")'


def _listed(states: Sequence[State]) -> str:
    return ", ".join(str(int(state)) for state in states)
