"""``durably doctor``: looks at the installation and the store, and says what to do."""

import asyncio

import click

from durably import app
from durably.cli.options import epilog, json_option, store_option
from durably.cli.output import print_json, printable
from durably.settings import Settings

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(epilog=epilog("durably doctor", "durably doctor --json | jq .ok"))
@store_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, store: str | None, *, as_json: bool) -> None:
    """Check installation and store.

    Each check is ok, warn or fail; one that fails makes the exit code 1, a missing store included.
    Shows the secret that signs webhooks if it was generated. In JSON the checks have name, verdict,
    found and way_out.
    """
    from durably.cli.health import Verdict, examine

    checks = asyncio.run(examine(_settings(store)))
    healthy = all(check.verdict is not Verdict.FAIL for check in checks)
    if as_json:
        print_json({"ok": healthy, "checks": checks})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark = click.style(f"{check.verdict:4}", fg=_COLOURS[check.verdict])
            click.echo(f"{mark}  {check.name.ljust(width)}  {printable(check.found)}")
            if check.way_out:
                click.echo(f"{' ' * (width + 8)}{printable(check.way_out)}")
    if not healthy:
        ctx.exit(1)


def _settings(store: str | None) -> Settings:
    try:
        return app.settings_for_instances(store)
    except ModuleNotFoundError:
        # Without that extra nobody uses what it would judge.
        return app.settings_for_clients(store)
