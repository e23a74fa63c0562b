"""What a comparison comes to: its answer, what it proves, what it costs.

Reads: figures. Writes: nothing. Never: I/O. Nothing compared is never a pass, nor is a sum that is off.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from pipeline.core.comparing.partitions import Mode
from pipeline.core.comparing.state import DOLLARS_PER_MILLION_UNITS, CompareSettings, Comparison
from pipeline.core.figures import Figures
from pipeline.core.model import Side
from pipeline.core.statistics import CONFIDENCE, exact_interval

#: An eventually consistent Scan reads so many bytes with one unit.
BYTES_PER_UNIT = 8_192
#: A key that is equal is looked up once on each side, eventually consistent; a small item takes half a unit.
UNITS_PER_LOOK = 0.5


class Answer(StrEnum):
    """How a comparison ended."""

    EQUAL = "equal"
    FINDINGS = "findings"
    INCONCLUSIVE = "inconclusive"


class Share(msgspec.Struct, frozen=True):
    """Which share of the whole table is right: the interval (0 … 1), and what it counts.

    unit: "key" for a table that was read whole, where there is nothing to estimate, and for a sample of keys;
    "partition key" for a sample of segments, each of which holds whole partition keys; "changed key" for an
    incremental export's.
    """

    low: float
    high: float
    confidence: float
    unit: str


class Estimate(msgspec.Struct, frozen=True):
    """What reading both sides takes. items, bytes_: of the larger table. seconds: None without --max-rcu.

    segments: 0 where no side is scanned. spill_bytes: room that is needed on disk.
    """

    segments: int
    of: int
    items: int
    bytes_: int
    units: float
    dollars: float
    seconds: float | None
    spill_bytes: int = 0


def answer(comparison: Comparison, figures: Figures) -> tuple[Answer, str]:
    """How the comparison ended, and why that is not a better answer."""
    if figures.open_total:
        return Answer.FINDINGS, f"open findings: {figures.open_total:,}"
    if why := unproven(comparison, figures):
        return Answer.INCONCLUSIVE, why
    return Answer.EQUAL, ""


def unproven(comparison: Comparison, figures: Figures) -> str:
    """What keeps a comparison without findings from proving anything, in words; "" = nothing does."""
    tally, ledger = comparison.tally, figures.ledger
    given_up = ledger.suspects_indeterminate - comparison.indeterminate_before
    reasons = (
        (
            comparison.done < comparison.planned,
            f"{comparison.done:,} of {comparison.planned:,} "
            f"{'partitions' if comparison.settings.exports else 'segments'} were read",
        ),
        (comparison.finished_ms is None, f"suspects without an answer: {ledger.suspects_waiting:,}"),
        (tally.keys == 0, f"{_nothing(comparison)}: nothing was compared"),
        (bool(tally.imbalance), tally.imbalance),
        (bool(ledger.imbalance), f"the accounting identity does not hold: {ledger.imbalance}"),
        (given_up > 0, f"suspects whose source never stood still: {given_up:,}"),
        (figures.queue.dead > 0, f"keys given up as dead letters: {figures.queue.dead:,}"),
    )
    return next((text for failed, text in reasons if failed), "")


def _nothing(comparison: Comparison) -> str:
    if comparison.settings.mode is Mode.CHANGES:
        return "no key changed in the export's window"
    tally = comparison.tally
    if tally.source_items or tally.target_items:
        return "no key of either table is in the sample"
    return "both tables are empty"


def success(comparison: Comparison, wrong_keys: int, wrong_partition_keys: int) -> Share | None:
    """Which share of the whole table is right; None while nothing was compared.

    wrong_*: under open findings, however they were found.
    """
    tally = comparison.tally
    if tally.keys == 0:
        return None
    unit = "changed key" if comparison.settings.mode is Mode.CHANGES else "key"
    if comparison.whole or (comparison.settings.exports and comparison.settings.sample_percent == 100):
        right = max(0, tally.keys - wrong_keys) / tally.keys
        return Share(right, right, 1.0, unit)
    if comparison.settings.exports:  # of which the sampler kept some keys
        keys = max(tally.keys, wrong_keys)
        return Share(*exact_interval(keys - wrong_keys, keys, CONFIDENCE), CONFIDENCE, unit)
    units = max(tally.partition_keys, wrong_partition_keys)
    low, high = exact_interval(units - wrong_partition_keys, units, CONFIDENCE)
    return Share(low, high, CONFIDENCE, "partition key")


def estimate(settings: CompareSettings, sizes: Mapping[Side, tuple[int, int]], max_rcu: float) -> Estimate:
    """What a comparison will take. sizes: of both tables, items and bytes as AWS says (up to 6 h old)."""
    plan, mode = settings.plan(), settings.mode
    share = len(plan.segments) / plan.total
    scanned = [] if mode is Mode.CHANGES else [side for side in Side if settings.export(side) is None]
    units = [share * sizes[side][1] / BYTES_PER_UNIT + len(plan.segments) * 0.5 for side in scanned]
    looks = sum(export.items for export in settings.exports.values()) if mode is Mode.CHANGES else 0
    units = [looks * UNITS_PER_LOOK] * 2 if looks else units
    return Estimate(
        segments=len(plan.segments) if scanned else 0,
        of=plan.total,
        items=round(share * max(items for items, _ in sizes.values())),
        bytes_=round(share * max(size for _, size in sizes.values())),
        units=sum(units),
        dollars=sum(units) * DOLLARS_PER_MILLION_UNITS / 1_000_000,
        seconds=max(units, default=0) / (0.9 * max_rcu) if max_rcu else None,
        spill_bytes=_spill_bytes(settings, sizes) if mode is Mode.EXPORT else 0,
    )


def _spill_bytes(settings: CompareSettings, sizes: Mapping[Side, tuple[int, int]]) -> int:
    """Items are packed on disk about as in an export; those of a scan to about half of their size."""
    exports = settings.exports
    packed = [exports[side].size * 1.3 if side in exports else sizes[side][1] / 2 for side in Side]
    return round(sum(packed) * settings.sample_percent / 100)
