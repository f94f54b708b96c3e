"""``durably stats``: what the store holds and how fast it is worked off."""

import click
import msgspec

from durably.cli.options import epilog, json_option
from durably.cli.output import print_fields, print_json, print_table, seconds
from durably.cli.source import Source, source_options
from durably.engine.stats import QueueStats


@click.command(
    epilog=epilog("durably stats", "durably stats --json | jq .pending_jobs"),
)
@source_options
@json_option
def stats(source: Source, *, as_json: bool) -> None:
    """Count jobs and show rates.

    Rates are of the last 300 s over all processes. In JSON the names are those of the Python API (snake_case) and durations are seconds.
    """
    figures = source.ask(lambda service: service.get_stats())
    if as_json:
        print_json(msgspec.structs.asdict(figures))
        return
    print_fields(_fields(figures))
    if figures.jobs_by_type:
        click.echo()
        by_type = sorted(figures.jobs_by_type.items())
        print_table(("TYPE", "JOBS"), [(name, f"{count:,}") for name, count in by_type])


def _fields(figures: QueueStats) -> list[tuple[str, str]]:
    return [
        ("jobs", f"{figures.total_jobs:,}"),
        ("pending", f"{figures.pending_jobs:,}, {figures.scheduled_jobs:,} of them scheduled"),
        ("processing", f"{figures.processing_jobs:,}"),
        ("completed", f"{figures.completed_jobs:,}"),
        ("failed", f"{figures.failed_jobs:,}"),
        ("cancelled", f"{figures.cancelled_jobs:,}"),
        ("throughput", f"{figures.throughput:.2f} jobs/s"),
        ("failed attempts", f"{figures.error_rate:.1%}"),
        ("waiting p50 p95 p99", _times(figures.wait_p50, figures.wait_p95, figures.wait_p99)),
        ("running p50 p95 p99", _times(figures.run_p50, figures.run_p95, figures.run_p99)),
        ("late outcomes", f"{figures.late_outcomes:,}"),
        ("no worker for", ", ".join(figures.unhandled_types) or "-"),
    ]


def _times(*values: float) -> str:
    return "  ".join(seconds(value) for value in values)
