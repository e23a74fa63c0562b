"""The store, looked at: what can be asked of a migration even before it has begun.

Reads: the migration's keys (see `pipeline/store/__init__.py`). Writes: nothing. Never: judging.
"""

from collections.abc import Iterable, Iterator
from typing import cast

import msgspec
import redis

from pipeline.core.figures import Figures
from pipeline.core.judging.history import LATE_BUCKET_MS
from pipeline.core.ledger import Finding, Gap, Ledger, Queue, ReaderState, position_counts
from pipeline.core.model import Position
from pipeline.core.statistics import LAG_BUCKETS_SECONDS
from pipeline.store.connection import GROUP, RedisConnection, translated


class FiguresView:
    """One migration's numbers and findings, read only; none before it has begun. Thread-safe."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._redis, self._key = connection.redis, connection.key
        self.migration = connection.migration

    def close(self) -> None:
        self._connection.close()

    def now_ms(self) -> int:
        """The store's clock: the one clock that all processes share."""
        return self._connection.now_ms()

    def partitions(self) -> dict[str, Position]:
        """Every partition that is tracked, with its checkpoint."""
        with translated():
            raw = cast(dict[bytes, bytes], self._redis.hgetall(self._key("checkpoints")))
        return {partition.decode(): Position.decode(position) for partition, position in raw.items()}

    def gaps(self) -> list[Gap]:
        with translated():
            raw = cast(list[bytes], self._redis.lrange(self._key("gaps"), 0, -1))
        return [msgspec.json.decode(gap, type=Gap) for gap in raw]

    def ledger(self) -> Ledger:
        with translated():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hgetall(self._key("ledger"))
            pipe.pfcount(self._key("keys-judged"))
            pipe.pfcount(self._key("keys-sampled"))
            raw, judged, sampled = pipe.execute()
        fields = {name.decode(): int(value) for name, value in raw.items()}
        # HyperLogLog is off by a percent either way; there are never more keys than histories were begun.
        begun = fields.get("versions_published", 0) - fields.get("keys_coalesced", 0)
        return Ledger.from_fields(fields, min(judged, begun), min(sampled, begun))

    def queue(self) -> Queue:
        with translated():
            pipe = self._redis.pipeline(transaction=False)
            pipe.xlen(self._key("work"))
            pipe.hlen(self._key("history"))
            pipe.zcard(self._key("due"))
            pipe.xlen(self._key("dead"))
            backlog, outstanding, due, dead = pipe.execute()
            try:
                pending = cast(dict[str, int], self._redis.xpending(self._key("work"), GROUP))["pending"]
            except redis.ResponseError:  # the migration has not begun
                pending = 0
        return Queue(backlog, pending, outstanding, due, dead)

    def lag_histogram(self, minutes: int = 5) -> list[int]:
        """Replication lags of the last minutes: a count per LAG_BUCKETS_SECONDS and one for more."""
        this_minute = self.now_ms() // 60_000
        with translated():
            pipe = self._redis.pipeline(transaction=False)
            for minute in range(this_minute - minutes + 1, this_minute + 1):
                pipe.hgetall(self._key(f"lag:{minute}"))
            return _bucket_counts(pipe.execute())

    def oldest_waiting_ms(self) -> int | None:
        """Creation time (to 10 s) of the oldest version that a look did not find and no finding covers."""
        with translated():
            buckets = cast(list[bytes], self._redis.hkeys(self._key("late")))
        return min(map(int, buckets)) * LATE_BUCKET_MS if buckets else None

    def reader_state(self) -> ReaderState:
        now = self.now_ms()
        counts = position_counts(self.partitions())
        with translated():
            pipe = self._redis.pipeline(transaction=False)
            pipe.hget(self._key("meta"), "read_through_ms")
            pipe.llen(self._key("gaps"))
            pipe.zcount(self._key("readers"), now, "+inf")
            read_through, gaps, readers = pipe.execute()
        return ReaderState(int(read_through or 0), counts, gaps, readers)

    def marks(self) -> dict[str, int]:
        """Milestone → when it was reached, in ms."""
        with translated():
            raw = cast(dict[bytes, bytes], self._redis.hgetall(self._key("marks")))
        return {name.decode(): int(at_ms) for name, at_ms in sorted(raw.items())}

    def begun_again(self) -> bool:
        """True when the state was lost once (see `begin_again`)."""
        with translated():
            return bool(self._redis.hexists(self._key("meta"), "begun_again_ms"))

    def figures(self) -> Figures:
        """Everything that statistics, gate and metrics are made of, read now. Raises StoreUnavailable."""
        with translated():
            started_ms = cast(bytes | None, self._redis.hget(self._key("meta"), "started_ms"))
        now_ms = self.now_ms()
        return Figures(
            now_ms=now_ms,
            started_ms=int(started_ms or now_ms),
            ledger=self.ledger(),
            queue=self.queue(),
            reader=self.reader_state(),
            lag_counts=self.lag_histogram(),
            oldest_waiting_ms=self.oldest_waiting_ms(),
            marks=self.marks(),
        )

    def findings(self) -> Iterator[Finding]:
        """Open findings, oldest first."""
        with translated():
            raw = cast(dict[bytes, bytes], self._redis.hgetall(self._key("findings")))
            since = cast(
                list[tuple[bytes, float]],
                self._redis.zrange(self._key("findings-since"), 0, -1, withscores=True),
            )
        for key, first_seen_ms in since:
            if key in raw:
                stored = msgspec.json.decode(raw[key])
                yield msgspec.convert({**stored, "key": key, "first_seen_ms": int(first_seen_ms)}, Finding)


def _bucket_counts(hashes: Iterable[dict[bytes, bytes]]) -> list[int]:
    counts = [0] * (len(LAG_BUCKETS_SECONDS) + 1)
    for fields in hashes:
        for bucket, count in fields.items():
            counts[int(bucket)] += int(count)
    return counts
