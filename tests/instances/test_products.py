"""Product choice: what counts as an offer, which is best, where to go when there is none."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durably.instances.products import (
    CLUSTERS,
    FALLBACK_REGIONS,
    NoProduct,
    Offer,
    candidates,
    choose,
    cluster_for,
    price_usd,
    region_code,
)
from durably.instances.provider import BillingMode, Cluster, Product, ProviderRefused

HK, SGP = "CN-HK-01", "AS-SGP-02"

RTX = Product(
    id="4090.16c62g",
    name="RTX 4090 24GB",
    regions=(HK,),
    available=True,
    price_e5=67_000,
    spot_price_e5=35_000,
    memory_per_gpu=62,
    cpu_per_gpu=16,
    billing_methods=("onDemand", "spot"),
)


def product(product_id: str, **changes: object) -> Product:
    changed: Product = msgspec.structs.replace(RTX, id=product_id, **changes)
    return changed


def ids(offers: list[Offer]) -> list[str]:
    return [offer.product.id for offer in offers]


def chosen(
    *products: Product,
    region: str = HK,
    billing: BillingMode = BillingMode.SPOT,
    name: str = "RTX 4090 24GB",
) -> list[str]:
    return ids(choose(products, region=region, billing=billing, name=name))


def test_the_cheapest_spot_price_wins_for_spot() -> None:
    """Spot requests are ordered by the spot price, whatever the price on demand is."""
    dear = product("dear", spot_price_e5=40_000, price_e5=1)
    cheap = product("cheap", spot_price_e5=30_000, price_e5=90_000)

    assert chosen(dear, cheap) == ["cheap", "dear"]


def test_the_cheapest_price_on_demand_wins_for_on_demand() -> None:
    """On-demand requests are ordered by the price on demand, whatever the spot price is."""
    dear = product("dear", spot_price_e5=1, price_e5=90_000)
    cheap = product("cheap", spot_price_e5=80_000, price_e5=50_000)

    assert chosen(dear, cheap, billing=BillingMode.ON_DEMAND) == ["cheap", "dear"]


def test_an_offer_carries_the_price_that_will_be_billed() -> None:
    """The price of an offer is the spot price for spot and the other one for on demand."""
    [spot] = choose([RTX], region=HK, billing=BillingMode.SPOT, name=RTX.name)
    [on_demand] = choose([RTX], region=HK, billing=BillingMode.ON_DEMAND, name=RTX.name)

    assert spot == Offer(product=RTX, region=HK, price_e5=35_000)
    assert on_demand == Offer(product=RTX, region=HK, price_e5=67_000)


def test_ties_go_to_more_memory_then_more_cpus_then_the_lower_id() -> None:
    """At the same price the larger product comes first, and the order is total."""
    products = [
        product("b"),
        product("a"),
        product("more-cpu", cpu_per_gpu=17),
        product("more-memory", memory_per_gpu=63, cpu_per_gpu=1),
    ]

    assert chosen(*products) == ["more-memory", "more-cpu", "a", "b"]


def test_a_spot_price_of_zero_is_no_spot_offer() -> None:
    """Spot price 0 means "not offered as spot"; it must not win as the cheapest."""
    no_spot = product("no-spot", spot_price_e5=0)

    assert chosen(no_spot, product("spot")) == ["spot"]
    assert chosen(no_spot, billing=BillingMode.ON_DEMAND) == ["no-spot"]


def test_a_stated_list_of_billing_methods_counts() -> None:
    """A product with a spot price that lists onDemand only is no spot offer."""
    listed = product("listed", billing_methods=("onDemand",))
    silent = product("silent", billing_methods=())

    assert chosen(listed, silent) == ["silent"]


def test_unavailable_products_and_other_regions_are_left_out() -> None:
    """Only what can be deployed in the region is an offer."""
    products = [
        product("sold-out", available=False),
        product("elsewhere", regions=(SGP,)),
        product("here", regions=(SGP, HK)),
    ]

    assert chosen(*products) == ["here"]


@pytest.mark.parametrize("name", ["RTX 4090", " rtx 4090 "])
def test_an_exact_name_beats_a_cheaper_loose_match(name: str) -> None:
    """When a product is called what was asked for, similar names do not count, however cheap."""
    exact = product("exact", name="RTX 4090", spot_price_e5=50_000)
    other = product("other", name="RTX 4090 D", spot_price_e5=10_000)

    assert chosen(other, exact, name=name) == ["exact"]


def test_without_an_exact_name_loose_matches_count() -> None:
    """The provider's loose match is used when it is all there is."""
    assert chosen(RTX, name="4090") == [RTX.id]


