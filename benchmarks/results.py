"""What was measured, as rows: against a baseline or a bound, required or for information.

Reads: figures. Writes: text. Never: rounding before a comparison.
"""

import os
import platform
import statistics
from collections.abc import Sequence

import msgspec

from benchmarks.measure import Figures, Spread


class Row(msgspec.Struct, frozen=True):
    """One line of the table.

    factor: how many times better than the baseline, round by round (None without one). need: the least factor
    when there is a baseline, else the most that `ours` may be; None = for information.
    """

    what: str
    unit: str
    ours: Spread
    baseline: Spread | None = None
    factor: Spread | None = None
    need: float | None = None

    @property
    def met(self) -> bool | None:
        if self.need is None:
            return None
        return self.factor.median >= self.need if self.factor else self.ours.median <= self.need


class Results(msgspec.Struct):
    """Everything one run measured. by_shards, by_keys: the growth curves, figures by size. notes: what
    follows from the rows, as text.
    """

    machine: str
    quick: bool
    rows: list[Row] = []
    by_shards: dict[int, Figures] = {}
    by_keys: dict[int, Figures] = {}
    notes: list[str] = []


def cheaper(
    what: str, ours: Sequence[Figures], baseline: Sequence[Figures], need: float | None, figure: str = "us"
) -> Row:
    """A cost against the baseline's, in µs of CPU."""
    mine, theirs = _column(ours, figure), _column(baseline, "us")
    factors = [b / o for o, b in zip(mine, theirs, strict=True)]
    return Row(what, "µs", Spread.of(mine), Spread.of(theirs), Spread.of(factors), need)


def faster(what: str, ours: Sequence[Figures], baseline: Sequence[Figures], need: float, figure: str) -> Row:
    """A rate against the baseline's; a single baseline serves all rounds."""
    mine, theirs = _column(ours, figure), _column(baseline, figure)
    factors = [o / theirs[index % len(theirs)] for index, o in enumerate(mine)]
    return Row(what, "/s", Spread.of(mine), Spread.of(theirs), Spread.of(factors), need)


def at_most(what: str, unit: str, values: Sequence[float], bound: float | None) -> Row:
    """A figure with a bound of its own."""
    return Row(what, unit, Spread.of(values), need=bound)


def growth(what: str, smallest: int, ratios: dict[int, list[float]]) -> Row:
    """How much dearer the dearest size is than the cheapest, in per cent, and in single rounds.

    ratios: of each larger size its cost in terms of the smallest's, round by round; their medians count.
    """
    rounds = [_apart(one) for one in zip(*ratios.values(), strict=True)]
    apart = _apart([statistics.median(one) for one in ratios.values()])
    spread = Spread(min(apart, *rounds), apart, max(apart, *rounds))
    return Row(f"{what}, {smallest:,} … {max(ratios):,}: dearest over cheapest", "%", spread, need=20)


def _apart(ratios: Sequence[float]) -> float:
    return (max(1.0, *ratios) / min(1.0, *ratios) - 1) * 100


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def table(results: Results) -> str:
    """The rows as a Markdown table: median (least … most)."""
    lines = [
        f"{results.machine}{', quick mode' if results.quick else ''}; median (least … most)",
        "",
        "| what | ours | baseline | factor | required | |",
        "|---|---|---|---|---|---|",
    ]
    for row in results.rows:
        baseline = _spread(row.baseline, row.unit) if row.baseline else "–"
        factor = _spread(row.factor, "×") if row.factor else "–"
        met = {None: "", True: "met", False: "**MISSED**"}[row.met]
        ours = _spread(row.ours, row.unit)
        lines.append(f"| {row.what} | {ours} | {baseline} | {factor} | {_required(row)} | {met} |")
    return "\n".join([*lines, *(f"\n{note}" for note in results.notes)])


def _required(row: Row) -> str:
    if row.need is None:
        return "–"
    return f"≥ {row.need:g} ×" if row.factor else f"≤ {row.need:g} {row.unit}"


def _spread(spread: Spread, unit: str) -> str:
    least, median, most = (_short(value) for value in (spread.least, spread.median, spread.most))
    return f"{median} {unit}" if least == most else f"{median} {unit} ({least} … {most})"


def _short(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _column(rounds: Sequence[Figures], figure: str) -> list[float]:
    return [one[figure] for one in rounds]
