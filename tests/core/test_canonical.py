"""Equality: numbers, items, digests and differences."""

import copy
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import canonical
from pipeline.core.canonical import Digester, MalformedItem, canonical_number
from pipeline.core.differing import CUT, diff
from pipeline.core.model import ABSENT, UNKNOWN
from tests.core.wire import ITEMS, VALUES, numbers, reference, respelled_item, spellings

DIGESTER = Digester()


def digest(item: Any) -> bytes:
    return DIGESTER.digest(msgspec.json.encode(item))


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"S": "x"}
    for _ in range(levels):
        value = {"L": [value]}
    return value


# --- numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "canonical"),
    [
        (["1", "1.0", "1E0", "01", "+1", "10e-1", "0.1E+1", "1.", "1.00"], "1"),
        (["0", "-0", "0.0", "-0E5", "0e-400", "000", ".0"], "0"),
        (["-1.50", "-15E-1", "-01.5"], "-1.5"),
        (["100", "1E2", "1.00e2", "1e00002", "1E+000000000000000000002", "0.001e0000000005"], "100"),
        (["0", "0e10000", "0E-99999999999", "0.0e+00000", "-0e1"], "0"),
        (["0." + "0" * 9999 + "1e10000", "1" + "0" * 200 + "e-200"], "1"),
        (["0.0001", "1E-4", ".0001"], "0.0001"),
        (["1E-20", "0.00000000000000000001"], "1E-20"),
        (["9" * 38], "9" * 38),
        (["1" + "0" * 37, "1E37"], "1" + "0" * 37),
        (["1" + "0" * 38, "1E38"], "1E38"),
        (["1E-130"], "1E-130"),
        (["9" * 38 + "E88"], "9" * 38 + "E88"),
    ],
)
def test_a_number_has_one_text(texts: list[str], canonical: str) -> None:
    assert {canonical_number(text) for text in texts} == {canonical}


@given(numbers())
def test_canonical_text_keeps_the_value_and_is_its_own_canonical_text(text: str) -> None:
    canonical = canonical_number(text)
    assert Fraction(canonical) == Fraction(text)
    assert canonical_number(canonical) == canonical


@given(numbers())
def test_all_spellings_of_a_number_share_one_text(text: str) -> None:
    assert len({canonical_number(spelling) for spelling in spellings(text)}) == 1


@given(numbers(), numbers())
def test_different_values_have_different_texts(a: str, b: str) -> None:
    assert (canonical_number(a) == canonical_number(b)) == (Fraction(a) == Fraction(b))


def test_numbers_that_differ_in_the_38th_digit_differ() -> None:
    """Decimal.normalize() rounds to 28 digits and calls these two equal."""
    a, b = "1" * 37 + "2", "1" * 37 + "3"
    assert Decimal(a).normalize() == Decimal(b).normalize()
    assert canonical_number(a) != canonical_number(b)
    assert digest({"n": {"N": a}}) != digest({"n": {"N": b}})


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            "-",
            ".",
            "e5",
            "1e",
            "--1",
            "1 ",
            " 1",
            "1_000",
            "0x1",
            "NaN",
            "Infinity",
            "-inf",
            "1,5",
            "1.2.3",
        ],
        *["١", "²", "½"],
        *["1" * 39, "1" + "0" * 37 + "1", "1E126", "9" * 39, "1E-131", "1e99999", "1E" + "9" * 5000],
    ],
)
def test_what_dynamodb_would_not_send_as_a_number_is_refused(text: str) -> None:
    with pytest.raises(MalformedItem):
        canonical_number(text)


# --- digests ---------------------------------------------------------------------------------------------


@given(ITEMS, ITEMS)
def test_digests_are_equal_exactly_when_the_reference_forms_are(a: Any, b: Any) -> None:
    assert (digest(a) == digest(b)) == (reference(a) == reference(b))


