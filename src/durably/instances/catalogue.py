"""What the provider has on offer, for people who choose: read at most once a minute for all of them."""

import asyncio
import re
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from durably import Clock
from durably.instances.products import price_for, price_usd
from durably.instances.provider import (
    BillingMode,
    Product,
    Provider,
    ProviderError,
    ProviderUnavailable,
)

GOOD_FOR_S = 60.0
FAILURE_GOOD_FOR_S = 5.0
"""So long a provider in trouble is not asked again, unless it asked for longer."""
_GPU_MEMORY = re.compile(r"(\d{1,4}) ?GB\b", re.IGNORECASE)


class ProductOffer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A kind of GPU on offer. Prices are in USD per GPU and hour; null: not offered that way."""

    id: str
    name: str
    regions: Annotated[tuple[str, ...], Meta(description="Region codes.")]
    available: Annotated[bool, Meta(description="Whether any of them has one to rent.")]
    spot_price: float | None
    on_demand_price: float | None
    gpu_memory: Annotated[
        int | None, Meta(description="GB of the GPU's own, as its name says; null: it does not.")
    ]
    cpus: Annotated[int, Meta(description="For each GPU.")]
    memory: Annotated[int, Meta(description="GB of the host's, for each GPU.")]


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """What can be asked for."""

    products: Annotated[tuple[ProductOffer, ...], Meta(description="By name, then id.")]
    regions: Annotated[tuple[str, ...], Meta(description="Codes of all their regions.")]


class CatalogueView:
    """Asks the provider at most once for everybody who looks within a minute.

    Args:
        provider: who is asked.
        clock: measures.
        timeout: seconds that the provider has for all of it.
    """

    def __init__(self, provider: Provider, clock: Clock, *, timeout: float) -> None:
        self._provider = provider
        self._clock = clock
        self._timeout = timeout
        self._asking = asyncio.Lock()
        self._answer: Catalogue | ProviderError | None = None
        self._until = 0.0

    async def read(self) -> Catalogue:
        """The catalogue as it was at most 60 s ago.

        Raises:
            ProviderError: there is none, and was none a moment ago: those who wait together are
                not told one after another.
        """
        async with self._asking:
            if self._answer is None or self._clock.monotonic() >= self._until:
                self._answer, good_for = await self._ask()
                self._until = self._clock.monotonic() + good_for
            if isinstance(self._answer, ProviderError):
                raise self._answer.with_traceback(None)
            return self._answer

    async def _ask(self) -> tuple[Catalogue | ProviderError, float]:
        """The answer, and for how many seconds it is good."""
        try:
            async with asyncio.timeout(self._timeout):
                on_demand = await self._provider.products("", billing=BillingMode.ON_DEMAND)
                spot = await self._provider.products("", billing=BillingMode.SPOT)
        except TimeoutError:
            late = f"the provider did not say within {self._timeout:g} s what it has on offer"
            return ProviderUnavailable(late), FAILURE_GOOD_FOR_S
        except ProviderError as error:
            asked = error.retry_after if isinstance(error, ProviderUnavailable) else None
            return error, max(FAILURE_GOOD_FOR_S, asked or 0.0)
        return catalogue_of([*on_demand, *spot]), GOOD_FOR_S


def catalogue_of(products: Iterable[Product]) -> Catalogue:
    """The catalogue of *products*, of which the provider lists one for each way to pay for it."""
    offers = {product.id: _offer(product) for product in products}
    return Catalogue(
        products=tuple(sorted(offers.values(), key=lambda offer: (offer.name, offer.id))),
        regions=tuple(sorted({code for offer in offers.values() for code in offer.regions})),
    )


def _offer(product: Product) -> ProductOffer:
    memory = _GPU_MEMORY.search(product.name)
    return ProductOffer(
        id=product.id,
        name=product.name,
        regions=product.regions,
        available=product.available,
        spot_price=_price(product, BillingMode.SPOT),
        on_demand_price=_price(product, BillingMode.ON_DEMAND),
        gpu_memory=int(memory[1]) if memory else None,
        cpus=product.cpu_per_gpu,
        memory=product.memory_per_gpu,
    )


def _price(product: Product, billing: BillingMode) -> float | None:
    price_e5 = price_for(product, billing)
    return price_usd(price_e5) if price_e5 > 0 else None
