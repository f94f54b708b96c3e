"""What a user can get wrong: one line on stderr, the documented exit code, never a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.support import Command, Jobs, Run

import durably

CLIENTS = (
    ("jobs", "list"),
    ("jobs", "show", "x"),
    ("jobs", "retry", "x"),
    ("jobs", "cancel", "x"),
    ("jobs", "explain", "x"),
    ("stats",),
)


@pytest.mark.parametrize("args", CLIENTS)
def test_a_missing_store_is_not_created(run: Run, tmp_path: Path, args: tuple[str, ...]) -> None:
    """Who only looks makes no file, neither the store nor its locks."""
    result = run(*args, "--store", "sqlite:///nowhere.db")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "error: the store does not exist: nowhere.db\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"foreign"])
def test_a_file_that_holds_no_store_stays_as_it_is(
    run: Run, tmp_path: Path, content: bytes
) -> None:
    """An empty file, and a database of somebody else, get no tables of ours."""
    path = tmp_path / "other.db"
    if content:
        make = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('CREATE TABLE t (x)')"
        subprocess.run([sys.executable, "-c", make, path], check=True)
    else:
        path.touch()
    before = path.read_bytes()
    result = run("stats", "--store", f"sqlite:///{path}")
    assert result.exit_code == 3
    assert result.stderr == f"error: the file holds no store of Durably: {path}\n"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("durably.db", "no store is known for 'durably.db'"),
        ("mysql://ann:secret@host/db", "no store is known for 'mysql:'"),
        ("sqlite://durably.db", "need sqlite:///path"),
        ("sqlite:///:memory:", "use memory://"),
        ("memory://", "lives in its own process only"),
    ],
)
def test_a_bad_store_url_is_wrong_usage(run: Run, url: str, problem: str) -> None:
    """The message says what is needed, and no password of the URL."""
    result = run("stats", "--store", url)
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert problem in line
    assert "secret" not in line


def test_a_corrupt_store_is_said_to_be_damaged(command: Command, tmp_path: Path) -> None:
    """A file of rubbish fails with one line, in a real process."""
    (tmp_path / "bad.db").write_bytes(b"rubbish " * 4096)
    result = command("jobs", "list", "--store", "sqlite:///bad.db")
    assert (result.returncode, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("error: the store is not an SQLite database: bad.db")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.db"]


def test_a_damaged_page_is_said_to_be_damaged(command: Command, jobs: Jobs, tmp_path: Path) -> None:
    """A store whose pages are overwritten behind the header fails with one line as well."""
    path = tmp_path / "durably.db"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    result = command("jobs", "list")
    assert (result.returncode, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("error: the store is damaged; restore a backup")


def test_every_fault_of_the_settings_is_a_line(
    run: Run, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong settings end any command that reads them, all faults at once."""
    (tmp_path / "durably.toml").write_text("leese = 3")
    monkeypatch.setenv("DURABLY_RETENTION", "long")
    result = run("stats", "--store", "nope")
    assert result.exit_code == 2
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        "durably.toml has an unknown setting 'leese'; did you mean 'lease'?",
        "DURABLY_RETENTION (environment)",
        "DURABLY_STORE (flag --store)",
    ]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("--nope",), "error: no such option '--nope'; see durably --help"),
        (("nope",), "error: no such command 'nope'; see durably --help"),
        (
            ("jobs", "list", "--type", "\udcff"),
            r"error: type must not contain lone surrogates, got '\udcff'",
        ),
        (("jobs", "nope"), "error: no such command 'nope'; see durably jobs --help"),
        (("jobs", "show"), "error: missing argument 'ID'; see durably jobs show --help"),
        (
            ("jobs", "list", "--limit", "0"),
            (
                "error: invalid value for '--limit': 0 is not in the range 1<=x<=10000;"
                " see durably jobs list --help"
            ),
        ),
    ],
)
def test_wrong_usage_is_one_line(run: Run, jobs: Jobs, args: tuple[str, ...], line: str) -> None:
    """A usage error says what is wrong and where the help is."""
    result = run(*args)
    assert (result.exit_code, result.stderr) == (2, line + "\n")


def test_a_status_that_is_none_lists_those_there_are(run: Run) -> None:
    """The statuses are offered as they are written everywhere else."""
    result = run("jobs", "list", "--status", "scheduled")
    assert result.exit_code == 2
    assert "'pending', 'processing', 'completed', 'failed', 'cancelled'" in result.stderr


def test_an_output_that_is_closed_early_is_no_error(jobs: Jobs) -> None:
    """`durably … | head` ends quietly."""
    script = f"exec {sys.executable} -m durably jobs list --json | true"
    result = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stderr == ""


def test_the_version_is_printed(command: Command) -> None:
    """--version names program and version."""
    assert command("--version").stdout == f"durably {durably.__version__}\n"


@pytest.mark.parametrize(
    "args",
    [(), ("demo",), ("doctor",), ("jobs",), ("simulator",), ("stats",)]
    + [("jobs", verb) for verb in ("list", "show", "retry", "cancel", "explain")],
)
def test_every_help_page_has_examples_and_exit_codes(run: Run, args: tuple[str, ...]) -> None:
    """Whoever reads one page learns how the command is used and what its exit code means."""
    page = run(*args, "--help").stdout
    assert "Examples:\n    durably " in page
    assert "Exit codes:" in page
    assert page.startswith("Usage: durably")


def test_the_root_help_tells_of_completion_and_settings(run: Run) -> None:
    """The first page says where settings come from and how to complete in the shell."""
    page = run("--help").stdout
    assert "_DURABLY_COMPLETE=bash_source" in page
    assert "durably.toml" in page


@pytest.mark.parametrize(
    ("module", "extra", "args"),
    [
        ("click", "cli", ["jobs", "list"]),
        ("rich", "cli", ["jobs", "list"]),
        ("aiohttp", "instances", ["simulator"]),
        ("standardwebhooks", "instances", ["demo"]),
    ],
)
def test_a_missing_extra_is_named(jobs: Jobs, module: str, extra: str, args: list[str]) -> None:
    """Without the packages of an extra, one line says what to install."""
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "sys.stdout.isatty = lambda: True\n"
        f"sys.argv = ['durably', *{args}]\n"
        "from durably.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert result.stderr == (f'error: {module} is not installed: pip install "durably[{extra}]"\n')


def test_start_up_imports_nothing_heavy() -> None:
    """A client command starts without the packages of the instance service, and without rich."""
    program = (
        "import sys\n"
        "from durably.cli.root import root\n"
        "for name in root.list_commands(None): root.get_command(None, name)\n"
        "print(sorted({'aiohttp', 'rich', 'standardwebhooks', 'sqlite3'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout == "[]\n"
