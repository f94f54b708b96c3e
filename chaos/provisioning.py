"""GPUs under fire: ``python -m chaos.provisioning --creates 2000 --seed 1``.

Many create requests against the simulator of the provider, which loses replies, lags, fails and runs
out of stock; webhook receivers fail; the processes that do the work are killed at random. In the end,
after two rounds of the reconciler, what is billed must be what the records want, nothing more and
nothing less, and everybody must have been told. (Kills at every single call: tests/faults.)
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any, SupportsIndex

import aiohttp
import msgspec
from tests.instances.support import FAST, REQUEST, SECRET, Receiver, receiving

from chaos.history import History
from chaos.nemesis import Victim
from chaos.places import place
from chaos.roles import end_with_the_storm
from durably import DurablyError, JobQueueService
from durably.instances import Instance, InstanceStatus, JobWorkerService, NovitaClient
from durably.instances.simulator import Simulator, SimulatorSettings, parse_fault

PROCESSES = 2
AT_ONCE = 32
"""Create requests on their way."""
SETTLED_S = 180.0
FAULTS = (
    "*:error:status=503,probability=0.03",
    "*:reset:probability=0.02",
    "*:rate_limit:retry_after=0,probability=0.02",
    "create:lost_reply:probability=0.15",
    "create:slow:seconds=1.5,probability=0.03",
    "create:slow:seconds=1.5,apply=end,probability=0.03",
    "create:status_error:probability=0.05",
    "create:no_stock:probability=0.05",
    "start:lost_reply:probability=0.1",
    "delete:lost_reply:probability=0.2",
)
OPTIONS: dict[str, Any] = {
    "poll_interval": 0.5,
    "max_wait_time": 120.0,
    "retry_base_delay": 0.1,
    "reconcile_interval": 3.0,
    "novita_timeout": 1.0,
    "webhook_secret": SECRET,
    "webhook_allow": ("127.0.0.1",),
}
_ENDS = frozenset({"instance.ready", "instance.failed", "instance.timeout"})


async def work(url: str, provider_url: str) -> None:
    """One of the processes, until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with JobQueueService(url, concurrency=32, processing_interval=0.2) as queue:
        provider = NovitaClient("sim-key", base_url=provider_url, timeout=5.0)
        service = JobWorkerService(queue, provider=provider, **OPTIONS)
        await service.start()
        await stop.wait()
        await service.stop(5.0)
        await provider.close()


async def storm(kind: str, *, creates: int, seed: int, folder: Path) -> tuple[list[str], str]:
    """Create, kill, heal; what is wrong in the end, and the figures."""
    random = Random(seed)
    settings = SimulatorSettings(
        durations=FAST, list_lag=0.3, seed=seed, faults=tuple(map(parse_fault, FAULTS))
    )
    history = History(folder / "history.jsonl")
    async with AsyncExitStack() as stack:
        where = await stack.enter_async_context(place(kind))
        receiver = await stack.enter_async_context(receiving())
        simulator = await stack.enter_async_context(Simulator(settings))
        log = stack.enter_context((folder / "log").open("ab"))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        queue = await stack.enter_async_context(JobQueueService(where.url))
        provider = NovitaClient("sim-key", base_url=simulator.base_url, timeout=5.0)
        stack.push_async_callback(provider.close)
        service = JobWorkerService(queue, provider=provider, **OPTIONS)

        def command(role: str, url: str) -> list[str]:
            return [sys.executable, "-m", "chaos.provisioning", role, url, simulator.base_url]

        victims = [Victim("work", command, where.url, log) for _ in range(PROCESSES)]
        for victim in victims:
            await victim.start()
        done = asyncio.Event()
        killing = asyncio.get_running_loop().create_task(_kill(victims, done, history, random))
        receiver.answers = answers = _Sometimes(random)
        asked = await _create(service, receiver, creates)
        await _settle(service, asked, "everything was asked for")
        done.set()
        kills = await killing
        answers.enough = True
        async with session.delete(f"{simulator.control_url}/faults") as response:
            assert response.status == 200
        await _settle(service, asked, "the faults are over")
        for _ in range(2):
            await service.reconcile()
        await _settle(service, asked, "two rounds of the reconciler")
        for victim in victims:
            victim.send(signal.SIGTERM)
            await victim.ended()
        wrong = [text async for text in _wrong(service, queue, simulator, session, receiver, asked)]
        async with session.get(f"{simulator.control_url}/billing") as response:
            created = (await response.json())["created"]
        statuses = Counter(str(one.status) for one in await _all(service, asked))
    figures = (
        f"{creates} asked for, {dict(statuses)}, {created} ever created upstream, {kills} kills"
    )
    return wrong, f"{figures}, {len(receiver.events)} webhooks received"


async def _kill(
    victims: list[Victim], done: asyncio.Event, history: History, random: Random
) -> int:
    kills = 0
    while not done.is_set():
        await asyncio.sleep(random.uniform(0.5, 3.0))
        victim = random.choice(victims)
        history.say("fault", how="kill", pid=victim.pid)
        victim.send(signal.SIGKILL)
        await victim.ended()
        await victim.start()
        kills += 1
    return kills


