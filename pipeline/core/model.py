"""The vocabulary: the values that the stages exchange.

Reads: nothing. Writes: nothing. Never: clocks, I/O. Things are named here, and do nothing.

Units: every `*_ms` is an integer number of milliseconds; instants are Unix time on the store's clock
(Redis TIME), the one clock that all processes share. A digest is 16 bytes (see `canonical`); a key is the
compact canonical form of an item's primary key (see `canonical.KeySchema`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

import msgspec

#: The digest that stands for "there is no item".
ABSENT = b"\x00" * 16
#: The digest of a version whose content the stream did not show (KEYS_ONLY, OLD_IMAGE, no old image).
UNKNOWN = b"\xff" * 16


class Side(StrEnum):
    """One of the two tables of a migration."""

    SOURCE = "source"
    TARGET = "target"

    @property
    def other(self) -> "Side":
        return Side.TARGET if self is Side.SOURCE else Side.SOURCE


@dataclass(frozen=True)
class SideConfig:
    """How to reach one side ("source", "target" or "stream"). None: what boto3 finds on its own.

    `endpoint_url` is for DynamoDB and its streams; STS is found as boto3 does (AWS_ENDPOINT_URL_STS).
    """

    side: str
    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    role_arn: str | None = None
    external_id: str | None = field(default=None, repr=False)


class ChangeType(StrEnum):
    """What a change record did (the stream's `eventName`)."""

    INSERT = "INSERT"
    MODIFY = "MODIFY"
    REMOVE = "REMOVE"


class StreamView(StrEnum):
    """What the stream shows of a change (`StreamViewType`)."""

    NEW_AND_OLD_IMAGES = "NEW_AND_OLD_IMAGES"
    NEW_IMAGE = "NEW_IMAGE"
    OLD_IMAGE = "OLD_IMAGE"
    KEYS_ONLY = "KEYS_ONLY"


class VerdictKind(StrEnum):
    """What a key was found to be. Errors are never verdicts."""

    MATCH = "match"
    MISSING = "missing"  # the target lacks the item
    STALE = "stale"  # the target holds an older version
    DIFFERENT = "different"  # the target holds something no known version was
    EXTRA = "extra"  # the target holds an item that the source lacks
    EXPIRED = "expired"  # differs, but TTL itself will remove what differs: neither a match nor a mismatch
    INDETERMINATE = "indeterminate"  # could not be decided: neither


#: The verdicts that open a finding.
MISMATCHES = (VerdictKind.MISSING, VerdictKind.STALE, VerdictKind.DIFFERENT, VerdictKind.EXTRA)


#: The milestones of a cutover, and what each means.
MILESTONES = {
    "T0": "the stream is enabled on the source: from here on every change can be followed",
    "T1": "the S3 export begins: the baseline holds the table as it was then",
    "T2": "the S3 import is complete: the target holds the baseline",
    "T3": "the replication has caught up: the target holds the changes since T1 as well",
    "T4": "validation is complete: the application is switched over to the target",
}
MARKS = tuple(MILESTONES)


class Phase(IntEnum):
    """Where a history stands."""

    WAITING = 0  # versions lo … g are not yet seen on the verified side
    SETTLING = 1  # all versions reached; one more look after --stable-for
    ALARMED = 2  # a finding is open
    EXCUSED = 3  # a difference that TTL itself will remove is under watch


class Change(msgspec.Struct, frozen=True):
    """One sampled change: what a producer hands to the store.

    key: compact canonical key. before: digest of the version it replaced (ABSENT, UNKNOWN or 16 bytes).
    after: digest of the version it made. created_ms: when it was written.
    """

    key: bytes
    before: bytes
    after: bytes
    created_ms: int


#: One state an item had at the origin: (digest, created_ms). A plain tuple: histories hold many.
Version = tuple[bytes, int]


class Look(msgspec.Struct, frozen=True):
    """An observation: what one read of the verified side returned, and when.

    digest: what the verified side held (or ABSENT). at_ms: when the read was sent. answered_ms: when all
    answers were in: the process may have stood still in between, and the item was read at any time of it.
    seen: ordinal of the newest version in the history that was known before the read was sent.
    strong: both reads were strongly consistent. witness: what the origin held, read *after* the
    verified side, or None when it was not read. verified_expires, witness_expires: TTL will delete the item
    that this side held.
    """

    digest: bytes
    at_ms: int
    seen: int
    strong: bool = False
    witness: bytes | None = None
    verified_expires: bool = False
    witness_expires: bool = False
    answered_ms: int = 0


class Moment(msgspec.Struct, frozen=True):
    """What is known when a history is judged.

    now_ms: the store's clock. watermark_ms: every change written before it has been published (0 = unknown).
    gap_ms: when the newest gap was recorded (0 = none). watched_since_ms: changes written before it were
    never read (0 = the stream was read from its beginning), so what happened to a key shortly before it is
    not known. watched: a reader is alive.
    """

    now_ms: int
    watermark_ms: int = 0
    gap_ms: int = 0
    watched_since_ms: int = 0
    watched: bool = True


class Policy(msgspec.Struct, frozen=True):
    """The operator's choices that judging depends on.

    leads: the verified side is ahead of the origin (`--verify-on source`). ttl_grace_ms: how long a
    difference that TTL itself will remove may last before it is a mismatch. first_look_ms: age before which
    no look is worth its price. adapted_ms: when the deadline was last made to follow the lag; None = it is
    fixed, as where the verified side leads: no lag is measured there.
    """

    converge_within_ms: int
    stable_for_ms: int
    leads: bool = False
    ttl_grace_ms: int = 7 * 24 * 3_600_000
    first_look_ms: int = 0
    adapted_ms: int | None = None


class Checkpoint(msgspec.Struct, frozen=True):
    """Where reading of a partition goes on: "after the last published item".

    position: bytes that only the partition's producer reads. finished: the partition is read to its end; its
    checkpoint stays as a tombstone.
    """

    position: bytes
    finished: bool = False

    def encode(self) -> bytes:
        return (b"f" if self.finished else b"o") + self.position

    @classmethod
    def decode(cls, raw: bytes) -> "Checkpoint":
        """Raises ValueError for bytes that `encode` did not make."""
        if raw[:1] not in (b"f", b"o"):
            raise ValueError("not a checkpoint: unknown flag")
        return cls(raw[1:], raw[:1] == b"f")


class Counts(msgspec.Struct, frozen=True):
    """What one batch read. read: all records; not_sampled: those that the sampler left out; by_name: all
    records again, by a name that the producer chooses (of a stream: the type of the change).
    """

    read: int = 0
    not_sampled: int = 0
    by_name: Mapping[str, int] = {}
