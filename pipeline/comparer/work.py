"""What is done with a partition: two segments joined, a file or a segment sorted into buckets, a bucket
joined, a file of changed keys handed over.

Reads: both tables, exports, the spill. Writes: the spill; suspects go to the `Hand`. Never: judging, the
store.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from pipeline.aws import ScanPage, TableScanner
from pipeline.comparer.hand import Hand
from pipeline.comparer.pace import SidePace
from pipeline.core.canonical import Digester
from pipeline.core.comparing.join import Join, JoinCounts, Showed, Suspect
from pipeline.core.comparing.keys import KeyReader, PartitionKeys
from pipeline.core.comparing.pairs import PairComparer, Wire
from pipeline.core.comparing.partitions import Partition, Step
from pipeline.core.comparing.state import Tally
from pipeline.core.model import UNKNOWN, Side
from pipeline.core.sampling import Sampler
from pipeline.errors import ExportDamaged, NotFound
from pipeline.producers.export.buckets import join_bucket, sort_partition
from pipeline.producers.export.lines import read_changes, read_items
from pipeline.producers.export.manifest import COPY_AGAIN, DataFile
from pipeline.producers.export.opened import SideExport
from pipeline.producers.export.spill import Spill, clear
from pipeline.producers.scan.segment import SegmentPair, SegmentReader

#: At least so many bytes are sorted in memory before they go to disk.
LEAST_RUN_BYTES = 1024 * 1024

_SHOWED = {Side.SOURCE: Showed.SOURCE, Side.TARGET: Showed.TARGET}
#: The parts that count of what was sorted, by side: names that `spill_part` makes.
Parts = Mapping[Side, Sequence[str]]


class Sizes(msgspec.Struct, frozen=True):
    """What a process may hold. max_unmatched_bytes: all its joins. in_flight: partitions at a time."""

    max_unmatched_bytes: int
    in_flight: int

    @property
    def each(self) -> int:
        return max(1, self.max_unmatched_bytes // self.in_flight)


class Spilling(msgspec.Struct, frozen=True):
    """Where a comparison is sorted into buckets. parts: asked for when all are sorted."""

    directory: Path
    buckets: int
    parts: Callable[[], Parts]


class TableWork:
    """Compares partitions of a comparison. Thread-safe: a process's threads share one."""

    def __init__(
        self,
        keys: KeyReader,
        digester: Digester,
        scanners: Mapping[Side, TableScanner],
        sizes: Sizes,
        paces: Mapping[Side, SidePace],
        *,
        count_partitions: bool = False,
        exports: Mapping[Side, SideExport] | None = None,
        spilling: Spilling | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        """scanners: of the sides that are scanned. count_partitions: of a sample of a table with a sort key.
        exports: of the others. sampler: of keys, where there is an export; None keeps them all.
        """
        self._keys = keys
        self._digester = digester
        self._scanners = scanners
        self._sizes = sizes
        self._paces = paces
        self._count_partitions = count_partitions
        self._exports = exports or {}
        self._spilling = spilling
        self._sampler = sampler
        self._joining = threading.Lock()  # one bucket at a time: both its sides are in memory

    def compare(self, hand: Hand) -> Tally:
        """Read the partition to its end. Raises LetGo, AwsError for a file, ConfigurationError."""
        how = {
            Step.SEGMENT: self._segment,
            Step.SORT: self._sort,
            Step.BUCKET: self._bucket,
            Step.CHANGES: self._changes,
        }
        try:
            return how[hand.partition.step](hand)
        except NotFound as error:
            raise ExportDamaged(error.problem, COPY_AGAIN) from error

    def forget(self, partition: Partition) -> None:
        for pace in self._paces.values():
            pace.forget(partition.number)

    def over(self) -> None:
        """Nobody needs the spill any more."""
        if self._spilling is not None:
            clear(self._spilling.directory)

    # --- both tables scanned -------------------------------------------------------------------------------

    def _segment(self, hand: Hand) -> Tally:
        number, total = hand.partition.number, hand.partition.of
        seen = PartitionKeys() if self._count_partitions else None
        readers: dict[Side, SegmentReader] = {
            side: _CountingReader(one, number, total, seen) if seen else SegmentReader(one, number, total)
            for side, one in self._scanners.items()
        }
        pair = SegmentPair(readers, Join(PairComparer(self._digester), self._sizes.each))
        while not pair.finished:
            side = pair.next_side
            hand.suspect(hand.read(self._paces[side], readers[side], pair.step))
        tally = _counted(pair.join.counts)
        for side, reader in readers.items():
            _count_units(tally, side, reader)
        # A key that left the join without its partner is counted twice among the keys, and once on each side.
        tally.partition_keys = seen.count if seen else max(tally.source_items, tally.target_items)
        return tally

    # --- with an export ------------------------------------------------------------------------------------

    def _sort(self, hand: Hand) -> Tally:
        """One side's file or segment, into the buckets."""
        side = _side_of(hand.partition)
        spilling = self._spilled()
        spill = Spill(spilling.directory, spilling.buckets)
        writer = spill.writer(
            side, spill_part(hand.part.ordinal, hand.part.epoch), max(LEAST_RUN_BYTES, self._sizes.each)
        )
        tally = Tally()
        if hand.partition.is_file:
            done = sort_partition(self._file_pages(hand, side), writer, self._sampler)
        else:
            reader = SegmentReader(self._scanners[side], hand.partition.number, hand.partition.of)
            done = sort_partition(self._segment_pages(hand, side, reader), writer, self._sampler)
            _count_units(tally, side, reader)
        _count_items(tally, side, done.items, done.bytes, done.not_sampled)
        return tally

    def _file_pages(self, hand: Hand, side: Side) -> Iterator[tuple[list[bytes], list[bytes]]]:
        opened = self._exports[side]
        for page in read_items(opened.files, self._file(hand), self._keys):
            hand.go_on()
            yield page.keys, page.items

    def _segment_pages(
        self, hand: Hand, side: Side, reader: SegmentReader
    ) -> Iterator[tuple[list[bytes], Sequence[Wire]]]:
        while not reader.finished:
            page = hand.read(self._paces[side], reader, reader.next_page)
            yield page.keys, page.items

    def _bucket(self, hand: Hand) -> Tally:
        """What the sides held was read long ago, perhaps: of a suspect only the key is used."""
        spilling = self._spilled()
        while not self._joining.acquire(timeout=1):
            hand.go_on()
        try:
            spill = Spill(spilling.directory, spilling.buckets)
            join = Join(PairComparer(self._digester), self._sizes.max_unmatched_bytes)
            for one in join_bucket(spill, hand.partition.number, join, spilling.parts()):
                hand.suspect([Suspect(one.key, UNKNOWN, one.showed)])
        finally:
            self._joining.release()
        tally = _counted(join.counts)
        # What was read is counted already, where it was sorted.
        tally.source_items = tally.target_items = tally.source_bytes = tally.target_bytes = 0
        return tally

    # --- an incremental export -----------------------------------------------------------------------------

    def _changes(self, hand: Hand) -> Tally:
        """Every key that the file names. What it held at the window's end is past, and not used."""
        side = _side_of(hand.partition)
        items = size = kept = 0
        for page in read_changes(self._exports[side].files, self._file(hand), self._keys.schema):
            hand.go_on()
            keys = [change.key for change in page]
            sampled = keys if self._sampler is None else list(filter(self._sampler.keeps, keys))
            hand.suspect([Suspect(key, UNKNOWN, _SHOWED[side]) for key in sampled])
            items, size, kept = items + len(keys), size + sum(map(len, keys)), kept + len(sampled)
        tally = Tally()
        _count_items(tally, side, items, size, items - kept)
        if side is Side.SOURCE:
            tally.source_only = kept
        else:
            tally.target_only = kept
        return tally

    def _file(self, hand: Hand) -> DataFile:
        return self._exports[_side_of(hand.partition)].export.files[hand.partition.number]

    def _spilled(self) -> Spilling:
        if self._spilling is None:
            raise ValueError("the comparison has no spill")
        return self._spilling


def spill_part(ordinal: int, epoch: int) -> str:
    """The name of what one taking of a partition has sorted: another taking has another."""
    return f"{ordinal}-{epoch}"


class _CountingReader(SegmentReader):
    """Counts the partition keys it sees: of a sample, they are what the interval is made of."""

    def __init__(self, scanner: TableScanner, segment: int, total: int, seen: PartitionKeys) -> None:
        super().__init__(scanner, segment, total)
        self._seen = seen

    def next_page(self) -> ScanPage:
        page = super().next_page()
        self._seen.add(page.keys)
        return page


def _side_of(partition: Partition) -> Side:
    if partition.side is None:
        raise ValueError(f"{partition} is of both sides")
    return partition.side


def _counted(counts: JoinCounts) -> Tally:
    return Tally(**{name: getattr(counts, name) for name in JoinCounts.__struct_fields__})


def _count_units(tally: Tally, side: Side, reader: SegmentReader) -> None:
    setattr(tally, f"half_units_{side}", round(2 * reader.units))


def _count_items(tally: Tally, side: Side, items: int, size: int, not_sampled: int) -> None:
    for name, count in (
        (f"{side}_items", items),
        (f"{side}_bytes", size),
        (f"not_sampled_{side}", not_sampled),
    ):
        setattr(tally, name, count)
