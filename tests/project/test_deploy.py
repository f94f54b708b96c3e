"""The files under deploy/: what can be checked of them without an engine that runs them."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from durably.cli.root import root
from durably.settings import SECRETS, Settings, environment_name

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
FILES = sorted(path.name for path in DEPLOY.iterdir() if path.is_file())
NAMES = {environment_name(field) for field in Settings.__struct_fields__}
NAMES |= {f"{environment_name(field)}_FILE" for field in SECRETS}
INSTRUCTIONS = {
    *("FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL"),
    *("HEALTHCHECK", "ENTRYPOINT", "CMD"),
}


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text()


def instructions() -> Iterator[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", text_of("Dockerfile"))
    for line in joined.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            yield name, rest


@pytest.mark.parametrize("name", FILES)
def test_every_setting_named_is_one(name: str) -> None:
    """A misspelt variable would be ignored in silence."""
    assert set(re.findall(r"\b(?:DURABLY|NOVITA)_[A-Z_]+", text_of(name))) <= NAMES


def commands() -> list[list[str]]:
    compose = yaml.safe_load(text_of("compose.yaml"))
    unit = re.search(r"^ExecStart=\S*/durably (.*)$", text_of("durably.service"), re.MULTILINE)
    assert unit is not None
    [image] = [rest for name, rest in instructions() if name == "CMD"]
    beside = yaml.safe_load(text_of("compose.postgres.yaml"))["services"]["worker"]["command"]
    service = compose["services"]["durably"]["command"]
    return [shlex.split(unit[1]), yaml.safe_load(image), service, beside]


@pytest.mark.parametrize("arguments", commands())
def test_every_command_line_is_understood(arguments: list[str]) -> None:
    """The command exists and has these options."""
    context = click.Context(root)
    command = root.get_command(context, arguments[0])
    assert command is not None
    command.make_context("durably", arguments[1:])


def test_the_image_is_built_of_files_that_exist_and_are_let_through() -> None:
    """Instructions are known, sources are there, and .dockerignore does not hide them."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    stages = 0
    for name, rest in instructions():
        assert name in INSTRUCTIONS
        stages += name == "FROM"
        if name == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}" in ignored
    assert stages == 3


def test_the_image_runs_as_somebody_without_rights_and_stops_in_good_order() -> None:
    """Not root; SIGTERM is what drains."""
    found = list(instructions())
    assert ("USER", "durably") in found
    assert ("STOPSIGNAL", "SIGTERM") in found
    assert any(name == "HEALTHCHECK" and "/health/ready" in rest for name, rest in found)


def test_whoever_stops_it_waits_longer_than_running_jobs_have() -> None:
    """30 s for jobs and 5 s for requests come before SIGKILL."""
    compose: dict[str, Any] = yaml.safe_load(text_of("compose.yaml"))
    grace = compose["services"]["durably"]["stop_grace_period"]
    unit = re.search(r"^TimeoutStopSec=(\d+)$", text_of("durably.service"), re.MULTILINE)
    assert unit is not None
    assert min(int(grace.removesuffix("s")), int(unit[1])) > 35


def test_the_compose_file_refers_to_what_it_has() -> None:
    """Secrets, volumes and the Dockerfile."""
    compose: dict[str, Any] = yaml.safe_load(text_of("compose.yaml"))
    service = compose["services"]["durably"]
    assert set(service["secrets"]) <= set(compose["secrets"])
    assert {volume.partition(":")[0] for volume in service["volumes"]} <= set(compose["volumes"])
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_the_compose_file_of_postgres_refers_to_what_it_has() -> None:
    """Secrets and volumes; both processes have the same store, which is the server beside them."""
    compose: dict[str, Any] = yaml.safe_load(text_of("compose.postgres.yaml"))
    services = compose["services"]
    assert set(services["postgres"]["secrets"]) <= set(compose["secrets"])
    assert {v.partition(":")[0] for v in services["postgres"]["volumes"]} <= set(compose["volumes"])
    stores = {services[name]["environment"]["DURABLY_STORE"] for name in ("durably", "worker")}
    assert len(stores) == 1
    assert stores.pop().endswith("@postgres/durably")


def test_the_unit_is_a_unit() -> None:
    """Sections and keys as systemd knows them; `systemd-analyze verify` where it is installed."""
    lines = [line for line in text_of("durably.service").splitlines() if line and line[0] != "#"]
    sections = [line for line in lines if line.startswith("[")]
    assert sections == ["[Unit]", "[Service]", "[Install]"]
    assert all("=" in line for line in lines if not line.startswith("["))
    if shutil.which("systemd-analyze") is None:
        return
    said = subprocess.run(
        ["systemd-analyze", "verify", DEPLOY / "durably.service"],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    # The program is not installed where the unit expects it.
    assert [line for line in said.splitlines() if "is not executable" not in line] == []
