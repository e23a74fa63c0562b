"""The publisher against a real store, and streams over HTTP: every change once, whatever befalls readers."""

import ctypes
import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import boto3
import pytest

from pipeline import metrics
from pipeline.aws import Connection, StreamClient
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.canonical import Digester, KeySchema
from pipeline.core.model import ABSENT, Change, Checkpoint, Counts, SideConfig
from pipeline.core.sampling import Sampler
from pipeline.errors import AccessDenied, ConfigurationError, NotFound, StateLost
from pipeline.metrics import ReaderMetrics
from pipeline.process.pool import Pool
from pipeline.producers.base import Producer
from pipeline.producers.stream.discovery import Discoverer
from pipeline.producers.stream.listing import Pace
from pipeline.producers.stream.position import Position, PositionKind, partition_of, stream_of
from pipeline.producers.stream.producer import StreamProducer
from pipeline.producers.stream.records import Selector
from pipeline.reader.idling import IdlePolls
from pipeline.reader.publisher import Publisher
from pipeline.reader.role import run_reader
from pipeline.serving import Lane, Service, Work
from pipeline.store import ReaderStore, StoreView, codec
from pipeline.store.messages import Commit, Lease
from tests import servers
from tests.fake.control import Control
from tests.fake.server import Fake
from tests.servers import eventually
from tests.whole_store import WholeStore, watch

SETTINGS = {"target_table": "orders"}


def serve(
    store: ReaderStore,
    producer: Producer,
    own: ReaderMetrics,
    stop: threading.Event,
    *,
    threads: int,
    max_backlog: int = 100_000,
) -> None:
    """One producer alone, as the role does."""
    reading = Pool(threads)

    def begin(lane: Lane) -> Work:
        return Publisher(store, producer, own, lane, reading.turns, IdlePolls(), max_backlog=max_backlog)

    service = Service("reader", [(store.migration, begin)], metrics.start(None, "reader"), [reading])
    service.run(stop, lambda **_: None)


