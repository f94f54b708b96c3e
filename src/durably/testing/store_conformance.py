"""What every store must do, as tests: the sentences of `durably.store`, on a clock that stands still.

Written for pytest with pytest-asyncio, which only this module (and its parts) need.
"""

import pytest

from durably.testing.conformance.acting import Acting
from durably.testing.conformance.attempts import Attempts
from durably.testing.conformance.claiming import Claiming
from durably.testing.conformance.control import Control
from durably.testing.conformance.copying import Copying
from durably.testing.conformance.lineage import Lineage
from durably.testing.conformance.producing import Producing
from durably.testing.conformance.reading import Reading
from durably.testing.conformance.records import Records
from durably.testing.conformance.searching import Searching
from durably.testing.conformance.workers import Workers


@pytest.mark.asyncio
class StoreConformance(
    Producing,
    Claiming,
    Attempts,
    Workers,
    Control,
    Acting,
    Records,
    Reading,
    Searching,
    Lineage,
    Copying,
):
    """The behaviour that users of `durably.store.Store` rely on.

    Subclass it as ``TestMyStore`` with two fixtures: ``clock``, a `durably.testing.VirtualClock`,
    and ``store``, an open, empty store that takes its time from it. No test depends on another, so
    each needs a store of its own. What a store does not offer according to its `Capabilities` is
    skipped. Let pytest explain failures with
    ``pytest.register_assert_rewrite("durably.testing.conformance")`` in ``conftest.py``.
    """
