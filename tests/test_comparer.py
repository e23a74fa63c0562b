"""The comparer's engine against the fake and a real store: what it counts and whom it suspects."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from pipeline.aws import Connection, SideConfig, TableScanner
from pipeline.comparer.comparer import Comparer
from pipeline.comparer.hand import SUSPECTS, Hand
from pipeline.comparer.pace import TABLE_SEGMENTS, SidePace
from pipeline.comparer.work import Sizes, TableWork
from pipeline.core.canonical import Digester, KeySchema
from pipeline.core.comparing.keys import KeyReader
from pipeline.core.comparing.state import CompareSettings, Comparison, Tally
from pipeline.core.model import Side
from pipeline.store.compare_store import Beginning, Standing
from tests.fake import Fake, errors
from tests.fake.faults import Kind
from tests.servers import eventually
from tests.validating import own_store
from tests.whole_store import WholeStore

SCHEMA = KeySchema("pk", "S")
SIDES = {"source": Side.SOURCE, "target": Side.TARGET}


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as fake:
        for table in SIDES:
            fake.control.create_table(table)
        fake.world.scans.page_bytes = 2_000
        yield fake


@pytest.fixture
def store(valkey_url: str) -> Iterator[WholeStore]:
    with own_store(valkey_url) as store:
        yield store


class Bench:
    """A comparison, and comparers of it that share one store."""

    def __init__(
        self, fake: Fake, store: WholeStore, segments: int, schema: KeySchema = SCHEMA, percent: float = 100
    ) -> None:
        self.fake, self.store, self.schema = fake, store, schema
        self.settings = CompareSettings(table_bytes=0, sample_percent=percent, segments=segments)
        self.id = store.begin_comparison(self.settings, Beginning.BEGIN).id
        self.stop = threading.Event()

    def work(self, unmatched: int = 10**9, tables: dict[str, Side] = SIDES) -> TableWork:
        connection = Connection(SideConfig("source", region="us-east-1", endpoint_url=self.fake.url))
        keys = KeyReader(self.schema)
        return TableWork(
            keys,
            Digester(frozenset({"ignored"})),
            {side: TableScanner(connection, name, keys) for name, side in tables.items()},
            Sizes(unmatched, 1),
            {side: SidePace(0) for side in Side},
            count_partitions=self.schema.sort_key is not None,
        )

    def comparer(
        self,
        unmatched: int = 10**9,
        most_waiting: int = 10**9,
        owner: str = "me",
        tables: dict[str, Side] = SIDES,
    ) -> Comparer:
        return Comparer(
            self.store,
            self.id,
            self.settings.partitions(),
            self.work(unmatched, tables),
            owner=owner,
            leads=False,
            most_waiting=most_waiting,
            stop=self.stop,
        )

    def run(self, **how: Any) -> Comparison:
        comparer = self.comparer(**how)
        while comparer.step():
            pass
        return self.comparison()

    def comparison(self) -> Comparison:
        found = self.store.figures().comparison
        assert found is not None
        return found

    def suspects(self) -> set[str]:
        raw = self.store._redis.hkeys(self.store._key("history"))
        return {msgspec.json.decode(key) for key in raw}


def put(fake: Fake, key: str, source: dict[str, Any] | None, target: dict[str, Any] | None) -> None:
    for table, item in (("source", source), ("target", target)):
        if item is not None:
            fake.control.put(table, {"pk": {"S": key}, **item})


def equal_items(fake: Fake, count: int) -> None:
    for number in range(count):
        put(fake, f"k{number}", {"v": {"N": str(number)}}, {"v": {"N": str(number)}})


def test_equal_tables_are_counted_and_suspect_nobody(fake: Fake, store: WholeStore) -> None:
    equal_items(fake, 200)
    found = Bench(fake, store, segments=7).run()
    assert (found.done, found.planned) == (7, 7)
    assert (found.tally.equal, found.tally.items(Side.SOURCE), found.tally.items(Side.TARGET)) == (200,) * 3
    assert found.tally.suspects == store.ledger().suspects_published == 0
    assert found.tally.units(Side.SOURCE) > 0 and found.tally.imbalance == ""


@pytest.mark.parametrize(
    ("name", "source", "target"),
    [
        ("missing", {"v": {"S": "a"}}, None),
        ("extra", None, {"v": {"S": "a"}}),
        ("different", {"v": {"S": "a"}}, {"v": {"S": "b"}}),
        ("type", {"v": {"S": "1"}}, {"v": {"N": "1"}}),
        ("nested", {"v": {"M": {"x": {"L": [{"N": "1"}]}}}}, {"v": {"M": {"x": {"L": [{"N": "2"}]}}}}),
        ("emptied", {"v": {"S": "a"}}, {"v": {"S": ""}}),
        ("attribute", {"v": {"S": "a"}}, {"v": {"S": "a"}, "w": {"NULL": True}}),
    ],
)
def test_what_differs_is_a_suspect(
    fake: Fake, store: WholeStore, name: str, source: dict[str, Any] | None, target: dict[str, Any] | None
) -> None:
    equal_items(fake, 20)
    put(fake, name, source, target)
    bench = Bench(fake, store, segments=3)
    assert bench.run().tally.suspects == 1
    assert bench.suspects() == {name}
    assert store.ledger().balanced


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ({"n": {"N": "1"}}, {"n": {"N": "1.0"}}),
        ({"n": {"NS": ["1", "20"]}}, {"n": {"NS": ["2E1", "1.0"]}}),
        ({"s": {"SS": ["a", "b"]}}, {"s": {"SS": ["b", "a"]}}),
        ({"a": {"S": "1"}, "b": {"S": "2"}}, {"b": {"S": "2"}, "a": {"S": "1"}}),
        ({"v": {"S": "1"}, "ignored": {"S": "x"}}, {"v": {"S": "1"}, "ignored": {"S": "y"}}),
        ({"v": {"S": "1"}}, {"v": {"S": "1"}, "aws:rep:updatetime": {"N": "1"}}),
    ],
)
def test_what_is_only_spelled_otherwise_is_equal(
    fake: Fake, store: WholeStore, source: dict[str, Any], target: dict[str, Any]
) -> None:
    put(fake, "k", source, target)
    found = Bench(fake, store, segments=2).run()
    assert (found.tally.equal, found.tally.suspects) == (1, 0)


def test_one_key_in_different_segments_of_the_tables_is_one_suspect(fake: Fake, store: WholeStore) -> None:
    """It is not documented that this cannot be. Nothing is lost: each is looked up."""
    fake.world.scans.salts["target"] = "other"
    equal_items(fake, 100)
    bench = Bench(fake, store, segments=8)
    found = bench.run()
    moved = store.ledger().suspects_published
    assert moved == len(bench.suspects()) > 0
    assert found.tally.equal == 100 - moved
    assert (found.tally.source_only, found.tally.target_only, found.tally.imbalance) == (moved, moved, "")


def test_an_item_collection_beyond_the_bound_is_counted_whole(fake: Fake, store: WholeStore) -> None:
    """Of one side the items come in another order; what is let go is suspected, and found equal later."""
    for table in ("big-source", "big-target"):
        fake.control.create_table(table, sort_key="sk")
    for number in range(300):
        item = {"pk": {"S": "one"}, "sk": {"S": f"{number:04}"}, "v": {"S": "x" * 50}}
        fake.control.put("big-source", item)
        if number != 7:
            fake.control.put("big-target", item)
    big = {"big-source": Side.SOURCE, "big-target": Side.TARGET}
    bench = Bench(fake, store, 1, KeySchema("pk", "S", "sk", "S"))
    comparer = bench.comparer(unmatched=3_000, tables=big)
    while comparer.step():
        pass
    tally = bench.comparison().tally
    assert (tally.items(Side.SOURCE), tally.items(Side.TARGET), tally.imbalance) == (300, 299, "")
    assert tally.partition_keys == 1
    assert store.ledger().suspects_published >= 1


def test_tables_that_share_nothing_go_out_in_batches_within_the_bound(fake: Fake, store: WholeStore) -> None:
    for number in range(SUSPECTS + 200):
        put(fake, f"s{number}", {}, None)
        put(fake, f"t{number}", None, {})
    bench = Bench(fake, store, segments=1)
    tally = bench.run(unmatched=20_000).tally
    assert (tally.equal, tally.suspects) == (0, 2 * (SUSPECTS + 200))
    assert store.ledger().suspects_waiting == tally.suspects and store.ledger().balanced


def test_while_too_many_suspects_wait_nothing_more_is_read(fake: Fake, store: WholeStore) -> None:
    for number in range(10):
        put(fake, f"s{number}", {}, None)
    bench = Bench(fake, store, segments=1)
    comparer = bench.comparer(most_waiting=5)
    thread = threading.Thread(target=comparer.step)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive() and bench.comparison().done == 0
    store._redis.hset(store._key("ledger"), "suspects_waiting", 0)  # as if they had been answered
    thread.join(120)
    assert not thread.is_alive() and bench.comparison().done == 1


@pytest.mark.parametrize(
    "fault", [Kind.TRUNCATE, Kind.BAD_CRC, Kind.INTERNAL_ERROR, Kind.THROTTLE, Kind.HANG_UP]
)
def test_pages_that_fail_are_read_again_and_counted_once(
    fake: Fake, store: WholeStore, fault: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    equal_items(fake, 100)
    fake.faults.add(fault, "Scan", calls=3)
    tally = Bench(fake, store, segments=2).run().tally
    assert (tally.equal, tally.items(Side.SOURCE), tally.suspects) == (100, 100, 0)


def test_a_throttled_segment_keeps_nobody_else_waiting(
    fake: Fake, store: WholeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    equal_items(fake, 100)
    scan, hot = fake.world.operations["Scan"], threading.Event()

    def refusing(request: Any) -> bytes:
        if request["Segment"] == 0 and not hot.is_set():
            raise errors.ThrottledTable
        return scan(request)

    monkeypatch.setitem(fake.world.operations, "Scan", refusing)
    bench = Bench(fake, store, segments=8)
    comparer = bench.comparer()
    threads = [threading.Thread(target=run_out, args=(comparer,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: bench.comparison().done == 7)
    hot.set()
    until(lambda: bench.comparison().done == 8)
    for thread in threads:
        thread.join(120)
    assert bench.comparison().tally.equal == 100


def test_a_comparer_that_is_stopped_gives_its_partition_back(fake: Fake, store: WholeStore) -> None:
    equal_items(fake, 100)
    bench = Bench(fake, store, segments=1)
    bench.stop.set()
    bench.comparer().step()
    assert bench.comparison().done == 0
    bench.stop.clear()
    assert bench.run(owner="other").tally.equal == 100


def test_a_partition_that_was_lost_may_come_back_to_another_thread_of_the_same_process(
    fake: Fake, store: WholeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that slept: the lease ran out, and the next thread to ask takes it while the first is at it."""
    equal_items(fake, 100)
    bench = Bench(fake, store, segments=1)
    comparer = bench.comparer()
    read = comparer._read
    kept: list[set[int]] = []

    def interrupted(hand: Hand) -> Tally:
        monkeypatch.setattr(comparer, "_read", kept_while_read)
        store._redis.hset(store._key("comparison-leases"), "0", "1|0|me")
        thread = threading.Thread(target=comparer.step)
        thread.start()
        eventually(lambda: len(comparer._in_hand) == 2)
        hand.lost = True
        overtaken.set()
        try:
            return read(hand)
        finally:
            threads.append(thread)

    def kept_while_read(hand: Hand) -> Tally:
        overtaken.wait(120)
        eventually(lambda: len(comparer._in_hand) == 1)
        kept.append({part.epoch for part in comparer._in_hand})
        return read(hand)

    overtaken, threads = threading.Event(), list[threading.Thread]()
    monkeypatch.setattr(comparer, "_read", interrupted)
    comparer.step()
    threads[0].join(120)
    assert kept == [{2}]
    assert (bench.comparison().done, bench.comparison().tally.equal) == (1, 100)


