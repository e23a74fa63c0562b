"""What a declared metric is. Reads, writes, does: nothing."""

from collections.abc import Callable, Iterable

import msgspec

from pipeline.core.figures import Figures

PREFIX = "ddbmm_"

#: One exported sample: label values, and the number.
Sample = tuple[tuple[str, ...], float]


class Declared(msgspec.Struct, frozen=True):
    """One metric as Prometheus sees it. labels: each label's known values. by: which process exports it."""

    name: str
    kind: str
    help: str
    labels: dict[str, tuple[str, ...]]
    by: str


class StoreMetric(msgspec.Struct, frozen=True):
    """A metric that the store's figures hold, and where its samples are found in them."""

    declared: Declared
    samples: Callable[[Figures], Iterable[Sample]]
