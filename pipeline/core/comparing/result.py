"""What a comparison comes to: its answer, what it proves, what it costs.

Reads: figures. Writes: nothing. Never: I/O. Nothing compared is never a pass, nor is a sum that is off.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from pipeline.core.comparing.partitions import Mode
from pipeline.core.comparing.state import CompareSettings, Comparison
from pipeline.core.cost import LISTED, Prices
from pipeline.core.figures import Figures
from pipeline.core.model import Side
from pipeline.core.statistics import CONFIDENCE, exact_interval

#: An eventually consistent Scan reads so many bytes with one unit.
BYTES_PER_UNIT = 8_192
#: A key that is equal is looked up once on each side, eventually consistent; a small item takes half a unit.
UNITS_PER_LOOK = 0.5
#: What the interval of a sample of segments counts.
PARTITION_KEY = "partition key"


class Answer(StrEnum):
    """How a comparison ended."""

    EQUAL = "equal"
    FINDINGS = "findings"
    INCONCLUSIVE = "inconclusive"


class Share(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which share of the whole table is right: the interval (0 … 1), and what it counts.

    unit: "key" for a table that was read whole, where there is nothing to estimate, and for a sample of keys;
    "partition key" for a sample of segments, each of which holds whole partition keys; "changed key" for an
    incremental export's. What has no answer may be wrong: it counts against low, not against high.

    Of a sample of segments, the interval holds however the differences lie: it is as wide as both of these
    together. by_partition_key: where partition keys go wrong one by one. by_segment: where differences lie
    together, as after an import that lost a file of an export. Such a file fills a part of the hash space:
    all of it lies in a few segments, of which the sample holds some or none, however many keys it has.
    """

    low: float
    high: float
    confidence: float
    unit: str
    by_partition_key: tuple[float, float] | None = None
    by_segment: tuple[float, float] | None = None


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
    why = unproven(comparison, figures)
    if figures.open_total:
        return Answer.FINDINGS, f"open findings: {figures.open_total:,}{f'; {why}' if why else ''}"
    return (Answer.INCONCLUSIVE, why) if why else (Answer.EQUAL, "")


def unproven(comparison: Comparison, figures: Figures) -> str:
    """What keeps a comparison without findings from proving anything, in words; "" = nothing does."""
    tally, ledger = comparison.tally, figures.ledger
    given_up = _given_up(comparison, figures)
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


def success(
    comparison: Comparison, figures: Figures, wrong_partition_keys: int | None = None
) -> Share | None:
    """Which share of the whole table is right; None while not all is read that was planned, or nothing was
    compared: what was read until then was not chosen by chance.

    wrong_partition_keys: under open findings, however they were found; None = each finding has its own.
    """
    tally, exports = comparison.tally, comparison.settings.exports
    if tally.keys == 0 or comparison.done < comparison.planned:
        return None
    wrong, unknown = figures.open_total, _unanswered(comparison, figures)
    unit = "changed key" if comparison.settings.mode is Mode.CHANGES else "key"
    least = tally.keys
    if comparison.settings.mode is Mode.CHANGES and len(exports) == len(Side):
        least = max(tally.source_only, tally.target_only)  # a key that changed on both sides counts twice
    if comparison.whole or (exports and comparison.settings.sample_percent == 100):
        low = max(0, least - wrong - unknown) / least
        return Share(low, max(0, tally.keys - wrong) / tally.keys, 1.0, unit)
    if exports:  # of which the sampler kept some keys, each by its own hash
        return Share(*_between(least, wrong, unknown), CONFIDENCE, unit)
    return _of_segments(comparison, wrong if wrong_partition_keys is None else wrong_partition_keys, unknown)


def _of_segments(comparison: Comparison, wrong: int, unknown: int) -> Share:
    """Nobody knows which segments hold what is wrong: at least one where anything is, at most as many."""
    keys = _between(comparison.tally.partition_keys, wrong, unknown)
    low = _between(comparison.planned, wrong, unknown)[0]
    segments = low, _between(comparison.planned, min(wrong, 1), 0)[1]
    return Share(
        min(keys[0], segments[0]), max(keys[1], segments[1]), CONFIDENCE, PARTITION_KEY, keys, segments
    )


def _between(units: int, wrong: int, unknown: int) -> tuple[float, float]:
    """The interval of a sample of `units`; more may be wrong than it holds: the stream finds others too."""
    right = max(0, units - wrong)
    low, _ = exact_interval(max(0, right - unknown), units, CONFIDENCE)
    _, high = exact_interval(right, units, CONFIDENCE)
    return low, high


def _unanswered(comparison: Comparison, figures: Figures) -> int:
    """Suspects that nobody has an answer to, yet or ever."""
    return figures.ledger.suspects_waiting + _given_up(comparison, figures) + figures.queue.dead


def _given_up(comparison: Comparison, figures: Figures) -> int:
    return max(0, figures.ledger.suspects_indeterminate - comparison.indeterminate_before)


def estimate(
    settings: CompareSettings,
    sizes: Mapping[Side, tuple[int, int]],
    max_rcu: float,
    prices: Prices = LISTED,
) -> Estimate:
    """What a comparison will take. sizes: of both tables, items and bytes as AWS says (up to 6 h old)."""
    plan, mode = settings.plan(), settings.mode
    share = len(plan.segments) / plan.total
    scanned = [] if mode is Mode.CHANGES else [side for side in Side if settings.export(side) is None]
    units = {side: share * sizes[side][1] / BYTES_PER_UNIT + len(plan.segments) * 0.5 for side in scanned}
    looks = sum(export.items for export in settings.exports.values()) if mode is Mode.CHANGES else 0
    units = dict.fromkeys(Side, looks * UNITS_PER_LOOK) if looks else units
    return Estimate(
        segments=len(plan.segments) if scanned else 0,
        of=plan.total,
        items=round(share * max(items for items, _ in sizes.values())),
        bytes_=round(share * max(size for _, size in sizes.values())),
        units=sum(units.values()),
        dollars=sum(prices.of_units(side, one) for side, one in units.items()),
        seconds=max(units.values(), default=0) / (0.9 * max_rcu) if max_rcu else None,
        spill_bytes=_spill_bytes(settings, sizes) if mode is Mode.EXPORT else 0,
    )


def _spill_bytes(settings: CompareSettings, sizes: Mapping[Side, tuple[int, int]]) -> int:
    """Items are packed on disk about as in an export; those of a scan to about half of their size."""
    exports = settings.exports
    packed = [exports[side].size * 1.3 if side in exports else sizes[side][1] / 2 for side in Side]
    return round(sum(packed) * settings.sample_percent / 100)