@given(st.data())
def test_another_spelling_of_an_item_has_the_same_digest(data: st.DataObject) -> None:
    item = data.draw(ITEMS)
    other = data.draw(respelled_item(item))
    assert digest(item) == digest(other)
    assert diff(item, other) == []


@given(ITEMS)
def test_decoded_and_raw_items_have_one_digest_and_normalising_twice_changes_nothing(item: Any) -> None:
    raw = msgspec.json.encode(item)
    value = reference(item)
    assert DIGESTER.digest(msgspec.Raw(raw)) == DIGESTER.digest(raw) == DIGESTER.digest_item(item)
    assert DIGESTER.digest_item(item) == DIGESTER.digest(raw)
    assert reference(item) == value


@given(st.data())
def test_a_likely_digest_changes_no_digest(data: st.DataObject) -> None:
    item, other = data.draw(ITEMS), data.draw(ITEMS)
    for likely in (digest(item), digest(other), ABSENT, UNKNOWN):
        for spelling in (item, data.draw(respelled_item(item))):
            assert DIGESTER.digest_item(copy.deepcopy(spelling), likely) == digest(item)


def test_a_likely_digest_lets_nothing_count_that_is_left_out() -> None:
    counted = {"a": {"S": "x"}}
    item = {**counted, "aws:rep:updatetime": {"N": "1.5"}}
    assert DIGESTER.digest_item(item, digest(counted)) == digest(counted)


@given(ITEMS)
def test_a_digest_has_16_bytes_and_never_stands_for_absent_or_unknown(item: Any) -> None:
    made = digest(item)
    assert len(made) == 16
    assert made not in (ABSENT, UNKNOWN)


@pytest.mark.parametrize(("hashed", "reserved"), [(ABSENT, ABSENT), (UNKNOWN, UNKNOWN)])
def test_an_item_that_hashes_to_a_reserved_digest_gets_another(
    monkeypatch: pytest.MonkeyPatch, hashed: bytes, reserved: bytes
) -> None:
    class Hash:
        def digest(self) -> bytes:
            return hashed * 2

    monkeypatch.setattr("pipeline.core.canonical.sha256", lambda form: Hash())
    assert digest({"a": {"S": "x"}}) != reserved


def test_json_escapes_and_order_do_not_matter() -> None:
    assert DIGESTER.digest(b'{"a":{"S":"\\u00e9/"},"b":{"N":"1"}}') == DIGESTER.digest(
        ' {"b": {"N": "1.0"}, "a": {"S": "é\\/"}} '.encode()
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"BOOL": True}, {"N": "1"}),
        ({"S": "1"}, {"N": "1"}),
        ({"S": "YQ=="}, {"B": "YQ=="}),
        ({"S": "é"}, {"S": "e\u0301"}),
        ({"L": [{"S": "a"}]}, {"SS": ["a"]}),
        ({"L": []}, {"M": {}}),
        ({"NULL": True}, {"BOOL": True}),
        ({"S": ""}, {"B": ""}),
        ({"SS": ["1"]}, {"NS": ["1"]}),
        ({"L": [{"S": "a"}, {"S": "b"}]}, {"L": [{"S": "b"}, {"S": "a"}]}),
        ({"BOOL": True}, {"BOOL": False}),
    ],
)
def test_values_that_look_alike_differ(a: Any, b: Any) -> None:
    assert digest({"x": a}) != digest({"x": b})
    assert diff({"x": a}, {"x": b}) != []


def test_global_table_attributes_and_ignored_names_are_left_out_at_the_top_level_only() -> None:
    item = {"a": {"S": "x"}, "aws:rep:updatetime": {"N": "1.5"}, "seen": {"broken": 1}}
    digester = Digester(frozenset({"seen"}))
    before = copy.deepcopy(item)
    assert digester.digest_item(item) == digest({"a": {"S": "x"}})
    assert item == before
    inner = {"a": {"M": {"seen": {"S": "x"}, "aws:rep:updatetime": {"S": "x"}}}}
    assert digester.digest_item(inner) != digester.digest_item({"a": {"M": {}}})


