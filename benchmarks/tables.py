"""The tables of docs/performance.md: which figures of a question are shown, and what they are called."""

from typing import NamedTuple

PEERS = (
    ("add_single_per_s", "add one after the other, jobs/s"),
    ("add_32_per_s", "add, 32 producers, jobs/s"),
    ("add_bulk_per_s", "add, 1,000 at a time, jobs/s"),
    ("process_1_per_s", "process, one worker, jobs/s"),
    ("process_1_cpu_us", "its CPU, a job"),
    ("process_2_per_s", "process, two workers, jobs/s"),
    ("start_p50_ms", "add to start, p50"),
    ("start_p99_ms", "add to start, p99"),
)
LASTING = (
    ("continuous_per_s", "over all, jobs/s"),
    ("window_1_per_s", "first sixth of the time, jobs/s"),
    ("window_6_per_s", "last sixth, jobs/s"),
    ("last_of_first", "last of first"),
)


class Table(NamedTuple):
    """How the answers to one question are shown: a row for each figure, a column for each store."""

    question: str
    title: str
    rows: tuple[tuple[str, str], ...]
    bars: str | None = None
    """The figure that is drawn."""
    windows: bool = False
    """Whether the course over time is drawn."""


TABLES = (
    Table("enqueue", "Adding", (
        ("enqueue_single_per_s", "one after the other, jobs/s"),
        ("enqueue_64_per_s", "64 producers, one job at a time each, jobs/s"),
        ("enqueue_bulk_per_s", "1,000 at a time, jobs/s"),
    ), bars="enqueue_64_per_s"),
    Table("throughput", "Claim to recorded outcome, 64 slots a process", (
        ("jobs_per_s", "one process, jobs/s"),
        ("jobs_2_processes_per_s", "two processes, jobs/s"),
        ("total_2_of_1", "two of one"),
        ("slowest_of_fastest_2", "the slower of two as a share of the faster"),
        ("jobs_4_processes_per_s", "four processes, jobs/s"),
        ("total_4_of_1", "four of one"),
        ("slowest_of_fastest_4", "the slowest of four as a share of the fastest"),
        ("jobs_8_processes_per_s", "eight processes, jobs/s"),
        ("total_8_of_1", "eight of one"),
        ("slowest_of_fastest_8", "the slowest of eight as a share of the fastest"),
    ), bars="jobs_per_s"),
    Table("writing", "What the database does for a job", (
        ("add_statements_per_1000_jobs", "1,000 jobs added at a time: statements"),
        ("add_written_bytes_per_job", "written for each"),
        ("run_statements_per_1000_jobs", "1,000 jobs run by one process: statements"),
        ("run_written_bytes_per_job", "written for each"),
    )),
    Table("latency", "`add_job` to the handler's first line, idle queue", (
        ("latency_p50_ms", "in one process, p50"),
        ("latency_p95_ms", "p95"),
        ("latency_p99_ms", "p99"),
        ("latency_across_p50_ms", "to another process, p50"),
        ("latency_across_p95_ms", "p95"),
        ("latency_across_p99_ms", "p99"),
    ), bars="latency_p50_ms"),
    Table("load", "At 70 % of what one process can add and run at once", (
        ("capacity_per_s", "capacity, jobs/s"),
        ("loaded_p50_ms", "due to start, p50"),
        ("loaded_p95_ms", "p95"),
        ("loaded_p99_ms", "p99"),
    )),
    Table("memory", "Memory", (
        ("pending_bytes_per_job", "each pending job, in the worker's process"),
        ("worker_mb", "a worker after 1,000 jobs"),
        ("worker_after_mb", "a worker at the end"),
    )),
    Table("monitors", "Instances that are coming up: the service, on a provider that answers at once", (
        ("monitors_cpu_percent", "share of one core"),
        ("monitor_bytes", "memory of each instance, in all"),
        ("monitors_seen_of_changed", "changes seen, an interval after the last of them"),
        ("monitors_reaction_p50_ms", "from a change to the instance being ready, p50"),
        ("monitors_reaction_max_ms", "longest"),
        ("monitors_round_cpu_ms", "a reconciler's round, CPU"),
    )),
    Table("idle", "A worker that has nothing to do", (
        ("idle_cpu_percent", "share of one core"),
        ("idle_statements_per_min", "statements a minute"),
        ("idle_written_bytes_per_min", "written a minute"),
    )),
    Table("growth", "Beside many jobs: pending that nobody runs, scheduled, finished", (
        ("empty_add_p50_ms", "empty: add, p50"),
        ("full_add_p50_ms", "full: add, p50"),
        ("empty_add_p99_ms", "empty: add, p99"),
        ("full_add_p99_ms", "full: add, p99"),
        ("empty_start_p99_ms", "empty: add to start, p99"),
        ("full_start_p99_ms", "full: add to start, p99"),
        ("empty_jobs_per_s", "empty: process, jobs/s"),
        ("full_jobs_per_s", "full: process, jobs/s"),
        ("full_of_empty", "full of empty"),
    )),
    Table("service", "Over HTTP, 32 connections, 32 jobs running in the same process", (
        ("http_accepted_per_s", "`POST /api/jobs` accepted, per second"),
        ("http_post_p50_ms", "its answer, saturated, p50"),
        ("http_post_p99_ms", "p99"),
        ("command_url_ms", "`durably stats --url …`, the whole process"),
    )),
    Table("dashboard", "The dashboard, served by a process that runs no jobs", (
        ("first_look_ms", "connected to the overview's data, first"),
        ("look_p50_ms", "later, p50"),
        ("unwatched_cpu_percent", "share of one core while nobody looks"),
        ("watched_cpu_percent", "while 200 watch, ten jobs a second coming"),
        ("told_per_viewer_per_s", "events to each, a second"),
    )),
    Table("continuous", "One process adds and one works, for a while", LASTING, windows=True),
    Table("pinned", "Beside a REPEATABLE READ transaction held open, and after it", (
        ("peak_per_s", "the peak before, jobs/s"),
        ("steady_done_of_offered", "2,000 come in a second: done of offered"),
        ("steady_last_of_offered", "in the last sixth of the time"),
        ("steady_released_of_peak", "after it, as many as can be done: of the peak"),
        ("share_offered_per_s", "70 % of the peak, jobs/s"),
        ("share_done_of_offered", "they come: done of offered"),
        ("share_last_of_offered", "in the last sixth of the time"),
        ("share_released_of_peak", "after it, as many as can be done: of the peak"),
    ), windows=True),
    Table("peers_memory", "Beside other queues, in memory, one process", PEERS, bars="process_1_per_s"),
    Table("peers_sqlite", "Beside other queues, on SQLite", PEERS, bars="process_1_per_s"),
    Table("peers_postgres", "Beside other queues, on PostgreSQL", PEERS, bars="process_1_per_s"),
    Table("peers_continuous", "Beside other queues on PostgreSQL, for a while", LASTING, windows=True),
    Table("peers_pinned", "The same beside a REPEATABLE READ transaction held open", LASTING, windows=True),
)  # fmt: skip
