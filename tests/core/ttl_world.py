"""TTL in the simulated world: which states expire when, and when DynamoDB deletes them on either side.

Reads: a `Ttl`, a seeded generator. Writes: nothing. Never: the code under test.

A state's expiry is part of it, so it follows from its digest. Among a key's states some never expire, some do
soon, some in the far future (a session that was extended), some did six years ago (a wrong unit).
"""

import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from pipeline.core.model import ABSENT, Side

START_MS = 1_700_000_000_000
YEAR_MS = 365 * 86_400_000
NEVER_MS = 10**18
#: The world ends within a day.
END_MS = START_MS + 86_400_000
#: How old the description of TTL may be that a look goes by (validator/side_reader.py).
DESCRIBED_BEFORE_MS = 10_000


@dataclass(frozen=True)
class Window:
    """While TTL is enabled on a side; ms after the start."""

    from_ms: int = 0
    until_ms: int = NEVER_MS

    def holds(self, at_ms: int) -> bool:
        return self.from_ms <= at_ms - START_MS < self.until_ms


NEVER = Window(0, 0)


@dataclass(frozen=True)
class Ttl:
    """Shares of the states: expiring within `within_ms`, ancient (never deleted), far (in a year).

    slow_ms: how long after its expiry an item is deleted, at most.
    """

    expiring: float = 0.6
    ancient: float = 0.0
    far: float = 0.1
    within_ms: int = 120_000
    slow_ms: int = 200_000
    source: Window = Window()
    target: Window = Window()

    @lru_cache(100_000)  # noqa: B019 - a few worlds, for as long as a test runs
    def expires_ms(self, state: bytes) -> int:
        """When the state expires; NEVER_MS = it has no attribute that TTL goes by."""
        rng = random.Random(state)
        kind = rng.random()
        if state == ABSENT or (kind := kind - self.expiring - self.ancient - self.far) >= 0:
            return NEVER_MS
        if (kind := kind + self.far) >= 0:
            return START_MS + YEAR_MS
        if kind + self.ancient >= 0:
            return START_MS - 6 * YEAR_MS
        return START_MS + rng.randrange(self.within_ms)

    def window(self, side: Side) -> Window:
        return self.source if side is Side.SOURCE else self.target

    def dooms(self, state: bytes, side: Side, at_ms: int, described_ms: int) -> bool:
        """True when what is known at `described_ms` says that TTL will delete the item, which has expired."""
        expires_ms = self.expires_ms(state)
        return self.window(side).holds(described_ms) and at_ms - 5 * YEAR_MS < expires_ms <= at_ms

    def doomed_from(self, state: bytes, side: Side) -> int:
        """From when on TTL may delete the item, if it does."""
        return max(self.expires_ms(state), START_MS + self.window(side).from_ms)

    def with_deletions(
        self, writes: Iterable[tuple[int, bytes]], side: Side, rng: random.Random
    ) -> list[tuple[int, bytes]]:
        """The writes of one key, and between them what TTL does."""
        out: list[tuple[int, bytes]] = []
        for (at_ms, state), (next_ms, _) in itertools.pairwise([*writes, (NEVER_MS, ABSENT)]):
            out.append((at_ms, state))
            deleted_ms = max(at_ms, self.doomed_from(state, side)) + rng.randint(1, self.slow_ms)
            if deleted_ms < min(next_ms, END_MS) and self.dooms(state, side, deleted_ms, deleted_ms):
                out.append((deleted_ms, ABSENT))
        return out