class Rig:
    """One migration: a table with a stream, a store, and as many readers as a test starts."""

    def __init__(self, fake: Fake, store_url: str, tmp_path: Path, *, shards: int = 1) -> None:
        self.url = fake.url
        self.fake: Control = fake.control
        self.store_url = store_url
        self.migration = f"test-{uuid.uuid4().hex}"
        self.store = WholeStore.begin(store_url, self.migration, SETTINGS)
        arn = self.fake.create_table("orders", view="NEW_AND_OLD_IMAGES", shards=shards)
        assert arn is not None
        self.arn = arn
        self.label = arn.rpartition("/")[2]

    def serve(
        self,
        stop: threading.Event,
        *,
        from_latest: bool = False,
        threads: int = 8,
        max_backlog: int = 100_000,
    ) -> None:
        """As the role does. Raises what that ends with."""
        connection = Connection(SideConfig("stream", endpoint_url=self.url, region="us-east-1"))
        store = ReaderStore.begin(self.store_url, self.migration, SETTINGS)
        client = StreamClient(connection)
        discoverer = Discoverer(
            client,
            self.arn,
            "orders",
            store.clock.now_ms,
            stop,
            started_ms=self.store.meta.started_ms,
            from_latest=from_latest,
            pace=Pace(0.0),
        )
        own = metrics.start(None, "reader").of_reader(self.migration, "source")
        producer = StreamProducer(
            client,
            discoverer,
            Selector(KeySchema("pk", "S", None, None), Sampler(100), Digester()),
            store.clock,
            own,
        )
        serve(store, producer, own, stop, threads=threads, max_backlog=max_backlog)

    @contextmanager
    def reading(self, *, from_latest: bool = False, **options: int) -> Iterator[threading.Event]:
        """A reader in threads of this process; stopped in order at the end."""
        stop = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                self.serve(stop, from_latest=from_latest, **options)
            except BaseException as error:  # noqa: BLE001  # whatever it is fails the test
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield stop
        finally:
            stop.set()
            thread.join(120)
        assert not thread.is_alive()
        if failures:
            raise failures[0]

    def read(self) -> int:
        return self.store.ledger().records_read

    def wait_until_read(self, count: int, deadline_seconds: float = 60) -> None:
        eventually(lambda: self.read() >= count, deadline_seconds, f"{count} records read")

    def versions_by_key(self) -> Counter[bytes]:
        """Published versions of each key that waits for a validator."""
        claim = self.store.claim("test", 1_000_000, 0)
        return Counter({entry.key: (len(entry.raw) - 29) // 24 for entry in claim.entries})

    def positions(self) -> dict[str, Position]:
        return {name: Position.of(at) for name, at in self.store.partitions().items()}


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        yield one


@pytest.fixture
def rig(fake: Fake, valkey_url: str, tmp_path: Path) -> Rig:
    return Rig(fake, valkey_url, tmp_path)


def assert_each_once(rig: Rig, count: int) -> None:
    """`count` different keys, each INSERTed once: an absent version and one more per key, nothing else."""
    ledger = rig.store.ledger()
    assert (ledger.records_read, ledger.versions_published, ledger.records["INSERT"]) == (count, count, count)
    assert ledger.balanced
    versions = rig.versions_by_key()
    assert len(versions) == count and set(versions.values()) == {2}


@pytest.mark.slow
def test_ten_thousand_changes_in_a_hundred_shards_are_all_published_once(
    fake: Fake, valkey_url: str, tmp_path: Path
):
    """With 8 threads: a reader that bound a thread to a shard would never read the other 92."""
    rig = Rig(fake, valkey_url, tmp_path, shards=100)
    rig.fake.fill("orders", 10_000)

    with rig.reading():
        rig.wait_until_read(10_000)

    assert_each_once(rig, 10_000)


def test_splits_and_rollovers_are_followed_parents_first(rig: Rig):
    """200 versions of the same keys over four generations of shards arrive in the order of the writes."""
    for generation in range(4):
        for number in range(50):
            rig.fake.put("orders", {"pk": {"S": f"k{number}"}, "v": {"N": str(generation)}})
        for shard in [one for one in rig.fake.shards("orders") if not one["closed"]]:
            rig.fake.split("orders", shard["id"], ways=1 + generation % 2)

    with rig.reading():
        rig.wait_until_read(200)

    ledger = rig.store.ledger()
    assert (ledger.records_read, ledger.records_repeated) == (200, 0)
    claim = rig.store.claim("test", 1000, 0)
    assert len(claim.entries) == 50
    assert not any(codec.decode(entry.raw).incomplete for entry in claim.entries)


def test_a_shard_listed_late_is_found(rig: Rig):
    rig.fake.fill("orders", 10)
    parent = rig.fake.shards("orders")[0]["id"]
    [child] = rig.fake.split("orders", parent, ways=1)
    rig.fake.hide_shard("orders", child)
    rig.fake.fill("orders", 10, start=10)

    with rig.reading():
        rig.wait_until_read(10)
        rig.fake.show_shard("orders", child)
        rig.wait_until_read(20)

    assert_each_once(rig, 20)


def test_changes_made_while_reading_show_within_seconds_and_the_watermark_follows(rig: Rig):
    with rig.reading():
        eventually(lambda: rig.store.reader_state().watermark_ms)
        rig.fake.fill("orders", 10)
        written_ms = rig.store.now_ms()
        rig.wait_until_read(10)
        eventually(lambda: rig.store.reader_state().watermark_ms > written_ms)


def test_the_watermark_is_unknown_until_every_shard_was_begun(rig: Rig):
    rig.fake.fail("throttle", "GetRecords", calls=None)
    with rig.reading():
        eventually(lambda: rig.fake.calls("GetRecords"))
        eventually(lambda: rig.store.reader_state().partitions_open)
        assert rig.store.reader_state().watermark_ms == 0


def test_trimmed_records_are_a_named_gap_and_the_rest_is_read(rig: Rig):
    rig.fake.fill("orders", 10)
    with rig.reading():
        rig.wait_until_read(10)
    rig.fake.fill("orders", 10, start=10)
    rig.fake.trim("orders", records=15)

    with rig.reading():
        rig.wait_until_read(15)

    [gap] = rig.store.gaps()
    assert gap.reason == "trimmed" and gap.position.startswith("after|")
    assert gap.partition.startswith(stream_of(rig.label))
    assert_each_once(rig, 15)


def test_a_shard_that_cannot_be_read_is_a_gap_and_its_children_are_read(rig: Rig):
    rig.fake.fill("orders", 10)
    parent = rig.fake.shards("orders")[0]["id"]
    rig.fake.split("orders", parent)
    rig.fake.fill("orders", 10, start=10)
    rig.fake.trim("orders", parent, shows="as_not_found")

    with rig.reading():
        rig.wait_until_read(10)

    assert [gap.reason for gap in rig.store.gaps()] == ["shard not found"]


def test_a_vanished_shard_is_a_gap_and_its_children_are_read(rig: Rig):
    """Tracked, unfinished, and gone from the listing while no reader ran."""
    rig.fake.fill("orders", 10)
    with rig.reading():
        rig.wait_until_read(10)
    parent = rig.fake.shards("orders")[0]["id"]
    rig.fake.split("orders", parent, ways=1)
    rig.fake.vanish("orders", parent)
    rig.fake.fill("orders", 10, start=10)

    with rig.reading():
        rig.wait_until_read(20)

    assert [gap.reason for gap in rig.store.gaps()] == ["shard not found"]


def test_a_stream_enabled_anew_is_read_after_the_old_one_with_one_gap(rig: Rig):
    rig.fake.fill("orders", 10)
    with rig.reading():
        rig.wait_until_read(10)
        rig.fake.fill("orders", 10, start=10)
        rig.fake.disable_stream("orders")
        rig.fake.enable_stream("orders")
        rig.fake.fill("orders", 10, start=20)
        rig.wait_until_read(30)

    assert [(gap.partition, gap.reason) for gap in rig.store.gaps()] == [
        (stream_of(rig.label), "stream disabled")
    ]
    assert_each_once(rig, 30)


def test_expired_iterators_and_throttling_lose_nothing(rig: Rig):
    with rig.reading():
        for round_ in range(5):
            rig.fake.fill("orders", 10, start=10 * round_)
            rig.fake.fail(
                ("throttle", "expired_iterator", "truncate", "hang_up", "internal_error")[round_],
                "GetRecords",
            )
            rig.fake.expire_iterators("orders")
            rig.wait_until_read(10 * round_ + 10)

    assert_each_once(rig, 50)


def test_a_shard_is_asked_at_most_four_times_a_second(rig: Rig):
    rig.fake.fill("orders", 3_500)
    began = time.monotonic()
    with rig.reading():
        rig.wait_until_read(3_500)
    took = time.monotonic() - began

    assert rig.fake.calls("GetRecords") <= 4 * took + 1


def test_latest_restarted_before_the_first_record_loses_nothing(rig: Rig):
    rig.fake.fill("orders", 10)
    old = rig.store.now_ms() / 1000 - 3600
    for shard in rig.fake._stream("orders").shards.values():
        shard.records = [_dated(record, old) for record in shard.records]
    with rig.reading(from_latest=True):
        eventually(lambda: any(position.at_ms for position in rig.positions().values()))
    rig.fake.fill("orders", 10, start=10)

    with rig.reading(from_latest=True):
        rig.wait_until_read(10)

    assert_each_once(rig, 10)


def _dated(record: bytes, seconds: float) -> bytes:
    head, _, tail = record.partition(b'"ApproximateCreationDateTime":')
    return head + b'"ApproximateCreationDateTime":' + str(seconds).encode() + tail[len(tail.split(b",")[0]) :]


def test_a_restart_goes_on_where_the_last_reader_stopped(rig: Rig):
    for round_ in range(3):
        rig.fake.fill("orders", 50, start=50 * round_)
        with rig.reading():
            rig.wait_until_read(50 * round_ + 50)

    ledger = rig.store.ledger()
    assert ledger.records_repeated == 0
    assert_each_once(rig, 150)


def test_a_reader_that_stops_gives_its_leases_back_at_once(rig: Rig):
    with rig.reading():
        eventually(lambda: rig.store.reader_state().partitions_open)
        eventually(lambda: rig.fake.calls("GetRecords"))
    partition = next(iter(rig.store.partitions()))

    assert rig.store.lease(partition, "other", 1000) is not None
    assert rig.store.reader_state().readers == 0


def test_two_readers_share_the_shards_and_publish_everything_once(
    fake: Fake, valkey_url: str, tmp_path: Path
):
    rig = Rig(fake, valkey_url, tmp_path, shards=9)
    with rig.reading():
        rig.fake.fill("orders", 300)
        rig.wait_until_read(300)
        with rig.reading():
            eventually(lambda: sorted(_leases(rig).values()) == [4, 5], 30, "a fair share for each")
            rig.fake.fill("orders", 300, start=300)
            rig.wait_until_read(600)
        rig.fake.fill("orders", 300, start=600)
        rig.wait_until_read(900)

    assert_each_once(rig, 900)


def _leases(rig: Rig) -> Counter[str]:
    """Owner → leases of shards that have not run out."""
    raw = cast(dict[bytes, bytes], rig.store._redis.hgetall(rig.store._key("leases")))
    now = rig.store.now_ms()
    owners = [lease.decode().split("|", 2) for name, lease in raw.items() if b"/" in name]
    return Counter(owner for _, expires, owner in owners if int(expires) > now)


def test_a_reader_that_lost_its_lease_publishes_nothing_more(rig: Rig):
    """Another reader takes the partition over while this one is reading it: its epoch is too old."""
    rig.fake.fill("orders", 10)
    with rig.reading():
        rig.wait_until_read(10)
        partition = next(iter(rig.store.partitions()))
        rig.store._redis.hset(rig.store._key("leases"), partition, f"999|{rig.store.now_ms() + 1500}|other")
        rig.fake.fill("orders", 10, start=10)
        eventually(lambda: not _leases(rig) or rig.read() == 20)
        rig.wait_until_read(20)  # once the other's lease has run out

    assert_each_once(rig, 20)


def test_a_reader_that_was_suspended_and_overtaken_reports_no_gap(rig: Rig):
    """What it finds trimmed when it wakes up, another reader has read in the meantime."""
    rig.fake.fill("orders", 10)
    with rig.reading():
        rig.wait_until_read(10)
        [(partition, at)] = rig.positions().items()
        rig.store._redis.hset(rig.store._key("leases"), partition, f"999|{rig.store.now_ms() + 1500}|other")
        rig.fake.fill("orders", 10, start=10)
        read = Position(PositionKind.AFTER, str(int(at.sequence) + 10), at.at_ms)
        rig.store._redis.hset(rig.store._key("checkpoints"), partition, read.checkpoint().encode())
        rig.fake.trim("orders", records=20)
        rig.fake.expire_iterators("orders")
        rig.fake.fill("orders", 10, start=20)
        rig.wait_until_read(20)

    assert rig.store.gaps() == []


def test_a_checkpoint_that_somebody_else_moved_is_taken_over(rig: Rig):
    """A conflict: what is in the store counts, not what this reader believes."""
    rig.fake.fill("orders", 10)
    with rig.reading():
        rig.wait_until_read(10)
        [partition] = rig.store.partitions()
        shard = rig.fake._stream("orders").shards[rig.fake.shards("orders")[0]["id"]]
        back = Position(PositionKind.AFTER, str(shard.first_sequence + 4), 1)
        rig.store._redis.hset(rig.store._key("checkpoints"), partition, back.checkpoint().encode())
        rig.fake.fill("orders", 10, start=10)
        rig.wait_until_read(25)

    assert rig.store.ledger().records_read == 25  # 5 to 9 again: the store was rolled back behind them


def test_a_store_that_went_back_is_read_for_again_though_nothing_new_is_written(rig: Rig):
    """A Redis restarted from an older snapshot: an idle shard publishes nothing that could be refused."""
    rig.fake.fill("orders", 10)
    with rig.reading():
        rig.wait_until_read(10)
        before = _dump(rig)
        rig.fake.fill("orders", 10, start=10)
        rig.wait_until_read(20)
        reached = eventually(lambda: rig.store.reader_state().watermark_ms)
        eventually(lambda: rig.store.reader_state().watermark_ms > reached, 30, "the watermark moves on")
        _restore(rig, before)
        rig.wait_until_read(20)
    assert_each_once(rig, 20)


def _keys(rig: Rig) -> list[bytes]:
    return list(rig.store._redis.scan_iter(match=rig.store._key("*"), count=1000))


def _dump(rig: Rig) -> dict[bytes, bytes]:
    return {key: rig.store._redis.dump(key) or b"" for key in _keys(rig)}


def _restore(rig: Rig, state: dict[bytes, bytes]) -> None:
    pipe = rig.store._redis.pipeline(transaction=True)
    pipe.delete(*_keys(rig))
    for key, value in state.items():
        pipe.restore(key, 0, value)
    pipe.execute()


def test_reading_pauses_while_validators_are_behind_and_goes_on_after(rig: Rig):
    rig.fake.fill("orders", 3_000)
    with rig.reading(max_backlog=500):
        rig.wait_until_read(1_000)
        calls = eventually(lambda: _stands_still(lambda: rig.fake.calls("GetRecords")))
        assert rig.read() == 1_000 and calls
        _validate_everything(rig.store)
        rig.wait_until_read(2_000)
        assert rig.read() == 2_000


def _stands_still(value: Callable[[], int]) -> int:
    """The value when it did not change over several turns of an idle reader, else 0."""
    before = value()
    time.sleep(1.0)  # the time itself is what is looked at
    return before if value() == before else 0


def _validate_everything(store: WholeStore) -> None:
    claim = store.claim("test", 100_000, 0)
    store.commit([Commit(entry, b"", 0, "") for entry in claim.entries], claim.now_ms)


def test_an_unreachable_store_loses_nothing_and_reads_nothing_meanwhile(fake: Fake, tmp_path: Path):
    port = servers.free_port()
    binary, directory = servers.valkey_binary(), tmp_path / "valkey"
    with servers.redis_like(binary, directory, "--appendfsync", "always", port=port) as url:
        rig = Rig(fake, url, tmp_path, shards=20)
        with rig.reading():
            rig.fake.fill("orders", 100)
            rig.wait_until_read(100)
            os.kill(_pid(rig.store), signal.SIGKILL)
            rig.fake.fill("orders", 200, start=100)
            # As many calls as there are threads may be under way; after those, nothing new is read.
            eventually(lambda: _stands_still(lambda: rig.fake.calls("GetRecords")))
            with servers.redis_like(binary, directory, "--appendfsync", "always", port=port):
                rig.wait_until_read(300)
                assert_each_once(rig, 300)


def _pid(store: WholeStore) -> int:
    return int(store._redis.info("server")["process_id"])


def test_missing_permissions_end_the_reader_at_its_start(rig: Rig):
    rig.fake.fail("access_denied", "GetRecords", calls=None)
    stop = threading.Event()
    with pytest.raises(AccessDenied):
        rig.serve(stop)


def test_permissions_lost_later_are_waited_for(rig: Rig):
    with rig.reading():
        eventually(lambda: rig.fake.calls("GetRecords"))
        rig.fake.fail("access_denied", "GetRecords", calls=3)
        rig.fake.fill("orders", 10)
        rig.wait_until_read(10)


def test_a_stream_that_does_not_exist_ends_the_reader_at_its_start(rig: Rig):
    rig.arn = rig.arn.replace("/stream/2026", "/stream/2020")
    stop = threading.Event()
    with pytest.raises(NotFound):
        rig.serve(stop)


def test_expired_credentials_are_waited_for(rig: Rig):
    with rig.reading():
        eventually(lambda: rig.fake.calls("GetRecords"))
        rig.fake.fail("expired_token", "GetRecords", calls=2)
        rig.fake.fill("orders", 10)
        rig.wait_until_read(10)

    assert_each_once(rig, 10)


def test_a_partition_of_a_killed_reader_is_taken_over_and_its_late_batch_refused(rig: Rig):
    rig.fake.fill("orders", 10)
    dead = rig.store
    partition = partition_of(rig.label, rig.fake.shards("orders")[0]["id"])
    begin = Position(PositionKind.TRIM_HORIZON).checkpoint()
    dead.register(partition, begin)
    taken = dead.lease(partition, "killed", 2_000)
    assert isinstance(taken, Lease)

    with rig.reading():
        rig.wait_until_read(10)

    late = dead.publish(
        taken,
        begin,
        Checkpoint(b"1"),
        [Change(b'"k"', ABSENT, b"x" * 16, 1)],
        Counts(1, 0, {"INSERT": 1}),
    )
    assert late.outcome == "fenced"
    assert_each_once(rig, 10)


# --- whole processes ---------------------------------------------------------------------------------------


def _sides(url: str) -> dict[str, Any]:
    return {
        side: SideConfig(side, region="us-east-1", endpoint_url=url)
        for side in ("source", "target", "stream")
    }


def _config(rig: Rig, **more: Any) -> tuple[ProcessConfig, tuple[MigrationConfig, ...]]:
    migration = MigrationConfig(
        name=rig.migration,
        **_sides(rig.url),
        source_table="orders",
        target_table="orders",
        **{"iterator_type": "TRIM_HORIZON", **more},
    )
    return ProcessConfig(redis_url=rig.store_url, reader_threads=2), (migration,)


def _read_for_ever(config: tuple[ProcessConfig, tuple[MigrationConfig, ...]], parent: int) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # dies with the test
    if os.getppid() == parent:
        run_reader(*config, threading.Event(), metrics.start(None, "reader"), lambda **_: None)


@contextmanager
def _restarted_role(rig: Rig, **more: Any) -> Iterator[None]:
    """run_reader in a thread; begun again, as the supervisor does, when it ends with StateLost."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            with suppress(StateLost):
                run_reader(*_config(rig, **more), stop, metrics.start(None, "reader"), lambda **_: None)

    role = threading.Thread(target=run)
    role.start()
    try:
        yield
    finally:
        stop.set()
        role.join(120)
    assert not role.is_alive()


@pytest.mark.parametrize("iterator_type", ["LATEST", "TRIM_HORIZON"])
def test_a_store_that_lost_its_state_is_filled_with_all_since_the_watch_began_and_tells_a_gap(
    rig: Rig, iterator_type: str
):
    _restore(rig, {})
    for number in range(10):
        old = {"pk": {"S": f"old-{number}"}}
        rig.fake.put("orders", old, created=time.time() - 600)
    with _restarted_role(rig, iterator_type=iterator_type):
        began = Position(PositionKind.LATEST) if iterator_type == "LATEST" else None
        eventually(lambda: began not in (positions := rig.positions().values()) and positions)
        rig.fake.fill("orders", 10, start=10)
        read = 10 if iterator_type == "LATEST" else 20
        rig.wait_until_read(read)
        started_ms = _started_ms(rig)
        _restore(rig, {})
        rig.fake.fill("orders", 10, start=20)
        rig.wait_until_read(read + 10)
        assert [gap.reason for gap in rig.store.gaps()] == ["state lost"]
        assert _started_ms(rig) == started_ms
    assert_each_once(rig, read + 10)


def _started_ms(rig: Rig) -> int:
    store = StoreView.open(rig.store_url, rig.migration)
    assert store is not None
    return store.meta.started_ms


@pytest.mark.slow
def test_a_reader_killed_again_and_again_publishes_every_change_once(valkey_url: str, tmp_path: Path):
    """Two kill -9 at arbitrary points while pages are read and published."""
    context = multiprocessing.get_context("spawn")
    with Fake() as fake:
        rig = Rig(fake, valkey_url, tmp_path, shards=3)
        config = _config(rig)
        rig.store._redis.delete(rig.store._key("meta"))  # begun by the readers, with their settings
        for life in range(3):
            rig.fake.fill("orders", 2_000, start=2_000 * life)
            reader = context.Process(target=_read_for_ever, args=(config, os.getpid()))
            reader.start()
            aim = 2_000 * life + (1 if life < 2 else 2_000)
            rig.wait_until_read(aim)
            assert reader.pid is not None
            os.kill(reader.pid, signal.SIGKILL)
            reader.join()

    assert_each_once(rig, 6_000)


def test_the_role_reads_the_latest_stream_of_the_origin_table(rig: Rig):
    rig.store._redis.delete(rig.store._key("meta"))
    rig.fake.fill("orders", 10)
    stop, beats = threading.Event(), []
    own = metrics.start(None, "reader")
    role = threading.Thread(
        target=run_reader, args=(*_config(rig, sample_rate=50.0), stop, own, lambda **_: beats.append(1))
    )
    role.start()
    rig.wait_until_read(10)
    stop.set()
    role.join(120)

    assert not role.is_alive() and beats
    sampled = rig.store.ledger().versions_published
    labels = {"migration": rig.migration}
    assert own.registry.get_sample_value("ddbmm_keys_sampled_total", labels) == sampled < 10
    read = labels | {"table": "source", "change": "INSERT"}
    assert own.registry.get_sample_value("ddbmm_stream_records_read_total", read) == 10
    assert own.registry.get_sample_value("ddbmm_sample_ratio", labels) == 0.5


def test_a_table_without_a_stream_is_refused_with_the_remedy(rig: Rig):
    rig.store._redis.delete(rig.store._key("meta"))
    rig.fake.disable_stream("orders")
    with pytest.raises(ConfigurationError, match="enable one"):
        run_reader(*_config(rig), threading.Event(), metrics.start(None, "reader"), lambda **_: None)


@pytest.mark.parametrize("iterator_type", ["LATEST", "TRIM_HORIZON"])
def test_motos_stream_is_read(moto_url: str, valkey_url: str, iterator_type: str):
    """An independent implementation of the protocol."""
    table = f"orders-{uuid.uuid4().hex[:8]}"
    dynamodb = boto3.client("dynamodb", endpoint_url=moto_url, region_name="us-east-1")
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "N"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    dynamodb.put_item(TableName=table, Item={"pk": {"N": "0"}})
    migration = MigrationConfig(
        name=f"test-{uuid.uuid4().hex}",
        **_sides(moto_url),
        source_table=table,
        target_table=table,
        iterator_type=iterator_type,
    )
    stop, store = threading.Event(), watch(valkey_url, migration.name)
    process = ProcessConfig(redis_url=valkey_url)
    role = threading.Thread(
        target=run_reader, args=(process, (migration,), stop, metrics.start(None, "reader"), lambda **_: None)
    )
    role.start()
    eventually(lambda: any(Position.of(at).at_ms for at in store.partitions().values()))
    for number in range(1, 11):
        dynamodb.put_item(TableName=table, Item={"pk": {"N": str(number)}, "v": {"S": "x"}})
    expected = 10 if iterator_type == "LATEST" else 11
    eventually(lambda: store.ledger().records_read >= expected)
    stop.set()
    role.join(120)

    assert store.ledger().records["INSERT"] == expected
