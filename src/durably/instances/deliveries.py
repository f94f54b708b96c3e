"""Webhook deliveries as people look after them: list them, have one tried again, enable a target."""

from collections.abc import Callable

import msgspec

from durably import (
    Changeset,
    JobNotFoundError,
    JobQueueService,
    JobStateError,
    VersionConflictError,
)
from durably.instances import jobs
from durably.instances.events import (
    DeliveryConflictError,
    DeliveryNotFoundError,
    DeliveryStatus,
    DisabledTarget,
    TargetNotDisabledError,
    WebhookDelivery,
)
from durably.instances.records import DELIVERY, TARGET, target_id

_CHUNK = 100
_LOOK_MOST = 2_000
"""Deliveries that one page looks at, however few of them it has been asked for."""
_TARGETS_MOST = 1_000


class DeliveryPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of deliveries, those of the newest instances first."""

    deliveries: tuple[WebhookDelivery, ...]
    next_cursor: str | None = None
    """The *after* of the next page; None: this is the last."""


class Deliveries:
    """The deliveries and disabled targets in the store of *queue*."""

    def __init__(self, queue: JobQueueService) -> None:
        self._queue = queue

    async def page(
        self, *, status: DeliveryStatus | None, limit: int, after: str | None
    ) -> DeliveryPage:
        """At most *limit* deliveries beyond the one of the id *after*; see `JobWorkerService`."""
        found: list[WebhookDelivery] = []
        for _ in range(_LOOK_MOST // _CHUNK):
            records = await self._queue.get_records(
                DELIVERY, limit=_CHUNK, after=after, newest_first=True
            )
            for record in records:
                after = record.id
                if status is None or record.value["status"] == status:
                    found.append(msgspec.convert(record.value, WebhookDelivery))
                if len(found) == limit:
                    break
            if len(records) < _CHUNK and (not records or after == records[-1].id):
                return DeliveryPage(deliveries=tuple(found))
            if len(found) == limit:
                break
        return DeliveryPage(deliveries=tuple(found), next_cursor=after)

    async def retry(
        self, delivery_id: str, note: Callable[[Changeset], None] | None
    ) -> WebhookDelivery:
        """Have the delivery's job run again, or give it another; see `JobWorkerService`."""
        while True:
            record = await self._queue.get_record(DELIVERY, delivery_id)
            if record is None:
                raise DeliveryNotFoundError(delivery_id)
            delivery = msgspec.convert(record.value, WebhookDelivery)
            if delivery.status is DeliveryStatus.DELIVERED:
                raise DeliveryConflictError(f"delivery {delivery_id} has been delivered")
            changes = self._queue.changeset()
            if note is not None:
                note(changes)
            if delivery.job_id is not None and await self._queue.get_job(delivery.job_id):
                try:
                    await self._redrive(delivery, delivery.job_id, changes)
                except JobNotFoundError:
                    continue  # it has been removed since
                return delivery
            delivery = _with_new_job(delivery, record.version, changes)
            try:
                await self._queue.commit(changes)
            except VersionConflictError:
                continue  # somebody else has had it tried again, or it has been
            return delivery

    async def _redrive(self, delivery: WebhookDelivery, job_id: str, changes: Changeset) -> None:
        try:
            await self._queue.retry_job(job_id, changes=changes)
        except JobStateError:
            raise DeliveryConflictError(
                f"delivery {delivery.id} is {delivery.status}, and its job {job_id} is at work on it"
            ) from None

    async def disabled_targets(self) -> list[DisabledTarget]:
        """The targets that are sent nothing, the one disabled last first; at most 1,000."""
        records = await self._queue.get_records(TARGET, limit=_TARGETS_MOST)
        targets = [msgspec.convert(record.value, DisabledTarget) for record in records]
        return sorted(targets, key=lambda target: target.at, reverse=True)

    async def enable_target(self, url: str, note: Callable[[Changeset], None] | None) -> None:
        """Forget that *url* is disabled; see `JobWorkerService`."""
        while (record := await self._queue.get_record(TARGET, target_id(url))) is not None:
            changes = self._queue.changeset()
            changes.delete(TARGET, record.id, expect=record.version)
            if note is not None:
                note(changes)
            try:
                await self._queue.commit(changes)
            except VersionConflictError:
                continue
            return
        raise TargetNotDisabledError


def _with_new_job(delivery: WebhookDelivery, version: int, changes: Changeset) -> WebhookDelivery:
    """*delivery* with a job in the place of the one that has been removed since."""
    payload = jobs.SendWebhookJob(
        url=delivery.url,
        payload=delivery.payload,
        headers=delivery.headers,
        delivery_id=delivery.id,
    )
    job = changes.add_job(jobs.WEBHOOK, payload, unique_key=delivery.id)
    renewed = msgspec.structs.replace(delivery, job_id=job.id)
    changes.put(DELIVERY, delivery.id, renewed, expect=version)
    return renewed
