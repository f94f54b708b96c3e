"""The command line on a PostgreSQL store."""

import asyncio
import json

import pytest
from tests.cli.support import Run

from durably import JobQueueService, StoreUnsupportedError


def test_a_database_without_a_store_is_not_changed_by_looking(run: Run, postgres_url: str) -> None:
    """Exit code 3, and the schema is not there afterwards either."""
    for _ in range(2):
        result = run("jobs", "list", "--store", postgres_url)
        assert result.exit_code == 3
        assert "holds no store of Durably" in result.stderr


def test_the_schema_is_made_once_and_then_is_up_to_date(run: Run, postgres_url: str) -> None:
    """`db upgrade` says what it has done."""
    assert run("db", "upgrade", "--store", postgres_url).stdout == "applied migration 1\n"
    assert run("db", "upgrade", "--store", postgres_url).stdout == "the schema is up to date\n"
    again = run("db", "upgrade", "--store", postgres_url, "--json")
    assert json.loads(again.stdout) == {"applied": []}
    assert run("db", "upgrade", "--store", "sqlite:///x.db").exit_code == 2


async def test_a_program_may_be_told_not_to_upgrade(postgres_url: str) -> None:
    """It refuses a schema that is not there, and says how to make it."""
    url = f"{postgres_url}&upgrade=no"
    with pytest.raises(StoreUnsupportedError, match="run `durably db upgrade`"):
        async with JobQueueService(url):
            pass
    async with JobQueueService(postgres_url), JobQueueService(url) as queue:
        await queue.add_job("noop")


def test_commands_work_as_on_any_store(run: Run, postgres_url: str) -> None:
    """List, pause, stats and doctor."""

    async def fill() -> str:
        async with JobQueueService(postgres_url) as queue:
            return (await queue.add_job("noop", {"a": 1})).id

    job_id = asyncio.run(fill())
    listed = json.loads(run("jobs", "list", "--json", "--store", postgres_url).stdout)["jobs"]
    assert [job["id"] for job in listed] == [job_id]
    assert run("pause", "default", "--store", postgres_url).exit_code == 0
    assert "is paused" in run("jobs", "explain", job_id, "--store", postgres_url).stdout
    assert json.loads(run("stats", "--json", "--store", postgres_url).stdout)["pending_jobs"] == 1
    found = json.loads(run("doctor", "--json", "--store", postgres_url).stdout)
    checks = {check["name"]: check for check in found["checks"]}
    assert checks["durability"]["found"] == "synchronous_commit=on"
    assert checks["server"]["found"].startswith("PostgreSQL ")
    assert checks["connections"]["verdict"] == "ok"


def test_a_password_is_shown_nowhere(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by `config` nor by an error of the connection."""
    monkeypatch.setenv("DURABLY_STORE", "postgresql://ann:hush@127.0.0.1:1/jobs")
    shown = run("config")
    assert "postgresql://ann:***@127.0.0.1:1/jobs" in shown.stdout
    failed = run("stats")
    assert failed.exit_code == 1
    assert "cannot be reached" in failed.stderr
    assert "hush" not in shown.output + failed.output + repr(failed.exception)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/db?schema=No-Name",
        "postgresql://h:port/db",
        "postgresql://h/db?upgrade=maybe",
    ],
)
def test_a_url_that_cannot_be_used_is_a_clear_error(run: Run, url: str) -> None:
    """Exit code 2."""
    assert run("stats", "--store", url).exit_code == 2
