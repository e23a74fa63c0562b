"""Equality: one canonical form, digest and key per item, from the wire JSON and never from Python values.

Reads: items and keys as DynamoDB's JSON protocol writes them, `{"name": {"S": "x"}, …}`. Writes: nothing.
Never: floats, Decimals. Unicode is not normalised, and no value is in a message.

The canonical form is the wire JSON itself, written deterministically: map keys sorted, no spaces, one text
per number's value, sets sorted without repeats, binaries re-encoded. The type tags stay, so `{"BOOL": true}`
and `{"N": "1"}` differ, and JSON's quoting keeps every boundary. Rules and limits are those of the DynamoDB
Developer Guide, "Supported data types and naming rules" and "Constraints".
"""

import re
from binascii import Error as BinasciiError
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property, lru_cache
from hashlib import sha256
from types import GenericAlias
from typing import Any, Literal

import msgspec

from pipeline.core.model import ABSENT, UNKNOWN
from pipeline.core.quoting import quoted

#: DynamoDB nests lists and maps at most this deep.
MAX_DEPTH = 32
#: DynamoDB keeps this many significant digits …
MAX_DIGITS = 38
#: … and magnitudes from 1E-130 up to 9.99…E+125.
MIN_EXPONENT, MAX_EXPONENT = -130, 125
#: Below this power of ten a fraction is written in scientific form (any fixed choice would do).
_PLAIN_FRACTION = -10
#: Distinct numbers remembered with their canonical text: decimals and negatives repeat in real tables.
_NUMBERS_CACHED = 8192
#: Distinct names of attributes that are remembered (few tables have so many), of items whose names are no
#: longer together: a name may have 65,535 bytes.
_NAMES_REMEMBERED, _NAMES_CHARACTERS = 1_000, 4_000
#: So much of an attribute's name is in a message; a name may have 65,535 bytes.
NAME_CHARACTERS = 60
#: What global tables (version 2017) add by themselves: aws:rep:deleting, :updatetime, :updateregion.
REPLICATION_PREFIX = "aws:rep:"
#: Digests that mean something else in a history, and what stands in for them (odds: 1 in 2**127).
_RESERVED = {ABSENT: b"\x00" * 15 + b"\x01", UNKNOWN: b"\xff" * 15 + b"\xfe"}

#: Names that were met and are not replication's: most items have no others, and that is seen at once.
_ORDINARY: set[str] = set()

_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?)([0-9]+))?")
#: Digits of an exponent that no mantissa of an item, which is at most 400 KB, brings back into the range.
_EXPONENT_DIGITS = 7
_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode
_decode_texts = msgspec.json.Decoder(list[str]).decode
_decode_key = msgspec.json.Decoder(dict[str, dict[str, str]]).decode

Item = dict[str, Any]


class MalformedItem(ValueError):
    """An item or key that DynamoDB would not have sent. Never a verdict; the text names no value."""


def canonical_number(text: str) -> str:
    """The one text of a number's value: `1`, `1.0`, `1E0` and `01` all give `1`; `-0` gives `0`.

    Raises MalformedItem for anything but a number of at most 38 significant digits in DynamoDB's range.
    """
    if type(text) is not str:
        raise MalformedItem("a number that is not text")
    if text.isdigit() and text.isascii() and (text[0] != "0" or text == "0") and len(text) <= MAX_DIGITS:
        return text
    return _canonical_number(text)


@lru_cache(_NUMBERS_CACHED)
def _canonical_number(text: str) -> str:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise MalformedItem("not a number")
    sign, whole, fraction, exponent_sign, exponent = match.groups(default="")
    if not whole and not fraction:
        raise MalformedItem("a number without digits")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "0"
    exponent = exponent.lstrip("0")
    if len(exponent) > _EXPONENT_DIGITS:
        raise MalformedItem("a number out of range")
    power = int(f"{exponent_sign}{exponent or 0}") - len(fraction) + len(digits)
    digits = digits.rstrip("0")
    power -= len(digits)  # the value is now: digits x 10**power
    leading = power + len(digits) - 1
    if len(digits) > MAX_DIGITS:
        raise MalformedItem(f"a number of more than {MAX_DIGITS} digits")
    if not MIN_EXPONENT <= leading <= MAX_EXPONENT:
        raise MalformedItem("a number out of range")
    return ("-" if sign == "-" else "") + _write_number(digits, power, leading)


def _write_number(digits: str, power: int, leading: int) -> str:
    """Plain while short, as DynamoDB writes them: most numbers then need no rewriting."""
    if leading >= MAX_DIGITS or leading < _PLAIN_FRACTION:
        return f"{digits}E{power}"
    if power >= 0:
        return digits + "0" * power
    if leading >= 0:
        return f"{digits[:power]}.{digits[power:]}"
    return "0." + "0" * (-leading - 1) + digits


