"""The metrics of what is spent on AWS, and of the sample that it is spent on. Exported by the monitor.

Reads: figures. Writes: nothing. Never: the store. A rate that is not known yet has no sample.
"""

from collections.abc import Callable, Iterable

from pipeline.core.cost import BILLED, CostLine
from pipeline.core.figures import Figures
from pipeline.metrics.declared import Sample, StoreMetric, store_metric

_LABELS = {
    "side": tuple(dict.fromkeys(side for side, _ in BILLED)),
    "operation": tuple(dict.fromkeys(operation for _, operation in BILLED)),
}


def _per_line(kind: str, name: str, text: str, number: Callable[[CostLine], float | None]) -> StoreMetric:
    """A sample for each side and operation that is billed."""

    def samples(figures: Figures) -> Iterable[Sample]:
        numbers = [((one.side, one.operation), number(one)) for one in figures.cost.lines]
        return [(labels, value) for labels, value in numbers if value is not None]

    return store_metric(kind, f"cost_{name}", text, samples, _LABELS)


def _budget(figures: Figures) -> Iterable[Sample]:
    return (((), figures.terms.budget),) if figures.terms.budget else ()


def _effective(figures: Figures) -> Iterable[Sample]:
    return (((), figures.sample.percent / 100),)


def _lowered(figures: Figures) -> Iterable[Sample]:
    return (((), float(figures.sample.percent < figures.sample.begun_percent)),)


COST_METRICS = (
    _per_line(
        "counter",
        "requests_total",
        "Requests that AWS answered and bills, counted in the state.",
        lambda one: one.requests,
    ),
    _per_line(
        "counter",
        "units_total",
        "Read units, of the stream its requests: what is billed.",
        lambda one: one.units,
    ),
    _per_line("counter", "dollars_total", "Dollars spent on reading.", lambda one: one.dollars),
    _per_line(
        "gauge", "dollars_per_hour", "Dollars an hour, as in the last minutes.", lambda one: one.an_hour
    ),
    store_metric(
        "gauge",
        "cost_budget_dollars_per_hour",
        "Dollars an hour that are allowed (--max-cost-per-hour); none without a limit.",
        _budget,
    ),
    store_metric(
        "gauge", "sample_effective_ratio", "Share of the keys that is followed now, 0 to 1.", _effective
    ),
    store_metric(
        "gauge",
        "sample_lowered",
        "1 while fewer keys are followed than --sample-rate says, to keep to --max-cost-per-hour.",
        _lowered,
    ),
)
