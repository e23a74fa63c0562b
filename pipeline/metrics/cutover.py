"""The metrics of the cutover: gate checks, what the gate demands, milestones. Exported by the monitor.

Reads: figures. Writes: nothing. Never: the store. What is judged is judged in core/gate.py.
"""

from collections.abc import Callable, Iterable

from pipeline.core.figures import Figures
from pipeline.core.gate import CHECKS, Limits, Result, Scope, evaluate, keys_needed
from pipeline.core.model import MARKS
from pipeline.metrics.declared import Sample, StoreMetric, store_metric


def _excused_share(figures: Figures) -> float:
    success = figures.success
    return success.excused / max(success.excused + success.keys, 1)


def _compared_share(figures: Figures) -> float | None:
    comparison = figures.comparison
    return comparison.done / comparison.planned if comparison and comparison.planned else None


#: What each check looks at, as a number; None = not measured.
VALUES: dict[str, Callable[[Figures], float | None]] = {
    "compared": lambda f: f.success.keys,
    "mismatches": lambda f: f.open_total,
    "success": lambda f: f.success.low,
    "whole-table": _compared_share,
    "definitions": lambda f: None if f.comparison is None else len(f.comparison.settings.definitions),
    "excused": _excused_share,
    "lag": lambda f: f.lag.p99,
    "waiting": lambda f: max(f.now_ms - (f.oldest_waiting_ms or f.now_ms), 0) / 1000,
    "reader": lambda f: f.reader_lag_seconds,
    "validators": lambda f: f.validators,
    "looks": lambda f: f.overdue_seconds,
    "gaps": lambda f: f.reader.gaps_open,
    "dead": lambda f: f.queue.dead,
    "backlog": lambda f: f.queue.backlog,
    "accounting": lambda f: float(not f.ledger.balanced),
}


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
        store_metric(
            "gauge",
            "cutover_check_value",
            "What a check of the gate looks at: keys, findings, seconds or a share.",
            _values,
            {"check": tuple(CHECKS)},
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
        _demanded("cutover_backlog_limit_entries", "Keys that the gate allows to be due.", limits.backlog),
        _demanded(
            "cutover_look_delay_limit_seconds",
            "How long the gate allows a key that is due to wait for a look.",
            limits.look_delay_ms / 1000,
        ),
        _demanded(
            "cutover_whole_table_demanded",
            "1 when the gate demands a comparison of the whole table (--gate-scope).",
            float(limits.scope is Scope.WHOLE_TABLE),
        ),
        *_keys_needed(limits),
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


def _values(figures: Figures) -> Iterable[Sample]:
    measured = ((name, value(figures)) for name, value in VALUES.items())
    return [((name,), float(value)) for name, value in measured if value is not None]


def _keys_needed(limits: Limits) -> tuple[StoreMetric, ...]:
    """No sample when the objective is 100 %: no sample of keys can show that."""

    def samples(figures: Figures) -> Iterable[Sample]:
        if limits.objective >= 1:
            return ()
        return (((), float(keys_needed(limits.objective, figures.success.confidence))),)

    text = "Keys that must have been compared, when all are right, for the objective of the gate."
    return (store_metric("gauge", "cutover_keys_needed", text, samples),)


def _demanded(name: str, text: str, value: float) -> StoreMetric:
    return store_metric("gauge", name, text, lambda _figures: [((), value)])
