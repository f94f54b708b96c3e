"""What the house style asks of the tree and a linter cannot see."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TEST_FILES = sorted((ROOT / "tests").rglob("test_*.py"))


def _tests(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if name.startswith("test_"):
                    yield node
            case _:
                pass


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_test_states_its_expectation(path: Path) -> None:
    """Each test function has a docstring."""
    missing = [node.name for node in _tests(path) if ast.get_docstring(node) is None]

    assert [] == missing


def test_the_architecture_names_only_files_that_exist() -> None:
    """ARCHITECTURE.md does not drift: every path in it is there."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`((?:src|tests|docs|benchmarks|chaos)/[\w/.]+)`", text)

    assert named
    assert [] == [name for name in named if not (ROOT / name).exists()]


def test_nothing_names_a_registry_or_an_absolute_path() -> None:
    """The tree works anywhere: no registry host, no path of one machine."""
    hosts = "pypi" + r"\.org|python" + r"hosted|npm" + r"js\.|deb\." + "debian"
    pattern = re.compile(hosts + r"|/work" + "/|/root" + "/")
    tracked = [*ROOT.glob("*.md"), *ROOT.glob("*.lock"), ROOT / "Makefile", ROOT / "pyproject.toml"]
    for folder in ("src", "docs", "benchmarks", "chaos", "examples", "tests"):
        tracked += (
            p
            for p in (ROOT / folder).rglob("*")
            if p.suffix in {".py", ".md", ".sql"} and ".venvs" not in p.parts
        )

    tracked += (
        p
        for p in (ROOT / "web").rglob("*")
        if p.is_file() and "node_modules" not in p.relative_to(ROOT).parts
    )

    assert [] == [str(p) for p in tracked if pattern.search(p.read_text())]


def test_every_error_and_setting_is_described() -> None:
    """Whoever meets an exception finds it in its module's tree."""
    from durably.domain import errors

    classes = [n for n in vars(errors) if n.endswith("Error")]

    assert errors.__doc__ is not None
    assert [] == [name for name in classes if name not in errors.__doc__]


def test_public_names_are_sorted_and_exist() -> None:
    """`durably.__all__` is complete, sorted and importable."""
    import durably

    assert sorted(durably.__all__) == durably.__all__
    assert [] == [name for name in durably.__all__ if not hasattr(durably, name)]
