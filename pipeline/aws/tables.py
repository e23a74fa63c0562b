"""One side's table: what it is, and its items by key.

Reads: ListTables, DescribeTable, DescribeTimeToLive, BatchGetItem. Writes: nothing (no write
permission is ever needed). Never: retries, judging. No item value is in a message.
"""

import re
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from pipeline.aws import wire
from pipeline.aws.connection import Connection
from pipeline.aws.operations import BATCH_GET_ITEM, DESCRIBE_TABLE, DESCRIBE_TIME_TO_LIVE, LIST_TABLES
from pipeline.aws.paging import Pages
from pipeline.core.canonical import Item, KeySchema, MalformedItem
from pipeline.core.model import StreamView
from pipeline.core.quoting import quoted
from pipeline.errors import MalformedResponse

#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
MAX_KEYS = 100

#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}")

Kept = TypeVar("Kept")


class TableInfo(msgspec.Struct, frozen=True):
    """One table as AWS describes it. `item_count` and `size_bytes` are up to 6 h old.

    asked: what requests name it by, its name or, as a table of another account must be, its ARN. id: tells it
    from an earlier table of the same name; None where AWS does not say.
    """

    asked: str
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
    id: str | None = None


class BatchResult(msgspec.Struct, Generic[Kept], frozen=True):
    """One BatchGetItem answer: `items`, `absent` and `unprocessed` are exactly the keys asked for."""

    items: dict[bytes, Kept]
    absent: set[bytes]
    unprocessed: list[bytes]
    consumed_units: float


def describe_table(connection: Connection, table: str) -> TableInfo:
    """What there is to know about a table. Raises NotFound, AccessDenied and the other AwsErrors."""
    found = connection.call(DESCRIBE_TABLE, {"TableName": table}).table
    ttl_attribute = _ttl_attribute(connection, table)
    try:
        return _table_info(table, found, ttl_attribute)
    except (KeyError, ValueError) as error:
        raise MalformedResponse(
            f"DescribeTable: a description that does not fit together: {quoted(repr(error))}"
        ) from error


def table_names(connection: Connection) -> Pages[str]:
    """The names of the account's tables in this region."""

    def page(after: str | None) -> tuple[list[str], str | None]:
        request = {} if after is None else {"ExclusiveStartTableName": after}
        body = connection.call(LIST_TABLES, request)
        if odd := next((name for name in body.table_names if not _NAME.fullmatch(name)), None):
            raise MalformedResponse(f"ListTables: {quoted(repr(odd))} is no table's name")
        return body.table_names, body.last_evaluated_table_name

    return Pages("ListTables", page)


def _table_info(asked: str, found: wire.WireTable, ttl_attribute: str | None) -> TableInfo:
    """Raises KeyError or ValueError for a description that contradicts itself."""
    _, _, _, region, account, _ = found.table_arn.split(":", 5)
    stream = found.stream_specification or wire.StreamSpecification()
    return TableInfo(
        asked=asked,
        name=found.table_name,
        arn=found.table_arn,
        account=account,
        region=region,
        schema=_schema(found),
        status=found.table_status,
        stream_arn=found.latest_stream_arn,
        stream_enabled=stream.stream_enabled,
        view=stream.stream_view_type,
        ttl_attribute=ttl_attribute,
        item_count=found.item_count,
        size_bytes=found.table_size_bytes,
        id=found.table_id,
    )


def _ttl_attribute(connection: Connection, table: str) -> str | None:
    """The attribute by which TTL deletes items; None while it does not."""
    ttl = connection.call(DESCRIBE_TIME_TO_LIVE, {"TableName": table}).time_to_live_description
    return ttl.attribute_name if ttl.time_to_live_status in ("ENABLED", "ENABLING") else None


#: A key of each type that no item has.
_NOBODY = {"S": "migration-monitor probe", "N": "0", "B": "cHJvYmU="}


class TableReader:
    """Reads the items of one table by key. Thread-safe. `table` is its name or its ARN.

    `nobody` is a key that no item has: reading it shows that items may be read at all.
    """

    def __init__(self, connection: Connection, table: str, schema: KeySchema) -> None:
        self.table = table
        self._names = (table, table.rpartition("/")[2])
        self.schema = schema
        self.nobody = schema.compact_of(_nobody(schema))
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
        body = self._connection.call(BATCH_GET_ITEM, request)
        units = sum(part.capacity_units for part in body.consumed_capacity)
        self._connection.observer.consumed(BATCH_GET_ITEM.name, units)
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
        """The contract: the table is listed; every key that comes back was asked for, and comes once."""
        tables = body.responses.keys() | body.unprocessed_keys.keys()
        # A table that was asked for by its ARN may be answered about by its name.
        named = next(iter(tables)) if len(tables) == 1 else self.table
        if tables - {named} or named not in self._names:
            raise self._malformed("answered about another table")
        returned = body.responses.get(named, [])
        left = body.unprocessed_keys.get(named)
        items: dict[bytes, Kept] = {}
        for item in wire.decoded_items(returned):
            key = self._key_of(item)
            items[key] = keep(key, item)
        unprocessed = [self._key_of(key) for key in left.keys] if left else []
        answered = items.keys() | set(unprocessed)
        if len(answered) != len(returned) + len(unprocessed):
            raise self._malformed("answered a key twice")
        if not answered <= wanted:
            raise self._malformed("answered a key that was not asked for")
        if answered != wanted and named not in body.responses:
            # DynamoDB lists the table even where it found nothing: keys left out here are not absent.
            raise self._malformed("said nothing about the table")
        return BatchResult(items, wanted - answered, unprocessed, units)

    def _key_of(self, item: Item) -> bytes:
        try:
            return self.schema.compact_of(item)
        except MalformedItem as error:
            raise self._malformed("gave an item without its key") from error

    def _malformed(self, what: str) -> MalformedResponse:
        return MalformedResponse(f"BatchGetItem on {self.table}: {what}")


def _nobody(schema: KeySchema) -> Item:
    key = {schema.partition_key: {schema.partition_type: _NOBODY[schema.partition_type]}}
    if schema.sort_key and schema.sort_type:
        key[schema.sort_key] = {schema.sort_type: _NOBODY[schema.sort_type]}
    return key


def _schema(table: wire.WireTable) -> KeySchema:
    types = {each.attribute_name: each.attribute_type for each in table.attribute_definitions}
    names = {each.key_type: each.attribute_name for each in table.key_schema}
    partition, sort = names["HASH"], names.get("RANGE")
    return KeySchema(partition, types[partition], sort, types[sort] if sort else None)
