"""The demo's result: what was planted against what the monitor found, key by key.

Reads: nothing. Writes: nothing. Never: I/O. There is no partial credit: a key found as another kind is both
missed and a false alarm.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from pipeline.core.model import MISMATCHES


@dataclass(frozen=True)
class Row:
    """One kind: how many keys were planted with it, found with it, missed, and wrongly said to have it."""

    kind: str
    planted: int
    found: int
    missed: int
    false_alarms: int


@dataclass(frozen=True)
class Score:
    """planted and found: mismatch kind by key text.

    groundless: keys that were once said to be wrong though nothing was ever done to them.
    """

    planted: Mapping[str, str]
    found: Mapping[str, str]
    groundless: AbstractSet[str]

    @property
    def missed(self) -> dict[str, str]:
        return {key: kind for key, kind in self.planted.items() if self.found.get(key) != kind}

    @property
    def false_alarms(self) -> dict[str, str]:
        return {key: kind for key, kind in self.found.items() if self.planted.get(key) != kind}

    @property
    def perfect(self) -> bool:
        return not self.missed and not self.false_alarms and not self.groundless

    def of(self, keys: AbstractSet[str], *, others: bool = False) -> "Score":
        """What concerns these keys alone; others: all but these."""
        planted, found = (
            {key: kind for key, kind in side.items() if (key in keys) is not others}
            for side in (self.planted, self.found)
        )
        return Score(planted, found, {key for key in self.groundless if (key in keys) is not others})

    def rows(self) -> list[Row]:
        sides = (self.planted, self.found, self.missed, self.false_alarms)
        return [
            Row(str(kind), *(sum(1 for one in side.values() if one == kind) for side in sides))
            for kind in MISMATCHES
        ]
