"""The keys of many items at once, decoded without the rest of the items.

Reads: items as wire JSON. Writes: nothing. Never: I/O. No other attribute than the key's is decoded (it is
passed over in C: a quarter of a microsecond an item).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from pipeline.core.canonical import KeySchema, MalformedItem

#: Between the two texts of a compact composite key; no JSON string holds a quote that is not escaped.
_BETWEEN = b'","'

_UNNAMEABLE = re.compile(r'[\x00-\x1f"\\]')
_encode = msgspec.json.Encoder().encode


class KeyReader:
    """Compact keys of a table's items. Thread-safe."""

    def __init__(self, schema: KeySchema) -> None:
        self.schema = schema
        self._decode_all = msgspec.json.Decoder(list[_shape(schema)]).decode  # type: ignore[misc]
        self._compact = _compact_of(schema)
        # By far the most frequent key: no call of Python's for each.
        self._decode_values = msgspec.json.Decoder(list[_value(schema.partition_type)]).decode  # type: ignore[misc]
        self._is_text = _nameable(schema) and schema.sort_key is None and schema.partition_type == "S"
        self._names = [name for name in (schema.partition_key, schema.sort_key) if name is not None]

    def keys(self, items: bytes | msgspec.Raw) -> list[bytes]:
        """Of a JSON array of items. Raises MalformedItem for an item without its key."""
        try:
            found = self._decode_all(items)
        except (ValueError, RecursionError) as error:
            raise MalformedItem("an item without the key attributes of the schema") from error
        if self._is_text:
            return list(map(_encode, [key.partition.value for key in found]))
        return list(map(self._compact, found))

    def keys_of(self, items: Iterable[Mapping[str, msgspec.Raw]]) -> list[bytes]:
        """Of items whose attributes are not decoded. Raises MalformedItem for an item without its key."""
        names = self._names
        if self._is_text:
            return self._texts_of(items, names[0])
        try:
            alone = [{name: item[name] for name in names} for item in items]
        except KeyError as error:
            raise MalformedItem("an item without the key attributes of the schema") from error
        return self.keys(_encode(alone))

    def _texts_of(self, items: Iterable[Mapping[str, msgspec.Raw]], name: str) -> list[bytes]:
        try:
            found = self._decode_values(_encode([item[name] for item in items]))
        except (KeyError, ValueError, RecursionError) as error:
            raise MalformedItem("an item without the key attributes of the schema") from error
        return list(map(_encode, [one.value for one in found]))


def _compact_of(schema: KeySchema) -> Callable[[Any], bytes]:
    """From what `_shape` decodes to the compact key."""
    if not _nameable(schema):
        return schema.compact_of
    partition_key, partition_type = schema.partition_key, schema.partition_type
    sort_key, sort_type = schema.sort_key, schema.sort_type
    if sort_key is None or sort_type is None:
        return lambda key: schema.compact_of({partition_key: {partition_type: key.partition.value}})
    return lambda key: schema.compact_of(
        {partition_key: {partition_type: key.partition.value}, sort_key: {sort_type: key.sort.value}}
    )


def _nameable(schema: KeySchema) -> bool:
    """Whether msgspec takes the names for a struct's; the few others cost a dict an item."""
    names = schema.partition_key + (schema.sort_key or "")
    return not _UNNAMEABLE.search(names)


def _shape(schema: KeySchema) -> Any:
    """A struct of nothing but the key: {"pk": {"S": "…"}} as `.partition.value`."""
    if not _nameable(schema):
        return dict[str, Any]
    names = {"partition": schema.partition_key}
    fields: list[tuple[str, Any]] = [("partition", _value(schema.partition_type))]
    if schema.sort_key is not None and schema.sort_type is not None:
        names["sort"] = schema.sort_key
        fields.append(("sort", _value(schema.sort_type)))
    return msgspec.defstruct("Key", fields, rename=names, gc=False)


def _value(tag: str) -> type[msgspec.Struct]:
    return msgspec.defstruct("Value", [("value", str)], rename={"value": tag}, gc=False)


class PartitionKeys:
    """How many partition keys have been seen among compact keys of a table with a sort key.

    Exact up to `most`, and no more than that is ever said: a count that is too small only widens the interval
    that is made of it. Memory is flat for the same reason.
    """

    def __init__(self, most: int = 50_000) -> None:
        self._most = most
        self._seen: set[bytes] = set()
        self._last = b""

    def add(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            partition = key[: key.index(_BETWEEN)]
            if partition != self._last and len(self._seen) < self._most:
                self._seen.add(partition)
            self._last = partition

    @property
    def count(self) -> int:
        return len(self._seen)
