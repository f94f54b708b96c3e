"""``durably pause`` and ``durably resume`` on a store."""

import json

from tests.cli.support import Jobs, Run


def test_a_paused_queue_is_explained_until_it_is_resumed(run: Run, jobs: Jobs) -> None:
    """The pause is kept in the store; both say what they have done."""
    paused = run("pause", "mail")
    assert (paused.exit_code, paused.stdout) == (0, "queue mail is paused\n")
    assert "queue 'mail' is paused" in run("jobs", "explain", jobs["nobodys"]).stdout
    resumed = run("resume", "mail")
    assert (resumed.exit_code, resumed.stdout) == (0, "queue mail is resumed\n")
    assert "paused" not in run("jobs", "explain", jobs["nobodys"]).stdout


def test_json_says_what_holds_now(run: Run, jobs: Jobs) -> None:
    """One document each."""
    assert json.loads(run("pause", "mail", "--json").stdout) == {"queue": "mail", "paused": True}
    assert json.loads(run("resume", "mail", "--json").stdout) == {"queue": "mail", "paused": False}
    assert jobs


def test_a_name_that_no_queue_can_have_is_wrong_usage(run: Run, jobs: Jobs) -> None:
    """Exit code 2."""
    result = run("pause", "x" * 101)
    assert result.exit_code == 2
    assert "queue must have 1 to 100 characters" in result.stderr
    assert jobs


def test_retry_and_cancel_print_the_job_as_json(run: Run, jobs: Jobs) -> None:
    """The document that `show` prints."""
    retried = json.loads(run("jobs", "retry", jobs["broken"], "--json").stdout)
    assert (retried["id"], retried["status"]) == (jobs["broken"], "pending")
    cancelled = json.loads(run("jobs", "cancel", jobs["broken"], "--json").stdout)
    assert cancelled["status"] == "cancelled"
