"""The engine in a simulated world: ``python -m chaos.simulate --seeds 1000``.

Several processes, a store and a nemesis share one event loop whose time is virtual and whose order of
tasks is drawn from a seed. A process that is killed never runs another instruction; one that is stopped
runs none for a while; calls of the store fail, are lost, late or doubled. What happened is judged by
the same checker as a real storm. A seed that fails fails again: ``--show SEED`` prints
what happened, one event a line.
"""

import argparse
import asyncio
import heapq
import itertools
import logging
import multiprocessing
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, copy_context
from random import Random
from typing import Any, NamedTuple

import msgspec

from chaos.checker import Final, Verdict, check, emptiness
from chaos.history import Event
from chaos.work import ORDERED, PROMISES, WEIGHTS, Work, new_job
from durably import DurablyError, JobQueueService, RetryPolicy, StoreError
from durably.domain.clock import Ticker
from durably.store import Store
from durably.stores.memory import MemoryStore
from durably.testing import Call, Fault, FaultyStore, at_random

WORKERS = 3
JOBS = 40
STRIKES = 8
SLOTS = 4
LEASE_S = 1.0
DRAIN_S = 120.0
_START_US = 1_767_225_600_000_000
_WEIGHTS = {kind: weight for kind, weight in WEIGHTS.items() if kind != "threaded"} | {"long": 10}
_PROMISES = {
    # There is no SQL in memory.
    kind: msgspec.structs.replace(promise, effects=0)
    for kind, promise in PROMISES.items()
}
_process: ContextVar[int] = ContextVar("process", default=0)
"""Of which simulated process a task or a callback is; 0: of the world around them."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Virtual time, tasks in an order drawn from *random*, and processes that stop or die."""

    _ready: Any
    _scheduled: Any

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._now = 1_000.0
        self.dead: set[int] = set()
        self.frozen: set[int] = set()
        self._held: list[asyncio.Handle] = []
        self._buried: list[asyncio.Handle] = []
        """What dead processes would have done: kept, so that nothing of them is cleaned up."""

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def _write_to_self(self) -> None:
        """Nobody else needs to wake this loop."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]  # plain
        """There is one thread: at once."""
        future = self.create_future()
        future.set_result(func(*args))
        return future

    def thaw(self, process: int) -> None:
        """A stopped process goes on."""
        self.frozen.discard(process)
        held, self._held = self._held, []
        self._ready.extendleft(reversed(held))

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0]._when <= self._now:
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False
            self._ready.append(handle)
        if not self._ready:
            if not self._scheduled:
                raise RuntimeError("nothing is left that could ever happen")
            self._now = self._scheduled[0]._when
            return
        handles = list(self._ready)
        self._ready.clear()
        for handle in self._mixed(handles):
            process = handle._context.get(_process, 0)
            if process in self.dead:
                self._buried.append(handle)
            elif process in self.frozen:
                self._held.append(handle)
            elif not handle._cancelled:
                handle._run()

    def _mixed(self, handles: list[Any]) -> list[Any]:
        """Steps of different tasks in any order; what is promised to be in order stays in order."""
        places = [
            i
            for i, handle in enumerate(handles)
            if isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)
        ]
        order = places[:]
        self._random.shuffle(order)
        mixed = handles[:]
        for place, source in zip(places, order, strict=True):
            mixed[place] = handles[source]
        return mixed


class SimulatedClock:
    """The time of a `SimulatedLoop`."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def now_us(self) -> int:
        """See `Clock.now_us`."""
        return _START_US + int(self._loop.time() * 1e6)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._loop.time()

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        """See `Clock.wait`."""
        if event.is_set():
            return True
        try:
            async with asyncio.timeout(timeout):
                return await event.wait()
        except TimeoutError:
            return event.is_set()

    def every(self, seconds: float, call: Callable[[], None], name: str) -> Ticker:
        """See `Clock.every`: no handler here blocks, so that the loop may call."""
        return _LoopTicker(self._loop, seconds, call)


class _LoopTicker:
    def __init__(self, loop: SimulatedLoop, seconds: float, call: Callable[[], None]) -> None:
        self._loop, self._seconds, self._call = loop, seconds, call
        self._handle = loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._handle = self._loop.call_later(self._seconds, self._tick)
        self._call()

    def stop(self) -> None:
        self._handle.cancel()


