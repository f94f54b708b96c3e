"""The simulated provider's account: which instances exist and what may be done to them. No HTTP.

The rules are those of the provider's v1 API; times are unix seconds from the clock that is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import msgspec

from durably.instances.simulator.catalogue import Cluster, Product, Template
from durably.instances.simulator.faults import CreateEffect, SpotReclaim, StatusError, Unhealthy
from durably.instances.simulator.instance import Instance, Step, Trouble
from durably.instances.simulator.requests import BillingMode, CreateRequest, ProviderError, invalid
from durably.instances.simulator.settings import SimulatorSettings


@dataclass(slots=True, kw_only=True)
class CreateRecord:
    """An accepted create; ``replied`` says whether its caller was told the id."""

    name: str
    at: float
    id: str
    replied: bool = False


class Account:
    """All instances of one customer, with the rules for changing them."""

    def __init__(
        self, settings: SimulatorSettings, *, now: Callable[[], float], random: Random
    ) -> None:
        self.settings = settings
        self.instances: dict[str, Instance] = {}
        self.creates: list[CreateRecord] = []
        self._now = now
        self._random = random

    def products(
        self, *, cluster_id: str, gpu_num: int, name: str, billing_mode: str
    ) -> list[Product]:
        """Products with *name* in their names; ``available_deploy`` follows the stock left."""
        region = self._cluster(cluster_id).region if cluster_id else ""
        return [
            self._with_availability(product, region, max(1, gpu_num))
            for product in self.settings.products
            if name.lower() in product.name.lower()
            and billing_mode in product.billing_methods
            and (not region or product.offered_in(region))
        ]

    def template(self, template_id: str) -> Template:
        """The template with this id."""
        for template in self.settings.templates:
            if template.id == template_id:
                return template
        raise self._not_found("TEMPLATE_NOT_FOUND", f"template not found: {template_id!r}")

    def create(self, request: CreateRequest, effects: Sequence[CreateEffect] = ()) -> str:
        """Accept a new instance and return its id: 16 hexadecimal digits."""
        product = self._product(request)
        cluster = self._placement(product, request)
        now = self._now()
        instance = Instance(
            id=f"{self._random.getrandbits(64):016x}",
            request=request,
            product=product,
            cluster=cluster,
            created_at=now,
        )
        self._plan(instance, effects)
        self.instances[instance.id] = instance
        self.creates.append(CreateRecord(name=request.name, at=now, id=instance.id))
        return instance.id

    def find(self, instance_id: str) -> Instance:
        """The instance with this id, unless it has been removed."""
        instance = self.instances.get(instance_id)
        if instance is None or instance.step(self._now()).status == "removed":
            raise self._not_found("RESOURCE_NOT_FOUND", f"instance not found: {instance_id!r}")
        return instance

    def listed(self, *, name: str, product_name: str, status: str) -> list[Instance]:
        """Instances that the list shows, newest first; filters are ANDed, empty ones ignored."""
        now = self._now()
        return [
            instance
            for instance in reversed(self.instances.values())
            if instance.created_at + self.settings.list_lag <= now
            and (current := instance.step(now).status) != "removed"
            and status in ("", current)
            and name in instance.request.name
            and product_name.lower() in instance.product.name.lower()
        ]

    def start(self, instance_id: str) -> None:
        """Start a stopped instance; its GPUs may be gone meanwhile."""
        instance = self._find_in(instance_id, "exited")
        request = instance.request
        if not self._in_stock(instance.product, instance.cluster.region, request.gpu_num):
            raise no_stock(instance.product.id, instance.cluster.region)
        durations = self.settings.durations
        instance.trouble = None
        self._follow(
            instance,
            Step("toStart", durations.requested),
            Step("starting", durations.starting, billed=True),
            _running(request.mode()),
        )

    def stop(self, instance_id: str) -> None:
        """Stop an instance that is pulling or running."""
        instance = self._find_in(instance_id, "pulling", "running")
        durations = self.settings.durations
        self._follow(
            instance,
            Step("toStop", durations.requested, billed=True),
            Step("stopping", durations.stopping, billed=True),
            Step("exited"),
        )

    def restart(self, instance_id: str) -> None:
        """Restart a running instance."""
        instance = self._find_in(instance_id, "running")
        durations = self.settings.durations
        self._follow(
            instance,
            Step("toRestart", durations.requested, billed=True),
            Step("restarting", durations.restarting, billed=True),
            _running(instance.request.mode()),
        )

    def delete(self, instance_id: str) -> None:
        """Remove an instance in whatever status; billing, if it runs, ends with the removal."""
        instance = self.find(instance_id)
        current = instance.step(self._now())
        if current.status in ("toRemove", "removing"):
            return
        durations = self.settings.durations
        self._follow(
            instance,
            Step("toRemove", durations.requested, billed=current.billed),
            Step("removing", durations.removing, billed=current.billed),
            Step("removed"),
        )

    def migrate(self, instance_id: str) -> None:
        """Move an instance to another machine; what ran, or was reclaimed, runs again there."""
        instance = self._find_in(instance_id, "running", "exited")
        current = instance.step(self._now())
        runs = current.status == "running" or current.spot_status == "terminated"
        self._follow(
            instance,
            Step("migrating", self.settings.durations.migrating, billed=current.billed),
            _running(instance.request.mode()) if runs else Step("exited"),
        )

    def probe(self, instance_id: str, port: int) -> None:
        """A request to the application inside an instance; returns when it is healthy."""
        instance = self.find(instance_id)
        opened = any(p.port == port and p.type == "http" for p in instance.request.opened_ports())
        if not opened or instance.step(self._now()).status != "running":
            raise ProviderError(502, "BAD_GATEWAY", "nothing listens there")
        if instance.unhealthy_probes:
            instance.unhealthy_probes -= 1
            raise ProviderError(503, "UNHEALTHY", "the application is not ready")

    def mark_replied(self, instance_id: str) -> None:
        """Note that the caller of the create was sent this id."""
        for record in self.creates:
            if record.id == instance_id:
                record.replied = True

    def _follow(self, instance: Instance, *steps: Step) -> None:
        instance.follow(self._now(), steps)

    def _plan(self, instance: Instance, effects: Sequence[CreateEffect]) -> None:
        durations = self.settings.durations
        mode = instance.request.mode()
        pulling_at = instance.created_at + durations.to_create + durations.creating
        steps = [Step("toCreate", durations.to_create), Step("creating", durations.creating)]
        life = [Step("pulling", durations.pulling, billed=True), _running(mode)]
        for effect in effects:
            match effect:
                case StatusError():
                    at = pulling_at + effect.seconds
                    instance.trouble = Trouble(at, effect.state, effect.message)
                    life = [Step("pulling", billed=True)]
                case SpotReclaim():
                    if mode == "spot" and len(life) > 1:
                        life = [life[0], *_reclaim(effect)]
                case Unhealthy():
                    instance.unhealthy_probes = effect.probes
        self._follow(instance, *steps, *life)

    def _product(self, request: CreateRequest) -> Product:
        for product in self.settings.products:
            if product.id == request.product_id:
                break
        else:
            raise invalid(f"unknown productId: {request.product_id!r}")
        mode = request.mode()
        if mode not in product.billing_methods or product.price_per_hour(mode) == 0:
            message = f"{product.id} cannot be billed as {mode!r}"
            raise ProviderError(400, "UNSUPPORTED_BILLING_MODE", message)
        known = {auth.id for auth in self.settings.registry_auths}
        if request.image_auth_id and request.image_auth_id not in known:
            raise invalid(f"unknown imageAuthId: {request.image_auth_id!r}")
        return product

    def _placement(self, product: Product, request: CreateRequest) -> Cluster:
        asked = request.cluster_id
        clusters = [self._cluster(asked)] if asked else self.settings.clusters
        possible = [
            cluster
            for cluster in clusters
            if product.available_deploy
            and product.offered_in(cluster.region)
            and self._in_stock(product, cluster.region, request.gpu_num)
        ]
        if not possible:
            raise no_stock(product.id, asked or "any cluster")
        return self._random.choice(possible)

    def _cluster(self, cluster_id: str) -> Cluster:
        for cluster in self.settings.clusters:
            if cluster.id == cluster_id:
                return cluster
        raise invalid(f"unknown clusterId: {cluster_id!r}")

    def _in_stock(self, product: Product, region: str, gpus: int) -> bool:
        limit = self.settings.stock.get(product.id, {}).get(region)
        if limit is None:
            return True
        now = self._now()
        taken = sum(
            instance.request.gpu_num
            for instance in self.instances.values()
            if instance.product.id == product.id
            and instance.cluster.region == region
            and instance.holds_gpus(now)
        )
        return taken + gpus <= limit

    def _with_availability(self, product: Product, region: str, gpus: int) -> Product:
        regions = {cluster.region for cluster in self.settings.clusters if not region}
        if any(
            product.offered_in(code) and self._in_stock(product, code, gpus)
            for code in regions or {region}
        ):
            return product
        return msgspec.structs.replace(product, available_deploy=False, inventory_state="none")

    def _find_in(self, instance_id: str, *statuses: str) -> Instance:
        instance = self.find(instance_id)
        status = instance.step(self._now()).status
        if status not in statuses:
            raise ProviderError(400, "REQUEST", f"invalid state change from {status!r}")
        return instance

    def _not_found(self, code: str, message: str) -> ProviderError:
        return ProviderError(int(self.settings.not_found), code, message)


def no_stock(product_id: str, where: str) -> ProviderError:
    """The answer when no GPU of a product is left."""
    message = f"insufficient resource of {product_id!r} in {where!r}"
    return ProviderError(400, "INSUFFICIENT_RESOURCE", message)


def _running(mode: BillingMode) -> Step:
    return Step("running", billed=True, spot_status="running" if mode == "spot" else "")


def _reclaim(effect: SpotReclaim) -> list[Step]:
    return [
        Step("running", effect.seconds, billed=True, spot_status="running"),
        Step("running", effect.notice, billed=True, spot_status="notified"),
        Step("running", effect.reclaiming, billed=True, spot_status="reclaiming"),
        Step("exited", spot_status="terminated"),
    ]
