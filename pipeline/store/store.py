"""The store: everything that processes share, in Redis or Valkey.

Reads and writes: the keys `ddbmm:{<migration>}:…` (one hash slot, so one migration lives on one node of a
cluster). Never: item values, judging, retries of its own; every script is idempotent, so callers may repeat
a call that raised StoreUnavailable.

    work            stream + group "validators": one entry a key that is due now
    due             sorted set: key → when to look next (ms)
    history         hash: key → history (core/codec.py)
    checkpoints     hash: partition → position            leases        hash: partition → epoch|expires|owner
    read-through    hash: partition → watermark (ms)      readers       sorted set: reader → alive until (ms)
    ledger          hash: counters                        late          hash: creation bucket → keys waiting
    lag:<minute>    hash: bucket → count                  gaps          list of JSON
    findings        hash: key → JSON                      findings-since  sorted set: key → opened (ms)
    findings-log    stream of recovered findings          dead          stream of dead letters
    keys-sampled, keys-judged  HyperLogLog                meta          hash: settings, secret, watermark, …
    marks           hash: milestone of the cutover → when it was reached (ms)
"""

import secrets
import struct
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import redis

from pipeline.core.judging.rule import ALARMED_MIN_MS, LOOK_SPACING_MS
from pipeline.core.ledger import (
    Claim,
    Entry,
    Gap,
    Lease,
    Meta,
    Outcome,
    PublishReply,
    ReadCounts,
    Refused,
    ServerInfo,
    Settled,
)
from pipeline.core.model import Change, Position
from pipeline.errors import ConfigurationError, SettingsChanged
from pipeline.store.connection import GROUP, translated
from pipeline.store.reading import StoreView

#: Redis ≥ 7.0.4: XAUTOCLAIM of older servers keeps trimmed entries pending for ever. Valkey ≥ 8 alike.
REDIS_FLOOR, VALKEY_FLOOR = (7, 0, 4), (8, 0, 0)
#: Why `begin_again` was needed, as the gap tells it.
STATE_LOST = "state lost"
#: What `begin_again` deletes besides the keys that it writes; the minutes' lags run out by themselves.
_OTHER_KEYS = (
    *("due", "history", "checkpoints", "leases", "read-through", "readers", "late", "findings"),
    *("findings-since", "findings-log", "dead", "keys-sampled", "keys-judged"),
)
#: How far a partition is read through (ms), and the checkpoint that this holds for.
ReadThrough = tuple[Position, int]
#: Per-minute lag counts are kept this long.
LAG_KEPT_SECONDS = 3_600
#: How `publish` hands over a change; `lua/publish.lua` says what it is.
_CHANGE = struct.Struct("<HQ")
#: How `commit` hands over an entry; `lua/commit.lua` says what it is.
_SETTLED = struct.Struct("<HHIIIHqqB")


