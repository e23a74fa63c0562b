"""How many keys are right, told apart: those that changed under watch, and the whole table.

Reads: figures. Writes: nothing. Never: I/O, clocks. Nothing compared leaves everything open.

The stream shows what changes, a comparison what does not: neither speaks for the other.
"""

from enum import StrEnum
from math import floor

import msgspec

from pipeline.core.budget import at
from pipeline.core.comparing import result as comparing
from pipeline.core.figures import Figures
from pipeline.core.statistics import CONFIDENCE

#: The share of wrong keys by which the words show what a sample sees.
EXAMPLE_DEFECT = 0.001


class StratumName(StrEnum):
    """Which keys are spoken of."""

    CHANGED = "changed"
    WHOLE = "whole-table"


class Stratum(msgspec.Struct, frozen=True):
    """What is known of one stratum.

    keys: compared. units: what the interval counts, a `unit` each: keys, or the partition keys of a sample of
    segments. wrong: under open findings. ratio, low, high: 0..1, None while nothing was compared. exact:
    every unit was compared, nothing is estimated. open_question: what keeps it from proving anything, "" =
    nothing does. since: when counting began anew, "" = with the migration.
    """

    name: StratumName
    keys: int
    units: int
    unit: str
    wrong: int
    ratio: float | None
    low: float | None
    high: float | None
    confidence: float = CONFIDENCE
    exact: bool = False
    open_question: str = ""
    since: str = ""

    @property
    def unseen(self) -> float | None:
        """The largest share of wrong units that could have gone unseen."""
        return None if self.low is None else 1 - self.low


def strata(figures: Figures) -> list[Stratum]:
    """Both, changed keys first."""
    return [_changed(figures), _whole(figures)]


def _changed(figures: Figures) -> Stratum:
    success = figures.success
    return Stratum(
        name=StratumName.CHANGED,
        keys=success.keys,
        units=success.keys,
        unit="key",
        wrong=max(0, figures.open_total - figures.ledger.suspects_open),
        ratio=success.ratio,
        low=success.low,
        high=success.high,
        confidence=success.confidence,
        open_question="" if success.keys else f"no key that changed was compared yet{_since(figures)}",
        since=_since(figures),
    )


def _since(figures: Figures) -> str:
    return f" since {at(figures.lowered.since_ms)}, when the sample changed" if figures.lowered else ""


def _whole(figures: Figures) -> Stratum:
    comparison, wrong = figures.of_table, figures.open_total
    share = comparing.success(comparison, figures) if comparison else None
    if comparison is None or share is None:
        why = "no comparison of the whole table was made"
        if comparison is not None:
            why = comparing.unproven(comparison, figures)
        return Stratum(StratumName.WHOLE, 0, 0, "key", wrong, None, None, None, open_question=why)
    units = comparison.tally.keys if comparison.whole else max(comparison.tally.partition_keys, wrong)
    return Stratum(
        name=StratumName.WHOLE,
        keys=comparison.tally.keys,
        units=units,
        unit=share.unit,
        wrong=wrong,
        ratio=max(0, units - wrong) / units,
        low=share.low,
        high=share.high,
        confidence=share.confidence,
        exact=comparison.whole,
        open_question=comparing.unproven(comparison, figures),
    )


def in_words(stratum: Stratum) -> str:
    """What the numbers come to, for whoever signs."""
    if stratum.low is None or stratum.high is None:
        return f"{stratum.open_question}: nothing can be said"
    if stratum.exact:
        said = f"every one of the {stratum.keys:,} keys was compared, {stratum.wrong:,} of them wrong"
    else:
        spread = " if it is spread evenly" if stratum.unit == comparing.PARTITION_KEY else ""
        said = f"{_bound(stratum)}; {_would_show(stratum.units, EXAMPLE_DEFECT, stratum.unit)}{spread}"
    said += f", of {stratum.keys:,} keys judged{stratum.since}" if stratum.since else ""
    return f"{said} (not proven yet: {stratum.open_question})" if stratum.open_question else said


def _bound(stratum: Stratum) -> str:
    unseen = stratum.unseen or 0.0
    confidence = f"with {stratum.confidence * 100:.0f} % confidence"
    one_in = floor(1 / unseen) if unseen > 0 else 0
    if one_in >= 10:  # rounded towards the worse
        return f"{confidence} fewer than 1 {stratum.unit} in {one_in:,} is wrong"
    return f"{confidence} at most {min(100, unseen * 100 + 0.05):.1f} % of the {stratum.unit}s are wrong"


def _would_show(units: int, defect: float, unit: str) -> str:
    expected = units * defect
    defective = f"a defect in {defect * 100:g} % of the {unit}s"
    if expected < 1:
        return f"{defective} would most likely not have shown"
    return f"{defective} would have shown about {'once' if expected < 1.5 else f'{expected:,.0f} times'}"
