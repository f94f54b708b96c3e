"""A simulator of the Novita v1 GPU API: real HTTP on loopback, with faults and a billing meter.

It keeps everything in memory and rents nothing; a restart forgets all instances.
"""

from durably.instances.simulator.faults import Fault, parse_fault
from durably.instances.simulator.server import Simulator, serve
from durably.instances.simulator.settings import SimulatorSettings, StatusDurations, load_settings

__all__ = [
    "Fault",
    "Simulator",
    "SimulatorSettings",
    "StatusDurations",
    "load_settings",
    "parse_fault",
    "serve",
]