class Store(StoreView):
    """One migration's state. Thread-safe; make it after spawn (connections do not survive a fork)."""

    def __init__(self, url: str, migration: str) -> None:
        super().__init__(url, migration)
        script = self._server.script
        self._publish, self._claim, self._commit = script("publish"), script("claim"), script("commit")
        self._lease, self._renew = script("lease"), script("renew")
        self._begin_again = script("begin_again")

    # --- start -----------------------------------------------------------------------------------------

    def check(self) -> ServerInfo:
        """Raises ConfigurationError for a server that is too old or may evict, StoreUnavailable for none."""
        with translated():
            server = self._redis.info("server")
            memory = self._redis.info("memory")
        kind = "valkey" if "valkey_version" in server else "redis"
        version = tuple(int(part) for part in server[f"{kind}_version"].split(".")[:3])
        info = ServerInfo(kind, version, memory["maxmemory_policy"])
        floor = VALKEY_FLOOR if kind == "valkey" else REDIS_FLOOR
        if version < floor:
            wanted = ".".join(map(str, floor))
            raise ConfigurationError(
                f"{kind} {server[f'{kind}_version']} is too old: use {kind} {wanted} or newer"
            )
        if info.policy != "noeviction":
            raise ConfigurationError(
                f"{kind} has maxmemory-policy {info.policy} and may evict the migration's state: "
                "run `CONFIG SET maxmemory-policy noeviction`, or use a server of its own"
            )
        return info

    def open(self, settings: dict[str, str]) -> Meta:
        """Begin the migration or go on with it; SettingsChanged if it was begun with other settings.

        Going on writes nothing: a server at maxmemory would refuse, and could never be drained.
        """
        meta_key = self._key("meta")
        with translated():
            begun = self._redis.hexists(meta_key, "settings") and self._redis.exists(self._key("work"))
            if not begun:
                self._redis.hsetnx(meta_key, "secret", secrets.token_hex(16))
                self._redis.hsetnx(meta_key, "started_ms", self.now_ms())
                self._redis.hsetnx(meta_key, "settings", msgspec.json.encode(settings))
                try:
                    self._redis.xgroup_create(self._key("work"), GROUP, id="0", mkstream=True)
                except redis.ResponseError as error:
                    if not str(error).startswith("BUSYGROUP"):
                        raise
            raw = cast(dict[bytes, bytes], self._redis.hgetall(meta_key))
        stored = msgspec.json.decode(raw[b"settings"], type=dict[str, str])
        differing = [
            f"{name}: {stored.get(name, '(unset)')} → {settings.get(name, '(unset)')}"
            for name in sorted(stored.keys() | settings.keys())
            if stored.get(name) != settings.get(name)
        ]
        if differing:
            raise SettingsChanged(
                f"migration {self.migration} was begun with other settings ({'; '.join(differing)}): "
                "go back to them, or choose a new name with --migration"
            )
        return self._take(raw)

    def begin_again(self, meta: Meta) -> bool:
        """Begin a migration whose state is gone as it was begun (lua/begin_again.lua); a gap says so.

        meta: what `open` returned while the state was there. False: somebody else has done so.
        """
        now = self.now_ms()
        gap = Gap("all", STATE_LOST, "", now)
        args = (
            *(meta.secret.hex(), meta.started_ms, msgspec.json.encode(meta.settings), now),
            *(msgspec.json.encode(gap), GROUP),
        )
        keys = self._keys("meta", "work", "ledger", "gaps", *_OTHER_KEYS)
        with translated():
            return bool(self._begin_again(keys=keys, args=args))

    def begun_again(self) -> bool:
        """True when the state was lost once (see `begin_again`)."""
        with translated():
            return bool(self._redis.hexists(self._key("meta"), "begun_again_ms"))

    # --- readers ---------------------------------------------------------------------------------------

    def heartbeat(self, reader: str, ttl_ms: int) -> int:
        """Say that `reader` is alive for another `ttl_ms`; how many readers are."""
        now = self.now_ms()
        readers = self._key("readers")
        with translated():
            pipe = self._redis.pipeline(transaction=False)
            pipe.zadd(readers, {reader: now + ttl_ms})
            pipe.zremrangebyscore(readers, "-inf", now)
            pipe.zcard(readers)
            return int(pipe.execute()[2])

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
            pipe.hsetnx(self._key("read-through"), partition, str(read_through_ms))
            pipe.execute()

    def forget(self, partition: str) -> None:
        """Drop a finished partition's tombstone: it has left the listing, so it cannot be read again."""
        with translated():
            pipe = self._redis.pipeline(transaction=True)
            for name in ("checkpoints", "leases", "read-through"):
                pipe.hdel(self._key(name), partition)
            pipe.execute()

    def drop_watermark(self, partition: str) -> None:
        """Let a finished partition hold the watermark back no longer."""
        with translated():
            self._redis.hdel(self._key("read-through"), partition)

    def read_through(self) -> dict[str, int]:
        """Every partition's watermark in ms."""
        with translated():
            raw = cast(dict[bytes, bytes], self._redis.hgetall(self._key("read-through")))
        return {partition.decode(): int(value) for partition, value in raw.items()}

    def lease(self, partition: str, owner: str, ttl_ms: int) -> Lease | None:
        """Take a partition; None while somebody else holds it. Raises StateLost."""
        args = [self._secret.hex(), partition, owner, ttl_ms]
        with translated():
            epoch = self._lease(keys=self._keys("leases", "meta"), args=args)
        return Lease(partition, owner, int(epoch)) if epoch else None

    def renew(
        self, owner: str, leases: Sequence[Lease], read_through: dict[str, ReadThrough], ttl_ms: int
    ) -> dict[str, bool]:
        """Keep the leases, post the watermarks. Raises StateLost.

        Returns the partitions that are still ours: whether the stored checkpoint is the one given. Where it
        is not, the watermark was not posted; without a watermark, no checkpoint is given.
        """
        args: list[Any] = [self._secret.hex(), owner, ttl_ms]
        for lease in leases:
            position, ms = read_through.get(lease.partition, (None, 0))
            args += (lease.partition, lease.epoch, position.encode() if position else "", ms)
        keys = self._keys("leases", "read-through", "meta", "checkpoints", "work")
        with translated():
            flat = self._renew(keys=keys, args=args)
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
            ALARMED_MIN_MS,
            b"".join(map(_packed_change, changes)),
        ]
        keys = self._keys("leases", "checkpoints", "history", "work", "due", "ledger", "keys-sampled", "meta")
        with translated():
            outcome, backlog = self._publish(keys=keys, args=args)
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

    def mark(self, name: str) -> int:
        """Note that a milestone of the cutover is reached now (again: moves it); the instant in ms."""
        now = self.now_ms()
        with translated():
            self._redis.hset(self._key("marks"), name, str(now))
        return now

    # --- validators ------------------------------------------------------------------------------------

    def claim(self, consumer: str, count: int, reclaim_after_ms: int, adopt: bool = False) -> Claim:
        """Up to `count` entries that are due, now ours (lua/claim.lua).

        reclaim_after_ms: also take over entries that another validator has left that long (0 = do not look).
        adopt: also take back what an earlier life of this consumer left pending.
        """
        args = [GROUP, consumer, count, reclaim_after_ms, "adopt" if adopt else ""]
        with translated():
            now, read_through, gap, watched_since, flat = self._claim(
                keys=self._keys("work", "due", "history", "meta", "ledger"), args=args
            )
        fields = iter(flat)
        entries = [
            Entry(entry_id, key or b"", raw or b"", deliveries)
            for entry_id, key, raw, deliveries in zip(fields, fields, fields, fields, strict=True)
        ]
        return Claim(now, int(read_through), int(gap), int(watched_since), entries)

    def commit(self, settled: Sequence[Settled], now_ms: int) -> list[Refused]:
        """Commit what was found, each entry whole or not at all (lua/commit.lua).

        Returns the entries whose history changed meanwhile. Entries that another validator took over are
        left out silently: they are its to commit.
        """
        minute = now_ms // 60_000
        keys = self._keys(
            *("work", "due", "history", "ledger", "findings", "findings-since", "findings-log"),
            *(f"lag:{minute}", "late", "keys-judged", "dead"),
        )
        args = [GROUP, now_ms, LAG_KEPT_SECONDS, _packed(settled)]
        with translated():
            flat = self._commit(keys=keys, args=args)
        return [Refused(flat[i] - 1, flat[i + 1]) for i in range(0, len(flat), 2)]


def _packed_change(change: Change) -> bytes:
    return b"".join(
        (_CHANGE.pack(len(change.key), change.created_ms), change.before, change.after, change.key)
    )


def _packed(settled: Sequence[Settled]) -> bytes:
    """One argument for all entries: eight arguments for each of them cost four times as much to send."""
    parts: list[bytes] = []
    for one in settled:
        entry, after, tally = one.entry, one.after, one.tally.encode()
        finding = b"" if one.finding is None else one.finding.encode() or b"-"
        head = _SETTLED.pack(
            *(len(entry.id), len(entry.key), len(entry.raw), len(after), len(finding), len(tally)),
            one.next_ms,
            one.lag_ms,
            one.judged + 2 * one.dead,
        )
        parts += (head, entry.id, entry.key, entry.raw, after, finding, tally)
    return b"".join(parts)
