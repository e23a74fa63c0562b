"""Whether the two items of a pair are equal, the cheap way first.

Reads: two items as wire JSON. Writes: nothing. Never: I/O. What is equal byte by byte is not normalised.

Most pairs of a migrated table are equal as they stand, and most of the rest differ in nothing but the order
of their attributes, which DynamoDB leaves open in answers and exports. So there are three looks, each dearer
than the one before: equal bytes; equal bytes attribute by attribute; the canonical form, of the differing
attributes alone.
"""

import msgspec

from pipeline.core.canonical import REPLICATION_PREFIX, Digester, MalformedItem
from pipeline.core.model import UNKNOWN

Wire = bytes | msgspec.Raw

_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class PairComparer:
    """Agrees with the digester on all items that DynamoDB may hold.

    An item that is malformed is equal to nothing but its own bytes. It makes a suspect, which is read again:
    so it never becomes a verdict here.
    """

    def __init__(self, digester: Digester) -> None:
        self._digester = digester

    def equal(self, a: Wire, b: Wire) -> bool:
        if bytes(a) == bytes(b):  # a view is never equal to bytes
            return True
        try:
            left, right = _attributes(a), _attributes(b)
            return left == right or self._equal_by_form(left, right)
        except (MalformedItem, ValueError, RecursionError):
            return False

    def digest(self, item: Wire) -> bytes:
        """The item's digest; UNKNOWN for a malformed one, as a stream's image of it would have."""
        try:
            return self._digester.digest(item)
        except MalformedItem:
            return UNKNOWN

    def _equal_by_form(self, left: dict[str, msgspec.Raw], right: dict[str, msgspec.Raw]) -> bool:
        left, right = self._counted(left), self._counted(right)
        if left.keys() != right.keys():
            return False
        differing = [name for name, value in left.items() if value != right[name]]
        return self._form(left, differing) == self._form(right, differing)

    def _counted(self, attributes: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
        ignore = self._digester.ignore
        return {
            name: value
            for name, value in attributes.items()
            if name not in ignore and not name.startswith(REPLICATION_PREFIX)
        }

    def _form(self, attributes: dict[str, msgspec.Raw], names: list[str]) -> bytes:
        return self._digester.digest(_encode({name: attributes[name] for name in names}))
