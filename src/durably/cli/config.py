"""``durably config``: the settings in force, and where each comes from."""

from typing import Any

import click

from durably import app
from durably.cli.options import epilog, json_option, store_option
from durably.cli.output import print_json, print_table
from durably.settings import environment_name


@click.command(epilog=epilog("durably config", "durably config --json | jq .DURABLY_STORE"))
@store_option
@click.option("--host", metavar="ADDRESS", help="As of `serve`.")
@click.option("--port", metavar="NUMBER", help="As of `serve`.")
@click.option("--concurrency", metavar="NUMBER", help="As of `serve` and `worker`.")
@json_option
def config(*, as_json: bool, **flags: str | None) -> None:
    """Show the settings in force.

    Judges them as `serve` does and names every fault. Secrets are shown as ***.
    """
    settings = app.settings_for_server(flags)
    if as_json:
        print_json(
            {
                environment_name(field): {"value": value, "source": settings.source(field)}
                for field, value in settings.shown()
            }
        )
    else:
        print_table(
            ("SETTING", "VALUE", "SOURCE"),
            [
                (environment_name(field), _text(value), settings.source(field))
                for field, value in settings.shown()
            ],
        )


def _text(value: Any) -> str:
    if value is None or value == ():
        return "-"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
