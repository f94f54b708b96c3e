"""JobWorkerService: the instance service in one object, on top of a job queue.

It registers the handlers, keeps the reconciler running, and offers what users ask for; HTTP and
settings from the environment are elsewhere.
"""

import asyncio
import builtins
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import TypeAlias

import msgspec
import uuid_utils

from durably import Changeset, Clock, JobQueueService, RetryPolicy, SystemClock
from durably.instances import jobs
from durably.instances.addresses import AddressPolicy
from durably.instances.catalogue import Catalogue, CatalogueView
from durably.instances.create import create_instance
from durably.instances.deliveries import Deliveries, DeliveryPage
from durably.instances.delivery import WebhookSender, check_secret
from durably.instances.events import DeliveryStatus, DisabledTarget, WebhookDelivery
from durably.instances.instance import (
    Instance,
    InstanceConflictError,
    InstanceStatus,
    OnFailure,
    Operation,
)
from durably.instances.leadership import Leadership
from durably.instances.monitor import monitor_instance
from durably.instances.operations import delete_instance, start_instance, stop_instance
from durably.instances.provider import Provider
from durably.instances.reconciler import Reconciler, Reconciliation
from durably.instances.records import Edit, Loaded, Records
from durably.instances.request import InstanceRequest, check_request
from durably.instances.settings import InstanceSettings
from durably.instances.upstream import UpstreamView
from durably.instances.watch import Watch
from durably.instances.webhooks import Webhooks
from durably.instances.workflow import Handler, Tools, run

_LIST_MOST = 1_000
_ATTEMPTS_MOST = 1_000_000
"""Of jobs that must not be given up."""
# At once in one process. Creates and operations are fewer than the lanes that the provider's client
# has for writes: a create call must not queue there once it is recorded. No type can take all the
# slots that a server has by default (32), however slow its counterparts are.
_CREATES_AT_ONCE = 8
_OPERATIONS_AT_ONCE = 2
_MONITORS_AT_ONCE = 16
_WEBHOOKS_AT_ONCE = 16


Note: TypeAlias = Callable[[Changeset], None]
"""Adds something of the caller's to the commit of a change; not called when nothing changes."""


