"""What limits a store on a machine: a decision from measured times, and what to do about it."""

from enum import StrEnum

import msgspec


class Limit(StrEnum):
    """What most of a job's time goes to."""

    PYTHON = "python"
    DATABASE = "database"
    DISK = "disk"


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What a job costs a busy worker, and what the store's parts take by themselves."""

    job_us: float
    """From one recorded outcome to the next."""
    python_us: float
    """CPU of the event loop's thread, for each job."""
    threads_us: float
    """CPU of the other threads: SQLite itself."""
    sync_ms: float | None = None
    """The disk's fsync, where the file is here."""
    round_trip_ms: float | None = None
    """An empty question to the server and its answer."""
    commit_ms: float | None = None
    """One row written and committed by the server."""


class Verdict(msgspec.Struct, frozen=True):
    """The limit, and a sentence that says so and the way out."""

    limit: Limit
    advice: str


def judge(costs: Costs) -> Verdict:
    """What limits claim to outcome.

    >>> judge(Costs(job_us=25.0, python_us=24.0, threads_us=0.0)).limit
    <Limit.PYTHON: 'python'>
    """
    if costs.sync_ms is not None:
        return _file(costs, costs.sync_ms)
    if costs.round_trip_ms is not None and costs.commit_ms is not None:
        return _server(costs, costs.round_trip_ms, costs.commit_ms)
    way_out = "work that needs more than one core needs a store that processes can share"
    return Verdict(Limit.PYTHON, _python(costs, way_out))


def _file(costs: Costs, sync_ms: float) -> Verdict:
    waiting = costs.job_us - costs.python_us - costs.threads_us
    if costs.python_us >= max(costs.threads_us, waiting):
        return Verdict(Limit.PYTHON, _python(costs, "run a second worker process"))
    if costs.threads_us >= waiting:
        return Verdict(
            Limit.DATABASE,
            f"the database is the limit: SQLite, which writes on one core only, computes"
            f" {costs.threads_us:.0f} of the {costs.job_us:.0f} µs of a job;"
            " a PostgreSQL store uses more cores",
        )
    return Verdict(
        Limit.DISK,
        f"the disk is the limit: a sync takes {sync_ms:.2f} ms, and a worker waits"
        f" {waiting:.0f} of the {costs.job_us:.0f} µs of a job; let more jobs share a commit"
        " (more concurrency, add_jobs), or use a disk that syncs faster",
    )


def _server(costs: Costs, round_trip_ms: float, commit_ms: float) -> Verdict:
    waiting = costs.job_us - costs.python_us
    if costs.python_us >= waiting:
        return Verdict(Limit.PYTHON, _python(costs, "run a second worker process"))
    waits = f"a worker waits {waiting:.0f} of the {costs.job_us:.0f} µs of a job"
    if commit_ms > 2 * round_trip_ms:
        return Verdict(
            Limit.DISK,
            f"the server's disk is the limit: a commit takes {commit_ms:.2f} ms where an answer takes"
            f" {round_trip_ms:.2f} ms, and {waits}; let more jobs share a commit (more concurrency,"
            " add_jobs), or give the server a disk that syncs faster",
        )
    return Verdict(
        Limit.DATABASE,
        f"the database is the limit: an answer takes {round_trip_ms:.2f} ms, and {waits};"
        " run workers near the server, run more of them, or give it more cores",
    )


def _python(costs: Costs, way_out: str) -> str:
    return (
        f"Python is the limit: the event loop computes {costs.python_us:.0f} of the"
        f" {costs.job_us:.0f} µs of a job on one core; {way_out}"
    )
