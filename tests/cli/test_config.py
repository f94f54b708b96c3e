"""``durably config``: what is in force, where it comes from, and no secret."""

import json
from pathlib import Path

import pytest
from tests.cli.support import Run

from durably.settings import Settings, environment_name

TOKEN = "admin-token-0123456789"


def test_every_setting_is_shown_with_its_source(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flag, environment, file, default: as the faults call them."""
    (tmp_path / "durably.toml").write_text('lease = 12.5\nwebhook_allow = ["10.0.0.0/8"]\n')
    monkeypatch.setenv("DURABLY_REDACT", "password, pin")
    monkeypatch.setenv("DURABLY_PORT", "9000")
    monkeypatch.setenv("DURABLY_TOKENS", f"admin:{TOKEN}")
    monkeypatch.setenv("NOVITA_API_KEY", "key-of-novita")
    shown = json.loads(run("config", "--json", "--host", "0.0.0.0").stdout)
    assert set(shown) == {environment_name(field) for field in Settings.__struct_fields__}
    assert shown["DURABLY_HOST"] == {"value": "0.0.0.0", "source": "flag --host"}
    assert shown["DURABLY_PORT"] == {"value": 9000, "source": "environment"}
    assert shown["DURABLY_LEASE"] == {"value": 12.5, "source": "durably.toml"}
    assert shown["DURABLY_WEBHOOK_ALLOW"]["value"] == ["10.0.0.0/8"]
    assert shown["DURABLY_REDACT"] == {"value": ["password", "pin"], "source": "environment"}
    assert shown["DURABLY_CONCURRENCY"] == {"value": 32, "source": "default"}
    assert shown["DURABLY_TOKENS"] == {"value": "***", "source": "environment"}
    assert shown["NOVITA_API_KEY"]["value"] == "***"
    assert shown["DURABLY_WEBHOOK_SECRET"]["value"] is None


def test_the_table_hides_secrets_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line a setting."""
    monkeypatch.setenv("DURABLY_TOKENS", f"admin:{TOKEN}")
    result = run("config")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["SETTING", "VALUE", "SOURCE"]
    assert ["DURABLY_TOKENS", "***", "environment"] in lines
    assert TOKEN not in result.output


def test_every_fault_is_named_with_where_it_came_from(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, one line each, no secret."""
    (tmp_path / "durably.toml").write_text("lease = -1\nprot = 3\n")
    monkeypatch.setenv("DURABLY_TOKENS", f"root:{TOKEN}")
    result = run("config", "--port", "many")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 4
    text = "\n".join(lines)
    assert "DURABLY_LEASE (durably.toml)" in text
    assert "did you mean 'port'" in text
    assert "DURABLY_PORT (flag --port)" in text
    assert "DURABLY_TOKENS (environment)" in text
    assert TOKEN not in text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_token(run: Run, host: str) -> None:
    """Any of its names."""
    assert run("config", "--host", host).exit_code == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_other_addresses_need_one(run: Run, host: str) -> None:
    """The message says how to set it."""
    result = run("config", "--host", host)
    assert result.exit_code == 2
    assert "set DURABLY_TOKENS=admin:…" in result.stderr


@pytest.mark.parametrize("given", [",", " ", "\n,\n"])
@pytest.mark.parametrize("way", ["DURABLY_TOKENS", "DURABLY_TOKENS_FILE"])
def test_tokens_that_hold_none_open_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, way: str
) -> None:
    """Whoever sets tokens wants them: an empty list is a fault, not a server without a door."""
    if way == "DURABLY_TOKENS_FILE":
        (tmp_path / "tokens").write_text(given)
        given = str(tmp_path / "tokens")
    monkeypatch.setenv(way, given)
    result = run("config", "--host", "0.0.0.0")
    assert result.exit_code == 2
    assert "DURABLY_TOKENS" in result.stderr


def test_what_does_not_fit_together_is_told_beside_other_faults(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look at the message is enough to mend all of it."""
    monkeypatch.setenv("DURABLY_LEASE", "soon")
    text = run("config", "--host", "0.0.0.0").stderr
    assert "DURABLY_LEASE (environment)" in text
    assert "DURABLY_HOST (flag --host)" in text
