"""``durably demo``: three GPU instances end to end, with faults and a killed process."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from durably.cli.errors import WRONG_USAGE, Failure
from durably.cli.options import epilog, json_option
from durably.cli.output import print_json, print_table
from durably.cli.signals import until_stopped

if TYPE_CHECKING:
    from durably.cli.demonstration.verdict import Summary


@click.command(
    epilog=epilog(
        "durably demo",
        "durably demo --instances 10",
        "durably demo --json | jq .ok",
        "durably demo --fault create:status_error:count=1   # fails, and says why",
    )
)
@click.option(
    "--instances", type=click.IntRange(1, 50), default=3, show_default=True, help="To ask for."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="TEXT",
    help="A further fault of the provider, as of durably simulator; may be repeated.",
)
@json_option
def demo(instances: int, faults: tuple[str, ...], *, as_json: bool) -> None:
    """Rent simulated GPUs while things go wrong.

    A simulated provider, a service and a receiver of webhooks work together in a temporary folder.
    One create reply is lost, a burst of 503 comes, and the service is killed in the middle. Exit
    code 0, within a minute, says that every instance is ready, none was rented twice, every
    webhook was verified, and each creation had exactly one terminal event.
    """
    from durably.cli.demonstration.scenario import Demonstration
    from durably.cli.demonstration.view import open_view
    from durably.instances.simulator import parse_fault

    try:
        for fault in faults:
            parse_fault(fault)
    except ValueError as error:
        raise Failure(str(error), WRONG_USAGE) from error
    with open_view(live=sys.stdout.isatty() and not as_json, err=as_json) as view:
        played = Demonstration(instances=instances, faults=faults, view=view).run()
        summary = asyncio.run(until_stopped(played))
    if as_json:
        print_json(summary)
    else:
        _print(summary)
    if not summary.ok:
        raise Failure("\n".join(summary.problems))


def _print(summary: "Summary") -> None:
    headers = ("INSTANCE", "STATUS", "CREATES", "BILLED", "WEBHOOKS", "VERIFIED", "SECONDS")
    rows = [
        (
            one.name,
            one.status,
            str(one.creates),
            str(one.billed),
            str(one.webhooks),
            str(one.verified),
            "-" if one.seconds is None else f"{one.seconds:.1f}",
        )
        for one in summary.instances
    ]
    print_table(headers, rows)
    click.echo(
        f"{'all is well' if summary.ok else 'something went wrong'} after {summary.seconds:.1f} s:"
        f" {summary.kills} kill, {summary.faults_met} requests met a fault"
    )
