"""The create job: rents one upstream instance for a record, and never a second one.

The provider has no idempotency keys. What stands in for them: the upstream name is made of the
instance's id; every create call is recorded, by compare-and-set, before it is made; and while a
call has no known outcome nothing is created, until a look by name has found its instance or two
time-outs have passed since the call was sent at the latest.
"""

import asyncio
import logging
from datetime import timedelta

import msgspec

from durably import DurablyError, Fail, JobContext, Retry, Snooze
from durably.instances.instance import Instance, Intent
from durably.instances.products import Offer, candidates, cluster_for
from durably.instances.provider import (
    CreateRequest,
    InvalidState,
    NoStock,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    Template,
)
from durably.instances.records import Loaded
from durably.instances.workflow import (
    Attempt,
    Tools,
    answer_due,
    first_made,
    load,
    told_to_wait,
)

_log = logging.getLogger(__name__)


async def create_instance(tools: Tools, job: JobContext) -> str:
    """Handle a `create_instance` job; gives the upstream id, or says that there is none to make."""
    loaded = await load(tools, job)
    if not loaded.instance.awaits_creation:
        return "nothing to create"
    creation = _Creation(tools, job, loaded)
    try:
        return await creation.find_or_create()
    except ProviderUnavailable as error:
        raise creation.unavailable(error) from error
    except ProviderError as error:
        raise creation.failed(str(error)) from error
    except (DurablyError, Fail, Retry, Snooze):
        raise
    except Exception as error:
        if job.attempts < job.max_attempts:
            raise
        _log.exception("instance %s fails for an unexpected error", loaded.instance.id)
        raise creation.failed(f"{type(error).__name__}: {error}") from error


class _Creation(Attempt):
    async def find_or_create(self) -> str:
        """The upstream id of the instance that exists afterwards."""
        name = await self.records.upstream_name(self.instance.id)
        if found := first_made(await self.provider.list(name=name)):
            return await self._keep([one.id for one in found])
        self._check_answers()
        return await self._create(name)

    def unavailable(self, error: ProviderUnavailable) -> Snooze | Retry | Fail:
        """How the attempt ends when the provider cannot answer now."""
        told, intent = told_to_wait(error), self.instance.intent
        if intent is not None and intent.sent_by is not None:
            return Snooze(max(told, self.tools.wait(intent.called_at)))
        if not told or self.age(self.instance.created_at) + told > self.settings.max_wait_time:
            return self._again(str(error))
        # It has said when to come back: no attempt is spent on that.
        self.change(lambda edit: edit.set(operation_error=str(error)))
        return Snooze(told * self.tools.random.uniform(1.0, 1.2))

    def failed(self, reason: str) -> Fail:
        """How the attempt ends when there is no sense in another."""
        self.change(lambda edit: edit.fail(reason, on_failure=self.settings.on_failure))
        return Fail(reason)

    def _again(self, reason: str) -> Retry | Fail:
        if self.job.attempts >= self.job.max_attempts:
            return self.failed(reason)
        self.change(lambda edit: edit.set(operation_error=reason))
        return Retry(reason)

    def _check_answers(self) -> None:
        """Go on only when no earlier call can have made an instance that is not listed yet."""
        intent = self.instance.intent
        if intent is None or intent.sent_by is None:
            return
        due = answer_due(self.instance, timeout=self.settings.novita_timeout, now=self.now())
        if due > 0:
            raise Snooze(min(due, self.tools.wait(intent.called_at)))
        self._settle()
        raise self._again(self.instance.operation_error or "a create call was never answered")

    async def _create(self, name: str) -> str:
        wanted = self.instance
        products = await self.provider.products(wanted.product_name, billing=wanted.billing_mode)
        offers = candidates(
            products, name=wanted.product_name, region=wanted.region, billing=wanted.billing_mode
        )
        template = await self.provider.template(wanted.template_id)
        clusters = await self.provider.clusters()
        refusals = []
        for offer in offers:
            request = _request(wanted, name, offer, template, cluster_for(offer.region, clusters))
            try:
                upstream_id = await self._call(request, offer)
            except (NoStock, InvalidState) as error:
                refusals.append(f"{offer.product.id} in {offer.region} ({error})")
            else:
                return await self._keep([upstream_id])
        attempted = ", ".join(refusals)
        raise self.failed(f'no GPU to be had for "{wanted.product_name}"; attempted: {attempted}')

    async def _keep(self, upstream_ids: list[str]) -> str:
        """Make the first of them the instance's own, unless it has one; discard the others."""
        instance = await self.tools.adopt(self.instance.id, upstream_ids[0])
        for upstream_id in upstream_ids:
            if not instance.wants(upstream_id):
                await self.tools.discard(upstream_id)
        return instance.novita_instance_id or "no longer wanted"

    async def _call(self, request: CreateRequest, offer: Offer) -> str:
        """Record the call, then make it.

        Raises:
            Snooze: what became of it is unknown.
            ProviderRefused, ProviderUnavailable: it has made nothing.
        """
        clock = asyncio.get_running_loop().time
        limit = clock() + self.settings.novita_timeout
        await self._record_call(request, offer)
        try:
            if limit - clock() < self.settings.novita_timeout / 2:
                raise ProviderUnavailable("recording the create call took too long to make it")
            async with asyncio.timeout_at(limit):
                return await self.provider.create(request)
        except (ProviderRefused, ProviderUnavailable):
            self._settle()
            raise
        except Exception as error:
            # OutcomeUnknown, the time limit, and whatever else: only a look can tell.
            raise self._unanswered(error) from error

    async def _record_call(self, request: CreateRequest, offer: Offer) -> None:
        now, earlier = self.now(), self.instance.intent
        intent = Intent(
            upstream_name=request.name,
            call=earlier.call + 1 if earlier else 1,
            called_at=now,
            sent_by=now + timedelta(seconds=self.settings.novita_timeout),
        )
        await self.commit(
            lambda edit: edit.set(
                intent=intent,
                product_id=offer.product.id,
                chosen_region=offer.region,
                cluster_id=request.cluster_id,
                price_e5=offer.price_e5,
            )
        )

    def _settle(self) -> None:
        """Every call's outcome is known now, which the record's next change will say."""
        assert self.instance.intent is not None
        intent = msgspec.structs.replace(self.instance.intent, sent_by=None)
        instance = msgspec.structs.replace(self.instance, intent=intent)
        self.loaded = Loaded(instance, self.loaded.version)

    def _unanswered(self, error: Exception) -> Snooze:
        message = str(error) or f"the create call had no answer ({type(error).__name__})"
        _log.warning("instance %s: %s", self.instance.id, message)
        now = self.now()
        assert self.instance.intent is not None
        intent = msgspec.structs.replace(self.instance.intent, sent_by=now)
        self.change(lambda edit: edit.set(intent=intent, operation_error=message))
        return Snooze(self.tools.wait(now))


def _request(
    wanted: Instance, name: str, offer: Offer, template: Template, cluster_id: str
) -> CreateRequest:
    return CreateRequest(
        name=name,
        product_id=offer.product.id,
        image=template.image,
        cluster_id=cluster_id,
        gpu_num=wanted.gpu_num,
        rootfs_size=wanted.rootfs_size,
        billing_mode=wanted.billing_mode,
        image_auth_id=template.image_auth_id,
        command=template.command,
        ports=template.ports,
        envs=template.envs,
    )
