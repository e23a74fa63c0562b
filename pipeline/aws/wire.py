"""What AWS answers, as typed structs; `operations` decodes a raw body into them.

Reads: the items of a BatchGetItem answer. Writes: nothing. Never: sockets, retries. What an answer says about
a key is decided elsewhere.

Why not botocore's own parser: it builds every image of every record (131 against 7 µs a record), and it
hides defects: a truncated 200 becomes `{}` without an error, so that every key would look missing. Here a
body is either what the contract says or `MalformedResponse`.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import msgspec

from pipeline.core.canonical import Item, KeyType
from pipeline.core.model import ChangeType, StreamView
from pipeline.core.quoting import quoted
from pipeline.errors import MalformedResponse

#: Unix seconds up to the year 2286; what lies beyond is no creation time, and overflows what is made of it.
CreationTime = Annotated[float, msgspec.Meta(ge=0, lt=1e10)]
#: One call reads 16 MB; what is far beyond, or negative, would stop the rate limiter or let it go.
Units = Annotated[float, msgspec.Meta(ge=0, le=1e6)]


class Camel(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """Wire names are PascalCase: `shard_id` is `ShardId`."""


class _Change(Camel, frozen=True, gc=False):
    keys: msgspec.Raw
    sequence_number: str
    approximate_creation_date_time: CreationTime | None = None
    new_image: msgspec.Raw = msgspec.Raw()  # empty: the stream does not show it (msgspec has no `Raw | None`)
    old_image: msgspec.Raw = msgspec.Raw()


class Record(msgspec.Struct, frozen=True, gc=False):
    """One change record. Images are undecoded wire JSON: views into the page's body, which they keep alive.

    A record decodes in ~ 1.5 µs because nothing is built that the sampler may throw away.
    """

    event: ChangeType = msgspec.field(name="eventName")
    change: _Change = msgspec.field(name="dynamodb")

    @property
    def sequence(self) -> str:
        return self.change.sequence_number

    @property
    def created_ms(self) -> int | None:
        """When the change was written, Unix ms; AWS floors it to whole seconds. None: the API allows to leave
        it out.
        """
        created = self.change.approximate_creation_date_time
        return None if created is None else int(created * 1000)


class GetRecordsBody(msgspec.Struct, frozen=True):
    records: list[Record] = msgspec.field(name="Records")
    next_iterator: str | None = msgspec.field(name="NextShardIterator", default=None)


class GetShardIteratorBody(Camel, frozen=True):
    shard_iterator: str


class SequenceRange(Camel, frozen=True):
    starting_sequence_number: str | None = None
    ending_sequence_number: str | None = None


class WireShard(Camel, frozen=True):
    shard_id: str
    sequence_number_range: SequenceRange | None = None
    parent_shard_id: str | None = None


class StreamDescription(Camel, frozen=True):
    stream_arn: str
    stream_status: str
    table_name: str
    stream_view_type: StreamView
    shards: list[WireShard]
    last_evaluated_shard_id: str | None = None


class DescribeStreamBody(Camel, frozen=True):
    stream_description: StreamDescription


class WireStream(Camel, frozen=True):
    stream_arn: str
    table_name: str
    stream_label: str


class ListStreamsBody(Camel, frozen=True):
    streams: list[WireStream]
    last_evaluated_stream_arn: str | None = None


class ListTablesBody(Camel, frozen=True):
    table_names: list[str]
    last_evaluated_table_name: str | None = None


class KeyElement(Camel, frozen=True):
    attribute_name: str
    key_type: str


class AttributeDefinition(Camel, frozen=True):
    attribute_name: str
    attribute_type: KeyType


class StreamSpecification(Camel, frozen=True):
    stream_enabled: bool = False
    stream_view_type: StreamView | None = None


class WireTable(Camel, frozen=True):
    table_name: str
    table_arn: str
    table_status: str
    key_schema: list[KeyElement]
    attribute_definitions: list[AttributeDefinition]
    stream_specification: StreamSpecification | None = None
    latest_stream_arn: str | None = None
    table_id: str | None = None
    item_count: int = 0
    table_size_bytes: int = 0


class DescribeTableBody(Camel, frozen=True):
    table: WireTable


class TimeToLive(Camel, frozen=True):
    time_to_live_status: str = "DISABLED"
    attribute_name: str | None = None


class DescribeTimeToLiveBody(Camel, frozen=True):
    time_to_live_description: TimeToLive


class WireExport(Camel, frozen=True):
    export_arn: str
    export_status: str
    s3_bucket: str = msgspec.field(name="S3Bucket")
    export_manifest: str | None = None
    export_format: str = "DYNAMODB_JSON"
    filter_specification: dict[str, Any] | None = None


class DescribeExportBody(Camel, frozen=True):
    export_description: WireExport


class UnprocessedKeys(Camel, frozen=True):
    keys: list[Item]


class Capacity(Camel, frozen=True):
    capacity_units: Units = 0.0


class BatchGetBody(Camel, frozen=True):
    """A real answer always has `responses` and `unprocessed_keys`: a body without them is not one.

    Items are undecoded wire JSON, for `decoded_items`: a hundred decoded at once fall out of the cache.
    """

    responses: dict[str, list[msgspec.Raw]]
    unprocessed_keys: dict[str, UnprocessedKeys]
    consumed_capacity: list[Capacity] = []


class ScanBody(Camel, frozen=True):
    """`items` is a list, still to be decoded; an answer without it, or without its count, is not one."""

    items: msgspec.Raw
    count: int
    last_evaluated_key: msgspec.Raw = msgspec.Raw()
    consumed_capacity: Capacity = Capacity()


#: What decoding a body can raise; a body that is nested too deep is a RecursionError.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode_item = msgspec.json.Decoder(dict[str, Any]).decode


def decoded_items(items: Iterable[msgspec.Raw]) -> Iterator[Item]:
    """The items of a BatchGetItem answer, one by one. Raises MalformedResponse."""
    try:
        yield from map(_decode_item, items)
    except UNREADABLE as error:
        raise MalformedResponse(f"BatchGetItem: an item cannot be read: {quoted(str(error))}") from error
