"""What became of mutants, and the share of them that the tests kill."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from chaos.mutants import Mutant


class Verdict(NamedTuple):
    """What became of a mutant."""

    mutant: Mutant
    killer: str
    """The first test that failed; empty when it survived."""
    tests: int
    """How many were run for it."""

    @property
    def part(self) -> str:
        """The domain, the engine or the stores."""
        return self.mutant.file.split("/")[2]


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z, share = 1.96, hits / of
    middle = share + z * z / (2 * of)
    reach = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (middle - reach) / (1 + z * z / of), (middle + reach) / (1 + z * z / of)


def told(verdict: Verdict) -> str:
    """A survivor, for a reader."""
    mutant = verdict.mutant
    return f"{mutant.file}:{mutant.line} ({verdict.tests} tests)\n{mutant.diff}"


def score(name: str, verdicts: list[Verdict]) -> str:
    """A line of the table."""
    killed = sum(bool(one.killer) for one in verdicts)
    low, high = wilson(killed, len(verdicts))
    share = f"{killed / len(verdicts):.1%} | {low:.1%} to {high:.1%}"
    return f"| {name} | {killed} of {len(verdicts)} | {share} |"


def summary(verdicts: list[Verdict], of: int, seed: int) -> str:
    """The survivors, then the score of each part and of all."""
    parts: dict[str, list[Verdict]] = defaultdict(list)
    for one in verdicts:
        parts[one.part].append(one)
    survivors = [told(one) for one in verdicts if not one.killer]
    head = f"{len(verdicts)} of {of} mutants, seed {seed}"
    table = [score(name, some) for name, some in sorted(parts.items())]
    table = [f"| {head} | killed | share | 95 % |", "|---|---|---:|---|", *table]
    return "\n\n".join([*survivors, "\n".join([*table, score("total", verdicts)])])


def plain(verdict: Verdict) -> dict[str, Any]:
    """For JSON."""
    mutant = verdict.mutant
    place = {"file": mutant.file, "line": mutant.line, "diff": mutant.diff}
    return {**place, "killer": verdict.killer, "tests": verdict.tests}


def killed_before(sample: list[Mutant], file: Path) -> Iterator[Verdict]:
    """What need not be judged again."""
    old = [one for one in json.loads(file.read_text()) if one["killer"]]
    known = {(one["file"], one["line"], one["diff"]): one for one in old}
    for mutant in sample:
        if one := known.get((mutant.file, mutant.line, mutant.diff)):
            yield Verdict(mutant, one["killer"], one["tests"])
