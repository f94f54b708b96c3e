"""Small SVG pictures of results, made by hand so that they need no library and never change by themselves."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle
from typing import NamedTuple

WIDTH = 720
LEFT = 190
RIGHT = 90
ROW = 26
COLOURS = ("#1f6f8b", "#c8553d", "#5b8c5a", "#8e6c8a", "#b8860b", "#555555")


class Bar(NamedTuple):
    """A median with its spread."""

    label: str
    median: float
    low: float
    high: float


def bars(title: str, unit: str, rows: Sequence[Bar]) -> str:
    """One bar for each row, to a common scale that begins at 0; a line shows the spread."""
    most = max(row.high for row in rows) or 1.0
    room = WIDTH - LEFT - RIGHT
    parts = []
    for at, row in enumerate(rows):
        y = 44 + at * ROW
        low, middle, high = (
            LEFT + room * value / most for value in (row.low, row.median, row.high)
        )
        parts += [
            _text(LEFT - 8, y + 13, row.label, anchor="end"),
            f'<rect x="{LEFT}" y="{y}" width="{middle - LEFT:.1f}" height="18" fill="{COLOURS[0]}"/>',
            f'<path d="M{low:.1f} {y + 9}H{high:.1f}" stroke="#222" stroke-width="2"/>',
            _text(high + 6, y + 13, number(row.median)),
        ]
    return _picture(f"{title}, {unit}", 56 + ROW * len(rows), parts)


def lines(title: str, unit: str, series: Mapping[str, Sequence[float]]) -> str:
    """One line for each series, over equal spans of time; the scale begins at 0."""
    top, bottom = 44, 244
    most = max(max(values) for values in series.values()) or 1.0
    room = WIDTH - 70 - LEFT
    parts = [f'<path d="M70 {top}V{bottom}H{70 + room}" fill="none" stroke="#888"/>']
    parts += [
        _text(64, bottom - (bottom - top) * share + 4, number(most * share), anchor="end")
        for share in (0.5, 1.0)
    ]
    for at, ((name, values), colour) in enumerate(
        zip(series.items(), cycle(COLOURS), strict=False)
    ):
        points = " ".join(
            f"{70 + room * x / max(len(values) - 1, 1):.1f},{bottom - (bottom - top) * y / most:.1f}"
            for x, y in enumerate(values)
        )
        y = top + 12 + at * 20
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<rect x="{84 + room}" y="{y - 9}" width="12" height="10" fill="{colour}"/>',
            _text(102 + room, y, name),
        ]
    return _picture(f"{title}, {unit}", bottom + 20, parts)


def number(value: float) -> str:
    """Three digits or more.

    >>> number(25077.3), number(1.614), number(0)
    ('25,077', '1.61', '0')
    """
    return f"{value:,.0f}" if value >= 100 or not value else f"{value:.3g}"


def _text(x: float, y: float, said: str, *, anchor: str = "start", size: int = 13) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(said)}</text>'


def _picture(title: str, height: int, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-label="{escape(title)}" font-family="sans-serif" fill="#222">'
    )
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    return "\n".join([head, ground, _text(12, 24, title, size=15), *parts, "</svg>", ""])
