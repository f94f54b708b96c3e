"""The composition root: from settings to an open queue and the instance service.

The one module that knows settings, stores, engine and instances. What only the instance service
needs is imported on use.
"""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durably.domain.clock import SystemClock
from durably.domain.errors import SettingsError
from durably.engine.queue import JobQueueService
from durably.settings import DEFAULT, Check, Judge, Settings, load_settings
from durably.stores import open_store

if TYPE_CHECKING:
    from durably.instances import JobWorkerService


def settings_for_clients(
    store: str | None = None, flags: Mapping[str, str | None] | None = None
) -> Settings:
    """The settings of what uses a store only; *store* is its flag, *flags* are others, by field.

    Raises:
        SettingsError: every fault; secrets and addresses of the instance service are not judged.
    """
    return _load({"store": store, **(flags or {})}, {"store": _check_store})


def settings_for_instances(
    store: str | None = None, flags: Mapping[str, str | None] | None = None
) -> Settings:
    """The settings of what runs the instance service, judged throughout. SettingsError."""
    return _load({"store": store, **(flags or {})}, _instance_checks())


def settings_for_server(flags: Mapping[str, str | None] | None = None) -> Settings:
    """The settings of the HTTP service, by which it may start; *flags* by field.

    Raises:
        SettingsError: every fault; one is to listen where others are without a token.
    """
    from durably.server.auth import Tokens

    return _load(flags or {}, {**_instance_checks(), "tokens": Tokens.parse}, _not_open_to_all)


def _not_open_to_all(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.tokens is None and not _is_loopback(settings.host):
        fault = (
            "need a loopback address such as 127.0.0.1 while DURABLY_TOKENS is empty, got"
            f" {settings.host!r}; set DURABLY_TOKENS=admin:… to serve others"
        )
        yield "host", fault


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _instance_checks() -> dict[str, Check]:
    from durably.instances.addresses import AddressPolicy
    from durably.instances.delivery import check_secret
    from durably.instances.novita import NovitaClient

    return {
        "store": _check_store,
        "webhook_secret": check_secret,
        "webhook_allow": AddressPolicy,
        "novita_api_key": NovitaClient,
        "novita_api_base_url": lambda url: NovitaClient("any-key", base_url=url),
    }


def _load(
    flags: Mapping[str, str | None], checks: dict[str, Check], judge: Judge | None = None
) -> Settings:
    return load_settings(flags, environ=os.environ, folder=Path(), checks=checks, judge=judge)


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


def configure(queue: JobQueueService, settings: Settings) -> None:
    """Have a queue that a program has made do what the settings say of it.

    What was given as a flag, in the environment or in ``durably.toml`` wins over the program; its
    concurrency is the setting's unless the program gives one.
    """
    given: dict[str, Any] = {
        field: getattr(settings, field)
        for field in ("store", "concurrency", "lease", "retention")
        if settings.source(field) != DEFAULT
    }
    if not queue.has_own_concurrency:
        given["concurrency"] = settings.concurrency
    queue.reconfigure(**given)


@asynccontextmanager
async def with_provider(settings: Settings) -> AsyncIterator[Settings]:
    """*settings* with a provider: their own, or where they have no key a simulator that is started.

    The simulator runs in this process, on a free port of loopback, while the block lasts.
    """
    if settings.novita_api_key is not None:
        yield settings
        return
    from durably.instances.simulator import Simulator, SimulatorSettings

    simulated = SimulatorSettings()
    async with Simulator(simulated) as simulator:
        yield settings.with_values(
            novita_api_key=simulated.api_key, novita_api_base_url=simulator.base_url
        )


@asynccontextmanager
async def instance_service(
    settings: Settings, queue: JobQueueService, *, acting: bool = True
) -> AsyncIterator["JobWorkerService"]:
    """The instance service on *queue*, not started; stopped when the block is left.

    Args:
        settings: of the service.
        queue: runs its jobs.
        acting: whether its jobs run here; else it needs no key, and without one the provider is
            never asked.

    Raises:
        SettingsError: there is no NOVITA_API_KEY.
    """
    from durably.instances import JobWorkerService, NovitaClient

    if settings.novita_api_key is None and acting:
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


async def missing_store(url: str) -> str | None:
    """Why there is nothing to look at in the store of *url* yet; None when there is.

    Opening a store creates it and its locks, which a command that only looks must not do.

    Raises:
        StoreError: the file cannot be read, or is no database.
    """
    if url.startswith("postgres"):
        from durably.stores.postgres.database import missing_schema

        return await missing_schema(url)
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
