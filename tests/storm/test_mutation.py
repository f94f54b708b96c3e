"""The tool that puts small changes into the code: what it makes, what it leaves alone, how it counts."""

from pathlib import Path

import pytest
from chaos.coverage_map import CoverageMap
from chaos.mutants import Mutant, mutants_of
from chaos.verdicts import Verdict, summary, wilson


def made(tmp_path: Path, code: str) -> list[Mutant]:
    """The mutants of a file with this code, those that compile."""
    (tmp_path / "code.py").write_text(code)
    return [one for one in mutants_of(tmp_path, "code.py") if one.compiles()]


def changed(tmp_path: Path, code: str) -> set[str]:
    """What each mutant puts in the place of *code*."""
    return {one.code for one in made(tmp_path, code)}


@pytest.mark.parametrize(
    ("code", "one"),
    [
        ("a < b\n", "a <= b\n"),
        ("a = 1\n", "a = 2\n"),
        ("if a:\n    b()\n", "if not (a):\n    b()\n"),
        ("if a:\n    b()\n", "if a:\n    pass\n"),
        ("if a:\n    raise b\n", "if a:\n    pass\n"),
        ("a(b, c)\n", "a(b, )\n"),
        ("a = 'SELECT b WHERE c >= ? AND d'\n", "a = 'SELECT b WHERE c > ? AND d'\n"),
        ("a = 'SELECT b WHERE c >= ? AND d'\n", "a = 'SELECT b WHERE c >= ? OR d'\n"),
        ("a = f'SELECT {b} LIMIT 1'\n", "a = f'SELECT {b}'\n"),
        ("a = 'SELECT b FOR UPDATE SKIP LOCKED'\n", "a = 'SELECT b FOR UPDATE'\n"),
    ],
)
def test_a_small_change_of_each_kind(tmp_path: Path, code: str, one: str) -> None:
    """The library's kinds and ours: conditions, calls, raises, and within SQL."""
    assert one in changed(tmp_path, code)


@pytest.mark.parametrize(
    "code",
    [
        '"""Text."""\n',
        "import a\n",
        "a: int\n",
        "def a(b: int | None) -> list[int]: ...\n",
        "assert a == 1\n",
        "__slots__ = ('a', 'b')\n",
        "_log.warning('it is %s', 1 + 1)\n",
        "class A(B, frozen=True, gc=False): ...\n",
        "if TYPE_CHECKING:\n    a = 1\n",
    ],
)
def test_what_cannot_change_behaviour_is_left_alone(tmp_path: Path, code: str) -> None:
    """No mutant at all."""
    assert changed(tmp_path, code) == set()


def test_a_mutant_knows_its_statement(tmp_path: Path) -> None:
    """Its own line, all lines of its statement, and what the statement defines."""
    found = [one for one in made(tmp_path, "a = (\n    0,\n    7,\n)\n") if "8" in one.code]

    [one] = found
    assert (one.line, one.lines, one.names) == (3, range(1, 5), frozenset({"a"}))
    assert one.diff == "-    7,\n+    8,"


FILE = "src/durably/domain/histogram.py"
RECORDED = {
    "seconds": {"slow": 2.0, "postgres": 0.1, "quick": 1.0, "hopeless": 30.0},
    "lines": {FILE: {"10": [0, 1, 2, 3], "11": [0]}},
}


def test_the_shortest_tests_come_first_and_those_with_a_server_last() -> None:
    """As many as fit the time; one that might be taken for hung never."""
    known = CoverageMap(RECORDED)

    assert list(known.tests(FILE, range(10, 11), (), 10)) == [["quick", "slow"], ["postgres"]]
    assert list(known.tests(FILE, range(10, 11), (), 1.5)) == [["quick"], ["postgres"]]


def test_what_only_an_import_runs_is_tested_where_it_is_used() -> None:
    """A constant's tests are those of the lines that name it; else those of its file."""
    known = CoverageMap(RECORDED)

    assert list(known.tests(FILE, range(8, 9), {"_SMALLEST"}, 10)) == [
        ["quick", "slow"],
        ["postgres"],
    ]
    assert next(known.tests(FILE, range(6, 7), {"_UNKNOWN"}, 10)) == ["quick", "slow"]


def test_the_interval_of_a_share() -> None:
    """Wilson's: it stays within 0 and 1."""
    assert wilson(85, 100) == pytest.approx((0.7672, 0.9069), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_the_summary_names_survivors_and_counts_by_part(tmp_path: Path) -> None:
    """The place, the change, how many tests saw nothing; then the shares and the seed."""
    (tmp_path / "src/durably/domain").mkdir(parents=True)
    (tmp_path / "src/durably/domain/a.py").write_text("a = 1\n")
    killed, left, *_ = mutants_of(tmp_path, "src/durably/domain/a.py")
    text = summary([Verdict(killed, "a test", 3), Verdict(left, "", 5)], 9, 7)

    assert f"src/durably/domain/a.py:1 (5 tests)\n{left.diff}" in text
    assert "| 2 of 9 mutants, seed 7 |" in text
    assert "| domain | 1 of 2 | 50.0% | 9.5% to 90.5% |" in text
    assert "| total | 1 of 2 | 50.0% |" in text
