"""How often partitions are asked where nothing happens, by all migrations of one process together.

Reads: nothing. Writes: nothing. Never: AWS, threads.

Few are asked once a second, so that a change shows in time for a verdict within two. When there are many,
they are asked so seldom that empty answers take no more than a quarter of a core; and a migration of a
thousand partitions does so for itself, not at the expense of those with few.
"""

from collections.abc import Collection

#: A partition where nothing happens is asked this often …
IDLE_SECONDS = 1.0
#: … and all of them together no more often than this a second: an empty answer takes 0.8 ms of CPU.
ASKED_A_SECOND = 0.25 / 0.000_8


def level(counts: Collection[int], rate: float) -> float:
    """What each may take of a rate at most, so that nobody who wants less than an equal part gets less."""
    left, waiting = rate, len(counts)
    for count in sorted(counts):
        if count > left / waiting:
            return left / waiting
        left -= count
        waiting -= 1
    return float(max(counts, default=1))


class IdlePolls:
    """Of one process. Thread-safe; a migration is known by its `who`."""

    def __init__(self) -> None:
        self._counts: dict[object, int] = {}
        self._level = ASKED_A_SECOND

    def note(self, who: object, partitions: int) -> None:
        """How many partitions this one has now; 0 when it is given up."""
        if self._counts.get(who, 0) != partitions:
            counts = {**self._counts, who: partitions}
            self._counts = {one: count for one, count in counts.items() if count}
            self._level = level(self._counts.values(), ASKED_A_SECOND * IDLE_SECONDS)

    def longest_seconds(self, who: object) -> float:
        """Between two questions to one of its idle partitions."""
        return max(IDLE_SECONDS, IDLE_SECONDS * self._counts.get(who, 0) / self._level)