def _canonical_string(text: Any) -> str:
    if type(text) is not str:
        raise MalformedItem("a string that is not text")
    return text


def _canonical_binary(text: Any) -> str:
    if type(text) is not str:
        raise MalformedItem("a binary that is not text")
    try:
        return b2a_base64(a2b_base64(text, strict_mode=True), newline=False).decode()
    except (BinasciiError, ValueError) as error:
        raise MalformedItem("a binary that is not base64") from error


def _canonical_null(value: Any) -> bool:
    if value is not True:
        raise MalformedItem("a null that is not true")
    return True


def _set_of(canonical: Callable[[Any], str]) -> Callable[[Any], list[str]]:
    def canonical_set(values: Any) -> list[str]:
        if type(values) is not list or not values:
            raise MalformedItem("a set that is not a list with members")
        return sorted(set(map(canonical, values)))

    return canonical_set


def _canonical_strings(values: Any) -> list[str]:
    """As `_set_of(_canonical_string)`, at half the cost for members that come in order, as they mostly do."""
    if type(values) is not list or not values:
        raise MalformedItem("a set that is not a list with members")
    last, in_order = "", True
    for text in values:
        if type(text) is not str:
            raise MalformedItem("a string that is not text")
        if text <= last:
            in_order = False
        last = text
    return values if in_order else sorted(set(values))


#: By the tag, what brings a content into canonical form …
_CANONICAL: dict[str, Callable[[Any], Any]] = {
    "B": _canonical_binary,
    "NULL": _canonical_null,
    "SS": _canonical_strings,
    "NS": _set_of(canonical_number),
    "BS": _set_of(_canonical_binary),
}
#: … and what is wrong with one that `_normalise` itself does not take.
_WRONG = {
    "S": "a string that is not text",
    "BOOL": "a boolean that is neither true nor false",
    "L": "a list that is no array of values",
    "M": "a map that is no object",
}


def _normalise(values: Iterable[Any], depth: int) -> None:
    """Bring tagged values, inside `depth` lists and maps, into canonical form, in place.

    The hot loop: strings and numbers, which are most of what there is, come first.
    """
    if depth > MAX_DEPTH:
        raise MalformedItem(f"nested deeper than {MAX_DEPTH} levels")
    for value in values:
        if type(value) is not dict or len(value) != 1:
            raise MalformedItem("not exactly one type tag")
        if type(value.get("S")) is str:
            continue
        if "N" in value:
            value["N"] = canonical_number(value["N"])
            continue
        (tag,) = value
        content = value[tag]
        if tag == "M" and type(content) is dict:
            _normalise(content.values(), depth + 1)
        elif tag == "L" and type(content) is list:
            _normalise(content, depth + 1)
        elif tag == "BOOL" and type(content) is bool:
            continue
        elif tag in _CANONICAL:
            value[tag] = _CANONICAL[tag](content)
        else:
            raise MalformedItem(_WRONG.get(tag, "an unknown type tag"))


def canonical_item(item: Item, ignore: frozenset[str]) -> Item:
    """The counted attributes of an item, normalised. The values are the caller's own, changed in place."""
    if type(item) is not dict:
        raise MalformedItem("an item that is not a map")
    ordinary = _ORDINARY.issuperset(item) or _are_ordinary(item)
    if not ordinary or (ignore and not ignore.isdisjoint(item)):
        item = {
            name: value
            for name, value in item.items()
            if name not in ignore and not name.startswith(REPLICATION_PREFIX)
        }
    try:
        _normalise(item.values(), 0)
    except MalformedItem as error:
        raise MalformedItem(f"attribute {_malformed_attribute(item)}: {error}") from error
    return item


def _are_ordinary(names: Collection[str]) -> bool:
    """Whether none is replication's. One look at all of them together: cheap, but not for every item."""
    text = "".join(names)
    if REPLICATION_PREFIX in text:
        return False
    if len(_ORDINARY) + len(names) <= _NAMES_REMEMBERED and len(text) <= _NAMES_CHARACTERS:
        _ORDINARY.update(names)
    return True


def _malformed_attribute(item: Item) -> str:
    """The first attribute that does not normalise: tried again, so that the hot loop needs no names."""
    for name, value in item.items():
        try:
            _normalise([value], 0)
        except MalformedItem:
            return f"'{quoted(name, NAME_CHARACTERS)}'"
    return "unknown"


