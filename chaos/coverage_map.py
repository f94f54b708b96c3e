"""Which test runs which lines of the protocol code, and for how long: a pytest plugin writes it down.

``pytest -p chaos.coverage_map`` writes JSON to the file that ``COVERAGE_MAP`` names.
"""

import json
import os
import re
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("domain", "engine", "stores")
HANGS_S = 20
"""A test that takes longer is taken for hung; those that come near it are not used."""


class CoverageMap:
    """What was recorded: which tests run a line."""

    def __init__(self, recorded: dict[str, Any]) -> None:
        self._seconds: dict[str, float] = recorded["seconds"]
        self._tests = list(self._seconds)
        self._lines: dict[str, dict[str, list[int]]] = recorded["lines"]
        self._texts = {file: (ROOT / file).read_text().splitlines() for file in self._lines}

    def tests(
        self, file: str, lines: range, names: Iterable[str], budget: float
    ) -> Iterator[list[str]]:
        """Of these lines, and of those with these names; PostgreSQL's last.

        An import runs a line once, in the test that happens to be the first.
        """
        found = self._covering(file, lines)
        found |= {test for name in names for test in self._using(name)}
        if not found:
            found = self._covering(file, range(len(self._texts.get(file, ())) + 1))
        for wanted in (False, True):
            some = [test for test in found if ("postgres" in test.lower()) is wanted]
            yield self._within(sorted(some, key=self._seconds.__getitem__), budget)

    def some(self, count: int) -> list[str]:
        """So many short tests, of all stores."""
        short = sorted(test for test in self._tests if self._seconds[test] < 1)
        return short[:: max(1, len(short) // count)]

    def _covering(self, file: str, lines: Iterable[int]) -> set[str]:
        by_line = self._lines.get(file, {})
        return {self._tests[test] for line in lines for test in by_line.get(str(line), ())}

    def _using(self, name: str) -> Iterator[str]:
        word = re.compile(rf"\b{re.escape(name)}\b")
        for file, texts in self._texts.items():
            for number, text in enumerate(texts, 1):
                if word.search(text):
                    yield from self._covering(file, [number])

    def _within(self, tests: list[str], budget: float) -> list[str]:
        chosen, spent = [], 0.0
        for test in tests:
            spent += self._seconds[test]
            if spent > budget or self._seconds[test] > HANGS_S / 4:
                break
            chosen.append(test)
        return chosen or [test for test in tests[:1] if self._seconds[test] < HANGS_S / 2]


class Recorder:
    """Measures with one context a test."""

    def __init__(self) -> None:
        measured = [f"{ROOT}/src/durably/{part}/*" for part in PARTS]
        self._coverage = coverage.Coverage(data_file=None, config_file=False, include=measured)
        self._coverage.start()
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """One test, from its fixtures to their end."""
        self._coverage.switch_context(item.nodeid)
        began = time.monotonic()
        try:
            return (yield)
        finally:
            self._seconds[item.nodeid] = time.monotonic() - began
            self._coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that fails without any change, say because it is measured, proves nothing."""
        if report.outcome != "passed":
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write what was seen; a line that only the import runs has no tests."""
        self._coverage.stop()
        data = self._coverage.get_data()
        passed = [test for test in self._seconds if test not in self._failed]
        numbers = {test: number for number, test in enumerate(passed)}
        lines = {
            str(Path(file).relative_to(ROOT)): {
                line: [numbers[test] for test in tests if test in numbers]
                for line, tests in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }
        seen = {"seconds": {test: self._seconds[test] for test in passed}, "lines": lines}
        Path(os.environ["COVERAGE_MAP"]).write_text(json.dumps(seen))


def pytest_configure(config: pytest.Config) -> None:
    """Begin to measure before anything of ours is imported."""
    config.pluginmanager.register(Recorder())
