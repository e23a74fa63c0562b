"""The AWS edge: one side's table and streams, as structs.

Reads: DynamoDB and DynamoDB Streams. Writes: nothing (no write permission is ever needed). Never: retries on
its own schedule, verdicts, item values in messages.

Split: `aws_connection` (session, credentials, errors), `aws_decode` (bodies, botocore hooks), `aws_pace` (read
units). Import everything from here.
"""

from typing import Any, Literal

import msgspec

from pipeline.aws_connection import Connection, Identity, Observer, SideConfig, Silent
from pipeline.aws_decode import Record
from pipeline.aws_pace import RateLimiter
from pipeline.core.canonical import KeySchema
from pipeline.core.lineage import Shard
from pipeline.core.model import StreamView

__all__ = [
    "BatchResult",
    "Connection",
    "Identity",
    "IteratorKind",
    "Observer",
    "RateLimiter",
    "Record",
    "RecordsPage",
    "SideConfig",
    "Silent",
    "StreamClient",
    "StreamInfo",
    "TableInfo",
    "TableReader",
    "describe_table",
]

IteratorKind = Literal["TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"]


class TableInfo(msgspec.Struct, frozen=True):
    """One table as DescribeTable and DescribeTimeToLive tell it. `item_count` and `size_bytes` are up to 6 h old."""

    name: str
    arn: str
    account: str
    region: str
    schema: KeySchema
    status: str
    stream_arn: str | None
    stream_enabled: bool
    view: StreamView | None
    ttl_attribute: str | None
    item_count: int
    size_bytes: int


class StreamInfo(msgspec.Struct, frozen=True):
    """One stream. A disabled stream stays readable for 24 h; its table's newer stream has another ARN."""

    arn: str
    table_name: str
    enabled: bool
    view: StreamView


class RecordsPage(msgspec.Struct, frozen=True):
    """One GetRecords answer. An empty page is not the end of a shard; `next_iterator` None is."""

    records: list[Record]
    next_iterator: str | None
    size_bytes: int


class BatchResult(msgspec.Struct, frozen=True):
    """One BatchGetItem answer: `items`, `absent` and `unprocessed` together are exactly the keys asked for."""

    items: dict[bytes, dict[str, Any]]
    absent: set[bytes]
    unprocessed: list[bytes]
    consumed_units: float


def describe_table(connection: Connection, table: str) -> TableInfo:
    """What there is to know about a table. Raises NotFound, AccessDenied and the other AwsErrors."""
    raise NotImplementedError


class TableReader:
    """Reads the items of one table by key. Thread-safe."""

    def __init__(self, connection: Connection, table: str, schema: KeySchema) -> None:
        raise NotImplementedError

    def describe(self) -> TableInfo:
        raise NotImplementedError

    def batch_get(self, keys: list[bytes], strong: bool = False) -> BatchResult:
        """One BatchGetItem of 1–100 distinct compact keys.

        Raises MalformedResponse for an answer that is not about exactly these keys, and any AwsError.
        """
        raise NotImplementedError


class StreamClient:
    """Reads the streams of one side. Thread-safe."""

    def __init__(self, connection: Connection) -> None:
        raise NotImplementedError

    def latest_stream(self, table: str) -> str | None:
        """ARN of the table's newest stream, enabled or not; None when it never had one in the last 24 h."""
        raise NotImplementedError

    def describe_stream(self, arn: str, exclusive_start: str | None = None) -> tuple[StreamInfo, list[Shard], str | None]:
        """One page of ≤ 100 shards, and the shard id to go on after (None: that was all). AWS allows 10 calls/s."""
        raise NotImplementedError

    def shard_iterator(self, arn: str, shard_id: str, kind: IteratorKind, sequence: str | None = None) -> str:
        """An iterator, good for 15 min. Raises Trimmed when `sequence` is gone, NotFound when the shard is."""
        raise NotImplementedError

    def get_records(self, iterator: str, limit: int = 1000) -> RecordsPage:
        """≤ `limit` records or 1 MB. Raises IteratorExpired, Trimmed, NotFound, Throttled and the other AwsErrors."""
        raise NotImplementedError
