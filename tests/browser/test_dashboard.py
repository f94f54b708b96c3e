"""The dashboard as people use it."""

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Route, expect
from tests.browser.support import TOKENS, Dashboard, Screen, serving

NASTY = "<img src=x onerror=alert(1)>"
PAGES = {
    "/": "Overview",
    "/jobs": "Jobs",
    "/queues": "Queues",
    "/instances": "Instances",
    "/webhooks": "Webhooks",
    "/audit": "Audit",
}


# Signing in


async def test_a_token_signs_in_and_another_does_not(
    browser: Browser, dashboard: Dashboard
) -> None:
    """What is wrong is said at the field; who has signed in is shown, and stays so after a reload."""
    async with Screen.opened(browser, dashboard) as screen:
        await screen.shoot("sign-in")
        await screen.is_accessible("sign-in")
        await screen.page.get_by_label("Token").fill("unknown-token-0123456")
        await screen.button("Sign in").click()
        await expect(screen.page.get_by_text("No such token is known")).to_be_visible()
        await screen.sign_in("operator")
        await expect(screen.page.get_by_text("operator", exact=True)).to_be_visible()
        await screen.page.reload()
        await expect(screen.heading("Overview")).to_be_visible()
        await screen.button("Sign out").click()
        await expect(screen.heading("Sign in")).to_be_visible()
        assert not await screen.page.context.cookies()


async def test_the_link_of_the_first_run_signs_in_once(
    browser: Browser, dashboard: Dashboard
) -> None:
    """As an admin; its code leaves the address, and the next who follows it is told why not."""
    line = await dashboard.server.hears("dashboard at")
    found = re.search(r"#/sign-in\?code=\S+", line)
    assert found is not None
    async with Screen.opened(browser, dashboard) as screen:
        await screen.page.goto(f"{dashboard.url}/{found[0]}")
        await expect(screen.heading("Overview")).to_be_visible()
        await expect(screen.page.get_by_role("link", name="Audit")).to_be_visible()
        assert "code" not in screen.page.url
    async with Screen.opened(browser, dashboard) as screen:
        await screen.page.goto(f"{dashboard.url}/{found[0]}")
        await expect(screen.page.get_by_text("used already")).to_be_visible()


async def test_a_viewer_sees_no_button_that_changes_anything(
    browser: Browser, dashboard: Dashboard
) -> None:
    """Nor the audit."""
    job_id = await dashboard.job("send_mail", {"to": "nowhere"})
    await dashboard.job_is(job_id, "failed")
    async with Screen.opened(browser, dashboard) as screen:
        await screen.sign_in("viewer")
        await screen.open(f"/jobs/{job_id}", re.compile("send_mail"))
        await expect(screen.page.get_by_role("heading", name="Errors")).to_be_visible()
        await expect(screen.button("Retry")).to_have_count(0)
        await expect(screen.button("Delete")).to_have_count(0)
        await screen.open("/queues", "Queues")
        await expect(screen.text("default")).to_be_visible()
        await expect(screen.button("Pause")).to_have_count(0)
        await screen.open("/jobs", "Jobs")
        await expect(screen.button("Retry all…")).to_have_count(0)
        await expect(screen.page.get_by_role("link", name="Audit")).to_have_count(0)


# What operators do


