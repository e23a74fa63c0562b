"""One segment of both tables, read page by page in step, its items joined by key.

Reads: both tables through their scanners. Writes: nothing. Never: waiting, retries. No page is kept.

That the same key lies in the same segment of both tables is likely and not documented. Where it does not,
both its items leave as suspects, each from its own segment: more reads, never a wrong verdict.
"""

from collections.abc import Mapping

from pipeline.aws import ScanPage, TableScanner
from pipeline.core.comparing.join import Join, Suspect
from pipeline.core.model import Side


class SegmentReader:
    """One side's segment. A call that fails loses nothing: the next one asks for the same page."""

    def __init__(self, scanner: TableScanner, segment: int, total: int) -> None:
        self._scanner = scanner
        self._segment = segment
        self._total = total
        self._after: bytes | None = None
        self.finished = False
        self.units = 0.0
        self.pages = 0

    def next_page(self) -> ScanPage:
        """Not to be called once `finished`. Raises AwsError."""
        page = self._scanner.page(self._segment, self._total, self._after)
        self._after = page.after
        self.finished = page.after is None
        self.units += page.units
        self.pages += 1
        return page


class SegmentPair:
    """One segment of both tables. `step` until `finished`; then its join's counts are the segment's."""

    def __init__(self, readers: Mapping[Side, SegmentReader], join: Join) -> None:
        self.readers = readers
        self.join = join

    @property
    def finished(self) -> bool:
        return all(reader.finished for reader in self.readers.values())

    @property
    def next_side(self) -> Side:
        """The side that the next step reads: whoever paces reads has to know."""
        behind = self.join.behind
        return behind.other if self.readers[behind].finished else behind

    def step(self) -> list[Suspect]:
        """Read one page; the suspects that are known by now. Raises AwsError; then nothing is lost."""
        side = self.next_side
        page = self.readers[side].next_page()
        suspects = self.join.add(side, page.keys, page.items)
        if self.finished:
            suspects += self.join.finish()
        return suspects
