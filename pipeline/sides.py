"""From options to a connection: how each side of the migration is reached.

Reads: the configuration. Writes: nothing. Never: boto3. Requests are made by those who get the connection.
"""

import threading
from collections.abc import Mapping

from pipeline.aws import Connection, describe_table
from pipeline.config import MigrationConfig
from pipeline.core.model import Side, SideConfig
from pipeline.errors import StoreError
from pipeline.metrics import MigrationMetrics
from pipeline.store import AwsClocks, RoleStore


def connect(migration: MigrationConfig, side: str, metrics: MigrationMetrics | None = None) -> Connection:
    """A connection to "source", "target" or "stream"; with metrics, its requests are counted."""
    return Connection(migration.access(side), metrics.aws_observer(side) if metrics is not None else None)


class Connections:
    """Those of one process: migrations that reach a side alike share its session and clients. Thread-safe."""

    def __init__(self) -> None:
        self._first: dict[SideConfig, Connection] = {}
        self._lock = threading.Lock()

    def connect(
        self, migration: MigrationConfig, side: str, metrics: MigrationMetrics | None = None
    ) -> Connection:
        """As `connect`; the requests are counted for this migration."""
        access = migration.access(side)
        observer = metrics.aws_observer(side) if metrics is not None else None
        with self._lock:  # of those who begin together, one makes the session
            if (first := self._first.get(access)) is None:
                first = self._first[access] = Connection(access)
        return Connection(access, observer, beside=first)


def clocks(migration: MigrationConfig, connections: Mapping[Side, Connection]) -> AwsClocks:
    """AWS's time as both sides tell it; who knows too little of it asks the origin for its table."""
    origin = connections[migration.origin]
    return AwsClocks(
        origin.dates,
        ask=lambda: describe_table(origin, migration.table(migration.origin)),
        others=(connections[migration.verify_on].dates,),
    )


def count_spent(store: RoleStore, metrics: MigrationMetrics) -> None:
    """Have the store count what this process asked of AWS. Raises StoreError; then it is counted later."""
    counts = metrics.spent.take()
    try:
        store.spend(counts, store.now_ms())
    except StoreError:
        metrics.spent.give_back(counts)
        raise


def report(connection: Connection, metrics: MigrationMetrics) -> None:
    """Export what is known of a connection's clock and credentials."""
    side = connection.config.side
    if connection.skew_ms is not None:
        metrics.clock_skew_seconds[side].set(connection.skew_ms / 1000)
    if connection.credentials_expire_at_seconds is not None:
        metrics.credentials_expiry_timestamp_seconds[side].set(connection.credentials_expire_at_seconds)