def test_a_name_that_only_contains_the_reserved_prefix_counts() -> None:
    assert digest({"a": {"S": "x"}, "my-aws:rep:x": {"S": "y"}}) != digest({"a": {"S": "x"}})


@given(
    st.lists(st.dictionaries(st.sampled_from([*"abcd", "aws:", "rep:x", "aws:rep:x"]), VALUES), max_size=6),
    st.integers(0, 4),
)
def test_names_that_were_met_before_change_no_digest(items: list[Any], most: int) -> None:
    counted = [
        {name: value for name, value in item.items() if not name.startswith("aws:rep:")} for item in items
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "_ORDINARY", set())
        patch.setattr(canonical, "_NAMES_REMEMBERED", most)
        assert [digest(item) for item in items] == [digest(item) for item in counted]
        ignoring = Digester(frozenset("a"))
        for item in counted:
            rest = {name: value for name, value in item.items() if name != "a"}
            assert ignoring.digest(msgspec.json.encode(item)) == digest(rest)


def test_long_and_many_names_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "_ORDINARY", kept := set[str]())
    for number in range(2_000):
        digest({f"{number:05}" + "x" * 4_000: {"S": ""}})
    assert not kept
    digest({f"{number}": {"S": ""} for number in range(1_001)})
    assert not kept
    for number in range(2_000):
        digest({f"{number}": {"S": ""}})
    assert len(kept) == 1_000


@pytest.mark.parametrize("tag", ["SS", "BS"])
def test_members_of_a_set_come_in_any_order_and_again(tag: str) -> None:
    spellings = [["Yg==", "YQ=="], ["YQ==", "YQ==", "Yg=="], ["Yg==", "YQ==", "Yg=="], ["YQ==", "Yg=="]]
    assert len({digest({"x": {tag: members}}) for members in spellings}) == 1
    assert digest({"x": {tag: ["", "YQ=="]}}) == digest({"x": {tag: ["YQ==", ""]}})
    assert digest({"x": {tag: ["", "YQ=="]}}) != digest({"x": {tag: ["YQ=="]}})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"S": 1}, "a string that is not text"),
        ({"N": 1}, "a number that is not text"),
        ({"B": 1}, "a binary that is not text"),
        ({"BOOL": 1}, "a boolean that is neither true nor false"),
        ({"NULL": False}, "a null that is not true"),
        ({"SS": []}, "a set that is not a list with members"),
        ({"SS": ["b", "a", ["a"]]}, "a string that is not text"),
        ({"L": {}}, "a list that is no array of values"),
        ({"M": []}, "a map that is no object"),
        ({"X": "a"}, "an unknown type tag"),
        ({"S": "a", "N": "1"}, "not exactly one type tag"),
        ({"L": [{"M": {"a": 1}}]}, "not exactly one type tag"),
        (nested(33), "nested deeper than 32 levels"),
    ],
)
def test_what_is_wrong_with_a_value_is_said(value: Any, said: str) -> None:
    with pytest.raises(MalformedItem, match=f"^attribute 'x': {said}$"):
        digest({"a": {"S": ""}, "x": value, "z": {"B": "?"}})


@pytest.mark.parametrize(
    "value",
    [
        *[{}, {"S": "a", "N": "1"}, {"X": "a"}, {"s": "a"}, "a", None, ["S", "a"]],
        *[
            {"S": 1},
            {"S": None},
            {"N": 1},
            {"N": "one"},
            {"B": 1},
            {"B": "a"},
            {"B": "YQ"},
            {"B": "Y Q=="},
            {"B": "é"},
        ],
        *[{"BOOL": "true"}, {"BOOL": 1}, {"NULL": False}, {"NULL": None}, {"NULL": 1}],
        *[{"SS": []}, {"SS": "a"}, {"SS": [1]}, {"NS": [1]}, {"NS": ["x"]}, {"BS": ["a"]}, {"SS": {"a": 1}}],
        *[{"L": {}}, {"L": ["a"]}, {"M": []}, {"M": {"a": "b"}}, {"M": {"a": {"S": "a", "B": ""}}}],
        nested(33),
        nested(200),
        nested(20000),
    ],
)
def test_what_breaks_the_wire_format_is_an_error_and_never_a_digest(value: Any) -> None:
    depth = 0
    inner = value
    while isinstance(inner, dict) and isinstance(inner.get("L"), list) and inner["L"]:
        inner, depth = inner["L"][0], depth + 1
    raw = b'{"x":' + (
        b'{"L":[' * depth + b'{"S":"x"}' + b"]}" * depth if depth > 100 else msgspec.json.encode(value)
    )
    with pytest.raises(MalformedItem):
        DIGESTER.digest(raw + b"}")


