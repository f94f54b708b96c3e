"""The processes that run until they are told to stop: the server and the worker."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from durably.app import instance_service, with_provider
from durably.domain.clock import SystemClock
from durably.engine.queue import JobQueueService
from durably.engine.role import Role
from durably.settings import Settings

if TYPE_CHECKING:
    from durably.instances import JobWorkerService
    from durably.server.service import Service

Say = Callable[[str], None]
"""Tells the person who started the process something."""


class Stop:
    """Asked once: claim nothing new, let what runs finish. Asked again: wait for nothing."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()

    def ask(self) -> None:
        """What a signal does."""
        if self.asked.is_set():
            self.insisted.set()
        self.asked.set()


async def work(
    settings: Settings,
    queue: JobQueueService,
    *,
    instances: bool,
    timeout: float,
    stop: Stop,
    say: Say,
) -> int:
    """Run the jobs of *queue* until asked to stop; how many still ran *timeout* seconds later.

    Args:
        settings: of the instance service.
        queue: not opened yet.
        instances: whether its handlers run here too, and the reconciler.
        timeout: seconds that running jobs may take at the end.
        stop: when to end.
        say: is told when it is ready, and of a simulator.

    Raises:
        DurablyError: the store cannot be opened.
    """
    async with AsyncExitStack() as stack:
        if instances:
            settings = await stack.enter_async_context(_provider(settings, say))
        await stack.enter_async_context(queue)
        if instances:
            service = await stack.enter_async_context(instance_service(settings, queue))
            await service.start()
            end = service.stop
        else:
            await queue.start_processing()
            end = queue.shutdown
        say(f"worker ready: {_description(queue)}")
        await stop.asked.wait()
        return await _end_in_time(end, timeout, stop)


async def serve(
    settings: Settings,
    queue: JobQueueService,
    *,
    workers: bool,
    timeout: float,
    stop: Stop,
    say: Say,
) -> int:
    """Answer HTTP, and with *workers* run jobs, until asked to stop; returns as `work` does.

    At the end event streams are closed and requests in progress answered before jobs are waited for.
    """
    from durably.server.application import create_app
    from durably.server.serving import address_of, bind, serving
    from durably.server.sessions import session_key

    with bind(settings.host, settings.port) as listening:
        async with AsyncExitStack() as stack:
            if workers:
                settings = await stack.enter_async_context(_provider(settings, say))
            await stack.enter_async_context(queue)
            instances = await stack.enter_async_context(
                instance_service(settings, queue, acting=workers)
            )
            if workers:
                await instances.start()
            key, is_first_run = await session_key(queue)
            service = await stack.enter_async_context(
                _http_service(settings, queue, instances, key, workers=workers)
            )
            async with serving(create_app(service), listening) as ended:
                jobs = _description(queue) if workers else f"store {queue.store_url}, no worker"
                address = address_of(listening)
                say(f"listening on {address}, {jobs}")
                say(_dashboard(service, address, is_first_run=is_first_run))
                await _first(stop.asked.wait(), ended.wait())
                service.drain()
            return await _end_in_time(instances.stop, timeout, stop) if workers else 0


@asynccontextmanager
async def _provider(settings: Settings, say: Say) -> AsyncIterator[Settings]:
    async with with_provider(settings) as provided:
        if provided is not settings:
            say("NO NOVITA_API_KEY: A SIMULATOR STANDS IN FOR THE PROVIDER, NOTHING IS RENTED")
            say(f"simulator at {provided.novita_api_base_url}, key {provided.novita_api_key}")
        yield provided


@asynccontextmanager
async def _http_service(
    settings: Settings,
    queue: JobQueueService,
    instances: "JobWorkerService",
    key: bytes,
    *,
    workers: bool,
) -> AsyncIterator["Service"]:
    """What the routes share, with its housekeeping."""
    from durably.server.auth import Tokens
    from durably.server.estimate import Estimate
    from durably.server.history import LOOK_INTERVAL_S, History
    from durably.server.idempotency import IdempotencyKeys
    from durably.server.limits import RateLimiter
    from durably.server.live import Feed
    from durably.server.metrics import Metrics
    from durably.server.readiness import Readiness
    from durably.server.redaction import Redactor
    from durably.server.service import HOUSEKEEPING_INTERVAL_S, Service
    from durably.server.sessions import Sessions
    from durably.server.streams import EventLog

    clock = SystemClock()
    redactor = Redactor(settings.redact)
    tokens = Tokens.parse(settings.tokens)
    async with EventLog(queue, clock, redactor) as log, Feed(clock) as feed:
        service = Service(
            queue=queue,
            instances=instances,
            log=log,
            feed=feed,
            history=History(queue, clock),
            sessions=Sessions(key, tokens, clock),
            keys=IdempotencyKeys(queue, clock),
            estimate=Estimate(instances, clock),
            readiness=Readiness(queue, workers=workers),
            metrics=Metrics(),
            redactor=redactor,
            tokens=tokens,
            limiter=RateLimiter(settings.rate_limit, clock),
            clock=clock,
        )
        roles = [
            Role("housekeeper", HOUSEKEEPING_INTERVAL_S, service.housekeep, clock),
            Role("historian", LOOK_INTERVAL_S, service.history.look, clock),
        ]
        try:
            yield service
        finally:
            for role in roles:
                await role.stop()


def _dashboard(service: "Service", address: str, *, is_first_run: bool) -> str:
    """Where the dashboard is; at the first run with a link that signs in."""
    if not (service.tokens and is_first_run):
        return f"dashboard at {address}/"
    return (
        f"dashboard at {address}/#/sign-in?code={service.sessions.invite()}"
        " (this link signs in once, within 15 minutes; then sign in with a token)"
    )


async def _end_in_time(
    end: Callable[[float], Coroutine[Any, Any, int]], timeout: float, stop: Stop
) -> int:
    """`end`, which waits for running jobs; a second request to stop ends the waiting."""
    ending = asyncio.get_running_loop().create_task(end(timeout), name="durably-shutdown")
    await _first(asyncio.shield(ending), stop.insisted.wait())
    if ending.done():
        return ending.result()
    ending.cancel()
    await asyncio.wait([ending])
    return await end(0.0)


async def _first(*awaitables: Any) -> None:
    """Until one of them is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(one) for one in awaitables]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _description(queue: JobQueueService) -> str:
    types = len(queue.handler_types)
    return f"store {queue.store_url}, {types} job types, {queue.concurrency} slots"
