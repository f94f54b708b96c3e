"""For tests: a virtual clock, a fault-injecting store, waiting for events.

`durably.testing.store_conformance` is for authors of stores; it alone needs pytest.
"""

from durably.testing.clock import VirtualClock
from durably.testing.events import capture, until
from durably.testing.faults import (
    Call,
    Fault,
    FaultyStore,
    Plan,
    SimulatedCrash,
    at_random,
    on_call,
)

__all__ = [
    "Call",
    "Fault",
    "FaultyStore",
    "Plan",
    "SimulatedCrash",
    "VirtualClock",
    "at_random",
    "capture",
    "on_call",
    "until",
]
