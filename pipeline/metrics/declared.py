"""What a declared metric is, and how one is made: with our prefix, its labels and their known values.

Reads: nothing. Writes: counters in memory or in this process's slot files (see `metrics.start`). Never:
redis. No key, shard name or free text is in a label.

Label sets are closed and made at start, so that the first mismatch is a step from 0 and `rate()` sees it. Two
labels are open. `migration` is the first of every metric that speaks of a migration, and its label sets are
made when a process takes the migration up. `cause` takes ten values at a time (causes.py).
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from pipeline.core.figures import Figures

PREFIX = "ddbmm_"
MIGRATION = "migration"

#: One exported sample: label values, and the number.
Sample = tuple[tuple[str, ...], float]
Known = Iterable[Sequence[str]]
Kind = TypeVar("Kind", bound=MetricWrapperBase)


class Declared(msgspec.Struct, frozen=True):
    """One metric as Prometheus sees it. labels: each label's known values, those of `migration` left out.
    by: which process exports it.
    """

    name: str
    kind: str
    help: str
    labels: dict[str, tuple[str, ...]]
    by: str


class StoreMetric(msgspec.Struct, frozen=True):
    """A metric that the store's figures of a migration hold, and where its samples are found in them.

    The samples' label values are those after `migration`.
    """

    declared: Declared
    samples: Callable[[Figures], Iterable[Sample]]


def store_metric(
    kind: str,
    name: str,
    text: str,
    samples: Callable[[Figures], Iterable[Sample]],
    labels: dict[str, tuple[str, ...]] | None = None,
) -> StoreMetric:
    """kind: "counter" (then `name` ends in `_total`) or "gauge". labels: those after `migration`."""
    return StoreMetric(
        Declared(PREFIX + name, kind, text, {MIGRATION: (), **(labels or {})}, "monitor"), samples
    )


class BatchHistogram(Histogram):
    """A histogram that takes a batch of amounts at the price of one or two.

    prometheus_client has no such call; what it keeps in `_sum` and `_buckets` is tested to be as after
    `observe` of each (tests/test_metrics.py).
    """

    def observe_all(self, amounts: Sequence[float]) -> None:
        self._sum.inc(sum(amounts))
        ordered, counted = sorted(amounts), 0
        for bucket, bound in zip(self._buckets, self._upper_bounds, strict=True):
            if number := bisect_right(ordered, bound) - counted:
                bucket.inc(number)
                counted += number


class Family(Generic[Kind]):
    """One metric of a migration: a child for each migration and known label set."""

    def __init__(self, metric: Kind, known: Sequence[tuple[str, ...]]) -> None:
        self._metric = metric
        self._known = frozenset(known)

    def of(self, migration: str) -> Kind:
        """The one child of a metric without further labels."""
        return self.child(migration)

    def per(self, migration: str) -> dict[str, Kind]:
        """The children of a metric with one further label, by its known values."""
        return {each[0]: self.child(migration, *each) for each in self._known}

    def child(self, migration: str, *values: str) -> Kind:
        """The child of one known label set."""
        if values not in self._known:
            raise KeyError(values)
        return self._metric.labels(migration, *values)


class Named(Generic[Kind]):
    """One metric whose labels name a migration's tables: its one label set is made when they are known."""

    def __init__(self, metric: Kind) -> None:
        self._metric = metric

    def named(self, migration: str, *values: str) -> Kind:
        return self._metric.labels(migration, *values)


class Factory:
    """Makes the metrics that processes count, and remembers what it declared."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._registry = registry
        self.declared: list[Declared] = []

    def of_process(
        self, kind: type[Kind], name: str, text: str, labels: Sequence[str] = (), known: Known = ()
    ) -> Kind:
        """A metric that speaks of this process. known: the label sets to make at once."""
        known = list(known)
        metric = self._make(kind, name, text, labels, known)
        for each in known:
            metric.labels(*each)
        return metric

    def of_migration(
        self,
        kind: type[Kind],
        name: str,
        text: str,
        labels: Sequence[str] = (),
        known: Known = (),
        **options: Any,
    ) -> Family[Kind]:
        """A metric that speaks of a migration. labels, known: those after `migration`."""
        sets = [tuple(each) for each in known]
        return Family(self._make(kind, name, text, (MIGRATION, *labels), sets, **options), sets or [()])

    def of_migration_named(
        self, kind: type[Kind], name: str, text: str, labels: Sequence[str]
    ) -> Named[Kind]:
        """A metric whose labels name what is migrated."""
        return Named(self._make(kind, name, text, (MIGRATION, *labels), ()))

    def _make(
        self,
        kind: type[Kind],
        name: str,
        text: str,
        labels: Sequence[str],
        known: Sequence[Sequence[str]],
        **options: Any,
    ) -> Kind:
        if kind is Gauge:
            options.setdefault("multiprocess_mode", "mostrecent")  # see the package's docstring
        metric = kind(PREFIX + name, text, labels, registry=self._registry, **options)
        family = next(iter(metric.describe()))
        full = family.name + ("_total" if family.type == "counter" else "")
        own = [label for label in labels if label != MIGRATION]
        values = {label: tuple(dict.fromkeys(each[i] for each in known)) for i, label in enumerate(own)}
        seen = {label: values.get(label, ()) for label in labels}
        self.declared.append(Declared(full, family.type, family.documentation, seen, "each process"))
        return metric
