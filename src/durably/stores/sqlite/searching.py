"""The queries behind `Store.search`: which index has the newest jobs first, and what a match is."""

from collections.abc import Sequence
from typing import Any

import msgspec

from durably.domain.job import JobPriority, JobStatus, State
from durably.domain.search import Search

_PAST_ALL_SEQS = 2**63 - 1
_CONDITIONS = {
    "type": "type = :type",
    "queue": "queue = :queue",
    "tag": "EXISTS (SELECT 1 FROM json_each(tags) WHERE value = :tag)",
    "since_us": "created_at >= :since_us",
    "until_us": "created_at < :until_us",
}
_RUNNING = "INDEXED BY durably_leased WHERE state IN (2, 3) AND +state = 3"
"""Few, among perhaps a million that wait: by the leases."""
_Query = tuple[str, dict[str, Any]]


class Look:
    """One look at so many jobs, the newest below a place first.

    Args:
        where: what is searched for.
        after: the place; None: from the newest.
        scan: so many jobs are looked at, at most.
    """

    def __init__(self, where: Search, *, after: int | None, scan: int) -> None:
        self.where = where
        self.scan = scan
        asked = msgspec.structs.asdict(where)
        self._arguments = {name: asked[name] for name in _CONDITIONS}
        self._arguments |= {
            "below": _PAST_ALL_SEQS if after is None else after,
            "scan": scan,
            "least": 0,
        }
        if where.text is not None:
            self._arguments["text"], self._arguments["written"] = where.needles

    def counted(self) -> _Query:
        """A row when the maintained counts know of jobs of the statuses, type and queue."""
        query = (
            "SELECT 1 FROM durably_counts WHERE count > 0"
            f" AND state IN ({_listed(self.where.states)})"
            " AND type = ifnull(:type, type) AND queue = ifnull(:queue, queue) LIMIT 1"
        )
        return query, self._arguments

    def matches(self, row: str, limit: int) -> _Query:
        """The column `row` of each job that matches, newest first."""
        # CROSS JOIN: the places are read in their order, and no further than the limit needs.
        query = (
            f"SELECT {row} AS row FROM ({self._places()}) CROSS JOIN durably_jobs USING (seq)"
            f" WHERE {self._condition()} LIMIT :limit"
        )
        return query, {**self._arguments, "limit": limit}

    def looked_at(self, least: int) -> _Query:
        """How many jobs there were to look at down to the place *least*, and the last one's place."""
        query = f"SELECT count(*), min(seq) FROM ({self._places()})"
        return query, {**self._arguments, "least": least}

    def _places(self) -> str:
        # SQLite merges the parts as it reads them: none is read further than needed.
        parts = [
            f"SELECT seq FROM durably_jobs {source} AND seq < :below AND seq >= :least"
            for source in _sources(self.where)
        ]
        return f"{' UNION ALL '.join(parts)} ORDER BY seq DESC LIMIT :scan"

    def _condition(self) -> str:
        asked = [sql for name, sql in _CONDITIONS.items() if self._arguments[name] is not None]
        if self.where.text is not None:
            asked.append(_has_text(*self.where.needles))
        return " AND ".join(asked) or "1"


def _sources(where: Search) -> list[str]:
    """Where the jobs are in the order of their places: an index and its condition each."""
    if not where.statuses:
        return ["NOT INDEXED WHERE 1"]
    final = [state for state in where.states if state > State.RUNNING]
    match JobStatus.PENDING in where.statuses, JobStatus.PROCESSING in where.statuses:
        case True, True:
            return _listed_by_priority(State.RUNNING, *final)
        case True, False:
            waiting = f" AND seq NOT IN (SELECT seq FROM durably_jobs {_RUNNING})"
            live = [source + waiting for source in _listed_by_priority(State.RUNNING)]
            return live + _listed_by_priority(*final)
        case False, True:
            return [_RUNNING, *_listed_by_priority(*final)]
        case _:
            return _listed_by_priority(*final)


def _listed_by_priority(*shelves: State) -> list[str]:
    return [
        f"INDEXED BY durably_listing WHERE shelf = {int(shelf)} AND priority = {int(priority)}"
        for shelf in shelves
        for priority in JobPriority
    ]


def _has_text(plain: str, written: str) -> str:
    columns = ("type", "unique_key", "error", "tags", "payload")
    tests = [f"instr(lower({column}), :text)" for column in columns]
    if written != plain:
        tests += [f"instr(lower({column}), :written)" for column in ("tags", "payload")]
    return f"(instr(lower(id), :text) = 1 OR {' OR '.join(tests)})"


def _listed(states: Sequence[State]) -> str:
    return ", ".join(str(int(state)) for state in states)
