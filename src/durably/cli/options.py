"""What several commands share: options, the end of their help, and a question to a store."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from durably import app
from durably.cli.errors import EXIT_CODES, NOT_FOUND, WRONG_USAGE, Failure
from durably.engine.queue import JobQueueService

_T = TypeVar("_T")

store_option = click.option(
    "--store",
    metavar="URL",
    help="The store.  [default: DURABLY_STORE, else sqlite:///durably.db]",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document; names are snake_case."
)


def epilog(*examples: str, notes: tuple[str, ...] = ()) -> str:
    """The end of a help page: notes, examples, exit codes; click keeps the lines as they are."""
    blocks = [notes] if notes else []
    blocks += [("Examples:", *(f"  {line}" for line in examples))]
    blocks += [("Exit codes:", *(f"  {line}" for line in EXIT_CODES))]
    return "\n\n".join("\b\n" + "\n".join(line or "\n\b" for line in block) for block in blocks)


def ask(store: str | None, question: Callable[[JobQueueService], Awaitable[_T]]) -> _T:
    """Open the store that is meant, if it exists, and put one question to its queue."""
    settings = app.settings_for_clients(store)
    if settings.store == "memory://":
        raise Failure(
            "memory:// lives in its own process only; name a store such as sqlite:///durably.db",
            WRONG_USAGE,
        )
    if reason := app.missing_store(settings.store):
        raise Failure(reason, NOT_FOUND)

    async def put() -> _T:
        async with app.open_queue(settings) as queue:
            return await question(queue)

    try:
        return asyncio.run(put())
    except ValueError as error:
        # What the API refuses as an argument was one of ours.
        raise Failure(str(error), WRONG_USAGE) from error
