"""From options to a connection: how each side of the migration is reached.

Reads: the configuration. Writes: nothing. Never: requests by itself.
"""

from pipeline.aws import Connection, SideConfig
from pipeline.config import Config
from pipeline.metrics import Metrics


def connect(config: Config, side: str, metrics: Metrics | None = None) -> Connection:
    """A connection to "source", "target" or "stream"; with metrics, its requests are counted."""
    options = {"source": config.source, "target": config.target, "stream": config.stream}[side]
    return Connection(
        SideConfig(
            side, options.profile, options.region, options.endpoint_url, options.role_arn, options.external_id
        ),
        metrics.aws_observer(side) if metrics is not None else None,
    )


def report(connection: Connection, metrics: Metrics) -> None:
    """Export what is known of a connection's clock and credentials."""
    side = connection.config.side
    if connection.skew_ms is not None:
        metrics.clock_skew_seconds.labels(side).set(connection.skew_ms / 1000)
    if connection.credentials_expire_at_seconds is not None:
        metrics.credentials_expiry_timestamp_seconds.labels(side).set(
            connection.credentials_expire_at_seconds
        )
