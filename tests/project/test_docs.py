"""The documentation keeps up: every setting, route, problem and command is described as it is."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from tests.server.processes import Server

from durably.cli.root import root
from durably.server.application import ROUTES
from durably.settings import Settings, environment_name

ROOT = Path(__file__).parent.parent.parent
GUIDES = ROOT / "docs" / "guides"


def text_of(name: str) -> str:
    return (GUIDES / name).read_text()


def test_every_setting_is_described_with_its_default() -> None:
    """The table of the guide is that of the program."""
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", text_of("settings.md"), re.MULTILINE))
    assert set(rows) == {environment_name(field) for field in Settings.__struct_fields__}
    defaults = Settings()
    for field in Settings.__struct_fields__:
        value: Any = getattr(defaults, field)
        told = rows[environment_name(field)].strip().strip("`")
        if isinstance(value, int | float):
            assert float(told) == value, field
        elif value and field != "novita_api_base_url":
            assert told == value, field


def test_every_route_is_described() -> None:
    """Each path of the program stands in the guide."""
    guide = text_of("http.md")
    for handler in ROUTES:
        for path in handler.paths:
            plain = re.sub(r"\{\w+:str\}", "{id}", path).replace("/queues/{id}", "/queues/{name}")
            *_, end = plain.rsplit("/", 1)
            assert f"`{plain}`" in guide or plain in guide or f"`/{end}`" in guide, plain


def test_every_problem_is_described() -> None:
    """Each code that the server's sources name stands in the guide."""
    sources = "\n".join(p.read_text() for p in (ROOT / "src/durably/server").rglob("*.py"))
    codes = set(re.findall(r'ApiError\(\s*\d+,\s*"(\w+)"', sources))
    assert len(codes) > 10
    assert [] == sorted(code for code in codes if f"`{code}`" not in text_of("http.md"))


def test_every_command_is_found_in_the_documentation() -> None:
    """A command that no page names would be found by nobody."""
    pages = "\n".join(p.read_text() for p in [ROOT / "README.md", *GUIDES.iterdir()])
    names = root.list_commands(click.Context(root))
    assert [] == [
        name for name in names if f"durably {name}" not in pages and f"`{name}`" not in pages
    ]


def walk_through() -> str:
    """The shell commands of the README's section, those that start the service left out."""
    readme = (ROOT / "README.md").read_text()
    section = readme.partition("## As a service")[2].partition("\n## ")[0]
    lines = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    return "\n".join(line for line in lines if not line.startswith(("pip ", "DURABLY_")))


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
async def test_the_walk_through_of_the_readme_works(tmp_path: Path) -> None:
    """Create, watch, fail, retry, delete: each command does what the text beside it says."""
    async with Server(folder=tmp_path, DURABLY_POLL_INTERVAL="0.2") as server:
        script = walk_through().replace("localhost:8000", server.url.removeprefix("http://"))
        watch = "curl -sN"
        assert watch in script
        script = script.replace(watch, "timeout 5 curl -sN")
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=tmp_path,
            env={**os.environ, "LC_ALL": "C"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output, _ = process.communicate(timeout=120)
        server.signal(signal.SIGTERM)
        assert await server.ends() == 0
    assert "HTTP/1.1 202 Accepted" in output
    assert "event: instance.ready" in output
    assert '"status": "ready"' in output
    assert "failed\nNo products found matching name" in output
    assert "no live worker has a handler for send_mail" in output
    assert "cancelled\npending\nstopping\n" in output
