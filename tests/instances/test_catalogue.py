"""How long what the provider says of its catalogue is good."""

from typing import Any, cast

import pytest

from durably.instances import BillingMode, Catalogue, Provider, ProviderUnavailable
from durably.instances.catalogue import CatalogueView
from durably.instances.provider import Product
from durably.testing import VirtualClock


class Shop:
    """A provider of which only the products are asked for."""

    def __init__(self) -> None:
        self.asked = 0
        self.failure: Exception | None = None

    async def products(self, name: str, *, billing: BillingMode) -> list[Product]:
        assert name == ""
        self.asked += billing is BillingMode.ON_DEMAND
        if self.failure is not None:
            raise self.failure
        return [Product(id="a", name="A 8 GB", regions=("R-2", "R-1"), price_e5=100_000)]


def view_of(shop: Shop, clock: VirtualClock) -> CatalogueView:
    return CatalogueView(cast("Provider", shop), clock, timeout=30.0)


async def test_an_answer_is_good_for_a_minute() -> None:
    """The provider is asked again after 60 s, not before."""
    shop, clock = Shop(), VirtualClock()
    view = view_of(shop, clock)
    first = await view.read()
    assert isinstance(first, Catalogue)
    assert (first.products[0].on_demand_price, first.products[0].gpu_memory) == (1.0, 8)
    assert first.products[0].spot_price is None
    assert first.regions == ("R-1", "R-2")
    await clock.advance(59.9)
    assert await view.read() is first
    assert shop.asked == 1
    await clock.advance(0.2)
    await view.read()
    assert shop.asked == 2


@pytest.mark.parametrize(
    ("failure", "good_for"),
    [
        (ProviderUnavailable("broken"), 5.0),
        (ProviderUnavailable("busy", retry_after=20.0), 20.0),
    ],
)
async def test_a_failure_is_good_for_as_long_as_the_provider_wants(
    failure: Any, good_for: float
) -> None:
    """5 s if it says nothing; then it is asked again, and a success forgets the failure."""
    shop, clock = Shop(), VirtualClock()
    view = view_of(shop, clock)
    shop.failure = failure
    for _ in range(3):
        with pytest.raises(ProviderUnavailable):
            await view.read()
    assert shop.asked == 1
    shop.failure = None
    await clock.advance(good_for - 0.1)
    with pytest.raises(ProviderUnavailable):
        await view.read()
    await clock.advance(0.2)
    assert (await view.read()).products
    assert shop.asked == 2
