"""``durably worker``: runs jobs, without HTTP."""

import click

from durably.cli.errors import WRONG_USAGE, Failure
from durably.cli.logs import log_options, set_up_logging
from durably.cli.options import concurrency_option, epilog, timeout_option
from durably.cli.options import store_option as _store


@click.command(
    epilog=epilog(
        "durably worker mail:queue",
        "durably worker mail:queue --concurrency 8 --store sqlite:////var/lib/durably/jobs.db",
        "durably worker --instances",
        notes=(
            "MODULE:QUEUE is a JobQueueService in a module that is found from the working",
            "directory. A store, concurrency, lease or retention given as a flag, in the environment",
            "or in durably.toml wins over what the program says.",
            "",
            "SIGTERM and Ctrl-C end it in good order: running jobs finish until the timeout, what",
            "has not started is given back. A second one ends it at once.",
        ),
    )
)
@click.argument("target", metavar="[MODULE:QUEUE]", required=False)
@click.option("--instances", is_flag=True, help="Run the jobs of GPU instances and the reconciler.")
@_store
@concurrency_option
@timeout_option
@log_options
def worker(
    target: str | None,
    store: str | None,
    concurrency: str | None,
    timeout: float,
    log_format: str,
    *,
    instances: bool,
) -> None:
    """Run the jobs of a program, or of GPU instances."""
    from durably import app, daemons
    from durably.cli.signals import run, stopped_by_signals
    from durably.cli.target import load_queue

    if target is None and not instances:
        raise Failure("need MODULE:QUEUE such as mail:queue, or --instances", WRONG_USAGE)
    flags = {"store": store, "concurrency": concurrency}
    if instances:
        settings = app.settings_for_instances(flags=flags)
    else:
        settings = app.settings_for_clients(flags=flags)
    set_up_logging(log_format)
    if target is None:
        queue = app.open_queue(settings, concurrency=settings.concurrency)
    else:
        queue = load_queue(target)
        app.configure(queue, settings)

    async def main() -> int:
        with stopped_by_signals() as stop:
            return await daemons.work(
                settings, queue, instances=instances, timeout=timeout, stop=stop, say=say
            )

    farewell(run(main()), timeout)


def say(line: str) -> None:
    """Tell whoever has started the process."""
    click.echo(line, err=True)


def farewell(left: int, timeout: float) -> None:
    """Say what was left behind."""
    if left:
        say(f"{left} jobs were still running after {timeout:g} s and were given back")
    say("stopped")
