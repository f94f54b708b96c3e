"""The parts of ``durably demo``: how it judges, receives, keeps processes and shows progress."""

import asyncio
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession
from rich.console import Console
from rich.live import Live
from standardwebhooks import Webhook

from durably.cli.demonstration.children import Child
from durably.cli.demonstration.receiver import Receiver
from durably.cli.demonstration.verdict import Outcome, problems
from durably.cli.demonstration.view import Lines, Screen
from durably.instances.delivery import generate_secret
from durably.settings import Settings


def outcome(**fields: Any) -> Outcome:
    kept: dict[str, Any] = {
        "name": "demo-1",
        "instance_id": "inst_1",
        "status": "ready",
        "error": None,
        "seconds": 3.0,
        "creates": 1,
        "billed": 1,
        "webhooks": 3,
        "verified": 3,
        "terminal_events": ("instance.ready",),
    }
    return Outcome(**(kept | fields))


def test_promises_that_were_kept_are_no_problem() -> None:
    """One create, one bill, one terminal event for each that is ready."""
    assert problems([outcome(), outcome(name="demo-2")], created=2, forged=0) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"creates": 2}, "demo-1 was rented 2 times"),
        ({"creates": 0}, "demo-1 was rented 0 times"),
        ({"billed": 2}, "demo-1 is ready and billed for 2 GPUs"),
        ({"billed": 0}, "demo-1 is ready and billed for 0 GPUs"),
        ({"terminal_events": ()}, "demo-1 needs exactly one terminal event, got none"),
        (
            {"terminal_events": ("instance.timeout", "instance.ready")},
            "demo-1 needs exactly one terminal event, got instance.timeout, instance.ready",
        ),
        (
            {"status": "failed", "error": "no stock", "creates": 0, "billed": 0},
            "demo-1 is failed, not ready: no stock",
        ),
        ({"status": "creating", "billed": 0}, "demo-1 is creating, not ready"),
    ],
)
def test_each_broken_promise_is_named(fields: dict[str, Any], said: str) -> None:
    """Exactly one problem for exactly one fault."""
    broken = outcome(**fields)
    assert problems([broken], created=broken.creates, forged=0) == [said]


def test_a_failed_instance_must_not_be_billed() -> None:
    """That it failed is one problem, that it goes on costing is another."""
    found = problems([outcome(status="failed", billed=1)], created=1, forged=0)
    assert found == ["demo-1 is failed, not ready", "demo-1 is failed and billed for 1 GPUs"]


def test_what_belongs_to_nobody_is_a_problem() -> None:
    """Upstream instances of no request, and webhooks that are not genuine."""
    assert problems([outcome()], created=3, forged=1) == [
        "2 upstream instances belong to no request",
        "1 webhooks could not be verified",
    ]


async def test_the_receiver_verifies_and_knows_repetitions() -> None:
    """A genuine webhook is taken, again as the same one; a forged one is refused and kept."""
    secret = generate_secret(secrets.token_bytes)
    body = '{"type":"instance.ready","data":{}}'
    now = datetime.now(UTC)

    def signed(identifier: str, signer: str) -> dict[str, str]:
        return {
            "webhook-id": identifier,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(signer).sign(identifier, now, body),
        }

    async with Receiver(secret) as receiver, ClientSession() as session:
        url = receiver.url_of("demo-1")
        statuses = []
        for headers in (
            signed("a", secret),
            signed("a", secret),
            signed("b", generate_secret(secrets.token_bytes)),
            {},
            signed("c", secret) | {"webhook-signature": "v1,rubbish"},
        ):
            async with session.post(url, data=body, headers=headers) as answer:
                statuses.append(answer.status)
    assert statuses == [204, 204, 401, 401, 401]
    assert [one.verified for one in receiver.received] == [True, True, False, False, False]
    [genuine] = [one for one in receiver.sent_to("demo-1") if one.verified]
    assert (genuine.webhook_id, genuine.is_terminal) == ("a", True)
    assert receiver.sent_to("demo-2") == []


async def test_a_child_is_ended_with_its_block(tmp_path: Path) -> None:
    """It is ready with its first line, gets its orders on stdin, and is gone afterwards."""
    program = tmp_path / "echo.py"
    program.write_text("import sys; print(input().upper(), flush=True); sys.stdin.read()")
    async with Child("echo", "echo", folder=tmp_path, orders=b"hello\n") as child:
        assert child.said == "HELLO"
        assert not child.has_ended
    assert child.has_ended


async def test_the_service_ends_when_the_demonstration_has_died(tmp_path: Path) -> None:
    """The end of its stdin stops the service in good order, so that it never stays behind."""
    settings = Settings(store=f"sqlite:///{tmp_path}/demo.db", novita_api_key="key")
    module = "durably.cli.demonstration.service"
    orders = msgspec.json.encode(settings) + b"\n"
    async with Child("service", module, folder=tmp_path, orders=orders) as service:
        assert service.said == "ready"
        assert service._process.stdin is not None
        service._process.stdin.close()
        assert await asyncio.wait_for(service._process.wait(), 30) == 0


async def test_a_child_that_ignores_its_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM first, SIGKILL when that does not help."""
    monkeypatch.setattr("durably.cli.demonstration.children._GRACE_S", 0.05)
    (tmp_path / "deaf.py").write_text(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    async with Child("deaf", "deaf", folder=tmp_path) as child:
        pass
    assert child.last_words() == "the deaf ended with code -9"


async def test_a_child_that_does_not_start_says_why(tmp_path: Path) -> None:
    """The last line on stderr is in the error."""
    (tmp_path / "broken.py").write_text("raise SystemExit('out of order')")
    with pytest.raises(ChildProcessError, match="broken ended with code 1: out of order"):
        async with Child("broken", "broken", folder=tmp_path):
            pass


async def test_a_child_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time to start it is ended and named."""
    monkeypatch.setattr("durably.cli.demonstration.children._START_S", 0.05)
    (tmp_path / "silent.py").write_text("import sys; sys.stdin.read()")
    with pytest.raises(ChildProcessError, match=r"the silent said nothing for 0\.05 s"):
        async with Child("silent", "silent", folder=tmp_path):
            pass


def test_lines_tell_changes_only(capsys: pytest.CaptureFixture[str]) -> None:
    """A status is told when it changes; on stderr when stdout is for the summary."""
    view = Lines(err=True)
    view.say("begin")
    view.show({"demo-1": "creating"})
    view.show({"demo-1": "creating"})
    view.show({"demo-1": "ready"})
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" s  ")[1] for line in err.splitlines()] == [
        "begin",
        "demo-1 is creating",
        "demo-1 is ready",
    ]


def test_the_screen_shows_every_instance() -> None:
    """On a terminal the table has a row for each, below what was said."""
    console = Console(record=True, width=80, force_terminal=True)
    with Live(console=console, auto_refresh=False) as live:
        screen = Screen(live)
        screen.say("[begin]")
        screen.show({"demo-1": "ready", "demo-2": "starting"})
    text = console.export_text()
    assert "[begin]" in text
    assert "demo-1" in text
    assert "starting" in text
