"""The command line: parses, calls `durably.app`, prints. One command a file."""

import sys

_EXTRA_OF = {
    "aiohttp": "instances",
    "asyncpg": "postgres",
    "click": "cli",
    "litestar": "server",
    "prometheus_client": "server",
    "rich": "cli",
    "standardwebhooks": "instances",
    "uvicorn": "server",
    "yarl": "instances",
}


def main() -> None:
    """Run the command of ``sys.argv`` and exit."""
    try:
        from durably.cli.root import root
    except ModuleNotFoundError as error:
        sys.exit(f"error: {missing_extra(error)}")
    root(prog_name="durably")


def missing_extra(error: ModuleNotFoundError) -> str:
    """Which extra to install for a module that is missing; the error again if none has it."""
    module = (error.name or "").partition(".")[0]
    if module not in _EXTRA_OF:
        raise error
    return f'{module} is not installed: pip install "durably[{_EXTRA_OF[module]}]"'
