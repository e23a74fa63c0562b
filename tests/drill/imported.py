"""The drill's cold items: what an import before the watch lost, spoiled and left over, beside what is right.

Reads: nothing. Writes: both tables, before anything is watched. Never: a write afterwards. What each case
must come to is written beside it.
"""

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from pipeline.demo import truth
from pipeline.demo.tables import Item
from tests.drill import traffic
from tests.drill.traffic import Key
from tests.fake.tables import Table

_encode = msgspec.json.encode


class Case(StrEnum):
    """How the items of a cold key differ, or only seem to."""

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "another value"
    TYPE = "another type"
    NESTED = "another value deep inside"
    STALE = "an older version"  # of before the watch: nobody can know that it is one
    LOST = "lost, and expired"
    LEFT = "left, and expired"
    EXPIRED = "equal, and expired"
    RESPELLED = "numbers spelled otherwise"
    REORDERED = "sets in another order"
    SHUFFLED = "attributes in another order"


#: What the monitor must find, by case. Of the others nothing.
FOUND = {
    Case.MISSING: "missing",
    Case.EXTRA: "extra",
    Case.DIFFERENT: "different",
    Case.TYPE: "different",
    Case.NESTED: "different",
    Case.STALE: "different",
}
EXCUSED = (Case.LOST, Case.LEFT)
#: Of so many items one is wrong or expired, with the tables' size; of ten one is only spelled otherwise.
_LEAST_STEP, _STEPS = 20, 1_000
_SPELLED = (Case.RESPELLED, Case.REORDERED, Case.SHUFFLED)
_RARE = tuple(case for case in Case if case not in _SPELLED)


def case_of(number: int, count: int) -> Case | None:
    """The case of one of `count` items; None: the same on both sides, byte by byte."""
    step = max(_LEAST_STEP, count // _STEPS)
    if number % step == 0:
        return _RARE[number // step % len(_RARE)]
    return _SPELLED[number // 10 % len(_SPELLED)] if number % 10 == 1 else None


class Imported:
    """Fills both tables with `count` cold items."""

    def __init__(self, source: Table, target: Table, count: int, now: int) -> None:
        """now: seconds of Unix time, for what has expired by then."""
        self._source, self._target, self._now = source, target, now
        self._planted: dict[Case, list[Key]] = {}
        for number, key in enumerate(traffic.numbered("cold-import", count)):
            case = case_of(number, count)
            if case in FOUND or case in EXCUSED:
                self._planted.setdefault(case, []).append(key)
            self._put(key, number, case)

    def _put(self, key: Key, number: int, case: Case | None) -> None:
        item = traffic.item(key, number)
        if case in (*EXCUSED, Case.EXPIRED):
            item["expires"] = {"N": str(self._now - 60)}
        where = self._source.key_of(key.wire)
        self._source.put(item, 0, streamed=False)
        body = self._source.items[where]
        match case:
            case None | Case.EXPIRED | Case.EXTRA | Case.LEFT:
                self._target.hold(where, body)
            case Case.MISSING | Case.LOST:
                pass
            case _:
                self._target.hold(where, _encode(_changed(msgspec.json.decode(body), case, number)))
        if case in (Case.EXTRA, Case.LEFT):
            self._source.delete(key.wire, 0, streamed=False)

    def wrong(self) -> Iterator[tuple[Case, str]]:
        """What must be found or excused, by key text. Raises RuntimeError when a table does not hold it."""
        for case, keys in self._planted.items():
            for key in keys:
                where = self._source.key_of(key.wire)
                bodies = (table.items.get(where) for table in (self._source, self._target))
                source, target = (None if body is None else msgspec.json.decode(body) for body in bodies)
                kind = truth.classify(source, target, [])
                if kind is None or kind != FOUND.get(case, kind):
                    raise RuntimeError(f"{key.text} ({case}) is {kind}")
                yield case, key.text


def _changed(item: Item, case: Case, number: int) -> Item:
    """What the target holds instead."""
    match case:
        case Case.DIFFERENT:
            return {**item, "name": {"S": "somebody else"}}
        case Case.TYPE:
            return {**item, "balance": {"S": item["balance"]["N"]}}
        case Case.NESTED:
            return {**item, "address": {"M": {**item["address"]["M"], "floor": {"N": "-7"}}}}
        case Case.STALE:
            return {**item, "revision": {"N": str(-number)}}
        case Case.RESPELLED:
            return {**item, "revision": {"N": f"{item['revision']['N']}0e-1"}}
        case Case.REORDERED:
            return {**item, "tags": {"SS": item["tags"]["SS"][::-1]}}
        case _:
            return dict(reversed(item.items()))