class InstancePage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of instances, newest first."""

    instances: tuple[Instance, ...]
    total: int
    """All there are, on whatever page."""
    next_cursor: str | None = None
    """The *after* of the next page; None: this is the last."""


class JobWorkerService:
    """GPU instances created, watched, started, stopped and deleted by jobs.

    The handlers of `create_instance`, `monitor_instance` and `send_webhook`, and those of
    `start_instance`, `stop_instance` and `delete_instance`, are registered at once; `start` makes
    the queue process. Of several processes on one store each may have a service, with the same
    settings.

    Args:
        queue: runs the jobs and keeps the records; opened and closed by the caller.
        provider: where the GPUs are; closed by the caller.
        poll_interval: seconds between two looks at an instance that is coming up.
        max_wait_time: seconds until an instance must be running, and from then on until its ports
            must answer.
        max_retry_attempts: attempts of create and monitor jobs.
        retry_base_delay: seconds before the second attempt of a job or a webhook; doubles with
            each further one.
        on_failure: ``delete``, ``stop`` or ``keep`` the upstream instance after a failure.
        webhook_secret: signs webhooks (``whsec_…``); None: one is made once, kept in the store.
        webhook_allow: hosts, addresses and CIDRs that webhooks may reach though they are internal.
        reconcile_interval: seconds between two comparisons of upstream with the records.
        novita_timeout: seconds that one call to the provider takes at most.
        clock: where time comes from.
        random: spreads waits.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it, and never the secret.
    """

    def __init__(
        self,
        queue: JobQueueService,
        *,
        provider: Provider,
        poll_interval: float = 30.0,
        max_wait_time: float = 1_200.0,
        max_retry_attempts: int = 3,
        retry_base_delay: float = 1.0,
        on_failure: OnFailure | str = OnFailure.DELETE,
        webhook_secret: str | None = None,
        webhook_allow: Sequence[str] = (),
        reconcile_interval: float = 300.0,
        novita_timeout: float = 30.0,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self.settings = InstanceSettings(
            poll_interval=poll_interval,
            max_wait_time=max_wait_time,
            max_retry_attempts=max_retry_attempts,
            retry_base_delay=retry_base_delay,
            on_failure=OnFailure(on_failure),
            reconcile_interval=reconcile_interval,
            novita_timeout=novita_timeout,
        )
        if webhook_secret is not None:
            check_secret(webhook_secret)
        self._queue = queue
        self._secret = webhook_secret
        self._policy = AddressPolicy(webhook_allow)
        clock = clock or SystemClock()
        spread = random or Random()  # noqa: S311 - jitter is no secret
        self._records = Records(queue, clock)
        self._tools = Tools(
            records=self._records,
            provider=provider,
            view=UpstreamView(provider, self._records.now),
            settings=self.settings,
            random=spread,
        )
        self._webhooks = Webhooks(
            queue,
            self._records,
            sender=self._open_sender,
            policy=self._policy,
            base_delay=retry_base_delay,
            random=spread,
        )
        self._catalogue = CatalogueView(provider, clock, timeout=novita_timeout)
        self._deliveries = Deliveries(queue)
        leadership = Leadership(queue, clock)
        self._reconciler = Reconciler(queue, self._tools, clock, leadership)
        self._watch = Watch(queue, self._tools, clock, leadership)
        self._sender: WebhookSender | None = None
        self._roles: builtins.list[asyncio.Task[None]] = []
        self._changing = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._register()

    @property
    def poll_interval(self) -> float:
        """Seconds between two looks at an instance that is coming up."""
        return self.settings.poll_interval

    @property
    def max_wait_time(self) -> float:
        """Seconds until an instance must be running, and then until its ports must answer."""
        return self.settings.max_wait_time

    @property
    def max_retry_attempts(self) -> int:
        """Attempts of create and monitor jobs."""
        return self.settings.max_retry_attempts

    # Life

    async def start(self) -> None:
        """Process the queue's jobs, reconcile at once and from then on, and watch. Idempotent."""
        async with self._changing:
            await self._records.deployment()
            await self._queue.start_processing()
            if not self._roles:
                loop = asyncio.get_running_loop()
                self._roles = [
                    loop.create_task(self._reconciler.run(), name="durably-reconciler"),
                    loop.create_task(self._watch.run(), name="durably-watch"),
                ]

    async def stop(self, timeout: float = 30.0) -> int:
        """End the reconciler and the watch, then `JobQueueService.shutdown` with *timeout*, whose answer it gives.

        Idempotent.
        """
        async with self._changing:
            if self._roles:
                for role in self._roles:
                    role.cancel()
                await asyncio.wait(self._roles)
                self._roles = []
            left = await self._queue.shutdown(timeout)
            if self._sender is not None:
                await self._sender.__aexit__(None, None, None)
                self._sender = None
            return left

    async def reconcile(self) -> Reconciliation:
        """Compare upstream with the records now; what has been done about it."""
        return await self._reconciler.run_once()

    # What users ask for

    async def create_instance(self, request: InstanceRequest | Mapping[str, object]) -> Instance:
        """Accept a request: record, job and first event are durable when this returns.

        Nothing is asked of the provider yet.

        Args:
            request: the request, or the JSON object of one.

        Raises:
            ValidationError: the request has faults, all of which it names.
        """
        instance, changes = await self.prepare_instance(request)
        await self._queue.commit(changes)
        return instance

    async def prepare_instance(
        self, request: InstanceRequest | Mapping[str, object]
    ) -> tuple[Instance, Changeset]:
        """As `create_instance`, but the caller commits, perhaps together with more of its own."""
        raw = msgspec.to_builtins(request) if isinstance(request, InstanceRequest) else request
        wanted = await check_request(raw, self._policy)
        now = self._records.now()
        instance = Instance(
            id=f"inst_{uuid_utils.uuid7().hex}",
            name=wanted.name,
            product_name=wanted.product_name,
            template_id=str(wanted.template_id),
            gpu_num=wanted.gpu_num,
            rootfs_size=wanted.rootfs_size,
            region=wanted.region,
            billing_mode=wanted.billing_mode,
            webhook_url=wanted.webhook_url,
            operation=Operation.CREATE,
            operation_at=now,
            created_at=now,
        )
        changes = self._queue.changeset()
        edit = self._records.edit(changes, Loaded(instance, 0))
        edit.move(InstanceStatus.CREATING)
        edit.enqueue_creation()
        edit.write()
        return edit.instance, changes

    async def get(self, instance_id: str) -> Instance | None:
        """The instance of that id; None for any text that is none's."""
        loaded = await self._records.find(instance_id)
        return None if loaded is None else loaded.instance

    async def list(self, *, limit: int = 50, after: str | None = None) -> InstancePage:
        """Instances, newest first, terminated ones included.

        Args:
            limit: at most so many, 1 to 1,000.
            after: only those beyond the instance of this id: the cursor of the page before.

        Raises:
            ValueError: *limit* is out of bounds.
        """
        _check_limit(limit)
        found = await self._records.page(limit=limit + 1, after=after)
        return InstancePage(
            instances=tuple(found[:limit]),
            total=await self._records.count(),
            next_cursor=found[limit - 1].id if len(found) > limit else None,
        )

    async def start_instance(self, instance_id: str, *, note: Note | None = None) -> Instance:
        """Have a stopped instance started; it is starting when this returns.

        Raises:
            InstanceNotFoundError: there is none of that id.
            InstanceConflictError: it is not stopped, or something else is being done to it.
        """
        return await self._records.change(instance_id, _start, note)

    async def stop_instance(self, instance_id: str, *, note: Note | None = None) -> Instance:
        """Have a ready instance stopped; it is stopping when this returns.

        Raises:
            InstanceNotFoundError: there is none of that id.
            InstanceConflictError: it is not ready, or something else is being done to it.
        """
        return await self._records.change(instance_id, _stop, note)

    async def delete_instance(self, instance_id: str, *, note: Note | None = None) -> Instance:
        """Have an instance deleted, whatever its status and whatever is being done to it.

        Idempotent. Jobs that are of no use any more are cancelled; the deletion itself goes on
        until nothing of the instance is left upstream.

        Raises:
            InstanceNotFoundError: there is none of that id.
        """
        return await self._records.change(instance_id, _delete, note)

    async def deliveries(self, instance_id: str) -> builtins.list[WebhookDelivery]:
        """The instance's webhook deliveries, in sequence, with every attempt.

        Raises:
            InstanceNotFoundError: there is no instance of that id.
        """
        await self._records.load(instance_id)
        return await self._records.deliveries(instance_id)

    async def list_deliveries(
        self, *, status: DeliveryStatus | None = None, limit: int = 50, after: str | None = None
    ) -> DeliveryPage:
        """Webhook deliveries, those of the newest instances first, each with every attempt.

        A page looks at no more than 2,000 deliveries: with *status* it may have fewer than *limit*,
        or none, and yet a next page.

        Args:
            status: only these; None: all.
            limit: at most so many, 1 to 1,000.
            after: only those beyond the delivery of this id: the cursor of the page before.

        Raises:
            ValueError: *limit* is out of bounds.
        """
        _check_limit(limit)
        return await self._deliveries.page(status=status, limit=limit, after=after)

    async def retry_delivery(
        self, delivery_id: str, *, note: Note | None = None
    ) -> WebhookDelivery:
        """Have a delivery tried again that is not at work: by its job, or another if that is gone.

        It keeps its status until the attempt, which is made even if its target is disabled.

        Returns:
            The delivery with the id of the job that makes the attempt.

        Raises:
            DeliveryNotFoundError: there is none of that id.
            DeliveryConflictError: it is delivered, or its job is pending or processing.
        """
        return await self._deliveries.retry(delivery_id, note)

    async def disabled_targets(self) -> builtins.list[DisabledTarget]:
        """The targets that have answered 410 and are sent nothing, the latest first; up to 1,000."""
        return await self._deliveries.disabled_targets()

    async def enable_target(self, url: str, *, note: Note | None = None) -> None:
        """Forget that a target is disabled: what is told from now on is sent to it again.

        Raises:
            TargetNotDisabledError: it is not.
        """
        await self._deliveries.enable_target(url, note)

    async def catalogue(self) -> Catalogue:
        """What the provider has on offer, as it was at most a minute ago; asked for once for all.

        Raises:
            ProviderError: the provider does not say.
        """
        return await self._catalogue.read()

    # Inside

    def _register(self) -> None:
        settings = self.settings
        longest = max(300.0, settings.retry_base_delay)
        retry = RetryPolicy(
            max_attempts=settings.max_retry_attempts,
            base_delay=settings.retry_base_delay,
            max_delay=longest,
        )
        forever = RetryPolicy(
            max_attempts=_ATTEMPTS_MOST, base_delay=settings.retry_base_delay, max_delay=longest
        )
        self._handle(jobs.CREATE, create_instance, jobs.CreateInstanceJob, retry, _CREATES_AT_ONCE)
        self._handle(
            jobs.MONITOR, monitor_instance, jobs.MonitorInstanceJob, retry, _MONITORS_AT_ONCE
        )
        for kind, handler in (
            (jobs.START, start_instance),
            (jobs.STOP, stop_instance),
            (jobs.DELETE, delete_instance),
        ):
            self._handle(kind, handler, jobs.OperationJob, forever, _OPERATIONS_AT_ONCE)
        self._queue.register_handler(
            jobs.WEBHOOK,
            self._webhooks.send,
            payload_type=jobs.SendWebhookJob,
            retry=forever,
            max_concurrency=_WEBHOOKS_AT_ONCE,
        )

    def _handle(
        self,
        kind: str,
        handler: Handler,
        payload_type: type,
        retry: RetryPolicy,
        at_once: int,
    ) -> None:
        self._queue.register_handler(
            kind,
            partial(run, handler, self._tools),
            payload_type=payload_type,
            retry=retry,
            max_concurrency=at_once,
        )

    async def _open_sender(self) -> WebhookSender:
        """The sender, opened at its first use; the service closes it when it stops."""
        async with self._opening:
            if self._sender is None:
                secret = self._secret or await self._records.webhook_secret()
                sender = WebhookSender(secret, policy=self._policy, now=self._records.now)
                self._sender = await sender.__aenter__()
            return self._sender


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= _LIST_MOST:
        raise ValueError(f"limit must be 1 to {_LIST_MOST:,}, got {limit:,}")


