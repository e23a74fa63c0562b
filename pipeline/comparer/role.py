"""The comparer role: one process that reads `in_flight` partitions at a time until it is told to stop.

Reads: the configuration, both tables' descriptions, exports' manifests. Writes: nothing by itself. Never:
judging.
"""

import contextlib
import functools
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from pipeline.aws import Connection, TableInfo, TableScanner, describe_table
from pipeline.backoff import Backoff
from pipeline.comparer.comparer import Comparer
from pipeline.comparer.pace import SidePace
from pipeline.comparer.work import Parts, Sizes, Spilling, TableWork, spill_part
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.canonical import Digester
from pipeline.core.comparing.keys import KeyReader
from pipeline.core.comparing.partitions import Mode
from pipeline.core.comparing.state import CompareSettings, Comparison
from pipeline.core.model import Side
from pipeline.core.sampling import Sampler
from pipeline.errors import ConfigurationError, SpillIncomplete, StateLost, StoreError
from pipeline.metrics import Metrics
from pipeline.process import garbage, loops
from pipeline.producers.export.opened import SideExport, open_for
from pipeline.sides import clocks, connect, report
from pipeline.store import CompareStore, Outage, once_served
from pipeline.store.compare_store import Beginning

log = structlog.get_logger(__name__)

#: A thread that found no partition asks again after this.
IDLE_SECONDS = 1.0
#: Of a thread that cannot reach the store.
BACKOFF = Backoff(1.0, 30.0)


def run_comparer(
    process: ProcessConfig,
    migrations: tuple[MigrationConfig, ...],
    stop: threading.Event,
    metrics: Metrics,
    heartbeat: Callable[[], None],
    slot: str,
    *,
    unserved: Callable[[float], None] = lambda _since: None,
) -> None:
    """Compare until `stop`. Raises MonitorError when the configuration cannot work.

    unserved: as `Outage` calls it.
    """
    (migration,) = migrations
    if migration.comparison is None:
        raise ConfigurationError("nothing says what is to be compared")
    own_metrics = metrics.of(migration.name)
    own_metrics.describe(migration.described())
    connections = {side: connect(migration, side, own_metrics) for side in Side}
    tables = {side: describe_table(connections[side], migration.table(side)) for side in Side}
    settings = migration.comparison
    aws, outage = clocks(migration, connections), Outage(unserved)

    def begun() -> tuple[CompareStore, Comparison]:
        store = CompareStore.begin(process.redis_url, migration.name, migration.settings(), aws, outage)
        return store, store.begin_comparison(settings, Beginning.JOIN)

    both = once_served(begun, stop, heartbeat)
    if both is None:
        return
    store, comparison = both
    comparer = Comparer(
        store,
        comparison.id,
        comparison.settings.partitions(),
        _work(process, migration, connections, tables, store, comparison),
        owner=f"{socket.gethostname()}:{slot}",
        leads=migration.verify_on is Side.SOURCE,
        most_waiting=migration.stop_after_findings,
        stop=stop,
    )
    log.info(
        "comparer started",
        slot=slot,
        mode=comparison.settings.mode,
        partitions=comparison.planned,
        in_flight=process.in_flight,
    )

    def alive() -> None:
        heartbeat()
        with contextlib.suppress(StoreError):  # whoever reads will say so
            store.clock.keep()
            comparer.keep()
        for connection in connections.values():
            report(connection, own_metrics)

    garbage.freeze()
    loops.serve([functools.partial(_loop, comparer, stop)] * process.in_flight, stop, alive)
    store.close()


def _work(
    process: ProcessConfig,
    migration: MigrationConfig,
    connections: dict[Side, Connection],
    tables: dict[Side, TableInfo],
    store: CompareStore,
    comparison: Comparison,
) -> TableWork:
    settings = comparison.settings
    exports = {side: _export(migration, side, connections, tables, settings) for side in settings.exports}
    _refuse_others(migration, settings)
    schema = tables[Side.SOURCE].schema
    keys = KeyReader(schema)
    sampled_segments = settings.mode is Mode.SCAN and not settings.plan().whole
    return TableWork(
        keys,
        Digester(frozenset(migration.ignore_attributes)),
        {side: TableScanner(connections[side], tables[side].name, keys) for side in Side},
        Sizes(process.max_unmatched_mb * 1024 * 1024, process.in_flight),
        {side: SidePace(migration.max_rcu * process.units_share("comparer")) for side in Side},
        count_partitions=sampled_segments and schema.sort_key is not None,
        exports=exports,
        spilling=_spilling(process, store, comparison) if settings.mode is Mode.EXPORT else None,
        sampler=Sampler(settings.sample_percent) if exports and settings.sample_percent < 100 else None,
    )


def _export(
    migration: MigrationConfig,
    side: Side,
    connections: dict[Side, Connection],
    tables: dict[Side, TableInfo],
    settings: CompareSettings,
) -> SideExport:
    """The side's export as this host reaches it: by its own option, else as it was named at the beginning."""
    seen = settings.exports[side]
    opened = open_for(migration.export(side) or seen.location, connections[side], tables[side])
    if opened.seen.identity != seen.identity:
        raise ConfigurationError(
            f"--{side}-export {opened.seen.location} is another export than the comparison was begun with, "
            f"{seen.arn or seen.location}",
            "name that one, or begin anew with --restart",
        )
    return opened


def _refuse_others(migration: MigrationConfig, settings: CompareSettings) -> None:
    for side in Side:
        if migration.export(side) is not None and settings.export(side) is None:
            raise ConfigurationError(
                f"the comparison that is there scans the {side}",
                f"leave --{side}-export out, or begin anew with `compare --restart`",
            )


def _spilling(process: ProcessConfig, store: CompareStore, comparison: Comparison) -> Spilling:
    """Who joins when some is sorted already must find it here."""
    directory = Path(process.spill(comparison.id))
    if 0 < comparison.done < comparison.planned and not directory.is_dir():
        raise SpillIncomplete(
            f"{directory}: is missing, and other processes have sorted items into it",
            "give every host the same --spill-dir, on a file system that they share; where somebody has "
            "emptied it, begin anew with --restart",
        )
    partitions = comparison.settings.partitions()

    def parts() -> Parts:
        found: dict[Side, list[str]] = {side: [] for side in Side}
        for ordinal, epoch in sorted(store.sorted_parts().items()):
            side = partitions.at(ordinal).side
            if side is not None:
                found[side].append(spill_part(ordinal, epoch))
        return found

    return Spilling(directory, comparison.settings.buckets, parts)


def _loop(comparer: Comparer, stop: threading.Event) -> None:
    failures = 0
    while not stop.is_set():
        try:
            taken = comparer.step()
        except StateLost:
            raise
        except StoreError as error:
            failures += 1
            delay = BACKOFF.after(failures)
            log.debug("no partition taken", error=str(error), retry_seconds=delay)
            stop.wait(delay)
            continue
        failures = 0
        if not taken:
            stop.wait(IDLE_SECONDS)
