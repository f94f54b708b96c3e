"""``durably simulator``: the provider's API on a port of this machine."""

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from durably.cli.errors import WRONG_USAGE, Failure
from durably.cli.options import epilog

if TYPE_CHECKING:
    from durably.instances.simulator import Fault, SimulatorSettings

_DURATIONS = (
    *("to_create", "creating", "pulling", "requested", "starting", "stopping", "restarting"),
    *("removing", "migrating"),
)


@click.command(
    epilog=epilog(
        "durably simulator --port 8123",
        "durably simulator --fault create:lost_reply:count=1 --duration pulling=5",
        "durably simulator --fault 'list:rate_limit:retry_after=2,probability=0.2' --seed 7",
        notes=(
            "A fault is ROUTE:KIND[:KEY=VALUE,...]. Routes: clusters products create list get start",
            "stop restart delete migrate templates template auths jobs app, or * for all. Kinds:",
            "rate_limit error reset lost_reply slow rubbish no_stock status_error spot_reclaim",
            "unhealthy. Keys: count, probability, after, match (part of the instance's name), and",
            "the parameters of the kind, such as seconds of slow or status of error.",
        ),
    )
)
@click.option("--settings", "path", metavar="FILE", type=Path, help="Settings as TOML or JSON.")
@click.option("--port", type=int, help="0 is any free port.  [default: 0]")
@click.option("--api-key", metavar="KEY", help="What clients must send.  [default: sim-key]")
@click.option("--seed", type=int, help="Of ids, placement and chance.  [default: 0]")
@click.option("--latency", type=float, metavar="SECONDS", help="Before each answer.  [default: 0]")
@click.option(
    "--duration",
    "durations",
    multiple=True,
    metavar="STATUS=SECONDS",
    help=f"How long a status lasts; may be repeated. Statuses: {', '.join(_DURATIONS)}.",
)
@click.option(
    "--fault", "faults", multiple=True, metavar="TEXT", help="See below; may be repeated."
)
@click.option(
    "--faults",
    "faults_path",
    metavar="FILE",
    type=Path,
    help="Such faults, one a line; # is a comment.",
)
@click.option(
    "--list-lag",
    type=float,
    metavar="SECONDS",
    help="How long a new instance is missing from the list.  [default: 0]",
)
@click.option(
    "--not-found",
    type=click.Choice(["400", "404"]),
    help="Status of the answer about an unknown instance.  [default: 400]",
)
def simulator(
    path: Path | None,
    durations: tuple[str, ...],
    faults: tuple[str, ...],
    faults_path: Path | None,
    **flags: Any,
) -> None:
    """Play the GPU provider.

    It speaks real HTTP on loopback, with faults and a billing meter. Prints the base URL (for NOVITA_API_BASE_URL) on the first line and runs until it is stopped.
    Nothing is rented, and a restart forgets all. GET /control/billing on the same port shows the
    meter, GET /control/state every instance; POST /control/faults adds faults.
    """
    try:
        texts = [*faults, *(_lines(faults_path) if faults_path else ())]
        settings = _settings(path, flags, durations, texts)
    except (OSError, ValueError) as error:
        raise Failure(str(error), WRONG_USAGE) from error
    asyncio.run(_serve(settings))


def _settings(
    path: Path | None, flags: dict[str, Any], durations: tuple[str, ...], faults: list[str]
) -> "SimulatorSettings":
    """The settings of the file with the flags over them; faults come after those of the file."""
    import msgspec

    from durably.instances.simulator import SimulatorSettings, load_settings, parse_fault

    base = load_settings(path) if path else SimulatorSettings()
    added: tuple[Fault, ...] = tuple(parse_fault(text) for text in faults)
    given = {name: value for name, value in flags.items() if value is not None}
    lasting = msgspec.structs.asdict(base.durations) | dict(map(_duration, durations))
    merged = {**msgspec.structs.asdict(base), **given, "durations": lasting}
    merged["faults"] = (*base.faults, *added)
    return msgspec.convert(msgspec.to_builtins(merged), SimulatorSettings)


def _duration(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    if name not in _DURATIONS:
        raise ValueError(f"--duration needs one of {', '.join(_DURATIONS)}, got {name!r}")
    try:
        return name, float(value)
    except ValueError:
        raise ValueError(f"--duration needs STATUS=SECONDS, got {text!r}") from None


def _lines(path: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


async def _serve(settings: "SimulatorSettings") -> None:
    from durably.instances.simulator import Simulator

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with Simulator(settings) as running:
        click.echo(running.base_url)
        click.echo(f"control: {running.control_url}; stop with Ctrl-C", err=True)
        await stopped.wait()
