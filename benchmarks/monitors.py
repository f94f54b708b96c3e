"""What do many instances cost that are coming up: the whole service, on a provider made of a dictionary?

Nothing of the shared list costs anything here but going through it. A few instances change in each
interval: how long it takes until the service has seen it.
"""

import asyncio
import math
import time
from datetime import UTC, datetime
from random import Random

import msgspec

from benchmarks import support
from benchmarks.support import Figures
from durably import JobPriority, JobQueueService, SystemClock
from durably.instances import Instance, InstanceStatus, JobWorkerService, jobs
from durably.instances.events import event_of
from durably.instances.instance import Operation
from durably.instances.monitor import RESTS
from durably.instances.pacing import until_tick
from durably.instances.provider import BillingMode, Upstream, UpstreamStatus
from durably.instances.reconciler import Reconciliation
from durably.instances.records import INSTANCE, Records

READY = event_of(InstanceStatus.READY)
CONCURRENCY = 32
"""As `serve` has it by default."""
CHANGES_PER_MILLE = 1
"""Of the instances that begin to run in an interval."""
INTERVALS = 2
"""That are measured; the reconciler makes no round in them."""


class Provider:
    """Knows the instances and when they began to run; is asked for nothing but what exists."""

    def __init__(self) -> None:
        self.instances: dict[str, Upstream] = {}

    async def list(self, *, name: str | None = None) -> list[Upstream]:
        """All of them, or those of a name."""
        return [one for one in self.instances.values() if name in {None, one.name}]

    async def get(self, upstream_id: str) -> Upstream | None:
        """One of them."""
        return self.instances.get(upstream_id)


async def measure(url: str, *, monitors: int, interval: float) -> Figures:
    """Memory for each, percent of one core, a reconciler's round, and how late changes are seen."""
    async with JobQueueService(url, concurrency=CONCURRENCY) as queue:
        provider = Provider()
        service = JobWorkerService(queue, provider=provider, poll_interval=interval)  # type: ignore[arg-type]  # enough of one
        before = support.resident_bytes()
        names = await _fill(queue, provider, monitors, interval)
        figures = {"monitors_round_cpu_ms": await _started(service) * 1e3}
        await asyncio.sleep(interval)

        cpu, begun = time.process_time(), time.perf_counter()
        changed = await _change(provider, names, interval)
        figures["monitors_cpu_percent"] = (
            (time.process_time() - cpu) / (time.perf_counter() - begun) * 100
        )
        figures["monitor_bytes"] = (support.resident_bytes() - before) / monitors
        await asyncio.sleep(interval)
        seen = [await _seen_at(queue, name) for name in changed]
        await service.stop()
        late = sorted(at - since for at, since in zip(seen, changed.values(), strict=True) if at)
        return figures | {
            "monitors_seen_of_changed": len(late) / len(changed),
            "monitors_reaction_p50_ms": late[len(late) // 2] * 1e3 if late else math.inf,
            "monitors_reaction_max_ms": late[-1] * 1e3 if late else math.inf,
        }


async def _fill(
    queue: JobQueueService, provider: Provider, monitors: int, interval: float
) -> list[str]:
    """Instances that are starting, as if they had been for some time: their looks are spread."""
    prefix = await Records(queue, SystemClock()).upstream_prefix()
    spread = Random(1)
    names = [f"inst_{number:032x}" for number in range(monitors)]
    for start in range(0, monitors, 1_000):
        changes = queue.changeset()
        tick = until_tick(datetime.now(UTC), interval)
        for name in names[start : start + 1_000]:
            provider.instances[f"up-{name}"] = _upstream(prefix, name)
            job = changes.add_job(
                jobs.MONITOR,
                jobs.MonitorInstanceJob(instance_id=name, max_wait_time=1e6),
                priority=JobPriority.HIGH,
                delay=tick + spread.randrange(RESTS) * interval,
                unique_key=name,
            )
            changes.put(INSTANCE, name, _starting(name, job.id), expect=0)
        await queue.commit(changes)
    return names


async def _started(service: JobWorkerService) -> float:
    """Start; the CPU seconds until the reconciler has made its first round."""
    reconciler, ended = service._reconciler, asyncio.Event()  # noqa: SLF001  # it tells nobody
    run_once = reconciler.run_once

    async def run_and_tell() -> Reconciliation:
        try:
            return await run_once()
        finally:
            ended.set()

    reconciler.run_once = run_and_tell  # type: ignore[method-assign]
    cpu = time.process_time()
    await service.start()
    await ended.wait()
    return time.process_time() - cpu


async def _change(provider: Provider, names: list[str], interval: float) -> dict[str, float]:
    """Let some begin to run in each interval; by name, when."""
    changed: dict[str, float] = {}
    some = max(1, len(names) * CHANGES_PER_MILLE // 1_000)
    spread = Random(2)
    for _ in range(INTERVALS * some):
        await asyncio.sleep(interval / some)
        name = spread.choice(names)
        upstream = provider.instances[f"up-{name}"]
        if name not in changed:
            running = msgspec.structs.replace(upstream, status=UpstreamStatus.RUNNING)
            provider.instances[upstream.id] = running
            changed[name] = time.time()
    return changed


async def _seen_at(queue: JobQueueService, name: str) -> float | None:
    """When the instance became ready; None: it has not."""
    events = await queue.get_events(subject=name)
    return next((event.at_us / 1e6 for event in events if event.topic == READY), None)


def _upstream(prefix: str, name: str) -> Upstream:
    return Upstream(
        id=f"up-{name}",
        name=f"{prefix}{name}",
        status=UpstreamStatus.PULLING,
        cluster_id="cluster-1",
        product_id="product-1",
        gpu_num=1,
        billing_mode=BillingMode.SPOT,
        created_at=datetime.now(UTC),
    )


def _starting(name: str, job: str) -> Instance:
    now = datetime.now(UTC)
    return Instance(
        id=name,
        name=name,
        product_name="RTX 4090 24GB",
        template_id="bare",
        gpu_num=1,
        rootfs_size=60,
        region="CN-HK-01",
        billing_mode=BillingMode.SPOT,
        status=InstanceStatus.STARTING,
        operation=Operation.CREATE,
        operation_at=now,
        created_at=now,
        started_at=now,
        novita_instance_id=f"up-{name}",
        jobs={jobs.MONITOR: job},
    )
