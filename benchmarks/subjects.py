"""The monitor's own parts as they are measured: reader and validator, driven the way their roles drive them.

Reads: the stub. Writes: Redis, under a migration name of its own. Never: parts other than production's.
"""

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import cast

import redis

from benchmarks.measure import Figures, Round, own_cpu_seconds
from benchmarks.stub import PARTITION_KEY, STREAM_ARN, TABLE, shard_id
from pipeline import metrics
from pipeline.aws import Connection, SideConfig, StreamClient, TableReader
from pipeline.core.canonical import Digester, KeySchema
from pipeline.core.comparing.state import Comparison
from pipeline.core.model import ABSENT, Change, Counts, Policy, Side
from pipeline.core.sampling import Sampler
from pipeline.process import garbage
from pipeline.producers.base import Clock, PartitionReader
from pipeline.producers.stream.discovery import Discoverer
from pipeline.producers.stream.position import Position, PositionKind, partition_of
from pipeline.producers.stream.producer import StreamProducer
from pipeline.producers.stream.records import Selector
from pipeline.store import ReaderStore, ValidatorStore
from pipeline.store.messages import Commit, Outcome
from pipeline.validator.side_reader import SideReader
from pipeline.validator.validator import Validator

SCHEMA = KeySchema(PARTITION_KEY, "S")
PARTITION = partition_of(STREAM_ARN.rpartition("/")[2], shard_id(0))
BEGIN = Position(PositionKind.TRIM_HORIZON).checkpoint()
_HOUR_MS = 3_600_000
_SOME_DIGEST = b"\x17" * 16


class BenchStore(ReaderStore, ValidatorStore):
    """What readers and validators write: the benchmark plays both. And how far a comparison is."""

    # Cheap enough to be asked all the time:

    def segments_done(self) -> int:
        return int(cast(bytes | None, self._redis.hget(self._key("comparison"), "done")) or 0)

    def counted(self, field: str) -> int:
        """A field of the ledger."""
        return int(cast(bytes | None, self._redis.hget(self._key("ledger"), field)) or 0)

    def keys_with_a_history(self) -> int:
        return self._redis.hlen(self._key("history"))

    def comparison(self) -> Comparison:
        found = self.figures().comparison
        if found is None:
            raise RuntimeError("no comparison was begun")
        return found


def shard_reader(url: str, percent: float, clock: Clock) -> PartitionReader:
    connection = Connection(SideConfig("stream", region="us-east-1", endpoint_url=url))
    client = StreamClient(connection)
    discoverer = Discoverer(
        client,
        STREAM_ARN,
        TABLE,
        clock.now_ms,
        threading.Event(),
        started_ms=clock.now_ms(),
        from_latest=False,
    )
    producer = StreamProducer(
        client,
        discoverer,
        Selector(SCHEMA, Sampler(percent), Digester()),
        clock,
        metrics.start(None, "reader").of_reader("bench", "source"),
    )
    return producer.open(PARTITION, BEGIN)


class HostClock:
    def now_ms(self) -> int:
        return int(time.time() * 1000)

    def latest_ms(self) -> int:
        return self.now_ms()


def reader(url: str, percent: float, pages: int) -> Round:
    """next_batch: a page read, decoded, sampled, the sampled ones digested."""
    shard = shard_reader(url, percent, HostClock())
    garbage.freeze()

    def run() -> Figures:
        started, read = own_cpu_seconds(), 0
        for _ in range(pages):
            read += shard.next_batch().counts.read
        return {"us": (own_cpu_seconds() - started) / read * 1e6}

    return run


class Feed:
    """Publishes the stub's first shard, page by page, as the publisher does."""

    def __init__(self, url: str, store: BenchStore, percent: float = 100) -> None:
        """url: "" = nothing is read, everything is made up."""
        self.store = store
        self.shard = shard_reader(url, percent, store.clock) if url else None
        self.checkpoint = BEGIN
        discovery = store.lease("stream", "feed", _HOUR_MS)
        assert discovery is not None and store.track(discovery, [(PARTITION, BEGIN, 0)])
        lease = store.lease(PARTITION, "feed", _HOUR_MS)
        assert lease is not None
        self.lease = lease

    def page(self) -> int:
        """Read and publish one page; the number of changes published."""
        assert self.shard is not None
        batch = self.shard.next_batch()
        self.store.publish(self.lease, self.checkpoint, batch.checkpoint, batch.changes, batch.counts)
        self.checkpoint = batch.checkpoint
        return len(batch.changes)

    def synthetic(self, keys: list[bytes]) -> None:
        """Publish one change of each key, whatever the stream holds."""
        now = self.store.now_ms()
        self._publish([Change(key, ABSENT, _SOME_DIGEST, now) for key in keys], f"synthetic {keys[0]!r}")

    def rewrites(self, key: bytes, first: int, count: int) -> None:
        """Publish the versions first … first + count - 1 of one key."""
        now = self.store.now_ms()
        digests = [b"%016d" % number for number in range(first - 1, first + count)]
        changes = [Change(key, before, after, now) for before, after in pairwise(digests)]
        self._publish(changes, f"version {first + count} of {key!r}")

    def _publish(self, changes: list[Change], place: str) -> None:
        following = Position(PositionKind.AFTER, place, self.store.now_ms()).checkpoint()
        counts = Counts(len(changes), 0, {"INSERT": len(changes)})
        reply = self.store.publish(self.lease, self.checkpoint, following, changes, counts)
        assert reply.outcome is Outcome.PUBLISHED
        self.checkpoint = following


