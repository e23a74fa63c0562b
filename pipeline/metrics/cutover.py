"""The metrics of the cutover: gate checks, what the gate demands, milestones. Exported by the monitor.

Reads: figures. Writes: nothing. Never: the store. What is judged is judged in core/gate.py.
"""

from collections.abc import Iterable

from pipeline.core.figures import Figures
from pipeline.core.gate import CHECKS, Limits, Result, evaluate
from pipeline.core.model import MARKS
from pipeline.metrics.declared import Sample, StoreMetric, store_metric


def cutover_metrics(limits: Limits) -> tuple[StoreMetric, ...]:
    """Two series a check, so that "failed" and "cannot be told yet" (both 0) differ. limits: of the gate."""
    return (
        _checks("passed", "1 while a check of the gate passes.", Result.PASSED, limits),
        _checks(
            "failed",
            "1 while a check of the gate fails; 0 also while it is inconclusive.",
            Result.FAILED,
            limits,
        ),
        _demanded("cutover_objective_ratio", "Share of right keys that the gate demands.", limits.objective),
        _demanded(
            "cutover_lag_limit_seconds", "Replication lag (p99) that the gate allows.", limits.lag_ms / 1000
        ),
        _demanded(
            "cutover_reader_lag_limit_seconds",
            "Age of the oldest unread change that the gate allows.",
            limits.reader_lag_ms / 1000,
        ),
        _demanded(
            "cutover_excused_limit_ratio", "Share of the keys that may be excused by TTL.", limits.excused
        ),
        store_metric(
            "gauge",
            "cutover_mark_timestamp_seconds",
            "When a milestone of the cutover was marked; no sample before.",
            lambda figures: [((mark,), at_ms / 1000) for mark, at_ms in figures.marks.items()],
            {"mark": MARKS},
        ),
    )


def _checks(name: str, text: str, result: Result, limits: Limits) -> StoreMetric:
    def samples(figures: Figures) -> Iterable[Sample]:
        return [((check.name,), float(check.result is result)) for check in evaluate(figures, limits).checks]

    return store_metric("gauge", f"cutover_check_{name}", text, samples, {"check": tuple(CHECKS)})


def _demanded(name: str, text: str, value: float) -> StoreMetric:
    return store_metric("gauge", name, text, lambda _figures: [((), value)])
