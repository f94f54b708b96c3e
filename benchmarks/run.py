"""Run the benchmarks: `python benchmarks/run.py [--quick] [--store NAME] [QUESTION …]`."""

import argparse
from functools import partial
from pathlib import Path

import continuous
import enqueue
import idle
import latency
import service
import support
import throughput


def main() -> None:
    """Ask every question of every store and save the answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small repetition of each")
    parser.add_argument("--store", action="append", choices=list(support.stores()))
    parser.add_argument("--out", type=Path, default=support.RESULTS, help="folder of the results")
    parser.add_argument("question", nargs="*", help="enqueue, throughput, …: all")
    options = parser.parse_args()
    small = options.quick
    questions: dict[str, support.Measure] = {
        "enqueue": partial(enqueue.measure, jobs=2_000 if small else 40_000),
        "throughput": partial(throughput.measure, jobs=2_000 if small else 40_000),
        "latency": partial(latency.measure, jobs=30 if small else 300),
        "idle": partial(idle.measure, seconds=0.5 if small else 5.0),
        "service": partial(service.measure, jobs=500 if small else 20_000),
        "continuous": partial(continuous.measure, seconds=0.6 if small else 60.0),
        "pinned": partial(continuous.measure, seconds=0.6 if small else 60.0, pinned=True),
    }
    where = {"continuous": {"sqlite", "postgres"}, "pinned": {"postgres"}}
    wanted = options.question or list(questions)
    if unknown := set(wanted) - set(questions):
        parser.error(f"unknown question {min(unknown)!r}; known: {', '.join(questions)}")
    only = options.store or list(support.stores())
    answers = {
        name: support.run(
            name,
            questions[name],
            repetitions=1 if small else 5,
            only=[store for store in only if store in where.get(name, only)],
        )
        for name in wanted
    }
    print("saved", support.save(answers, options.out))


if __name__ == "__main__":
    main()
