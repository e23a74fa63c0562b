"""The producer contract: partitions to find, batches to take from each, positions to resume from.

Reads: nothing. Writes: nothing. Never: the store, AWS, threads.

A producer lists its partitions again and again (`discover`); the publisher keeps the checkpoints and the
leases, opens each partition at its checkpoint and asks it for one batch at a time. A position always means
"after the last published item", so a reader is built from that alone and may be thrown away at any time.

Watermark: `read_through_ms` of a partition promises that every change written to it before that instant (the
store's clock) has been handed over in a batch up to this one. 0 promises nothing. It never goes back.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from pipeline.core.ledger import ReadCounts
from pipeline.core.model import Change, Position

#: A smaller difference between AWS's clock and the store's is not corrected: a Date header is cut to whole
#: seconds, so it cannot be measured any better than that.
SKEW_TOLERATED_MS = 2_000
#: How far behind the newest thing seen a watermark stays. Creation times are floored to 1 s, clocks may
#: differ by SKEW_TOLERATED_MS, and a record shows in its stream a fraction of a second after the write.
SETTLE_MS = 1_000 + SKEW_TOLERATED_MS


class GapReason(StrEnum):
    """Why changes are lost. The words stand in reports."""

    TRIMMED = "trimmed"  # the records after the checkpoint are older than the stream keeps
    OVERDUE = "not read for too long"  # TRIM_HORIZON leaves expired records out without saying so
    SHARD_GONE = "shard not found"
    STREAM_DISABLED = "stream disabled"


class Batch(msgspec.Struct, frozen=True):
    """What one call of `next_batch` brought.

    position: the checkpoint once this batch is published; unchanged when there is nothing to publish;
    FINISHED with the last batch of a partition. changes: the sampled ones, oldest first; counts: all that
    were read. read_through_ms: the watermark once this batch is published. spacing_seconds: the least time
    between the beginnings of two calls. idle: nothing was there, and asking more slowly loses nothing.
    gap: changes before this batch are lost.
    """

    position: Position
    read_through_ms: int
    changes: list[Change] = []
    counts: ReadCounts = ReadCounts()
    spacing_seconds: float = 0.0
    idle: bool = False
    gap: GapReason | None = None


class Found(msgspec.Struct, frozen=True):
    """A partition to be tracked from now on: where it starts, and the watermark it starts with."""

    partition: str
    position: Position
    read_through_ms: int


class Lost(msgspec.Struct, frozen=True):
    """A gap that belongs to no partition being read. It is recorded once, however often it is discovered."""

    partition: str
    reason: GapReason


class Discovery(msgspec.Struct):
    """What the publisher has to do in the store, in this order.

    settled: finished partitions whose watermark need not hold the others back any more (their children are
    tracked). forget: tombstones that cannot come back.
    """

    lost: list[Lost] = []
    found: list[Found] = []
    settled: list[str] = []
    forget: list[str] = []


class Stop(Protocol):
    """An event that ends a role."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Clock(Protocol):
    """The store's clock, the one that all processes share."""

    def now_ms(self) -> int: ...
    def offset_ms(self, aws_skew_ms: int | None) -> int:
        """What to add to AWS's times. aws_skew_ms: AWS's clock minus this host's, None when not known."""
        ...


class PartitionReader(Protocol):
    """One partition being read. Used by one thread at a time."""

    def next_batch(self) -> Batch:
        """Blocks for at most one or two requests. Raises AwsError; then nothing is lost, call again."""
        ...


class Producer(Protocol):
    """Thread-safe: `discover` has one caller at a time, `open` and the readers have several."""

    def discover(self, tracked: Mapping[str, Position], read_through: Mapping[str, int]) -> Discovery:
        """What has changed about the partitions. Called about once a second; paces its own requests.

        tracked: every partition with its checkpoint; read_through: watermarks in ms, dropped ones missing.
        Raises AwsError, and ConfigurationError when the origin is not the one that was configured.
        """
        ...

    def open(self, partition: str, position: Position) -> PartitionReader:
        """A reader of one partition that goes on after `position`. Makes no request."""
        ...
