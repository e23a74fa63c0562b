"""The metric of the causes behind open findings. Exported by the monitor.

Reads: causes. Writes: nothing. Never: the store. A cause is named by its id, which is made of kind, operation
and names of attributes: no key and no value is in it.
"""

from collections.abc import Sequence

from pipeline.core.causes import Cause
from pipeline.core.model import MISMATCHES, ChangeType
from pipeline.metrics.declared import MIGRATION, PREFIX, Declared, Sample

#: So many causes are told apart, the biggest ones, by their rank.
CAUSES_TOLD = 10
#: A finding of a comparison, of a key that did not change.
NO_OPERATION = "none"
#: `cause` is open, and of few values at a time: a cause that is gone takes its series with it.
FINDINGS_BY_CAUSE = Declared(
    PREFIX + "findings_by_cause",
    "gauge",
    "Open findings of the ten biggest causes (`findings --cause ID`), of the 10,000 that were opened first; "
    "counted every 30 s.",
    {
        MIGRATION: (),
        "rank": tuple(map(str, range(1, CAUSES_TOLD + 1))),
        "kind": tuple(map(str, MISMATCHES)),
        "operation": (*map(str, ChangeType), NO_OPERATION),
        "cause": (),
    },
    "monitor",
)


def cause_samples(causes: Sequence[Cause]) -> list[Sample]:
    """causes: biggest first."""
    return [
        ((str(rank), str(cause.kind), str(cause.operation or NO_OPERATION), cause.id), float(cause.count))
        for rank, cause in enumerate(causes[:CAUSES_TOLD], start=1)
    ]
