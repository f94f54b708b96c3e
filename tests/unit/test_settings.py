"""Settings: sources and their order, every fault at once, and secrets that stay secret."""

from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from durably.domain.errors import SettingsError
from durably.settings import Settings, environment_name, load_settings

SECRET = "whsec_" + "c2VjcmV0" * 6


def load(folder: Path, environ: dict[str, str] | None = None, **flags: str) -> Settings:
    return load_settings(flags, environ=environ or {}, folder=folder)


def faults(
    folder: Path, environ: dict[str, str] | None = None, toml: str = "", **flags: str
) -> list[str]:
    if toml:
        (folder / "durably.toml").write_text(toml)
    with pytest.raises(SettingsError) as caught:
        load(folder, environ, **flags)
    return str(caught.value).splitlines()


def test_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    """With no source at all, every setting has the default of the documented table."""
    assert msgspec.structs.asdict(load(tmp_path)) == {
        "store": "sqlite:///durably.db",
        "lease": 30.0,
        "retention": 86_400.0,
        "host": "127.0.0.1",
        "port": 8000,
        "concurrency": 32,
        "tokens": None,
        "rate_limit": 10_000.0,
        "webhook_secret": None,
        "webhook_allow": (),
        "redact": (),
        "on_failure": "delete",
        "reconcile_interval": 300.0,
        "poll_interval": 30.0,
        "max_wait_time": 1200.0,
        "max_retry_attempts": 3,
        "retry_base_delay": 1.0,
        "novita_api_key": None,
        "novita_api_base_url": "https://api.novita.ai/gpu-instance/openapi/v1",
        "novita_timeout": 30.0,
    }


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("store", "DURABLY_STORE"),
        ("max_wait_time", "DURABLY_MAX_WAIT_TIME"),
        ("novita_api_base_url", "NOVITA_API_BASE_URL"),
        ("novita_timeout", "NOVITA_TIMEOUT"),
    ],
)
def test_environment_names_are_those_of_the_contract(field: str, name: str) -> None:
    """DURABLY_ comes before every name but the provider's."""
    assert environment_name(field) == name


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    """Each source overrides the next; what it leaves out comes from there."""
    (tmp_path / "durably.toml").write_text(
        'store = "sqlite:///file.db"\nlease = 1\nretention = 2.5\n'
    )
    settings = load(
        tmp_path,
        {"DURABLY_STORE": "sqlite:///env.db", "DURABLY_LEASE": "7"},
        store="sqlite:///flag.db",
    )
    assert (settings.store, settings.lease, settings.retention) == ("sqlite:///flag.db", 7.0, 2.5)


def test_lists_are_comma_separated_text_or_arrays(tmp_path: Path) -> None:
    """The allow list is parted by commas in the environment and may be an array in the file."""
    assert load(
        tmp_path, {"DURABLY_WEBHOOK_ALLOW": " 10.0.0.0/8, hooks.local ,"}
    ).webhook_allow == (
        "10.0.0.0/8",
        "hooks.local",
    )
    (tmp_path / "durably.toml").write_text('webhook_allow = ["10.0.0.1"]')
    assert load(tmp_path).webhook_allow == ("10.0.0.1",)


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    """An empty environment variable leaves the setting to the file and the default."""
    empty = {"DURABLY_LEASE": "", "NOVITA_API_KEY": "", "NOVITA_API_KEY_FILE": ""}
    assert load(tmp_path, empty) == Settings()


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    """All sources are judged, and each fault names setting, source and what is needed."""
    found = faults(
        tmp_path,
        {"DURABLY_LEASE": "soon", "DURABLY_ON_FAILURE": "explode", "NOVITA_TIMEOUT": "nan"},
        'max_retry_attempts = 0\npoll_intervall = 3\nretry_base_delay = "1"\n',
        store="",
    )
    assert found == [
        "durably.toml has an unknown setting 'poll_intervall'; did you mean 'poll_interval'?",
        "DURABLY_MAX_RETRY_ATTEMPTS (durably.toml): need a whole number from 1 to 1,000, got 0",
        "DURABLY_RETRY_BASE_DELAY (durably.toml): need seconds, 0.001 or more, such as 30, got '1'",
        "DURABLY_LEASE (environment): need seconds, 0.001 or more, such as 30, got 'soon'",
        "DURABLY_ON_FAILURE (environment): need delete, stop or keep, got 'explode'",
        "NOVITA_TIMEOUT (environment): need seconds, 0.001 or more, such as 30, got 'nan'",
        "DURABLY_STORE (flag --store): need a store URL, got ''",
    ]


