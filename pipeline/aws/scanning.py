"""The AWS edge: one page of one segment of a table, as keys and undecoded items.

Reads: Scan. Writes: nothing. Never: retries. An item is not decoded beyond its key, and an odd page is not
believed.
"""

import msgspec

from pipeline.aws.connection import Connection
from pipeline.aws.operations import SCAN
from pipeline.aws.wire import ScanBody
from pipeline.core.canonical import MalformedItem
from pipeline.core.comparing.keys import KeyReader
from pipeline.errors import MalformedResponse

_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class ScanPage(msgspec.Struct, frozen=True):
    """One answer. `items` are wire JSON, views into its body; `keys` are theirs, in the same order.

    A page may hold nothing and still not be the last: only `after` None is the end of the segment. Otherwise
    it is what the next page is asked for with, wire JSON.
    """

    keys: list[bytes]
    items: list[msgspec.Raw]
    after: bytes | None
    units: float


class TableScanner:
    """Scans one table. Thread-safe.

    strong: read what had been written when the page was read, for twice the units; a comparison needs it not,
    as every suspect is read once more.
    """

    def __init__(self, connection: Connection, table: str, keys: KeyReader, *, strong: bool = False) -> None:
        self.table = table
        self._connection = connection
        self._keys = keys
        self._head = msgspec.json.encode(
            {"TableName": table, "ConsistentRead": strong, "ReturnConsumedCapacity": "TOTAL"}
        )[:-1]

    def page(self, segment: int, total: int, after: bytes | None = None) -> ScanPage:
        """The page of segment `segment` of `total` that comes after `after`, the first for None.

        Raises MalformedResponse for an answer that breaks the contract, and any AwsError.
        """
        request = b'%b,"Segment":%d,"TotalSegments":%d' % (self._head, segment, total)
        if after is not None:
            request += b',"ExclusiveStartKey":' + after
        body = self._connection.call(SCAN, request + b"}")
        units = body.consumed_capacity.capacity_units
        self._connection.observer.consumed(SCAN.name, units)
        return self._checked(body, after, units)

    def _checked(self, body: ScanBody, after: bytes | None, units: float) -> ScanPage:
        last = bytes(body.last_evaluated_key) or None
        try:
            keys, items = self._keys.keys(body.items), _decode_items(body.items)
            if last is not None:
                self._keys.schema.compact(last)
        except MalformedItem as error:
            raise self._malformed(f"keys that do not fit the table's: {error}") from error
        if len(items) != body.count:
            raise self._malformed("another number of items than it says")
        if len(set(keys)) < len(keys):
            raise self._malformed("an item twice")
        if last is not None and last == after:
            raise self._malformed("the position that it was asked for once more")
        return ScanPage(keys, items, last, units)

    def _malformed(self, what: str) -> MalformedResponse:
        return MalformedResponse(f"Scan of {self.table}: answered {what}")
