"""What all tests share: a place for a store; no threads, tasks or hidden mistakes are left behind."""

import asyncio
import inspect
import itertools
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.postgres import Server, binaries, running_server

pytest.register_assert_rewrite("durably.testing.conformance")

_LONGEST_END_S = 5.0


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A store on a file of its own."""
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server of this test process."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: `make services` installs it")
    with running_server(programs) as server:
        yield server


_schemas = itertools.count(1)


@pytest.fixture
def postgres_url(postgres_server: Server) -> str:
    """A store in a schema of its own, which is also that of the test's own tables."""
    name = f"test_{next(_schemas)}"
    return f"{postgres_server.url}?schema={name}&search_path={name}"


@pytest.fixture(autouse=True)
def _no_threads_left() -> Iterator[None]:
    """Every thread of ours that a test starts ends with it."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + _LONGEST_END_S
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("durably-"):
            # A handler's thread ends by itself, soon after it has been told to.
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"the test left the thread {thread.name}"


@pytest.fixture(autouse=True)
def _no_worker_stumbles() -> Iterator[None]:
    """A worker goes on after a mistake of ours, and would hide it here."""
    stumbled: list[str] = []

    def look(record: logging.LogRecord) -> bool:
        if record.getMessage().startswith("the worker stumbled"):
            stumbled.append(repr(record.exc_info and record.exc_info[1]))
        return True

    log = logging.getLogger("durably")
    log.addFilter(look)
    yield
    log.removeFilter(look)
    assert [] == stumbled


@pytest.fixture(autouse=True)
def _no_tasks_left(request: pytest.FixtureRequest) -> None:
    """Every task of ours that an async test starts ends with it."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_check_tasks")


@pytest.fixture
async def _check_tasks() -> AsyncIterator[None]:
    yield
    left = [task for task in asyncio.all_tasks() if task.get_name().startswith("durably-")]
    assert not left, f"the test left {left}"
