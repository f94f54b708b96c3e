from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.processes.support import Family


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
async def family() -> AsyncIterator[Family]:
    family = Family()
    try:
        yield family
    finally:
        await family.end()
