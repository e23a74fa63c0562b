"""What a comparison comes to: its answer, what it proves, what it costs.

Reads: figures. Writes: nothing. Never: I/O. Nothing compared is never a pass, nor is a sum that is off.
"""

from enum import StrEnum

import msgspec

from pipeline.core.comparing.segments import SegmentPlan
from pipeline.core.comparing.state import DOLLARS_PER_MILLION_UNITS, Comparison
from pipeline.core.figures import Figures
from pipeline.core.statistics import CONFIDENCE, exact_interval

#: An eventually consistent Scan reads so many bytes with one unit.
BYTES_PER_UNIT = 8_192


class Answer(StrEnum):
    """How a comparison ended."""

    EQUAL = "equal"
    FINDINGS = "findings"
    INCONCLUSIVE = "inconclusive"


class Share(msgspec.Struct, frozen=True):
    """Which share of the whole table is right: the interval (0 … 1), and what it counts.

    unit: "key" for a table that was read whole, where there is nothing to estimate; "partition key" for a
    sample of segments, each of which holds whole partition keys.
    """

    low: float
    high: float
    confidence: float
    unit: str


class Estimate(msgspec.Struct, frozen=True):
    """What reading both sides takes. items, bytes_: of the larger table. seconds: None without --max-rcu."""

    segments: int
    of: int
    items: int
    bytes_: int
    units: float
    dollars: float
    seconds: float | None


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
            f"{comparison.done:,} of {comparison.planned:,} segments were read",
        ),
        (comparison.finished_ms is None, f"suspects without an answer: {ledger.suspects_waiting:,}"),
        (tally.keys == 0, "both tables are empty: nothing was compared"),
        (bool(tally.imbalance), tally.imbalance),
        (bool(ledger.imbalance), f"the accounting identity does not hold: {ledger.imbalance}"),
        (given_up > 0, f"suspects whose source never stood still: {given_up:,}"),
        (figures.queue.dead > 0, f"keys given up as dead letters: {figures.queue.dead:,}"),
    )
    return next((text for failed, text in reasons if failed), "")


def success(comparison: Comparison, wrong_keys: int, wrong_partition_keys: int) -> Share | None:
    """Which share of the whole table is right; None while nothing was compared.

    wrong_*: under open findings, however they were found.
    """
    tally = comparison.tally
    if tally.keys == 0:
        return None
    if comparison.whole:
        right = max(0, tally.keys - wrong_keys) / tally.keys
        return Share(right, right, 1.0, "key")
    units = max(tally.partition_keys, wrong_partition_keys)
    low, high = exact_interval(units - wrong_partition_keys, units, CONFIDENCE)
    return Share(low, high, CONFIDENCE, "partition key")


def estimate(plan: SegmentPlan, sizes: tuple[tuple[int, int], tuple[int, int]], max_rcu: float) -> Estimate:
    """What a plan will take. sizes: of source and target, items and bytes as AWS says (up to 6 h old)."""
    share = len(plan.segments) / plan.total
    units = [share * size / BYTES_PER_UNIT + len(plan.segments) * 0.5 for _, size in sizes]
    return Estimate(
        segments=len(plan.segments),
        of=plan.total,
        items=round(share * max(items for items, _ in sizes)),
        bytes_=round(share * max(size for _, size in sizes)),
        units=sum(units),
        dollars=sum(units) * DOLLARS_PER_MILLION_UNITS / 1_000_000,
        seconds=max(units) / (0.9 * max_rcu) if max_rcu else None,
    )
