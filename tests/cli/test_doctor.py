"""``durably doctor``: what it finds in good order, what it warns of, and what fails."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.support import Jobs, Run

from durably import JobQueueService, Record
from durably.cli import health
from durably.instances.records import SECRET

URL = "sqlite:///durably.db"


def checks(run: Run, *args: str, exit_code: int = 0) -> dict[str, dict[str, Any]]:
    result = run("doctor", "--json", *args)
    assert result.exit_code == exit_code, result.output
    document = json.loads(result.stdout)
    assert document["ok"] is (exit_code == 0)
    return {check["name"]: check for check in document["checks"]}


def cancel_all(run: Run, jobs: Jobs) -> None:
    for name in ("later", "nobodys"):
        assert run("jobs", "cancel", jobs[name]).exit_code == 0


def test_a_sound_installation_is_ok(run: Run, jobs: Jobs) -> None:
    """With nothing pending every check is ok, and says what it saw."""
    cancel_all(run, jobs)
    found = checks(run)
    assert {check["verdict"] for check in found.values()} == {"ok"}
    assert f"python {sys.version_info.major}." in found["versions"]["found"]
    assert found["durability"]["found"] == "journal_mode=wal, synchronous=2 (2 is FULL)"
    assert found["file system"]["found"]
    assert "MB free" in found["size"]["found"]
    assert found["workers"]["found"] == "0 live, 0 dead"
    assert found["extra cli"]["found"].startswith("click ")


def test_it_prints_a_line_for_each_check(run: Run, jobs: Jobs) -> None:
    """For people: verdict, name and what was found; the way out on a line of its own."""
    result = run("doctor")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["ok", "versions"]
    [warning] = [line for line in lines if line.startswith("warn")]
    assert warning.split()[1] == "jobs"
    after = lines[lines.index(warning) + 1]
    assert after.strip() == "start a worker that has these handlers"


def test_it_says_which_fields_are_hidden(
    run: Run, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of DURABLY_REDACT, or that there are none."""
    assert checks(run)["redaction"]["found"].endswith("none, see DURABLY_REDACT")
    monkeypatch.setenv("DURABLY_REDACT", "password,pin")
    assert checks(run)["redaction"]["found"].endswith(": password, pin")


