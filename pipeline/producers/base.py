"""The producer contract: partitions to find, batches to take from each, checkpoints to resume from.

Reads: nothing. Writes: nothing. Never: the store, AWS, threads.

A producer lists its partitions again and again (`discover`); the publisher keeps the checkpoints and the
leases, opens each partition at its checkpoint and asks it for one batch at a time. A checkpoint always means
"after the last published item", so a reader is built from that alone and may be thrown away at any time.

Several producers may serve one migration: a partition's name begins with its producer's ("stream:…"), and a
producer sees its own partitions only. What is inside a name or a position, its producer alone knows.

Watermark: `watermark_ms` of a partition promises that every change written to it before that instant (the
state's clock) has been handed over in a batch up to this one. 0 promises nothing. It never goes back.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from pipeline.core.model import Change, Checkpoint, Counts

#: What the clocks of two processes may be apart at most: each knows AWS's from Date headers, to the second.
CLOCKS_APART_MS = 2_000


class Batch(msgspec.Struct, frozen=True):
    """What one call of `next_batch` brought.

    checkpoint: the partition's once this batch is published; unchanged when there is nothing to publish;
    finished with the last batch. changes: the sampled ones, oldest first; counts: all that were read.
    watermark_ms: the partition's once this batch is published. watch_began_ms: changes before this instant
    were never meant to be read; 0 = this batch begins no watch. spacing_seconds: the least time between the
    beginnings of two calls. idle: nothing was there, and asking more slowly loses nothing. gap: why changes
    before this batch are lost, in the words of reports. gap_until_ms: what was written later is not; 0 =
    nobody knows.
    """

    checkpoint: Checkpoint
    watermark_ms: int = 0
    changes: list[Change] = []
    counts: Counts = Counts()
    watch_began_ms: int = 0
    spacing_seconds: float = 0.0
    idle: bool = False
    gap: str | None = None
    gap_until_ms: int = 0


class Found(msgspec.Struct, frozen=True):
    """A partition to be tracked from now on: where it starts, and the watermark it starts with."""

    partition: str
    checkpoint: Checkpoint
    watermark_ms: int = 0


class Lost(msgspec.Struct, frozen=True):
    """A gap that belongs to no partition being read. It is recorded once, however often it is discovered."""

    partition: str
    reason: str


class Discovery(msgspec.Struct):
    """What has changed about the partitions: what is to be recorded.

    unwatched: finished partitions whose watermark need not hold the others back any more (their children are
    tracked). forget: tombstones that cannot come back.
    """

    lost: list[Lost] = []
    found: list[Found] = []
    unwatched: list[str] = []
    forget: list[str] = []


class Stop(Protocol):
    """An event that ends a role."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Clock(Protocol):
    """The state's clock, which is AWS's: the one that all processes share."""

    def now_ms(self) -> int:
        """It is never ahead of AWS's."""
        ...

    def latest_ms(self) -> int:
        """What it may be at AWS by now."""
        ...


class PartitionReader(Protocol):
    """One partition being read. Used by one thread at a time."""

    def next_batch(self) -> Batch:
        """Blocks for at most one or two requests. Raises AwsError; then nothing is lost, call again."""
        ...


class Producer(Protocol):
    """Thread-safe: `discover` has one caller at a time, the other methods and the readers have several."""

    @property
    def name(self) -> str:
        """What the names of its partitions begin with, before the first ":"."""
        ...

    @property
    def holds_watermark(self) -> bool:
        """False: its partitions say nothing about which changes have been read, and have no watermark."""
        ...

    def discover(self, tracked: Mapping[str, Checkpoint], watermarks: Mapping[str, int]) -> Discovery:
        """What has changed about the partitions. Called about once a second; paces its own requests.

        tracked: every partition of this producer with its checkpoint; watermarks: theirs in ms, dropped ones
        missing. Raises AwsError, and ConfigurationError when the origin is not the one that was configured.
        """
        ...

    def open(self, partition: str, checkpoint: Checkpoint) -> PartitionReader:
        """A reader of one partition that goes on after `checkpoint`. Makes no request."""
        ...

    def published(self, batch: Batch) -> None:
        """A batch of one of its partitions is in the store, exactly once: count it in metrics."""
        ...
