"""What the black-box tests of the engine share: a store of each kind, and a quick service on it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from durably import JobQueueService, RetryPolicy, SystemClock, open_store
from durably.store import Store

QUICK = RetryPolicy(base_delay=0.01, jitter=0)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new store, one of each kind."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a new SQLite store, for what memory:// cannot do."""
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def store(url: str) -> Store:
    """A new store object, for several services to share."""
    return open_store(url, clock=SystemClock())


@pytest.fixture
async def queue(url: str) -> AsyncIterator[JobQueueService]:
    """An open service that retries at once and is not processing yet."""
    async with JobQueueService(url, retry=QUICK) as service:
        yield service
        await service.shutdown(0)


@pytest.fixture
async def sqlite_queue(sqlite_url: str) -> AsyncIterator[JobQueueService]:
    """The same on SQLite only."""
    async with JobQueueService(sqlite_url, retry=QUICK) as service:
        yield service
        await service.shutdown(0)
