"""The stream producer: a table's DynamoDB stream, shard by shard.

Reads: DynamoDB Streams (GetShardIterator and GetRecords here, DescribeStream and ListStreams in `discovery`).
Writes: metrics. Never: the store, threads. No item value is in a message.

Facts (AWS, "DynamoDB Streams" API reference; measured where an emulator differs):
- An iterator lives 15 minutes; a new one is derived from the checkpoint.
- An empty page is not the end of a shard, only a missing next iterator is.
- Records live 24 h. Reading past that shows as TrimmedDataAccessException at GetShardIterator or GetRecords,
  as ResourceNotFoundException for a shard that is still listed, or, from TRIM_HORIZON, not at all.
- Creation times are floored to 1 s, and may be left out.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from pipeline.aws import IteratorKind, Record, RecordsPage, StreamClient
from pipeline.core.model import Checkpoint
from pipeline.errors import IteratorExpired, NotFound, Trimmed
from pipeline.metrics import ReaderMetrics
from pipeline.producers.base import Batch, Clock, Discovery
from pipeline.producers.stream.discovery import Discoverer
from pipeline.producers.stream.position import (
    NAME,
    WATERMARK_BEHIND_MS,
    GapReason,
    Position,
    PositionKind,
    arn_of,
    label_of,
    shard_of,
)
from pipeline.producers.stream.records import Selector

log = structlog.get_logger(__name__)

#: At most 4 GetRecords/s on a shard, as AWS Lambda polls; the limit itself is not documented.
SPACING_SECONDS = 0.25
#: A checkpoint older than this resumed at TRIM_HORIZON has probably lost records: 24 h less an hour for
#: clocks and for records that expire while they are being caught up with.
OVERDUE_MS = 23 * 3_600_000
#: A closed shard of which even TRIM_HORIZON is trimmed this often in a row has nothing left to read.
TRIMMED_TRIES = 5


class StreamProducer:
    """See `base.Producer`."""

    name = NAME
    holds_watermark = True

    def __init__(
        self,
        client: StreamClient,
        discoverer: Discoverer,
        selector: Selector,
        clock: Clock,
        metrics: ReaderMetrics,
    ) -> None:
        self.client = client
        self.discoverer = discoverer
        self.selector = selector
        self.clock = clock
        self._metrics = metrics
        self._records_read = metrics.records_read

    def discover(self, tracked: Mapping[str, Checkpoint], watermarks: Mapping[str, int]) -> Discovery:
        return self.discoverer.discover(tracked, watermarks)

    def open(self, partition: str, checkpoint: Checkpoint) -> "ShardReader":
        return ShardReader(self, partition, Position.of(checkpoint))

    def published(self, batch: Batch) -> None:
        for event, counter in self._records_read.items():
            counter.inc(batch.counts.by_name.get(event, 0))

    def polled(self) -> None:
        """GetRecords has answered."""
        self._metrics.stream_last_poll_timestamp_seconds.set(self.clock.now_ms() / 1000)


class ShardReader:
    """One shard being read; see `base.PartitionReader`.

    LATEST without an instant: the watch begins with the first iterator, and that instant is published as the
    checkpoint before anything is read. LATEST with an instant is therefore a restart (or a shard that was
    listed late): it reads from TRIM_HORIZON and leaves out what was created before the watch began. Nothing
    is lost.
    """

    def __init__(self, producer: StreamProducer, partition: str, position: Position) -> None:
        self._producer = producer
        self._partition = partition
        self._position = position
        self._iterator: str | None = None
        self._watermark_ms = 0
        self._trims = 0
        # Creation times may be WATERMARK_BEHIND_MS off; a record too many does no harm, one too few is lost.
        self._skip_before_ms = (
            position.at_ms - WATERMARK_BEHIND_MS if position.kind is PositionKind.LATEST else 0
        )

    def next_batch(self) -> Batch:
        """One page. Raises AwsError; an expired iterator costs one call without records."""
        now_ms = self._producer.clock.now_ms()
        try:
            iterator = self._iterator or self._derive(now_ms)
            if isinstance(iterator, Batch):
                return iterator
            page = self._producer.client.get_records(iterator)
            self._producer.polled()
            batch = self._take(page, now_ms)
        except IteratorExpired:
            log.debug("iterator expired", partition=self._partition)
            self._iterator = None
            return self._batch()
        except Trimmed:
            return self._trimmed(now_ms)
        except NotFound as error:
            log.error("shard cannot be read: records are lost", partition=self._partition, error=str(error))
            return self._batch(
                msgspec.structs.replace(self._position, at_ms=now_ms), True, gap=GapReason.SHARD_GONE
            )
        self._iterator = page.next_iterator
        self._trims = 0
        return batch

    def _derive(self, now_ms: int) -> str | Batch:
        """An iterator for the checkpoint, or a batch when there is something to publish before reading."""
        position = self._position
        if position.kind is PositionKind.AFTER:
            self._iterator = self._ask("AFTER_SEQUENCE_NUMBER", position.sequence)
            return self._iterator
        if position.kind is PositionKind.LATEST and not position.at_ms:
            self._iterator = self._ask("LATEST")
            # Taken after the iterator: no record can fall between the two.
            began_ms = self._producer.clock.now_ms()
            self._watermark_ms = began_ms
            log.info("the watch begins: older changes are not read", partition=self._partition)
            position = Position(PositionKind.LATEST, at_ms=began_ms)
            return self._batch(position, watch_began_ms=self._producer.clock.latest_ms())
        covered_ms = max(position.at_ms, self._watermark_ms)
        if position.at_ms and now_ms - covered_ms > OVERDUE_MS:
            return self._from_horizon(now_ms, GapReason.OVERDUE)
        self._iterator = self._ask("TRIM_HORIZON")
        return self._iterator

    def _take(self, page: RecordsPage, now_ms: int) -> Batch:
        """What a page becomes. now_ms: before it was asked for. Changes nothing when it raises."""
        records = page.records
        if self._skip_before_ms:
            records = [one for one in records if (one.created_ms or now_ms) >= self._skip_before_ms]
        changes, counts = self._producer.selector.select(records, self._producer.clock.latest_ms())
        ended = page.next_iterator is None
        closed = ended or self._is_closed()
        began_ms = self._position.at_ms if records and self._position.kind is PositionKind.LATEST else 0
        if records:
            self._skip_before_ms = 0
        if page.records:
            # Undated ones promise nothing: how much was written before them is not known.
            self._advance_to((_last_dated_ms(page.records) or 0) - WATERMARK_BEHIND_MS)
        elif not closed:  # an empty page of a closed shard is on the way to records, not at the tip
            self._advance_to(now_ms - WATERMARK_BEHIND_MS)
        return self._batch(
            _after(self._position, records),
            ended,
            changes=changes,
            counts=counts,
            watch_began_ms=began_ms,
            idle=not page.records and not closed,
        )

    def _trimmed(self, now_ms: int) -> Batch:
        """Go on at TRIM_HORIZON; when that is refused too, again and again, and at last with the children."""
        self._iterator = None
        self._trims += 1
        if self._trims == 1:
            return self._from_horizon(now_ms, GapReason.TRIMMED)
        if self._trims > TRIMMED_TRIES and self._is_closed():
            return self._batch(Position(PositionKind.TRIM_HORIZON, at_ms=now_ms), True)
        return self._batch(idle=True)

    def _from_horizon(self, now_ms: int, reason: GapReason) -> Batch:
        log.error(
            "records are lost: going on with the oldest there are", partition=self._partition, reason=reason
        )
        self._skip_before_ms = 0
        self._watermark_ms = 0
        # Whatever is younger than that the stream still keeps, and it is read now.
        kept_ms = now_ms - OVERDUE_MS
        return self._batch(
            Position(PositionKind.TRIM_HORIZON, at_ms=now_ms), gap=reason, gap_until_ms=kept_ms
        )

    def _batch(self, position: Position | None = None, finished: bool = False, **more: Any) -> Batch:
        """The position moves to `position`; the last page of a shard and its end are one batch."""
        self._position = position or self._position
        checkpoint = self._position.checkpoint(finished=finished)
        return Batch(checkpoint, self._watermark_ms, spacing_seconds=SPACING_SECONDS, **more)

    def _ask(self, kind: IteratorKind, sequence: str | None = None) -> str:
        arn = arn_of(self._producer.discoverer.arn, label_of(self._partition))
        return self._producer.client.shard_iterator(arn, shard_of(self._partition), kind, sequence)

    def _is_closed(self) -> bool:
        return self._producer.discoverer.is_closed(self._partition)

    def _advance_to(self, ms: int) -> None:
        self._watermark_ms = max(self._watermark_ms, ms)


def _after(position: Position, records: list[Record]) -> Position:
    """The position after these records."""
    if not records:
        return position
    dated_ms = _last_dated_ms(records)
    if dated_ms is None:
        dated_ms = position.at_ms
    return Position(PositionKind.AFTER, records[-1].sequence, dated_ms)


def _last_dated_ms(records: list[Record]) -> int | None:
    """When the last record that says so was created."""
    return next((ms for one in reversed(records) if (ms := one.created_ms) is not None), None)
