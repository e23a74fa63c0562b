"""What must be true before a role starts: tables, stream and Redis, seen once and refused with one message.

Reads: both tables' descriptions, the stream's, Redis. Writes: the migration's settings into Redis, the first
time (`open_store`). Never: the readers' and validators' writers. What items and records hold is not looked
at, and one mistake gets one message.

Every refusal is a MonitorError of exit code 2 or 4 with its remedy.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import msgspec
import structlog

from pipeline.aws import (
    Connection,
    StreamClient,
    StreamInfo,
    TableInfo,
    TableReader,
    describe_table,
)
from pipeline.backoff import Backoff
from pipeline.both_tables import Tables, check_tables, completed
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.model import Side
from pipeline.errors import (
    AwsUnavailable,
    ConfigurationError,
    CredentialsExpired,
    MalformedResponse,
    MonitorError,
    StoreError,
    StoreFull,
    StoreNotReady,
    StoreUnusable,
    Throttled,
)
from pipeline.sides import connect
from pipeline.store import RedisConnection, Role, begin, check_permissions, check_server, load
from pipeline.store.messages import Meta

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")
#: How a side of a migration is reached.
Reached = Callable[[MigrationConfig, str], Connection]

#: Tries, and the pauses between them, for what AWS may refuse only now; then the start is given up.
TRIES, PAUSES = 3, Backoff(0.5, 2.0)
#: Between two looks at a server that will serve, and between two lines about it.
NOT_READY_SECONDS, SAID_EVERY_SECONDS = 1.0, 60.0
ENABLE_STREAM = "enable a stream with view NEW_AND_OLD_IMAGES on the table"


class StreamSeen(msgspec.Struct, frozen=True):
    """The stream that would be read, its shard count, one shard of it, and the endpoint it was found at."""

    info: StreamInfo
    shards: int
    a_shard: str | None
    endpoint: str


def prepare(
    process: ProcessConfig, migration: MigrationConfig, reached: Reached = connect
) -> tuple[MigrationConfig, Tables, StreamSeen]:
    """See tables and stream, refuse what cannot work; the migration completed by what was seen.

    reached: makes the connections, or has them.
    """
    sides: dict[Side, Connection] = {side: asked(lambda side=side: reached(migration, side)) for side in Side}  # type: ignore[misc]
    tables = see_tables(migration, sides[Side.SOURCE], sides[Side.TARGET])
    check_tables(migration, tables)
    stream_side = asked(lambda: reached(migration, "stream"))
    stream = see_stream(migration, tables.of(migration.origin), stream_side)
    # A role that lacks a permission would only ever try again: better refused here.
    if process.command != "reader":
        for side, connection in sides.items():
            check_item_reads(connection, tables.of(side))
    if process.command != "validator":
        check_stream_reads(stream_side, stream)
    return completed(migration, tables), tables, stream


# --- tables ------------------------------------------------------------------------------------------------


def see_tables(migration: MigrationConfig, source: Connection, target: Connection) -> Tables:
    """Both tables, described, with the endpoints that described them. Raises ConfigurationError."""
    return Tables(
        asked(lambda: describe_table(source, migration.source_table)),
        asked(lambda: describe_table(target, migration.target_table)),
        source.endpoint,
        target.endpoint,
    )


def check_item_reads(connection: Connection, table: TableInfo) -> None:
    """Raises AccessDenied when items must not be read; asks for one that nobody has (1 read unit at most)."""
    reader = TableReader(connection, table.asked, table.schema)
    asked(lambda: allowed(lambda: reader.batch_get([reader.nobody], lambda _key, _item: None)))


# --- stream ------------------------------------------------------------------------------------------------


def see_stream(migration: MigrationConfig, origin: TableInfo, connection: Connection) -> StreamSeen:
    """Raises ConfigurationError for a stream that is missing, disabled, or of another table."""
    arn = migration.stream_arn or origin.stream_arn
    if arn is None or migration.stream_arn is None:
        arn = enabled_stream(migration, origin)
    if not arn.startswith(f"{origin.arn}/stream/"):
        raise ConfigurationError(
            f"--stream-arn {arn} is not a stream of the {migration.origin} table {origin.arn}",
            f"leave it out to use the table's latest stream, {origin.stream_arn or 'once there is one'}",
        )
    client = StreamClient(connection)
    info, shards, after = asked(lambda: client.describe_stream(arn))
    count, a_shard = len(shards), shards[-1].id if shards else None
    while after is not None:
        _, shards, after = asked(lambda start=after: client.describe_stream(arn, start))  # type: ignore[misc]
        count += len(shards)
    if not info.enabled:
        newest = f"use the newer one, {origin.stream_arn}" if origin.stream_enabled else ENABLE_STREAM
        raise ConfigurationError(f"stream {arn} is disabled", newest)
    return StreamSeen(info, count, a_shard, connection.endpoint)


def enabled_stream(migration: MigrationConfig, origin: TableInfo) -> str:
    """The ARN of the table's latest stream. Raises ConfigurationError where none is enabled."""
    if origin.stream_arn is None or not origin.stream_enabled:
        raise ConfigurationError(
            f"{migration.origin} table {origin.name} has no enabled stream", ENABLE_STREAM
        )
    return origin.stream_arn


