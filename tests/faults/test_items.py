"""Keys of other types, the largest items, and a clock that is wrong: no false alarm, nothing missed."""

import base64
import time
from pathlib import Path

import pytest

from tests.fake.tables import MAX_ITEM_BYTES
from tests.faults.world import World
from tests.system import Item


def number_and_binary(name: str) -> Item:
    return {"pk": {"N": str(sum(name.encode()) * 1000 + len(name))}, "sk": {"B": _base64(name)}}


def binary(name: str) -> Item:
    return {"pk": {"B": _base64(name)}}


def _base64(name: str) -> str:
    return base64.b64encode(name.encode()).decode()


@pytest.mark.parametrize(
    ("keys", "key", "ahead_seconds"),
    [({"pk": "N", "sk": "B"}, number_and_binary, 600), ({"pk": "B"}, binary, -600)],
    ids=["number-binary-ahead", "binary-behind"],
)
def test_keys_of_other_types_items_of_400_kb_and_a_clock_that_is_10_minutes_off(
    tmp_path: Path, keys: dict[str, str], key: object, ahead_seconds: int
) -> None:
    also = {"big": {"S": "x" * (MAX_ITEM_BYTES - 400)}}
    with World(tmp_path, keys=keys, key=key, also=also) as world:
        world.fake.steer("skew", seconds=ahead_seconds)
        for _, table, _ in world._sides:
            put, delete = _at(world, table.name, ahead_seconds)
            table.put, table.delete = put, delete  # type: ignore[method-assign]
        with world.watching():
            world.plant(20)
            world.settle(f"{' and '.join(keys.values())} keys, 400 KB, clock {ahead_seconds:+} s")


def _at(world: World, table: str, ahead_seconds: int):
    """Writers whose changes are stamped with AWS's own, wrong, clock."""

    def put(item: Item) -> None:
        world.fake.steer("put", table=table, item=item, created=int(time.time()) + ahead_seconds)

    def delete(key: Item) -> None:
        world.fake.steer("delete", table=table, key=key, created=int(time.time()) + ahead_seconds)

    return put, delete
