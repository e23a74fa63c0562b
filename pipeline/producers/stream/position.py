"""The stream producer's own words: its partitions' names, what a position's bytes mean, why records are lost.

Reads: bytes and names. Writes: the same. Never: I/O.

A partition is named "stream:<stream label>/<shard id>": a stream that is disabled and enabled again has a new
label, and both streams are read, the old one first. A label is the instant the stream was enabled, so labels
sort by age.
"""

from enum import StrEnum

import msgspec

from pipeline.core.model import Checkpoint
from pipeline.producers.base import CLOCKS_APART_MS

NAME = "stream"
#: How far behind the newest thing seen a watermark stays. Creation times are floored to 1 s, clocks may
#: be CLOCKS_APART_MS apart, and a record shows in its stream a fraction of a second after the write.
WATERMARK_BEHIND_MS = 1_000 + CLOCKS_APART_MS


class GapReason(StrEnum):
    """Why records are lost. The words stand in reports."""

    TRIMMED = "trimmed"  # the records after the checkpoint are older than the stream keeps
    OVERDUE = "not read for too long"  # TRIM_HORIZON leaves expired records out without saying so
    SHARD_GONE = "shard not found"
    STREAM_DISABLED = "stream disabled"


def partition_of(label: str, shard: str) -> str:
    """The partition's name of a shard of the stream that the label names."""
    return f"{NAME}:{label}/{shard}"


def stream_of(label: str) -> str:
    """The name under which a gap of a whole stream is recorded."""
    return f"{NAME}:{label}"


def label_of(partition: str) -> str:
    """The label of the stream that a partition belongs to."""
    return partition.removeprefix(f"{NAME}:").partition("/")[0]


def shard_of(partition: str) -> str:
    """The id of the shard that a partition is."""
    return partition.partition("/")[2]


def arn_of(arn: str, label: str) -> str:
    """The ARN of the stream of that label, given that of any stream of the same table."""
    return f"{arn.rpartition('/')[0]}/{label}"


class PositionKind(StrEnum):
    """Where in a shard reading goes on."""

    LATEST = "latest"  # only what comes after `at_ms`; nothing has been read yet
    TRIM_HORIZON = "trim_horizon"  # the oldest record there is
    AFTER = "after"  # after the record `sequence`


class Position(msgspec.Struct, frozen=True):
    """Where a shard was read up to.

    sequence: the last published record's sequence number (AFTER). at_ms: for LATEST when the watch began, for
    AFTER when the last published record was created, or when it was found that there are no more.
    """

    kind: PositionKind
    sequence: str = ""
    at_ms: int = 0

    def checkpoint(self, *, finished: bool = False) -> Checkpoint:
        return Checkpoint(f"{self.kind}|{self.at_ms}|{self.sequence}".encode(), finished)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "Position":
        """Raises ValueError for a position that `checkpoint` did not make."""
        kind, at_ms, sequence = checkpoint.position.decode().split("|", 2)
        return cls(PositionKind(kind), sequence, int(at_ms))
