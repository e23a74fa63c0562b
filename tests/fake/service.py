"""The operations: DynamoDB's and DynamoDB Streams' JSON 1.0 requests on tables and streams.

Reads: request bodies. Writes: the state of a `World`. Never: HTTP, faults.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import msgspec

from tests.fake.errors import InUse, Invalid, NotFound, Unknown
from tests.fake.scan import ScanRules
from tests.fake.streams import Shard, Stream
from tests.fake.tables import Item, Key, Table

_decode = msgspec.json.decode
_encode = msgspec.json.encode


class World:
    """Every table and stream there is. Not thread-safe: the server's lock guards it."""

    def __init__(self, account: str, region: str, floor_creation: bool) -> None:
        self.account = account
        self.region = region
        self.floor_creation = floor_creation
        self.batch_get_limit_bytes = 16 * 1024 * 1024
        self.put_off = 0  # keys that the next BatchGetItem or BatchWriteItem leaves unprocessed
        self.tables: dict[str, Table] = {}
        self.streams: dict[str, Stream] = {}
        self.list_streams_page = 100
        self.list_tables_page = 100
        self.scans = ScanRules()
        self.exports: dict[str, dict[str, Any]] = {}  # ARN → ExportDescription
        self.price_list: list[str] = []  # products, as GetProducts tells them
        self.keys_read = 0  # keys that BatchGetItem looked up
        self.operations: dict[str, Callable[[Any], bytes]] = {
            "BatchGetItem": self.batch_get_item,
            "BatchWriteItem": self.batch_write_item,
            "CreateTable": self.create_table,
            "DeleteItem": self.delete_item,
            "DeleteTable": self.delete_table,
            "DescribeExport": self.describe_export,
            "DescribeStream": self.describe_stream,
            "DescribeTable": self.describe_table,
            "DescribeTimeToLive": self.describe_time_to_live,
            "GetItem": self.get_item,
            "GetProducts": self.get_products,
            "GetRecords": self.get_records,
            "GetShardIterator": self.get_shard_iterator,
            "ListStreams": self.list_streams,
            "ListTables": self.list_tables,
            "PutItem": self.put_item,
            "Scan": self.scan,
            "UpdateTable": self.update_table,
            "UpdateTimeToLive": self.update_time_to_live,
        }

    def run(self, operation: str, body: bytes) -> bytes:
        if operation not in self.operations:
            raise Unknown(operation)
        return self.operations[operation](_decode(body))

    def now(self) -> float:
        """The creation time of a change; AWS cuts it to whole seconds."""
        return math.floor(time.time()) if self.floor_creation else round(time.time(), 3)

    def table(self, name: str) -> Table:
        """By name or ARN."""
        found = self.tables.get(name.rpartition("/")[2])
        if found is None:
            raise NotFound(f"Requested resource not found: Table: {name} not found")
        return found

    def get_products(self, _request: Any) -> bytes:
        """AWS's price list, which filters; here whatever a test says."""
        return _encode({"FormatVersion": "aws_v1", "PriceList": self.price_list})

    # Items

    def list_tables(self, request: Any) -> bytes:
        after = request.get("ExclusiveStartTableName", "")
        names = sorted(name for name in self.tables if name > after)
        page = names[: min(request.get("Limit", 100), self.list_tables_page)]
        more = {"LastEvaluatedTableName": page[-1]} if len(page) < len(names) else {}
        return _encode({"TableNames": page} | more)

    def put_item(self, request: Any) -> bytes:
        self.table(request["TableName"]).put(request["Item"], self.now())
        return b"{}"

    def delete_item(self, request: Any) -> bytes:
        self.table(request["TableName"]).delete(request["Key"], self.now())
        return b"{}"

    def get_item(self, request: Any) -> bytes:
        table = self.table(request["TableName"])
        item = table.items.get(table.key_of(request["Key"], exact=True))
        return b"{}" if item is None else b'{"Item":' + item + b"}"

    def batch_get_item(self, request: Any) -> bytes:
        answers, left, capacity = [], {}, []
        budget = self.batch_get_limit_bytes
        if sum(len(asked["Keys"]) for asked in request["RequestItems"].values()) > 100:
            raise Invalid("Too many items requested for the BatchGetItem call")
        for name, asked in request["RequestItems"].items():
            table = self.table(name)
            keys = _distinct(table, asked["Keys"])
            put_off, self.put_off = min(self.put_off, len(keys)), 0
            found, used = _fetch(table, keys[: len(keys) - put_off], budget)
            budget -= sum(map(len, found))
            if unread := asked["Keys"][used:]:
                left[name] = {"Keys": unread, "ConsistentRead": asked.get("ConsistentRead", False)}
            self.keys_read += used
            answers.append(_encode(name) + b":[" + b",".join(found) + b"]")
            capacity.append({"TableName": name, "CapacityUnits": _units(found, used, asked)})
        body = b'{"Responses":{' + b",".join(answers) + b'},"UnprocessedKeys":' + _encode(left)
        if request.get("ReturnConsumedCapacity", "NONE") != "NONE":
            body += b',"ConsumedCapacity":' + _encode(capacity)
        return body + b"}"

    def batch_write_item(self, request: Any) -> bytes:
        writes = [(name, each) for name, many in request["RequestItems"].items() for each in many]
        if not 0 < len(writes) <= 25:
            raise Invalid("Member must have length less than or equal to 25")
        keys = [(name, _written_key(self.table(name), each)) for name, each in writes]
        if len(set(keys)) < len(keys):
            raise Invalid("Provided list of item keys contains duplicates")
        put_off, self.put_off = self.put_off, 0
        done = len(writes) - min(put_off, len(writes))
        for name, each in writes[:done]:
            if "PutRequest" in each:
                self.table(name).put(each["PutRequest"]["Item"], self.now())
            else:
                self.table(name).delete(each["DeleteRequest"]["Key"], self.now())
        left: dict[str, list[Any]] = {}
        for name, each in writes[done:]:
            left.setdefault(name, []).append(each)
        return _encode({"UnprocessedItems": left})

    def scan(self, request: Any) -> bytes:
        return self.scans.scan(self.table(request["TableName"]), request)

    # Tables

    def describe_export(self, request: Any) -> bytes:
        if request["ExportArn"] not in self.exports:
            raise NotFound("Export not found")
        return _encode({"ExportDescription": self.exports[request["ExportArn"]]})

    def create_table(self, request: Any) -> bytes:
        name = request["TableName"]
        if name in self.tables:
            raise InUse(f"Table already exists: {name}")
        types = {each["AttributeName"]: each["AttributeType"] for each in request["AttributeDefinitions"]}
        ordered = sorted(request["KeySchema"], key=lambda each: str(each["KeyType"]))  # HASH, RANGE
        key_types = {each["AttributeName"]: types[each["AttributeName"]] for each in ordered}
        arn = f"arn:aws:dynamodb:{self.region}:{self.account}:table/{name}"
        table = self.tables[name] = Table(name, arn, key_types)
        self.set_stream(table, request.get("StreamSpecification"))
        return _encode({"TableDescription": _describe(table)})

    def delete_table(self, request: Any) -> bytes:
        table = self.table(request["TableName"])
        self.set_stream(table, {"StreamEnabled": False})
        del self.tables[table.name]
        return _encode({"TableDescription": _describe(table)})

    def describe_table(self, request: Any) -> bytes:
        return _encode({"Table": _describe(self.table(request["TableName"]))})

    def update_table(self, request: Any) -> bytes:
        table = self.table(request["TableName"])
        self.set_stream(table, request.get("StreamSpecification"))
        return _encode({"TableDescription": _describe(table)})

    def describe_time_to_live(self, request: Any) -> bytes:
        attribute = self.table(request["TableName"]).ttl_attribute
        on = {"TimeToLiveStatus": "ENABLED", "AttributeName": attribute}
        return _encode({"TimeToLiveDescription": on if attribute else {"TimeToLiveStatus": "DISABLED"}})

    def update_time_to_live(self, request: Any) -> bytes:
        wanted = request["TimeToLiveSpecification"]
        self.table(request["TableName"]).ttl_attribute = (
            wanted["AttributeName"] if wanted["Enabled"] else None
        )
        return _encode({"TimeToLiveSpecification": wanted})

    def set_stream(self, table: Table, wanted: Any, shards: int = 1) -> None:
        if wanted is None:
            return
        if not wanted["StreamEnabled"]:
            if table.stream is not None:
                table.stream.disable()
            return
        if table.stream is not None and table.stream.enabled:
            raise Invalid(f"Table already has an enabled stream: TableName: {table.name}")
        label = f"2026-01-01T00:00:{len(table.streams):02d}.000"
        stream = Stream(f"{table.arn}/stream/{label}", table.name, wanted["StreamViewType"], shards)
        table.stream = stream
        table.streams.append(stream)
        self.streams[stream.arn] = stream

    # Streams

    def list_streams(self, request: Any) -> bytes:
        of = request.get("TableName")
        arns = [stream.arn for stream in self.streams.values() if of in (None, stream.table)]
        if (after := request.get("ExclusiveStartStreamArn")) is not None:
            arns = arns[arns.index(after) + 1 :]
        page = arns[: self.list_streams_page]
        answer: dict[str, Any] = {"Streams": [_name_stream(self.streams[arn]) for arn in page]}
        if len(page) < len(arns):
            answer["LastEvaluatedStreamArn"] = page[-1]
        return _encode(answer)

    def describe_stream(self, request: Any) -> bytes:
        stream = self._stream(request["StreamArn"])
        shards, last = stream.describe(request.get("ExclusiveStartShardId"), request.get("Limit", 100))
        described: dict[str, Any] = {
            **_name_stream(stream),
            "StreamStatus": "ENABLED" if stream.enabled else "DISABLED",
            "StreamViewType": stream.view,
            "Shards": [_describe_shard(shard) for shard in shards],
        }
        if last is not None:
            described["LastEvaluatedShardId"] = last
        return _encode({"StreamDescription": described})

    def get_shard_iterator(self, request: Any) -> bytes:
        stream = self._stream(request["StreamArn"])
        token = stream.iterator(
            request["ShardId"], request["ShardIteratorType"], request.get("SequenceNumber")
        )
        return _encode({"ShardIterator": token})

    def get_records(self, request: Any) -> bytes:
        token = request["ShardIterator"]
        records, following = self._stream(token.split("|")[0]).read(token, request.get("Limit", 1000))
        body = b'{"Records":[' + b",".join(records) + b"]"
        return body + (b"}" if following is None else b',"NextShardIterator":' + _encode(following) + b"}")

    def _stream(self, arn: str) -> Stream:
        if arn not in self.streams:
            raise NotFound(f"Requested resource not found: Stream: {arn} not found")
        return self.streams[arn]


