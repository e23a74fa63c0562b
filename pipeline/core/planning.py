"""Which sample finds which defect, before anything is read: what it shows, what it costs, how long it takes.

Reads: numbers. Writes: nothing. Never: I/O. The unit is a distinct key, of a comparison by segments a
partition key: a record of a stream, or a read, says less, because keys come again.
"""

from math import ceil, log, log1p, sqrt

import msgspec

from pipeline.core.comparing.result import BYTES_PER_UNIT
from pipeline.core.cost import LISTED, Prices
from pipeline.core.model import Side
from pipeline.core.statistics import CONFIDENCE, exact_interval

#: Sampled percentages that are compared with each other.
PERCENTS = (0.01, 0.1, 1.0, 5.0, 10.0, 25.0, 100.0)
#: The rate of right keys for which a margin is told: where migrations are.
USUAL_RATE = 0.99
#: Of the normal distribution: 95 % lie within so many standard deviations.
_DEVIATIONS = 1.959964


class Question(msgspec.Struct, frozen=True):
    """keys: of the table. defect: the share of wrong keys that is to be found, 0..1. item_bytes: on average.
    max_rcu: read units a second to spend on each side, 0 = no limit. prices: of them.
    """

    keys: int
    defect: float
    item_bytes: int
    max_rcu: float = 0
    prices: Prices = LISTED


class Plan(msgspec.Struct, frozen=True):
    """What one sample comes to.

    margin_usual, margin_worst: half the width of the 95 % interval, at USUAL_RATE and at a rate of one half.
    shows: keys with the defect that it holds, on average. misses: the chance that it holds none. proves: the
    largest share of wrong keys that could have gone unseen when all are right. units: of Scans of both sides.
    seconds: None = without a limit.
    """

    percent: float
    keys: int
    margin_usual: float
    margin_worst: float
    shows: float
    misses: float
    proves: float
    units: float
    dollars: float
    seconds: float | None


def plans(question: Question) -> list[Plan]:
    """One for each of PERCENTS. A sample of no key at all is left out."""
    return [_plan(question, percent) for percent in PERCENTS if question.keys * percent >= 100]


def _plan(question: Question, percent: float) -> Plan:
    keys = int(question.keys * percent / 100)
    whole = percent == 100
    side_units = keys * question.item_bytes / BYTES_PER_UNIT
    return Plan(
        percent=percent,
        keys=keys,
        margin_usual=0.0 if whole else margin(keys, USUAL_RATE),
        margin_worst=0.0 if whole else margin(keys, 0.5),
        shows=keys * question.defect,
        misses=0.0 if whole else (1 - question.defect) ** keys,
        proves=0.0 if whole else 1 - exact_interval(keys, keys)[0],
        units=2 * side_units,
        dollars=sum(question.prices.of_units(side, side_units) for side in Side),
        seconds=side_units / question.max_rcu if question.max_rcu else None,
    )


def margin(keys: int, rate: float) -> float:
    """Half the width of the 95 % interval that so many keys give when the rate is this."""
    return _DEVIATIONS * sqrt(rate * (1 - rate) / keys)


def keys_to_see(defect: float, confidence: float = CONFIDENCE) -> int:
    """How many keys hold at least one with the defect, at this confidence."""
    return 1 if defect >= 1 else ceil(log(1 - confidence) / log1p(-defect))
