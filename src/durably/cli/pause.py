"""``durably pause`` and ``durably resume``: whether workers take jobs of a queue."""

import click

from durably.cli.options import epilog, json_option
from durably.cli.output import print_json, printable
from durably.cli.source import Source, source_options

_queue = click.argument("queue", metavar="QUEUE")


@click.command(epilog=epilog("durably pause mail", "durably pause default --url http://jobs:8000"))
@_queue
@source_options
@json_option
def pause(queue: str, source: Source, *, as_json: bool) -> None:
    """Let no worker take jobs of a queue.

    What runs goes on. It holds for every process until `durably resume`.
    """
    source.ask(lambda service: service.pause(queue))
    _tell(queue, paused=True, as_json=as_json)


@click.command(epilog=epilog("durably resume mail"))
@_queue
@source_options
@json_option
def resume(queue: str, source: Source, *, as_json: bool) -> None:
    """Let workers take jobs of a queue again."""
    source.ask(lambda service: service.resume(queue))
    _tell(queue, paused=False, as_json=as_json)


def _tell(queue: str, *, paused: bool, as_json: bool) -> None:
    if as_json:
        print_json({"queue": queue, "paused": paused})
    else:
        click.echo(f"queue {printable(queue)} is {'paused' if paused else 'resumed'}")
