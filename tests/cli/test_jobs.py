"""``durably jobs``: what it lists and shows, and what it does to jobs."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from tests.cli.support import Jobs, Run

from durably import JobContext, JobQueueService


def listed(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["jobs"]  # type: ignore[no-any-return]


def test_list_shows_jobs_by_priority_then_age(run: Run, jobs: Jobs) -> None:
    """Plain lines when no terminal is there: a header, then one job a line, scheduled as such."""
    result = run("jobs", "list")
    header, *lines = [line.split() for line in result.stdout.splitlines()]
    assert header == ["ID", "TYPE", "STATUS", "PRIORITY", "QUEUE", "TRIES", "AGE", "ERROR"]
    assert [line[:6] for line in lines] == [
        [jobs["done"], "done", "completed", "high", "default", "1/1"],
        [jobs["broken"], "broken", "failed", "normal", "default", "1/1"],
        [jobs["later"], "later", "scheduled", "normal", "default", "0/1"],
        [jobs["nobodys"], "nobodys", "pending", "normal", "mail", "0/1"],
    ]
    assert result.stderr == ""


def test_list_prints_one_json_document(run: Run, jobs: Jobs) -> None:
    """JSON has every field of the Python API by its own name, and whether a job is scheduled."""
    by_type = {job["type"]: job for job in listed(run("jobs", "list", "--json"))}
    assert by_type.keys() == jobs.keys()
    assert by_type["done"]["result"] == {"sent": True}
    assert by_type["done"]["tags"] == ["mail"]
    assert by_type["broken"]["errors"][0]["kind"] == "error"
    assert by_type["broken"]["payload"] == {"to": "ann"}
    assert by_type["nobodys"]["unique_key"] == "one"
    assert [by_type[name]["scheduled"] for name in jobs] == [False, False, True, False]
    assert by_type["later"]["status"] == "pending"


@pytest.mark.parametrize(
    ("filters", "types"),
    [
        (("--status", "failed"), ["broken"]),
        (("--status", "pending"), ["later", "nobodys"]),
        (("--type", "done"), ["done"]),
        (("--queue", "mail"), ["nobodys"]),
        (("--status", "pending", "--queue", "default"), ["later"]),
        (("--type", "unheard_of"), []),
    ],
)
def test_list_filters(run: Run, jobs: Jobs, filters: tuple[str, ...], types: list[str]) -> None:
    """Filters are ANDed."""
    assert [job["type"] for job in listed(run("jobs", "list", *filters, "--json"))] == types


def test_list_goes_on_after_a_job(run: Run, jobs: Jobs) -> None:
    """A full page says on stderr how to go on, and --after does."""
    first = run("jobs", "list", "--limit", "3")
    assert first.stderr == f"there may be more: --after {jobs['later']}\n"
    [rest] = listed(run("jobs", "list", "--after", jobs["later"], "--json"))
    assert rest["id"] == jobs["nobodys"]


def test_list_after_an_unknown_job_is_not_found(run: Run, jobs: Jobs) -> None:
    """The id of --after must be a job's."""
    result = run("jobs", "list", "--after", "nope")
    assert (result.exit_code, result.stderr) == (3, "error: no job has the id 'nope'\n")


def test_show_has_every_field_and_the_attempts(run: Run, jobs: Jobs) -> None:
    """Fields one a line; control characters of an error cannot reach the terminal."""
    result = run("jobs", "show", jobs["broken"])
    assert result.exit_code == 0
    fields = dict(line.split(maxsplit=1) for line in result.stdout.split("\n\n")[0].splitlines())
    assert fields["id"] == jobs["broken"]
    assert fields["status"] == "failed"
    assert fields["payload"] == '{"to":"ann"}'
    assert fields["attempts"] == "1 of 1"
    assert fields["error"] == r"no such user\nand \x1b[31mno colour"
    assert fields["parent"] == "-"
    assert f" (started {fields['processed_at']}), error: no such user" in result.stdout
    assert "Traceback" not in result.stdout
    assert "\x1b" not in result.stdout


def test_show_adds_the_traceback_when_asked(run: Run, jobs: Jobs) -> None:
    """--traceback shows where each attempt failed, with control characters escaped."""
    result = run("jobs", "show", jobs["broken"], "--traceback")
    assert "Traceback (most recent call last):" in result.stdout
    assert "\x1b" not in result.stdout


def test_show_knows_scheduled_jobs(run: Run, jobs: Jobs) -> None:
    """A job whose time has not come is shown as scheduled, and when it runs."""
    lines = run("jobs", "show", jobs["later"]).stdout.splitlines()
    fields = dict(line.split(maxsplit=1) for line in lines)
    assert fields["status"] == "scheduled"
    assert fields["run_at"].endswith("Z")