async def test_an_instance_is_created_and_seen_to_become_ready(screen: Screen) -> None:
    """From the form to ready without a reload, with its price, ports and timeline."""
    unchanged = await screen.stays_loaded()
    await screen.open("/instances", "Instances")
    await screen.button("Rent a GPU").first.click()
    dialog = screen.page.get_by_role("dialog")
    await dialog.get_by_role("radio", name=re.compile("RTX 4090 24GB")).check()
    await dialog.get_by_label("Name").fill("wrong name")
    await dialog.get_by_label("Template").fill("pytorch-serve")
    await screen.shoot("instance-form")
    await screen.is_accessible("the form of an instance")
    await dialog.get_by_role("button", name=re.compile("^Rent")).click()
    # The provider's rules are the server's to tell; they stand at the field.
    await expect(dialog.get_by_label("Name")).to_have_attribute("aria-invalid", "true")
    await dialog.get_by_label("Name").fill("trainer-1")
    await dialog.get_by_role("button", name=re.compile("^Rent")).click()
    await expect(screen.heading(re.compile("trainer-1"))).to_be_visible()
    await expect(screen.text("ready", exact=True)).to_be_visible()
    await expect(screen.page.get_by_role("heading", name="Ports and health")).to_be_visible()
    await expect(screen.text("8080")).to_be_visible()
    await unchanged()
    await screen.shoot("instance")
    await screen.is_accessible("an instance")
    await screen.button("Delete").click()
    await screen.page.get_by_role("dialog").get_by_role("button", name=re.compile("Delete")).click()
    await expect(screen.text("terminated")).to_be_visible()
    await unchanged()


async def test_a_failed_job_is_read_mended_and_run_again(screen: Screen) -> None:
    """Its error with the traceback, then another payload, then completed; all without a reload."""
    job_id = await screen.dashboard.job("send_mail", {"to": "nowhere"})
    await screen.dashboard.job_is(job_id, "failed")
    unchanged = await screen.stays_loaded()
    await screen.open("/jobs?status=failed", "Jobs")
    await (
        screen.page.locator(".vlist")
        .get_by_role("link", name=re.compile("send_mail"))
        .first.click()
    )
    await expect(screen.heading(re.compile("send_mail"))).to_be_visible()
    await expect(screen.text("no address: nowhere")).to_be_visible()
    await expect(screen.text("ValueError: no address: nowhere")).to_be_visible()
    await expect(screen.text("Attempt 2")).to_be_visible()
    await screen.shoot("job-failed")
    await screen.is_accessible("a failed job")
    await screen.button("Edit payload and retry").click()
    editor = screen.page.get_by_role("dialog").get_by_label("Payload (JSON)")
    await editor.fill("{broken")
    await expect(editor).to_have_attribute("aria-invalid", "true")
    await screen.is_accessible("the editor of a payload")
    await editor.fill('{"to": "ann@example.org"}')
    await screen.page.get_by_role("dialog").get_by_role("button", name=re.compile("^Retry")).click()
    await expect(screen.text("completed")).to_be_visible()
    await unchanged()
    await screen.dashboard.job_is(job_id, "completed")
    await screen.shoot("job-completed")


async def test_a_paused_queue_explains_why_its_job_waits(screen: Screen) -> None:
    """Paused by a button, explained on the job's page, gone on after the next button."""
    await screen.open("/queues", "Queues")
    await screen.button("Pause queue mail").click()
    await screen.page.get_by_role("dialog").get_by_role("button", name="Pause queue").click()
    await expect(screen.button("Resume queue mail")).to_be_visible()
    await screen.shoot("queues-paused")
    job_id = await screen.dashboard.job("send_mail", {"to": "ann@example.org"}, queue="mail")
    await screen.open(f"/jobs/{job_id}", re.compile("send_mail"))
    await expect(screen.text("is paused")).to_be_visible()
    await screen.open("/", "Overview")
    await expect(screen.page.get_by_text("Queue mail is paused: 1 job waits")).to_be_visible()
    await screen.open("/queues", "Queues")
    await screen.button("Resume queue mail").click()
    await screen.page.get_by_role("dialog").get_by_role("button", name="Resume queue").click()
    await screen.open(f"/jobs/{job_id}", re.compile("send_mail"))
    await expect(screen.text("completed")).to_be_visible()


