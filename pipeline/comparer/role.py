"""The comparer role: one process that reads `in_flight` partitions at a time until it is told to stop.

Reads: the configuration, both tables' descriptions, exports' manifests. Writes: nothing by itself. Never:
judging.
"""

import contextlib
import functools
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from pipeline.aws import Connection, TableInfo, TableScanner, describe_table
from pipeline.backoff import Backoff
from pipeline.comparer.budget import Budget
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
from pipeline.errors import ConfigurationError, MonitorError, StoreError
from pipeline.metrics import Metrics
from pipeline.process import garbage, loops
from pipeline.producers.export.opened import SideExport, open_for
from pipeline.producers.export.spill import missing
from pipeline.sides import clocks, connect, count_spent, report
from pipeline.store import CompareStore, Outage, once_served
from pipeline.store.compare_store import Beginning

log = structlog.get_logger(__name__)

#: A thread that found no partition asks again after this.
IDLE_SECONDS = 1.0
#: Between two rounds over many migrations.
ROUND_SECONDS = 10.0
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

    Of many migrations one after the other is compared, round by round: what is begun again is joined again,
    and one that fails keeps nobody from the next. unserved: as `Outage` calls it.
    """
    joining = [_Joining(process, one, metrics, slot, unserved) for one in migrations]
    garbage.freeze()
    if len(joining) == 1:
        while not stop.is_set():  # what is begun anew is joined anew
            joining[0].compare(stop, heartbeat, stop.is_set)
        return
    failures: dict[str, str] = {}
    while not stop.is_set():
        for one in joining:
            _compare_in_turn(one, stop, heartbeat, failures)
        _pause(ROUND_SECONDS, stop, heartbeat)


def _compare_in_turn(
    one: "_Joining", stop: threading.Event, heartbeat: Callable[[], None], failures: dict[str, str]
) -> None:
    """failures: why each migration failed last, so that a reason is said once."""
    try:
        one.compare(stop, heartbeat, lambda: one.is_over or stop.is_set())
    except MonitorError as error:
        if failures.get(one.migration) != error.problem:
            log.error("not compared: the next one is", migration=one.migration, error=str(error))
        failures[one.migration] = error.problem
    else:
        failures.pop(one.migration, None)


def _pause(seconds: float, stop: threading.Event, heartbeat: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not stop.wait(min(left, 1.0)):
        heartbeat()


class _Joining:
    """One migration, whose comparison is joined again and again."""

    def __init__(
        self,
        process: ProcessConfig,
        migration: MigrationConfig,
        metrics: Metrics,
        slot: str,
        unserved: Callable[[float], None],
    ) -> None:
        self._process, self._migration, self._slot = process, migration, slot
        self.migration, self.is_over = migration.name, False
        self._metrics = metrics.of(migration.name)
        self._metrics.describe(migration.described())
        self._connections = {side: connect(migration, side, self._metrics) for side in Side}
        self._tables: dict[Side, TableInfo] = {}
        self._said = ""  # of which comparison it was said that it is joined
        self._aws, self._outage = clocks(migration, self._connections), Outage(unserved)

    def compare(
        self, stop: threading.Event, heartbeat: Callable[[], None], enough: Callable[[], bool]
    ) -> None:
        """Until it is `enough`, which is asked once a second, or was begun anew. Raises MonitorError."""
        heartbeat()
        self._see_tables()
        both = once_served(self._joined, stop, heartbeat)
        if both is None:
            return
        store, comparison = both
        try:
            self._serve(store, comparison, heartbeat, enough)
        finally:
            store.close()

    def _see_tables(self) -> None:
        if not self._tables:
            self._tables = {
                side: describe_table(connection, self._migration.table(side))
                for side, connection in self._connections.items()
            }

    def _joined(self) -> tuple[CompareStore, Comparison]:
        migration, url = self._migration, self._process.redis_url
        if migration.comparison is None:
            raise ConfigurationError("nothing says what is to be compared")
        store = CompareStore.begin(url, migration.name, migration.settings(), self._aws, self._outage)
        return store, store.begin_comparison(migration.comparison, Beginning.JOIN)

    def _serve(
        self,
        store: CompareStore,
        comparison: Comparison,
        heartbeat: Callable[[], None],
        enough: Callable[[], bool],
    ) -> None:
        ended = threading.Event()
        max_rcu = self._migration.max_rcu * self._process.units_share("comparer")
        paces = {side: SidePace(max_rcu) for side in Side}
        scanned = {side: one for side, one in paces.items() if comparison.settings.export(side) is None}
        terms = self._migration.terms()
        budget = Budget(store, terms, scanned, max_rcu, self._process.workers)
        comparer = Comparer(
            store,
            comparison.id,
            comparison.settings.partitions(),
            _work(
                self._process,
                self._migration,
                self._connections,
                self._tables,
                store,
                comparison,
                paces=paces,
            ),
            owner=f"{socket.gethostname()}:{self._slot}",
            leads=self._migration.verify_on is Side.SOURCE,
            most_waiting=self._migration.stop_after_findings,
            stop=ended,
        )
        if comparison.id != self._said:
            self._said = comparison.id
            log.info(
                "comparer started",
                migration=self.migration,
                slot=self._slot,
                mode=comparison.settings.mode,
                partitions=comparison.planned,
                in_flight=self._process.in_flight,
            )

        with contextlib.suppress(StoreError):  # the threads say so
            budget.keep()

        def alive() -> None:
            heartbeat()
            with contextlib.suppress(StoreError):  # whoever reads will say so
                store.clock.keep()
                comparer.keep()
                count_spent(store, self._metrics)
                budget.keep()
            for connection in self._connections.values():
                report(connection, self._metrics)
            self.is_over = comparer.is_over
            if enough() or comparer.is_gone:
                ended.set()

        loops.serve([functools.partial(_loop, comparer, ended)] * self._process.in_flight, ended, alive)
        with contextlib.suppress(StoreError):
            count_spent(store, self._metrics)
        if comparer.is_gone:
            log.info("the comparison was begun anew, or is gone: what stands is joined", slot=self._slot)


def _work(
    process: ProcessConfig,
    migration: MigrationConfig,
    connections: dict[Side, Connection],
    tables: dict[Side, TableInfo],
    store: CompareStore,
    comparison: Comparison,
    *,
    paces: dict[Side, SidePace],
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
        paces,
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
    """Who joins when some is sorted already must find it here, unless all was read since and it is gone."""
    directory = Path(process.spill(comparison.id))
    if _is_under_way(comparison) and not directory.is_dir():
        now = store.begin_comparison(comparison.settings, Beginning.JOIN)
        if now.id == comparison.id and _is_under_way(now):
            raise missing(directory)
    partitions = comparison.settings.partitions()

    def parts() -> Parts:
        found: dict[Side, list[str]] = {side: [] for side in Side}
        for ordinal, epoch in sorted(store.sorted_parts().items()):
            side = partitions.at(ordinal).side
            if side is not None:
                found[side].append(spill_part(ordinal, epoch))
        return found

    return Spilling(directory, comparison.settings.buckets, parts)


def _is_under_way(comparison: Comparison) -> bool:
    return 0 < comparison.done < comparison.planned


def _loop(comparer: Comparer, stop: threading.Event) -> None:
    failures = 0
    while not stop.is_set():
        try:
            taken = comparer.step()
        except StoreError as error:
            failures += 1
            delay = BACKOFF.after(failures)
            log.debug("no partition taken", error=str(error), retry_seconds=delay)
            stop.wait(delay)
            continue
        failures = 0
        if not taken:
            stop.wait(IDLE_SECONDS)
