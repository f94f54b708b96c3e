"""Which product to rent, and where: pure choices over one product list, with no I/O."""

from collections.abc import Iterable, Sequence
from types import MappingProxyType

import msgspec

from durably.instances.provider import BillingMode, Cluster, Product, ProviderRefused

FALLBACK_REGIONS = (
    "AS-SGP-02",
    "CN-HK-01",
    "OC-AU-01",
    "US-CA-06",
    "US-WEST-01",
    "EU-DE-01",
    "EU-WEST-01",
    "AS-IN-01",
)
"""Regions to try, in this order, when the preferred one has nothing."""

CLUSTERS = MappingProxyType(
    {
        "CN-HK-01": "cn-hongkong-1",
        "AS-SGP-02": "as-sgp-2",
        "AS-IN-01": "as-in-1",
        "US-CA-06": "us-ca-6",
        "OC-AU-01": "oc-au-1",
    }
)
"""Cluster id by region code, for regions that the provider's own list leaves out."""


class NoProduct(ProviderRefused):
    """Nothing on offer fits the request.

    ``code`` is ``PRODUCT_NOT_FOUND`` (the name matches nothing) or ``NO_AVAILABLE_PRODUCTS``.
    """


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A product in a region at the price that will be billed."""

    product: Product
    region: str
    price_e5: int
    """In 1e-5 USD per GPU and hour."""


def candidates(
    products: Sequence[Product],
    *,
    name: str,
    region: str,
    billing: BillingMode,
    fallback: Sequence[str] = FALLBACK_REGIONS,
) -> list[Offer]:
    """Every offer that fits, best first: the preferred *region*'s, then each *fallback* region's.

    Args:
        products: What the provider answered for *name*, in all regions.
        name: Product name; see :func:`choose` for how it is matched.
        region: Code of the preferred region; it need not be a known one.
        billing: How the instance will be paid for.
        fallback: Codes of the regions to go on with, in order.

    Raises:
        NoProduct: there is none; the message says why, region by region.
    """
    regions = list(dict.fromkeys((region, *fallback)))
    offers = [
        offer
        for code in regions
        for offer in choose(products, name=name, region=code, billing=billing)
    ]
    if not offers:
        raise _no_product(products, name=name, regions=regions, billing=billing)
    return offers


def choose(
    products: Iterable[Product], *, name: str, region: str, billing: BillingMode
) -> list[Offer]:
    """The offers of one *region*, best first; empty when there is none.

    The provider matches names loosely. If any product's name equals *name* (ignoring case and outer
    blanks), in whatever region, only such products count. The best offer is the cheapest as it will
    be billed, then the one with more memory, more CPUs, the lower id.
    """
    offers = [
        Offer(product=product, region=region, price_e5=price_for(product, billing))
        for product in _named(products, name)
        if region in product.regions and product.available and price_for(product, billing) > 0
    ]
    return sorted(offers, key=_rank)


def cluster_for(region: str, clusters: Iterable[Cluster]) -> str:
    """Id of the cluster in *region*: by the provider's list, else by ours, else the code itself."""
    listed = (cluster.id for cluster in clusters if cluster.region == region)
    return next(listed, None) or CLUSTERS.get(region) or region.lower()


def region_code(name: str) -> str:
    """The code in a region's or cluster's name: what stands before the first blank.

    >>> region_code("US-CA-06 (California)")
    'US-CA-06'
    """
    return name.strip().partition(" ")[0]


def price_usd(price_e5: int) -> float:
    """A price of the provider (in 1e-5 USD) in USD.

    >>> price_usd(67_000)
    0.67
    """
    return price_e5 / 100_000


def _named(products: Iterable[Product], name: str) -> list[Product]:
    matching = list(products)
    wanted = name.strip().casefold()
    exact = [product for product in matching if product.name.strip().casefold() == wanted]
    return exact or matching


def price_for(product: Product, billing: BillingMode) -> int:
    """The price that *billing* leads to; 0 when the product is not offered that way."""
    if product.billing_methods and billing not in product.billing_methods:
        return 0
    return product.spot_price_e5 if billing is BillingMode.SPOT else product.price_e5


def _rank(offer: Offer) -> tuple[int, int, int, str]:
    product = offer.product
    return offer.price_e5, -product.memory_per_gpu, -product.cpu_per_gpu, product.id


def _no_product(
    products: Sequence[Product], *, name: str, regions: Sequence[str], billing: BillingMode
) -> NoProduct:
    if not products:
        code, problem = "PRODUCT_NOT_FOUND", f'No products found matching name "{name}"'
    else:
        code, problem = "NO_AVAILABLE_PRODUCTS", f'No available products found for "{name}"'
    named = _named(products, name)
    attempts = ", ".join(f"{region} ({_why_none(named, region, billing)})" for region in regions)
    return NoProduct(
        f'{problem} in region "{regions[0]}" or a fallback region with billing method "{billing}".'
        f" Attempted regions: {attempts}",
        code=code,
    )


def _why_none(named: Iterable[Product], region: str, billing: BillingMode) -> str:
    here = [product for product in named if region in product.regions]
    if not here:
        return "no products found"
    if not any(product.available for product in here):
        return "no available products"
    return f"not offered as {billing}"