async def test_all_that_match_are_retried_after_a_preview(screen: Screen) -> None:
    """The preview says how many and which; the others are left alone."""
    bad = [await screen.dashboard.job("send_mail", {"to": "nowhere"}) for _ in range(7)]
    other = await screen.dashboard.job("send_mail", {"to": "elsewhere"}, tags=["keep"])
    for job_id in (*bad, other):
        await screen.dashboard.job_is(job_id, "failed")
    await screen.open("/jobs?status=failed&text=nowhere", "Jobs")
    await screen.button("Retry all…").click()
    dialog = screen.page.get_by_role("dialog")
    await expect(dialog.get_by_text(re.compile("Retry 7 jobs")).first).to_be_visible()
    await expect(dialog.get_by_text("nowhere").first).to_be_visible()
    await screen.shoot("bulk-retry")
    await screen.is_accessible("the preview of a retry")
    await dialog.get_by_role("button", name=re.compile("^Retry 7 jobs")).click()
    await expect(
        dialog.get_by_text(re.compile("7 jobs (are )?retried|7 jobs will")).first
    ).to_be_visible()
    told = await screen.dashboard.get(f"/api/jobs/{other}")
    assert told["attempts"] == 2
    for job_id in bad:
        await screen.dashboard.job_is(job_id, "failed")
        assert (await screen.dashboard.get(f"/api/jobs/{job_id}"))["attempts"] == 4
    entries = (await screen.dashboard.get("/api/audit"))["entries"]
    assert entries[0]["action"] == "jobs.retry"


async def test_a_running_job_shows_its_progress_and_is_cancelled(screen: Screen) -> None:
    """Live on its page; cancelling asks first."""
    job_id = await screen.dashboard.job("held")
    await screen.open(f"/jobs/{job_id}", re.compile("held"))
    await expect(screen.text("half of it")).to_be_visible()
    await screen.is_accessible("a running job")
    await screen.button("Cancel").click()
    await screen.page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    await expect(screen.text("cancelled")).to_be_visible()
    await screen.dashboard.job_is(job_id, "cancelled")


# What must not happen


async def test_markup_is_text_wherever_it_is_shown(screen: Screen) -> None:
    """In types, payloads, tags, keys and errors; nothing of it becomes an element, or runs."""
    job_id = await screen.dashboard.job(
        NASTY,
        {"html": f"</script><script>alert(2)</script>{NASTY}", NASTY: [NASTY]},
        tags=[NASTY],
        uniqueKey=NASTY,
    )
    failing = await screen.dashboard.job("send_mail", {"to": NASTY})
    await screen.dashboard.job_is(failing, "failed")
    await expect(screen.text(NASTY)).to_be_visible()
    await screen.open("/jobs", "Jobs")
    await expect(screen.text(NASTY)).to_be_visible()
    await screen.open(f"/jobs/{job_id}", NASTY)
    await expect(screen.text("</script><script>alert(2)</script>")).to_be_visible()
    await screen.shoot("job-of-markup")
    await screen.open(f"/jobs/{failing}", re.compile("send_mail"))
    await expect(screen.text(f"no address: {NASTY}")).to_be_visible()
    await screen.open("/queues", "Queues")
    await expect(screen.text(NASTY)).to_be_visible()
    assert await screen.page.locator("img[src=x]").count() == 0


async def test_a_lost_connection_is_shown_and_mended(browser: Browser, folder: Path) -> None:
    """The server dies and comes back: the page says so, keeps what it showed, and goes on by itself."""
    async with serving(folder) as first:
        port = first.url.rpartition(":")[2]
        dashboard = Dashboard(first)
        opening = Screen.opened(browser, dashboard)
        screen = await opening.__aenter__()
        await screen.sign_in()
        await dashboard.job("send_mail", {"to": "before@example.org"})
        await screen.open("/jobs", "Jobs")
        await expect(screen.text("before@example.org")).to_be_visible()
        unchanged = await screen.stays_loaded()
    await expect(screen.text("Connection lost")).to_be_visible()
    await expect(screen.text("before@example.org")).to_be_visible()
    await screen.shoot("connection-lost")
    await screen.is_accessible("a lost connection")
    async with serving(folder, "--port", port) as second:
        screen.dashboard.server = second
        await expect(screen.page.get_by_text("Connection lost").first).to_be_hidden()
        await screen.dashboard.job("send_mail", {"to": "back@example.org"})
        await expect(screen.text("back@example.org")).to_be_visible()
        await unchanged()
        await opening.__aexit__(None, None, None)


