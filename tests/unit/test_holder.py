"""The thread that holds a PostgreSQL store's locks: nobody waits for one that is going."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from durably.domain.errors import StoreClosedError
from durably.stores.postgres.database import address_of
from durably.stores.postgres.holder import Holder

PATIENCE_S = 10


@pytest.fixture
def holder() -> Holder:
    """One that has never been asked to connect."""
    return Holder(address_of("postgresql://nobody@127.0.0.1:1/none"), lambda: "0")


def test_who_calls_while_its_thread_ends_is_refused(
    holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop has stopped, the thread still lives: what it is given would never be done."""
    stopped, may_end = threading.Event(), threading.Event()
    close = holder._loop.close

    def close_slowly() -> None:
        stopped.set()
        may_end.wait(PATIENCE_S)
        close()

    monkeypatch.setattr(holder._loop, "close", close_slowly)
    with ThreadPoolExecutor(1) as others:
        holder.call(holder.close())
        assert stopped.wait(PATIENCE_S)
        late = others.submit(holder.call, holder.renew(1))
        try:
            with pytest.raises(StoreClosedError):
                late.result(PATIENCE_S)
        finally:
            may_end.set()


def test_what_is_under_way_when_it_closes_is_refused(holder: Holder) -> None:
    """Whoever waits for a turn then gets none, and no connection is made any more."""
    with ThreadPoolExecutor(2) as others:
        holder.call(holder._turn.acquire())
        waiting = others.submit(holder.call, holder.renew(1))
        holder.call(holder.close())

        with pytest.raises(StoreClosedError):
            waiting.result(PATIENCE_S)


def test_after_the_end_everything_is_refused(holder: Holder) -> None:
    """At once, and again."""
    holder.call(holder.close())

    for _ in range(3):
        with pytest.raises(StoreClosedError):
            holder.call(holder.hold(1))