def test_32_levels_are_allowed() -> None:
    assert digest({"x": nested(32)}) != digest({"x": nested(31)})


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'"a"', b"null", b'{"a":{"S":"x"}', b'{"a":{"S":"\xff"}}', b"{} {}"]
)
def test_a_body_that_is_not_one_json_object_is_an_error(raw: bytes) -> None:
    with pytest.raises(MalformedItem):
        DIGESTER.digest(raw)


def test_text_that_is_not_unicode_is_an_error() -> None:
    with pytest.raises(MalformedItem):
        DIGESTER.digest_item({"a": {"S": "\ud800"}})


def test_an_error_names_the_attribute_and_no_value() -> None:
    with pytest.raises(MalformedItem, match="'price'") as caught:
        digest({"pk": {"S": "secret"}, "price": {"N": "secret"}})
    assert "secret" not in str(caught.value)


# --- differences -----------------------------------------------------------------------------------------


def test_differences_are_named_by_path() -> None:
    a = {
        "same": {"N": "1.0"},
        "changed": {"S": "a"},
        "only_a": {"S": "a"},
        "retyped": {"N": "1"},
        "address": {"M": {"city": {"S": "Rome"}, "zip": {"S": "1"}, "old": {"S": "x"}}},
        "tags": {"L": [{"S": "a"}, {"M": {"n": {"N": "1"}}}, {"S": "c"}]},
        "set": {"SS": ["b", "a"]},
        "sorted": {"SS": ["b", "a"]},
    }
    b = {
        "same": {"N": "1"},
        "changed": {"S": "b"},
        "only_b": {"S": "a"},
        "retyped": {"S": "1"},
        "address": {"M": {"city": {"S": "Oslo"}, "zip": {"S": "1"}}},
        "tags": {"L": [{"S": "a"}, {"M": {"n": {"N": "2"}}}]},
        "set": {"SS": ["c", "a"]},
        "sorted": {"SS": ["a", "b"]},
    }
    expected = [
        "address.city",
        "address.old",
        "changed",
        "only_a",
        "only_b",
        "retyped",
        "set",
        "tags[1].n",
        "tags[2]",
    ]
    assert diff(a, b) == expected
    assert diff(b, a) == expected
    assert diff(a, b, limit=2) == [*expected[:2], CUT]
    assert "set" not in diff(a, b, ignore=frozenset({"set"}))


def test_names_that_would_read_as_a_path_are_quoted() -> None:
    assert diff({"a.b": {"S": "x"}}, {"a[0]": {"S": "x"}}) == ['"a.b"', '"a[0]"']


@given(ITEMS, ITEMS)
def test_there_are_differences_exactly_when_the_digests_differ(a: Any, b: Any) -> None:
    assert (diff(a, b) == []) == (digest(a) == digest(b))


@given(st.text(min_size=5, max_size=9), st.text(min_size=5, max_size=9))
def test_a_path_never_holds_a_value(a: str, b: str) -> None:
    found = diff(
        {"x": {"L": [{"S": a}, {"M": {"y": {"S": b}}}]}}, {"x": {"L": [{"S": b}, {"M": {"y": {"S": a}}}]}}
    )
    assert all(re.fullmatch(r"x\[0\]|x\[1\]\.y", path) for path in found)
