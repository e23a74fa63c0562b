"""A comparison as the store keeps it: what it was begun with, how far it is, what it has counted.

Reads: nothing. Writes: nothing. Never: I/O, clocks.

The coverage identity, of each side: items = not sampled + equal + suspects + covered. Every item that was
read is counted once (`join`), and every partition once (`lua/compare_finish.lua`), so what is read and
counted is all that was planned, or the comparison proves nothing yet. With an export the left side is
counted when items are sorted and the right side when buckets are joined: what was lost between the two is
seen here.
"""

from collections.abc import Mapping

import msgspec

from pipeline.core.comparing.definitions import Difference
from pipeline.core.comparing.join import JoinCounts
from pipeline.core.comparing.partitions import Mode, Partitions
from pipeline.core.comparing.segments import SegmentPlan, plan_segments
from pipeline.core.cost import Prices
from pipeline.core.model import Side

#: An export shows all that was written until a minute before its time, and nothing written a minute after it;
#: of what was written in between it shows some (developer guide, "How DynamoDB export to Amazon S3 works").
EXPORT_FUZZ_MS = 60_000


class ExportSeen(msgspec.Struct, frozen=True):
    """A side's export as it was when the comparison began. location: where; the export may be copied.

    checksum: of its manifests. size: of its data files, compressed. from_ms, to_ms: the window of an
    incremental one; a full one shows the table at to_ms, and has no from_ms.
    """

    location: str
    arn: str | None
    checksum: str
    files: int
    items: int
    size: int
    to_ms: int
    from_ms: int | None = None

    @property
    def identity(self) -> tuple[object, ...]:
        """The same for every copy of one export, and for no other export."""
        return (self.arn, self.checksum, self.from_ms, self.to_ms)

    @property
    def vouches_from_ms(self) -> int:
        """What was written before is in it."""
        return max(0, self.to_ms - EXPORT_FUZZ_MS)


class CompareSettings(msgspec.Struct, frozen=True):
    """What a comparison was begun with; every comparer makes the same plan of it.

    sample_percent: of the segments; with an export, of the keys. segments: the operator's number, None = by
    `table_bytes`, the size of the larger table when it was begun. buckets: that both sides are sorted into.
    definitions: what differed between the tables' definitions when it was begun. definitions_unknown: what
    could not be asked then.
    """

    table_bytes: int
    sample_percent: float = 100
    segments: int | None = None
    source_export: ExportSeen | None = None
    target_export: ExportSeen | None = None
    buckets: int = 0
    definitions: tuple[Difference, ...] = ()
    definitions_unknown: tuple[str, ...] = ()

    def export(self, side: Side) -> ExportSeen | None:
        """None: the side is scanned."""
        return self.source_export if side is Side.SOURCE else self.target_export

    @property
    def exports(self) -> dict[Side, ExportSeen]:
        return {side: one for side in Side if (one := self.export(side)) is not None}

    @property
    def mode(self) -> Mode:
        exports = self.exports.values()
        if not exports:
            return Mode.SCAN
        return Mode.CHANGES if any(one.from_ms is not None for one in exports) else Mode.EXPORT

    def plan(self) -> SegmentPlan:
        """The segments of each side that is scanned."""
        percent = self.sample_percent if self.mode is Mode.SCAN else 100
        return plan_segments(self.table_bytes, percent, self.segments)

    def partitions(self) -> Partitions:
        files = {side: None if one is None else one.files for side in Side for one in [self.export(side)]}
        return Partitions(self.mode, self.plan(), files[Side.SOURCE], files[Side.TARGET], self.buckets)

    @property
    def whole(self) -> bool:
        """True when it is to compare the whole table, not a sample and not what changed in a window."""
        if self.mode is Mode.SCAN:
            return self.plan().whole
        return self.mode is Mode.EXPORT and self.sample_percent == 100

    def same_as(self, other: "CompareSettings") -> bool:
        """Whether the operator asked for the same; what the table's size is by now does not matter."""
        return _asked(self) == _asked(other)


def _asked(settings: CompareSettings) -> tuple[object, ...]:
    exports = [None if one is None else one.identity for one in map(settings.export, Side)]
    return (settings.sample_percent, settings.segments, *exports)