def _start(edit: Edit) -> bool:
    if not edit.instance.may_be_started:
        raise _conflict(edit.instance, "started", "stopped one")
    edit.set(
        last_error=None,
        port_mappings=(),
        health_check=None,
        running_at=None,
        ready_at=None,
    )
    edit.begin(Operation.START)
    edit.move(InstanceStatus.STARTING)
    return True


def _stop(edit: Edit) -> bool:
    if edit.instance.status is not InstanceStatus.READY or edit.instance.operation is not None:
        raise _conflict(edit.instance, "stopped", "ready one")
    edit.begin(Operation.STOP)
    edit.move(InstanceStatus.STOPPING)
    return True


def _delete(edit: Edit) -> bool:
    instance = edit.instance
    if instance.status is InstanceStatus.TERMINATED or instance.operation is Operation.DELETE:
        return False
    for kind in (jobs.MONITOR, jobs.START, jobs.STOP):
        edit.cancel_job(kind)
    if instance.novita_instance_id is not None or not instance.may_exist_upstream:
        # A create call under way is let finish: nobody else is told the id.
        edit.cancel_job(jobs.CREATE)
    edit.begin(Operation.DELETE)
    edit.move(InstanceStatus.STOPPING)
    return True


def _conflict(instance: Instance, verb: str, wanted: str) -> InstanceConflictError:
    doing = "" if instance.operation is None else f", with a {instance.operation} in progress"
    return InstanceConflictError(
        f"instance {instance.id} is {instance.status}{doing}: only a {wanted} can be {verb}"
    )
