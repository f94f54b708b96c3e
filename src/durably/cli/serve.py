"""``durably serve``: the HTTP API, workers and the reconciler in one process."""

import click

from durably.cli.errors import WRONG_USAGE, Failure
from durably.cli.logs import log_options, set_up_logging
from durably.cli.options import concurrency_option, epilog, store_option, timeout_option
from durably.cli.worker import farewell, say


@click.command(
    epilog=epilog(
        "durably serve",
        "durably serve --port 8080 --store sqlite:////var/lib/durably/jobs.db",
        "durably serve mail:queue",
        "DURABLY_TOKENS=admin:$TOKEN durably serve --host 0.0.0.0",
        notes=(
            "POST /api/instances rents a GPU, POST /api/jobs adds a job, GET /api/openapi.json",
            "describes all routes. Without DURABLY_TOKENS it listens on loopback only. Without",
            "NOVITA_API_KEY it starts the simulator and says so: nothing is rented then.",
            "",
            "SIGTERM and Ctrl-C end it in good order: event streams are closed, running jobs finish",
            "until the timeout, what has not started is given back. A second one ends it at once.",
        ),
    )
)
@click.argument("target", metavar="[MODULE:QUEUE]", required=False)
@store_option
@click.option("--host", metavar="ADDRESS", help="Where to listen.  [default: 127.0.0.1]")
@click.option("--port", metavar="NUMBER", help="0 is any free port.  [default: 8000]")
@concurrency_option
@click.option("--no-worker", is_flag=True, help="Run no jobs here: `durably worker` does.")
@timeout_option
@log_options
def serve(
    target: str | None,
    store: str | None,
    host: str | None,
    port: str | None,
    concurrency: str | None,
    timeout: float,
    log_format: str,
    *,
    no_worker: bool,
) -> None:
    """Serve the HTTP API, and run jobs.

    With MODULE:QUEUE the handlers of that queue run here too.
    """
    from durably import app, daemons
    from durably.cli.signals import run, stopped_by_signals
    from durably.cli.target import load_queue

    if target is not None and no_worker:
        raise Failure("MODULE:QUEUE runs jobs, --no-worker runs none: give one", WRONG_USAGE)
    flags = {"store": store, "host": host, "port": port, "concurrency": concurrency}
    settings = app.settings_for_server(flags)
    set_up_logging(log_format)
    if target is None:
        queue = app.open_queue(settings, concurrency=settings.concurrency)
    else:
        queue = load_queue(target)
        app.configure(queue, settings)

    async def main() -> int:
        with stopped_by_signals() as stop:
            return await daemons.serve(
                settings, queue, workers=not no_worker, timeout=timeout, stop=stop, say=say
            )

    farewell(run(main()), timeout)
