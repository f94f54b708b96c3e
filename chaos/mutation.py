"""Small changes of the protocol code, each put into a copy of the project: does a test fail?

``python -m chaos.mutation --sample 250 --seed 1`` draws that many of all mutants of the domain, the
engine and the stores, says which survive, and the share that is killed with its 95 % interval. For each
the tests that run the changed line are run, the shortest first, as many as fit ``--budget`` seconds by
their recorded time: in memory and on SQLite, then on PostgreSQL. A test that hangs counts as failed.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from chaos.copies import copy_project
from chaos.coverage_map import HANGS_S, PARTS, ROOT, CoverageMap
from chaos.mutants import Mutant, mutants_of
from chaos.verdicts import Verdict, killed_before, plain, summary

MAP = ROOT / ".mutation.json"
_TESTS = tuple(f"tests/{name}" for name in ("unit", "stores", "engine", "faults", "simulation"))
_LEFT_OUT = ("__init__.py", "errors.py")
_AS_COMPILED = {"PYTHONDONTWRITEBYTECODE": "1"}
"""What is compiled is of the files as they were: a changed one is newer and is compiled each time."""
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


def files() -> list[str]:
    """What is mutated."""
    found = [path for part in PARTS for path in (ROOT / "src/durably" / part).rglob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in found if path.name not in _LEFT_OUT)


def draw(size: int, seed: int, only: str = "") -> tuple[list[Mutant], int]:
    """A sample without repetition, and of how many."""
    every = [one for file in files() if file.startswith(only) for one in mutants_of(ROOT, file)]
    order = random.Random(seed).sample(every, len(every))
    sample: list[Mutant] = []
    for mutant in order:
        if len(sample) == size:
            break
        if mutant.compiles():
            sample.append(mutant)
    return sample, len(every)


def pytest(folder: Path, *options: str, **environment: str) -> tuple[int, str]:
    """Run it in a copy; the exit code and what was printed."""
    (folder / "tmp").mkdir(exist_ok=True)
    # Importing every plugin that is installed takes longer than most of the tests.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pytest_asyncio.plugin"]
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--tb=native", *options],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": f"{folder / 'src'}:{folder}",
            "TMPDIR": str(folder / "tmp"),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    _stop_servers(folder / "tmp")
    return done.returncode, done.stdout


def _stop_servers(folder: Path) -> None:
    """Of tests that hung: nobody else stops them."""
    for file in folder.glob("durably-pg-*/data/postmaster.pid"):
        with contextlib.suppress(ProcessLookupError, ValueError, IndexError):
            os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)
    shutil.rmtree(folder, ignore_errors=True)


def record() -> None:
    """Write the map."""
    with tempfile.TemporaryDirectory(prefix="durably-mutation-") as name:
        Path(name).chmod(0o755)  # PostgreSQL runs as another user and has its data within
        copy = Path(name, "copy")
        copy_project(copy)
        code, output = pytest(copy, "-p", "chaos.coverage_map", *_TESTS, COVERAGE_MAP=str(MAP))
    if not MAP.exists():
        sys.exit(f"pytest ended with {code}:\n{output[-3000:]}")


def judge(folder: Path, mutant: Mutant, stages: Iterable[list[str]]) -> Verdict:
    """Put *mutant* into the copy, run its tests until one fails, and take it out again."""
    place, count = folder / mutant.file, 0
    place.write_text(mutant.code)
    try:
        for tests in stages:
            count += len(tests)
            if tests and (killer := _first_failure(folder, tests, **_AS_COMPILED)):
                return Verdict(mutant, killer, count)
    finally:
        place.write_text(mutant.module.code)
    return Verdict(mutant, "", count)


def _first_failure(folder: Path, tests: list[str], **environment: str) -> str:
    hung = (f"-ofaulthandler_timeout={HANGS_S}", "-ofaulthandler_exit_on_timeout=true")
    (folder / "chosen").write_text("\n".join(tests))
    where = sorted({test.partition("::")[0] for test in tests})
    code, output = pytest(folder, "-x", "-p", "chaos.chosen", *hung, *where, **environment)
    if code in (0, 5):  # all passed, or none of them is there any more
        return ""
    failed = _FAILED.search(output)
    return failed[1] if failed else "a hung test" if "Timeout (" in output else "the import"


def run(sample: list[Mutant], recorded: CoverageMap, budget: float, jobs: int) -> Iterator[Verdict]:
    """Judge each; a copy of the project a job."""
    free: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="durably-mutation-") as name:
        Path(name).chmod(0o755)  # PostgreSQL runs as another user and has its data within
        for job in range(jobs):
            copy_project(Path(name, str(job)))
            free.put(Path(name, str(job)))
            # It also compiles what no mutant changes.
            if failed := _first_failure(Path(name, str(job)), recorded.some(60)):
                sys.exit(f"this fails without any change: {failed}")

        def one(mutant: Mutant) -> Verdict:
            tests = recorded.tests(mutant.file, mutant.lines, mutant.names, budget)
            folder = free.get()
            try:
                return judge(folder, mutant, tests)
            finally:
                free.put(folder)

        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(one, sample)


def main() -> None:
    """Draw, judge, and say what survives."""
    parser = argparse.ArgumentParser(prog="python -m chaos.mutation", description=__doc__)
    parser.add_argument("--sample", type=int, default=250, help="how many mutants")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--only", default="", help="a file or folder: src/durably/domain")
    parser.add_argument("--budget", type=float, default=20, help="seconds of tests for each, twice")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once")
    parser.add_argument("--record", action="store_true", help="measure anew which test runs what")
    parser.add_argument(
        "--again", type=Path, help="a file of --json: judge only what it has not killed"
    )
    parser.add_argument("--json", type=Path, help="where to write every verdict")
    given = parser.parse_args()
    if given.record or not MAP.exists():
        record()
    sample, of = draw(given.sample, given.seed, given.only)
    verdicts = list(killed_before(sample, given.again)) if given.again else []
    known = {id(one.mutant) for one in verdicts}
    left = [one for one in sample if id(one) not in known]
    for one in run(left, CoverageMap(json.loads(MAP.read_text())), given.budget, given.jobs):
        verdicts.append(one)
        killed = sum(bool(each.killer) for each in verdicts)
        print(f"{len(verdicts)} of {len(sample)}, {killed} killed", file=sys.stderr, flush=True)
        if given.json:
            given.json.write_text(json.dumps([plain(each) for each in verdicts], indent=1))
    print(summary(verdicts, of, given.seed))


if __name__ == "__main__":
    main()