class Digester:
    """Digests of items: equal exactly when the items are equal in DynamoDB's sense.

    ignore: names of top-level attributes left out; those starting with `aws:rep:` always are.
    """

    def __init__(self, ignore: frozenset[str] = frozenset()) -> None:
        self.ignore = ignore

    def digest(self, item: bytes | msgspec.Raw) -> bytes:
        """16 bytes for an item given as wire JSON. Raises MalformedItem."""
        try:
            decoded = _decode(item)
        except (ValueError, RecursionError) as error:
            raise MalformedItem("an item that is not JSON") from error
        return self.digest_item(decoded)

    def digest_item(self, item: Item, likely: bytes | None = None) -> bytes:
        """16 bytes for a decoded wire item, whose values are normalised in place (same value, one text).

        likely: a digest that the item probably has. When it has it as it stands, it stands in canonical form,
        and there was nothing to normalise: a third of the cost.

        SHA-256, truncated: the fastest strong hash on CPUs with SHA instructions. Never ABSENT or UNKNOWN.
        Raises MalformedItem.
        """
        try:
            if likely is not None and sha256(_encode(item)).digest()[:16] == likely:
                return likely
            form = _encode(canonical_item(item, self.ignore))
        except UnicodeEncodeError as error:
            raise MalformedItem("text that is not Unicode") from error
        digest = sha256(form).digest()[:16]
        return _RESERVED.get(digest, digest)


KeyType = Literal["S", "N", "B"]


class KeySchema(msgspec.Struct, frozen=True, dict=True):
    """A table's primary key, and the compact canonical form of its values.

    Compact form: the key values as JSON strings in schema order, separated by a comma, without brackets:
    `"user#1"` or `"user#1","17"`. Numbers are in canonical text, binaries in base64.
    """

    partition_key: str
    partition_type: KeyType
    sort_key: str | None = None
    sort_type: KeyType | None = None

    def compact(self, raw_keys: bytes | msgspec.Raw) -> bytes:
        """From wire JSON that holds exactly the key attributes. Raises MalformedItem."""
        try:
            key = _decode_key(raw_keys)
        except (ValueError, RecursionError) as error:
            raise MalformedItem("a key that is not wire JSON of strings") from error
        if len(key) != (1 if self.sort_key is None else 2):
            raise MalformedItem("a key with other attributes than the schema's")
        for value in key.values():
            if len(value) != 1:
                raise MalformedItem("not exactly one type tag")
        return self.compact_of(key)

    def compact_of(self, item: Mapping[str, Any]) -> bytes:
        """From a decoded wire item that has at least the key attributes. Raises MalformedItem."""
        try:
            partition = item[self.partition_key][self.partition_type]
            if self.partition_type != "S" or type(partition) is not str:
                partition = _KEY_TEXT[self.partition_type](partition)
            if self.sort_key is None or self.sort_type is None:
                return _encode(partition)
            sort = item[self.sort_key][self.sort_type]
            if self.sort_type != "S" or type(sort) is not str:
                sort = _KEY_TEXT[self.sort_type](sort)
            return _encode((partition, sort))[1:-1]
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedItem("an item without the key attributes of the schema") from error

    def wire(self, compact: bytes) -> bytes:
        """The wire JSON of a compact key, partition key first. Raises MalformedItem."""
        decode, template = self._wire
        try:
            return template % tuple(map(_encode, decode(b"[%b]" % compact)))
        except ValueError as error:
            raise MalformedItem("bytes that are not a compact key of the schema") from error

    def wire_all(self, compacts: list[bytes]) -> bytes:
        """The wire JSON of many compact keys, comma after comma. Raises MalformedItem.

        The compact form of a single text is what its wire JSON holds: it has only to be checked.
        """
        if self.sort_key is not None or self.partition_type == "B":
            return b",".join(map(self.wire, compacts))
        try:
            if len(_decode_texts(b"[%b]" % b",".join(compacts))) != len(compacts):
                raise MalformedItem("bytes that are not compact keys of the schema")
        except ValueError as error:
            raise MalformedItem("bytes that are not compact keys of the schema") from error
        before, after = (self._wire[1] % b"\0").split(b"\0")
        return before + (after + b"," + before).join(compacts) + after

    @cached_property
    def _wire(self) -> tuple[Callable[[bytes], Any], bytes]:
        """What takes a compact key's texts apart, and the wire JSON with a `%b` for each. Made once."""
        pairs = ((self.partition_key, self.partition_type), (self.sort_key, self.sort_type))
        parts = [(name, tag) for name, tag in pairs if name is not None]
        # msgspec reads and writes bytes as strict base64.
        texts = tuple(bytes if tag == "B" else str for _, tag in parts)
        wire = b",".join(
            b'%b:{"%b":%%b}' % (_encode(name).replace(b"%", b"%%"), (tag or "").encode())
            for name, tag in parts
        )
        return msgspec.json.Decoder(GenericAlias(tuple, texts)).decode, b"{%b}" % wire


_KEY_TEXT: dict[str, Callable[[Any], str]] = {
    "S": _canonical_string,
    "N": canonical_number,
    "B": _canonical_binary,
}
