"""The heartbeat: when it renews, and when it gives up before somebody else may take the jobs."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from durably import SystemClock
from durably.domain.clock import Ticker
from durably.engine.heartbeat import Heartbeat
from durably.engine.resident import resident_bytes
from durably.stores.memory import MemoryStore


class _Hand:
    """A ticker that the test turns itself."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True


class _Clock(SystemClock):
    """It stands at `at`."""

    def __init__(self) -> None:
        self.at = 100.0
        self.hands: list[_Hand] = []

    def monotonic(self) -> float:
        return self.at

    def every(self, seconds: float, call: Callable[[], None], name: str) -> Ticker:
        self.hands.append(_Hand(seconds))
        return self.hands[-1]


class Scene(MemoryStore):
    """A heartbeat of a lease of ten seconds, its store, and what it has done."""

    def __init__(self) -> None:
        super().__init__()
        self.time = _Clock()
        self.renewed: list[float] = []
        self.memory: int | None = None
        self.lost = 0
        self.watched = 0
        self.answer: Callable[[], bool] = lambda: True
        self.heart = Heartbeat(self, self.time, 7, 10.0, self._lose, self._look)

    def _lose(self) -> None:
        self.lost += 1

    def _look(self) -> None:
        self.watched += 1

    def renew(self, worker: int, memory_bytes: int | None = None) -> bool:
        assert worker == 7
        self.memory = memory_bytes
        self.renewed.append(self.time.at)
        return self.answer()

    def beat(self, *moments: float) -> None:
        for self.time.at in moments:
            self.heart.beat()
            self.heart.watch()


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.heart.claimed(100.0)
    return scene


def test_it_looks_every_tenth_of_the_lease_until_it_is_stopped(scene: Scene) -> None:
    """From two threads, one of which watches the other."""
    scene.heart.stop()

    assert [hand.seconds for hand in scene.time.hands] == [1.0, 1.0]
    assert [hand.stopped for hand in scene.time.hands] == [True, True]


def test_it_renews_after_a_third_of_the_lease(scene: Scene) -> None:
    """Not at each beat; counted from the last renewal."""
    scene.beat(101.0, 103.3, 103.4, 106.7, 106.8)

    assert scene.renewed == [103.4, 106.8]
    assert (scene.lost, scene.watched) == (0, 5)


def test_it_says_how_much_memory_the_process_holds(scene: Scene) -> None:
    """With each renewal, in bytes: more than a bare interpreter needs."""
    scene.beat(104.0)

    assert scene.memory is not None
    assert 5_000_000 < scene.memory < 1_000_000_000_000


def test_it_says_nothing_of_memory_where_the_system_does_not(tmp_path: Path) -> None:
    """Without the kernel's file, or with another one in its place."""
    strange = tmp_path / "statm"
    strange.write_text("one\n")

    assert resident_bytes(tmp_path / "none") is None
    assert resident_bytes(strange) is None


def test_it_rests_while_nothing_is_held(scene: Scene) -> None:
    """It neither renews nor looks at the event loop, and its age is none."""
    scene.heart.idle()
    scene.beat(104.0, 200.0)

    assert (scene.renewed, scene.watched, scene.heart.age()) == ([], 0, 0.0)


def test_the_first_claim_after_a_rest_is_soon_renewed() -> None:
    """The store may have left it two thirds of the lease only."""
    scene = Scene()
    scene.time.at = 500.0
    scene.heart.claimed(500.0)
    assert scene.heart.age() == pytest.approx(10 / 3)
    scene.beat(500.1)

    assert scene.renewed == [500.1]


def test_a_late_answer_to_a_claim_does_not_shorten_what_is_left(scene: Scene) -> None:
    """A renewal since then stays."""
    scene.beat(103.4)
    scene.heart.claimed(103.5)

    assert scene.heart.age() == 0.0


def test_a_lost_registration_is_told_at_once(scene: Scene) -> None:
    """The store says that it has ended: it does not count as renewed."""
    scene.answer = lambda: False
    scene.beat(103.4)

    assert scene.lost == 1
    assert scene.heart.age() == pytest.approx(3.4)


def test_it_tries_again_and_gives_up_before_the_lease_ends(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """At nine tenths, when no renewal has come through; each failure is logged."""

    def fail() -> bool:
        raise OSError("no store")

    scene.answer = fail
    scene.beat(103.4, 108.9)
    assert scene.lost == 0
    scene.beat(109.0)

    assert scene.lost == 1
    assert [r.levelno for r in caplog.records] == [logging.ERROR] * 3


def test_a_renewal_that_hangs_is_given_up_in_time(scene: Scene) -> None:
    """The other thread sees that it was asked long ago and that the lease runs out."""
    lost: list[int] = []

    def hang() -> bool:
        for scene.time.at in (104.3, 108.9, 109.0):
            scene.heart.watch()
            lost.append(scene.lost)
        return True

    scene.answer = hang
    scene.beat(103.4)

    assert lost == [0, 0, 1]


def test_a_renewal_that_has_just_begun_may_be_in_time(scene: Scene) -> None:
    """The machine slept past the lease, and nobody has taken the jobs: they go on."""

    def answer() -> bool:
        scene.time.at += 0.9
        scene.heart.watch()
        return True

    scene.answer = answer
    scene.beat(150.0)
    scene.heart.watch()

    assert scene.lost == 0
    assert scene.heart.age() == pytest.approx(0.9)
