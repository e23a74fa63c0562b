"""The metrics of the strata: keys that changed, and the whole table. Exported by the monitor.

Reads: figures. Writes: nothing. Never: the store. What is not known has no sample.
"""

from collections.abc import Callable, Iterable

from pipeline.core.figures import Figures
from pipeline.core.strata import Stratum, StratumName, strata
from pipeline.metrics.declared import Sample, StoreMetric, store_metric


def _per(name: str, text: str, number: Callable[[Stratum], float | None]) -> StoreMetric:
    def samples(figures: Figures) -> Iterable[Sample]:
        values = [(one.name, number(one)) for one in strata(figures)]
        return [((str(name),), value) for name, value in values if value is not None]

    return store_metric(
        "gauge", f"stratum_{name}", text, samples, {"stratum": tuple(str(one) for one in StratumName)}
    )


STRATA_METRICS = (
    _per("keys", "Keys compared, of those that changed and of the whole table.", lambda one: one.keys),
    _per(
        "unseen_ratio",
        "Largest share of wrong keys that could have gone unseen, at 95 % confidence.",
        lambda one: None if one.open_question else one.unseen,
    ),
)