class _Book:
    """The history, in memory."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self.events: list[Event] = []

    def say(self, what: str, *, pid: int | None = None, **fields: str | int) -> None:
        who = _process.get() if pid is None else pid
        event: dict[str, Any] = {"t": self._loop.time(), "what": what, "pid": who, **fields}
        self.events.append(Event(**event))


class _Line:
    """What one process reaches the store through."""

    def __init__(self, store: Store, book: _Book, pid: int, random: Random) -> None:
        self._book, self._pid = book, pid
        self._random_fault = at_random(random, 0.03)
        self.down = self.calm = False
        self.store = FaultyStore(store, self._plan)

    def _plan(self, call: Call) -> Fault | None:
        fault = Fault.FAIL_BEFORE if self.down else None
        if fault is None and not self.calm:
            fault = self._random_fault(call)
        if fault is not None:
            self._book.say("fault", how="store", pid=self._pid)
            self._book.say("healed", how="store", pid=self._pid)
        return fault


class _World:
    """The processes of one simulation, and what befalls them."""

    def __init__(self, loop: SimulatedLoop, seed: int) -> None:
        self.loop = loop
        self.random = Random(seed)
        self.book = _Book(loop)
        self.clock = SimulatedClock(loop)
        self.store = MemoryStore(clock=self.clock)
        self.lines: dict[int, _Line] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.ends: dict[int, asyncio.Event] = {}
        self._pids = itertools.count(1)
        self._ids = itertools.count(1)
        self.calm = False

    def start(self, main: Callable[["_World", int], Awaitable[None]]) -> int:
        """A new process."""
        pid = next(self._pids)
        self.lines[pid] = _Line(self.store, self.book, pid, self.random)
        self.lines[pid].calm = self.calm
        self.ends[pid] = asyncio.Event()
        context = copy_context()
        context.run(_process.set, pid)
        self.tasks[pid] = self.loop.create_task(_run(main, self, pid), context=context)
        return pid

    def service(self, pid: int) -> JobQueueService:
        """The queue as a process opens it: its randomness and its ids come from the seed."""
        queue = JobQueueService(
            self.lines[pid].store,
            concurrency=SLOTS,
            lease=LEASE_S,
            processing_interval=0.5,
            queues=("default", ORDERED),
            retry=RetryPolicy(max_attempts=50, base_delay=0.1, max_delay=1.0),
            clock=self.clock,
        )
        queue._random.seed(self.random.random())  # users do not choose it
        queue._drafter._new_id = self._new_id  # nor ids
        return queue

    def _new_id(self) -> str:
        return str(uuid.UUID(int=next(self._ids)))


async def _run(main: Callable[[_World, int], Awaitable[None]], world: _World, pid: int) -> None:
    await main(world, pid)


async def _worker(world: _World, pid: int) -> None:
    work = Work(world.book, Random(world.random.random()), pid=pid, sql=False)
    async with world.service(pid) as queue:
        work.register(queue)
        while not queue.is_processing:
            try:
                await queue.start_processing()
            except DurablyError:
                await asyncio.sleep(0.1)
        await world.ends[pid].wait()
        await queue.shutdown(0.5)


async def _producer(world: _World, pid: int) -> None:
    random = Random(world.random.random())
    async with world.service(pid) as queue:
        for number in range(JOBS):
            key = f"{pid}-{number}"
            new = new_job(random, key, _WEIGHTS)
            world.book.say("adding", key=key)
            try:
                job = await queue.add_job(new.type, new.payload, priority=new.priority)
            except StoreError:
                continue
            world.book.say("accepted", key=key, job=job.id)
            await asyncio.sleep(random.expovariate(15))


# What befalls them

_Strike = Callable[[_World, int], Awaitable[None]]


async def _kill(world: _World, pid: int) -> None:
    world.book.say("fault", how="kill", pid=pid)
    world.loop.dead.add(pid)
    world.book.say("healed", how="kill", pid=pid)
    await asyncio.sleep(world.random.uniform(0, 1))
    world.start(_worker)


async def _stop(world: _World, pid: int) -> None:
    world.book.say("fault", how="stop", pid=pid)
    world.loop.frozen.add(pid)
    await asyncio.sleep(world.random.uniform(0.2, 2) * LEASE_S)
    world.loop.thaw(pid)
    world.book.say("healed", how="stop", pid=pid)


async def _stall(world: _World, pid: int) -> None:
    world.book.say("fault", how="stall", pid=pid)
    world.lines[pid].down = True
    await asyncio.sleep(world.random.uniform(0.2, 2) * LEASE_S)
    world.lines[pid].down = False
    world.book.say("healed", how="stall", pid=pid)


async def _terminate(world: _World, pid: int) -> None:
    world.book.say("fault", how="terminate", pid=pid)
    world.ends[pid].set()
    await asyncio.wait([world.tasks[pid]])
    world.book.say("healed", how="terminate", pid=pid)
    world.start(_worker)


_STRIKES: tuple[_Strike, ...] = (_kill, _stop, _stall, _terminate)


async def _live(world: _World) -> list[Final]:
    """From the first process to the last job."""
    await world.store.open()
    workers = [world.start(_worker) for _ in range(WORKERS)]
    producer = world.start(_producer)
    for _ in range(STRIKES):
        await asyncio.sleep(world.random.expovariate(2))
        # One at a time, so that somebody always can go on.
        pid = world.random.choice(workers)
        await world.random.choice(_STRIKES)(world, pid)
        workers = [pid for pid in world.tasks if pid != producer and _lives(world, pid)]
    await asyncio.wait([world.tasks[producer]])
    world.calm = True
    for line in world.lines.values():
        line.calm = True
    deadline = world.loop.time() + DRAIN_S
    while world.loop.time() < deadline and not await _is_done(world.store):
        await asyncio.sleep(0.1)
    for pid in workers:
        world.ends[pid].set()
    await asyncio.wait([world.tasks[pid] for pid in workers], timeout=DRAIN_S)
    return [
        Final(
            id=job.id,
            type=job.type,
            status=str(job.status),
            key=job.payload.get("key", ""),
            parent=job.payload.get("parent", ""),
            attempts=job.attempts,
            crashes=job.crashes,
            run=job.result or "",
        )
        for job in await world.store.find(limit=100_000)
    ]


def _lives(world: _World, pid: int) -> bool:
    return pid not in world.loop.dead and not world.tasks[pid].done()


async def _is_done(store: Store) -> bool:
    return all(job.status.is_final for job in await store.find(limit=100_000))


class Simulated(NamedTuple):
    """One life of the world."""

    seed: int
    verdict: Verdict
    events: list[Event]


def simulate(seed: int) -> Simulated:
    """One simulation. The same seed gives the same events."""
    loop = SimulatedLoop(Random(seed))
    loop.set_exception_handler(lambda *_: None)
    world = _World(loop, seed)
    try:
        finals = loop.run_until_complete(_live(world))
    finally:
        _bury(loop)
    events = world.book.events
    verdict = check(events, finals, _PROMISES, slots=SLOTS, lease_s=LEASE_S)
    verdict.violations += emptiness(verdict)
    return Simulated(seed, verdict, events)


def _bury(loop: SimulatedLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own switch
    loop.close()


def violations(seed: int) -> tuple[int, list[str]]:
    """A seed, and what it broke."""
    _be_quiet()
    return seed, simulate(seed).verdict.violations


def _be_quiet() -> None:
    logging.disable()
    # What dead processes have left says something when it is thrown away, which is of no interest.
    sys.unraisablehook = lambda _: None


def _show(seed: int) -> None:
    _be_quiet()
    done = simulate(seed)
    for event in done.events:
        print(msgspec.json.encode(event).decode())
    for text in done.verdict.violations:
        print(text, file=sys.stderr)
    sys.exit(bool(done.verdict.violations))


def main() -> None:
    """Simulate many seeds on all cores; exit code 1 when one broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m chaos.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many (1,000)")
    parser.add_argument("--first", type=int, default=1, help="the first one (1)")
    parser.add_argument("--show", type=int, metavar="SEED", help="print the events of one seed")
    given = parser.parse_args()
    if given.show is not None:
        _show(given.show)
    started, broken = time.perf_counter(), 0
    with multiprocessing.Pool() as pool:
        seeds = range(given.first, given.first + given.seeds)
        for seed, found in pool.imap_unordered(violations, seeds, chunksize=8):
            broken += bool(found)
            for text in found:
                print(f"seed {seed}: {text}", flush=True)
    seconds = time.perf_counter() - started
    rate = 60 * given.seeds / seconds
    print(f"{given.seeds} seeds in {seconds:.1f} s ({rate:,.0f} a minute): {broken} broken")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