async def test_a_long_list_keeps_few_rows_in_the_page(screen: Screen) -> None:
    """Scrolling through thousands of jobs loads them page by page and draws what is in sight."""
    for start in range(0, 1_000, 100):
        await asyncio.gather(
            *(
                screen.dashboard.job("nobody", {"number": number})
                for number in range(start, start + 100)
            )
        )
    await screen.open("/jobs?type=nobody", "Jobs")
    await expect(screen.text("1,000 jobs")).to_be_visible()
    rows = screen.page.locator(".vlist-row")
    await expect(rows.first).to_be_visible()
    oldest = screen.page.get_by_text(re.compile(r'"number":0\}'))
    list_ = screen.page.locator(".vlist")
    while not await oldest.count():
        await list_.evaluate("element => element.scrollBy(0, 2000)")
        assert await rows.count() < 120
        await asyncio.sleep(0)
    await expect(oldest).to_be_visible()


# How it looks


async def fill(dashboard: Dashboard) -> str:
    """Something on every page; a failed job."""
    failed = await dashboard.job("send_mail", {"to": "nowhere"}, tags=["welcome"])
    await dashboard.job("send_mail", {"to": "ann@example.org"}, queue="mail", priority=4)
    await dashboard.job("held")
    await dashboard.job(NASTY, {"html": NASTY})
    await dashboard.job("send_mail", {"to": "later@example.org"}, delay=3_600)
    await dashboard.job_is(failed, "failed")
    return failed


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("device", "width"), [("wide", 1440), ("phone", 375)])
async def test_every_page_is_accessible_and_fits(
    browser: Browser, dashboard: Dashboard, scheme: str, device: str, width: int
) -> None:
    """axe-core finds nothing in light and dark; a phone need not be scrolled sideways."""
    failed = await fill(dashboard)
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    async with Screen.opened(browser, dashboard, **options) as screen:
        await screen.sign_in("admin")
        pages: dict[str, str | re.Pattern[str]] = {
            **PAGES,
            f"/jobs/{failed}": re.compile("send_mail"),
        }
        for route, title in pages.items():
            await screen.open(route, title)
            await expect(screen.page.locator("[aria-busy=true], .skeleton")).to_have_count(0)
            name = f"{route.strip('/').partition('/')[0] or 'overview'}"
            if route.count("/") > 1:
                name = "job"
            await screen.shoot(f"{device}-{scheme}-{name}")
            await screen.is_accessible(f"{name}, {scheme}, {device}")
            await screen.fits(f"{name} on a {device}")


async def test_the_theme_can_be_chosen_and_is_kept(screen: Screen) -> None:
    """Dark by the switch, whatever the system wants, and dark after a reload."""
    html = screen.page.locator("html")
    get = "element => getComputedStyle(element).backgroundColor"
    light = await html.evaluate(get)
    await screen.page.locator("label").filter(has_text="Dark").click()
    await expect(html).not_to_have_css("background-color", light)
    dark = await html.evaluate(get)
    await screen.page.reload()
    await expect(screen.heading("Overview")).to_be_visible()
    await expect(html).to_have_css("background-color", dark)


