"""What AWS is asked: each operation with its service and the struct of its answer.

Reads: response bodies. Writes: nothing. Never: sockets, retries.
"""

import zlib
from typing import Final, Generic, Literal, TypeVar

import msgspec

from pipeline.aws import wire
from pipeline.core.quoting import quoted
from pipeline.errors import MalformedResponse

Body = TypeVar("Body")
ServiceName = Literal["dynamodb", "dynamodbstreams"]


class Operation(Generic[Body]):
    """One operation of AWS's JSON protocol."""

    def __init__(self, service: ServiceName, name: str, body: type[Body]) -> None:
        self.service: Final = service
        self.name: Final = name
        self._decode = msgspec.json.Decoder(body).decode

    def decode(self, body: bytes, crc: str | None) -> Body:
        """The body of a successful answer. crc: CRC-32 in decimal. Raises MalformedResponse."""
        if crc is not None and str(zlib.crc32(body)) != crc:
            raise MalformedResponse(f"{self.name}: the body does not match its checksum")
        try:
            return self._decode(body)
        except wire.UNREADABLE as error:
            # The error names a path and types ("$.Records[3].dynamodb"), never an item's value.
            raise MalformedResponse(f"{self.name}: {quoted(str(error))}") from error


BATCH_GET_ITEM: Final = Operation("dynamodb", "BatchGetItem", wire.BatchGetBody)
DESCRIBE_TABLE: Final = Operation("dynamodb", "DescribeTable", wire.DescribeTableBody)
DESCRIBE_TIME_TO_LIVE: Final = Operation("dynamodb", "DescribeTimeToLive", wire.DescribeTimeToLiveBody)
LIST_TABLES: Final = Operation("dynamodb", "ListTables", wire.ListTablesBody)
LIST_STREAMS: Final = Operation("dynamodbstreams", "ListStreams", wire.ListStreamsBody)
DESCRIBE_STREAM: Final = Operation("dynamodbstreams", "DescribeStream", wire.DescribeStreamBody)
GET_SHARD_ITERATOR: Final = Operation("dynamodbstreams", "GetShardIterator", wire.GetShardIteratorBody)
GET_RECORDS: Final = Operation("dynamodbstreams", "GetRecords", wire.GetRecordsBody)
DESCRIBE_EXPORT: Final = Operation("dynamodb", "DescribeExport", wire.DescribeExportBody)
SCAN: Final = Operation("dynamodb", "Scan", wire.ScanBody)
