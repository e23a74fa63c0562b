"""Time to live: will DynamoDB delete this item by itself?

Reads: a decoded wire item, the name of its TTL attribute, the time. Writes: nothing. Never: floats. A Number
has 38 digits. No value is in a message.

The rules are the Developer Guide's, "Using time to live": a top-level Number, in seconds since 1970, that has
passed, but not more than five years ago. Anything else is left alone for good: text, milliseconds (far in
the future), thousandths of seconds (long ago), 0, negative numbers. Deletion takes up to days.
"""

from decimal import Decimal

from pipeline.core.canonical import Item, MalformedItem, canonical_number

#: What expired longer ago is never deleted. AWS says "five years": the shortest that can be meant.
OLDEST_MS = 5 * 365 * 24 * 3_600_000


def will_be_deleted(item: Item, ttl_attribute: str, at_ms: int) -> bool:
    """True when the item has expired and TTL, enabled on that attribute, will delete it."""
    value = item.get(ttl_attribute)
    if not isinstance(value, dict) or "N" not in value:
        return False
    try:
        expires_ms = Decimal(canonical_number(value["N"])) * 1000
    except MalformedItem:
        return False
    return at_ms - OLDEST_MS <= expires_ms <= at_ms
