"""A pytest plugin that runs the tests whose ids are in the file ``chosen``, in that order.

On a command line, pytest does not find every id that it prints: some have brackets or quotes in them.
"""

from pathlib import Path

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what was chosen."""
    place = {test: number for number, test in enumerate(Path("chosen").read_text().splitlines())}
    kept = [item for item in items if item.nodeid in place]
    items[:] = sorted(kept, key=lambda item: place[item.nodeid])
