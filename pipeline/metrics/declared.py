"""What a declared metric is. Reads, writes, does: nothing."""

import msgspec

PREFIX = "ddbmm_"


class Declared(msgspec.Struct, frozen=True):
    """One metric as Prometheus sees it. labels: each label's known values. by: which process exports it."""

    name: str
    kind: str
    help: str
    labels: dict[str, tuple[str, ...]]
    by: str