@pytest.mark.parametrize("key", ["DURABLY_STORE", "Store", "stores"])
def test_an_unknown_key_names_the_nearest(tmp_path: Path, key: str) -> None:
    """A key of the file that is none is refused, with the one that was probably meant."""
    assert faults(tmp_path, toml=f"{key} = 'x'") == [
        f"durably.toml has an unknown setting {key!r}; did you mean 'store'?"
    ]


def test_an_unknown_key_that_is_near_to_none_gets_the_list(tmp_path: Path) -> None:
    """Where nothing is near, the fault lists what there is."""
    [fault] = faults(tmp_path, toml="zzz = 1")
    assert "'zzz'; known: store, lease," in fault


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"store = ", "is not TOML"), (b"store = '\xff'", "is not UTF-8")],
)
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    """A broken file is a fault like any other, reported with the rest."""
    (tmp_path / "durably.toml").write_bytes(content)
    first, second = faults(tmp_path, {"DURABLY_LEASE": "x"})
    assert problem in first
    assert second.startswith("DURABLY_LEASE")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A folder of that name is no settings file."""
    (tmp_path / "durably.toml").mkdir()
    assert faults(tmp_path) == ["durably.toml cannot be read: Is a directory"]


@pytest.mark.parametrize("as_variable", [True, False])
def test_a_secret_may_lie_in_a_file(tmp_path: Path, *, as_variable: bool) -> None:
    """By the name with _FILE the secret is read from a file, without the line end."""
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    environ = {"DURABLY_WEBHOOK_SECRET_FILE": str(path)} if as_variable else {}
    if not as_variable:
        (tmp_path / "durably.toml").write_text(f"webhook_secret_file = '{path}'")
    assert load(tmp_path, environ).webhook_secret == SECRET


def test_a_secret_and_its_file_together_are_a_fault(tmp_path: Path) -> None:
    """Which of the two is meant cannot be known."""
    both = {"NOVITA_API_KEY": "key-1", "NOVITA_API_KEY_FILE": "/nowhere"}
    assert faults(tmp_path, both) == [
        "NOVITA_API_KEY (environment, NOVITA_API_KEY_FILE): need the secret or its file, got both"
    ]


def test_a_secret_in_the_environment_wins_over_one_in_the_file(tmp_path: Path) -> None:
    """The order of sources holds for secrets and their files too."""
    (tmp_path / "durably.toml").write_text("novita_api_key = 'from-file'")
    (tmp_path / "key").write_text("from-variable")
    settings = load(tmp_path, {"NOVITA_API_KEY_FILE": str(tmp_path / "key")})
    assert settings.novita_api_key == "from-variable"


def test_a_secret_file_that_is_missing_or_no_text_is_a_fault(tmp_path: Path) -> None:
    """The fault names the variable and the file, never a content."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    found = faults(
        tmp_path,
        {"NOVITA_API_KEY_FILE": "/nowhere", "DURABLY_WEBHOOK_SECRET_FILE": str(binary)},
    )
    secret, key = found
    assert secret.endswith("DURABLY_WEBHOOK_SECRET_FILE): need the path of a text file")
    assert key.endswith(": need a file that can be read: No such file or directory: /nowhere")


def test_secrets_are_in_no_repr_and_no_fault(tmp_path: Path) -> None:
    """Neither repr, rich's pretty printer nor a fault about it shows a secret."""
    settings = load(tmp_path, {"NOVITA_API_KEY": SECRET, "DURABLY_WEBHOOK_SECRET": SECRET})
    console = Console(file=StringIO(), width=400)
    console.print(settings)
    assert isinstance(console.file, StringIO)
    shown = repr(settings) + console.file.getvalue()
    assert SECRET not in shown
    assert "novita_api_key='***'" in repr(settings)
    [fault] = faults(tmp_path, toml=f"webhook_secret = ['{SECRET}']")
    assert SECRET not in fault


def test_checks_of_the_caller_join_the_faults(tmp_path: Path) -> None:
    """A check judges only what was given, and its refusal stands beside the others."""

    def refuse(value: object) -> None:
        raise ValueError(f"no good: {value}")

    with pytest.raises(SettingsError) as caught:
        load_settings(
            {"store": "x"},
            environ={"DURABLY_LEASE": "-1"},
            folder=tmp_path,
            checks={"store": refuse, "on_failure": refuse},
        )
    assert str(caught.value).splitlines() == [
        "DURABLY_LEASE (environment): need seconds, 0.001 or more, such as 30, got '-1'",
        "DURABLY_STORE (flag --store): no good: x",
    ]
