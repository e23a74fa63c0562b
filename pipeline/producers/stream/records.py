"""Change records to sampled changes: the only loop that touches every record.

Reads: decoded stream records. Writes: nothing. Never: sockets, files. No image of a key that is not sampled
is decoded.

A record that is not kept costs its compact key and one hash (~ 1.5 µs); everything else is done for the kept
ones alone, one image at a time (a page's images decoded together are twice as dear: they leave the cache).
"""

from collections.abc import Callable, Sequence

import msgspec
import structlog

from pipeline.aws import Record
from pipeline.core.canonical import Digester, KeySchema, MalformedItem
from pipeline.core.model import ABSENT, UNKNOWN, Change, ChangeType, Counts
from pipeline.core.sampling import Sampler
from pipeline.errors import MalformedResponse

log = structlog.get_logger(__name__)

#: Looked up once: a look-up of a member takes 50 ns, a whole record some µs.
_INSERT, _REMOVE = ChangeType.INSERT, ChangeType.REMOVE


class Selector:
    """Which records are kept, and what they become. Thread-safe."""

    def __init__(
        self,
        schema: KeySchema,
        sampler: Sampler,
        digester: Digester,
        count_malformed_image: Callable[[], None] = lambda: None,
    ) -> None:
        """count_malformed_image: called for an image that is not a valid item; its version is UNKNOWN."""
        self._schema = schema
        self._sampler = sampler
        self._digester = digester
        self._count_malformed_image = count_malformed_image
        self._warned = self._warned_undated = False

    def select(self, records: Sequence[Record], read_ms: int) -> tuple[list[Change], Counts]:
        """The changes of the kept keys, in order, and counts of all records.

        read_ms: when they were read at the latest. Raises MalformedResponse for keys that do not fit the
        table.
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
        by_name = {event.value: number for event in ChangeType if (number := events.count(event))}
        counts = Counts(len(records), len(records) - len(kept), by_name)
        return self._changes(kept, records, read_ms), counts

    def _undated(self, records: Sequence[Record], read_ms: int) -> dict[str, int]:
        """By sequence number, when each was created at the latest: before the next one that says when."""
        if not self._warned_undated:
            self._warned_undated = True
            log.warning(
                "records without creation times: taken for as old as the next one, or as their reading"
            )
        created: dict[str, int] = {}
        for record in reversed(records):
            read_ms = read_ms if record.created_ms is None else record.created_ms
            created[record.sequence] = read_ms
        return created

    def _changes(
        self, kept: list[tuple[bytes, Record]], records: Sequence[Record], read_ms: int
    ) -> list[Change]:
        """What the view does not show is UNKNOWN; an INSERT had no old item, a REMOVE leaves no new one."""
        changes: list[Change] = []
        undated: dict[str, int] = {}
        for key, record in kept:
            event, images = record.event, record.change
            before = ABSENT if event is _INSERT else self._digest(images.old_image)
            after = ABSENT if event is _REMOVE else self._digest(images.new_image)
            created_ms = record.created_ms
            if created_ms is None:
                undated = undated or self._undated(records, read_ms)
                created_ms = undated[record.sequence]
            changes.append(Change(key, before, after, created_ms))
        return changes

    def _digest(self, image: msgspec.Raw) -> bytes:
        if not image:
            return UNKNOWN
        try:
            return self._digester.digest(image)
        except MalformedItem as error:
            self._count_malformed_image()
            if not self._warned:
                self._warned = True
                log.error("image is not a valid item: versions like it count as unknown", reason=str(error))
            return UNKNOWN
