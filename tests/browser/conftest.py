"""A real browser on a real server: Debian's Chromium, driven by Playwright."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright
from tests.browser.support import CHROMIUM, Dashboard, Screen, serving

from durably.server.assets import BUILT

PROGRAM = '''
import asyncio
from pathlib import Path

from durably import JobContext, JobQueueService, RetryPolicy

queue = JobQueueService("sqlite:///jobs.db", queues=("default", "mail"), processing_interval=0.1)


@queue.task(retry=RetryPolicy(max_attempts=2, base_delay=0.01))
async def send_mail(to: str) -> str:
    if "@" not in to:
        raise ValueError(f"no address: {to}")
    return "sent"


@queue.task
async def held(ctx: JobContext) -> str:
    """Runs until the file `go` is there."""
    await ctx.set_progress(0.5, "half of it")
    while not Path("go").exists():
        await asyncio.sleep(0.05)
    return "done"
'''


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip with a reason where there is no browser, or nothing was built."""
    reasons = {
        "Chromium is not installed: `make services` does it": not CHROMIUM.exists(),
        "the dashboard is not built: `make setup` does it, with npm": not (
            BUILT / "index.html"
        ).exists(),
    }
    here = Path(__file__).parent
    for reason in (reason for reason, holds in reasons.items() if holds):
        assert "CI" not in os.environ, reason
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A headless Chromium that asks nobody on the internet for anything."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
                "--disable-sync",
            ],
        )
        yield browser
        await browser.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a program whose queue is `program:queue`."""
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


@pytest.fixture
async def dashboard(folder: Path) -> AsyncIterator[Dashboard]:
    """A server with tokens, a simulated provider and the program's handlers."""
    async with serving(folder) as server:
        yield Dashboard(server)


@pytest.fixture
async def screen(browser: Browser, dashboard: Dashboard) -> AsyncIterator[Screen]:
    """A page that an operator has signed in on; nothing may go wrong in it unseen."""
    async with Screen.opened(browser, dashboard) as screen:
        await screen.sign_in()
        yield screen
