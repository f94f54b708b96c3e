"""Commands run in a folder of their own, without settings from outside, on a store with jobs."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.cli.support import Command, Jobs, Run

from durably import JobPriority, JobQueueService, RetryPolicy
from durably.cli.root import root


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("DURABLY_", "NOVITA_")):
            monkeypatch.delenv(name)


@pytest.fixture
def run() -> Run:
    """Calls the command line in this process."""

    def call(*args: str, **options: Any) -> Result:
        return CliRunner().invoke(root, args, prog_name="durably", **options)

    return call


@pytest.fixture
def command() -> Command:
    """Calls the command line in a process of its own."""

    def call(*args: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "durably", *args],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    """A store in durably.db with a job of each kind: done, broken, later, nobody's."""
    return asyncio.run(_fill(f"sqlite:///{tmp_path}/durably.db"))


async def _fill(url: str) -> Jobs:
    def fail(_: object) -> None:
        raise ValueError("no such user\nand \x1b[31mno colour")

    async with JobQueueService(url, retry=RetryPolicy(max_attempts=1)) as queue:
        queue.register_handler("broken", fail)
        queue.register_handler("done", lambda _: {"sent": True})
        added = [
            await queue.add_job("done", priority=JobPriority.HIGH, tags=["mail"]),
            await queue.add_job("broken", {"to": "ann"}),
        ]
        await queue.start_processing()
        for job in added:
            await queue.wait(job.id, 10)
        await queue.stop_processing()
        added += [
            await queue.add_job("later", delay=3_600),
            await queue.add_job("nobodys", queue="mail", unique_key="one"),
        ]
    return {job.type: job.id for job in added}
