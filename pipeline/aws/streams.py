"""One side's streams: which there are, their shards, their records.

Reads: ListStreams, DescribeStream, GetShardIterator, GetRecords. Writes: nothing. Never: retries, decodes an
image.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from pipeline.aws import wire
from pipeline.aws.connection import Connection
from pipeline.aws.operations import DESCRIBE_STREAM, GET_RECORDS, GET_SHARD_ITERATOR, LIST_STREAMS
from pipeline.aws.wire import Record
from pipeline.core.model import StreamView
from pipeline.core.quoting import quoted
from pipeline.core.shard_lineage import Shard
from pipeline.errors import MalformedResponse

#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_DescribeStream.html
MAX_SHARDS = 100

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

    def latest_stream(self, table: str) -> str | None:
        """ARN of the table's newest stream, enabled or not; None when it had none in the last 24 h."""
        streams: list[wire.WireStream] = []
        request = {"TableName": table}
        while True:
            page = self._connection.call(LIST_STREAMS, request)
            streams += page.streams
            if page.last_evaluated_stream_arn is None:
                # A label is the instant the stream was enabled, in ISO 8601.
                return max(streams, key=lambda stream: stream.stream_label).stream_arn if streams else None
            request["ExclusiveStartStreamArn"] = page.last_evaluated_stream_arn

    def describe_stream(
        self, arn: str, exclusive_start: str | None = None
    ) -> tuple[StreamInfo, list[Shard], str | None]:
        """One page of ≤ 100 shards, and the shard id to go on after (None: that was all).

        AWS allows 10 calls/s for an account.
        """
        request: Mapping[str, object] = {"StreamArn": arn, "Limit": MAX_SHARDS}
        if exclusive_start is not None:
            request = {**request, "ExclusiveStartShardId": exclusive_start}
        found = self._connection.call(DESCRIBE_STREAM, request).stream_description
        return _stream_info(found), [_shard(shard) for shard in found.shards], found.last_evaluated_shard_id

    def shard_iterator(self, arn: str, shard_id: str, kind: IteratorKind, sequence: str | None = None) -> str:
        """An iterator, good for 15 min. Raises Trimmed (`sequence` is gone), NotFound (the shard is)."""
        request = {"StreamArn": arn, "ShardId": shard_id, "ShardIteratorType": kind}
        if sequence is not None:
            request = {**request, "SequenceNumber": sequence}
        return self._connection.call(GET_SHARD_ITERATOR, request).shard_iterator

    def get_records(self, iterator: str, limit: int = 1000) -> RecordsPage:
        """≤ `limit` records or 1 MB. Raises IteratorExpired, Trimmed, NotFound, Throttled, any AwsError."""
        body = self._connection.call(GET_RECORDS, {"ShardIterator": iterator, "Limit": limit})
        return RecordsPage(body.records, body.next_iterator)


def _stream_info(found: wire.StreamDescription) -> StreamInfo:
    try:
        view = StreamView(found.stream_view_type)
    except ValueError as error:
        raise MalformedResponse(f"DescribeStream: {quoted(str(error))}") from error
    # ENABLING and ENABLED give records to come, DISABLING and DISABLED only those there are.
    enabled = found.stream_status in ("ENABLED", "ENABLING")
    return StreamInfo(arn=found.stream_arn, table_name=found.table_name, enabled=enabled, view=view)


def _shard(shard: wire.WireShard) -> Shard:
    span = shard.sequence_number_range
    return Shard(
        shard.shard_id, shard.parent_shard_id, span is not None and bool(span.ending_sequence_number)
    )
