"""The partitions of a comparison: what each of them reads, and in which order they are taken.

Reads: settings. Writes: nothing. Never: I/O. Every process comes to the same list, so it is stored nowhere.

    scan       segment n of both tables, joined in memory
    export     first each file of an export, or segment of the side that is scanned, sorted into buckets; when
               all are sorted, bucket n of both sides, joined
    changes    each file of an incremental export, every key of which is a suspect
"""

from enum import StrEnum

import msgspec

from pipeline.core.comparing.segments import SegmentPlan
from pipeline.core.model import Side


class Mode(StrEnum):
    """How the sides of a comparison are read."""

    SCAN = "scan"
    EXPORT = "export"
    CHANGES = "changes"


class Step(StrEnum):
    """What is done with a partition."""

    SEGMENT = "segment"  # of both tables: read and joined
    SORT = "sort"  # a file or a segment of one side: into the buckets
    BUCKET = "bucket"  # of both sides: joined
    CHANGES = "changes"  # a file of an incremental export: its keys are suspects


class Partition(msgspec.Struct, frozen=True):
    """One of them. side: None = both. number: of the segment, the file or the bucket, among `of`."""

    step: Step
    number: int
    of: int
    side: Side | None = None
    is_file: bool = False

    def __str__(self) -> str:
        what = "file" if self.is_file else "bucket" if self.step is Step.BUCKET else "segment"
        return f"{self.side}:{what} {self.number}" if self.side else f"{what} {self.number}"


class Partitions(msgspec.Struct, frozen=True):
    """All of them; an ordinal is a place in their order.

    segments: of each side that is scanned. files: of each side's export, None = the side has none.
    """

    mode: Mode
    segments: SegmentPlan
    source_files: int | None = None
    target_files: int | None = None
    buckets: int = 0

    @property
    def sorting(self) -> int:
        """How many come first: the others are taken when all of these are done."""
        if self.mode is not Mode.EXPORT:
            return 0
        return sum(self._of(side) for side in Side)

    @property
    def planned(self) -> int:
        if self.mode is Mode.SCAN:
            return len(self.segments.segments)
        if self.mode is Mode.CHANGES:
            return sum(self._files(side) or 0 for side in Side)
        return self.sorting + self.buckets

    def at(self, ordinal: int) -> Partition:
        if self.mode is Mode.SCAN:
            return Partition(Step.SEGMENT, self.segments.segments[ordinal], self.segments.total)
        if self.mode is Mode.EXPORT and ordinal >= self.sorting:
            return Partition(Step.BUCKET, ordinal - self.sorting, self.buckets)
        first = self._of(Side.SOURCE)
        side, number = (Side.SOURCE, ordinal) if ordinal < first else (Side.TARGET, ordinal - first)
        step = Step.CHANGES if self.mode is Mode.CHANGES else Step.SORT
        files = self._files(side)
        if files is not None:
            return Partition(step, number, files, side, is_file=True)
        return Partition(step, self.segments.segments[number], self.segments.total, side)

    def phases(self, done: int) -> dict[str, tuple[int, int]]:
        """What is read, by phase: (done, planned). The phases follow each other."""
        if self.mode is not Mode.EXPORT:
            return {self.mode: (done, self.planned)}
        sorted_ = min(done, self.sorting)
        return {"sort": (sorted_, self.sorting), "bucket": (done - sorted_, self.buckets)}

    def _files(self, side: Side) -> int | None:
        return self.source_files if side is Side.SOURCE else self.target_files

    def _of(self, side: Side) -> int:
        """Partitions that read this side alone."""
        files = self._files(side)
        if files is not None:
            return files
        return len(self.segments.segments) if self.mode is Mode.EXPORT else 0
