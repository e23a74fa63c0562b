"""What goes into the store and comes out of it, and nowhere else: leases, batches, claimed entries, commits.

Reads: nothing. Writes: nothing. Never: I/O, redis.
"""

from enum import StrEnum

import msgspec

from pipeline.core.adaptive import Adaptive
from pipeline.core.ledger import Closing, Gap
from pipeline.core.model import Checkpoint


class ServerInfo(msgspec.Struct, frozen=True):
    """Which server answered: kind "redis" or "valkey", its version (() = it does not say), as text too, and
    its eviction policy ("" = it does not say). forgets: it writes no append-only file.
    """

    kind: str
    version: tuple[int, ...]
    version_text: str
    policy: str
    forgets: bool = False

    @property
    def doubts(self) -> list[str]:
        """What should be known of the server and is not, or is not as it should be; each in words."""
        doubts = []
        if not self.version:
            doubts.append("it does not say its version: Redis 7.0.4 or Valkey 8 is needed, or newer")
        if not self.policy:
            doubts.append("it does not say its maxmemory-policy: see that it evicts nothing")
        elif self.policy != "noeviction":
            doubts.append(
                f"maxmemory-policy {self.policy} evicts keys with an expiry alone: of ours, counts of the "
                "lag and of trials, no state of a migration"
            )
        return doubts


class Meta(msgspec.Struct, frozen=True):
    """What the migration was begun with. secret: the key of the hashes that stand for keys in reports.

    judged_by: the times that the last start judged by; they may change.
    """

    started_ms: int
    secret: bytes
    settings: dict[str, str]
    judged_by: dict[str, str] = {}


class Lease(msgspec.Struct, frozen=True):
    """The right to publish a partition; `epoch` fences off whoever held it before."""

    partition: str
    owner: str
    epoch: int


class Outcome(StrEnum):
    """What became of a batch or a gap.

    PUBLISHED, DUPLICATE: go on; CONFLICT: reload; FENCED: drop the partition.
    """

    PUBLISHED = "published"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    FENCED = "fenced"


class PublishReply(msgspec.Struct, frozen=True):
    """What became of a batch. backlog: keys in the work stream since. left_out: changes of keys beyond a
    lowered sample.
    """

    outcome: Outcome
    backlog: int
    left_out: int = 0


class Entry(msgspec.Struct, frozen=True):
    """A claimed key of an entry of the work stream; key b"" and raw b"" where there is none (poison).

    id: the entry's, in the stream. number: the entry's, which its keys' histories name. alone: it was in hand
    when validators died, and is the only key of its entry.
    """

    id: bytes
    key: bytes
    raw: bytes
    deliveries: int
    number: bytes = b""
    alone: bool = False


class Claim(msgspec.Struct, frozen=True):
    """What one claim handed out, with the facts that judging needs (see `model.Moment`).

    adaptive: what follows the lag, None where nobody has made it yet.
    """

    now_ms: int
    watermark_ms: int
    gap_ms: int
    watched_since_ms: int
    watched: bool
    entries: list[Entry]
    adaptive: Adaptive | None = None


class Commit(msgspec.Struct, frozen=True):
    """What a validator asks the store to commit for one key of an entry.

    before/after: encoded histories (after b"" = closed). finding: JSON of an open one, None = as it is.
    closing: why the finding ends, None = it does not. judged: count the key among the distinct ones judged.
    verdict: one was given. dead: move the entry to the dead letters.
    lag_ms: replication lag to add to the sum, -1 = none.
    """

    entry: Entry
    after: bytes
    next_ms: int
    tally: str
    finding: str | None = None
    closing: Closing | None = None
    judged: bool = False
    verdict: bool = False
    dead: bool = False
    lag_ms: int = -1


class Refused(msgspec.Struct, frozen=True):
    """A key whose history changed under the validator: judge again against `raw`."""

    index: int
    raw: bytes


class FindingCommitted(msgspec.Struct, frozen=True):
    """A finding that a commit opened, rewrote or closed. before: as it was stored, b"" = there was none."""

    index: int
    since_ms: int
    before: bytes


class Committed(msgspec.Struct, frozen=True):
    """What became of a commit's keys, each by its index; those that are not named are committed.

    lost: keys of entries that another validator has taken over, which are its to commit.
    """

    refused: list[Refused] = []
    lost: list[int] = []
    findings: list[FindingCommitted] = []


def gap_field(partition: str, reason: str, checkpoint: Checkpoint | None = None) -> bytes:
    """A gap's field in the hash `gaps`: whoever reports the same one again names the same field."""
    position = "" if checkpoint is None else checkpoint.position.decode(errors="backslashreplace")
    return msgspec.json.encode((partition, reason, position))


def gap_of(field: bytes, value: bytes) -> Gap:
    """The gap that a field of the hash `gaps` and its value stand for; earlier versions only dated it."""
    name = msgspec.json.decode(field, type=tuple[str, str, str])
    at_ms, *window = value.decode().split("|", 4)
    if not window:
        return Gap(*name, int(at_ms), 0, int(at_ms))
    from_ms, to_ms, *closed = window
    closed_ms, closed_by = (int(closed[0]), closed[1]) if closed else (None, "")
    return Gap(*name, int(at_ms), int(from_ms), int(to_ms), closed_ms, closed_by)
