"""``durably jobs``: list, show, retry, cancel and explain."""

from datetime import datetime
from typing import Any

import click
import msgspec

from durably.cli.errors import WRONG_USAGE, Failure
from durably.cli.options import epilog, json_option
from durably.cli.output import (
    age,
    as_text,
    moment,
    print_fields,
    print_json,
    print_table,
    printable,
)
from durably.cli.source import Queue, Source, source_options
from durably.domain.clock import SystemClock, to_datetime
from durably.domain.errors import JobNotFoundError
from durably.domain.job import Job, JobStatus

_id = click.argument("job_id", metavar="ID")


@click.group(epilog=epilog("durably jobs list --status failed", "durably jobs retry $ID"))
def jobs() -> None:
    """Look at jobs and steer them.

    In JSON a job has the field names of the Python API (snake_case) and `scheduled`: whether it is
    pending and its time has not come.
    """


@jobs.command(
    "list",
    epilog=epilog(
        "durably jobs list --status failed --type send_mail",
        "durably jobs list --json | jq -r '.jobs[].id'",
    ),
)
@click.option(
    "--status",
    type=click.Choice([status.value for status in JobStatus]),
    help="Only these; scheduled jobs are pending.",
)
@click.option("--type", "type_", metavar="NAME", help="Only jobs of this type.")
@click.option("--queue", metavar="NAME", help="Only jobs of this queue.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most."
)
@click.option("--after", metavar="ID", help="Go on after this job, the last of the page before.")
@source_options
@json_option
def list_jobs(
    status: str | None,
    type_: str | None,
    queue: str | None,
    limit: int,
    after: str | None,
    source: Source,
    *,
    as_json: bool,
) -> None:
    """List jobs, highest priority first, then oldest.

    A pending job whose time has not come is shown as scheduled.
    """
    found = source.ask(
        lambda service: service.get_jobs(
            status=None if status is None else JobStatus(status),
            type=type_,
            queue=queue,
            limit=limit,
            after=after,
        ),
    )
    now = _now()
    if as_json:
        print_json({"jobs": [_document(job, now) for job in found]})
        return
    headers = ("ID", "TYPE", "STATUS", "PRIORITY", "QUEUE", "TRIES", "AGE", "ERROR")
    print_table(headers, [_row(job, now) for job in found])
    if len(found) == limit:
        click.echo(f"there may be more: --after {found[-1].id}", err=True)


@jobs.command(epilog=epilog("durably jobs show $ID", "durably jobs show $ID --traceback"))
@_id
@click.option("--traceback", is_flag=True, help="With the traceback of each failed attempt.")
@source_options
@json_option
def show(job_id: str, source: Source, *, traceback: bool, as_json: bool) -> None:
    """Show everything about one job.

    JSON always has the tracebacks.
    """
    job = source.ask(lambda service: _known(service, job_id))
    now = _now()
    if as_json:
        print_json(_document(job, now))
        return
    print_fields(_fields(job, now))
    for error in job.errors:
        started = f" (started {moment(error.started_at)})" if error.started_at else ""
        click.echo(
            f"\nattempt {error.attempt} at {moment(error.at)}{started}, {error.kind}:"
            f" {printable(error.message)}"
        )
        if traceback:
            for line in error.traceback.splitlines():
                click.echo(f"  {printable(line)}")


@jobs.command(
    epilog=epilog(
        "durably jobs retry $ID",
        """durably jobs retry $ID --payload '{"to": "ann@example.org"}'""",
    )
)
@_id
@click.option("--payload", metavar="JSON", help="Instead of the old one; forgets its steps.")
@source_options
@json_option
def retry(job_id: str, payload: str | None, source: Source, *, as_json: bool) -> None:
    """Run a finished job again.

    Its history stays, and it is given as many attempts as at first.
    """
    options = {} if payload is None else {"payload": _parsed(payload)}
    job = source.ask(lambda service: service.retry_job(job_id, **options))
    if as_json:
        print_json(_document(job, _now()))
    else:
        click.echo(f"job {job.id} is {_status(job, _now())}")


@jobs.command(epilog=epilog("durably jobs cancel $ID"))
@_id
@source_options
@json_option
def cancel(job_id: str, source: Source, *, as_json: bool) -> None:
    """Cancel a pending job, or ask a running one to stop.

    A running job stays processing until its handler has ended.
    """
    job = source.ask(lambda service: service.cancel_job(job_id))
    if as_json:
        print_json(_document(job, _now()))
        return
    asked = " and has been asked to stop" if job.status is JobStatus.PROCESSING else ""
    click.echo(f"job {job.id} is {_status(job, _now())}{asked}")


@jobs.command(epilog=epilog("durably jobs explain $ID"))
@_id
@source_options
@json_option
def explain(job_id: str, source: Source, *, as_json: bool) -> None:
    """Say why a job is not running."""
    reason = source.ask(lambda service: service.explain(job_id))
    if as_json:
        print_json({"id": job_id, "explanation": reason})
    else:
        click.echo(printable(reason))


async def _known(service: Queue, job_id: str) -> Job:
    job = await service.get_job(job_id)
    if job is None:
        raise JobNotFoundError(job_id)
    return job


def _parsed(payload: str) -> Any:
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise Failure(f"--payload is not JSON: {error}", WRONG_USAGE) from error


def _now() -> datetime:
    return to_datetime(SystemClock().now_us())


def _is_scheduled(job: Job, now: datetime) -> bool:
    due = job.next_retry_at or job.run_at
    return job.status is JobStatus.PENDING and due is not None and due > now


def _status(job: Job, now: datetime) -> str:
    return "scheduled" if _is_scheduled(job, now) else job.status.value


def _document(job: Job, now: datetime) -> dict[str, object]:
    errors = [msgspec.structs.asdict(error) for error in job.errors]
    return {**msgspec.structs.asdict(job), "errors": errors, "scheduled": _is_scheduled(job, now)}


def _row(job: Job, now: datetime) -> tuple[str, ...]:
    return (
        job.id,
        job.type,
        _status(job, now),
        job.priority.name.lower(),
        job.queue,
        f"{job.attempts}/{job.max_attempts}",
        age(job.created_at, now),
        (job.error or "-").partition("\n")[0],
    )


def _fields(job: Job, now: datetime) -> list[tuple[str, str]]:
    progress = (
        "-" if job.progress is None else f"{job.progress.fraction:.0%} {job.progress.message}"
    )
    return [
        ("id", job.id),
        ("type", job.type),
        ("status", _status(job, now)),
        ("priority", job.priority.name.lower()),
        ("queue", job.queue),
        ("attempts", f"{job.attempts} of {job.max_attempts}"),
        ("crashes", str(job.crashes)),
        ("created_at", moment(job.created_at)),
        ("run_at", moment(job.run_at)),
        ("processed_at", moment(job.processed_at)),
        ("next_retry_at", moment(job.next_retry_at)),
        ("completed_at", moment(job.completed_at)),
        ("parent", job.parent or "-"),
        ("worker", job.worker or "-"),
        ("cancelled", "yes" if job.cancelled else "no"),
        ("unique_key", job.unique_key or "-"),
        ("tags", ", ".join(job.tags) or "-"),
        ("progress", progress),
        ("payload", as_text(job.payload)),
        ("result", as_text(job.result)),
        ("error", job.error or "-"),
    ]
