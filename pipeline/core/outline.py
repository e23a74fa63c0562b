"""Both sides of a key beside each other: every path, its type and size on each side, and whether it differs.

Reads: decoded wire items. Writes: nothing. Never: I/O. Values are kept only in what the caller asked for
them. Names are the table owner's: paths are shortened as `differing` does it, and so many are told apart.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from pipeline.core.canonical import Item, canonical_item
from pipeline.core.differing import shortened, shown_name

#: Paths that are listed; those that differ come first.
MAX_PATHS = 500
#: A value and its type tag.
Tagged = dict[str, Any]


class Shape(msgspec.Struct, frozen=True):
    """A value without itself: its type tag, and its size. unit: what size counts; "" = there is nothing to.

    value: as canonical wire JSON, where it was asked for.
    """

    type: str
    size: int = 0
    unit: str = ""
    value: str | None = None


class Row(msgspec.Struct, frozen=True):
    """One path. None: that side holds nothing there."""

    path: str
    source: Shape | None
    target: Shape | None
    differs: bool


class Outline(msgspec.Struct, frozen=True):
    """rows: those that differ first, in the order of the names. left_out: attributes that are not compared.
    differing, equal: how many there are of each, listed or not.
    """

    rows: list[Row]
    differing: int
    equal: int
    left_out: list[str]


def outline(
    source: Item | None,
    target: Item | None,
    ignore: frozenset[str] = frozenset(),
    hidden: frozenset[str] | None = None,
) -> Outline:
    """None: there is no item. hidden: attributes whose values are not shown, None = all of them.

    Values are normalised in place. Raises MalformedItem.
    """
    kept = [canonical_item(item or {}, ignore) for item in (source, target)]
    left_out = {
        shown_name(name)
        for item, counted in zip((source, target), kept, strict=True)
        for name in (item or {}).keys() - counted.keys()
    }
    differ: list[Row] = []
    same: list[Row] = []
    counts = [0, 0]
    for name, path, left, right in _leaves(*kept):
        differs = left != right
        counts[differs] += 1
        listed = differ if differs else same
        if len(listed) < MAX_PATHS:
            values = hidden is not None and name not in hidden
            listed.append(Row(path, _shape(left, values), _shape(right, values), differs))
    return Outline([*differ, *same][:MAX_PATHS], counts[1], counts[0], sorted(left_out))


#: The attribute, the path inside it, and what either side holds there.
_Leaf = tuple[str, str, Tagged | None, Tagged | None]


def _leaves(a: Item, b: Item) -> Iterator[_Leaf]:
    for name in sorted(a.keys() | b.keys()):
        for path, left, right in _parts(a.get(name), b.get(name), shortened(shown_name(name))):
            yield name, path, left, right


def _parts(
    a: Tagged | None, b: Tagged | None, path: str
) -> Iterator[tuple[str, Tagged | None, Tagged | None]]:
    """What is inside, where both are maps or both lists, or one is and the other is not there."""
    kinds = {next(iter(one)) for one in (a, b) if one}
    left, right = ((one or {}) for one in (a, b))
    if kinds == {"M"} and (left.get("M") or right.get("M")):
        inside, other = left.get("M", {}), right.get("M", {})
        for name in sorted(inside.keys() | other.keys()):
            yield from _parts(inside.get(name), other.get(name), shortened(f"{path}.{shown_name(name)}"))
    elif kinds == {"L"} and (left.get("L") or right.get("L")):
        inside, other = left.get("L", []), right.get("L", [])
        for position in range(max(len(inside), len(other))):
            one, two = ((side[position : position + 1] or [None])[0] for side in (inside, other))
            yield from _parts(one, two, shortened(f"{path}[{position}]"))
    else:
        yield path, a, b


def _shape(tagged: Tagged | None, values: bool) -> Shape | None:
    if tagged is None:
        return None
    [(tag, content)] = tagged.items()
    size, unit = _size(tag, content)
    return Shape(tag, size, unit, msgspec.json.encode(tagged).decode() if values else None)


def _size(tag: str, content: Any) -> tuple[int, str]:
    """How much there is of a canonical value, in the unit that it is counted in."""
    if tag == "S":
        return len(content.encode("utf-8", "surrogatepass")), "byte"
    if tag == "B":
        return len(content) // 4 * 3 - content[-2:].count("="), "byte"
    if tag == "N":
        return sum(map(str.isdigit, content.partition("E")[0])), "digit"
    if tag in ("SS", "NS", "BS"):
        return len(content), "member"
    if tag in ("M", "L"):
        return len(content), "element"
    return 0, ""
