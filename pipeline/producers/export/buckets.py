"""Both sides of a comparison through a spill: partitions' items in, buckets' pairs and suspects out.

Reads: exports, segments, the spill. Writes: the spill. Never: the store. No more than a run or a bucket of
items is in memory.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from pipeline.core.comparing.join import Join, Suspect
from pipeline.core.comparing.pairs import Wire
from pipeline.core.model import Side
from pipeline.core.sampling import Sampler
from pipeline.producers.export.spill import Spill, SpillWriter

#: Of items: both sides of a bucket, and as much again for uneven hashing, fit a comparer's memory.
BUCKET_BYTES = 12 * 1024 * 1024
MAX_BUCKETS = 100_000


class Sorted(msgspec.Struct, frozen=True):
    """What one partition has put into the buckets: items = kept + not_sampled."""

    items: int
    bytes: int
    not_sampled: int


def bucket_count(side_bytes: int) -> int:
    """How many buckets a side of so many bytes of items needs."""
    return min(MAX_BUCKETS, max(1, -(-side_bytes // BUCKET_BYTES)))


def sort_partition(
    pages: Iterable[tuple[list[bytes], Sequence[Wire]]],
    writer: SpillWriter,
    sampler: Sampler | None = None,
) -> Sorted:
    """Sort one partition's pages of keys and items, and put its part in place when all have been read.

    sampler: keeps some of the keys; None keeps them all. Raises what `pages` does; then nothing has changed.
    """
    items = size = 0
    with writer:
        for keys, page in pages:
            items += len(keys)
            size += sum(map(len, page))
            if sampler is None:
                writer.add(keys, page)
            else:
                writer.add(*_sampled(keys, page, sampler))
        writer.finish()
    return Sorted(items, size, items - writer.items)


def _sampled(keys: list[bytes], items: Sequence[Wire], sampler: Sampler) -> tuple[list[bytes], list[Wire]]:
    kept = [(key, item) for key, item in zip(keys, items, strict=True) if sampler.keeps(key)]
    return [key for key, _ in kept], [item for _, item in kept]


def join_bucket(
    spill: Spill, bucket: int, join: Join, partitions: Mapping[Side, Sequence[str]]
) -> Iterator[Suspect]:
    """Join one bucket of both sides' partitions; afterwards the join's counts are the bucket's."""
    for side in Side:
        for keys, items in spill.bucket(side, bucket, partitions[side]):
            yield from join.add(side, keys, items)
    yield from join.finish()
