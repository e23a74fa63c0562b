"""Compact keys: one per key, and back to the wire."""

import base64
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.canonical import KeySchema, KeyType, MalformedItem
from tests.core.wire import TEXTS, numbers, reference, respelled_item

USERS = KeySchema("pk", "S")
EVENTS = KeySchema("pk", "S", "sk", "N")


@st.composite
def schemas(draw: st.DrawFn) -> KeySchema:
    names = draw(
        st.lists(st.one_of(TEXTS.filter(bool), st.just("100 %b")), min_size=2, max_size=2, unique=True)
    )
    types: st.SearchStrategy[KeyType] = st.sampled_from(["S", "N", "B"])
    return KeySchema(names[0], draw(types), *((names[1], draw(types)) if draw(st.booleans()) else ()))


def keys(schema: KeySchema) -> st.SearchStrategy[dict[str, Any]]:
    texts = {
        "S": TEXTS,
        "N": numbers(),
        "B": st.binary(max_size=4).map(lambda raw: base64.b64encode(raw).decode()),
    }
    pairs = [(schema.partition_key, schema.partition_type)]
    if schema.sort_key and schema.sort_type:
        pairs.append((schema.sort_key, schema.sort_type))
    return st.fixed_dictionaries({name: st.fixed_dictionaries({tag: texts[tag]}) for name, tag in pairs})


@pytest.mark.parametrize(
    ("schema", "wire", "compact"),
    [
        (USERS, b'{"pk":{"S":"user#1"}}', b'"user#1"'),
        (EVENTS, b'{"sk":{"N":"17.0"},"pk":{"S":"user#1"}}', b'"user#1","17"'),
        (KeySchema("id", "N"), b'{"id":{"N":"1E2"}}', b'"100"'),
        (KeySchema("id", "B", "at", "B"), b'{"id":{"B":"AAE="},"at":{"B":"/+8="}}', b'"AAE=","/+8="'),
    ],
)
def test_a_compact_key_is_its_values_as_json_strings(schema: KeySchema, wire: bytes, compact: bytes) -> None:
    assert schema.compact(wire) == compact
    assert schema.compact_of(msgspec.json.decode(wire)) == compact


@given(st.data())
def test_raw_and_decoded_keys_and_the_way_back_agree(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    key = data.draw(keys(schema))
    raw = msgspec.json.encode(data.draw(respelled_item(key)))
    compact = schema.compact(raw)
    assert schema.compact_of({**key, "other attribute": {"S": "x"}}) == compact
    assert schema.compact(msgspec.Raw(schema.wire(compact))) == compact
    assert reference(msgspec.json.decode(schema.wire(compact))) == reference(key)


@given(st.data())
def test_many_keys_are_written_as_each_of_them(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    compacts = [schema.compact_of(key) for key in data.draw(st.lists(keys(schema), min_size=1, max_size=3))]
    assert schema.wire_all(compacts) == b",".join(map(schema.wire, compacts))


@given(st.data())
def test_two_keys_share_a_compact_key_exactly_when_they_are_one_key(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    a, b = data.draw(keys(schema)), data.draw(keys(schema))
    assert (schema.compact_of(a) == schema.compact_of(b)) == (reference(a) == reference(b))


def test_quotes_and_commas_do_not_move_the_boundary_between_the_values() -> None:
    schema = KeySchema("a", "S", "b", "S")
    pairs = [('x",', "y"), ("x", '","y'), ('x","', "y"), ("", '","'), ('","', "")]
    compacts = {
        schema.compact_of({"a": {"S": first}, "b": {"S": second}}): (first, second) for first, second in pairs
    }
    assert len(compacts) == len(pairs)
    for compact, (first, second) in compacts.items():
        assert msgspec.json.decode(schema.wire(compact)) == {"a": {"S": first}, "b": {"S": second}}


@pytest.mark.parametrize(
    "raw",
    [
        *[
            b"",
            b"{}",
            b"[]",
            b'{"pk":{"S":"a"}}',
            b'{"pk":{"S":"a"},"sk":{"S":"1"}}',
            b'{"pk":{"S":1},"sk":{"N":"1"}}',
        ],
        *[
            b'{"pk":{"S":"a"},"sk":{"N":"x"}}',
            b'{"pk":{"S":"a","N":"1"},"sk":{"N":"1"}}',
            b'{"pk":"a","sk":{"N":"1"}}',
        ],
        b'{"pk":{"S":"a"},"sk":{"N":"1"},"other":{"S":"x"}}',
    ],
)
def test_a_key_that_does_not_fit_the_schema_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedItem):
        EVENTS.compact(raw)


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"pk": {"S": "a"}},
        {"pk": {"S": "a"}, "sk": {"S": "1"}},
        {"pk": {"S": 1}, "sk": {"N": "1"}},
        {"pk": "a"},
    ],
)
def test_an_item_without_its_key_is_refused(item: dict[str, Any]) -> None:
    with pytest.raises(MalformedItem):
        EVENTS.compact_of(item)


@pytest.mark.parametrize(
    "compact", [b"", b'"a"', b'"a","1","2"', b'"a",1', b"garbage", b'"a","1"]', b'"\xff","1"']
)
def test_bytes_that_are_not_a_compact_key_are_refused(compact: bytes) -> None:
    with pytest.raises(MalformedItem):
        EVENTS.wire(compact)


@pytest.mark.parametrize("compacts", [[b'"a","b"'], [b'"a"', b""], [b'"a"', b"1"], [b'"a', b'b"'], [b"\xff"]])
def test_bytes_that_are_not_compact_keys_are_refused(compacts: list[bytes]) -> None:
    with pytest.raises(MalformedItem):
        KeySchema("pk", "S").wire_all(compacts)


def test_a_binary_key_is_strict_base64_and_has_one_text() -> None:
    schema = KeySchema("id", "B")
    assert schema.compact(b'{"id":{"B":"YR=="}}') == schema.compact(b'{"id":{"B":"YQ=="}}') == b'"YQ=="'
    for text in (b"YQ", b"Y Q==", b"YQ==YQ=="):
        with pytest.raises(MalformedItem):
            schema.compact(b'{"id":{"B":"%b"}}' % text)


def test_a_schema_goes_to_another_process_after_use() -> None:
    EVENTS.compact(b'{"pk":{"S":"a"},"sk":{"N":"1"}}')
    copied = pickle.loads(pickle.dumps(EVENTS))
    assert copied == EVENTS
    assert copied.wire(b'"a","1"') == EVENTS.wire(b'"a","1"')
