"""What goes wrong, drawn from a seed: one fault after the other, some of them at the same time."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import IO

from chaos.history import History
from chaos.places import Place
from chaos.proxy import Proxy

Fault = Callable[["Nemesis"], Coroutine[None, None, None]]


class Victim:
    """One process of the fleet, and what stands between it and the store.

    Args:
        role: ``worker`` or ``producer``.
        command: starts it, given the store's URL.
        url: of the store, as this process reaches it.
        log: for what it writes to its standard error.
    """

    def __init__(
        self, role: str, command: Callable[[str, str], list[str]], url: str, log: IO[bytes]
    ) -> None:
        self.role = role
        self._command = command
        self._url = url
        self._log = log
        self.proxy: Proxy | None = None
        self.busy = False
        """Whether a fault strikes it."""
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it, for the first time or again."""
        command = self._command(self.role, self._url)
        self._process = await asyncio.create_subprocess_exec(*command, stderr=self._log)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        assert self._process is not None
        if self._process.returncode is None:
            os.kill(self.pid, number)

    async def ended(self, patience_s: float = 30.0) -> int:
        """Its exit code; killed when it does not end."""
        assert self._process is not None
        try:
            async with asyncio.timeout(patience_s):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise


class Nemesis:
    """Strikes the fleet.

    Args:
        fleet: workers and producers.
        lease_s: the workers' lease.
    """

    def __init__(
        self, place: Place, fleet: list[Victim], history: History, random: Random, lease_s: float
    ) -> None:
        self.place = place
        self.random = random
        self.lease_s = lease_s
        self.fleet = fleet
        self._history = history
        self._striking: set[asyncio.Task[None]] = set()
        self._faults = [*_ALWAYS, *(_WITH_SERVER if place.port else _WITH_FILE)]
        if place.disk is not None:
            self._faults.append(disk_full)
        self._due: list[Fault] = []

    async def rage(self, until: asyncio.Event) -> None:
        """Strike until told to stop; returns when everything is healed and runs."""
        async with asyncio.TaskGroup() as strikes:
            while not until.is_set():
                if not self._due:
                    self._due = self.random.sample(self._faults, len(self._faults))
                strikes.create_task(self._due.pop()(self))
                await asyncio.sleep(self.random.uniform(0.3, 2.0))

    @asynccontextmanager
    async def victim(self, *roles: str) -> AsyncIterator[Victim | None]:
        """One that no other fault strikes; None when there is none."""
        free = [one for one in self.fleet if one.role in roles and not one.busy]
        # Somebody must be left to go on, else nothing could be said about recovery.
        if len(free) < 2:
            yield None
            return
        victim = self.random.choice(free)
        victim.busy = True
        try:
            yield victim
        finally:
            victim.busy = False

    @asynccontextmanager
    async def noted(self, kind: str, pid: int = 0) -> AsyncIterator[None]:
        """The fault stands in the history for as long as it lasts."""
        self._history.say("fault", how=kind, pid=pid)
        try:
            yield
        finally:
            self._history.say("healed", how=kind, pid=pid)

    async def last(self, least_s: float, most_s: float) -> None:
        """Let it go on for a while."""
        await asyncio.sleep(self.random.uniform(least_s, most_s))


async def kill(nemesis: Nemesis) -> None:
    """`kill -9`; started again soon."""
    async with nemesis.victim("worker", "producer") as victim:
        if victim is None:
            return
        async with nemesis.noted("kill", victim.pid):
            victim.send(signal.SIGKILL)
            await victim.ended()
        await nemesis.last(0.0, 1.0)
        await victim.start()


async def terminate(nemesis: Nemesis) -> None:
    """SIGTERM, as at a deployment; started again."""
    async with nemesis.victim("worker") as victim:
        if victim is None:
            return
        async with nemesis.noted("terminate", victim.pid):
            victim.send(signal.SIGTERM)
            await victim.ended()
        await victim.start()


