"""``durably bench``: how fast this machine and store are, and what limits them."""

import sys
from typing import TYPE_CHECKING

import click
import msgspec

from durably import app
from durably.cli.options import epilog, json_option, store_option
from durably.cli.output import print_fields, print_json
from durably.cli.signals import run, until_stopped

if TYPE_CHECKING:
    from durably.cli.bottleneck import Costs, Verdict
    from durably.cli.measuring import Speed


_REST_CORES = 0.25


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, where, and what it means."""

    place: str
    speed: "Speed"
    costs: "Costs"
    verdict: "Verdict"
    other_programs_cores: float | None
    """What others took of the machine meanwhile, a server of PostgreSQL on it included."""


@click.command(
    epilog=epilog(
        "durably bench",
        "durably bench --store sqlite:////var/lib/jobs/jobs.db   # that disk",
        "durably bench --store postgresql://durably@db/jobs --seconds 20",
        "durably bench --store memory:// --json | jq .verdict.limit",
        notes=(
            "A job costs Python (the event loop: its task, its payload), the database (rows and",
            "indexes) and the disk (waiting until a commit is safe). Whoever adds one job at a time",
            "waits for a commit each; producers beside each other, add_jobs and the slots of a worker",
            "share commits. Measure when nothing else runs, more than once: a busy machine lies.",
        ),
    ),
)
@store_option
@click.option(
    "--seconds",
    type=click.FloatRange(min=1, max=3600),
    default=60.0,
    show_default=True,
    help="For all of it, about.",
)
@json_option
def bench(store: str | None, seconds: float, *, as_json: bool) -> None:
    """Measure this machine and store, and say what limits them.

    Jobs that do nothing, with payloads of 100 bytes, are added and run by this one process, on a
    store of its own where the named one is: an SQLite file in a new folder beside it, a new schema
    in its database. That is removed afterwards; existing jobs are not touched. It needs up to 300 MB
    of room.
    """
    url = app.settings_for_clients(store).store
    report = run(until_stopped(_measured(url, seconds)))
    if as_json:
        print_json(report)
        return
    print_fields(_fields(report))
    click.echo()
    click.echo(report.verdict.advice)
    if _is_disturbed(report):
        click.echo(
            f"other programs kept {report.other_programs_cores:.1f} cores busy meanwhile, so that"
            " waiting for a core looks like waiting for the disk: measure again when they rest"
        )


async def _measured(url: str, seconds: float) -> Report:
    from durably.cli.bottleneck import judge
    from durably.cli.measuring import Others, measure
    from durably.cli.proving_ground import ground

    try:
        async with ground(url) as found:
            others = Others()
            speed, costs = await measure(found.store, seconds, _tell)
            costs = found.completed(costs)
            return Report(
                place=found.place,
                speed=speed,
                costs=costs,
                verdict=judge(costs),
                other_programs_cores=others.cores(),
            )
    finally:
        _tell("")


def _is_disturbed(report: Report) -> bool:
    """Whether the figures are those of other programs too; a server's share is no disturbance."""
    return report.costs.commit_ms is None and (report.other_programs_cores or 0.0) > _REST_CORES


def _tell(what: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{what}", nl=False, err=True)


def _fields(report: Report) -> list[tuple[str, str]]:
    speed, costs = report.speed, report.costs
    fields = [
        ("measured in", report.place),
        ("add, one at a time", f"{speed.add_one_at_a_time_per_s:,.0f} jobs/s"),
        ("add, 64 producers", f"{speed.add_concurrently_per_s:,.0f} jobs/s"),
        ("add, 1,000 at a time", f"{speed.add_in_bulk_per_s:,.0f} jobs/s"),
        ("claim to outcome", f"{speed.claim_to_outcome_per_s:,.0f} jobs/s"),
        ("add to start p50 p99", f"{speed.latency_p50_ms:.2f} ms  {speed.latency_p99_ms:.2f} ms"),
        ("time of a job", f"{costs.job_us:.1f} µs, Python {costs.python_us:.1f} µs of it"),
    ]
    probes = (
        ("SQLite's CPU a job", costs.threads_us if costs.sync_ms is not None else None, "µs"),
        ("disk sync", costs.sync_ms, "ms"),
        ("server's answer", costs.round_trip_ms, "ms"),
        ("server's commit", costs.commit_ms, "ms"),
    )
    return fields + [
        (name, f"{value:.2f} {unit}") for name, value, unit in probes if value is not None
    ]
