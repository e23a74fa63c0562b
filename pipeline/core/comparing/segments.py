"""How a table is cut into segments, which of them a sample reads, and in which order.

Reads: sizes and counts. Writes: nothing. Never: randomness. Every process comes to the same plan.

A segment holds whole partition keys: those whose hash lies in its part of the hash space. So a sample of
segments is a sample of partition keys, not of items. `result` says what it proves.
"""

from collections.abc import Iterable
from fractions import Fraction
from hashlib import sha256
from math import ceil

import msgspec

#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html (TotalSegments)
MAX_SEGMENTS = 1_000_000
#: Between 16 and 32 MB: some twenty pages, so that little is lost when a segment is read again, and a last
#: page that is not full costs little.
SEGMENT_BYTES = 24 * 1024 * 1024
#: Below that a segment is less than the one page that its first call may bring: nothing is saved by sampling.
LEAST_SEGMENT_BYTES = 1024 * 1024
#: So many at least make a sample: fewer say too little about a table whose differences lie close together.
LEAST_SAMPLED = 30


class SegmentPlan(msgspec.Struct, frozen=True):
    """Segments of `total`, in the order to read them. whole: they are all of the table."""

    total: int
    segments: tuple[int, ...]

    @property
    def whole(self) -> bool:
        return len(self.segments) == self.total


def plan_segments(table_bytes: int, sample_percent: float = 100, segments: int | None = None) -> SegmentPlan:
    """table_bytes: the larger table's size. segments: the operator's number instead of one by size.

    A sample grows the number of segments until it reads LEAST_SAMPLED of them; a table that is too small for
    so many is read whole. Raises ValueError outside 0 < sample_percent <= 100, 1 <= segments <= 1,000,000.
    """
    if not 0 < sample_percent <= 100:
        raise ValueError(f"the sampled percentage must be above 0 and at most 100, not {sample_percent}")
    if segments is not None and not 1 <= segments <= MAX_SEGMENTS:
        raise ValueError(f"a table has between 1 and {MAX_SEGMENTS:,} segments, not {segments}")
    total = segments or min(MAX_SEGMENTS, max(1, ceil(table_bytes / SEGMENT_BYTES)))
    share = Fraction(str(sample_percent)) / 100
    if share < 1 and segments is None:
        total = max(total, min(MAX_SEGMENTS, ceil(LEAST_SAMPLED / share)))
        if table_bytes < total * LEAST_SEGMENT_BYTES:
            total, share = max(1, ceil(table_bytes / SEGMENT_BYTES)), Fraction(1)
    chosen = range(total) if share == 1 else _chosen(total, max(ceil(total * share), LEAST_SAMPLED))
    return SegmentPlan(total, tuple(sorted(chosen, key=_Interleaved(total))))


def _chosen(total: int, count: int) -> Iterable[int]:
    """The `count` segments of the least hashes: a larger sample of as many holds every smaller one."""
    return sorted(range(total), key=lambda segment: sha256(b"segment %d" % segment).digest())[:count]


class _Interleaved:
    """Sort key: the bits of a segment's number, reversed: 0, n/2, n/4, 3n/4, … Neighbours lie on one storage
    partition, and reading them together would throttle it alone.
    """

    def __init__(self, total: int) -> None:
        self._bits = max(1, (total - 1).bit_length())

    def __call__(self, segment: int) -> int:
        return int(f"{segment:0{self._bits}b}"[::-1], 2)
