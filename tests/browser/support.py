"""What the browser tests share: a server, a page that reports its faults, and axe."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Locator, Page, expect
from tests.server.processes import Server

CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "screenshots"
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
TOKENS = {
    "viewer": "viewer-token-0123456789",
    "operator": "operator-token-012345678",
    "admin": "admin-token-0123456789",
}
PATIENCE_MS = 30_000
"""How long anything may take on a machine that is busy with other things."""
expect.set_options(timeout=PATIENCE_MS)


def serving(folder: Path, *arguments: str, **settings: str) -> Server:
    """``durably serve program:queue`` with tokens and a provider that is quick."""
    defaults = {
        "DURABLY_TOKENS": ",".join(f"{role}:{token}" for role, token in TOKENS.items()),
        "DURABLY_POLL_INTERVAL": "0.2",
        "DURABLY_CONCURRENCY": "4",
        "PYTHONPATH": str(folder),
    }
    return Server("program:queue", *arguments, folder=folder, **{**defaults, **settings})


class Dashboard:
    """A server under test, with an operator's API beside the browser."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = server.url

    async def job(self, type: str, payload: Any = None, **fields: Any) -> str:
        """Add a job; its id."""
        body = {"type": type, "payload": payload, **fields}
        answer = await self.server.post("/api/jobs", body, **_as("operator"))
        return str(answer["id"])

    async def job_is(self, job_id: str, status: str) -> None:
        """Wait until a job is final and has this status."""
        told = await self.server.get(f"/api/jobs/{job_id}", Prefer="wait=30", **_as("viewer"))
        assert told["status"] == status, told

    async def get(self, path: str) -> Any:
        """What an admin is answered."""
        return await self.server.get(path, **_as("admin"))


def _as(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[role]}"}


class Screen:
    """A page, and what went wrong in it."""

    def __init__(self, page: Page, dashboard: Dashboard) -> None:
        self.page = page
        self.dashboard = dashboard
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        page.on("console", self._note)
        page.on("request", self._check_origin)

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, browser: Browser, dashboard: Dashboard, **options: Any
    ) -> AsyncIterator["Screen"]:
        """A page of a browser that has never been here, on the sign-in."""
        context = await browser.new_context(
            **{"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce", **options}
        )
        screen = cls(await context.new_page(), dashboard)
        screen.page.set_default_timeout(PATIENCE_MS)
        await screen.page.goto(dashboard.url)
        yield screen
        assert not screen.faults, screen.faults
        await context.close()

    def _note(self, message: Any) -> None:
        # A refusal that the page shows is also named in the console; a policy that is broken, or a
        # script's own fault, is not shown anywhere else.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(f"console: {message.text}")

    def _check_origin(self, request: Any) -> None:
        if not request.url.startswith((self.dashboard.url, "data:", "blob:")):
            self.faults.append(f"asked elsewhere: {request.url}")

    async def sign_in(self, role: str = "operator") -> None:
        """With the token of a role."""
        await self.page.get_by_label("Token").fill(TOKENS[role])
        await self.page.get_by_role("button", name="Sign in").click()
        await expect(self.heading("Overview")).to_be_visible()

    def heading(self, name: str | re.Pattern[str]) -> Locator:
        """The page's title."""
        return self.page.get_by_role("heading", level=1, name=name)

    def button(self, name: str) -> Locator:
        """A button by the beginning of its name."""
        return self.page.get_by_role("button", name=re.compile(f"^{re.escape(name)}"))

    def text(self, text: str | re.Pattern[str], *, exact: bool = False) -> Locator:
        """The first place within the page's content that shows this text."""
        return self.page.locator("main").get_by_text(text, exact=exact).filter(visible=True).first

    async def open(self, route: str, title: str | re.Pattern[str]) -> None:
        """Go to a page of the dashboard, without loading it anew."""
        await self.page.evaluate("route => { location.hash = route }", route)
        await expect(self.heading(title)).to_be_visible()

    async def shoot(self, name: str) -> None:
        """Keep a picture for people to look at."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)

    async def stays_loaded(self) -> Any:
        """Mark the page; the function that is given tells whether it has been loaded anew since."""
        await self.page.evaluate("() => { window.marked = true }")

        async def check() -> None:
            assert await self.page.evaluate("() => window.marked === true"), "the page was reloaded"

        return check

    async def is_accessible(self, what: str) -> None:
        """axe-core finds nothing on what is shown."""
        await self.page.evaluate(AXE.read_text())
        # Pictures of a moment within a transition would be judged by their colours.
        found = await self.page.evaluate("() => axe.run(document)")
        faults = [
            f"{what}: {one['id']}: {one['help']}: {node['html'][:200]}"
            for one in found["violations"]
            for node in one["nodes"]
        ]
        assert not faults, "\n".join(faults)

    async def fits(self, what: str) -> None:
        """Nothing sticks out to the right, so that the page need not be scrolled sideways."""
        width, wanted = await self.page.evaluate(
            "() => [document.documentElement.clientWidth, document.documentElement.scrollWidth]"
        )
        assert wanted <= width, f"{what} is {wanted} px wide on a screen of {width}"
