"""The report: tables and plots out of result files, the same each time, and nothing else of the page."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from benchmarks import report
from benchmarks.run import MEASURES
from benchmarks.tables import TABLES

PAGE = f"# Performance\n\nBefore.\n\n{report.BEGIN}\n\nold\n\n{report.END}\n\nAfter.\n"


def figures(**values: float) -> dict[str, Any]:
    return {
        name: {"median": v, "min": v / 2, "max": v * 2, "n": 3, "all": [v / 2, v, v * 2]}
        for name, v in values.items()
    }


def result(answers: dict[str, Any], *, at: str = "2026-11-25T10:00:00+00:00") -> report.Result:
    machine = {"at": at, "commit": "abc1234", "cores": "2", "load": "0.10", "python": "3.11.7"}
    machine |= {"sqlite": "3.40.1", "postgres": "15.18", "loop": "uvloop 0.23.0"}
    settings = {"size": "bench", "sizes": {"enqueue": {"jobs": 20_000}}}
    return report.Result(f"{at[:10]}.json", machine, settings, answers)


SAMPLE = {
    "enqueue": {
        "memory": figures(enqueue_single_per_s=60_000.4, enqueue_64_per_s=40_000),
        "sqlite": figures(enqueue_single_per_s=2_000, enqueue_64_per_s=25_000),
    },
    "growth": {"sqlite": figures(full_of_empty=0.97, empty_add_p50_ms=0.4567)},
    "continuous": {
        "sqlite": figures(**{f"window_{at}_per_s": 20_000 + at for at in range(1, 7)}),
        "a<b": figures(**{f"window_{at}_per_s": 30_000 - at for at in range(1, 7)}),
    },
}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "performance.md"
    path.write_text(PAGE)
    return path


def test_tables_stand_between_the_markers(page: Path, tmp_path: Path) -> None:
    """Medians with their spread, units by name, the run they are of; the prose is as it was."""
    report.write([result(SAMPLE)], page, tmp_path / "plots")
    text = page.read_text()
    assert text.startswith("# Performance\n\nBefore.\n\n" + report.BEGIN)
    assert text.endswith(report.END + "\n\nAfter.\n")
    assert "old" not in text.split()
    assert "| | memory | sqlite |\n|---|---:|---:|\n" in text
    assert (
        "| one after the other, jobs/s | 60,000 (30,000 to 120,001) | 2,000 (1,000 to 4,000) |"
        in text
    )
    assert "| full of empty | 97 % (48 % to 194 %) |" in text
    assert "0.457 ms (0.228 ms to 0.913 ms)" in text
    assert "1. `2026-11-25.json`: 2026-11-25, commit abc1234, 2 cores" in text
    assert "Run 1, jobs 20,000; median (lowest to highest) of 3." in text


def test_plots_are_well_formed_and_shown(page: Path, tmp_path: Path) -> None:
    """A picture for what has several bars or a course; one that is shown no more is removed."""
    pictures = tmp_path / "plots"
    pictures.mkdir()
    (pictures / "gone.svg").write_text("old")
    report.write([result(SAMPLE)], page, pictures)
    assert {path.name for path in pictures.iterdir()} == {"enqueue.svg", "continuous.svg"}
    for path in pictures.iterdir():
        assert ET.fromstring(path.read_text()).tag.endswith("svg")
        assert f"(plots/{path.name})" in page.read_text()


def test_it_is_the_same_each_time(page: Path, tmp_path: Path) -> None:
    """Written twice, nothing changes."""

    def written() -> dict[str, str]:
        report.write([result(SAMPLE)], page, tmp_path / "plots")
        return {str(p): p.read_text() for p in tmp_path.rglob("*") if p.is_file()}

    assert written() == written()


def test_the_newest_answer_is_shown(page: Path, tmp_path: Path) -> None:
    """Each question for itself: an old run stays for what no newer one has asked."""
    newer = result(
        {"growth": {"sqlite": figures(full_of_empty=0.5)}}, at="2026-11-26T10:00:00+00:00"
    )
    report.write([newer, result(SAMPLE)], page, tmp_path / "plots")
    text = page.read_text()
    assert "1. `2026-11-26.json`" in text
    assert "2. `2026-11-25.json`" in text
    assert "| full of empty | 50 % (25 % to 100 %) |" in text
    assert "97 %" not in text


def test_a_page_without_markers_is_refused(page: Path, tmp_path: Path) -> None:
    """Named, and left alone."""
    page.write_text("# Performance\n")
    with pytest.raises(
        ValueError, match=r"need the lines <!-- results: begin -->.*performance\.md"
    ):
        report.write([result(SAMPLE)], page, tmp_path / "plots")
    assert page.read_text() == "# Performance\n"


def test_every_question_has_a_table() -> None:
    """What is measured is shown."""
    assert set(MEASURES) <= {table.question for table in TABLES}


def test_the_kept_results_can_be_read() -> None:
    """Those in benchmarks/results, newest first."""
    results = report.load(sorted((report.ROOT / "benchmarks" / "results").glob("*.json")))
    assert results
    assert results == sorted(results, key=lambda r: r.machine["at"], reverse=True)


def test_the_page_is_what_the_results_say(tmp_path: Path) -> None:
    """docs/performance.md and its plots were written from benchmarks/results: `make bench-report`."""
    docs = report.ROOT / "docs"
    page = tmp_path / "performance.md"
    page.write_text((docs / "performance.md").read_text())
    paths = sorted((report.ROOT / "benchmarks" / "results").glob("*.json"))
    report.write(report.load(paths), page, tmp_path / "plots")
    assert page.read_text() == (docs / "performance.md").read_text()
    for path in (tmp_path / "plots").iterdir():
        assert path.read_text() == (docs / "plots" / path.name).read_text()
