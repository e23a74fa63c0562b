"""Both sides beside each other: every path once, and those that differ are those that a finding names."""

import copy
import json
import random
from typing import Any

import pytest

from pipeline.core.canonical import Digester, MalformedItem
from pipeline.core.differing import diff
from pipeline.core.outline import MAX_PATHS, Row, Shape, outline


def rows(source: Any, target: Any, **options: Any) -> dict[str, Row]:
    return {row.path: row for row in outline(source, target, **options).rows}


def test_types_and_sizes() -> None:
    item = {
        "s": {"S": "grün"},
        "n": {"N": "-12.50E2"},
        "b": {"B": "AAE="},
        "t": {"BOOL": True},
        "z": {"NULL": True},
        "ss": {"SS": ["a", "b"]},
        "l": {"L": [{"N": "1"}, {"L": []}]},
        "m": {"M": {"x.y": {"M": {}}}},
    }
    found = rows(item, None)
    assert {path: row.source for path, row in found.items()} == {
        "s": Shape("S", 5, "byte"),
        "n": Shape("N", 4, "digit"),
        "b": Shape("B", 2, "byte"),
        "t": Shape("BOOL"),
        "z": Shape("NULL"),
        "ss": Shape("SS", 2, "member"),
        "l[0]": Shape("N", 1, "digit"),
        "l[1]": Shape("L", 0, "element"),
        'm."x.y"': Shape("M", 0, "element"),
    }
    assert all(row.differs and row.target is None for row in found.values())


def test_what_is_equal_in_dynamodb_s_sense_does_not_differ() -> None:
    found = outline({"n": {"N": "1.0"}, "v": {"SS": ["b", "a"]}}, {"v": {"SS": ["a", "b"]}, "n": {"N": "1"}})
    assert (found.differing, found.equal) == (0, 2)


def test_a_change_of_type_is_told_as_a_whole() -> None:
    found = rows({"v": {"M": {"a": {"N": "1"}}}}, {"v": {"S": "1"}})
    assert found["v"].source == Shape("M", 1, "element")
    assert found["v"].target == Shape("S", 1, "byte")


def test_an_empty_map_and_none_differ() -> None:
    assert rows({"v": {"M": {}}}, {})["v"].differs
    assert rows({"v": {"L": [{"M": {}}]}}, {"v": {"L": []}})["v[0]"].differs


def test_values_are_kept_only_where_they_are_asked_for() -> None:
    item = {"pk": {"S": "secret"}, "v": {"S": "shown"}}
    assert all(row.source and row.source.value is None for row in rows(item, None).values())
    found = rows(item, None, hidden=frozenset({"pk"}))
    assert found["pk"].source == Shape("S", 6, "byte", None)
    assert found["v"].source == Shape("S", 5, "byte", '{"S":"shown"}')


def test_what_is_left_out_of_the_comparison_is_named() -> None:
    item = {"aws:rep:x": {"S": "1"}, "at": {"S": "1"}, "v": {"S": "1"}}
    found = outline(item, {"v": {"S": "1"}}, frozenset({"at"}))
    assert (found.left_out, found.differing, found.equal) == (["at", "aws:rep:x"], 0, 1)


def test_those_that_differ_come_first_and_the_rest_is_counted() -> None:
    source = {f"a{number:05}": {"N": str(number)} for number in range(2 * MAX_PATHS)}
    found = outline(source, {**copy.deepcopy(source), "z": {"S": ""}})
    assert found.rows[0].path == "z"
    assert len(found.rows) == MAX_PATHS
    assert (found.differing, found.equal) == (1, 2 * MAX_PATHS)


def test_a_malformed_item_is_no_outline() -> None:
    with pytest.raises(MalformedItem):
        outline({"v": {"X": "1"}}, {})


def _value(chance: random.Random, depth: int = 0) -> dict[str, Any]:
    kind = chance.choice(("S", "N", "BOOL", "M", "L") if depth < 3 else ("S", "N"))
    if kind == "M":
        return {"M": {name: _value(chance, depth + 1) for name in "ab" if chance.random() < 0.5}}
    if kind == "L":
        return {"L": [_value(chance, depth + 1) for _ in range(chance.randrange(3))]}
    return {kind: chance.choice((True, False)) if kind == "BOOL" else str(chance.randrange(2))}


@pytest.mark.parametrize("seed", range(300))
def test_it_differs_exactly_where_the_digests_do(seed: int) -> None:
    chance = random.Random(seed)
    source, target = ({name: _value(chance) for name in "abc" if chance.random() < 0.8} for _ in "st")
    equal = Digester().digest_item(copy.deepcopy(source)) == Digester().digest_item(copy.deepcopy(target))
    found = outline(copy.deepcopy(source), copy.deepcopy(target))
    assert (found.differing == 0) == equal, json.dumps([source, target])
    # Every place that a finding names is there, or above what is there.
    named = [row.path for row in found.rows if row.differs]
    for path in diff(source, target):
        assert any(one == path or one.startswith((f"{path}.", f"{path}[")) for one in named)
