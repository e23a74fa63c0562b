"""Every Prometheus metric of the program, declared once, and the one HTTP port that serves them.

Reads: slot files of `start`'s directory; the store's figures through the callables given to StoreCollector.
Writes: slot files. Never: redis. No key, shard name or free text is in a label.

Two kinds of figures, exported in two ways:
- what a process did (requests, records read, log lines) is counted in that process: class Metrics, and
  MigrationMetrics for what it did for a migration (`Metrics.of`, `of_reader`, `of_validator`);
- what the store knows (ledger, queue, findings, reader position) is read at each scrape, by the monitor
  alone: class StoreCollector. A reader that died can then not leave "lag 0.2 s" standing on a gauge.

Every metric that speaks of a migration carries the label `migration`; one that speaks of a process does not.

One process group may share a directory (`run`): each process writes the files of its own slot and the
supervisor's port serves their sum. A restarted process takes over its slot, so counters go on and the
number of files stays bounded. Gauges use the mode "mostrecent": each has one meaningful writer at a time,
a slot that never set it stays silent (min and max would see its initial 0), and the value of a process that
was replaced gives way to the next one set. Only whether a migration is served is said by all processes of
a role together ("min"), and set by each as soon as there is one.
"""

import os

from prometheus_client import CollectorRegistry, disable_created_metrics, values

from pipeline.core.gate import DEFAULT_LIMITS
from pipeline.metrics.causes import FINDINGS_BY_CAUSE
from pipeline.metrics.comparison import COMPARISON_METRICS
from pipeline.metrics.cost import COST_METRICS
from pipeline.metrics.cutover import cutover_metrics
from pipeline.metrics.declared import Declared
from pipeline.metrics.exposition import (
    UNREADABLE_FILES,
    MetricsServer,
    Page,
    Served,
    SlotFilesCollector,
    check_port,
    serve,
)
from pipeline.metrics.migration import AwsObserver, MigrationMetrics, ReaderMetrics, ValidatorMetrics
from pipeline.metrics.process import Metrics
from pipeline.metrics.processes import MEMORY_LIMIT, PROCESS_METRICS, ProcessCollector
from pipeline.metrics.slot_files import SlotFiles, prepare_directory
from pipeline.metrics.store_figures import STORE_METRICS, STORE_UP, StoreCollector, Watched
from pipeline.metrics.strata import STRATA_METRICS

__all__ = [
    "AwsObserver",
    "Declared",
    "Metrics",
    "MetricsServer",
    "MigrationMetrics",
    "Page",
    "ProcessCollector",
    "ReaderMetrics",
    "Served",
    "StoreCollector",
    "ValidatorMetrics",
    "Watched",
    "check_port",
    "declarations",
    "prepare_directory",
    "serve",
    "start",
]


def start(directory: str | None, slot: str, migrations: int = 1) -> Metrics:
    """The metrics of this process; call once, before anything is counted.

    directory: where the processes of one group keep their slot files, None for a process of its own.
    slot: this process's name in the group, such as "validator-0"; a restarted process passes the same
    one. migrations: how many it serves. Where the directory is full the process counts for itself, unseen by
    the others. Raises ValueError for a slot that prometheus_client could not read back from a file name.
    """
    if not slot or "_" in slot or "/" in slot:
        raise ValueError(f"slot {slot!r}: use letters, digits and dashes (file names are split at '_')")
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    files = None if directory is None else SlotFiles(directory, slot, migrations)
    if directory is None or files is None or not files.reserve():
        values.ValueClass = values.MutexValue
        return Metrics(registry, registry)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    values.ValueClass = values.MultiProcessValue(files)  # type: ignore[no-untyped-call]
    registry.register(SlotFilesCollector(directory))
    return Metrics(None, registry, files)


def declarations(metrics: Metrics) -> list[Declared]:
    """Every metric there is, sorted by name."""
    figures = (*STORE_METRICS, *COMPARISON_METRICS, *STRATA_METRICS, *COST_METRICS)
    of_the_store = (STORE_UP, *figures, *cutover_metrics(DEFAULT_LIMITS))
    return sorted(
        [
            *metrics.declared,
            *(m.declared for m in of_the_store),
            *(declared for declared, _ in PROCESS_METRICS),
            FINDINGS_BY_CAUSE,
            MEMORY_LIMIT,
            UNREADABLE_FILES,
        ],
        key=lambda d: d.name,
    )
