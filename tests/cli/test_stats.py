"""``durably stats``: counts and rates, for people and for scripts."""

import json

from tests.cli.support import Jobs, Run


def test_stats_counts_jobs_by_status_and_type(run: Run, jobs: Jobs) -> None:
    """Counts come first, then the types in order."""
    result = run("stats")
    assert result.exit_code == 0
    head, by_type = result.stdout.split("\n\n")
    lines = [" ".join(line.split()) for line in head.splitlines()]
    assert lines[:6] == [
        "jobs 4",
        "pending 2, 1 of them scheduled",
        "processing 0",
        "completed 1",
        "failed 1",
        "cancelled 0",
    ]
    assert "no worker for later, nobodys" in lines
    assert [line.split() for line in by_type.splitlines()] == [
        ["TYPE", "JOBS"],
        ["broken", "1"],
        ["done", "1"],
        ["later", "1"],
        ["nobodys", "1"],
    ]


def test_stats_as_json_has_the_names_of_the_api(run: Run, jobs: Jobs) -> None:
    """The document is the QueueStats of the Python API."""
    document = json.loads(run("stats", "--json").stdout)
    assert document["total_jobs"] == 4
    assert document["scheduled_jobs"] == 1
    assert document["jobs_by_type"] == dict.fromkeys(jobs, 1)
    assert document["error_rate"] == 0.5
    assert document["unhandled_types"] == ["later", "nobodys"]
    assert document["run_p99"] > 0


def test_stats_of_an_empty_store_are_zeros(run: Run, jobs: Jobs) -> None:
    """With no jobs left there is no table of types."""
    for job_id in (jobs["later"], jobs["nobodys"]):
        run("jobs", "cancel", job_id)
    assert json.loads(run("stats", "--json").stdout)["pending_jobs"] == 0
