"""The join of one segment (or bucket): items of both sides arrive in any order, pairs leave at once.

Reads: items with their keys. Writes: nothing. Never: I/O. No order is relied on, and no more is kept than the
bound.

How every item is counted once, whatever happens to its partner:

1. Both items of a key meet here: they are a pair, counted as `equal` or as `different`, once for both sides.
2. One side is read to its end and the other never showed the key: `source_only` or `target_only`.
3. Too much is unmatched: the oldest items leave as in 2, before their partners were seen. A partner that
   comes later finds nobody, and leaves as in 2 too, from the other side. The key is then a suspect twice,
   once a side; who publishes suspects does it once a key.
4. A side shows a key a second time (a retried write between two pages can do that): the older one leaves as
   in 2, the newer one stays.

So on each side: items = equal + different + only here. A suspect costs a point read, never a verdict.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

from pipeline.core.comparing.pairs import PairComparer, Wire
from pipeline.core.model import ABSENT, UNKNOWN, Side


class Showed(StrEnum):
    """Which sides had shown a suspect's item when it left the join."""

    SOURCE = "source"  # only the source
    TARGET = "target"  # only the target
    BOTH = "both"  # both, and they were not equal


class Suspect(msgspec.Struct, frozen=True, gc=False):
    """A key whose items were not equal when both sides were read.

    source: digest of what the source showed, ABSENT when it was read to its end without the key, UNKNOWN when
    its item had not been seen yet, or could not be understood.
    """

    key: bytes
    source: bytes
    showed: Showed


class JoinCounts(msgspec.Struct):
    """What arrived (`*_items`, `*_bytes`), and what has left (the rest)."""

    equal: int = 0
    different: int = 0
    source_only: int = 0
    target_only: int = 0
    source_items: int = 0
    target_items: int = 0
    source_bytes: int = 0
    target_bytes: int = 0

    @property
    def balanced(self) -> bool:
        """The coverage identity: every item that arrived has left, once."""
        pairs = self.equal + self.different
        return self.source_items == pairs + self.source_only and self.target_items == pairs + self.target_only


#: What Python takes for an item and its key beside their bytes, in a dict that doubles as it grows. Of small
#: items it is most of what they take.
HELD_BYTES = 150


class _Half:
    """One side's unmatched items, oldest first, and how many bytes of memory they and their keys take."""

    def __init__(self) -> None:
        self.items: dict[bytes, bytes] = {}
        self.bytes = 0

    def take_oldest(self, size: int) -> list[tuple[bytes, bytes]]:
        """At least `size` bytes of items, or all. Many at once: a dict finds its first slowly after gaps."""
        taken: list[tuple[bytes, bytes]] = []
        freed = 0
        for key, item in self.items.items():
            if freed >= size:
                break
            freed += len(key) + len(item) + HELD_BYTES
            taken.append((key, item))
        for key, _ in taken:
            del self.items[key]
        self.bytes -= freed
        return taken


class Join:
    """One segment of both tables. `counts` is exact after each call, and balanced after `finish`.

    max_unmatched_bytes bounds what is held of both sides together. Not thread-safe.
    """

    def __init__(self, pairs: PairComparer, max_unmatched_bytes: int) -> None:
        self.counts = JoinCounts()
        self._pairs = pairs
        self._most = max_unmatched_bytes
        self._unmatched = {Side.SOURCE: _Half(), Side.TARGET: _Half()}

    @property
    def behind(self) -> Side:
        """The side to read next: what it brings has more to meet."""
        source, target = self._unmatched[Side.SOURCE], self._unmatched[Side.TARGET]
        return Side.SOURCE if source.bytes <= target.bytes else Side.TARGET

    def add(self, side: Side, keys: list[bytes], items: Iterable[Wire]) -> list[Suspect]:
        """Take one page of a side; the suspects that are known by now."""
        wires = list(map(bytes, items))  # copies: a view would keep its whole page
        self._count(side, len(keys), sum(map(len, wires)))
        if self._unmatched[side.other].items:
            suspects = self._meet(side, keys, wires)
        else:
            suspects = self._keep(side, keys, wires)
        suspects += self._overflow()
        return suspects

    def _keep(self, side: Side, keys: list[bytes], wires: list[bytes]) -> list[Suspect]:
        """Nobody waits on the other side: all are kept at once, unless a key is there already."""
        mine = self._unmatched[side]
        if not mine.items.keys().isdisjoint(keys) or len(set(keys)) < len(keys):
            return self._meet(side, keys, wires)
        mine.items.update(zip(keys, wires, strict=True))
        mine.bytes += sum(map(len, keys)) + sum(map(len, wires)) + len(keys) * HELD_BYTES
        return []

    def _meet(self, side: Side, keys: list[bytes], wires: list[bytes]) -> list[Suspect]:
        mine, theirs = self._unmatched[side], self._unmatched[side.other]
        suspects: list[Suspect] = []
        matched = 0
        for key, wire in zip(keys, wires, strict=True):
            partner = theirs.items.pop(key, None)
            if partner is None:
                if key in mine.items:
                    suspects.append(self._repeated(side, key))
                mine.items[key] = wire
                mine.bytes += len(key) + len(wire) + HELD_BYTES
                continue
            matched += len(key) + len(partner) + HELD_BYTES
            if partner == wire or self._pairs.equal(partner, wire):
                self.counts.equal += 1
            else:
                suspects.append(self._different(key, wire if side is Side.SOURCE else partner))
        theirs.bytes -= matched
        return suspects

    def finish(self) -> Iterator[Suspect]:
        """Both sides are read to their ends: everything unmatched leaves, one by one."""
        for side, half in self._unmatched.items():
            for key, item in half.take_oldest(half.bytes):
                yield self._alone(side, key, item, ended=True)

    def _count(self, side: Side, items: int, size: int) -> None:
        counts = self.counts
        if side is Side.SOURCE:
            counts.source_items += items
            counts.source_bytes += size
        else:
            counts.target_items += items
            counts.target_bytes += size

    def _overflow(self) -> Iterator[Suspect]:
        source, target = self._unmatched.values()
        while source.bytes + target.bytes > self._most:
            side = self.behind.other
            for key, item in self._unmatched[side].take_oldest(self._most // 4 + 1):
                yield self._alone(side, key, item, ended=False)

    def _repeated(self, side: Side, key: bytes) -> Suspect:
        """The older of two items that a side showed of one key."""
        mine = self._unmatched[side]
        item = mine.items.pop(key)
        mine.bytes -= len(key) + len(item) + HELD_BYTES
        return self._alone(side, key, item, ended=False)

    def _different(self, key: bytes, source: bytes) -> Suspect:
        self.counts.different += 1
        return Suspect(key, self._pairs.digest(source), Showed.BOTH)

    def _alone(self, side: Side, key: bytes, item: bytes, *, ended: bool) -> Suspect:
        """An item leaves without its partner. ended: the other side has been read to its end."""
        if side is Side.SOURCE:
            self.counts.source_only += 1
            return Suspect(key, self._pairs.digest(item), Showed.SOURCE)
        self.counts.target_only += 1
        return Suspect(key, ABSENT if ended else UNKNOWN, Showed.TARGET)
