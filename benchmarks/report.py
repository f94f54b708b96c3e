"""Write tables and plots of results into docs/performance.md: `python -m benchmarks.report [FILE …]`.

Of each question the newest result is shown. What stands between the markers is replaced, the rest of
the page is written by people.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import plots
from benchmarks.tables import TABLES, Table

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
Subjects = Mapping[str, Mapping[str, Any]]
"""Figures of each store or peer."""


class Result(NamedTuple):
    """One run's file."""

    name: str
    machine: Mapping[str, str]
    settings: Mapping[str, Any]
    answers: Mapping[str, Subjects]


def load(paths: Sequence[Path]) -> list[Result]:
    """The results in *paths*, newest first; files of another shape are left out."""
    found = []
    for path in paths:
        document = json.loads(path.read_text())
        if "answers" in document:
            settings = document.get("settings", {})
            found.append(Result(path.name, document["machine"], settings, document["answers"]))
    return sorted(found, key=lambda result: (result.machine["at"], result.name), reverse=True)


def write(results: Sequence[Result], page: Path, pictures: Path) -> None:
    """Replace what stands between the markers of *page*, and the pictures it shows.

    Raises:
        ValueError: the page has no markers.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"need the lines {BEGIN} and {END} in {page}")
    shown = [(table, _newest(results, table.question)) for table in TABLES]
    runs = [r for r in results if any(r is result for _, result in shown)]
    blocks = [_runs(runs)]
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.glob("*.svg"):
        old.unlink()
    for table, result in shown:
        if result is not None:
            blocks.append(_section(table, result, runs.index(result) + 1, pictures))
    page.write_text("\n\n".join([before + begin, *blocks, end + after]))


def _newest(results: Sequence[Result], question: str) -> Result | None:
    return next((result for result in results if len(result.answers.get(question, ()))), None)


def _runs(runs: Sequence[Result]) -> str:
    """Where, when and with what."""
    return "\n".join(f"{number}. {_run(run)}" for number, run in enumerate(runs, 1))


def _run(run: Result) -> str:
    machine, settings = run.machine, run.settings
    parts = [
        f"`{run.name}`: {machine['at'][:10]}, commit {machine['commit']}",
        f"{machine['cores']} cores{_of(machine.get('processor'))}, load {machine['load']} at the end",
        f"Python {machine['python']} on {machine.get('loop', 'asyncio')}",
        f"SQLite {machine['sqlite']}",
    ]
    if machine.get("postgres", "none") != "none":
        parts.append(f"PostgreSQL {machine['postgres']} with its defaults")
    if "size" in settings:
        parts.append(f"size {settings['size']}")
    parts += [f"failed: {name}" for name in settings.get("failed", {})]
    return ", ".join(parts)


def _of(processor: str | None) -> str:
    return "" if processor is None else f" of {processor}"


def _section(table: Table, result: Result, run: int, pictures: Path) -> str:
    subjects = result.answers[table.question]
    size = result.settings.get("sizes", {}).get(table.question, {})
    sizes = "".join(f", {name} {_plain(value)}" for name, value in size.items())
    parts = [f"### {table.title}", _rows(table, result)]
    picture = _picture(table, subjects)
    if picture is not None:
        (pictures / f"{table.question}.svg").write_text(picture)
        parts.append(f"![{table.title}]({pictures.name}/{table.question}.svg)")
    parts.append(f"Run {run}{sizes}; median (lowest to highest) of {_repetitions(subjects)}.")
    return "\n\n".join(parts)


def _rows(table: Table, result: Result) -> str:
    subjects = result.answers[table.question]
    versions = result.settings.get("versions", {})
    names = (f"{name} {versions.get(name, '')}".strip() for name in subjects)
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---:|' * len(subjects)}"]
    for figure, label in table.rows:
        cells = [_cell(figure, figures.get(figure)) for figures in subjects.values()]
        if any(cell != "-" for cell in cells):
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(figure: str, values: Mapping[str, float] | None) -> str:
    if values is None:
        return "-"
    median, low, high = (_value(figure, values[name]) for name in ("median", "min", "max"))
    return median if values["n"] == 1 else f"{median} ({low} to {high})"


def _value(figure: str, value: float) -> str:
    """With its unit, which the figure's name ends with."""
    if "_of_" in figure:
        return f"{value:.0%}".replace("%", " %")
    if figure.endswith("_ms"):
        return f"{value:.3g} ms" if value < 100 else f"{value:,.0f} ms"
    if figure.endswith("_us"):
        return f"{value:,.0f} µs"
    if figure.endswith("_percent"):
        return f"{value:.2f} %"
    if figure.endswith("_mb"):
        return f"{value:,.1f} MB"
    if "bytes" in figure:
        return f"{value:,.0f} B"
    return f"{value:,.0f}"


def _plain(value: float) -> str:
    return f"{value:,}"


def _repetitions(subjects: Subjects) -> str:
    counts = {int(v["n"]) for figures in subjects.values() for v in figures.values()}
    return " or ".join(map(str, sorted(counts)))


def _picture(table: Table, subjects: Subjects) -> str | None:
    if table.windows:
        series = {name: _course(figures) for name, figures in subjects.items()}
        return plots.lines(table.title, "jobs/s", series) if all(series.values()) else None
    figure = table.bars
    if figure is None:
        return None
    rows = [
        plots.Bar(name, *(figures[figure][part] for part in ("median", "min", "max")))
        for name, figures in subjects.items()
        if figure in figures
    ]
    label = dict(table.rows)[figure]
    unit = "ms" if figure.endswith("_ms") else label
    return plots.bars(table.title.replace("`", ""), unit, rows) if len(rows) > 1 else None


def _course(figures: Mapping[str, Any]) -> list[float]:
    windows = (figures.get(f"window_{at}_per_s") for at in range(1, 7))
    return [values["median"] for values in windows if values]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md")
    parser.add_argument("--plots", type=Path, default=ROOT / "docs" / "plots")
    parser.add_argument("file", type=Path, nargs="*", help="results; benchmarks/results/*.json")
    options = parser.parse_args()
    paths = options.file or sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    try:
        write(load(paths), options.page, options.plots)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