def check_stream_reads(connection: Connection, stream: StreamSeen) -> None:
    """Raises AccessDenied when records must not be read; asks for one record, and forgets it."""
    if stream.a_shard is None:
        return
    client, shard = StreamClient(connection), stream.a_shard
    iterator = asked(lambda: client.shard_iterator(stream.info.arn, shard, "LATEST"))
    asked(lambda: allowed(lambda: client.get_records(iterator, 1)))


# --- Redis -------------------------------------------------------------------------------------------------


#: What each command does in Redis; `doctor` tries it all.
_STORE_ROLES = {
    "run": (Role.READER, Role.VALIDATOR, Role.VIEWER, Role.MONITOR),
    "reader": (Role.READER,),
    "validator": (Role.VALIDATOR,),
    "comparer": (Role.COMPARER, Role.VIEWER),
    "compare": (Role.COMPARER, Role.VALIDATOR, Role.VIEWER),
    "monitor": (Role.VIEWER, Role.MONITOR),
}


#: Their times are their own, and not the run's.
_BESIDE_A_RUN = ("compare", "comparer")


def check_store(process: ProcessConfig, migration: MigrationConfig) -> None:
    """Raises ConfigurationError for a server that cannot be reached or used, or not by this user,
    StoreNotReady for one that serves nobody for a while, and StoreFull.
    """
    connection = RedisConnection(process.redis_url, migration.name)
    try:
        check_server(connection)  # first: one that is too old lacks commands, and is to be said to be that
        connection.check_hosts_agree()
        check_permissions(connection, _STORE_ROLES.get(process.command, tuple(Role)))
    except (StoreNotReady, StoreFull):
        raise
    except StoreError as error:
        raise ConfigurationError(
            error.problem, error.remedy or "check --redis-url, and that the server runs"
        ) from error
    finally:
        connection.close()


def check_start(process: ProcessConfig, migration: MigrationConfig) -> None:
    """As `check_store`, before a role starts. A full Redis drains only by those who judge what is there: what
    was begun goes on; nothing is begun there.
    """
    try:
        check_store(process, migration)
    except StoreFull as error:
        if process.command in _BESIDE_A_RUN or not _is_begun(process, migration):
            raise ConfigurationError(error.problem, error.remedy) from error
        log.warning("Redis is full: what it holds is judged", error=error.problem, remedy=error.remedy)


def _is_begun(process: ProcessConfig, migration: MigrationConfig) -> bool:
    connection = RedisConnection(process.redis_url, migration.name)
    try:
        return load(connection) is not None
    finally:
        connection.close()


class Opened(msgspec.Struct, frozen=True):
    """The migration as it was found. new: by nobody, it begins now. changed: times that are others now."""

    new: bool
    started_ms: int
    changed: list[str]


def await_store(process: ProcessConfig, migration: MigrationConfig) -> None:
    """As `check_start`, but waits for a server that is there and will serve: it loads, or fails over."""
    said_at = float("-inf")
    while True:
        try:
            check_start(process, migration)
            return
        except StoreNotReady as error:
            if time.monotonic() - said_at >= SAID_EVERY_SECONDS:
                said_at = time.monotonic()
                log.warning("Redis does not serve us yet: waiting", error=error.problem, remedy=error.remedy)
        time.sleep(NOT_READY_SECONDS)


def open_store(process: ProcessConfig, migration: MigrationConfig) -> Opened:
    """Begin or go on with the migration. Raises SettingsChanged, StateDamaged, and ConfigurationError."""
    while True:
        await_store(process, migration)
        try:
            return open_once(process, migration)
        except StoreNotReady as error:
            log.warning("Redis does not serve us yet: waiting", error=error.problem, remedy=error.remedy)
        time.sleep(NOT_READY_SECONDS)


def open_once(process: ProcessConfig, migration: MigrationConfig) -> Opened:
    """As `open_store`; raises StoreNotReady where that waits."""
    connection = RedisConnection(process.redis_url, migration.name)
    try:
        new = load(connection) is None
        times = None if process.command in _BESIDE_A_RUN else migration.judged_by()
        meta = begin(connection, migration.settings(), times)
        return _opened(migration, meta, new=new)
    except StoreUnusable as error:
        raise ConfigurationError(error.problem, error.remedy) from error
    finally:
        connection.close()


def _opened(migration: MigrationConfig, meta: Meta, *, new: bool) -> Opened:
    judged_by = migration.judged_by()
    before = meta.judged_by or judged_by
    changed = [
        f"--{name} {before.get(name, 'unknown')} → {now}"
        for name, now in judged_by.items()
        if before.get(name) != now
    ]
    return Opened(new, meta.started_ms, changed)


# --- asking ------------------------------------------------------------------------------------------------


def asked(question: Callable[[], Answer]) -> Answer:
    """The answer, after a few tries; ConfigurationError where a running role would wait for better times."""
    for attempt in range(1, TRIES + 1):
        try:
            return question()
        except CredentialsExpired as error:
            raise ConfigurationError(error.problem, error.remedy) from error
        except (AwsUnavailable, MalformedResponse, Throttled) as error:
            last: MonitorError = error
            if attempt < TRIES:
                time.sleep(PAUSES.after(attempt))
    remedy = "try again" if isinstance(last, Throttled) else "check the endpoint, the region and the network"
    raise ConfigurationError(last.problem, last.remedy or remedy) from last


def allowed(question: Callable[[], object]) -> None:
    """Ask only to see that it is allowed; being asked to slow down says so too, and a role waits its turn."""
    try:
        question()
    except Throttled as error:
        log.warning("AWS asks to slow down: going on all the same", error=str(error))
