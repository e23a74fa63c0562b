"""Prices: by option, by the built-in list, and as AWS's price list says them where that is asked for."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pipeline import cli
from pipeline.config import load
from pipeline.core.cost import LISTED
from pipeline.errors import UsageError
from pipeline.prices import with_live_prices
from tests.fake import Fake, Kind

UNITS, READS = "DDB-ReadUnits", "DDB-StreamsReadRequests"


def product(group: str, *dollars: str, region: str = "us-east-1", **more: Any) -> str:
    """As the price list tells one, with a price for each step."""
    steps = {f"s{n}": {"unit": "x", "pricePerUnit": {"USD": one}} for n, one in enumerate(dollars)}
    attributes = {"group": group, "regionCode": region, "servicecode": "AmazonDynamoDB"}
    terms = {"OnDemand": {"t": {"priceDimensions": steps}}}
    return json.dumps({"product": {"attributes": attributes}, "terms": terms, **more})


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    with Fake() as one:
        monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", one.url)
        one.world.price_list = [product(UNITS, "0.0000001400"), product(READS, "0.0000000000", "0.0000003")]
        yield one


def loaded(fake: Fake, *options: str) -> Any:
    argv = ["status", "--target-table", "orders", "--region", "us-east-1", *options]
    for side in ("source", "target"):
        argv += [f"--{side}-endpoint-url", fake.url]
    return load(argv, {}).migrations


def test_prices_are_asked_of_aws(fake: Fake) -> None:
    [migration] = with_live_prices(loaded(fake))
    prices = migration.terms().prices
    assert prices.source_units == prices.target_units == pytest.approx(0.14)
    assert prices.stream_reads == pytest.approx(0.3)  # what is beyond the free ones
    assert "price list of us-east-1 as asked at the start" in prices.said


def test_what_is_given_by_option_stays(fake: Fake) -> None:
    [migration] = with_live_prices(loaded(fake, "--price-read-units", "7"))
    prices = migration.terms().prices
    assert prices.source_units == 7 and prices.stream_reads == pytest.approx(0.3)
    assert "read units as given by option" in prices.said


@pytest.mark.parametrize(
    "listed",
    [
        [],
        ["{"],
        ["null"],
        ["[]"],
        ['{"product": {}}'],
        [product("DDB-ReadUnitsIA", "0.1")],
        [product(UNITS, "0.0000001", region="eu-west-1")],
        [product(UNITS, "nan")],
        [product(UNITS, "inf")],
        [product(UNITS, "-1")],
        [product(UNITS, "0")],
        [product(UNITS, "1e30")],
        [product(UNITS, "0").replace('"0"', "9" * 400)],
        ['{"a":' * 5_000 + "1" + "}" * 5_000],
        [product(UNITS, "free")],
        ['{"product": {"productFamily": "Vector search"}, "terms": {}}'],
    ],
)
def test_a_list_that_makes_no_sense_fails_nothing_and_is_said(fake: Fake, listed: list[str]) -> None:
    fake.world.price_list = listed
    [migration] = with_live_prices(loaded(fake))
    prices = migration.terms().prices
    assert (prices.source_units, prices.stream_reads) == (LISTED.source_units, LISTED.stream_reads)
    assert "could not be asked" in prices.said and "2026-09-13" in prices.said


def test_products_without_a_group_are_passed_over(fake: Fake) -> None:
    fake.world.price_list.insert(0, '{"product": {"productFamily": "Vector search"}, "terms": {}}')
    [migration] = with_live_prices(loaded(fake))
    assert migration.terms().prices.source_units == pytest.approx(0.14)


@pytest.mark.parametrize(
    "kind", [Kind.ACCESS_DENIED, Kind.THROTTLE, Kind.BAD_GATEWAY, Kind.PORTAL, Kind.HANG_UP, Kind.EMPTY]
)
def test_a_refusal_fails_nothing_and_is_said(fake: Fake, kind: Kind) -> None:
    fake.control.fail(kind, "GetProducts")
    [migration] = with_live_prices(loaded(fake))
    assert "could not be asked" in migration.terms().prices.said


def test_a_list_that_answers_slowly_is_not_asked_for_every_migration(fake: Fake) -> None:
    """Without a network each of a hundred would wait for its own time-out."""
    fake.control.fail(Kind.BAD_GATEWAY, "GetProducts", calls=None)
    [one] = loaded(fake)
    many = [
        replace(one, source=replace(one.source, external_id=str(number)), target=one.target)
        for number in range(100)
    ]
    seconds = itertools.count(step=3)  # each request takes as long
    priced = with_live_prices(many, lambda: float(next(seconds)))
    assert fake.control.calls("GetProducts") < 10
    assert all("could not be asked" in one.terms().prices.said for one in priced)


def test_an_emulator_has_no_price_list(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's would be asked with an emulator's credentials."""
    monkeypatch.delenv("AWS_ENDPOINT_URL_PRICING")
    [migration] = with_live_prices(loaded(fake))
    assert "could not be asked" in migration.terms().prices.said


def test_nobody_is_asked_unless_that_was_asked_for(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake.world.price_list = []
    plan = ["plan", "--target-table", "orders", "--region", "us-east-1", "--keys", "1000000"]
    assert cli.main(plan, {}) == 0
    assert "price list of us-east-1 of 2026-09-13" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize("option", ["price-read-units", "price-stream-reads", "max-cost-per-hour"])
@pytest.mark.parametrize("amount", ["nan", "inf", "-inf", "-1", "1e30", "1e-30", "", "free", "1,5"])
def test_amounts_that_are_none_are_refused(option: str, amount: str) -> None:
    with pytest.raises(UsageError, match=option):
        load(["status", "--target-table", "orders", f"--{option}={amount}"], {})


@pytest.mark.parametrize("option", ["price-read-units", "price-stream-reads"])
def test_nothing_is_free(option: str) -> None:
    with pytest.raises(UsageError, match=option):
        load(["status", "--target-table", "orders", f"--{option}=0"], {})


def test_a_budget_of_nothing_is_no_limit() -> None:
    [migration] = load(["status", "--target-table", "orders", "--max-cost-per-hour=-0.0"], {}).migrations
    assert str(migration.terms().budget) == "0.0"
