"""What a command says when it fails, and its exit code."""

from typing import IO, Any

import click

from durably.domain.errors import (
    JobNotFoundError,
    JobStateError,
    PayloadError,
    SettingsError,
)

FAILED, WRONG_USAGE, NOT_FOUND, FORBIDDEN = 1, 2, 3, 4
EXIT_CODES = (
    "0 done, 1 failed (no server answers, too), 2 wrong usage, settings or token,",
    "3 no such job or store, 4 the status of the job forbids it",
)


class Failure(click.ClickException):
    """Ends the command: each line of the message goes to stderr after ``error:``."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click's is of the class

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it."""
        for line in self.message.splitlines():
            click.echo(f"error: {line}", file=file, err=file is None)


def exit_code_of(error: Exception) -> int:
    """The exit code that says what kind of error it was."""
    match error:
        case SettingsError() | PayloadError():
            return WRONG_USAGE
        case JobNotFoundError():
            return NOT_FOUND
        case JobStateError():
            return FORBIDDEN
        case _:
            return FAILED