def test_the_preferred_region_comes_first_then_the_fallbacks_in_order() -> None:
    """Offers are ordered by region first, so that a cheaper fallback never wins over it."""
    cheap_far = product("far", regions=("US-CA-06",), spot_price_e5=1)
    near = product("near", regions=(SGP,), spot_price_e5=2)
    dear_here = product("here", regions=(HK,), spot_price_e5=90_000)

    offers = candidates(
        [cheap_far, near, dear_here], name=RTX.name, region=HK, billing=BillingMode.SPOT
    )

    assert [(offer.product.id, offer.region) for offer in offers] == [
        ("here", HK),
        ("near", SGP),
        ("far", "US-CA-06"),
    ]


def test_an_unknown_preferred_region_still_goes_first() -> None:
    """A region that the built-in list lacks is tried like any other, and first."""
    products = [product("new", regions=("XX-NEW-01",)), product("old", regions=(HK,))]

    offers = candidates(products, name=RTX.name, region="XX-NEW-01", billing=BillingMode.SPOT)

    assert ids(offers) == ["new", "old"]


def test_a_product_of_several_regions_is_an_offer_in_each_once() -> None:
    """The preferred region is not tried again at its place in the fallback list."""
    everywhere = product("all", regions=FALLBACK_REGIONS)

    offers = candidates([everywhere], name=RTX.name, region="US-CA-06", billing=BillingMode.SPOT)

    assert [offer.region for offer in offers] == [
        "US-CA-06",
        "AS-SGP-02",
        "CN-HK-01",
        "OC-AU-01",
        "US-WEST-01",
        "EU-DE-01",
        "EU-WEST-01",
        "AS-IN-01",
    ]


def test_the_fallback_list_can_be_replaced_and_emptied() -> None:
    """With no fallback only the preferred region counts."""
    products = [product("here"), product("there", regions=(SGP,))]

    offers = candidates(products, name=RTX.name, region=HK, billing=BillingMode.SPOT, fallback=())

    assert ids(offers) == ["here"]


def test_an_empty_list_is_reported_as_a_name_that_matches_nothing() -> None:
    """With no product at all it is the name that is at fault, and the error says so."""
    with pytest.raises(NoProduct) as caught:
        candidates([], name="RTX 9", region=HK, billing=BillingMode.SPOT, fallback=(SGP,))

    assert caught.value.code == "PRODUCT_NOT_FOUND"
    assert str(caught.value) == (
        'No products found matching name "RTX 9" in region "CN-HK-01" or a fallback region'
        ' with billing method "spot".'
        " Attempted regions: CN-HK-01 (no products found), AS-SGP-02 (no products found)"
    )


def test_products_without_an_offer_are_reported_with_the_reason_of_each_region() -> None:
    """Sold out, not sold as spot and not there at all are told apart."""
    products = [
        product("sold-out", regions=(HK,), available=False),
        product("no-spot", regions=(SGP,), spot_price_e5=0),
    ]

    with pytest.raises(NoProduct) as caught:
        candidates(
            products,
            name=RTX.name,
            region=HK,
            billing=BillingMode.SPOT,
            fallback=(SGP, "OC-AU-01"),
        )

    assert caught.value.code == "NO_AVAILABLE_PRODUCTS"
    assert str(caught.value) == (
        'No available products found for "RTX 4090 24GB" in region "CN-HK-01" or a fallback'
        ' region with billing method "spot". Attempted regions: CN-HK-01 (no available products),'
        " AS-SGP-02 (not offered as spot), OC-AU-01 (no products found)"
    )


def test_no_product_is_a_permanent_refusal() -> None:
    """The workflow treats it like any other refusal: it is not tried again."""
    assert issubclass(NoProduct, ProviderRefused)