class Tally(JoinCounts):
    """What partitions held. covered_*: suspects that the stream is judging, by the sides that showed them.

    half_units_*: read units twice, which are whole numbers. partition_keys: seen, where they are needed.
    not_sampled_*: items of keys that the sampler does not keep.
    """

    covered_source: int = 0
    covered_target: int = 0
    covered_both: int = 0
    half_units_source: int = 0
    half_units_target: int = 0
    partition_keys: int = 0
    not_sampled_source: int = 0
    not_sampled_target: int = 0

    def items(self, side: Side) -> int:
        return self.source_items if side is Side.SOURCE else self.target_items

    def item_bytes(self, side: Side) -> int:
        return self.source_bytes if side is Side.SOURCE else self.target_bytes

    def not_sampled(self, side: Side) -> int:
        return self.not_sampled_source if side is Side.SOURCE else self.not_sampled_target

    def units(self, side: Side) -> float:
        return (self.half_units_source if side is Side.SOURCE else self.half_units_target) / 2

    def dollars(self, prices: Prices) -> float:
        """What its Scans cost."""
        return sum(prices.of_units(side, self.units(side)) for side in Side)

    @property
    def keys(self) -> int:
        """Keys compared. One that left the join without its partner may count twice."""
        return self.equal + self.different + self.source_only + self.target_only

    @property
    def covered(self) -> int:
        return self.covered_source + self.covered_target + self.covered_both

    @property
    def suspects(self) -> int:
        """Keys that were handed over to be judged."""
        return self.different + self.source_only + self.target_only - self.covered

    @property
    def imbalance(self) -> str:
        """Where the coverage identity fails, in words; "" = nowhere."""
        for side, only, covered_alone, not_sampled in (
            (Side.SOURCE, self.source_only, self.covered_source, self.not_sampled_source),
            (Side.TARGET, self.target_only, self.covered_target, self.not_sampled_target),
        ):
            covered = covered_alone + self.covered_both
            suspects = self.different + only - covered
            if suspects < 0 or self.items(side) != not_sampled + self.equal + suspects + covered:
                skipped = f"{not_sampled:,} not sampled + " if not_sampled else ""
                return (
                    f"{self.items(side):,} items of the {side} ≠ {skipped}"
                    f"{self.equal:,} equal + {suspects:,} suspects + {covered:,} covered"
                )
        return ""


class Comparison(msgspec.Struct, frozen=True):
    """The latest comparison. `planned` partitions, `done` of them read. finished_ms: None until its end."""

    id: str
    settings: CompareSettings
    planned: int
    done: int
    started_ms: int
    finished_ms: int | None
    tally: Tally
    epoch: int = 0  # how often a partition was taken
    indeterminate_before: int = 0  # suspects given up in earlier ones

    @property
    def whole(self) -> bool:
        """True for one of the whole table, not of a sample and not of a window's changes."""
        return self.settings.whole

    @property
    def coverage(self) -> float:
        """Share of both tables that was read, 0..1; of a window's changes, of those."""
        share = 1 if self.whole else self.settings.sample_percent / 100
        return self.done / max(self.planned, 1) * share

    @property
    def vouches_from_ms(self) -> int:
        """From when on a watch of the stream carries forward what was found equal."""
        return min(
            (self.started_ms, *(one.vouches_from_ms for one in self.settings.exports.values())),
        )

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> "Comparison":
        """fields: the hash `comparison`. Raises KeyError or ValueError for one that is none."""
        counted = {name: int(fields.get(name, 0)) for name in Tally.__struct_fields__}
        finished_ms = fields.get("finished_ms")
        return cls(
            id=fields["id"],
            settings=msgspec.json.decode(fields["settings"], type=CompareSettings),
            planned=int(fields["planned"]),
            done=int(fields.get("done", 0)),
            started_ms=int(fields["started_ms"]),
            finished_ms=None if finished_ms is None else int(finished_ms),
            tally=Tally(**counted),
            epoch=int(fields.get("epoch", 0)),
            indeterminate_before=int(fields.get("indeterminate_before", 0)),
        )
