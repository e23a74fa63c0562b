"""What was asked of AWS and what that costs: units and dollars by side and operation, so far and an hour.

Reads: counts. Writes: nothing. Never: I/O, clocks. The one definition of a price: plan, comparison, report,
gate, metrics and dashboard take it from here.

Only what is billed by the request is counted: read units of the tables (what their answers say they consumed,
a strongly consistent read twice), and GetRecords of the stream, each of which is a read request unit of
streams. Descriptions are free. An export, its storage and its requests to S3 are on no account of ours.
"""

from collections.abc import Mapping

import msgspec

from pipeline.core.model import Side

SOURCE, TARGET, STREAM = Side.SOURCE.value, Side.TARGET.value, "stream"
GET_RECORDS, SCAN, BATCH_GET_ITEM = "GetRecords", "Scan", "BatchGetItem"
#: What is billed: the side that answers, and the operation.
BILLED = (
    *((side, operation) for side in (SOURCE, TARGET) for operation in (BATCH_GET_ITEM, SCAN)),
    (STREAM, GET_RECORDS),
)
#: Of which a watch of the stream is made; a Scan belongs to a comparison, which is paced instead.
OF_LOOKS = ((SOURCE, BATCH_GET_ITEM), (TARGET, BATCH_GET_ITEM))
#: What an hour costs is measured over the last minutes, and not before there is one.
WINDOW_MINUTES, LEAST_MS = 5, 60_000
HOUR_MS, DAY_HOURS = 3_600_000, 24
#: The built-in prices: AWS's price list of us-east-1, dollars a million (on demand, standard table class; of
#: streams what is beyond the 2.5 million requests a month that are free).
LISTED_ON = "2026-09-13"
LISTED_REGION = "us-east-1"
READ_UNITS_LISTED, STREAM_READS_LISTED = 0.125, 0.2
#: What is more is a slip of the pen, or another list.
MOST_DOLLARS_A_MILLION = 1_000_000


class Prices(msgspec.Struct, frozen=True):
    """Dollars of a million: read request units of each table, GetRecords requests.

    said: where they are from.
    """

    source_units: float = READ_UNITS_LISTED
    target_units: float = READ_UNITS_LISTED
    stream_reads: float = STREAM_READS_LISTED
    said: str = f"on demand, price list of {LISTED_REGION} of {LISTED_ON}"

    def of_units(self, side: Side | str, units: float) -> float:
        """Dollars of a table's read units."""
        return units * (self.source_units if side == SOURCE else self.target_units) / 1_000_000

    def of(self, side: str, asked: "Asked") -> float:
        """Dollars of what one side was asked by one operation."""
        if side == STREAM:
            return asked.requests * self.stream_reads / 1_000_000
        return self.of_units(side, asked.units)


LISTED = Prices()


def given_prices(known: Prices, read_units: float | None, stream_reads: float | None) -> Prices:
    """The known prices, but for those that the operator gave."""
    if read_units is None and stream_reads is None:
        return known
    said = "as given by option"
    if read_units is None or stream_reads is None:
        said = f"{'stream reads' if read_units is None else 'read units'} {said}, else {known.said}"
    return Prices(
        known.source_units if read_units is None else read_units,
        known.target_units if read_units is None else read_units,
        known.stream_reads if stream_reads is None else stream_reads,
        said,
    )


class Terms(msgspec.Struct, frozen=True):
    """What is paid, and what may be spent an hour: dollars, 0 = no limit."""

    prices: Prices = LISTED
    budget: float = 0.0


class Asked(msgspec.Struct, frozen=True):
    """Requests that were answered, and the read units they consumed, twice: so these are whole numbers."""

    requests: int = 0
    half_units: int = 0

    @property
    def units(self) -> float:
        return self.half_units / 2

    def __add__(self, other: "Asked") -> "Asked":
        return Asked(self.requests + other.requests, self.half_units + other.half_units)


#: By side and operation.
Bill = dict[tuple[str, str], Asked]


class Spending(msgspec.Struct, frozen=True):
    """What all processes asked since the migration was begun, and by the minute lately.

    minutes: since 1970 → what was asked in it, the last WINDOW_MINUTES and the one under way.
    """

    total: Bill
    minutes: dict[int, Bill]


NOTHING_SPENT = Spending({}, {})


def field(side: str, operation: str, what: str) -> str:
    """The name under which the store counts: what is "requests" or "half_units"."""
    return f"{side}:{operation}:{what}"


def bill_of(fields: Mapping[str, int]) -> Bill:
    """Of fields as `field` names them; what is not billed is not there. Raises ValueError below zero."""
    if min(fields.values(), default=0) < 0:
        raise ValueError("nothing is asked less than zero times")
    return {
        (side, operation): Asked(
            fields.get(field(side, operation, "requests"), 0),
            fields.get(field(side, operation, "half_units"), 0),
        )
        for side, operation in BILLED
    }


def added(bills: list[Bill]) -> Bill:
    """All of them together."""
    return {one: sum((bill.get(one, Asked()) for bill in bills), Asked()) for one in BILLED}


def dollars_of(bill: Bill, prices: Prices, only: tuple[tuple[str, str], ...] = BILLED) -> float:
    """What the bill comes to, or those of its lines."""
    return sum(prices.of(side, bill.get((side, operation), Asked())) for side, operation in only)


def window(spending: Spending, now_ms: int, since_ms: int) -> tuple[Bill, float] | None:
    """What was asked in the last minutes, not before `since_ms`, and how many hours they are; None where that
    is not long enough to tell. What is counted is counted by the minute.
    """
    began_ms = max((now_ms // 60_000 - WINDOW_MINUTES) * 60_000, since_ms)
    if now_ms - began_ms < LEAST_MS:
        return None
    bills = [bill for minute, bill in spending.minutes.items() if minute >= began_ms // 60_000]
    return added(bills), (now_ms - began_ms) / HOUR_MS


class CostLine(msgspec.Struct, frozen=True):
    """One operation of one side. units: read units, of the stream its requests. an_hour: dollars, as it runs
    now; None while that is not known.
    """

    side: str
    operation: str
    requests: int
    units: float
    dollars: float
    an_hour: float | None


class Cost(msgspec.Struct, frozen=True):
    """What it costs. dollars: so far. an_hour, a_day: as it runs now, None while that is not known.

    budget: dollars an hour that are allowed, 0 = no limit.
    """

    lines: list[CostLine]
    dollars: float
    an_hour: float | None
    a_day: float | None
    prices: Prices
    budget: float


def cost_of(spending: Spending, terms: Terms, now_ms: int, since_ms: int) -> Cost:
    """since_ms: when the migration was begun."""
    recent = window(spending, now_ms, since_ms)
    lines = []
    for side, operation in BILLED:
        asked = spending.total.get((side, operation), Asked())
        units = float(asked.requests) if side == STREAM else asked.units
        an_hour = None
        if recent is not None:
            bill, hours = recent
            an_hour = dollars_of(bill, terms.prices, ((side, operation),)) / hours
        lines.append(CostLine(side, operation, asked.requests, units, terms.prices.of(side, asked), an_hour))
    in_all = None if recent is None else sum((line.an_hour or 0.0 for line in lines), 0.0)
    return Cost(
        lines=lines,
        dollars=sum(line.dollars for line in lines),
        an_hour=in_all,
        a_day=None if in_all is None else in_all * DAY_HOURS,
        prices=terms.prices,
        budget=terms.budget,
    )
