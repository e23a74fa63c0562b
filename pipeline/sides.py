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