async def test_it_is_used_by_keyboard(screen: Screen) -> None:
    """Letters go to pages, ? helps, / searches, Tab begins with the way past the navigation."""
    await screen.page.keyboard.press("g")
    await screen.page.keyboard.press("q")
    await expect(screen.heading("Queues")).to_be_visible()
    await screen.page.keyboard.press("?")
    await expect(screen.page.get_by_role("dialog")).to_be_visible()
    await screen.is_accessible("the help")
    await screen.page.keyboard.press("Escape")
    await expect(screen.page.get_by_role("dialog")).to_be_hidden()
    await screen.page.keyboard.press("g")
    await screen.page.keyboard.press("j")
    await expect(screen.heading("Jobs")).to_be_visible()
    await expect(screen.page.get_by_label("Search")).to_be_visible()
    await screen.page.keyboard.press("/")
    await expect(screen.page.get_by_label("Search")).to_be_focused()
    await screen.page.reload()
    await expect(screen.heading("Jobs")).to_be_visible()
    await screen.page.keyboard.press("Tab")
    await expect(screen.page.get_by_text("Skip to the content")).to_be_focused()


# What is left half done


async def test_a_question_does_not_outlive_its_page(screen: Screen) -> None:
    """Neither the next page nor who signs in next is asked what another was about to do."""
    dialog = screen.page.get_by_role("dialog")
    await screen.open("/jobs", "Jobs")
    await screen.open("/queues", "Queues")
    await screen.button("Pause queue mail").click()
    await expect(dialog).to_be_visible()
    await screen.page.go_back()
    await expect(screen.heading("Jobs")).to_be_visible()
    await expect(dialog).to_have_count(0)
    await screen.open("/queues", "Queues")
    await screen.button("Pause queue mail").click()
    await expect(dialog).to_be_visible()
    await screen.page.context.clear_cookies()
    await screen.page.evaluate("() => dispatchEvent(new Event('online'))")  # asks again: 401
    await expect(screen.heading("Sign in")).to_be_visible()
    await screen.page.get_by_label("Token").fill(TOKENS["admin"])
    await screen.button("Sign in").click()
    await expect(screen.button("Pause queue mail")).to_be_visible()
    await expect(dialog).to_have_count(0)


async def test_a_change_of_many_jobs_stops_when_its_page_is_left(screen: Screen) -> None:
    """Nothing goes on that nobody sees: after the batch at work no other is asked for."""
    asked: list[bool] = []
    answered = asyncio.Event()

    async def answer(route: Route) -> None:
        body = route.request.post_data_json
        assert body is not None
        if body.get("dryRun"):
            told = {"matching": 5_000, "exact": True, "statuses": ["pending"]}
        else:
            asked.append(True)
            await answered.wait()
            told = {"changed": 1, "refused": 0, "nextCursor": "7"}
        await route.fulfill(json=told)

    await screen.page.route("**/api/jobs/bulk", answer)
    await screen.dashboard.job("nobody")
    await screen.open("/queues", "Queues")
    await screen.open("/jobs", "Jobs")
    await screen.button("Cancel all").click()
    await screen.page.get_by_role("dialog").get_by_role("button", name="Cancel 5,000 jobs").click()
    await expect(screen.page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    await screen.page.go_back()
    await expect(screen.heading("Queues")).to_be_visible()
    answered.set()
    await expect(screen.page.get_by_text("Stopped: ")).to_be_visible()
    assert asked == [True]


async def test_a_filter_that_does_not_fit_is_told_in_its_place(screen: Screen) -> None:
    """The connection is not lost for it; clearing it shows the jobs."""
    await screen.dashboard.job("send_mail", {"to": "ann@example.org"})
    for wrong in ("since=yesterday", f"text={'x' * 501}", "status=odd"):
        await screen.open(f"/jobs?{wrong}", "Jobs")
        await expect(screen.text(f"{wrong.partition('=')[0]}: ")).to_be_visible()
        await expect(screen.text("Connection lost")).to_have_count(0)
        assert "NaN" not in await screen.page.locator("main").inner_text()
    await screen.button("Clear all filters").click()
    await expect(screen.text("send_mail")).to_be_visible()
