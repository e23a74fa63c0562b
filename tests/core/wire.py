"""Wire items for properties, and DESIGN's canonical form written slowly: type tag, length prefix, content.

The production form is another one (deterministic JSON); the two must call the same items equal.
"""

import base64
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

Value = dict[str, Any]

#: Few letters, so that equal items come up; and those that JSON has to escape.
TEXTS = st.text(alphabet='ab",\\:{}[]é\u2028\x00', max_size=4)
BINARIES = st.binary(max_size=3).map(lambda raw: base64.b64encode(raw).decode())
NAMES = st.sampled_from(["a", "b", "S", "a.b", "tags", "é", 'q"'])


def reference(item: dict[str, Value]) -> bytes:
    """The canonical form of a well-formed item: equal for equal items only."""
    return _framed(
        b"M", b"".join(sorted(_framed(b"K", _text(k)) + reference_value(v) for k, v in item.items()))
    )


def reference_value(value: Value) -> bytes:
    ((tag, content),) = value.items()
    label = tag.encode()
    if tag == "M":
        return reference(content)
    if tag == "L":
        return _framed(label, b"".join(map(reference_value, content)))
    if tag in ("SS", "NS", "BS"):
        return _framed(label, b"".join(sorted({reference_value({tag[0]: member}) for member in content})))
    if tag == "N":
        return _framed(label, _text(str(Fraction(content))))
    if tag == "B":
        return _framed(label, base64.b64decode(content))
    return _framed(label, _text(content) if tag == "S" else _text(repr(content)))


def _framed(label: bytes, content: bytes) -> bytes:
    return b"%b %d:%b" % (label, len(content), content)


def _text(text: str) -> bytes:
    return text.encode()


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """Every way to write a number within DynamoDB's limits."""
    digits = draw(
        st.one_of(st.sampled_from(["0", "1", "12", "120"]), st.text("0123456789", min_size=1, max_size=38))
    )
    point = draw(st.integers(0, len(digits)))
    exponent = draw(st.one_of(st.integers(-2, 2), st.integers(-90, 80)))
    text = digits[:point] + ("." + digits[point:] if point < len(digits) or draw(st.booleans()) else "")
    sign = draw(st.sampled_from(["", "", "-", "+"]))
    zeros = draw(st.sampled_from(["", "", "0", "00"]))
    power = f"{draw(st.sampled_from('eE'))}{exponent:{draw(st.sampled_from(['', '+']))}d}"
    return sign + zeros + text + (power if exponent or draw(st.booleans()) else "")


def _set(tag: str, members: st.SearchStrategy[str]) -> st.SearchStrategy[Value]:
    return st.lists(members, min_size=1, max_size=3).map(lambda values: {tag: values})


def _containers(values: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    return st.one_of(
        st.lists(values, max_size=3).map(lambda content: {"L": content}),
        st.dictionaries(NAMES, values, max_size=3).map(lambda content: {"M": content}),
    )


SCALARS: st.SearchStrategy[Value] = st.one_of(
    TEXTS.map(lambda text: {"S": text}),
    numbers().map(lambda text: {"N": text}),
    BINARIES.map(lambda text: {"B": text}),
    st.booleans().map(lambda value: {"BOOL": value}),
    st.just({"NULL": True}),
    _set("SS", TEXTS),
    _set("NS", numbers()),
    _set("BS", BINARIES),
)
VALUES: st.SearchStrategy[Value] = st.recursive(SCALARS, _containers, max_leaves=6)
ITEMS: st.SearchStrategy[dict[str, Value]] = st.dictionaries(NAMES, VALUES, max_size=4)


@st.composite
def respelled(draw: st.DrawFn, value: Value) -> Value:
    """The same value, written in another way."""
    ((tag, content),) = value.items()
    if tag == "N":
        return {tag: draw(st.sampled_from(spellings(content)))}
    if tag == "NS":
        return {tag: draw(st.permutations([draw(st.sampled_from(spellings(text))) for text in content]))}
    if tag in ("SS", "BS"):
        return {tag: draw(st.permutations(content))}
    if tag == "L":
        return {tag: [draw(respelled(member)) for member in content]}
    if tag == "M":
        return {tag: draw(respelled_item(content))}
    return value


@st.composite
def respelled_item(draw: st.DrawFn, item: dict[str, Value]) -> dict[str, Value]:
    names = draw(st.permutations(list(item)))
    return {name: draw(respelled(item[name])) for name in names}


def spellings(text: str) -> list[str]:
    """Other texts of the same number."""
    mantissa, _, power = text.lower().partition("e")
    exponent = int(power or 0)
    shifted = (mantissa if "." in mantissa else f"{mantissa}.") + "00"
    sign, bare = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa.lstrip("+"))
    return [text, f"{mantissa}E{exponent}", f"{shifted}e{exponent:+d}", f"{sign}000{bare}e{exponent}"]