def test_a_comparer_that_died_in_the_middle_counts_nothing_twice(
    fake: Fake, store: WholeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had published suspects, and was about to count: its partition is read again."""
    equal_items(fake, 50)
    put(fake, "lost", {}, None)
    bench = Bench(fake, store, segments=1)
    comparer = bench.comparer(owner="dead")
    monkeypatch.setattr(comparer, "_finish", lambda *_: None)
    comparer.step()
    assert bench.comparison().done == 0 and store.ledger().suspects_published == 1
    for lease in ("comparison-leases",):  # its lease runs out
        store._redis.hset(store._key(lease), "0", "1|0|dead")
    tally = bench.run(owner="other").tally
    assert (tally.equal, tally.suspects, tally.imbalance) == (50, 1, "")
    assert store.ledger().suspects_published == 1 and store.ledger().balanced


def test_a_comparer_of_a_comparison_that_was_begun_anew_takes_nothing_of_it(
    fake: Fake, store: WholeStore
) -> None:
    bench = Bench(fake, store, segments=1)
    comparer = bench.comparer()
    store.begin_comparison(bench.settings, Beginning.RESTART)
    assert not comparer.step() and comparer.is_gone and not comparer.is_over


def test_leases_are_kept_while_a_segment_is_read(fake: Fake, store: WholeStore) -> None:
    equal_items(fake, 10)
    bench = Bench(fake, store, segments=1)
    comparer = bench.comparer()
    _, part = store.take(bench.id, "me", 600_000)
    assert part is not None
    with comparer._holding(part) as hand:
        comparer.keep()
        kept = not hand.lost
        store._redis.hset(store._key("comparison-leases"), "0", "99|0|other")
        comparer.keep()
    assert (kept, hand.lost) == (True, True)
    assert store.take(bench.id, "other", 1)[0] is Standing.TAKEN


# --- pace --------------------------------------------------------------------------------------------------


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Waits:
    """A stop that never comes; waiting moves the clock."""

    def __init__(self, time: Time) -> None:
        self.time, self.waited = time, 0.0

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> bool:
        self.waited += timeout or 0.0
        self.time.now += timeout or 0.0
        return False


def test_one_throttled_segment_waits_longer_each_time_and_alone() -> None:
    time = Time()
    pace, stop = SidePace(0, time), Waits(time)
    waits = [pace.throttled(7) for _ in range(4)]
    assert waits[3] > waits[0]
    assert pace.acquire(stop) and stop.waited == 0
    pace.read(7, 1.0)
    assert pace.throttled(7) <= 0.5


def test_several_throttled_segments_make_all_wait() -> None:
    time = Time()
    pace, stop = SidePace(0, time), Waits(time)
    for segment in range(TABLE_SEGMENTS):
        pace.throttled(segment)
    assert pace.acquire(stop) and stop.waited > 0


def test_throttled_segments_far_apart_are_no_limit_of_the_table() -> None:
    time = Time()
    pace, stop = SidePace(0, time), Waits(time)
    for segment in range(TABLE_SEGMENTS):
        pace.throttled(segment)
        time.now += 2
    assert pace.acquire(stop) and stop.waited == 0


def test_max_rcu_is_kept() -> None:
    time = Time()
    pace, stop = SidePace(10, time), Waits(time)
    for _ in range(5):
        assert pace.acquire(stop)
        pace.read(0, 20.0)
    assert 7 <= stop.waited <= 8  # 100 units, less the last page's and a second's worth saved


# --- help --------------------------------------------------------------------------------------------------


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off as ever, but shorter."""
    from pipeline.backoff import Backoff
    from pipeline.comparer import comparer, hand, pace

    for module in (comparer, hand):
        monkeypatch.setattr(module, "RETRIES", Backoff(0.01, 0.05))
    for name in ("SEGMENT_BACKOFF", "TABLE_BACKOFF"):
        monkeypatch.setattr(pace, name, Backoff(0.01, 0.05))


def run_out(comparer: Comparer) -> None:
    while comparer.step():
        pass


def until(condition: Callable[[], bool]) -> None:
    from tests.servers import eventually

    eventually(condition, 30)
