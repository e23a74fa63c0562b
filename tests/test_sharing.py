"""What the migrations of one process share, and what each keeps for itself."""

import threading
import uuid
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import structlog

from pipeline import metrics, monitor
from pipeline.aws import describe_table
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.model import SideConfig
from pipeline.errors import StateDamaged, StoreNotReady
from pipeline.metrics import store_figures
from pipeline.producers.stream.listing import Pace, Paces
from pipeline.reader.idling import ASKED_A_SECOND, IDLE_SECONDS, IdlePolls, level
from pipeline.sides import Connections
from pipeline.store import Outage, Pools, RedisConnection
from pipeline.validator.quarantine import House, Quarantine
from tests.fake import Fake
from tests.servers import eventually
from tests.test_metrics import figures
from tests.whole_store import WholeStore


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        yield one


# --- AWS ---------------------------------------------------------------------------------------------------


def test_migrations_that_reach_a_side_alike_share_its_session_and_count_for_themselves(
    fake: Fake,
) -> None:
    fake.control.create_table("orders")
    access = SideConfig("source", region="us-east-1", endpoint_url=fake.url)
    elsewhere = SideConfig("source", region="eu-west-1", endpoint_url=fake.url)
    own, connections = metrics.start(None, "test"), Connections()
    one, two, three = (
        connections.connect(MigrationConfig(name=name, source=given), "source", own.of(name))
        for name, given in (("one", access), ("two", access), ("three", elsewhere))
    )
    describe_table(one, "orders")
    assert one.access is two.access and one.access is not three.access
    assert two.dates.now_ms() is not None and three.dates.now_ms() is None, "the time is known to both"
    for name, count in (("one", 2.0), ("two", 0.0)):
        labels = {"migration": name, "operation": "other", "side": "source"}
        sample = own.registry.get_sample_value("ddbmm_aws_request_duration_seconds_count", labels)
        assert sample == count


def test_listings_of_one_account_take_turns() -> None:
    paces = Paces()
    access = SideConfig("stream", profile="old")
    assert paces.of(access) is paces.of(SideConfig("stream", profile="old"))
    assert paces.of(access) is not paces.of(SideConfig("stream", profile="new"))
    pace = Pace(60.0)
    turns = [pace.turn() for _ in range(3)]
    assert [round(later - turns[0]) for later in turns] == [0, 60, 120]


# --- Redis -------------------------------------------------------------------------------------------------


def test_migrations_on_one_server_share_connections_which_outlive_each_of_them(valkey_url: str) -> None:
    pools = Pools()
    one, two = (RedisConnection(valkey_url, name, pools=pools) for name in ("one", "two"))
    own = RedisConnection(valkey_url, "one")
    assert one.redis.connection_pool is two.redis.connection_pool is not own.redis.connection_pool
    one.time_ms()
    [used] = two.redis.connection_pool._available_connections
    one.close()
    two.time_ms()
    assert two.redis.connection_pool._available_connections == [used] and used._sock is not None