async def stop(nemesis: Nemesis) -> None:
    """SIGSTOP, for less than a lease or for longer; then it goes on as if nothing had been."""
    async with nemesis.victim("worker", "producer") as victim:
        if victim is None:
            return
        async with nemesis.noted("stop", victim.pid):
            victim.send(signal.SIGSTOP)
            await nemesis.last(0.2 * nemesis.lease_s, 2.0 * nemesis.lease_s)
            victim.send(signal.SIGCONT)


async def clock(nemesis: Nemesis) -> None:
    """Somebody sets the machine's clock by an hour, and right again."""
    ahead = nemesis.random.random() < 0.5
    async with nemesis.noted("clock ahead" if ahead else "clock back"):
        # One machine has one clock.
        for victim in nemesis.fleet:
            victim.send(signal.SIGUSR1 if ahead else signal.SIGUSR2)
        await nemesis.last(0.5, 2.0)
        for victim in nemesis.fleet:
            victim.send(signal.SIGHUP)


async def hog(nemesis: Nemesis) -> None:
    """Somebody else keeps the store locked."""
    async with nemesis.noted("hog"):
        try:
            await nemesis.place.hog(nemesis.random.uniform(0.2, 2.0))
        except Exception:  # noqa: BLE001  # another fault was quicker
            return


async def disk_full(nemesis: Nemesis) -> None:
    """No room on the disk, for a while."""
    disk = nemesis.place.disk
    assert disk is not None
    async with nemesis.noted("disk full"):
        await asyncio.to_thread(disk.fill)
        await nemesis.last(0.3, 2.0)
        disk.free()
        # A server that could not write its log has given up.
        await nemesis.place.revive()


async def restart(nemesis: Nemesis) -> None:
    """The server stops at once, and starts again."""
    async with nemesis.noted("restart"):
        await nemesis.place.restart()
        await nemesis.place.revive()


async def end_sessions(nemesis: Nemesis) -> None:
    """The server ends some sessions."""
    async with nemesis.noted("ended sessions"):
        try:
            await nemesis.place.end_sessions(nemesis.random.randrange(1, 6))
        except Exception:  # noqa: BLE001  # another fault was quicker
            return


async def stall(nemesis: Nemesis) -> None:
    """Nothing passes between a process and the server, for less than a lease or for longer."""
    async with nemesis.victim("worker", "producer") as victim:
        if victim is None or victim.proxy is None:
            return
        async with nemesis.noted("stall", victim.pid):
            victim.proxy.stall()
            await nemesis.last(0.2 * nemesis.lease_s, 2.0 * nemesis.lease_s)
            victim.proxy.flow()


async def half_open(nemesis: Nemesis) -> None:
    """The server's side of the connections is gone, and the process is not told for a while."""
    async with nemesis.victim("worker", "producer") as victim:
        if victim is None or victim.proxy is None:
            return
        async with nemesis.noted("half-open", victim.pid):
            victim.proxy.stall()
            victim.proxy.cut_far()
            await nemesis.last(0.5, nemesis.lease_s)
            victim.proxy.cut()
            victim.proxy.flow()


async def cut(nemesis: Nemesis) -> None:
    """Every connection of a process is reset."""
    async with nemesis.victim("worker", "producer") as victim:
        if victim is None or victim.proxy is None:
            return
        async with nemesis.noted("cut", victim.pid):
            victim.proxy.cut()


async def lose_reply(nemesis: Nemesis) -> None:
    """The server commits, and the process is not told."""
    async with nemesis.victim("worker", "producer") as victim:
        if victim is None or victim.proxy is None:
            return
        async with nemesis.noted("lost reply", victim.pid):
            victim.proxy.swallow()
            await nemesis.last(0.3, 0.6)
            victim.proxy.swallow(0)


_ALWAYS: tuple[Fault, ...] = (kill, kill, kill, terminate, stop, clock, hog)
_WITH_FILE: tuple[Fault, ...] = ()
_WITH_SERVER: tuple[Fault, ...] = (restart, end_sessions, stall, half_open, cut, lose_reply)
