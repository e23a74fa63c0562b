"""A few numbers of every half minute, kept to draw how the migration went; thinned with their age.

Reads: figures. Writes: nothing. Never: I/O, clocks.

Each number is written so that more is worse or later. So a coarse sample is the greatest of those it stands
for, number by number (`lua/sample.lua`): an hour that held ten bad minutes still shows them.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from pipeline.core.cost import GET_RECORDS, HOUR_MS, SOURCE, STREAM, TARGET, Asked, Prices
from pipeline.core.figures import Figures

#: Widths of the samples, finest first, and how far back each is kept: half minutes for two hours, five
#: minutes for two days, hours for ninety days. Together never more than 2,979.
TIERS_MS = (
    (30_000, 2 * 3_600_000),
    (300_000, 48 * 3_600_000),
    (3_600_000, 90 * 86_400_000),
)


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """One instant, or the worst of an interval that ends there. None: not measured.

    wrong, unseen: of the changed keys, the share that is wrong, and the largest that could have gone unseen.
    lag, reader: in seconds. keys: judged so far. compared: share of the comparison's segments, 0..1.
    *_units, stream_reads: what was asked of AWS so far.
    """

    at_ms: int
    wrong: float | None = None
    unseen: float | None = None
    source_units: float = 0.0
    target_units: float = 0.0
    stream_reads: int = 0
    lag_p50: float | None = None
    lag_p99: float | None = None
    reader: float | None = None
    open: int = 0
    backlog: int = 0
    keys: int = 0
    gaps: int = 0
    records: int = 0
    compared: float | None = None


def sample_of(figures: Figures) -> Sample:
    """What is kept of these figures."""
    success, lag, comparison = figures.success, figures.lag, figures.comparison
    return Sample(
        at_ms=figures.now_ms,
        wrong=None if success.ratio is None else 1 - success.ratio,
        unseen=None if success.low is None else 1 - success.low,
        lag_p50=lag.p50,
        lag_p99=lag.p99,
        reader=figures.reader_lag_seconds,
        open=figures.open_total,
        backlog=figures.queue.backlog,
        keys=success.keys,
        gaps=figures.reader.gaps_open,
        records=figures.ledger.records_read,
        compared=comparison.done / comparison.planned if comparison and comparison.planned else None,
        source_units=_units(figures, SOURCE),
        target_units=_units(figures, TARGET),
        stream_reads=figures.spending.total.get((STREAM, GET_RECORDS), Asked()).requests,
    )


def _units(figures: Figures, side: str) -> float:
    return sum((asked.units for (of, _), asked in figures.spending.total.items() if of == side), 0.0)


class HourOfCost(msgspec.Struct, frozen=True):
    """What was spent in the hour that begins then; hours in which nobody looked count with the next one."""

    at_ms: int
    dollars: float


def cost_by_hour(samples: Iterable[Sample], prices: Prices) -> list[HourOfCost]:
    """Of the hours of the run, oldest first. samples: oldest first."""
    last = {one.at_ms // HOUR_MS: one for one in samples}  # of each hour
    hours, before = [], 0.0
    for hour, one in last.items():
        so_far = (
            prices.of_units(SOURCE, one.source_units)
            + prices.of_units(TARGET, one.target_units)
            + prices.of(STREAM, Asked(one.stream_reads))
        )
        hours.append(HourOfCost(hour * HOUR_MS, so_far - before if so_far >= before else so_far))
        before = so_far
    return hours


def timeline(kept: Mapping[str, Sample]) -> list[Sample]:
    """The samples of all tiers in one row, oldest first: of each time the finest.

    kept: "<tier>:<bucket>" → sample.
    """
    row = [one for _, one in _tier(kept.items(), 0)]
    newest_ms = max((one.at_ms for one in row), default=0)
    for tier in range(1, len(TIERS_MS)):
        # Only of what the finer tier has forgotten: of younger times it has the same samples, finer.
        until_ms = newest_ms - TIERS_MS[tier - 1][1]
        older = [one for begun_ms, one in _tier(kept.items(), tier) if begun_ms < until_ms]
        earliest_ms = row[0].at_ms if row else None
        row = [*(_not_after(one, earliest_ms) for one in older), *row]
    return row


def _tier(kept: Iterable[tuple[str, Sample]], tier: int) -> list[tuple[int, Sample]]:
    """When the bucket begins, and the sample in it, of one tier, oldest first."""
    width_ms = TIERS_MS[tier][0]
    parted = ((name.partition(":"), one) for name, one in kept)
    found = [(int(bucket) * width_ms, one) for (of, _, bucket), one in parted if int(of) == tier]
    return sorted(found, key=lambda one: one[0])


def _not_after(sample: Sample, earliest_ms: int | None) -> Sample:
    """A coarse sample that reaches into finer ones ends where they begin."""
    if earliest_ms is None or sample.at_ms < earliest_ms:
        return sample
    return msgspec.structs.replace(sample, at_ms=earliest_ms - 1)


def thinned(row: Sequence[Sample], most: int) -> list[Sample]:
    """No more than so many samples of the row, each the worst of an equal part of its time."""
    if len(row) <= most:
        return list(row)
    began_ms = row[0].at_ms
    width_ms = (row[-1].at_ms - began_ms) // most + 1
    parts = groupby(row, key=lambda one: (one.at_ms - began_ms) // width_ms)
    return [_worst(list(part)) for _, part in parts]


def _worst(samples: Sequence[Sample]) -> Sample:
    """Number by number the greatest; None where none was measured."""
    found: dict[str, Any] = {
        name: max((value for one in samples if (value := getattr(one, name)) is not None), default=None)
        for name in Sample.__struct_fields__
    }
    return Sample(**found)