def test_an_old_sqlite_is_remarked_upon(
    run: Run, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 3.51.3 it says what the bug is, and that our checkpoint lock covers it."""
    monkeypatch.setattr(health, "_SQLITE_FIXED", (99, 0, 0))
    check = checks(run)["sqlite"]
    assert check["verdict"] == "ok"
    assert "3.51.3" in check["found"]
    assert "checkpoint lock" in check["found"]
    monkeypatch.setattr(health, "_SQLITE_FIXED", (3, 0, 0))
    assert checks(run)["sqlite"]["found"] == f"SQLite {sqlite3.sqlite_version}"


def test_jobs_that_nobody_can_run_are_warned_of(run: Run, jobs: Jobs) -> None:
    """A type without a live worker is a warning, not a failure."""
    check = checks(run)["jobs"]
    assert check["verdict"] == "warn"
    assert "2 pending" in check["found"]
    assert "no live worker has a handler for later, nobodys" in check["found"]


def test_a_dead_worker_is_warned_of(run: Run, jobs: Jobs) -> None:
    """A worker whose process died is counted, with the jobs that it holds."""
    program = (
        "import asyncio, os\n"
        "from durably import JobQueueService\n"
        "async def main():\n"
        "    async with JobQueueService('sqlite:///durably.db') as queue:\n"
        "        queue.register_handler('nobodys', lambda _: os._exit(9))\n"
        "        await queue.add_job('nobodys')\n"
        "        await queue.start_processing()\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert ended.returncode == 9
    check = checks(run)["workers"]
    assert check["verdict"] == "warn"
    assert check["found"] == "0 live, 1 dead, which hold 1 jobs"
    assert "start a worker" in check["way_out"]


def test_a_missing_store_fails_and_is_not_created(run: Run, tmp_path: Path) -> None:
    """The rest is reported all the same; nothing is made."""
    found = checks(run, exit_code=1)
    assert found["store"]["verdict"] == "fail"
    assert found["store"]["found"] == "the store does not exist: durably.db"
    assert found["store"]["way_out"]
    assert found["versions"]["verdict"] == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_store_fails(run: Run, tmp_path: Path) -> None:
    """A file of rubbish is a failed check, not a crash."""
    (tmp_path / "durably.db").write_bytes(b"rubbish " * 1024)
    check = checks(run, exit_code=1)["store"]
    assert "is not an SQLite database" in check["found"]


def test_wrong_settings_are_wrong_usage(
    run: Run, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It judges those of the instance service too, without quoting a secret."""
    monkeypatch.setenv("DURABLY_WEBHOOK_SECRET", "hush")
    monkeypatch.setenv("DURABLY_WEBHOOK_ALLOW", "http://x")
    monkeypatch.setenv("NOVITA_API_KEY", "two words")
    monkeypatch.setenv("NOVITA_API_BASE_URL", "ftp://x")
    result = run("doctor")
    assert (result.exit_code, result.stdout) == (2, "")
    assert [line.split()[1] for line in result.stderr.splitlines()] == [
        "DURABLY_WEBHOOK_SECRET",
        "DURABLY_WEBHOOK_ALLOW",
        "NOVITA_API_KEY",
        "NOVITA_API_BASE_URL",
    ]
    assert "hush" not in result.stderr
    assert "two words" not in result.stderr


def test_a_generated_secret_is_shown_and_a_given_one_is_not(
    run: Run, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What receivers need and nobody else knows is shown; what the user has set is not."""
    assert checks(run)["webhook secret"]["found"] == "made when the instance service first starts"
    secret = "whsec_" + "c2VjcmV0" * 6

    async def keep() -> None:
        async with JobQueueService(URL) as queue:
            changes = queue.changeset()
            changes.put(SECRET, SECRET, secret)
            await queue.commit(changes)
            assert isinstance(await queue.get_record(SECRET, SECRET), Record)

    asyncio.run(keep())
    assert checks(run)["webhook secret"]["found"] == secret
    monkeypatch.setenv("DURABLY_WEBHOOK_SECRET", secret)
    result = run("doctor")
    assert "set by DURABLY_WEBHOOK_SECRET, not shown" in result.stdout
    assert secret not in result.output


def test_a_missing_extra_is_warned_of(
    run: Run, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages that are not there are named, with what to install."""
    monkeypatch.setitem(health._EXTRAS, "instances", ("aiohttp", "not-a-package"))
    check = checks(run)["extra instances"]
    assert (check["verdict"], check["found"]) == ("warn", "not installed: not-a-package")
    assert check["way_out"] == 'pip install "durably[instances]"'


def test_it_works_without_the_instance_service(jobs: Jobs) -> None:
    """Without its packages, nothing of it is judged or shown."""
    program = (
        "import sys\n"
        "for name in ('aiohttp', 'standardwebhooks', 'yarl'): sys.modules[name] = None\n"
        "sys.argv = ['durably', 'doctor', '--json']\n"
        "from durably.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    names = {check["name"] for check in json.loads(result.stdout)["checks"]}
    assert "webhook secret" not in names


def test_little_room_is_warned_of(run: Run, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is nearly full is a warning before it refuses jobs."""
    monkeypatch.setattr(health, "_FREE_LEAST", 2**80)
    check = checks(run)["size"]
    assert check["verdict"] == "warn"
    assert "make room" in check["way_out"]


def test_a_machine_without_boot_time_is_warned_of(
    run: Run, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where leases stand still during suspend it says what that means."""
    monkeypatch.delattr("time.CLOCK_BOOTTIME")
    assert checks(run)["clock"]["verdict"] == "warn"
