"""What happens in the demonstration: instances are asked for, things go wrong, all comes right.

The provider, the service and the receiver of webhooks are real HTTP on loopback; the provider and
the service are processes of their own.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from durably import app
from durably.cli.demonstration.children import Child
from durably.cli.demonstration.provider import Control
from durably.cli.demonstration.receiver import Receiver
from durably.cli.demonstration.verdict import Outcome, Summary, problems
from durably.cli.demonstration.view import View
from durably.instances import DeliveryStatus, Instance, InstanceRequest, JobWorkerService, Operation
from durably.instances.delivery import generate_secret
from durably.instances.simulator import Fault, parse_fault
from durably.settings import Settings

_WORK_S = 45.0
"""The rest of the minute is for starting and ending processes."""
_LOOK_S = 0.1
_API_KEY = "sim-key"
_BURST = 4


class Demonstration:
    """One run, with everything that it started ended and removed when `run` returns or raises.

    Args:
        instances: How many to ask for.
        faults: Further faults of the provider, as ``durably simulator --fault`` takes them.
        view: Is told what happens.
    """

    def __init__(self, *, instances: int, faults: Sequence[str], view: View) -> None:
        self._names = [f"demo-{number}" for number in range(1, instances + 1)]
        self._faults = faults
        self._view = view
        self._ids: dict[str, str] = {}
        self._kills = 0
        self._folder: Path
        self._settings: Settings
        self._control: Control
        self._receiver: Receiver
        self._client: JobWorkerService

    async def run(self) -> Summary:
        """Play it all, and judge it."""
        clock = asyncio.get_running_loop().time
        started = clock()
        async with self._stage():
            await self._ask_for_instances()
            found = await self._work(started + _WORK_S)
            outcomes = [await self._outcome(name) for name in self._names]
            bill = await self._control.bill()
            forged = sum(not webhook.verified for webhook in self._receiver.received)
            found += problems(outcomes, created=len(bill.creates), forged=forged)
            faults_met = await self._control.faults_met()
        return Summary(
            ok=not found,
            problems=tuple(found),
            instances=tuple(outcomes),
            faults_met=faults_met,
            kills=self._kills,
            seconds=clock() - started,
        )

    @asynccontextmanager
    async def _stage(self) -> AsyncIterator[None]:
        """Everything but the service: folder, provider, receiver, and a client of the store."""
        async with AsyncExitStack() as stack:
            folder = TemporaryDirectory(prefix="durably-demo-", ignore_cleanup_errors=True)
            self._folder = Path(stack.enter_context(folder))
            faults = [part for fault in self._faults for part in ("--fault", fault)]
            provider = Child(
                *("provider", "durably", "simulator", "--api-key", _API_KEY, *faults),
                folder=self._folder,
            )
            await stack.enter_async_context(provider)
            self._control = await stack.enter_async_context(Control(provider.said))
            secret = generate_secret(secrets.token_bytes)
            self._receiver = await stack.enter_async_context(Receiver(secret))
            self._settings = Settings(
                store=f"sqlite:///{self._folder / 'demo.db'}",
                poll_interval=0.5,
                max_wait_time=30.0,
                retry_base_delay=0.2,
                reconcile_interval=5.0,
                webhook_secret=secret,
                webhook_allow=("127.0.0.1",),
                novita_api_key=_API_KEY,
                novita_api_base_url=provider.said,
                novita_timeout=2.0,
            )
            queue = await stack.enter_async_context(app.open_queue(self._settings))
            service = app.instance_service(self._settings, queue)
            self._client = await stack.enter_async_context(service)
            yield

    async def _ask_for_instances(self) -> None:
        """Accept the requests before any service runs, so that the faults can name instances."""
        for name in self._names:
            request = InstanceRequest(
                name=name,
                product_name="RTX 4090 24GB",
                template_id="pytorch-serve",
                webhook_url=self._receiver.url_of(name),
            )
            self._ids[name] = (await self._client.create_instance(request)).id
        self._view.say(f"instances asked for, each with a webhook: {len(self._names)}")
        lost, burst = self._names[0], self._names[min(1, len(self._names) - 1)]
        await self._control.add(
            self._fault(lost, "create:lost_reply:count=1"),
            self._fault(burst, f"*:error:status=503,count={_BURST}"),
        )
        self._view.say(f"the provider will carry out the create of {lost} and lose the reply")
        self._view.say(f"the provider will answer {_BURST} requests about {burst} with 503")

    def _fault(self, name: str, text: str) -> Fault:
        # Names upstream end with the id of the instance.
        return parse_fault(f"{text},match={self._ids[name]}")

    async def _work(self, deadline: float) -> list[str]:
        """Let the service work, killed once in the middle; what went wrong with that."""
        try:
            async with asyncio.timeout_at(deadline):
                async with self._service() as service:
                    if not await self._until_renting(service):
                        await self._until_settled(service)
                        return ["the service was not killed: no GPU was rented"]
                    await service.kill()
                    self._kills += 1
                self._view.say("the service was killed (SIGKILL) with GPUs rented and not ready")
                async with self._service() as service:
                    self._view.say("the service runs again")
                    await self._until_settled(service)
        except TimeoutError:
            return [f"not finished after {_WORK_S:g} s"]
        except ChildProcessError as error:
            return [str(error)]
        return []

    def _service(self) -> Child:
        return Child(
            *("service", "durably.cli.demonstration.service"),
            folder=self._folder,
            orders=msgspec.json.encode(self._settings) + b"\n",
        )

    async def _until_renting(self, service: Child) -> bool:
        """Whether a GPU has been rented for an instance that is not ready; False: none will be."""
        while True:
            instances = await self._look(service)
            rented = {create.name for create in (await self._control.bill()).creates}
            underway = tuple(one.id for one in instances if one.operation is Operation.CREATE)
            if any(name.endswith(underway) for name in rented):
                return True
            if not underway:
                return False
            await asyncio.sleep(_LOOK_S)

    async def _until_settled(self, service: Child) -> None:
        """Until nothing is being done to any instance, and every webhook has been delivered."""
        while True:
            instances = await self._look(service)
            if all([await self._is_settled(instance) for instance in instances]):
                return
            await asyncio.sleep(_LOOK_S)

    async def _is_settled(self, instance: Instance) -> bool:
        if instance.operation is not None:
            return False
        deliveries = await self._client.deliveries(instance.id)
        return all(delivery.status is not DeliveryStatus.PENDING for delivery in deliveries)

    async def _look(self, service: Child) -> list[Instance]:
        """The instances as they are now, which are shown too."""
        if service.has_ended:
            raise ChildProcessError(service.last_words())
        instances = [await self._instance(name) for name in self._names]
        self._view.show({instance.name: instance.status.value for instance in instances})
        return instances

    async def _instance(self, name: str) -> Instance:
        instance = await self._client.get(self._ids[name])
        assert instance is not None
        return instance

    async def _outcome(self, name: str) -> Outcome:
        instance = await self._instance(name)
        bill = await self._control.bill()
        webhooks = self._receiver.sent_to(name)
        ready_at = instance.ready_at
        took = None if ready_at is None else (ready_at - instance.created_at).total_seconds()
        return Outcome(
            name=name,
            instance_id=instance.id,
            status=instance.status,
            error=instance.last_error,
            seconds=took,
            creates=sum(create.name.endswith(instance.id) for create in bill.creates),
            billed=sum(one.billing and one.name.endswith(instance.id) for one in bill.instances),
            webhooks=len(webhooks),
            verified=sum(webhook.verified for webhook in webhooks),
            terminal_events=tuple(webhook.type for webhook in webhooks if webhook.is_terminal),
        )
