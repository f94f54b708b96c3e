"""The webhook job: delivers one webhook, attempt by attempt, and keeps what each attempt met.

An attempt that fails spends none of the job's attempts: the delivery has its own, for 24 hours.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from durably import Cancel, Fail, JobContext, JobQueueService, Snooze
from durably.instances.addresses import AddressPolicy
from durably.instances.delivery import (
    DELAY_MAX,
    Delivery,
    DeliveryResult,
    TargetBackoff,
    WebhookSender,
    delivery_delay,
    target_of,
)
from durably.instances.events import (
    DeliveryStatus,
    DisabledTarget,
    WebhookDelivery,
    after_attempt,
    delivery_id,
)
from durably.instances.jobs import SendWebhookJob
from durably.instances.pacing import growing
from durably.instances.records import DELIVERY, TARGET, Records, target_id

_SEQUENCE_WAIT = (0.05, 2.0)
"""Seconds between two looks for the first attempt of the event before: the first, the longest."""


class Webhooks:
    """Handles `send_webhook` jobs.

    Args:
        queue: whose store keeps the deliveries.
        records: the service's records.
        sender: gives what sends.
        policy: which targets may be reached.
        base_delay: seconds before the second attempt of a delivery; doubles with each further one.
        random: spreads the delays.
    """

    def __init__(
        self,
        queue: JobQueueService,
        records: Records,
        *,
        sender: Callable[[], Awaitable[WebhookSender]],
        policy: AddressPolicy,
        base_delay: float,
        random: Random,
    ) -> None:
        self._queue = queue
        self._records = records
        self._sender = sender
        self._policy = policy
        self._base_delay = base_delay
        self._random = random
        self._backoff = TargetBackoff()

    async def send(self, job: JobContext) -> str:
        """Make one attempt; gives how the delivery has ended.

        Raises:
            Snooze: it is due later.
            Cancel: its target wants no webhooks any more.
            Fail: it is given up, or its target must not be reached.
        """
        delivery, version = await self._load(job)
        if delivery.status is DeliveryStatus.DELIVERED:
            return DeliveryStatus.DELIVERED
        self._check_target(job, delivery, version)
        if delivery.status is not DeliveryStatus.PENDING:
            # The job was final: a person wants it tried again, and is asked for no reasons.
            delivery = msgspec.structs.replace(
                delivery, status=DeliveryStatus.PENDING, tried_since=None
            )
        elif await self._queue.get_record(TARGET, target_id(delivery.url)) is not None:
            raise self._disabled(job, delivery, version)
        elif not delivery.attempts:
            await self._await_turn(delivery)
        return await self._attempt(job, delivery, version)

    async def _load(self, job: JobContext) -> tuple[WebhookDelivery, int]:
        payload: SendWebhookJob = job.payload
        record = await self._queue.get_record(DELIVERY, payload.delivery_id or job.id)
        if record is not None:
            return msgspec.convert(record.value, WebhookDelivery), record.version
        if payload.delivery_id is not None:
            raise Fail(f"no delivery has the id {payload.delivery_id!r}")
        delivery = WebhookDelivery(
            id=job.id,
            url=payload.url,
            payload=payload.payload,
            headers=payload.headers,
            created_at=job.created_at,
            job_id=job.id,
        )
        return delivery, 0

    # Before an attempt

    def _check_target(self, job: JobContext, delivery: WebhookDelivery, version: int) -> None:
        try:
            self._policy.check_url(delivery.url)
        except ValueError as error:
            refused = msgspec.structs.replace(delivery, status=DeliveryStatus.REFUSED)
            job.changes.put(DELIVERY, delivery.id, refused, expect=version)
            raise Fail(str(error)) from error

    def _disabled(self, job: JobContext, delivery: WebhookDelivery, version: int) -> Cancel:
        disabled = msgspec.structs.replace(delivery, status=DeliveryStatus.DISABLED)
        job.changes.put(DELIVERY, delivery.id, disabled, expect=version)
        return Cancel("the target has answered 410 Gone and is sent nothing any more")

    async def _await_turn(self, delivery: WebhookDelivery) -> None:
        """Return when the first attempt may be made.

        Raises:
            Snooze: the event before has not had its own, or the target has failed just now.
        """
        waited = (self._records.now() - delivery.created_at).total_seconds()
        if await self._is_out_of_turn(delivery):
            first, most = _SEQUENCE_WAIT
            raise Snooze(growing(waited, first=first, most=most))
        now = asyncio.get_running_loop().time()
        blocked = self._backoff.blocked_for(target_of(delivery.url), now)
        held = min(blocked, self._base_delay - waited)
        if held > 0:
            raise Snooze(held)

    async def _is_out_of_turn(self, delivery: WebhookDelivery) -> bool:
        if delivery.instance_id is None or delivery.sequence is None or delivery.sequence == 1:
            return False
        earlier_id = delivery_id(delivery.instance_id, delivery.sequence - 1)
        record = await self._queue.get_record(DELIVERY, earlier_id)
        if record is None:
            return False
        earlier = msgspec.convert(record.value, WebhookDelivery)
        if earlier.status is not DeliveryStatus.PENDING or earlier.attempts:
            return False
        # Somebody may have cancelled its job: then nothing is to be waited for.
        job = await self._queue.get_job(earlier.job_id) if earlier.job_id else None
        return job is not None and not job.status.is_final

    # An attempt

    async def _attempt(self, job: JobContext, delivery: WebhookDelivery, version: int) -> str:
        at = self._records.now()
        result = await (await self._sender()).send(
            Delivery(
                url=delivery.url,
                webhook_id=delivery.id,
                body=msgspec.json.encode(delivery.payload),
                headers=delivery.headers,
            )
        )
        delay = self._delay(len(delivery.attempts) + 1, result)
        now = self._records.now()
        settled = after_attempt(delivery, result, at=at, now=now, delay=delay)
        job.changes.put(DELIVERY, delivery.id, settled, expect=version)
        self._note_target(job, delivery.url, result, delay)
        match settled.status:
            case DeliveryStatus.DELIVERED:
                return DeliveryStatus.DELIVERED
            case DeliveryStatus.DISABLED:
                raise Cancel("the target answered 410 Gone and is sent nothing any more")
            case DeliveryStatus.EXPIRED:
                raise Fail(f"given up after {len(settled.attempts)} attempts: {result.error}")
            case _:
                raise Snooze(delay)

    def _delay(self, attempt: int, result: DeliveryResult) -> float:
        delay = delivery_delay(attempt, base=self._base_delay, random=self._random)
        return max(delay, min(result.retry_after or 0.0, DELAY_MAX))

    def _note_target(self, job: JobContext, url: str, result: DeliveryResult, delay: float) -> None:
        """Remember what the attempt says of its target: how it fares, and whether it is disabled."""
        target = target_of(url)
        if result.ok:
            self._backoff.succeeded(target)
            job.changes.delete(TARGET, target_id(url))
        elif result.disabled:
            job.changes.put(TARGET, target_id(url), DisabledTarget(url=url, at=self._records.now()))
        else:
            self._backoff.failed(target, asyncio.get_running_loop().time(), delay)
