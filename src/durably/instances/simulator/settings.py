"""Settings of the simulator and how they are read from a JSON or TOML file."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct, field

from durably.instances.simulator.catalogue import (
    DEFAULT_CLUSTERS,
    DEFAULT_PRODUCTS,
    DEFAULT_REGISTRY_AUTHS,
    DEFAULT_TEMPLATES,
    Cluster,
    Product,
    RegistryAuth,
    Template,
)
from durably.instances.simulator.faults import Fault

Seconds: TypeAlias = Annotated[float, Meta(ge=0)]


class StatusDurations(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds that an instance spends in each passing status; 0 skips it."""

    to_create: Seconds = 0.2
    creating: Seconds = 0.5
    pulling: Seconds = 2.0
    requested: Seconds = 0.1
    """Each of toStart, toStop, toRestart and toRemove."""
    starting: Seconds = 1.0
    stopping: Seconds = 0.5
    restarting: Seconds = 1.0
    removing: Seconds = 0.5
    migrating: Seconds = 2.0


class SimulatorSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the simulator behaves. Times are seconds; the catalogue has the provider's form."""

    api_key: str = "sim-key"
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """0: any free port."""
    public_host: str = ""
    """Host in the endpoints of port mappings; empty: the same as ``host``."""
    seed: int = 0
    """Of instance ids, random placement and the probability of faults."""
    latency: Seconds = 0.0
    """Waited before each API request is applied."""
    durations: StatusDurations = StatusDurations()
    list_lag: Seconds = 0.0
    """How long a new instance is missing from the list."""
    page_size: Annotated[int, Meta(ge=1)] = 10
    """Of a list call that names none."""
    first_page: Literal[0, 1] = 0
    """Number of the first page; with 1, page 0 is the first page too."""
    not_found: Literal["400", "404"] = "400"
    """Status of the answer about an unknown instance or template."""
    stock: dict[str, dict[str, int]] = field(default_factory=dict)
    """GPUs there are, by product id and region code; what is not named has no limit."""
    faults: tuple[Fault, ...] = ()
    clusters: tuple[Cluster, ...] = DEFAULT_CLUSTERS
    products: tuple[Product, ...] = DEFAULT_PRODUCTS
    templates: tuple[Template, ...] = DEFAULT_TEMPLATES
    registry_auths: tuple[RegistryAuth, ...] = DEFAULT_REGISTRY_AUTHS

    def __repr__(self) -> str:
        # Whoever points a client at the simulator may have given it a real key.
        shown = (name for name in self.__struct_fields__ if name != "api_key")
        return f"SimulatorSettings({', '.join(f'{n}={getattr(self, n)!r}' for n in shown)})"


def load_settings(path: Path) -> SimulatorSettings:
    """Read settings from a ``.toml`` file or else a JSON file; what it leaves out is default.

    Raises:
        ValueError: for a file that is no such document or holds a wrong setting; names both.
        OSError: for a file that cannot be read.
    """
    content = path.read_bytes()
    try:
        if path.suffix == ".toml":
            return msgspec.convert(tomllib.loads(content.decode()), SimulatorSettings)
        return msgspec.json.decode(content, type=SimulatorSettings)
    except ValueError as error:
        raise ValueError(f"{error}, in simulator settings {str(path)!r}") from error
