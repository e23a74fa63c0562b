"""Scan: segments by the hash of the partition key, pages by size, resumable at any position.

Reads: a table. Writes: nothing. Never: an order that a caller could know beforehand.
"""

import itertools
import math
import zlib
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.fake.errors import Invalid, ThrottledTable
from tests.fake.tables import Item, Key, Table

PAGE_BYTES = 1024 * 1024
_HASHES = 2**32
#: After more changes than that sorting anew is quicker.
_RESORT = 1_000
_encode = msgspec.json.encode


Place = tuple[int, Key]


@dataclass
class ScanRules:
    """How a fake's scans behave.

    salts: table → what its hashes begin with: another salt puts keys into other segments. empty_pages: so
    many of the next pages hold nothing, and go on. hot_segment: its calls are throttled.
    """

    page_bytes: int = PAGE_BYTES
    empty_pages: int = 0
    hot_segment: int | None = None
    salts: dict[str, str] = field(default_factory=dict)
    #: Keys that an empty page named as its last, of no item: where they lie.
    _between: dict[Key, Place] = field(default_factory=dict)
    _indexes: dict[str, "_Index"] = field(default_factory=dict)

    def scan(self, table: Table, request: Any) -> bytes:
        total, segment = request.get("TotalSegments", 1), request.get("Segment", 0)
        if not 0 <= segment < total <= 1_000_000:
            raise Invalid("The Segment parameter is zero-based and must be less than parameter TotalSegments")
        if segment == self.hot_segment:
            raise ThrottledTable
        after: Place = (-1, ())
        if (start := request.get("ExclusiveStartKey")) is not None:
            key = table.key_of(start, exact=True)
            after = self._between.get(key) or self._place(table, key)
        places = self._places_of(table)
        begin, end = (-(-number * _HASHES // total) for number in (segment, segment + 1))
        at = max(bisect_right(places, after), bisect_left(places, (begin, ())))
        stop = bisect_left(places, (end, ()))
        if self.empty_pages and at < stop:
            self.empty_pages -= 1
            return _page(table, request, [], self._nowhere(table, after))
        found, size = self._fill(table, places, at, stop)
        more = at + len(found) < stop or size >= self.page_bytes
        last = table.wire_key(msgspec.json.decode(table.items[found[-1]])) if found and more else None
        return _page(table, request, [table.items[key] for key in found], last)

    def _places_of(self, table: Table) -> list[Place]:
        """Where every key of a table lies, in order: sorted once, and kept as keys come and go."""
        salt = self.salts.get(table.name, "")
        index = self._indexes.get(table.name)
        if index is None or index.table is not table or index.salt != salt:
            index = self._indexes[table.name] = _Index(table, salt)
        index.follow()
        return index.places

    def _place(self, table: Table, key: Key) -> Place:
        return _place(self.salts.get(table.name, ""), key)

    def _fill(self, table: Table, places: list[Place], at: int, stop: int) -> tuple[list[Key], int]:
        found: list[Key] = []
        size = 0
        for _, key in itertools.islice(places, at, stop):
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


class _Index:
    """The places of a table's keys."""

    def __init__(self, table: Table, salt: str) -> None:
        self.table, self.salt = table, salt
        self._sort()

    def _sort(self) -> None:
        self._seen = len(self.table.came_or_went)
        self.places = sorted(_place(self.salt, key) for key in self.table.items)

    def follow(self) -> None:
        """Take over what came and went since the last call."""
        changed = self.table.came_or_went[self._seen :]
        if len(changed) > _RESORT:
            self._sort()
            return
        self._seen += len(changed)
        for key in changed:
            place = _place(self.salt, key)
            at = bisect_left(self.places, place)
            there = at < len(self.places) and self.places[at] == place
            if there and key not in self.table.items:
                del self.places[at]
            elif not there and key in self.table.items:
                self.places.insert(at, place)


def _place(salt: str, key: Key) -> Place:
    return zlib.crc32((salt + key[0]).encode()), key


def _page(table: Table, request: Any, items: list[bytes], last: Item | None) -> bytes:
    body = b'{"Items":[%b],"Count":%d,"ScannedCount":%d' % (b",".join(items), len(items), len(items))
    if last is not None:
        body += b',"LastEvaluatedKey":' + _encode(last)
    if request.get("ReturnConsumedCapacity", "NONE") != "NONE":
        share = 1.0 if request.get("ConsistentRead") else 0.5
        units = max(1, math.ceil(sum(map(len, items)) / 4096)) * share
        body += b',"ConsumedCapacity":' + _encode({"TableName": table.name, "CapacityUnits": units})
    return body + b"}"
