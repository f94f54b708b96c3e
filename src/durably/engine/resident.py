"""How much memory this process holds, as the kernel counts it."""

import os
from pathlib import Path

_STATM = Path("/proc/self/statm")


def resident_bytes(statm: Path = _STATM) -> int | None:
    """Bytes of memory that are resident now; None where the system does not say."""
    try:
        pages = int(statm.read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
