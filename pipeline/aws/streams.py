"""One side's streams, as structs.

Reads: DynamoDB Streams. Writes: nothing. Never: retries. No item value is in a message.
"""

from typing import Literal

import msgspec

from pipeline.aws import operations, wire
from pipeline.aws.connection import Connection
from pipeline.aws.paging import Pages
from pipeline.aws.wire import Record
from pipeline.core.model import StreamView
from pipeline.core.shard_lineage import Shard
from pipeline.errors import MalformedResponse

IteratorKind = Literal["TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"]


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


class StreamClient:
    """Reads the streams of one side. Thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._of_tables: dict[str, Pages[wire.WireStream]] = {}

    def latest_stream(self, table: str) -> str | None:
        """ARN of the table's newest stream, enabled or not; None when it had none in the last 24 h.

        After a refusal the next call goes on with the listing.
        """
        listing = self._of_tables.setdefault(
            table, Pages("ListStreams", lambda after: self._list_streams(table, after))
        )
        # A label is the instant the stream was enabled, in ISO 8601.
        newest = max(listing.all(), key=lambda stream: stream.stream_label, default=None)
        return None if newest is None else newest.stream_arn

    def _list_streams(self, table: str, after: str | None) -> tuple[list[wire.WireStream], str | None]:
        request = {"TableName": table} | ({} if after is None else {"ExclusiveStartStreamArn": after})
        page = self._connection.call(operations.LIST_STREAMS, request)
        return page.streams, page.last_evaluated_stream_arn

    def describe_stream(
        self, arn: str, exclusive_start: str | None = None
    ) -> tuple[StreamInfo, list[Shard], str | None]:
        """One page of ≤ 100 shards, and the shard id to go on after (None: that was all).

        AWS allows 10 calls/s for an account.
        """
        after = {} if exclusive_start is None else {"ExclusiveStartShardId": exclusive_start}
        request = {"StreamArn": arn, "Limit": 100, **after}
        found = self._connection.call(operations.DESCRIBE_STREAM, request).stream_description
        if exclusive_start is not None and found.last_evaluated_shard_id == exclusive_start:
            raise MalformedResponse("DescribeStream: the page that was asked for goes on where it began")
        info = StreamInfo(
            arn=found.stream_arn,
            table_name=found.table_name,
            # ENABLING and ENABLED give records to come, DISABLING and DISABLED only those there are.
            enabled=found.stream_status in ("ENABLED", "ENABLING"),
            view=found.stream_view_type,
        )
        return info, [_shard(shard) for shard in found.shards], found.last_evaluated_shard_id

    def shard_iterator(self, arn: str, shard_id: str, kind: IteratorKind, sequence: str | None = None) -> str:
        """An iterator, good for 15 min. Raises Trimmed (`sequence` is gone), NotFound (the shard is)."""
        at = {} if sequence is None else {"SequenceNumber": sequence}
        request = {"StreamArn": arn, "ShardId": shard_id, "ShardIteratorType": kind, **at}
        return self._connection.call(operations.GET_SHARD_ITERATOR, request).shard_iterator

    def get_records(self, iterator: str, limit: int = 1000) -> RecordsPage:
        """≤ `limit` records or 1 MB. Raises IteratorExpired, Trimmed, NotFound, Throttled, any AwsError."""
        body = self._connection.call(operations.GET_RECORDS, {"ShardIterator": iterator, "Limit": limit})
        return RecordsPage(body.records, body.next_iterator)


def _shard(shard: wire.WireShard) -> Shard:
    span = shard.sequence_number_range
    return Shard(
        shard.shard_id, shard.parent_shard_id, span is not None and bool(span.ending_sequence_number)
    )
