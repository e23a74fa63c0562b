"""The drill's items with a TTL: what TTL will remove is planted beside what only looks like it.

Reads: the clock that the caller gives. Writes: both tables. Never: the monitor's idea of TTL; what each case
must come to is written beside it.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from pipeline.core.model import Side
from pipeline.demo import truth
from pipeline.demo.tables import Item
from tests.drill import traffic
from tests.drill.traffic import Key
from tests.fake.server import Fake
from tests.fake.tables import Table

_YEAR_SECONDS = 365 * 86_400


class Case(StrEnum):
    """One way in which two items with a TTL differ, or do not."""

    EXTENDED = "extended"  # the source lives another year, the change was dropped, the target's copy expires
    WRONG_UNIT = "wrong unit"  # the target holds a thousandth of the seconds
    TOO_OLD = "too old"  # expired six years ago, never arrived
    TOO_OLD_WRONG = "too old and wrong"  # the same, and arrived as another
    KEPT = "kept"  # deleted at the source, the target's copy lives another year
    LOST = "lost"  # about to be deleted at the source, never arrived
    LEFT = "left"  # TTL deleted it at the source, and has not yet at the target
    BOTH = "both"  # differs, and about to be deleted on both sides
    EMPTIED = "emptied"  # as LEFT, and TTL deletes it at the target before the end
    FINE = "fine"  # equal, expired


#: What the monitor must find, by case. The others are excused, or right in the end.
FOUND = {
    Case.EXTENDED: "stale",
    Case.WRONG_UNIT: "different",
    Case.TOO_OLD: "missing",
    Case.TOO_OLD_WRONG: "different",
    Case.KEPT: "extra",
}
EXCUSED = (Case.LOST, Case.LEFT, Case.BOTH)


class Planted(NamedTuple):
    case: Case
    key: Key
    at_ms: float


class Expiring:
    """Plants every case on its share of the keys."""

    def __init__(self, fake: Fake, keys: list[Key]) -> None:
        self._source, self._target = fake.world.table(Side.SOURCE), fake.world.table(Side.TARGET)
        cases = tuple(Case)
        self._keys = [(cases[number % len(cases)], key) for number, key in enumerate(keys)]
        self._first: dict[str, Item | None] = {}
        self.planted: list[Planted] = []

    def plant(self, now_ms: float) -> None:
        for number, (case, key) in enumerate(self._keys):
            self._plant(case, key, number, int(now_ms / 1000))
            self.planted.append(Planted(case, key, now_ms))

    def _plant(self, case: Case, key: Key, number: int, now: int) -> None:
        def item(expires: int, revision: int = 0) -> Item:
            made = traffic.item(key, number + revision)
            return {**made, "expires": {"N": str(expires)}}

        gone, next_year, ancient = now - 60, now + _YEAR_SECONDS, now - 6 * _YEAR_SECONDS
        first = item(
            {Case.TOO_OLD: ancient, Case.TOO_OLD_WRONG: ancient, Case.KEPT: next_year}.get(case, gone)
        )
        self._source.put(first, now)
        self._first[key.text] = self._item(self._source, key)
        match case:
            case Case.TOO_OLD | Case.LOST:
                pass
            case Case.WRONG_UNIT:
                self._target.put({**first, "expires": {"N": str(gone // 1000)}}, now)
            case Case.TOO_OLD_WRONG | Case.BOTH:
                self._target.put({**first, "name": {"S": "wrong"}}, now)
            case _:
                self._target.put(first, now)
        if case is Case.EXTENDED:
            self._source.put(item(next_year, 1), now)
        elif case in (Case.LEFT, Case.EMPTIED, Case.KEPT):
            self._source.delete(key.wire, now, ttl=case is not Case.KEPT)

    def empty(self, now_ms: float) -> None:
        """TTL gets round to some of the target's items."""
        for one in self.planted:
            if one.case is Case.EMPTIED:
                self._target.delete(one.key.wire, now_ms // 1000, ttl=True)

    def differing(self) -> dict[Case, list[str]]:
        """The keys that differ, by case. Raises RuntimeError when a table holds something else than that."""
        found: dict[Case, list[str]] = {}
        for case, key, _ in self.planted:
            source, target = self._item(self._source, key), self._item(self._target, key)
            kind = truth.classify(source, target, [self._first[key.text]])
            if (kind is not None) != (case in FOUND or case in EXCUSED):
                raise RuntimeError(f"{key.text} ({case}) is {kind}")
            if case in FOUND and kind != FOUND[case]:
                raise RuntimeError(f"{key.text} ({case}) is {kind}, not {FOUND[case]}")
            if kind is not None:
                found.setdefault(case, []).append(key.text)
        return found

    @staticmethod
    def _item(table: Table, key: Key) -> Item | None:
        body = table.items.get(table.key_of(key.wire))
        return None if body is None else msgspec.json.decode(body)
