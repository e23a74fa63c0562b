"""A comparison as the store keeps it: what it was begun with, how far it is, what it has counted.

Reads: nothing. Writes: nothing. Never: I/O, clocks.

The coverage identity, of each side: items = equal + suspects + covered. Every item that was read is counted
once (`join`), and every partition once (`lua/compare_finish.lua`), so what is read and counted is all that
was planned, or the comparison proves nothing yet.
"""

from collections.abc import Mapping

import msgspec

from pipeline.core.comparing.definitions import Difference
from pipeline.core.comparing.join import JoinCounts
from pipeline.core.comparing.segments import SegmentPlan, plan_segments
from pipeline.core.model import Side

#: Dollars of a million read request units: on demand, us-east-1, list price since November 2024
#: (https://aws.amazon.com/dynamodb/pricing/on-demand/). Other regions and provisioned tables differ.
DOLLARS_PER_MILLION_UNITS = 0.125


class CompareSettings(msgspec.Struct, frozen=True):
    """What a comparison was begun with; every comparer makes the same plan of it.

    sample_percent: of the segments. segments: the operator's number, None = by `table_bytes`, the size of the
    larger table when it was begun. definitions: what differed between the tables' definitions then.
    """

    table_bytes: int
    sample_percent: float = 100
    segments: int | None = None
    definitions: tuple[Difference, ...] = ()

    def plan(self) -> SegmentPlan:
        return plan_segments(self.table_bytes, self.sample_percent, self.segments)

    def same_as(self, other: "CompareSettings") -> bool:
        """Whether the operator asked for the same; what the table's size is by now does not matter."""
        return (self.sample_percent, self.segments) == (other.sample_percent, other.segments)


class Tally(JoinCounts):
    """What partitions held. covered_*: suspects that the stream is judging, by the sides that showed them.

    half_units_*: read units twice, which are whole numbers. partition_keys: seen, where they are needed.
    """

    covered_source: int = 0
    covered_target: int = 0
    covered_both: int = 0
    half_units_source: int = 0
    half_units_target: int = 0
    partition_keys: int = 0

    def items(self, side: Side) -> int:
        return self.source_items if side is Side.SOURCE else self.target_items

    def item_bytes(self, side: Side) -> int:
        return self.source_bytes if side is Side.SOURCE else self.target_bytes

    def units(self, side: Side) -> float:
        return (self.half_units_source if side is Side.SOURCE else self.half_units_target) / 2

    @property
    def dollars(self) -> float:
        """What its Scans cost, at DOLLARS_PER_MILLION_UNITS."""
        return sum(self.units(side) for side in Side) * DOLLARS_PER_MILLION_UNITS / 1_000_000

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
        for side, only, covered_alone in (
            (Side.SOURCE, self.source_only, self.covered_source),
            (Side.TARGET, self.target_only, self.covered_target),
        ):
            covered = covered_alone + self.covered_both
            suspects = self.different + only - covered
            if suspects < 0 or self.items(side) != self.equal + suspects + covered:
                return (
                    f"{self.items(side):,} items of the {side} ≠ "
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
        """True for one of the whole table, not of a sample."""
        return self.settings.plan().whole

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
