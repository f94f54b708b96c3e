"""Where a client command looks: a store, or a server."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import update_wrapper
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click
import msgspec

from durably.cli.errors import NOT_FOUND, WRONG_USAGE, Failure
from durably.domain.job import Job, JobStatus

_T = TypeVar("_T")


class Queue(Protocol):
    """What client commands ask for: the calls of `JobQueueService`."""

    async def get_jobs(
        self,
        *,
        status: JobStatus | None = None,
        type: str | None = None,
        queue: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Job]:
        """See `JobQueueService.get_jobs`."""
        ...

    async def get_job(self, id: str) -> Job | None:
        """See `JobQueueService.get_job`."""
        ...

    async def cancel_job(self, id: str) -> Job:
        """See `JobQueueService.cancel_job`."""
        ...

    async def retry_job(self, id: str, *, payload: Any = ...) -> Job:
        """See `JobQueueService.retry_job`."""
        ...

    async def explain(self, id: str) -> str:
        """See `JobQueueService.explain`."""
        ...

    async def get_stats(self) -> Any:
        """See `JobQueueService.get_stats`."""
        ...

    async def pause(self, queue: str) -> None:
        """See `JobQueueService.pause`."""
        ...

    async def resume(self, queue: str) -> None:
        """See `JobQueueService.resume`."""
        ...


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The flags that name it; None: not given."""

    store: str | None
    url: str | None
    token: str | None

    def ask(self, question: Callable[[Queue], Awaitable[_T]]) -> _T:
        """Put one question to what is meant.

        Raises:
            Failure: it does not exist, or cannot be asked.
            DurablyError: it refuses.
        """
        if self.store is not None and self.url is not None:
            raise Failure("--store is a file, --url a server: give one of them", WRONG_USAGE)
        url = self.url or (os.environ.get("DURABLY_URL") if self.store is None else None)
        try:
            return asyncio.run(
                _of_server(url, self.token, question) if url else self._of_store(question)
            )
        except ValueError as error:
            # What the API refuses as an argument was one of ours.
            raise Failure(str(error), WRONG_USAGE) from error

    async def _of_store(self, question: Callable[[Queue], Awaitable[_T]]) -> _T:
        from durably import app

        settings = app.settings_for_clients(self.store)
        if settings.store == "memory://":
            raise Failure(
                "memory:// lives in its own process only; name a store such as"
                " sqlite:///durably.db",
                WRONG_USAGE,
            )
        if reason := await app.missing_store(settings.store):
            raise Failure(reason, NOT_FOUND)
        async with app.open_queue(settings) as queue:
            return await question(queue)


async def _of_server(url: str, token: str | None, question: Callable[[Queue], Awaitable[_T]]) -> _T:
    from durably.cli.remote import RemoteQueue

    return await question(RemoteQueue(url, token or _token()))


def _token() -> str | None:
    """The token of the environment, or of the file that it names."""
    if token := os.environ.get("DURABLY_TOKEN"):
        return token
    if path := os.environ.get("DURABLY_TOKEN_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"DURABLY_TOKEN_FILE cannot be read: {path}", WRONG_USAGE) from error
    return None


_OPTIONS = (
    click.option(
        "--store",
        metavar="URL",
        help="The store.  [default: DURABLY_STORE, else sqlite:///durably.db]",
    ),
    click.option("--url", metavar="URL", help="A server instead.  [default: DURABLY_URL]"),
    click.option(
        "--token",
        metavar="TOKEN",
        help="Of the server. Others see flags: better DURABLY_TOKEN or DURABLY_TOKEN_FILE.",
    ),
)


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --store, --url and --token, which reach the command as `source`."""

    def call(*, store: str | None, url: str | None, token: str | None, **others: Any) -> None:
        command(source=Source(store=store, url=url, token=token), **others)

    wrapped: Callable[..., None] = update_wrapper(call, command)
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
