"""What a process has asked of AWS for a migration, and the store has not counted yet.

Reads: nothing. Writes: nothing; roles hand it over (`RoleStore.spend`). Never: the store.
"""

import threading
from collections import Counter
from collections.abc import Mapping

from pipeline.core.cost import BILLED, field


class Spent:
    """Counts what is billed, between two times that it is taken. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def answered(self, side: str, operation: str) -> None:
        """A request was answered. One that is refused is not billed."""
        if (side, operation) in BILLED:
            with self._lock:
                self._counts[field(side, operation, "requests")] += 1

    def consumed(self, side: str, operation: str, units: float) -> None:
        """The answer said how many read units it took: halves at the least."""
        if (side, operation) in BILLED:
            with self._lock:
                self._counts[field(side, operation, "half_units")] += round(units * 2)

    def take(self) -> dict[str, int]:
        """All of it; from now on it counts from nothing."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
        return {name: count for name, count in taken.items() if count}

    def give_back(self, counts: Mapping[str, int]) -> None:
        """What the store could not be told."""
        with self._lock:
            self._counts.update(counts)
