"""The AWS edge: one side's table and streams, as structs.

Reads: DynamoDB and DynamoDB Streams. Writes: nothing (no write permission is ever needed). Never: retries on
its own schedule, verdicts, item values in messages.
"""

from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import msgspec

from pipeline.aws import wire
from pipeline.aws.connection import Connection
from pipeline.aws.wire import Record
from pipeline.core.canonical import Item, KeySchema, MalformedItem
from pipeline.core.model import StreamView
from pipeline.core.shard_lineage import Shard
from pipeline.errors import MalformedResponse

#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
MAX_KEYS = 100

Kept = TypeVar("Kept")

IteratorKind = Literal["TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"]


class TableInfo(msgspec.Struct, frozen=True):
    """One table as AWS describes it. `item_count` and `size_bytes` are up to 6 h old."""

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


class BatchResult(msgspec.Struct, Generic[Kept], frozen=True):
    """One BatchGetItem answer: `items`, `absent` and `unprocessed` are exactly the keys asked for."""

    items: dict[bytes, Kept]
    absent: set[bytes]
    unprocessed: list[bytes]
    consumed_units: float


def describe_table(connection: Connection, table: str) -> TableInfo:
    """What there is to know about a table. Raises NotFound, AccessDenied and the other AwsErrors."""
    found: wire.WireTable = connection.call("dynamodb", "DescribeTable", {"TableName": table}).table
    _, _, _, region, account, _ = found.table_arn.split(":", 5)
    stream = found.stream_specification or wire.StreamSpecification()
    return TableInfo(
        name=found.table_name,
        arn=found.table_arn,
        account=account,
        region=region,
        schema=_schema(found),
        status=found.table_status,
        stream_arn=found.latest_stream_arn,
        stream_enabled=stream.stream_enabled,
        view=StreamView(stream.stream_view_type) if stream.stream_view_type else None,
        ttl_attribute=_ttl_attribute(connection, table),
        item_count=found.item_count,
        size_bytes=found.table_size_bytes,
    )


def _ttl_attribute(connection: Connection, table: str) -> str | None:
    """The attribute by which TTL deletes items; None while it does not."""
    ttl: wire.TimeToLive = connection.call(
        "dynamodb", "DescribeTimeToLive", {"TableName": table}
    ).time_to_live_description
    return ttl.attribute_name if ttl.time_to_live_status in ("ENABLED", "ENABLING") else None


class TableReader:
    """Reads the items of one table by key. Thread-safe."""

    def __init__(self, connection: Connection, table: str, schema: KeySchema) -> None:
        self.table = table
        self.schema = schema
        self._connection = connection
        self._head = b'{"RequestItems":{' + msgspec.json.encode(table) + b':{"Keys":['

    def describe(self) -> TableInfo:
        return describe_table(self._connection, self.table)

    def ttl_attribute(self) -> str | None:
        """The attribute by which TTL deletes items, as of now; None while it does not. Raises AwsError."""
        return _ttl_attribute(self._connection, self.table)

    def batch_get(
        self, keys: list[bytes], keep: Callable[[bytes, Item], Kept], strong: bool = False
    ) -> BatchResult[Kept]:
        """One BatchGetItem of 1–100 distinct compact keys; of each item, what `keep` makes of key and item.

        What AWS left out for size (16 MB) or throttling is `unprocessed`; asking again is the caller's.
        Raises MalformedResponse for an answer that is not about exactly these keys, and any AwsError.
        """
        wanted = set(keys)
        if not 0 < len(wanted) == len(keys) <= MAX_KEYS:
            raise ValueError(f"batch_get takes 1–{MAX_KEYS} distinct keys, not {len(wanted)} of {len(keys)}")
        request = self._request(keys, strong)
        body: wire.BatchGetBody = self._connection.call("dynamodb", "BatchGetItem", request)
        units = sum(part.capacity_units for part in body.consumed_capacity)
        self._connection.observer.consumed(units)
        return self._checked(body, wanted, units, keep)

    def _request(self, keys: list[bytes], strong: bool) -> bytes:
        wire_keys = self.schema.wire_all(keys)
        consistent = b"true" if strong else b"false"
        return b"".join(
            (
                self._head,
                wire_keys,
                b'],"ConsistentRead":',
                consistent,
                b'}},"ReturnConsumedCapacity":"TOTAL"}',
            )
        )

    def _checked(
        self, body: wire.BatchGetBody, wanted: set[bytes], units: float, keep: Callable[[bytes, Item], Kept]
    ) -> BatchResult[Kept]:
        """The contract: every key that comes back was asked for, and comes back once."""
        others = (body.responses.keys() | body.unprocessed_keys.keys()) - {self.table}
        if others:
            raise MalformedResponse(f"BatchGetItem on {self.table}: answered about another table")
        returned = body.responses.get(self.table, [])
        left = body.unprocessed_keys.get(self.table)
        items: dict[bytes, Kept] = {}
        for item in wire.decoded_items(returned):
            key = self._key_of(item)
            items[key] = keep(key, item)
        unprocessed = [self._key_of(key) for key in left.keys] if left else []
        answered = items.keys() | set(unprocessed)
        if len(answered) != len(returned) + len(unprocessed):
            raise MalformedResponse(f"BatchGetItem on {self.table}: a key was answered twice")
        if not answered <= wanted:
            raise MalformedResponse(f"BatchGetItem on {self.table}: answered a key that was not asked for")
        return BatchResult(items, wanted - answered, unprocessed, units)

    def _key_of(self, item: Item) -> bytes:
        try:
            return self.schema.compact_of(item)
        except MalformedItem as error:
            raise MalformedResponse(f"BatchGetItem on {self.table}: an item without its key") from error


