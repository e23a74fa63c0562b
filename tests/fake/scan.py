"""Scan: segments by the hash of the partition key, pages by size, resumable at any position.

Reads: a table. Writes: nothing. Never: an order that a caller could know beforehand.
"""

import math
import zlib
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.fake.errors import Invalid
from tests.fake.tables import Item, Key, Table

PAGE_BYTES = 1024 * 1024
_HASHES = 2**32
_encode = msgspec.json.encode


Place = tuple[int, Key]


@dataclass
class ScanRules:
    """How a fake's scans behave.

    salts: table → what its hashes begin with: another salt puts keys into other segments. empty_pages: so
    many of the next pages hold nothing, and go on.
    """

    page_bytes: int = PAGE_BYTES
    empty_pages: int = 0
    salts: dict[str, str] = field(default_factory=dict)
    #: Keys that an empty page named as its last, of no item: where they lie.
    _between: dict[Key, Place] = field(default_factory=dict)

    def scan(self, table: Table, request: Any) -> bytes:
        total, segment = request.get("TotalSegments", 1), request.get("Segment", 0)
        if not 0 <= segment < total <= 1_000_000:
            raise Invalid("The Segment parameter is zero-based and must be less than parameter TotalSegments")
        after: Place = (-1, ())
        if (start := request.get("ExclusiveStartKey")) is not None:
            key = table.key_of(start, exact=True)
            after = self._between.get(key) or self._place(table, key)
        places = sorted(
            place
            for place in (self._place(table, key) for key in table.items)
            if place[0] * total // _HASHES == segment and place > after
        )
        if self.empty_pages and places:
            self.empty_pages -= 1
            return _page(table, request, [], self._nowhere(table, after))
        found, size = self._fill(table, [key for _, key in places])
        more = len(found) < len(places) or size >= self.page_bytes
        last = table.wire_key(msgspec.json.decode(table.items[found[-1]])) if found and more else None
        return _page(table, request, [table.items[key] for key in found], last)

    def _place(self, table: Table, key: Key) -> Place:
        return zlib.crc32((self.salts.get(table.name, "") + key[0]).encode()), key

    def _fill(self, table: Table, keys: list[Key]) -> tuple[list[Key], int]:
        found: list[Key] = []
        size = 0
        for key in keys:
            if size >= self.page_bytes:
                break
            found.append(key)
            size += len(table.items[key])
        return found, size

    def _nowhere(self, table: Table, after: Place) -> Item:
        """The key of no item, at a place that is remembered."""
        number = str(len(self._between) + 1)
        wire = {"S": f"nowhere {number}", "N": f"1E{number}", "B": number.zfill(8)}
        key = {name: {kind: wire[kind]} for name, kind in table.key_types.items()}
        self._between[table.key_of(key, exact=True)] = after
        return key


def _page(table: Table, request: Any, items: list[bytes], last: Item | None) -> bytes:
    body = b'{"Items":[%b],"Count":%d,"ScannedCount":%d' % (b",".join(items), len(items), len(items))
    if last is not None:
        body += b',"LastEvaluatedKey":' + _encode(last)
    if request.get("ReturnConsumedCapacity", "NONE") != "NONE":
        share = 1.0 if request.get("ConsistentRead") else 0.5
        units = max(1, math.ceil(sum(map(len, items)) / 4096)) * share
        body += b',"ConsumedCapacity":' + _encode({"TableName": table.name, "CapacityUnits": units})
    return body + b"}"
