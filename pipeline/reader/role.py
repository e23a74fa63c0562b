"""The reader role: wires store, stream producer and publisher together and runs them until told to stop.

Reads: the configuration. Writes: nothing by itself, but for a state that was lost (`begin_again`).
"""

from collections.abc import Callable

import structlog

from pipeline.aws import StreamClient, TableInfo, describe_table
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.canonical import Digester
from pipeline.core.sampling import Sampler
from pipeline.errors import ConfigurationError, StateLost, StoreUnavailable
from pipeline.metrics import Metrics, ReaderMetrics
from pipeline.process import garbage
from pipeline.process.pulse import Heartbeat
from pipeline.producers.base import Stop
from pipeline.producers.stream.discovery import Discoverer
from pipeline.producers.stream.producer import StreamProducer
from pipeline.producers.stream.records import Selector
from pipeline.reader.publisher import Publisher
from pipeline.sides import connect, report
from pipeline.store import AwsClocks, Outage, ReaderStore, once_served

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0


def run_reader(
    process: ProcessConfig,
    migrations: tuple[MigrationConfig, ...],
    stop: Stop,
    metrics: Metrics,
    heartbeat: Heartbeat,
    *,
    unserved: Callable[[float], None] = lambda _since: None,
) -> None:
    """Read the origin's stream until `stop`. Raises MonitorError when the configuration cannot work.

    unserved: as `Outage` calls it.
    """
    (migration,) = migrations
    own_metrics = metrics.of_reader(migration.name, migration.origin)
    own_metrics.describe(migration.described())
    table = describe_table(
        connect(migration, migration.origin, own_metrics), migration.table(migration.origin)
    )
    connection = connect(migration, "stream", own_metrics)
    client, arn = StreamClient(connection), _stream_arn(migration, table)
    aws = AwsClocks(connection.dates, ask=lambda: client.describe_stream(arn))
    aws.ask()
    outage = Outage(unserved)
    store = once_served(
        lambda: ReaderStore.begin(process.redis_url, migration.name, migration.settings(), aws, outage),
        stop,
        lambda: heartbeat(worked=False),
    )
    if store is None:
        return
    producer = StreamProducer(
        client,
        _discoverer(migration, client, arn, table.name, store, stop),
        _selector(migration, table, own_metrics),
        store.clock,
        own_metrics,
    )
    publisher = Publisher(
        store, producer, own_metrics, threads=process.reader_threads, max_backlog=migration.max_backlog
    )
    own_metrics.sample_ratio.set(migration.sample_rate / 100)
    own_metrics.queue_limit_entries.set(migration.max_backlog)
    log.info("reader started", stream=arn, endpoint=connection.endpoint, threads=process.reader_threads)

    def tick(*, worked: bool = True) -> None:
        heartbeat(worked=worked)
        report(connection, own_metrics)

    garbage.freeze()
    _publish(publisher, store, stop, tick)
    store.close()
    log.info("reader stopped")


def _publish(publisher: Publisher, store: ReaderStore, stop: Stop, heartbeat: Heartbeat) -> None:
    try:
        publisher.run(stop, heartbeat)
    except StateLost as error:
        log.error("reading everything since the migration was begun once more", error=str(error))
        _begin_again(store, stop, heartbeat)
        raise


def _begin_again(store: ReaderStore, stop: Stop, heartbeat: Heartbeat) -> None:
    """Only this process knows when the watch began: it does not end before that is stored again."""
    while not stop.is_set():
        try:
            store.begin_again()
            return
        except StoreUnavailable as error:
            log.debug("not begun again yet", error=str(error))
        heartbeat()
        stop.wait(TICK_SECONDS)


# --- the producer of the origin's stream -------------------------------------------------------------------


def _discoverer(
    migration: MigrationConfig, client: StreamClient, arn: str, table: str, store: ReaderStore, stop: Stop
) -> Discoverer:
    return Discoverer(
        client,
        arn,
        table,
        store.clock.now_ms,
        stop,
        started_ms=store.meta.started_ms,
        from_latest=migration.iterator_type == "LATEST",
        begun_again=store.begun_again,
    )


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
