"""Change records to sampled changes: the only loop that touches every record.

Reads: decoded stream records. Writes: nothing. Never: I/O; decoding an image of a key that is not sampled.

A record that is not kept costs its compact key and one hash (~ 1.5 µs); everything else is done for the kept
ones alone, one image at a time (a page's images decoded together are twice as dear: they leave the cache).
"""

import threading
from collections.abc import Sequence

import msgspec
import structlog

from pipeline.aws import Record
from pipeline.core.canonical import Digester, KeySchema, MalformedItem
from pipeline.core.ledger import ReadCounts
from pipeline.core.model import ABSENT, UNKNOWN, Change, ChangeType
from pipeline.core.sampling import Sampler
from pipeline.errors import MalformedResponse

log = structlog.get_logger(__name__)


class Selector:
    """Which records are kept, and what they become. Thread-safe."""

    def __init__(self, schema: KeySchema, sampler: Sampler, digester: Digester) -> None:
        self._schema = schema
        self._sampler = sampler
        self._digester = digester
        self._lock = threading.Lock()
        #: Images that could not be canonicalised; their versions were published as UNKNOWN.
        self.malformed_images = 0

    def select(self, records: Sequence[Record], offset_ms: int) -> tuple[list[Change], ReadCounts]:
        """The changes of the kept keys, in order, and counts of all records.

        offset_ms is added to creation times. Raises MalformedResponse for keys that do not fit the table.
        """
        compact, keeps = self._schema.compact, self._sampler.keeps
        kept: list[tuple[bytes, Record]] = []
        try:
            for record in records:
                key = compact(record.change.keys)
                if keeps(key):
                    kept.append((key, record))
        except MalformedItem as error:
            raise MalformedResponse(f"GetRecords: keys that do not fit the table's: {error}") from error
        events = [record.event for record in records]
        counts = ReadCounts(
            inserts=events.count(ChangeType.INSERT),
            modifies=events.count(ChangeType.MODIFY),
            removes=events.count(ChangeType.REMOVE),
            not_sampled=len(records) - len(kept),
        )
        return [self._change(key, record, offset_ms) for key, record in kept], counts

    def _change(self, key: bytes, record: Record, offset_ms: int) -> Change:
        """What the view does not show is UNKNOWN; an INSERT had no old item, a REMOVE leaves no new one."""
        before = ABSENT if record.event is ChangeType.INSERT else self._digest(record.old_image)
        after = ABSENT if record.event is ChangeType.REMOVE else self._digest(record.new_image)
        return Change(key, before, after, record.created_ms + offset_ms)

    def _digest(self, image: msgspec.Raw | None) -> bytes:
        if image is None:
            return UNKNOWN
        try:
            return self._digester.digest(image)
        except MalformedItem as error:
            with self._lock:
                self.malformed_images += 1
                first = self.malformed_images == 1
            if first:
                log.error("image is not a valid item: versions like it count as unknown", reason=str(error))
            return UNKNOWN