class StreamClient:
    """Reads the streams of one side. Thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def latest_stream(self, table: str) -> str | None:
        """ARN of the table's newest stream, enabled or not; None when it had none in the last 24 h."""
        streams: list[wire.WireStream] = []
        after: dict[str, str] = {}
        while True:
            page: wire.ListStreamsBody = self._call("ListStreams", TableName=table, **after)
            streams += page.streams
            if page.last_evaluated_stream_arn is None:
                # A label is the instant the stream was enabled, in ISO 8601.
                return max(streams, key=lambda stream: stream.stream_label).stream_arn if streams else None
            after = {"ExclusiveStartStreamArn": page.last_evaluated_stream_arn}

    def describe_stream(
        self, arn: str, exclusive_start: str | None = None
    ) -> tuple[StreamInfo, list[Shard], str | None]:
        """One page of ≤ 100 shards, and the shard id to go on after (None: that was all).

        AWS allows 10 calls/s for an account.
        """
        after = {} if exclusive_start is None else {"ExclusiveStartShardId": exclusive_start}
        found: wire.StreamDescription = self._call(
            "DescribeStream", StreamArn=arn, Limit=100, **after
        ).stream_description
        info = StreamInfo(
            arn=found.stream_arn,
            table_name=found.table_name,
            # ENABLING and ENABLED give records to come, DISABLING and DISABLED only those there are.
            enabled=found.stream_status in ("ENABLED", "ENABLING"),
            view=StreamView(found.stream_view_type),
        )
        return info, [_shard(shard) for shard in found.shards], found.last_evaluated_shard_id

    def shard_iterator(self, arn: str, shard_id: str, kind: IteratorKind, sequence: str | None = None) -> str:
        """An iterator, good for 15 min. Raises Trimmed (`sequence` is gone), NotFound (the shard is)."""
        at = {} if sequence is None else {"SequenceNumber": sequence}
        body: wire.GetShardIteratorBody = self._call(
            "GetShardIterator", StreamArn=arn, ShardId=shard_id, ShardIteratorType=kind, **at
        )
        return body.shard_iterator

    def get_records(self, iterator: str, limit: int = 1000) -> RecordsPage:
        """≤ `limit` records or 1 MB. Raises IteratorExpired, Trimmed, NotFound, Throttled, any AwsError."""
        body: wire.GetRecordsBody = self._call("GetRecords", ShardIterator=iterator, Limit=limit)
        return RecordsPage(body.records, body.next_iterator)

    def _call(self, operation: str, **params: Any) -> Any:
        return self._connection.call("dynamodbstreams", operation, params)


def _schema(table: wire.WireTable) -> KeySchema:
    types = {each.attribute_name: each.attribute_type for each in table.attribute_definitions}
    names = {each.key_type: each.attribute_name for each in table.key_schema}
    partition, sort = names["HASH"], names.get("RANGE")
    return KeySchema(partition, types[partition], sort, types[sort] if sort else None)


def _shard(shard: wire.WireShard) -> Shard:
    span = shard.sequence_number_range
    return Shard(
        shard.shard_id, shard.parent_shard_id, span is not None and bool(span.ending_sequence_number)
    )
