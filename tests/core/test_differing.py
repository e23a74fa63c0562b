"""Differing paths are bounded while they are made: in number, length, bytes and memory."""

import tracemalloc
from typing import Any

import msgspec
import pytest

from pipeline.core.canonical import Digester, MalformedItem
from pipeline.core.differing import CUT, MAX_BYTES, MAX_PATHS, diff

Item = dict[str, Any]
#: A legal item: 10,000 leaves under three nested names of 60,000 bytes (236 KB).
LONG = 60_000


def tower(names: list[str], leaves: Item) -> Item:
    for name in reversed(names):
        leaves = {name: {"M": leaves}}
    return leaves


def leaves(value: str, count: int = 10_000) -> Item:
    return {f"leaf{number}": {"S": value} for number in range(count)}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (
            tower(["a" * LONG, "b" * LONG, "c" * LONG], leaves("x")),
            tower(["a" * LONG, "b" * LONG, "c" * LONG], leaves("y")),
        ),
        (tower(["é" * 60] * 31, leaves("x", 2_000)), tower(["é" * 60] * 31, leaves("y", 2_000))),
        ({"\x01" * 60_000 + str(n): {"S": "x"} for n in range(6)}, {}),
        ({"list": {"L": [{"S": "x"}] * 40_000}}, {"list": {"L": [{"S": "y"}] * 40_000}}),
        ({f"\U0001f600{n}" * 40: {"S": "x"} for n in range(400)}, {}),
    ],
    ids=["three long names", "31 levels", "control characters", "a long list", "four bytes a character"],
)
def test_paths_are_few_short_and_said_to_be_cut(a: Item, b: Item) -> None:
    found = diff(a, b)
    assert len(found) <= MAX_PATHS + 1
    assert len(msgspec.json.encode(found)) <= MAX_BYTES + 100
    assert found[-1] == CUT or len(found) == len(set(found)) <= MAX_PATHS
    assert all(len(path) <= 200 for path in found)


def test_making_them_takes_no_memory_for_the_paths_that_are_not_named() -> None:
    names = ["a" * LONG, "b" * LONG, "c" * LONG]
    a, b = tower(names, leaves("x")), tower(names, leaves("y"))
    tracemalloc.start()
    found = diff(a, b)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[-1] == CUT
    assert peak < 3_000_000  # 1.7 GB before


def test_a_name_that_holds_the_mark_of_a_cut_is_told_from_one() -> None:
    assert diff({"a…": {"S": "x"}, "…": {"S": "x"}}, {}) == ['"a…"', '"…"']


def test_a_malformed_item_is_named_by_the_beginning_of_its_attribute() -> None:
    with pytest.raises(MalformedItem) as refused:
        Digester().digest_item({"\x1b[2J" + "n" * LONG: {"N": "secret"}})
    assert len(str(refused.value)) < 200
    assert "\x1b" not in str(refused.value)
    assert "secret" not in str(refused.value)
