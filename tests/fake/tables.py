"""Tables and their items, as DynamoDB keeps them: numbers canonical, keys unique by value, limits enforced.

Reads: nothing. Writes: change records into the table's stream. Never: HTTP.
"""

import uuid
import zlib
from dataclasses import dataclass, field
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import msgspec

from tests.fake.errors import Invalid
from tests.fake.streams import HASH_SPACE, Stream

Item = dict[str, Any]
Key = tuple[str, ...]

MAX_ITEM_BYTES = 400 * 1024
TTL_SERVICE = {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}
_TAGS = frozenset(("S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS"))
_EXACT = Context(prec=38, Emax=125, Emin=-130, traps=[InvalidOperation])
_ENCODE = msgspec.json.Encoder(order="deterministic").encode


@dataclass
class Table:
    """`items`: key → canonical wire JSON, ready to be sent."""

    name: str
    arn: str
    key_types: dict[str, str]  # attribute name → S, N or B; partition key first
    items: dict[Key, bytes] = field(default_factory=dict)
    stream: Stream | None = None
    streams: list[Stream] = field(default_factory=list)  # every stream it ever had
    came_or_went: list[Key] = field(
        default_factory=list
    )  # each key once for each time, for who keeps an index
    ttl_attribute: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def key_of(self, item: Item, *, exact: bool = False) -> Key:
        """The primary key by value: `1`, `1.0` and `1E0` are one. `exact`: nothing else may be there."""
        if exact and item.keys() != self.key_types.keys():
            raise Invalid("The provided key element does not match the schema")
        try:
            return tuple(_key_part(item[name], kind) for name, kind in self.key_types.items())
        except KeyError:
            raise Invalid("One of the required keys was not given a value") from None

    def wire_key(self, item: Item) -> Item:
        return {name: item[name] for name in self.key_types}

    def put(self, item: Item, created: float, *, streamed: bool = True) -> None:
        new = canonical(item)
        key = self.key_of(new)
        body = _ENCODE(new)
        if len(body) > MAX_ITEM_BYTES:
            raise Invalid("Item size has exceeded the maximum allowed size")
        old = self.items.get(key)
        self.hold(key, body)
        if streamed and old != body:  # a write that changes nothing leaves no record
            self._emit("MODIFY" if old else "INSERT", key, new, old, body, created)

    def hold(self, key: Key, body: bytes) -> None:
        """Keep this body as it is, spelled as DynamoDB might not spell it; no record of it."""
        if key not in self.items:
            self.came_or_went.append(key)
        self.items[key] = body

    def delete(self, key_item: Item, created: float, *, streamed: bool = True, ttl: bool = False) -> None:
        key = self.key_of(key_item, exact=True)
        old = self.items.pop(key, None)
        if old is not None:
            self.came_or_went.append(key)
        if streamed and old is not None:
            self._emit("REMOVE", key, canonical(key_item), old, None, created, ttl=ttl)

    def _emit(
        self,
        event: str,
        key: Key,
        item: Item,
        old: bytes | None,
        new: bytes | None,
        created: float,
        *,
        ttl: bool = False,
    ) -> None:
        stream = self.stream
        if stream is None or not stream.enabled:
            return
        change: dict[str, Any] = {
            "ApproximateCreationDateTime": created,
            "Keys": self.wire_key(item),
            "SizeBytes": len(new or b"") + len(old or b""),
            "StreamViewType": stream.view,
        }
        if new is not None and stream.view in ("NEW_IMAGE", "NEW_AND_OLD_IMAGES"):
            change["NewImage"] = msgspec.Raw(new)
        if old is not None and stream.view in ("OLD_IMAGE", "NEW_AND_OLD_IMAGES"):
            change["OldImage"] = msgspec.Raw(old)
        record: dict[str, Any] = {
            "eventName": event,
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "dynamodb": change,
        }
        if ttl:
            record["userIdentity"] = TTL_SERVICE
        stream.append(zlib.crc32(key[0].encode()) % HASH_SPACE, record)


def canonical(item: Item) -> Item:
    """The item with every number in DynamoDB's one spelling, sets sorted. Raises Invalid."""
    return {name: _canonical_value(value) for name, value in item.items()}


def canonical_number(text: str) -> str:
    try:
        number = Decimal(text)
        if len(number.as_tuple().digits) > 38 and number.normalize(_EXACT) != number:
            raise Invalid("Attempting to store more than 38 significant digits in a Number")
        number = number.normalize(_EXACT)
    except (InvalidOperation, ValueError):
        raise Invalid("The parameter cannot be converted to a numeric value") from None
    if not number.is_finite():
        raise Invalid("The parameter cannot be converted to a numeric value")
    return format(number, "f") if number else "0"


def _canonical_value(value: Any) -> Any:
    if not isinstance(value, dict) or len(value) != 1 or not value.keys() <= _TAGS:
        raise Invalid("Supplied AttributeValue must contain exactly one of the supported datatypes")
    [(tag, inside)] = value.items()
    if tag == "N":
        return {"N": canonical_number(inside)}
    if tag == "M":
        return {"M": canonical(inside)}
    if tag == "L":
        return {"L": [_canonical_value(each) for each in inside]}
    if tag in ("SS", "NS", "BS"):
        members = [canonical_number(each) for each in inside] if tag == "NS" else inside
        if not members or len(set(members)) < len(members):
            raise Invalid("An attribute value of a set may not be empty or contain duplicates")
        return {tag: sorted(members)}
    return value


def _key_part(value: Any, kind: str) -> str:
    if not isinstance(value, dict) or list(value) != [kind]:
        raise Invalid("The provided key element does not match the schema: type mismatch")
    text = value[kind]
    if text == "":
        raise Invalid("One or more parameter values are not valid: empty key value")
    return canonical_number(text) if kind == "N" else str(text)
