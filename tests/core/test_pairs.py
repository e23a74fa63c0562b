"""A pair compared the cheap way is equal exactly when the canonical digests are."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.canonical import Digester, KeySchema, MalformedItem
from pipeline.core.comparing.keys import KeyReader, PartitionKeys
from pipeline.core.comparing.pairs import PairComparer
from pipeline.core.model import UNKNOWN
from tests.core.wire import ITEMS, respelled_item

IGNORE = frozenset({"a", "é"})


def wire(item: Any) -> bytes:
    return msgspec.json.encode(item)


def agree(a: Any, b: Any, ignore: frozenset[str] = frozenset()) -> bool:
    """The comparer's word, which must be the digester's."""
    digester = Digester(ignore)
    equal = PairComparer(digester).equal(wire(a), wire(b))
    assert equal == (digester.digest(wire(a)) == digester.digest(wire(b)))
    return equal


@given(ITEMS, ITEMS)
def test_two_items_are_equal_when_their_digests_are(a: Any, b: Any) -> None:
    agree(a, b)


@given(ITEMS.flatmap(lambda item: st.tuples(st.just(item), respelled_item(item))))
def test_another_spelling_and_order_is_the_same_item(pair: Any) -> None:
    assert agree(*pair)


@given(ITEMS, ITEMS)
def test_ignored_attributes_are_not_looked_at(a: Any, b: Any) -> None:
    agree(a, b, IGNORE)


@given(ITEMS)
def test_what_replication_adds_is_never_looked_at(item: Any) -> None:
    assert agree(item, item | {"aws:rep:updatetime": {"N": "1"}})


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ({"n": {"N": "1"}}, {"n": {"S": "1"}}, False),
        ({"n": {"N": "1"}}, {"n": {"N": "1.0"}}, True),
        ({"s": {"S": ""}}, {}, False),
        ({"l": {"L": []}}, {"l": {"L": []}, "x": {"NULL": True}}, False),
        (
            {"m": {"M": {"x": {"N": "1"}, "y": {"N": "2"}}}},
            {"m": {"M": {"y": {"N": "2"}, "x": {"N": "1"}}}},
            True,
        ),
        ({"t": {"SS": ["a", "b"]}, "n": {"N": "1"}}, {"n": {"N": "1"}, "t": {"SS": ["b", "a"]}}, True),
        ({"l": {"L": [{"N": "1"}, {"N": "2"}]}}, {"l": {"L": [{"N": "2"}, {"N": "1"}]}}, False),
    ],
)
def test_what_counts_as_a_difference(a: Any, b: Any, equal: bool) -> None:
    assert agree(a, b) is equal


def test_a_malformed_item_differs_from_all_but_itself_and_has_no_digest() -> None:
    pairs = PairComparer(Digester())
    malformed, well = wire({"a": {"X": "1"}}), wire({"a": {"S": "1"}})
    assert pairs.equal(malformed, malformed)
    assert pairs.equal(malformed, msgspec.Raw(malformed)), "a view of the same bytes"
    assert not pairs.equal(malformed, well)
    assert not pairs.equal(b"[]", well)
    assert pairs.digest(malformed) == UNKNOWN


@pytest.mark.parametrize(
    ("schema", "item"),
    [
        (KeySchema("pk", "S"), {"pk": {"S": 'ключ "1"\n'}}),
        (KeySchema("pk", "S"), {"pk": {"S": "a\\b"}}),
        (KeySchema("pk", "S", "sk", "S"), {"sk": {"S": "é"}, "pk": {"S": ""}}),
        (KeySchema("pk", "N"), {"pk": {"N": "1.50"}}),
        (KeySchema("pk", "B"), {"pk": {"B": "AP8="}}),
        (KeySchema("pk", "S", "sk", "N"), {"sk": {"N": "1E2"}, "pk": {"S": 'a","b'}}),
        (KeySchema('p"k', "B", "s.k", "S"), {'p"k': {"B": "AP8="}, "s.k": {"S": ""}}),
    ],
)
def test_keys_of_many_items_are_those_of_each(schema: KeySchema, item: Any) -> None:
    items = [item | {"other": {"M": {"pk": {"S": "not it"}}}}, {"other": {"L": []}} | item]
    compact = [schema.compact_of(one) for one in items]
    keys = KeyReader(schema)
    assert keys.keys(wire(items)) == compact
    undecoded = msgspec.json.Decoder(dict[str, msgspec.Raw])
    assert keys.keys_of([undecoded.decode(wire(one)) for one in items]) == compact


@pytest.mark.parametrize("item", [{}, {"pk": {"N": "1"}}, {"pk": {"S": 1}}, {"pk": []}, {"sk": {"S": "1"}}])
def test_an_item_without_its_key_is_refused(item: Any) -> None:
    with pytest.raises(MalformedItem):
        KeyReader(KeySchema("pk", "S")).keys(wire([item]))
    with pytest.raises(MalformedItem):
        KeyReader(KeySchema("pk", "S")).keys_of([{n: msgspec.Raw(wire(v)) for n, v in item.items()}])


def test_partition_keys_are_counted_once_whatever_the_order_and_never_beyond_the_bound() -> None:
    schema = KeySchema("pk", "S", "sk", "N")
    keys = [
        schema.compact_of({"pk": {"S": partition}, "sk": {"N": str(sort)}})
        for partition, sort in [("a", 1), ("a", 2), ('b","c', 1), ("a", 3), ('b","d', 1)]
    ]
    seen, bounded = PartitionKeys(), PartitionKeys(most=2)
    for counter in (seen, bounded):
        counter.add(keys[:3])
        counter.add(keys[3:])
    assert (seen.count, bounded.count) == (3, 2)