PRODUCTS = st.lists(
    st.builds(
        Product,
        id=st.text("abc", min_size=1, max_size=3),
        name=st.sampled_from(["RTX 4090", "rtx 4090 ", "RTX 4090 D", "A100"]),
        regions=st.lists(st.sampled_from([HK, SGP, "XX-01"]), max_size=2).map(tuple),
        available=st.booleans(),
        price_e5=st.integers(0, 3),
        spot_price_e5=st.integers(0, 3),
        memory_per_gpu=st.integers(0, 2),
        cpu_per_gpu=st.integers(0, 2),
        billing_methods=st.sampled_from([(), ("spot",), ("onDemand",), ("spot", "onDemand")]),
    ),
    max_size=8,
    unique_by=lambda one: one.id,
)


@given(PRODUCTS, st.sampled_from(BillingMode))
def test_exactly_what_qualifies_is_offered_and_in_order(
    products: list[Product], billing: BillingMode
) -> None:
    """Ordered by billed price, memory, CPUs and id, whatever order the provider answered in."""

    def price(one: Product) -> int:
        return one.spot_price_e5 if billing is BillingMode.SPOT else one.price_e5

    def qualifies(one: Product) -> bool:
        offered = not one.billing_methods or billing.value in one.billing_methods
        return one.available and HK in one.regions and offered and price(one) > 0

    def rank(one: Product) -> tuple[int, int, int, str]:
        return price(one), -one.memory_per_gpu, -one.cpu_per_gpu, one.id

    exact = [one for one in products if one.name.strip().lower() == "rtx 4090"]
    qualified = [one for one in (exact or products) if qualifies(one)]

    offers = choose(products, region=HK, billing=billing, name="RTX 4090")

    assert [offer.product for offer in offers] == sorted(qualified, key=rank)
    assert [offer.price_e5 for offer in offers] == sorted(map(price, qualified))


@given(PRODUCTS, st.sampled_from(BillingMode))
def test_candidates_are_the_choices_of_each_region_in_turn(
    products: list[Product], billing: BillingMode
) -> None:
    """Candidates are exactly the choices of the preferred region, then of each fallback region."""
    regions = ["XX-01", SGP, HK]
    expected = [
        offer
        for region in regions
        for offer in choose(products, region=region, billing=billing, name="RTX 4090")
    ]

    try:
        offers = candidates(
            products, name="RTX 4090", region="XX-01", billing=billing, fallback=regions[1:]
        )
    except NoProduct:
        offers = []

    assert offers == expected


def test_the_clusters_list_decides_where_a_region_is() -> None:
    """The provider's own entry for the region wins over the built-in table."""
    clusters = [
        Cluster(id="other", name="US-CA-06 (California)", region="US-CA-06"),
        Cluster(id="hk-now", name="CN-HK-01 (Hong Kong)", region=HK),
    ]

    assert cluster_for(HK, clusters) == "hk-now"


@pytest.mark.parametrize(
    ("region", "cluster"),
    [
        (HK, "cn-hongkong-1"),
        (SGP, "as-sgp-2"),
        ("AS-IN-01", "as-in-1"),
        ("US-CA-06", "us-ca-6"),
        ("OC-AU-01", "oc-au-1"),
        ("EU-DE-01", "eu-de-01"),
    ],
)
def test_a_region_without_an_entry_is_looked_up_in_the_table(region: str, cluster: str) -> None:
    """Then the table decides, and for a region that it lacks the lower-cased code."""
    assert cluster_for(region, []) == cluster


def test_every_region_of_the_table_can_be_fallen_back_to() -> None:
    """The table and the fallback list speak of the same regions."""
    assert set(CLUSTERS) <= set(FALLBACK_REGIONS)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("US-CA-06 (California)", "US-CA-06"),
        ("US-CA-06", "US-CA-06"),
        (" EU-DE-01 x y", "EU-DE-01"),
        ("", ""),
    ],
)
def test_the_region_code_is_what_stands_before_the_first_blank(name: str, code: str) -> None:
    """Region names come with and without a place in brackets."""
    assert region_code(name) == code


def test_prices_are_converted_to_dollars() -> None:
    """67,000 units of 1e-5 USD are 67 cents."""
    assert price_usd(67_000) == 0.67
