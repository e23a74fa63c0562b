"""What a reader writes: leases, heartbeat, published batches, watermarks, gaps; and a state begun again.

Reads and writes: the migration's keys (see `pipeline/store/__init__.py`). Never: item values, judging,
retries of its own; every script is idempotent, so callers may repeat a call that raised StoreUnavailable.
"""

import struct
from collections.abc import Sequence
from typing import Any, Self, cast

import msgspec

from pipeline.core.judging.divergence import WATCH_MIN_MS
from pipeline.core.judging.history import LOOK_SPACING_MS
from pipeline.core.ledger import Gap, ReadCounts
from pipeline.core.model import Change, Position
from pipeline.store import scripts
from pipeline.store.beginning import FORMAT, begin
from pipeline.store.connection import GROUP, RedisConnection, translated
from pipeline.store.messages import Lease, Outcome, PublishReply
from pipeline.store.reading import StoreView

#: Why `begin_again` was needed, as the gap tells it.
STATE_LOST = "state lost"
#: How far a partition is read through (ms), and the checkpoint that this holds for.
ReadThrough = tuple[Position, int]
#: How `publish` hands over a change; `lua/publish.lua` says what it is.
_CHANGE = struct.Struct("<HQ")


class ReaderStore(StoreView):
    """One migration's state as a reader changes it. Thread-safe; make it after spawn (connections do not
    survive a fork)."""

    @classmethod
    def begin(cls, url: str, migration: str, settings: dict[str, str]) -> Self:
        """Begin the migration or go on with it; SettingsChanged if it was begun with other settings."""
        connection = RedisConnection(url, migration)
        return cls(connection, begin(connection, settings))

    def begin_again(self) -> bool:
        """Begin a migration whose state is gone as it was begun (lua/begin_again.lua); a gap says so.

        False: somebody else has done so.
        """
        meta, encode = self.meta, msgspec.json.encode
        gap = {"partition": "all", "reason": STATE_LOST, "position": ""}
        args = (
            *(meta.secret.hex(), meta.started_ms, encode(meta.settings), FORMAT),
            *(encode(gap), GROUP),
        )
        return bool(self._connection.run(scripts.BEGIN_AGAIN, args))

    def heartbeat(self, reader: str, ttl_ms: int) -> int:
        """Say that `reader` is alive for another `ttl_ms`; how many readers are."""
        return int(self._connection.run(scripts.HEARTBEAT, (reader, ttl_ms)))

    def retire(self, reader: str) -> None:
        """Say that `reader` has stopped, so that others take its share at once."""
        with translated():
            self._redis.zrem(self._key("readers"), reader)

    def register(self, partition: str, position: Position, read_through_ms: int) -> None:
        """Track a new partition; does nothing to one that is tracked already."""
        with translated():
            # In one step: a partition without a watermark would hold nobody's back.
            pipe = self._redis.pipeline(transaction=True)
            pipe.hsetnx(self._key("checkpoints"), partition, position.encode())
            pipe.hsetnx(self._key("watermarks"), partition, str(read_through_ms))
            pipe.execute()

    def forget(self, partition: str) -> None:
        """Drop a finished partition's tombstone: it has left the listing, so it cannot be read again."""
        with translated():
            pipe = self._redis.pipeline(transaction=True)
            for name in ("checkpoints", "leases", "watermarks"):
                pipe.hdel(self._key(name), partition)
            pipe.execute()

    def drop_watermark(self, partition: str) -> None:
        """Let a finished partition hold the watermark back no longer."""
        with translated():
            self._redis.hdel(self._key("watermarks"), partition)

    def read_through(self) -> dict[str, int]:
        """Every partition's watermark in ms."""
        with translated():
            raw = cast(dict[bytes, bytes], self._redis.hgetall(self._key("watermarks")))
        return {partition.decode(): int(value) for partition, value in raw.items()}

    def lease(self, partition: str, owner: str, ttl_ms: int) -> Lease | None:
        """Take a partition; None while somebody else holds it. Raises StateLost."""
        args = [self.meta.secret.hex(), partition, owner, ttl_ms]
        epoch = self._connection.run(scripts.LEASE, args)
        return Lease(partition, owner, int(epoch)) if epoch else None

    def renew(
        self, owner: str, leases: Sequence[Lease], read_through: dict[str, ReadThrough], ttl_ms: int
    ) -> dict[str, bool]:
        """Keep the leases, post the watermarks. Raises StateLost.

        Returns the partitions that are still ours: whether the stored checkpoint is the one given. Where it
        is not, the watermark was not posted; without a watermark, no checkpoint is given.
        """
        args: list[Any] = [self.meta.secret.hex(), owner, ttl_ms]
        for lease in leases:
            position, ms = read_through.get(lease.partition, (None, 0))
            args += (lease.partition, lease.epoch, position.encode() if position else "", ms)
        flat = self._connection.run(scripts.RENEW, args)
        return {flat[i].decode(): bool(flat[i + 1]) for i in range(0, len(flat), 2)}

    def release(self, lease: Lease) -> None:
        """Give a partition back at once, if it is still ours."""
        with translated():
            raw = cast(bytes | None, self._redis.hget(self._key("leases"), lease.partition))
            if raw is not None and raw.startswith(f"{lease.epoch}|".encode()):
                # Keep the epoch: it must not go back. An expiry of 0 frees the lease.
                self._redis.hset(self._key("leases"), lease.partition, f"{lease.epoch}|0|{lease.owner}")

    def publish(
        self,
        lease: Lease,
        expected: Position,
        position: Position,
        changes: Sequence[Change],
        counts: ReadCounts,
    ) -> PublishReply:
        """Publish a batch in one atomic step (lua/publish.lua): all of it and its checkpoint, or nothing."""
        args: list[Any] = [
            lease.partition,
            lease.epoch,
            expected.encode(),
            position.encode(),
            counts.inserts,
            counts.modifies,
            counts.removes,
            counts.not_sampled,
            LOOK_SPACING_MS,
            WATCH_MIN_MS,
            b"".join(map(_packed_change, changes)),
        ]
        outcome, backlog = self._connection.run(scripts.PUBLISH, args)
        return PublishReply(Outcome(outcome.decode()), backlog)

    def backlog(self) -> int:
        """Entries in the work stream."""
        with translated():
            return int(self._redis.xlen(self._key("work")))

    def add_gap(self, partition: str, reason: str, position: Position) -> None:
        """Record that stream records are lost; histories that span this moment no longer vouch.

        Does nothing when it is recorded already: a reader whose reply was lost tells it again.
        """
        now = self.now_ms()
        gap = Gap(partition, reason, position.encode().decode(), now)
        if gap in [msgspec.structs.replace(one, at_ms=now) for one in self.gaps()]:
            return
        with translated():
            pipe = self._redis.pipeline(transaction=True)
            pipe.rpush(self._key("gaps"), msgspec.json.encode(gap))
            pipe.hincrby(self._key("ledger"), "gaps", 1)
            pipe.hset(self._key("meta"), "gap_ms", str(now))
            pipe.execute()


def _packed_change(change: Change) -> bytes:
    return b"".join(
        (_CHANGE.pack(len(change.key), change.created_ms), change.before, change.after, change.key)
    )
