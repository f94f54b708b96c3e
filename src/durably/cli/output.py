"""Printing: JSON, and tables that are plain text when they do not go to a terminal."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
import msgspec


def print_json(document: object) -> None:
    """One JSON document."""
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with one line of headers; in a pipe its columns are parted by two blanks."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if _is_terminal():
        _print_rich(headers, cells)
        return
    lines = [list(headers), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {printable(value)}".rstrip())


def _print_rich(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headers, box=SIMPLE_HEAD, pad_edge=False)
    *whole, last = table.columns
    last.overflow = "fold"
    for column, header, cells in zip(whole, headers, zip(*rows, strict=True), strict=False):
        # Ids are there to be copied: a narrow terminal breaks the line rather than the cell.
        column.min_width = max(map(len, (header, *cells)))
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table, crop=False)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def printable(text: str) -> str:
    """*text* on one line, with control characters as escapes: it may come from anybody."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def moment(at: datetime | None) -> str:
    """A time to the second, RFC 3339; a dash for none."""
    return "-" if at is None else f"{at.replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def age(at: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that fits.

    >>> from datetime import UTC, timedelta
    >>> age(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 3, 30, tzinfo=UTC))
    '3h'
    """
    past = max(0, int((now - at).total_seconds()))
    unit, name = next(
        (u for u in ((86_400, "d"), (3_600, "h"), (60, "m")) if past >= u[0]), (1, "s")
    )
    return f"{past // unit}{name}"


def seconds(value: float) -> str:
    """A duration for people.

    >>> seconds(0.01234), seconds(75.0)
    ('12.3 ms', '75.0 s')
    """
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"


def as_text(value: Any) -> str:
    """A JSON value on one line; a dash for none."""
    return "-" if value is None else msgspec.json.encode(value).decode()
