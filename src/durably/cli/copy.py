"""``durably copy``: everything of one store into another."""

import asyncio
import sys

import click

from durably import app
from durably.cli.errors import NOT_FOUND, WRONG_USAGE, Failure
from durably.cli.options import epilog, json_option
from durably.cli.output import print_json, printable


@click.command(
    epilog=epilog(
        "durably copy sqlite:///durably.db postgresql://durably@db/jobs",
        "durably copy postgresql://durably@db/jobs sqlite:///durably.db --json",
        notes=(
            "Stop workers and servers first. When it was interrupted, the same command goes on.",
            "Then point DURABLY_STORE at the target; the source stays as it is.",
        ),
    )
)
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@json_option
def copy(source: str, target: str, *, as_json: bool) -> None:
    """Copy jobs, history, instances and settings from one store to another, empty one.

    Ids are kept. At the end all of both is read and compared. Refused while a worker runs on either.
    """
    urls = [app.settings_for_clients(url).store for url in (source, target)]
    if urls[0] == urls[1] or "memory://" in urls:
        raise Failure("need two stores that outlive a process, such as sqlite:///old.db and"
                      " postgresql://durably@db/jobs", WRONG_USAGE)  # fmt: skip
    counts = asyncio.run(_copy(*urls))
    if as_json:
        print_json(counts)
    else:
        said = ", ".join(f"{count:,} {part}" for part, count in counts.items())
        click.echo(f"copied and compared: {said}")


async def _copy(source: str, target: str) -> dict[str, int]:
    from durably.domain.clock import SystemClock
    from durably.engine.copying import CopyError
    from durably.engine.copying import copy as copy_all
    from durably.stores import open_store

    if reason := await app.missing_store(source):
        raise Failure(printable(reason), NOT_FOUND)
    stores = [open_store(url, clock=SystemClock()) for url in (source, target)]
    await stores[0].open()
    try:
        await stores[1].open()
        try:
            counts = await copy_all(*stores, told=_tell)
            return {part.value: count for part, count in counts.items()}
        except CopyError as error:
            raise Failure(str(error)) from error
        finally:
            await stores[1].close()
            if sys.stderr.isatty():
                click.echo(err=True)
    finally:
        await stores[0].close()


def _tell(what: str, rows: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{what}: {rows:,}", nl=False, err=True)