class _Sometimes(list[int]):
    """Answers of a receiver that fails now and then, until it is told that it is enough."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self.enough = False

    def __bool__(self) -> bool:
        return not self.enough and self._random.random() < 0.15

    def pop(self, _index: SupportsIndex = -1) -> int:
        """The next answer: a failure."""
        return 503


async def _create(service: JobWorkerService, receiver: Receiver, creates: int) -> list[Instance]:
    request = msgspec.structs.replace(REQUEST, webhook_url=receiver.url)
    asked: list[Instance] = []

    async def some(count: int) -> None:
        for _ in range(count):
            while True:
                try:
                    asked.append(await service.create_instance(request))
                except DurablyError:
                    await asyncio.sleep(0.1)
                else:
                    break

    shares = [creates // AT_ONCE + (n < creates % AT_ONCE) for n in range(AT_ONCE)]
    await asyncio.gather(*map(some, shares))
    return asked


async def _all(service: JobWorkerService, asked: list[Instance]) -> list[Instance]:
    found = [await service.get(one.id) for one in asked]
    return [one for one in found if one is not None]


async def _settle(service: JobWorkerService, asked: list[Instance], what: str) -> None:
    """Until nothing is being done and nothing left to be told, or the time is up."""
    started, left, said = time.monotonic(), {one.id for one in asked}, 0.0
    while left and time.monotonic() - started < SETTLED_S:
        for id in tuple(left):
            one = await service.get(id)
            if one is not None and one.operation is None and one.status in _LASTING:
                deliveries = await service.deliveries(id)
                if all(delivery.status != "pending" for delivery in deliveries):
                    left.discard(id)
        passed = time.monotonic() - started
        if passed - said > 10:
            said = passed
            print(f"{passed:5.0f} s after {what}: {len(left)} left", file=sys.stderr, flush=True)
        await asyncio.sleep(0.5)
    for id in left:
        one, deliveries = await service.get(id), await service.deliveries(id)
        print(f"not settled: {one}, {deliveries}", file=sys.stderr)


_LASTING = frozenset({InstanceStatus.READY, InstanceStatus.FAILED})


async def _wrong(
    service: JobWorkerService,
    queue: JobQueueService,
    simulator: Simulator,
    session: aiohttp.ClientSession,
    receiver: Receiver,
    asked: list[Instance],
) -> Any:
    """Whatever breaks P7 or P8."""
    records = {one.id: one for one in await _all(service, asked)}
    for one in asked:
        if one.id not in records:
            yield f"lost: instance {one.id}"
    async with session.get(f"{simulator.control_url}/state") as response:
        state = await response.json()
    billed = {one["id"] for one in state["instances"] if one["status"] != "removed"}
    wanted = {one.novita_instance_id for one in records.values() if _is_ready(one)}
    if not wanted:
        yield "empty: nothing is rented, so that nothing was shown"
    for upstream in sorted(billed - wanted):
        yield f"orphan: {upstream} is billed and nobody wants it"
    for missing in wanted - billed:
        yield f"gone: {missing} is ready and does not exist"
    received: defaultdict[str, int] = defaultdict(int)
    for event in receiver.events:
        received[event["id"]] += event["answer"] < 300
    for id, one in records.items():
        if one.status not in _LASTING:
            yield f"stuck: {id} is {one.status}"
        events = await queue.get_events(subject=id)
        ends = [event.topic for event in events if event.topic in _ENDS]
        if len(ends) != 1:
            yield f"ends: {id} has {ends}"
        for text in _untold(await service.deliveries(id), received):
            yield f"{text} of {id}"


def _is_ready(one: Instance) -> bool:
    return one.status is InstanceStatus.READY


def _untold(deliveries: list[Any], received: dict[str, int]) -> Iterator[str]:
    if [d.sequence for d in deliveries] != [*range(1, len(deliveries) + 1)]:
        yield f"sequence: {[d.sequence for d in deliveries]}"
    for delivery in deliveries:
        if delivery.status != "delivered" or received[delivery.id] < 1:
            yield f"untold: delivery {delivery.id} is {delivery.status}"


def main() -> None:
    """The whole storm; or one of its processes: ``work URL PROVIDER``."""
    if sys.argv[1:2] == ["work"]:
        end_with_the_storm()
        asyncio.run(work(*sys.argv[2:]))
        return
    parser = argparse.ArgumentParser(prog="python -m chaos.provisioning", description=__doc__)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--creates", type=int, default=200, help="instances asked for (200)")
    parser.add_argument("--seed", type=int, default=1, help="of faults and kills (1)")
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        wrong, figures = asyncio.run(
            storm(given.store, creates=given.creates, seed=given.seed, folder=Path(folder))
        )
    print(f"{given.store}, seed {given.seed}, {time.monotonic() - started:.0f} s: {figures}")
    for text in wrong:
        print(f"VIOLATED  {text}")
    if not wrong:
        print("every request ended with one billed GPU or none, and everybody was told")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