class Told:
    """An outage of a process with several migrations."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.noted: list[float] = []
        self.outage = Outage(self.noted.append, lambda: self.now, of_several=True)


def test_an_outage_lasts_until_the_last_migration_is_served_again() -> None:
    told = Told()
    with structlog.testing.capture_logs() as lines:
        for name in ("one", "two"):
            told.outage.failed("claim", StoreNotReady("failing over"), name)
        told.outage.served("claim", "three")
        told.outage.served("claim", "one")
        assert told.noted == [1_000.0]
        told.outage.served("claim", "two")
    assert [line["event"] for line in lines] == ["Redis does not serve us: waiting", "Redis is back"]
    assert told.noted == [1_000.0, 0.0]


def test_the_damaged_state_of_one_of_several_is_no_outage() -> None:
    told = Told()
    with structlog.testing.capture_logs() as lines:
        told.outage.failed("claim", StateDamaged("no number"), "one")
    assert lines == [] and told.noted == []


# --- threads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "found"),
    [((), 1), ((10,), 10), ((400,), 300), ((1, 1, 1_000), 298), ((200, 200), 150), ((100, 300), 200)],
)
def test_who_wants_less_than_an_equal_part_gets_it(counts: tuple[int, ...], found: float) -> None:
    assert level(counts, 300.0) == found


def test_a_migration_of_a_thousand_partitions_is_asked_slowly_and_the_others_are_not() -> None:
    idle = IdlePolls()
    idle.note("wide", 1_000)
    assert idle.longest_seconds("wide") == pytest.approx(1_000 / ASKED_A_SECOND)
    idle.note("small", 1)
    assert idle.longest_seconds("small") == IDLE_SECONDS
    assert idle.longest_seconds("wide") > 3.0
    idle.note("wide", 0)
    assert idle.longest_seconds("wide") == IDLE_SECONDS


def test_an_entry_is_tried_alone_in_the_whole_process() -> None:
    """Or an entry of another migration might kill the process, and this one be blamed."""
    house = House()
    one, two = Quarantine(house), Quarantine(house)
    one.admit([b"1"])
    tried, noted = threading.Event(), list[str]()

    def work() -> None:
        with two.company():
            noted.append("work")

    def trial() -> None:
        with one.trial() as waiting:
            assert waiting == [b"1"]
            threading.Thread(target=work, daemon=True).start()
            tried.wait(120)
            noted.append("tried")

    trying = threading.Thread(target=trial, daemon=True)
    with two.company():
        trying.start()
        eventually(lambda: house.is_trial)
    tried.set()
    eventually(lambda: noted == ["tried", "work"])


# --- the monitor -------------------------------------------------------------------------------------------


def test_who_could_not_be_read_is_read_last_and_holds_up_no_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def away(name: str) -> store_figures.Watched:
        def figures() -> None:
            asked.append(name)
            raise StoreNotReady("loading")

        return store_figures.Watched(name, figures)  # type: ignore[arg-type]

    collector = store_figures.StoreCollector([away("one"), away("two")])
    monkeypatch.setattr(store_figures.StoreCollector, "CACHE_SECONDS", 0.0)
    monkeypatch.setattr(store_figures.StoreCollector, "READ_SECONDS", 0.0)
    [up] = collector.collect()
    assert asked == [] and {sample.labels["migration"]: sample.value for sample in up.samples} == {
        "one": 0.0,
        "two": 0.0,
    }
    monkeypatch.setattr(store_figures.StoreCollector, "READ_SECONDS", 60.0)
    collector._turns = {"one": 1.0}
    list(collector.collect())
    assert asked == ["two", "one"]


def test_a_scrape_waits_for_one_that_hangs_and_for_no_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would wait for 5 s, and Prometheus for 8: all that the process exports would be lost."""
    now, asked = 0.0, list[str]()
    hanging = {"one", "two"}

    def watched(name: str) -> store_figures.Watched:
        def read() -> object:
            nonlocal now
            asked.append(name)
            now += 5.0 if name in hanging else 0.001
            if name in hanging:
                raise StoreNotReady("no answer")
            return figures()

        return store_figures.Watched(name, read)  # type: ignore[arg-type]

    collector = store_figures.StoreCollector([watched(name) for name in ("one", "two", "three", "four")])
    monkeypatch.setattr(store_figures, "time", SimpleNamespace(monotonic=lambda: now))

    def read() -> list[str]:
        nonlocal now
        now += 10.0
        asked.clear()
        list(collector.collect())
        return list(asked)

    assert read() == ["one"]
    assert read() == ["two"]
    assert read() == ["three", "four", "one"]
    assert read() == ["three", "four", "two"]
    hanging.remove("two")
    assert read() == ["three", "four", "one"]
    assert read() == ["three", "four", "two", "one"]
    hanging.clear()
    assert read() == ["two", "three", "four", "one"]
    assert read() == ["one", "two", "three", "four"]


@pytest.fixture
def two(valkey_url: str) -> Iterator[tuple[MigrationConfig, ...]]:
    names = [f"{name}-{uuid.uuid4().hex}" for name in ("orders", "customers")]
    stores = [WholeStore.begin(valkey_url, name, {"verify_on": "target"}) for name in names]
    yield tuple(MigrationConfig(name=name) for name in names)
    for store in stores:
        store.close()


def _monitored(process: ProcessConfig, migrations: tuple[MigrationConfig, ...], beats: int) -> None:
    stop, count = threading.Event(), 0

    def heartbeat() -> None:
        nonlocal count
        count += 1
        if count >= beats:
            stop.set()

    monitor.run_monitor(process, migrations, stop, heartbeat)


def test_the_monitor_says_a_line_of_each(
    valkey_url: str, two: tuple[MigrationConfig, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    absent = MigrationConfig(name="absent")
    process = ProcessConfig(redis_url=valkey_url, statistics_every_ms=3_600_000)
    _monitored(process, (*two, absent), beats=1)
    said = capsys.readouterr().out
    assert all(f"\n{one.name}" in said for one in two) and "absent: the migration has not begun yet" in said


def test_where_nothing_happens_the_monitor_logs_each_once_in_a_while(
    valkey_url: str, two: tuple[MigrationConfig, ...]
) -> None:
    process = ProcessConfig(redis_url=valkey_url, statistics_every_ms=1, log_format="json")
    with structlog.testing.capture_logs() as lines:
        _monitored(process, two, beats=20)
    said = [line["migration"] for line in lines if line["event"] == "statistics"]
    assert sorted(said) == sorted(one.name for one in two)


def test_the_damaged_state_of_one_is_said_once_and_stops_no_other(
    valkey_url: str, two: tuple[MigrationConfig, ...]
) -> None:
    """Its roles may be none the wiser while nothing changes."""
    process = ProcessConfig(redis_url=valkey_url, statistics_every_ms=1, log_format="json")
    damaged = WholeStore.begin(valkey_url, two[0].name, {"verify_on": "target"})
    damaged._redis.hset(damaged._key("ledger"), "records_read", b"\xff\xfe")
    with structlog.testing.capture_logs() as lines:
        _monitored(process, two, beats=20)
    damaged.close()
    said = [(line["event"], line["migration"]) for line in lines if line["log_level"] in ("info", "error")]
    assert sorted(said) == sorted([("no statistics", two[0].name), ("statistics", two[1].name)])
