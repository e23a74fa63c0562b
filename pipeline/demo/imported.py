"""What the import before the watch left in both tables: the many items that nobody writes any more.

Reads: nothing. Writes: nothing. Never: chance beyond a seed. The stream shows none of them, so only a
comparison of the whole tables finds what the import lost, spoiled or left over.
"""

import random
from typing import NamedTuple

from pipeline.demo import traffic
from pipeline.demo.plan import Imported
from pipeline.demo.schedule import corrupted
from pipeline.demo.tables import Item

#: Of as many items both tables hold the same, some with a set in another order, which is no difference.
ITEMS, REORDERED_STEP = 300, 10


class Contents(NamedTuple):
    """What both tables hold when the stream is switched on."""

    source: list[Item]
    target: list[Item]


def contents(faults: Imported, seed: int) -> Contents:
    """What the traffic will change, the same on both sides, and the rest as the import left it."""
    rng = random.Random(f"import {seed}")
    cold = [traffic.item(rng, _key(number), 0) for number in range(ITEMS)]
    rng.shuffle(cold)
    lost, spoiled, left_over = (
        [cold.pop() for _ in range(count)] for count in (faults.lost, faults.spoiled, faults.left_over)
    )
    active = traffic.baseline(seed)
    return Contents(
        source=[*active, *cold, *lost, *spoiled],
        target=[
            *active,
            *(_reordered(item) if number % REORDERED_STEP == 0 else item for number, item in enumerate(cold)),
            *(SPOILT[number % len(SPOILT)](item) for number, item in enumerate(spoiled)),
            *left_over,
        ],
    )


def _key(number: int) -> Item:
    return {"pk": {"S": f"archive#{number:04}"}, "sk": {"N": str(number % 3)}}


def _reordered(item: Item) -> Item:
    return {**item, "tags": {"SS": item["tags"]["SS"][::-1]}}


def _retyped(item: Item) -> Item:
    """A number that became a text on its way."""
    return {**item, "balance": {"S": item["balance"]["N"]}}


def _nested(item: Item) -> Item:
    return {**item, "address": {"M": {**item["address"]["M"], "floor": {"N": "-1"}}}}


#: The ways to spoil an item, in turns.
SPOILT = (corrupted, _retyped, _nested)
