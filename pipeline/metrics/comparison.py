"""The metrics of the latest comparison, read at each scrape by the monitor alone.

Reads: figures. Writes: nothing. Never: the store. Without a comparison there is no sample.
"""

from collections.abc import Callable, Iterable

from pipeline.core.comparing.state import Comparison
from pipeline.core.figures import Figures
from pipeline.core.model import Side
from pipeline.metrics.declared import Sample, StoreMetric, store_metric


def _one(name: str, text: str, number: Callable[[Comparison, Figures], float | None]) -> StoreMetric:
    """Gauges all: a comparison that is begun anew counts from nothing."""

    def samples(figures: Figures) -> Iterable[Sample]:
        value = number(figures.comparison, figures) if figures.comparison else None
        return () if value is None else (((), value),)

    return store_metric("gauge", f"comparison_{name}", text, samples)


def _per_side(name: str, text: str, number: Callable[[Comparison, Side], float]) -> StoreMetric:
    def samples(figures: Figures) -> Iterable[Sample]:
        comparison = figures.comparison
        return [((str(side),), number(comparison, side)) for side in Side] if comparison else ()

    return store_metric("gauge", f"comparison_{name}", text, samples, {"table": tuple(map(str, Side))})


def _coverage(figures: Figures) -> Iterable[Sample]:
    """Of the latest comparison of the table: one of a window's changes covers nothing else."""
    return () if figures.of_table is None else (((), figures.of_table.coverage),)


#: See `core/comparing/partitions`.
_PHASES = ("scan", "sort", "bucket", "changes")


def _partitions(figures: Figures) -> Iterable[Sample]:
    """Of the phases that this comparison has."""
    comparison = figures.comparison
    if comparison is None:
        return ()
    phases = comparison.settings.partitions().phases(comparison.done)
    return [
        ((phase, state), count)
        for phase, (done, planned) in phases.items()
        for state, count in (("read", done), ("left", planned - done))
    ]


#: What becomes of suspects → the ledger's count of it.
_SUSPECTS = {
    "published": "suspects_published",
    "waiting": "suspects_waiting",
    "taken_over": "suspects_taken_over",
    "indeterminate": "suspects_indeterminate",
    "open": "suspects_open",
}


def _suspects(figures: Figures) -> Iterable[Sample]:
    return [((state,), getattr(figures.ledger, field)) for state, field in _SUSPECTS.items()]


# fmt: off
COMPARISON_METRICS = (
    _per_side("items", "Items that the comparison has read.", lambda c, side: c.tally.items(side)),
    _per_side("read_units", "Read units that the comparison's Scans took.",
              lambda c, side: c.tally.units(side)),
    _one("equal_keys", "Keys found equal.", lambda c, _f: c.tally.equal),
    _one("suspect_keys", "Keys handed over to be judged.", lambda c, _f: c.tally.suspects),
    _one("covered_keys", "Keys that differed, and that their stream is judging.",
         lambda c, _f: c.tally.covered),
    store_metric("gauge", "comparison_partitions",
                 "Segments, files and buckets of the comparison, by phase, read or left.", _partitions,
                 {"phase": _PHASES, "state": ("read", "left")}),
    _one("progress_ratio", "Share of the comparison's partitions that is read, 0 to 1.",
         lambda c, _f: c.done / c.planned if c.planned else None),
    store_metric("gauge", "comparison_coverage_ratio",
                 "Share of both tables that the latest comparison of the table has read, 0 to 1.", _coverage),
    _one("started_timestamp_seconds", "When the comparison began.", lambda c, _f: c.started_ms / 1000),
    _one("finished_timestamp_seconds", "When the latest comparison was finished; no sample before.",
         lambda c, _f: None if c.finished_ms is None else c.finished_ms / 1000),
    store_metric("gauge", "suspect_keys", "Suspects of comparisons, by what became of them.", _suspects,
                 {"state": tuple(_SUSPECTS)}),
)
# fmt: on
