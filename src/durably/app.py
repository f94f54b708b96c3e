"""The composition root: from settings to an open queue and the instance service.

The one module that knows settings, stores, engine and instances. What only the instance service
needs is imported on use.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING

from durably.domain.clock import SystemClock
from durably.domain.errors import SettingsError
from durably.engine.queue import JobQueueService
from durably.settings import Check, Settings, load_settings
from durably.stores import open_store

if TYPE_CHECKING:
    from durably.instances import JobWorkerService


def settings_for_clients(store: str | None = None) -> Settings:
    """The settings of a command that looks at a store; *store* is the flag.

    Raises:
        SettingsError: every fault; secrets and addresses of the instance service are not judged.
    """
    return _load({"store": store}, {"store": _check_store})


def settings_for_instances(store: str | None = None) -> Settings:
    """The settings of what runs the instance service, judged throughout. SettingsError."""
    from durably.instances.addresses import AddressPolicy
    from durably.instances.delivery import check_secret
    from durably.instances.novita import NovitaClient

    checks: dict[str, Check] = {
        "store": _check_store,
        "webhook_secret": check_secret,
        "webhook_allow": AddressPolicy,
        "novita_api_key": NovitaClient,
        "novita_api_base_url": lambda url: NovitaClient("any-key", base_url=url),
    }
    return _load({"store": store}, checks)


def _load(flags: dict[str, str | None], checks: dict[str, Check]) -> Settings:
    return load_settings(flags, environ=os.environ, folder=Path(), checks=checks)


def _check_store(url: str) -> None:
    open_store(url, clock=SystemClock())


def open_queue(settings: Settings, *, concurrency: int = 1) -> JobQueueService:
    """The queue of *settings*, to be entered by the caller."""
    return JobQueueService(
        settings.store,
        concurrency=concurrency,
        lease=settings.lease,
        retention=settings.retention,
    )


@asynccontextmanager
async def instance_service(
    settings: Settings, queue: JobQueueService
) -> AsyncIterator["JobWorkerService"]:
    """The instance service on *queue*, not started; stopped when the block is left.

    Raises:
        SettingsError: there is no NOVITA_API_KEY.
    """
    from durably.instances import JobWorkerService, NovitaClient

    if settings.novita_api_key is None:
        raise SettingsError("NOVITA_API_KEY is not set: the provider needs a key")
    provider = NovitaClient(
        settings.novita_api_key,
        base_url=settings.novita_api_base_url,
        timeout=settings.novita_timeout,
    )
    service = JobWorkerService(
        queue,
        provider=provider,
        poll_interval=settings.poll_interval,
        max_wait_time=settings.max_wait_time,
        max_retry_attempts=settings.max_retry_attempts,
        retry_base_delay=settings.retry_base_delay,
        on_failure=settings.on_failure,
        webhook_secret=settings.webhook_secret,
        webhook_allow=settings.webhook_allow,
        reconcile_interval=settings.reconcile_interval,
        novita_timeout=settings.novita_timeout,
    )
    try:
        yield service
    finally:
        await service.stop()
        await provider.close()


def missing_store(url: str) -> str | None:
    """Why there is nothing to look at in the store of *url* yet; None when there is.

    Opening a store creates it and its locks, which a command that only looks must not do.

    Raises:
        StoreError: the file cannot be read, or is no database.
    """
    if not url.startswith("sqlite:"):
        return None
    import sqlite3

    from durably.stores.sqlite.database import path_of, translated

    path = path_of(url)
    if not path.exists():
        return f"the store does not exist: {path}"
    reading = f"{path.resolve().as_uri()}?mode=ro"
    with translated(path), closing(sqlite3.connect(reading, uri=True)) as connection:
        found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'durably_meta'")
        return None if found.fetchone() else f"the file holds no store of Durably: {path}"


async def kept_webhook_secret(queue: JobQueueService) -> str | None:
    """The signing secret that the instance service has made and keeps in the store."""
    from durably.instances.records import SECRET

    record = await queue.get_record(SECRET, SECRET)
    return None if record is None else str(record.value)
