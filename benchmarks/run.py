"""Run the benchmarks: `python -m benchmarks.run [--size bench] [--store NAME] [QUESTION …]`."""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import (
    continuous,
    dashboard,
    enqueue,
    growth,
    idle,
    latency,
    load,
    memory,
    monitors,
    service,
    support,
    throughput,
    writing,
)

MEASURES: dict[str, Any] = {
    "enqueue": enqueue.measure,
    "throughput": throughput.measure,
    "writing": writing.measure,
    "latency": latency.measure,
    "load": load.measure,
    "memory": memory.measure,
    "monitors": monitors.measure,
    "idle": idle.measure,
    "growth": growth.measure,
    "service": service.measure,
    "dashboard": dashboard.measure,
    "continuous": continuous.measure,
    "pinned": continuous.measure_pinned,
}
WHERE = {
    "writing": {"sqlite", "postgres"},
    "dashboard": {"sqlite", "postgres"},
    "continuous": {"sqlite", "postgres"},
    "pinned": {"postgres"},
}
"""Questions that are not asked of every store."""
SIZES: dict[str, dict[str, dict[str, float]]] = {
    "smoke": {
        "enqueue": {"jobs": 200},
        "throughput": {"jobs": 200, "most": 2},
        "writing": {"jobs": 200},
        "latency": {"jobs": 10},
        "load": {"seconds": 0.1},
        "memory": {"pending": 100, "jobs": 1_000},
        "monitors": {"monitors": 50, "interval": 0.1},
        "idle": {"seconds": 0.1},
        "growth": {"pending": 20, "scheduled": 20, "finished": 20, "jobs": 20},
        "service": {"jobs": 20},
        "dashboard": {"jobs": 50, "viewers": 3, "seconds": 0.2},
        "continuous": {"seconds": 0.3},
        "pinned": {"seconds": 0.3},
    },
    "quick": {
        "enqueue": {"jobs": 5_000},
        "throughput": {"jobs": 4_000, "most": 4},
        "writing": {"jobs": 4_000},
        "latency": {"jobs": 50},
        "load": {"seconds": 0.5},
        "memory": {"pending": 5_000, "jobs": 5_000},
        "monitors": {"monitors": 1_000, "interval": 0.5},
        "idle": {"seconds": 1.0},
        "growth": {"pending": 5_000, "scheduled": 5_000, "finished": 10_000, "jobs": 2_000},
        "service": {"jobs": 1_000},
        "dashboard": {"jobs": 5_000, "viewers": 50, "seconds": 2.0},
        "continuous": {"seconds": 1.2},
        "pinned": {"seconds": 1.2},
    },
    "bench": {
        "enqueue": {"jobs": 20_000},
        "throughput": {"jobs": 20_000, "most": 8},
        "writing": {"jobs": 20_000},
        "latency": {"jobs": 200},
        "load": {"seconds": 2.0},
        "memory": {"pending": 50_000, "jobs": 50_000},
        "monitors": {"monitors": 5_000, "interval": 2.0},
        "idle": {"seconds": 5.0},
        "growth": {"pending": 50_000, "scheduled": 50_000, "finished": 100_000, "jobs": 10_000},
        "service": {"jobs": 10_000},
        "dashboard": {"jobs": 50_000, "viewers": 200, "seconds": 5.0},
        "continuous": {"seconds": 6.0},
        "pinned": {"seconds": 6.0},
    },
    "long": {
        "enqueue": {"jobs": 100_000},
        "throughput": {"jobs": 60_000, "most": 8},
        "writing": {"jobs": 60_000},
        "latency": {"jobs": 1_000},
        "load": {"seconds": 20.0},
        "memory": {"pending": 1_000_000, "jobs": 1_000_000},
        "monitors": {"monitors": 100_000, "interval": 30.0},
        "idle": {"seconds": 60.0},
        "growth": {"pending": 10**6, "scheduled": 10**6, "finished": 5 * 10**6, "jobs": 40_000},
        "service": {"jobs": 40_000},
        "dashboard": {"jobs": 10**6, "viewers": 200, "seconds": 30.0},
        "continuous": {"seconds": 60.0},
        "pinned": {"seconds": 300.0},
    },
}  # fmt: skip
"""How much of each question; `long` has the sizes of the promises."""
REPETITIONS = {"smoke": 1, "quick": 1, "bench": 3, "long": 3}


def main() -> None:
    """Ask every question of every store and save the answers."""
    options = _options()
    support.end_in_good_order()
    begun = time.monotonic()
    repetitions = options.repetitions or REPETITIONS[options.size]
    answers: dict[str, Any] = {}
    with support.stores() as urls:
        for question in options.question or list(MEASURES):
            asked = WHERE.get(question, set(urls)) & set(options.store or urls)
            answers[question] = support.ask(
                partial(MEASURES[question], **SIZES[options.size][question]),
                {name: url for name, url in urls.items() if name in asked},
                repetitions=repetitions,
                told=partial(support.show, question),
            )
    settings = {"size": options.size, "repetitions": repetitions, "sizes": SIZES[options.size]}
    print(f"{time.monotonic() - begun:.0f} s; saved {support.save(answers, options.out, settings)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="bench")
    parser.add_argument("--repetitions", type=int, help="of each, interleaved over the stores")
    parser.add_argument("--store", action="append", choices=["memory", "sqlite", "postgres"])
    parser.add_argument(
        "--out", type=Path, default=support.RESULTS / "local", help="folder of the results"
    )
    parser.add_argument("question", nargs="*", help=f"of {', '.join(MEASURES)}; all")
    options = parser.parse_args()
    if unknown := set(options.question) - set(MEASURES):
        parser.error(f"unknown question {min(unknown)!r}; known: {', '.join(MEASURES)}")
    return options


if __name__ == "__main__":
    main()
