"""What the tests of the command line call their fixtures."""

from collections.abc import Callable
from subprocess import CompletedProcess
from typing import TypeAlias

from click.testing import Result

Run: TypeAlias = Callable[..., Result]
"""Calls the command line in this process."""
Command: TypeAlias = Callable[..., CompletedProcess[str]]
"""Calls it in a process of its own."""
Jobs: TypeAlias = dict[str, str]
"""Ids by type."""