def open_store(redis_url: str) -> BenchStore:
    """A migration of its own on that server."""
    return BenchStore.begin(redis_url, f"bench-{uuid.uuid4().hex[:8]}", {"benchmark": "yes"})


def publishing(url: str, redis_url: str, percent: float, pages: int) -> Round:
    """next_batch and store.publish."""
    feed = Feed(url, open_store(redis_url), percent)
    server_seconds = server_clock(redis_url)
    garbage.freeze()

    def run() -> Figures:
        started, server_started = own_cpu_seconds(), server_seconds()
        for _ in range(pages):
            feed.page()
        records = pages * 1000
        return {
            "us": (own_cpu_seconds() - started) / records * 1e6,
            "redis_us": (server_seconds() - server_started) / records * 1e6,
        }

    return run


def server_clock(redis_url: str) -> Callable[[], float]:
    """CPU seconds that the Redis server has used."""
    client = redis.Redis.from_url(redis_url)

    def seconds() -> float:
        cpu = client.info("cpu")
        return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])

    return seconds


def server_memory(redis_url: str) -> Callable[[], int]:
    """Bytes that the Redis server's data takes."""
    client = redis.Redis.from_url(redis_url)
    return lambda: int(client.info("memory")["used_memory_dataset"])


def server_log(redis_url: str) -> Callable[[], int]:
    """Bytes of the Redis server's append-only file."""
    client = redis.Redis.from_url(redis_url)
    return lambda: int(client.info("persistence")["aof_current_size"])


def make_validator(url: str, store: ValidatorStore, stable_for_ms: int) -> Validator:
    connection = Connection(SideConfig("target", region="us-east-1", endpoint_url=url))
    table = TableReader(connection, TABLE, SCHEMA)
    counted, stop = metrics.start(None, "bench").of_validator("bench"), threading.Event()
    target, source = (
        SideReader(side, table, counted, digester=Digester(), stop=stop)
        for side in (Side.TARGET, Side.SOURCE)
    )
    policy = Policy(converge_within_ms=60_000, stable_for_ms=stable_for_ms)
    return Validator(store, target, source, policy, counted, consumer="bench")


def validator(url: str, redis_url: str, pages: int, threads: int, stable_for_ms: int) -> Round:
    """claim, batch get, judge, commit."""
    return judging(url, redis_url, Feed(url, open_store(redis_url)), pages, threads, stable_for_ms)


def judging(url: str, redis_url: str, feed: Feed, pages: int, threads: int, stable_for_ms: int) -> Round:
    """The same on a migration that is there; with stable_for_ms=1 each key is also closed in its round."""
    store = feed.store
    judge = make_validator(url, store, stable_for_ms)
    server_seconds = server_clock(redis_url)
    garbage.freeze()

    def work() -> None:
        while judge.step():
            pass

    def run() -> Figures:
        keys = sum(feed.page() for _ in range(pages))
        judged_before = store.ledger().matches
        started, server_started, clock = own_cpu_seconds(), server_seconds(), time.monotonic()
        with ThreadPoolExecutor(threads) as pool:
            for loop in [pool.submit(work) for _ in range(threads)]:
                loop.result()
        seconds = time.monotonic() - clock
        figures = {
            "us": (own_cpu_seconds() - started) / keys * 1e6,
            "redis_us": (server_seconds() - server_started) / keys * 1e6,
            "keys_per_second": keys / seconds,
        }
        if store.ledger().matches - judged_before != keys:
            raise AssertionError("not every key was judged a match")
        return figures

    return run


def park(feed: Feed, keys: list[bytes]) -> None:
    """Give these keys a history and a look that is due in an hour, at little cost."""
    feed.synthetic(keys)
    claim = feed.store.claim("parking", len(keys), 0)
    assert len(claim.entries) == len(keys)
    later = claim.now_ms + _HOUR_MS
    feed.store.commit([Commit(entry, entry.raw, later, "") for entry in claim.entries], claim.now_ms)
