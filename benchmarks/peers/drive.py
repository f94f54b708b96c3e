"""One process of a measurement: `python -m benchmarks.peers.drive PEER PLACE TALLY VERB [NUMBER]`.

It runs in the peer's environment, so that it imports nothing but the adapter.
"""

import asyncio
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.peers.protocol import SETTLER, Payload, Peer, Tally

PRODUCERS = 32
PAUSE_S = 0.02
STAMPED = 200
FED = 4_000
"""So many jobs the feeder keeps waiting."""


def payload(due: float = 0.0) -> Payload:
    """About 100 bytes of JSON."""
    return {"i": 1, "t": due, "pad": "x" * 72}


async def add_single(peer: Peer, jobs: int) -> float:
    """Seconds to add *jobs* one after the other."""
    began = time.monotonic()
    for _ in range(jobs):
        await peer.add(payload())
    return time.monotonic() - began


async def add_concurrent(peer: Peer, jobs: int) -> float:
    """Seconds for 32 producers that share *jobs*."""
    left = iter(range(jobs))

    async def produce() -> None:
        for _ in left:
            await peer.add(payload())

    began = time.monotonic()
    await asyncio.gather(*(produce() for _ in range(PRODUCERS)))
    return time.monotonic() - began


async def add_bulk(peer: Peer, jobs: int) -> float:
    """Seconds to add *jobs* as many at a time as the peer's documentation advises."""
    assert peer.bulk is not None
    began = time.monotonic()
    for start in range(0, jobs, peer.bulk):
        await peer.add_many([payload() for _ in range(min(peer.bulk, jobs - start))])
    return time.monotonic() - began


async def add_slowly(peer: Peer, jobs: int) -> None:
    """One job each 20 ms, stamped."""
    for _ in range(jobs):
        await peer.add(payload(time.monotonic()))
        await asyncio.sleep(PAUSE_S)


async def feed(peer: Peer, seconds: int, tally: Tally) -> None:
    """Keep some thousand jobs waiting."""
    assert peer.bulk is not None
    batch, added, end = min(peer.bulk, 500), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        if added - tally.done < FED:
            await peer.add_many([payload() for _ in range(batch)])
            added += batch
        else:
            await asyncio.sleep(0.002)


async def settle(peer: Peer, jobs: int, tally: Tally) -> float:
    """Seconds from the first start of a job until no job is without its end."""
    tally.ready(SETTLER)
    while tally.done < jobs:
        await asyncio.sleep(0.002)
    while await peer.unfinished():
        await asyncio.sleep(0.002)
    return time.monotonic() - tally.began


async def within(peer: Peer, jobs: int, tally: Tally) -> dict[str, float]:
    """Everything in this one process, for a queue in memory."""
    adding = await add_single(peer, jobs)
    worker = asyncio.get_running_loop().create_task(peer.work(tally.handler(0)))
    ending = await settle(peer, jobs, tally)
    stamped = min(STAMPED, max(20, jobs // 100))
    await add_slowly(peer, stamped)
    while tally.done < jobs + stamped:
        await asyncio.sleep(0.01)
    worker.cancel()
    await asyncio.wait([worker])
    return {"single": adding, "process": ending}


async def work(peer: Peer, worker: int, tally: Tally) -> None:
    """Run jobs until this process is ended."""
    tally.ready(worker)
    tally.wait_for_go()
    await peer.work(tally.handler(worker))


async def drive(peer: Peer, tally: Tally, verb: str, number: int) -> Any:
    """Do what *verb* says."""
    if verb == "prepare":
        return await peer.prepare()
    await peer.open()
    try:
        match verb:
            case "single":
                return await add_single(peer, number)
            case "concurrent":
                return await add_concurrent(peer, number)
            case "bulk":
                return await add_bulk(peer, number)
            case "slowly":
                return await add_slowly(peer, number)
            case "feed":
                return await feed(peer, number, tally)
            case "settle":
                return await settle(peer, number, tally)
            case "within":
                return await within(peer, number, tally)
            case "work":
                return await work(peer, number, tally)
            case _:
                raise ValueError(f"unknown verb {verb!r}")
    finally:
        await peer.close()


def main() -> None:
    """Make the peer, do one thing, print its answer as JSON."""
    name, place, tally, verb, number = sys.argv[1:]
    module, _, kind = name.partition(":")
    made: Peer = getattr(import_module(f"benchmarks.peers.{module}"), kind)(place)
    with asyncio.Runner(loop_factory=_loop()) as runner:
        print(json.dumps(runner.run(drive(made, Tally(Path(tally)), verb, int(number)))))
    sys.stdout.flush()
    os._exit(0)  # threads of consumers would keep the process


def _loop() -> Any:
    from uvloop import new_event_loop

    return new_event_loop


if __name__ == "__main__":
    main()
