"""Where two items differ: the paths that a finding names, never values.

Reads: decoded wire items. Writes: nothing. Never: I/O. Names are the table owner's, of up to 65,535 bytes
each and 32 levels deep: paths are bounded in number, length and time while they are made.
"""

import re
from collections.abc import Iterator

import msgspec

from pipeline.core.canonical import NAME_CHARACTERS, Item, canonical_item

#: Paths that are named, and the bytes that they may take in JSON all together: a finding stays below 4 KB.
MAX_PATHS, MAX_BYTES = 50, 3_000
#: The bytes that changes of type may take beside them.
MAX_TYPE_BYTES = 700
#: A longer path is shown by its beginning and its end.
HEAD_CHARACTERS, TAIL_CHARACTERS = 60, 130
#: The last element of a list that was cut; inside a path: so much was left out. A name that holds it is
#: written in quotes.
CUT = "…"

_PLAIN_NAME = re.compile(r"[^\x00-\x1f.\[\]\"…]+")
_encode = msgspec.json.Encoder().encode


def diff(a: Item, b: Item, ignore: frozenset[str] = frozenset(), limit: int = MAX_PATHS) -> list[str]:
    """Where two decoded wire items differ: at most `limit` paths of names and positions, and `CUT` after them
    if there are more; in the order of the names.

    `address.city`, `tags[2]`; sets, and values whose type differs, are named as a whole. A name that holds a
    dot, bracket, quote, control character or `CUT` is written as a JSON string. Empty exactly when the
    digests are equal. Values are normalised in place. Raises MalformedItem.
    """
    return differences(a, b, ignore, limit)[0]


def differences(
    source: Item, target: Item, ignore: frozenset[str] = frozenset(), limit: int = MAX_PATHS
) -> tuple[list[str], dict[str, str]]:
    """The paths as `diff` names them; and of those where both sides hold a value of another type, so many as
    MAX_TYPE_BYTES allow: path → "N → S".
    """
    left, right = canonical_item(source, ignore), canonical_item(target, ignore)
    found: dict[str, str] = {}  # paths that were shortened may look alike
    left_bytes, cut = MAX_BYTES, []
    for path, change in _map_paths(left, right, ""):
        if path in found:
            continue
        left_bytes -= len(_encode(path)) + 1
        if len(found) == limit or left_bytes < 0:
            cut = [CUT]
            break
        found[path] = change
    return [*found, *cut], _bounded(found)


def _bounded(changes: dict[str, str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    left_bytes = MAX_TYPE_BYTES
    for path, change in changes.items():
        if change:
            left_bytes -= len(_encode({path: change}))
            if left_bytes < 0:
                break
            kept[path] = change
    return kept


#: A path where two canonical values differ, and the change of type there, "" = there is none.
_Difference = tuple[str, str]


def _map_paths(a: Item, b: Item, path: str) -> Iterator[_Difference]:
    differing = [name for name in a.keys() | b.keys() if a.get(name) != b.get(name)]
    for name in sorted(differing):
        inner = f"{path}.{shown_name(name)}" if path else shown_name(name)
        yield from _value_paths(a.get(name), b.get(name), shortened(inner))


def _value_paths(a: Item | None, b: Item | None, path: str) -> Iterator[_Difference]:
    """Paths at or under `path` of two canonical values that differ; None stands for "not there"."""
    if a and b and "M" in a and "M" in b:
        yield from _map_paths(a["M"], b["M"], path)
    elif a and b and "L" in a and "L" in b:
        for position in range(max(len(a["L"]), len(b["L"]))):
            left, right = (side["L"][position : position + 1] or [None] for side in (a, b))
            if left[0] != right[0]:  # safe from Python's True == 1: no canonical value holds a number
                yield from _value_paths(left[0], right[0], shortened(f"{path}[{position}]"))
    else:
        yield path, _type_change(a, b)


def _type_change(a: Item | None, b: Item | None) -> str:
    one, other = next(iter(a or ()), ""), next(iter(b or ()), "")
    return f"{one} → {other}" if one and other and one != other else ""


def shown_name(name: str) -> str:
    """The name, in quotes where it would read as something else, and at most so much of it."""
    part = name[:NAME_CHARACTERS]
    shown = part if _PLAIN_NAME.fullmatch(part) else _encode(part).decode()
    return shown if part == name else shown + CUT


def shortened(path: str) -> str:
    """The path, or its beginning and its end."""
    if len(path) <= HEAD_CHARACTERS + TAIL_CHARACTERS:
        return path
    return f"{path[:HEAD_CHARACTERS]}{CUT}{path[-TAIL_CHARACTERS:]}"
