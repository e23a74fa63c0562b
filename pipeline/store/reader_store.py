"""What a reader writes: leases, heartbeat, published batches, watermarks, gaps; and a state begun again.

Reads and writes: the migration's keys (see `pipeline/store/__init__.py`). Never: judging, retries. Of an
item's values only the key is stored. Every script is idempotent, so callers may repeat a call that raised
StoreUnavailable.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from pipeline.core.budget import Lowered
from pipeline.core.judging.divergence import WATCH_MIN_MS
from pipeline.core.judging.history import LOOK_SPACING_MS, MAX_VERSIONS
from pipeline.core.model import Change, Checkpoint, Counts
from pipeline.store import scripts
from pipeline.store.answers import instant_ms, reading, whole
from pipeline.store.beginning import FORMAT
from pipeline.store.connection import GROUP
from pipeline.store.messages import Lease, Outcome, PublishReply, gap_field
from pipeline.store.packing import packed_changes
from pipeline.store.role_store import RoleStore

#: Why `begin_again` was needed, as the gap says it.
STATE_LOST = "state lost"
#: A partition found, its checkpoint, and the watermark (ms) it begins with; None: it has none.
Found = tuple[str, Checkpoint, int | None]
#: A partition's watermark (ms), and the checkpoint that it holds for.
Watermark = tuple[Checkpoint, int]


class ReaderStore(RoleStore):
    """One migration's state as a reader changes it."""

    def begin_again(self) -> bool:
        """Begin a migration whose state is gone as it was begun (lua/begin_again.lua); a gap says so.

        False: somebody else has done so.
        """
        meta, lowered = self.meta, self._followed.lowered
        if lowered is not None:  # only the operator raises it again
            lowered = msgspec.structs.replace(lowered, since_ms=self.now_ms())
        args = (
            *(meta.secret.hex(), meta.started_ms, msgspec.json.encode(meta.settings), FORMAT),
            *(gap_field("all", STATE_LOST), GROUP, msgspec.json.encode(lowered) if lowered else b""),
        )
        return bool(self._connection.run(scripts.BEGIN_AGAIN, args))

    def heartbeat(self, producer: str, reader: str, ttl_ms: int) -> int:
        """Say that a reader is alive for another `ttl_ms`; how many readers of this producer are."""
        return int(self._connection.run(scripts.HEARTBEAT, (producer, reader, ttl_ms)))

    def retire(self, producer: str, reader: str) -> None:
        """Say that a reader has stopped, so that others take its share at once."""
        with self._connection.asking("retire"):
            self._redis.zrem(self._key("readers"), f"{producer}:{reader}")

    def watermarks(self, producer: str) -> dict[str, int]:
        """The watermarks of a producer's partitions in ms."""
        with self._connection.asking("watermarks"):
            raw = cast(dict[bytes, bytes], self._redis.hgetall(self._key("watermarks")))
        mine = f"{producer}:".encode()
        with reading(self._key("watermarks")):
            return {
                partition.decode(): instant_ms(ms)
                for partition, ms in raw.items()
                if partition.startswith(mine)
            }

    def track(
        self,
        lease: Lease,
        found: Sequence[Found] = (),
        unwatched: Sequence[str] = (),
        forget: Sequence[str] = (),
    ) -> bool:
        """Record a discovery in one step (lua/track.lua); False when its lease is not ours any more.

        unwatched: finished partitions that hold the watermark back no longer. forget: tombstones to drop.
        """
        args: list[Any] = [lease.partition, lease.epoch, len(found), len(unwatched)]
        for partition, checkpoint, watermark_ms in found:
            args += (partition, checkpoint.encode(), "" if watermark_ms is None else watermark_ms)
        args += (*unwatched, *forget)
        return bool(self._connection.run(scripts.TRACK, args))

    def lease(self, partition: str, owner: str, ttl_ms: int) -> Lease | None:
        """Take a partition; None while somebody else holds it. Raises StateLost."""
        args = [self.meta.secret.hex(), partition, owner, ttl_ms]
        epoch = self._connection.run(scripts.LEASE, args)
        return Lease(partition, owner, int(epoch)) if epoch else None

    def renew(
        self, owner: str, leases: Sequence[Lease], watermarks: Mapping[str, Watermark], ttl_ms: int
    ) -> dict[str, bool]:
        """Keep the leases, post the watermarks. Raises StateLost.

        Returns the partitions that are still ours: whether the stored checkpoint is the one given. Where it
        is not, the watermark was not posted.
        """
        args: list[Any] = [self.meta.secret.hex(), owner, ttl_ms]
        for lease in leases:
            checkpoint, watermark_ms = watermarks[lease.partition]
            args += (lease.partition, lease.epoch, checkpoint.encode(), watermark_ms)
        flat = self._connection.run(scripts.RENEW, args)
        return {flat[i].decode(): bool(flat[i + 1]) for i in range(0, len(flat), 2)}

    def release(self, lease: Lease) -> None:
        """Give a partition back at once, if it is still ours."""
        self._connection.run(scripts.RELEASE, (lease.partition, lease.epoch, lease.owner))

    def publish(
        self,
        lease: Lease,
        expected: Checkpoint,
        checkpoint: Checkpoint,
        changes: Sequence[Change],
        counts: Counts,
        watch_began_ms: int = 0,
    ) -> PublishReply:
        """Publish a batch in one atomic step (lua/publish.lua): all of it and its checkpoint, or nothing.

        watch_began_ms: changes written before were never meant to be read; 0 = this batch begins no watch.
        Where the sample was lowered, changes of keys beyond it are left out, but of those that are followed
        still.
        """
        known = self._followed
        args: list[Any] = [
            lease.partition,
            lease.epoch,
            expected.encode(),
            checkpoint.encode(),
            counts.read,
            counts.not_sampled,
            " ".join(f"{name}={number}" for name, number in counts.by_name.items()),
            watch_began_ms,
            LOOK_SPACING_MS,
            WATCH_MIN_MS,
            MAX_VERSIONS,
            packed_changes(changes, known),
            known.stored,
        ]
        outcome, backlog, left_out = self._connection.run(scripts.publish(known.sample), args)
        return PublishReply(Outcome(outcome.decode()), backlog, left_out)

    def lower(self, lowered: Lowered) -> bool:
        """Lower the sample, or raise it again (lua/lower.lua); False when somebody else has done so."""
        known = self._followed
        args = (known.stored, msgspec.json.encode(lowered))
        done = bool(self._connection.run(scripts.lower(known.sample), args))
        self.spend({}, self.now_ms())  # what is followed now is heard at once
        return done

    def backlog(self) -> int:
        """Keys in the work stream."""
        with self._connection.asking("backlog"), reading(self._key("meta")):
            [queued] = cast(list[bytes | None], self._redis.hmget(self._key("meta"), ["queued"]))
            return whole(queued or 0)

    def add_gap(
        self,
        lease: Lease,
        partition: str,
        reason: str,
        checkpoint: Checkpoint | None = None,
        until_ms: int = 0,
    ) -> Outcome:
        """Record that changes are lost, once (lua/add_gap.lua); FENCED when the lease is not ours any more.

        checkpoint: where in the partition; None when the gap is not inside of one. until_ms: what was written
        later is not lost, 0 = nobody knows.
        """
        gap = gap_field(partition, reason, checkpoint)
        args = (lease.partition, lease.epoch, gap, partition, until_ms)
        answer = self._connection.run(scripts.ADD_GAP, args)
        return Outcome(answer.decode())
