"""The query behind `Store.find`: which index serves which states, and where a page begins."""

from collections.abc import Sequence
from typing import Any

from durably.domain.job import State

_ORDER = "ORDER BY priority DESC, seq LIMIT ?"


def listing(
    row: str,
    states: Sequence[State],
    *,
    kind: str | None,
    queue: str | None,
    limit: int,
    beyond: tuple[int, int] | None,
) -> tuple[str, list[Any]]:
    """The query for *row* of the jobs in *states*, by priority, then age, and its arguments.

    *beyond* is the (priority, seq) that the page begins after.
    """
    parts, arguments = [], list[Any]()
    for source in _sources(states):
        where = [source]
        for column, value in (("type", kind), ("queue", queue)):
            if value is not None:
                where.append(f"{column} = ?")
                arguments.append(value)
        if beyond is not None:
            where.append("(priority < ? OR (priority = ? AND seq > ?))")
            arguments += [beyond[0], *beyond]
        parts.append(
            f"SELECT * FROM (SELECT {row} AS row, priority, seq FROM durably_jobs"
            f" INDEXED BY {' AND '.join(where)} {_ORDER})"
        )
        arguments.append(limit)
    return f"SELECT row FROM ({' UNION ALL '.join(parts)}) {_ORDER}", [*arguments, limit]


def _sources(states: Sequence[State]) -> list[str]:
    """An index and its condition for each group of states that has an order of its own.

    Live states share one shelf.
    """
    if tuple(states) == (State.RUNNING,):
        # Few, among perhaps a million that wait: by the leases.
        return ["durably_leased WHERE state IN (2, 3) AND +state = 3"]
    sources = []
    for key in sorted({max(state, State.RUNNING) for state in states}):
        within = ", ".join(str(int(s)) for s in states if max(s, State.RUNNING) == key)
        sources.append(f"durably_listing WHERE shelf = {int(key)} AND state IN ({within})")
    return sources
