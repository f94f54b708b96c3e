"""Logging of the commands that run until they are stopped."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

import click

log_options = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Of the log, which goes to stderr.",
)
_QUIET = ("aiohttp.access", "asyncio", "durably.access", "durably.instances.simulator")
"""Told from WARNING on; the access log is there for who raises its level in a program."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the exception as one text."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(kind: str) -> None:
    """Log to stderr from INFO on, as ``text`` or ``json``."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter()
        if kind == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
