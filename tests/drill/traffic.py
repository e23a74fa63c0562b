"""Who writes what in the drill: hot keys by Zipf's law, cold keys evenly; inserts, updates, deletions.

Reads: nothing. Writes: nothing. Never: two equal versions of one item; chance beyond the seed.
"""

import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.demo.tables import Item
from tests.drill.scenarios import Scenario

DELETE_SHARE = {"hot": 0.02, "cold": 0.15}
#: Every second cold key is in both tables before the watch begins.
BASELINE_STEP = 2
_BLOCK = 1_000


class Key(NamedTuple):
    """text: how truth and findings name it. wire: DynamoDB's JSON of the key."""

    text: str
    wire: Item
    group: str


def text_of(wire: Item) -> str:
    return f"{wire['pk']['S']}/{wire['sk']['N']}"


def keys(scenario: Scenario) -> dict[str, list[Key]]:
    counts = {"hot": scenario.hot_keys, "cold": scenario.cold_keys}
    return {group: numbered(group, count) for group, count in counts.items()}


def ttl_keys(scenario: Scenario) -> list[Key]:
    return numbered("ttl", scenario.ttl_keys)


def numbered(group: str, count: int) -> list[Key]:
    return [_key(group, number) for number in range(count)]


def _key(group: str, number: int) -> Key:
    wire = {"pk": {"S": f"{group}#{number:06}"}, "sk": {"N": str(number % 7)}}
    return Key(text_of(wire), wire, group)


def baseline(cold: list[Key]) -> list[Item]:
    return [item(key, -number) for number, key in enumerate(cold[::BASELINE_STEP], start=1)]


def script(scenario: Scenario, by_group: dict[str, list[Key]]) -> Iterator[tuple[Key, Item | None]]:
    """The writes, in order, each of which changes something; None deletes the key."""
    rng = random.Random(f"drill {scenario.seed} {scenario.name}")
    hot, cold = by_group["hot"], by_group["cold"]
    zipf = list(itertools.accumulate(1 / rank for rank in range(1, len(hot) + 1)))
    existing = {key.text for key in cold[::BASELINE_STEP]}
    numbers = iter(range(1, scenario.changes + 1))
    while block := list(itertools.islice(numbers, _BLOCK)):
        picks = rng.choices(hot, cum_weights=zipf, k=len(block) // 2)
        picks += rng.choices(cold, k=len(block) - len(picks))
        rng.shuffle(picks)
        for number, key in zip(block, picks, strict=True):
            if key.text in existing and rng.random() < DELETE_SHARE[key.group]:
                existing.remove(key.text)
                yield key, None
            else:
                existing.add(key.text)
                yield key, item(key, number)


def item(key: Key, number: int) -> Item:
    """`revision` is the write's number: no two versions are equal."""
    return {
        **key.wire,
        "revision": {"N": str(number)},
        "balance": {"N": f"{number % 100_000 / 100:.2f}"},
        "name": {"S": "Çağla"},
        "active": {"BOOL": number % 3 > 0},
        "address": {"M": {"city": {"S": "Tartu"}, "floor": {"N": str(number % 20)}}},
        "tags": {"SS": ["a", "b"]},
        "note": {"NULL": True},
    }
