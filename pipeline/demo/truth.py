"""What is really divergent when everything has come to rest: both tables, compared item by item.

Reads: nothing; callers hand in the tables' contents. Writes: nothing. Never: the monitor's code. A shared
mistake would hide itself.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.core.model import VerdictKind
from pipeline.demo import tables
from pipeline.demo.tables import Item

Contents = Mapping[str, Item]


class Start(NamedTuple):
    """Both tables before the first change."""

    source: Contents
    target: Contents


def classify(source: Item | None, target: Item | None, versions: Sequence[Item | None]) -> VerdictKind | None:
    """How the target differs, None when it does not. versions: all that the source ever held for the key."""
    if tables.equal(source, target):
        return None
    if target is None:
        return VerdictKind.MISSING
    if source is None:
        return VerdictKind.EXTRA
    if any(tables.equal(target, version) for version in versions):
        return VerdictKind.STALE
    return VerdictKind.DIFFERENT


def divergent(
    source: Contents, target: Contents, versions: Mapping[str, Sequence[Item | None]]
) -> dict[str, VerdictKind]:
    """The kind of each key that differs, by the key's text."""
    found = {}
    for key in source.keys() | target.keys():
        kind = classify(source.get(key), target.get(key), versions.get(key, ()))
        if kind is not None:
            found[key] = kind
    return found


def contradictions(
    source: Contents, target: Contents, seen: Contents, applied: Contents, faulted: set[str]
) -> list[str]:
    """Why the planted truth cannot be believed; empty when it can.

    seen: the source as its stream told. applied: the target as the replicator wrote it. faulted: the keys to
    which a fault was done: only they may differ.
    """
    found = []
    for name, table, memory in (("source", source, seen), ("target", target, applied)):
        keys = table.keys() | memory.keys()
        wrong = [key for key in keys if not tables.equal(table.get(key), memory.get(key))]
        if wrong:
            found.append(f"the {name} table is not what the replicator knows of it, for {sorted(wrong)[:5]}")
    unplanned = divergent(source, target, {}).keys() - faulted
    if unplanned:
        found.append(f"keys differ without a planned fault: {sorted(unplanned)[:5]}")
    return found