def _distinct(table: Table, asked: list[Item]) -> list[Key]:
    keys = [table.key_of(each, exact=True) for each in asked]
    if not keys or len(set(keys)) < len(keys):
        raise Invalid("Provided list of item keys contains duplicates")
    return keys


def _fetch(table: Table, keys: list[Key], budget: int) -> tuple[list[bytes], int]:
    """The items that exist, in another order than asked, and how many keys the size limit let through."""
    found: list[bytes] = []
    for used, key in enumerate(keys):
        item = table.items.get(key)
        if item is None:
            continue
        budget -= len(item)
        if budget < 0 and found:
            return found[::-1], used
        found.append(item)
    return found[::-1], len(keys)


def _units(found: list[bytes], used: int, asked: Any) -> float:
    """Every item rounds up to 4 KB, an absent one costs the minimum, an eventual read half."""
    whole = sum(math.ceil(len(item) / 4096) for item in found) + used - len(found)
    return whole * (1.0 if asked.get("ConsistentRead") else 0.5)


def _written_key(table: Table, write: Any) -> Key:
    if "PutRequest" in write:
        return table.key_of(write["PutRequest"]["Item"])
    return table.key_of(write["DeleteRequest"]["Key"], exact=True)


def _describe(table: Table) -> dict[str, Any]:
    described: dict[str, Any] = {
        "TableName": table.name,
        "TableArn": table.arn,
        "TableId": table.id,
        "TableStatus": "ACTIVE",
        "CreationDateTime": 1767225600.0,
        "KeySchema": [
            {"AttributeName": name, "KeyType": kind}
            for name, kind in zip(table.key_types, ("HASH", "RANGE"), strict=False)
        ],
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": kind} for name, kind in table.key_types.items()
        ],
        "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
        "ItemCount": len(table.items),
        "TableSizeBytes": sum(map(len, table.items.values())),
    }
    if table.stream is not None:
        described["LatestStreamArn"] = table.stream.arn
        described["LatestStreamLabel"] = table.stream.arn.rpartition("/")[2]
        if table.stream.enabled:
            described["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": table.stream.view}
    return described


def _name_stream(stream: Stream) -> dict[str, str]:
    return {
        "StreamArn": stream.arn,
        "StreamLabel": stream.arn.rpartition("/")[2],
        "TableName": stream.table,
    }


def _describe_shard(shard: Shard) -> dict[str, Any]:
    span = {"StartingSequenceNumber": str(shard.first_sequence)}
    if shard.closed:
        span["EndingSequenceNumber"] = str(shard.next_sequence - 1)
    described: dict[str, Any] = {"ShardId": shard.id, "SequenceNumberRange": span}
    if shard.parent is not None:
        described["ParentShardId"] = shard.parent
    return described
