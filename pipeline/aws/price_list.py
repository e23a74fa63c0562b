"""The AWS edge: what a request of DynamoDB costs, by AWS's price list.

Reads: pricing:GetProducts. Writes: nothing. Never: retries.

The list names a product by family and group; other families have groups of the same name, and some products
none. Of a price in steps the dearest counts: the first step is the free one of the month.
"""

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from pipeline.aws.connection import Connection
from pipeline.aws.hosts import PRICE_LIST
from pipeline.core.cost import MOST_DOLLARS_A_MILLION
from pipeline.errors import AwsUnavailable, MalformedResponse

#: Group of what is billed → the family of products that it is in.
FAMILIES = {
    "DDB-ReadUnits": "Amazon DynamoDB PayPerRequest Throughput",
    "DDB-StreamsReadRequests": "API Request",
}

#: What comes of a list of another form: also of numbers without end, and of lists in lists in lists.
_OTHER_FORM = (
    *(KeyError, TypeError, ValueError, AttributeError, msgspec.MsgspecError),
    *(OverflowError, RecursionError),
)


def read_price(connection: Connection, region: str, group: str) -> float:
    """Dollars of a million. group: of FAMILIES. Raises AwsError and ConfigurationError."""
    if not connection.is_beside(PRICE_LIST):
        raise AwsUnavailable(f"{connection.endpoint} is no endpoint of AWS, and has no price list")
    wanted = {"regionCode": region, "group": group, "productFamily": FAMILIES[group]}
    answer = connection.ask(
        PRICE_LIST,
        "get_products",
        ServiceCode="AmazonDynamoDB",
        Filters=[{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()],
        FormatVersion="aws_v1",
        MaxResults=100,
    )
    try:
        prices = [price for text in answer["PriceList"] for price in _prices(text, region, group)]
    except _OTHER_FORM as error:
        raise MalformedResponse("GetProducts: a price list of another form") from error
    dearest = max(prices, default=0.0) * 1_000_000
    if not 0 < dearest <= MOST_DOLLARS_A_MILLION:
        raise MalformedResponse(f"GetProducts: no price of {group} in {region}")
    return dearest


def _prices(text: str, region: str, group: str) -> Iterator[float]:
    """The prices of one product, if it is the one asked for: dollars each."""
    told: dict[str, Any] = msgspec.json.decode(text)
    attributes = told["product"].get("attributes", {})
    if attributes.get("regionCode") != region or attributes.get("group") != group:
        return
    for term in told["terms"]["OnDemand"].values():
        for step in term["priceDimensions"].values():
            price = float(step["pricePerUnit"]["USD"])
            if not math.isfinite(price):
                raise ValueError("no price")
            yield price
