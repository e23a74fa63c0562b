"""The comparer role: one process that reads `in_flight` segments at a time until it is told to stop.

Reads: the configuration, both tables' descriptions. Writes: nothing by itself. Never: judging.
"""

import contextlib
import functools
import socket
import threading
from collections.abc import Callable

import structlog

from pipeline.aws import Connection, ScanPage, TableInfo, TableScanner, describe_table
from pipeline.backoff import Backoff
from pipeline.comparer.comparer import Comparer, Opened
from pipeline.comparer.pace import SidePace
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.canonical import Digester
from pipeline.core.comparing.join import Join
from pipeline.core.comparing.keys import KeyReader, PartitionKeys
from pipeline.core.comparing.pairs import PairComparer
from pipeline.core.comparing.state import Comparison
from pipeline.core.model import Side
from pipeline.errors import ConfigurationError, StateLost, StoreError
from pipeline.metrics import Metrics
from pipeline.process import garbage, loops
from pipeline.producers.scan.segment import SegmentPair, SegmentReader
from pipeline.sides import connect, report
from pipeline.store import AwsClocks, CompareStore, Outage, once_served
from pipeline.store.compare_store import Beginning

log = structlog.get_logger(__name__)

#: A thread that found no partition asks again after this.
IDLE_SECONDS = 1.0
#: Of a thread that cannot reach the store.
BACKOFF = Backoff(1.0, 30.0)


class _CountingReader(SegmentReader):
    """Counts the partition keys it sees: of a sample, they are what the interval is made of."""

    def __init__(self, scanner: TableScanner, segment: int, total: int, seen: PartitionKeys) -> None:
        super().__init__(scanner, segment, total)
        self._seen = seen

    def next_page(self) -> ScanPage:
        page = super().next_page()
        self._seen.add(page.keys)
        return page


class Segments:
    """Opens segments of both tables."""

    def __init__(
        self,
        scanners: dict[Side, TableScanner],
        digester: Digester,
        *,
        max_unmatched_bytes: int,
        count_partitions: bool,
    ) -> None:
        """max_unmatched_bytes: of one segment. count_partitions: of a table with a sort key."""
        self._scanners = scanners
        self._digester = digester
        self._max_unmatched_bytes = max_unmatched_bytes
        self._count_partitions = count_partitions

    def open(self, segment: int, total: int) -> Opened:
        join = Join(PairComparer(self._digester), self._max_unmatched_bytes)
        if not self._count_partitions:
            readers = {side: SegmentReader(one, segment, total) for side, one in self._scanners.items()}
            return Opened(SegmentPair(readers, join))
        seen = PartitionKeys()
        counting: dict[Side, SegmentReader] = {
            side: _CountingReader(one, segment, total, seen) for side, one in self._scanners.items()
        }
        return Opened(SegmentPair(counting, join), seen)


def run_comparer(
    process: ProcessConfig,
    migration: MigrationConfig,
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
    if migration.comparison is None:
        raise ConfigurationError("nothing says what is to be compared")
    own_metrics = metrics.of(migration.name)
    connections = {side: connect(migration, side, own_metrics) for side in Side}
    tables = {side: describe_table(connections[side], migration.table(side)) for side in Side}
    settings = migration.comparison
    clocks, outage = _clocks(migration, connections), Outage(unserved)

    def begun() -> tuple[CompareStore, Comparison]:
        store = CompareStore.begin(process.redis_url, migration.name, migration.settings(), clocks, outage)
        return store, store.begin_comparison(settings, Beginning.JOIN)

    both = once_served(begun, stop, heartbeat)
    if both is None:
        return
    store, comparison = both
    plan = comparison.settings.plan()
    max_rcu = migration.max_rcu * process.units_share("comparer")
    comparer = Comparer(
        store,
        comparison.id,
        plan,
        _segments(process, migration, connections, tables, sampled=not plan.whole).open,
        {side: SidePace(max_rcu) for side in Side},
        owner=f"{socket.gethostname()}:{slot}",
        leads=migration.verify_on is Side.SOURCE,
        most_waiting=migration.stop_after_findings,
        stop=stop,
    )
    log.info("comparer started", slot=slot, segments=len(plan.segments), in_flight=process.in_flight)

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


def _clocks(migration: MigrationConfig, connections: dict[Side, Connection]) -> AwsClocks:
    origin = connections[migration.origin]
    return AwsClocks(
        origin.dates,
        ask=lambda: describe_table(origin, migration.table(migration.origin)),
        others=(connections[migration.verify_on].dates,),
    )


def _segments(
    process: ProcessConfig,
    migration: MigrationConfig,
    connections: dict[Side, Connection],
    tables: dict[Side, TableInfo],
    *,
    sampled: bool,
) -> Segments:
    schema = tables[Side.SOURCE].schema
    keys = KeyReader(schema)
    return Segments(
        {side: TableScanner(connections[side], tables[side].name, keys) for side in Side},
        Digester(frozenset(migration.ignore_attributes)),
        max_unmatched_bytes=max(1, process.max_unmatched_mb * 1024 * 1024 // process.in_flight),
        count_partitions=sampled and schema.sort_key is not None,
    )


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
            log.debug("no segment taken", error=str(error), retry_seconds=delay)
            stop.wait(delay)
            continue
        failures = 0
        if not taken:
            stop.wait(IDLE_SECONDS)
