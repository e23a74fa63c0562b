"""The operations that are asked of AWS, each with what its answers are decoded as.

Reads: response bodies. Writes: nothing. Never: sockets, meaning (what an answer says about a key is decided
elsewhere).
"""

import zlib
from typing import Generic, Literal, TypeVar

import msgspec

from pipeline.aws import wire
from pipeline.core.quoting import quoted
from pipeline.errors import MalformedResponse

Body = TypeVar("Body")
ServiceName = Literal["dynamodb", "dynamodbstreams"]


class Operation(Generic[Body]):
    """One operation of one service; `body` is what a successful answer is decoded as."""

    def __init__(self, service: ServiceName, name: str, body: type[Body]) -> None:
        self.service: ServiceName = service
        self.name = name
        self._decode = msgspec.json.Decoder(body).decode

    def decoded(self, content: bytes, crc: str | None) -> Body:
        """A successful answer's body. crc: its CRC-32 in decimal, if told. Raises MalformedResponse."""
        if crc is not None and str(zlib.crc32(content)) != crc:
            raise MalformedResponse(f"{self.name}: the body does not match its checksum")
        try:
            return self._decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # The error names a path and types ("$.Records[3].dynamodb"), never an item's value.
            raise MalformedResponse(f"{self.name}: {quoted(str(error))}") from error


BATCH_GET_ITEM = Operation("dynamodb", "BatchGetItem", wire.BatchGetBody)
DESCRIBE_TABLE = Operation("dynamodb", "DescribeTable", wire.DescribeTableBody)
DESCRIBE_TIME_TO_LIVE = Operation("dynamodb", "DescribeTimeToLive", wire.DescribeTimeToLiveBody)
DESCRIBE_STREAM = Operation("dynamodbstreams", "DescribeStream", wire.DescribeStreamBody)
GET_RECORDS = Operation("dynamodbstreams", "GetRecords", wire.GetRecordsBody)
GET_SHARD_ITERATOR = Operation("dynamodbstreams", "GetShardIterator", wire.GetShardIteratorBody)
LIST_STREAMS = Operation("dynamodbstreams", "ListStreams", wire.ListStreamsBody)
