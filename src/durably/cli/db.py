"""``durably db``: the schema of a PostgreSQL store."""

import asyncio

import click

from durably import app
from durably.cli.errors import WRONG_USAGE, Failure
from durably.cli.options import epilog, json_option, store_option
from durably.cli.output import print_json


@click.group(epilog=epilog("durably db upgrade --store postgresql://durably@db/jobs"))
def db() -> None:
    """Look after the schema of a PostgreSQL store."""


@db.command(
    epilog=epilog(
        "durably db upgrade",
        "durably db upgrade --store 'postgresql://owner@db/jobs?schema=durably'",
        notes=(
            "Programs do so themselves when they open the store, unless its URL ends with",
            "?upgrade=no, as for a role that may not change the schema.",
        ),
    )
)
@store_option
@json_option
def upgrade(store: str | None, *, as_json: bool) -> None:
    """Create the schema, or bring it up to date."""
    settings = app.settings_for_clients(store)
    if not settings.store.startswith("postgres"):
        raise Failure("only PostgreSQL needs it: other stores upgrade themselves", WRONG_USAGE)
    from durably.stores.postgres.database import upgrade as bring_up_to_date

    added = asyncio.run(bring_up_to_date(settings.store))
    if as_json:
        print_json({"applied": added})
    elif added:
        click.echo(f"applied migration {', '.join(map(str, added))}")
    else:
        click.echo("the schema is up to date")
