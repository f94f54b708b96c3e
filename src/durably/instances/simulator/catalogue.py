"""What the simulated provider has on offer: clusters, products, templates, registry logins.

The structs have the provider's own wire form, also in a settings file; stock is not part of it.
"""

from typing import Literal

from msgspec import Struct, field


class Cluster(Struct, frozen=True, kw_only=True, rename="camel"):
    """A data centre; its name begins with the region code, up to the first space."""

    id: str
    name: str
    available_gpu_type: tuple[str, ...] = ()
    support_network_storage: bool = True
    support_instance_network: bool = True

    @property
    def region(self) -> str:
        """The region code, such as ``US-CA-06``."""
        return region_code(self.name)


class MonthlyPrice(Struct, frozen=True, kw_only=True):
    """Price of a subscription in 1e-5 USD for its number of months."""

    price: str | int
    month: int


class Product(Struct, frozen=True, kw_only=True, rename="camel"):
    """A kind of machine. Prices are 1e-5 USD per GPU and hour, sent as strings or integers."""

    id: str
    name: str
    cpu_per_gpu: int
    memory_per_gpu: int
    disk_per_gpu: int = 60
    available_deploy: bool = True
    min_root_fs: int = field(default=10, name="minRootFS")
    max_root_fs: int = field(default=6144, name="maxRootFS")
    min_local_storage: int = 0
    max_local_storage: int = 0
    regions: tuple[str, ...]
    price: str | int
    spot_price: str | int = "0"
    monthly_price: tuple[MonthlyPrice, ...] = ()
    billing_methods: tuple[str, ...] = ("onDemand", "monthly", "spot")
    inventory_state: Literal["none", "low", "normal", "high"] = "normal"
    can_buy: bool = True

    def offered_in(self, region: str) -> bool:
        """Whether the product lists the region with this code, in either form."""
        return any(region_code(entry) == region for entry in self.regions)

    def price_per_hour(self, billing_mode: str) -> int:
        """1e-5 USD per GPU and hour; 0 for ``spot`` where spot is not offered."""
        if billing_mode != "spot":
            return int(self.price)
        return int(self.spot_price) if "spot" in self.billing_methods else 0


class TemplatePorts(Struct, frozen=True, kw_only=True):
    """Ports of one type that a template opens."""

    type: Literal["http", "tcp", "udp"]
    ports: tuple[int, ...]


class Env(Struct, frozen=True, kw_only=True):
    """An environment variable."""

    key: str
    value: str


class Template(Struct, frozen=True, kw_only=True, rename="camel"):
    """An image with its settings; ``image_auth`` is the id of a registry login."""

    id: str = field(name="Id")
    user: str = "simulator"
    name: str
    readme: str = ""
    logo: str = ""
    type: Literal["instance", "serverless"] = "instance"
    channel: Literal["private", "official", "community"] = "private"
    image: str
    image_auth: str = ""
    start_command: str = ""
    rootfs_size: int = 60
    volumes: tuple[dict[str, str | int], ...] = ()
    ports: tuple[TemplatePorts, ...] = ()
    envs: tuple[Env, ...] = ()
    tools: tuple[dict[str, str | int], ...] = ()
    create_time: str = "1735689600"


class RegistryAuth(Struct, frozen=True, kw_only=True):
    """A registry login. It holds no password: the provider only ever shows a mask."""

    id: str
    name: str
    username: str


def region_code(entry: str) -> str:
    """The code in a region entry.

    >>> region_code("US-CA-06 (California)"), region_code("US-CA-06")
    ('US-CA-06', 'US-CA-06')
    """
    return entry.partition(" ")[0]


DEFAULT_CLUSTERS = (
    Cluster(id="cn-hongkong-1", name="CN-HK-01 (Hong Kong)", available_gpu_type=("RTX 4090 24GB",)),
    Cluster(id="as-sgp-2", name="AS-SGP-02 (Singapore)", available_gpu_type=("RTX 4090 24GB",)),
    Cluster(
        id="us-ca-6",
        name="US-CA-06 (California)",
        available_gpu_type=("RTX 4090 24GB", "H100 SXM 80GB"),
    ),
    Cluster(id="oc-au-1", name="OC-AU-01 (Sydney)", available_gpu_type=("RTX 5090 32GB",)),
    Cluster(id="eu-de-1", name="EU-DE-01", available_gpu_type=("H100 SXM 80GB",)),
    Cluster(id="as-in-1", name="AS-IN-01 (Mumbai)", support_instance_network=False),
)

DEFAULT_PRODUCTS = (
    Product(
        id="4090.16c62g",
        name="RTX 4090 24GB",
        cpu_per_gpu=16,
        memory_per_gpu=62,
        regions=("US-CA-06 (California)", "AS-SGP-02", "CN-HK-01 (Hong Kong)"),
        price="67000",
        spot_price="35000",
        monthly_price=(MonthlyPrice(price="43200000", month=1),),
        inventory_state="high",
    ),
    # The same spot price with more memory: the tie-break of whoever chooses by price.
    Product(
        id="4090.18c125g",
        name="RTX 4090 24GB",
        cpu_per_gpu=18,
        memory_per_gpu=125,
        regions=("CN-HK-01", "US-CA-06"),
        price="69000",
        spot_price="35000",
    ),
    # Cheapest of all, and not to be had.
    Product(
        id="4090.12c60g",
        name="RTX 4090 24GB",
        cpu_per_gpu=12,
        memory_per_gpu=60,
        available_deploy=False,
        regions=("CN-HK-01 (Hong Kong)", "AS-SGP-02 (Singapore)"),
        price="61000",
        spot_price="20000",
        inventory_state="none",
    ),
    # Spot price "0" means "not offered as spot", not "free".
    Product(
        id="4090.32c120g",
        name="RTX 4090 24GB",
        cpu_per_gpu=32,
        memory_per_gpu=120,
        regions=("CN-HK-01", "US-CA-06 (California)", "OC-AU-01"),
        price="63000",
        spot_price="0",
        inventory_state="low",
    ),
    Product(
        id="5090.32c180g",
        name="RTX 5090 32GB",
        cpu_per_gpu=32,
        memory_per_gpu=180,
        regions=("OC-AU-01 (Sydney)", "US-CA-06"),
        price=85000,
        spot_price="42000",
    ),
    Product(
        id="h100.28c200g",
        name="H100 SXM 80GB",
        cpu_per_gpu=28,
        memory_per_gpu=200,
        regions=("US-CA-06 (California)", "EU-DE-01"),
        price="256000",
        spot_price="128000",
        inventory_state="low",
    ),
)

DEFAULT_TEMPLATES = (
    Template(
        id="pytorch-serve",
        name="PyTorch with a server",
        image="pytorch/pytorch:2.5.1-cuda12.4-cudnn9-runtime",
        image_auth="registry-auth-1",
        start_command="python -m serve --port 8080",
        ports=(
            TemplatePorts(type="http", ports=(8080, 8888)),
            TemplatePorts(type="tcp", ports=(22,)),
        ),
        envs=(Env(key="MODEL", value="small"), Env(key="LOG_LEVEL", value="info")),
    ),
    Template(id="bare", name="Plain Ubuntu", channel="official", image="ubuntu:24.04"),
    Template(
        id="107672",
        name="Web UI",
        channel="community",
        image="example/web-ui:1.4",
        ports=(TemplatePorts(type="http", ports=(7860,)),),
    ),
)

DEFAULT_REGISTRY_AUTHS = (
    RegistryAuth(id="registry-auth-1", name="team registry", username="robot"),
)
