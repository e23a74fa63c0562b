"""The reader role: wires store, stream producer and publisher of each migration, until told to stop.

Reads: the configuration. Writes: nothing by itself.
"""

import contextlib
import functools
from collections.abc import Callable

import structlog

from pipeline.aws import Connection, StreamClient, TableInfo, describe_table
from pipeline.both_tables import complete, is_complete
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.canonical import Digester
from pipeline.core.model import Side
from pipeline.core.sampling import Sampler
from pipeline.errors import ConfigurationError, StoreError
from pipeline.metrics import Metrics, ReaderMetrics
from pipeline.process import garbage
from pipeline.process.pool import Pool
from pipeline.process.pulse import Heartbeat
from pipeline.producers.base import Stop
from pipeline.producers.stream.discovery import Discoverer
from pipeline.producers.stream.listing import Paces
from pipeline.producers.stream.producer import StreamProducer
from pipeline.producers.stream.records import Selector
from pipeline.reader.budget import Budget
from pipeline.reader.idling import IdlePolls
from pipeline.reader.publisher import Publisher
from pipeline.serving import Lane, Service, Work
from pipeline.sides import Connections, count_spent, report
from pipeline.store import AwsClocks, Outage, Pools, ReaderStore

log = structlog.get_logger(__name__)


def run_reader(
    process: ProcessConfig,
    migrations: tuple[MigrationConfig, ...],
    stop: Stop,
    metrics: Metrics,
    heartbeat: Heartbeat,
    *,
    unserved: Callable[[float], None] = lambda _since: None,
) -> None:
    """Read the origins' streams until `stop`. Raises MonitorError when the configuration of one migration
    alone cannot work; see `pipeline/serving.py`.

    unserved: as `Outage` calls it.
    """
    reading = Pool(process.reader_threads)
    reader = _Reader(process, stop, metrics, heartbeat, reading)
    reader.outage = Outage(unserved, of_several=len(migrations) > 1)
    begins = [(one.name, functools.partial(reader.begin, one)) for one in migrations]
    Service("reader", begins, metrics, [reading]).run(stop, heartbeat)
    log.info("reader stopped")


class _Reader:
    """What the migrations of one process share."""

    def __init__(
        self, process: ProcessConfig, stop: Stop, metrics: Metrics, heartbeat: Heartbeat, reading: Pool
    ) -> None:
        self._process, self._stop, self._metrics = process, stop, metrics
        self._heartbeat, self._reading = heartbeat, reading
        self._connections, self._pools = Connections(), Pools()
        self._idle, self._paces = IdlePolls(), Paces()
        self.outage = Outage()

    def begin(self, migration: MigrationConfig, lane: Lane) -> Work:
        """Take one migration up. Raises MonitorError."""
        own_metrics = self._metrics.of_reader(migration.name, migration.origin)
        connect = functools.partial(self._connections.connect, migration, metrics=own_metrics)
        times = None if lane.alone else migration.judged_by()
        if not (lane.alone or is_complete(migration)):
            migration = complete(migration, connect(Side.SOURCE), connect(Side.TARGET))
        own_metrics.describe(migration.described())
        table = describe_table(connect(migration.origin), migration.table(migration.origin))
        connection = connect("stream")
        client, arn = StreamClient(connection), _stream_arn(migration, table)
        store = self._store(migration, times, connection, lambda: client.describe_stream(arn))
        producer = StreamProducer(
            client,
            self._discoverer(migration, client, arn, table.name, store),
            _selector(migration, table, own_metrics),
            store.clock,
            own_metrics,
        )
        settle_ms = migration.longest_deadline_ms + migration.stable_for_ms
        budget = Budget(store, migration.terms(), migration.sample_rate, settle_ms)
        publisher = Publisher(  # last: from here on it is discovered and read
            store,
            producer,
            own_metrics,
            lane,
            self._reading.turns,
            self._idle,
            max_backlog=migration.max_backlog,
            proved=self._heartbeat,
        )
        own_metrics.sample_ratio.set(migration.sample_rate / 100)
        own_metrics.queue_limit_entries.set(migration.max_backlog)
        threads = self._process.reader_threads
        log.info("reader started", stream=arn, endpoint=connection.endpoint, threads=threads)
        garbage.freeze()
        return _Reading(publisher, store, budget, connection, own_metrics)

    def _store(
        self,
        migration: MigrationConfig,
        times: dict[str, str] | None,
        connection: Connection,
        ask: Callable[[], object],
    ) -> ReaderStore:
        """times: those that it is judged by; None leaves them as they are."""
        aws = AwsClocks(connection.dates, ask=ask)
        if connection.dates.now_ms() is None:  # another migration that is reached alike may know it
            aws.ask()
        return ReaderStore.begin(
            self._process.redis_url,
            migration.name,
            migration.settings(),
            aws,
            self.outage,
            pools=self._pools,
            judged_by=times,
        )

    def _discoverer(
        self, migration: MigrationConfig, client: StreamClient, arn: str, table: str, store: ReaderStore
    ) -> Discoverer:
        return Discoverer(
            client,
            arn,
            table,
            store.clock.now_ms,
            self._stop,
            started_ms=store.meta.started_ms,
            from_latest=migration.iterator_type == "LATEST",
            begun_again=store.begun_again,
            pace=self._paces.of(migration.stream),
        )


class _Reading:
    """One migration's publisher, as a `serving.Work`, and what is known of its connection, exported."""

    def __init__(
        self,
        publisher: Publisher,
        store: ReaderStore,
        budget: Budget,
        connection: Connection,
        metrics: ReaderMetrics,
    ) -> None:
        self._publisher, self._store, self._budget = publisher, store, budget
        self._connection, self._metrics = connection, metrics

    @property
    def has_worked(self) -> bool:
        return self._publisher.has_worked

    def keep(self) -> None:
        report(self._connection, self._metrics)
        self._publisher.keep()
        count_spent(self._store, self._metrics)
        self._budget.keep()

    def end(self, error: BaseException | None) -> bool:
        with contextlib.suppress(StoreError):
            count_spent(self._store, self._metrics)
        return self._publisher.end(error)


# --- the producer of the origin's stream -------------------------------------------------------------------


def _selector(migration: MigrationConfig, table: TableInfo, metrics: ReaderMetrics) -> Selector:
    return Selector(
        table.schema,
        Sampler(migration.sample_rate),
        Digester(frozenset(migration.ignore_attributes)),
        metrics.stream_malformed_images.inc,
    )


def _stream_arn(migration: MigrationConfig, info: TableInfo) -> str:
    if migration.stream_arn:
        return migration.stream_arn
    if info.stream_arn is None or not info.stream_enabled:
        raise ConfigurationError(
            f"table {info.name} has no enabled stream",
            "enable one (NEW_AND_OLD_IMAGES), or give --stream-arn",
        )
    log.debug("no --stream-arn given: using the table's latest stream", stream=info.stream_arn)
    return info.stream_arn
