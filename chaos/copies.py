"""Copies of the project, to change something in and run its tests."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parent.parent
_COPIED = ("src", "tests", "chaos", "conftest.py", "pyproject.toml")


def copy_project(folder: Path) -> None:
    """Into *folder*, which is made: what the tests need, and nothing compiled."""
    folder.mkdir(exist_ok=True)
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
