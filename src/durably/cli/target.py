"""MODULE:QUEUE of the command line: the queue that a program has made."""

import sys
import traceback
from importlib import import_module
from pathlib import Path
from types import ModuleType

from durably.cli.errors import WRONG_USAGE, Failure
from durably.engine.queue import JobQueueService


def load_queue(target: str) -> JobQueueService:
    """The `JobQueueService` that *target* names; the working directory is searched first.

    Raises:
        Failure: there is none; the message says where the way ends.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise Failure(f"need MODULE:QUEUE such as mail:queue, got {target!r}", WRONG_USAGE)
    sys.path.insert(0, str(Path.cwd()))
    found: object = _module(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise Failure(f"module {module_name!r} has no {attribute!r}", WRONG_USAGE)
        found = getattr(found, part)
    if not isinstance(found, JobQueueService):
        kind = type(found).__name__
        raise Failure(f"{target} must be a JobQueueService, got {kind}", WRONG_USAGE)
    return found


def _module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise Failure(f"there is no module {name!r} here or installed", WRONG_USAGE) from error
        raise Failure(_said(name, error), WRONG_USAGE) from error
    except Exception as error:
        raise Failure(_said(name, error), WRONG_USAGE) from error


def _said(name: str, error: Exception) -> str:
    """The error that importing ended with, and where in the user's program."""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
    else:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{last.filename}:{last.lineno}"
    return f"importing {name!r} has failed: {type(error).__name__}: {error} ({place})"
