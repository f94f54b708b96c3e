"""What does the database do for a job: statements, and bytes that are written?"""

from benchmarks import support
from benchmarks.support import Figures
from benchmarks.throughput import CONCURRENCY
from benchmarks.traffic import Statements, written
from durably import JobContext, JobQueueService


async def measure(url: str, *, jobs: int) -> Figures:
    """For each job added in thousands, then for each that is run, in one process."""
    statements = Statements(url)

    async def noop(job: JobContext) -> None:
        return

    async with JobQueueService(url, concurrency=CONCURRENCY) as queue:
        queue.register_handler("noop", noop)
        statements.seen, before = 0, await written(url)
        await support.fill(queue, jobs)
        added, filled = statements.seen, await written(url)
        await queue.start_processing()
        await support.completed(queue, jobs)
        run, done = statements.seen - added, await written(url)
    return {
        "add_statements_per_1000_jobs": added / jobs * 1_000,
        "add_written_bytes_per_job": (filled - before) / jobs,
        "run_statements_per_1000_jobs": run / jobs * 1_000,
        "run_written_bytes_per_job": (done - filled) / jobs,
    }
