"""The root command: finds the others, imports them on use, and turns errors into one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

import durably
from durably.cli import missing_extra
from durably.cli.errors import Failure, exit_code_of
from durably.cli.options import epilog
from durably.domain.errors import DurablyError

_MODULES = {
    **{name: name for name in ("bench", "config", "copy", "db", "demo", "doctor", "jobs", "pause")},
    "resume": "pause",
    **{name: name for name in ("serve", "simulator", "stats", "worker")},
}
"""Each command is the attribute of its name in this module of `durably.cli`."""


class _Root(click.Group):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        if cmd_name not in _MODULES:
            return None
        command = getattr(import_module(f"durably.cli.{_MODULES[cmd_name]}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        with _one_line():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    """Errors that are the user's or the world's become one line; our own mistakes stay."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise _wrong_usage(error) from error
    except BrokenPipeError:
        raise  # click ends quietly: whoever read our output has seen enough
    except (DurablyError, OSError) as error:
        raise Failure(str(error), exit_code_of(error)) from error
    except ModuleNotFoundError as error:
        raise Failure(missing_extra(error)) from error


def _wrong_usage(error: click.UsageError) -> Failure:
    said = " ".join(error.format_message().split()).rstrip(".")
    path = error.ctx.command_path if error.ctx else "durably"
    return Failure(f"{said[:1].lower()}{said[1:]}; see {path} --help", error.exit_code)


@click.group(
    cls=_Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=epilog(
        "durably demo",
        "durably bench",
        "durably serve",
        "durably jobs list --status failed",
        "durably stats --store sqlite:///jobs.db --json",
        "durably jobs explain $ID --url http://jobs:8000",
        notes=(
            "Settings come from flags, then DURABLY_* and NOVITA_* environment variables, then",
            "durably.toml in the working directory, where a key is the name in lower case without",
            "DURABLY_. A secret may lie in a file that NAME_FILE names.",
            "",
            'Completion in bash: eval "$(_DURABLY_COMPLETE=bash_source durably)"; zsh and fish alike.',
        ),
    ),
)
@click.version_option(durably.__version__, message="%(prog)s %(version)s")
def root() -> None:
    """A job queue that is durable on SQLite."""