def test_show_has_the_job_that_added_this_one(run: Run, tmp_path: Path) -> None:
    """The parent's id, as text and as JSON."""

    async def fill(url: str) -> tuple[str, str]:
        async with JobQueueService(url) as queue:

            async def parent(job: JobContext) -> None:
                job.add_job("child")

            queue.register_handler("parent", parent)
            await queue.start_processing()
            added = await queue.wait((await queue.add_job("parent")).id, 10)
            [child] = await queue.get_children(added.id)
            return added.id, child.id

    parent, child = asyncio.run(fill(f"sqlite:///{tmp_path}/durably.db"))
    lines = run("jobs", "show", child).stdout.splitlines()

    assert f"parent {parent}" in [" ".join(line.split()) for line in lines]
    assert json.loads(run("jobs", "show", child, "--json").stdout)["parent"] == parent


def test_show_prints_the_job_as_json(run: Run, jobs: Jobs) -> None:
    """JSON always has the tracebacks."""
    document = json.loads(run("jobs", "show", jobs["broken"], "--json").stdout)
    assert document["id"] == jobs["broken"]
    assert "Traceback" in document["errors"][0]["traceback"]
    assert document["errors"][0]["started_at"] == document["processed_at"]


@pytest.mark.parametrize("verb", ["show", "retry", "cancel", "explain"])
def test_an_unknown_id_is_not_found(run: Run, jobs: Jobs, verb: str) -> None:
    """Whatever text is no job's id: exit code 3 and one line."""
    result = run("jobs", verb, "no-such-id")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "error: no job has the id 'no-such-id'\n"


def test_retry_runs_a_finished_job_again(run: Run, jobs: Jobs) -> None:
    """A failed job becomes pending, with a new payload if one is given."""
    result = run("jobs", "retry", jobs["broken"], "--payload", '{"to": "bob"}')
    assert (result.exit_code, result.stdout) == (0, f"job {jobs['broken']} is pending\n")
    document = json.loads(run("jobs", "show", jobs["broken"], "--json").stdout)
    assert (document["payload"], document["max_attempts"]) == ({"to": "bob"}, 2)


def test_retry_keeps_the_payload_unless_told(run: Run, jobs: Jobs) -> None:
    """Without --payload the old one stays; JSON null is a payload too."""
    run("jobs", "retry", jobs["broken"])
    assert json.loads(run("jobs", "show", jobs["broken"], "--json").stdout)["payload"] == {
        "to": "ann"
    }
    run("jobs", "retry", jobs["done"], "--payload", "null")
    assert json.loads(run("jobs", "show", jobs["done"], "--json").stdout)["payload"] is None


@pytest.mark.parametrize("payload", ["{'to': 'ann'}", "", "[1,", "\udcff"])
def test_retry_refuses_a_payload_that_is_no_json(run: Run, jobs: Jobs, payload: str) -> None:
    """Bad JSON is wrong usage, and the job stays as it is."""
    result = run("jobs", "retry", jobs["broken"], "--payload", payload)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --payload is not JSON: ")
    assert len(result.stderr.splitlines()) == 1
    assert listed(run("jobs", "list", "--status", "failed", "--json"))


def test_retry_of_an_unfinished_job_is_forbidden(run: Run, jobs: Jobs) -> None:
    """What the status forbids has an exit code of its own."""
    result = run("jobs", "retry", jobs["later"])
    assert result.exit_code == 4
    assert result.stderr == f"error: a pending job cannot be retried: {jobs['later']}\n"


def test_cancel_ends_a_pending_job(run: Run, jobs: Jobs) -> None:
    """A pending job is cancelled at once; a second time is forbidden."""
    result = run("jobs", "cancel", jobs["later"])
    assert (result.exit_code, result.stdout) == (0, f"job {jobs['later']} is cancelled\n")
    assert run("jobs", "cancel", jobs["later"]).exit_code == 4


def test_explain_says_why_a_job_does_not_run(run: Run, jobs: Jobs) -> None:
    """In words, or as JSON with the id."""
    assert run("jobs", "explain", jobs["nobodys"]).stdout == (
        "waiting: no live worker has a handler for nobodys; none is registered with this store\n"
    )
    document = json.loads(run("jobs", "explain", jobs["later"], "--json").stdout)
    assert document["id"] == jobs["later"]
    assert document["explanation"].startswith("scheduled: it waits for ")


def test_the_store_may_be_named(
    run: Run, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the flag, the environment or durably.toml; the flag wins."""
    (tmp_path / "durably.db").rename(tmp_path / "other.db")
    assert run("jobs", "list").exit_code == 3
    assert len(listed(run("jobs", "list", "--json", "--store", "sqlite:///other.db"))) == 4
    (tmp_path / "durably.toml").write_text("store = 'sqlite:///other.db'")
    assert len(listed(run("jobs", "list", "--json"))) == 4
    monkeypatch.setenv("DURABLY_STORE", "sqlite:///third.db")
    assert run("jobs", "list").stderr == "error: the store does not exist: third.db\n"


def test_a_terminal_gets_a_table(run: Run, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal ids are never cut, however narrow it is."""
    monkeypatch.setattr("durably.cli.output._is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    result = run("jobs", "list")
    assert "─" in result.stdout
    assert all(job_id in result.stdout for job_id in jobs.values())
