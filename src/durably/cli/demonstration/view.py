"""How the demonstration shows its progress: a live table on a terminal, lines elsewhere."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from rich.live import Live


class View(Protocol):
    """Is told what happens."""

    def say(self, text: str) -> None:
        """Something has happened."""

    def show(self, statuses: Mapping[str, str]) -> None:
        """How the instances stand, by name."""


class Lines:
    """A line for everything that happens and for every change.

    Args:
        err: Write to stderr instead of stdout.
    """

    def __init__(self, *, err: bool) -> None:
        self._err = err
        self._started = time.monotonic()
        self._shown: dict[str, str] = {}

    def say(self, text: str) -> None:
        """See `View.say`."""
        click.echo(f"{time.monotonic() - self._started:5.1f} s  {text}", err=self._err)

    def show(self, statuses: Mapping[str, str]) -> None:
        """See `View.show`."""
        for name, status in statuses.items():
            if self._shown.get(name) != status:
                self.say(f"{name} is {status}")
        self._shown = dict(statuses)


class Screen:
    """A table that changes in place, below the lines of what has happened."""

    def __init__(self, live: "Live") -> None:
        self._live = live
        self._started = time.monotonic()
        self._since: dict[str, tuple[str, float]] = {}

    def say(self, text: str) -> None:
        """See `View.say`."""
        self._live.console.print(f"{self._elapsed():5.1f} s  {text}", highlight=False, markup=False)

    def show(self, statuses: Mapping[str, str]) -> None:
        """See `View.show`."""
        from rich.table import Table

        table = Table("INSTANCE", "STATUS", "FOR", box=None)
        now = self._elapsed()
        for name, status in statuses.items():
            before, since = self._since.get(name, ("", now))
            since = since if before == status else now
            self._since[name] = (status, since)
            colour = {"ready": "green", "failed": "red"}.get(status, "yellow")
            table.add_row(name, f"[{colour}]{status}[/]", f"{now - since:.0f} s")
        self._live.update(table, refresh=True)

    def _elapsed(self) -> float:
        return time.monotonic() - self._started


@contextmanager
def open_view(*, live: bool, err: bool) -> Iterator[View]:
    """The view for a terminal (*live*), or the lines, on stderr or on stdout."""
    if not live:
        yield Lines(err=err)
        return
    from rich.live import Live

    with Live(auto_refresh=False, transient=True) as screen:
        yield Screen(screen)
