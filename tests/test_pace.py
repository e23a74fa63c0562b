"""Read units that are limited: who reads large items waits, with nothing in hand, and starves nobody."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from pipeline import metrics
from pipeline.aws import Connection, SideConfig
from pipeline.comparer.budget import Budget
from pipeline.comparer.pace import SidePace
from pipeline.core.cost import Prices, Terms
from pipeline.core.model import Change, Side
from pipeline.process import pool
from pipeline.process.pool import Pool
from pipeline.process.pulse import Heartbeat
from pipeline.serving import Lane, Service, Work
from pipeline.validator import role
from pipeline.validator.validator import Validator
from tests.fake import Fake
from tests.servers import eventually
from tests.validating import AT_ONCE, World, digest_of, own_store
from tests.whole_store import WholeStore

MAX_RCU, LARGE, SMALL = 5, 60, 200


@pytest.fixture
def world(valkey_url: str) -> Iterator[World]:
    with Fake() as fake, own_store(valkey_url) as store:
        yield World(fake, store)


@contextmanager
def validating(world: World, threads: int = 4) -> Iterator[Validator]:
    """A validator that reads 5 units a second, in threads of its own."""
    stop = threading.Event()
    validator = made(world, MAX_RCU, stop)
    serving = threading.Thread(target=serve, args=([validator], threads, stop, lambda **_: None))
    serving.start()
    try:
        yield validator
    finally:
        stop.set()
        serving.join(120)


def made(world: World, max_rcu: float, stop: threading.Event) -> Validator:
    connection = Connection(SideConfig("source", region="us-east-1", endpoint_url=world.fake.url))
    sides = {side: world.side_reader(side, connection, max_rcu=max_rcu, stop=stop) for side in Side}
    return Validator(
        world.store,
        sides[Side.TARGET],
        sides[Side.SOURCE],
        AT_ONCE,
        metrics.start(None, "paced").of_validator("test"),
        consumer="paced",
        reclaim_after_ms=1,
    )


def serve(validators: list[Validator], threads: int, stop: threading.Event, heartbeat: Heartbeat) -> None:
    """As the role does, a migration for each validator."""
    judging = Pool(threads)

    def begin(validator: Validator, lane: Lane) -> Work:
        return role._Judging(
            validator,
            lane,
            judging,
            role.IDLE_SECONDS / threads,
            prove=validator.probe,
            keep=lambda _: None,
            end=lambda: None,
        )

    begins = [(f"test-{n}", functools.partial(begin, one)) for n, one in enumerate(validators)]
    Service("validator", begins, metrics.start(None, "paced"), [judging]).run(stop, heartbeat)


def publish(world: World, items: list[dict[str, object]]) -> None:
    changes = []
    for item in items:
        world.fake.control.put("target", item)
        key = world.schema.compact_of(item)
        changes.append(Change(key, digest_of(None), digest_of(dict(item)), world.store.now_ms() - 2_000))
    world.publish(changes)


def test_large_items_starve_no_small_ones_and_nothing_is_delivered_twice(world: World) -> None:
    """60 items of 300 KB cost 7 minutes' worth of --max-rcu 5; 200 small ones 20 seconds'."""
    publish(world, [world.item(f"large-{n}", "x" * 300_000) for n in range(LARGE)])
    publish(world, [world.item(f"small-{n}", "x") for n in range(SMALL)])
    with validating(world):
        eventually(lambda: world.store.ledger().reached >= SMALL, 90, "the small ones are judged")
        eventually(lambda: pending(world) == 0, 30, "who waits has nothing in hand")
        more = [world.item(f"later-{n}", "x") for n in range(20)]
        publish(world, more)
        eventually(lambda: world.store.ledger().reached >= SMALL + LARGE + 20, 90, "later ones, too")
    assert world.fake.control.keys_read() <= LARGE + SMALL + 20 + 16, "each once, but for what 16 MB cut off"
    assert world.store.ledger().dead == 0


def pending(world: World) -> int:
    return int(world.store._redis.xpending(world.store._key("work"), "validators")["pending"])


def test_a_thread_that_pays_is_no_thread_that_hangs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "HANGING_SECONDS", 2.0)
    publish(world, [world.item(f"large-{n}", "x" * 300_000) for n in range(LARGE)])
    beats: list[int] = []
    stop = threading.Event()
    with validating(world, threads=1) as validator:
        eventually(lambda: world.store.ledger().reached >= 50, 60)
        serving = threading.Thread(target=serve, args=([validator], 1, stop, lambda **_: beats.append(1)))
        serving.start()
        eventually(lambda: len(beats) > 5, 30, "beats for longer than it may hang")
        stop.set()
        serving.join(120)


def test_one_migration_that_pays_holds_up_no_other(world: World, valkey_url: str) -> None:
    """On the only thread: while seven minutes are being paid for, another's keys are judged as they come."""
    publish(world, [world.item(f"large-{n}", "x" * 300_000) for n in range(LARGE)])
    stop = threading.Event()
    with Fake() as fake, own_store(valkey_url) as store:
        other = World(fake, store)
        both = [made(world, MAX_RCU, stop), made(other, 0, stop)]
        serving = threading.Thread(target=serve, args=(both, 1, stop, lambda **_: None))
        serving.start()
        eventually(lambda: both[0]._verified._limiter._debts, 60, "the first one owes")
        for batch in range(1, 6):
            publish(other, [other.item(f"small-{batch}-{n}", "x") for n in range(SMALL)])
            eventually(lambda: store.ledger().reached >= SMALL * batch, 30)  # noqa: B023
        assert both[0]._verified._limiter._debts, "and still does"
        stop.set()
        serving.join(120)


def test_a_comparison_keeps_to_the_budget_by_its_pace(own: WholeStore) -> None:
    """What the watch of the stream leaves; a tenth at least, or it would never end."""
    paces = {side: SidePace(0) for side in Side}
    at = [0.0]
    terms = Terms(Prices(1.0, 3.0, 1e6, "made up"), 3.6)
    budget = Budget(own, terms, paces, 0, 2, lambda: at[0])
    budget.keep()
    # Half of 3.6 dollars an hour is 0.0005 a second; a unit on both sides is 4 dollars a million.
    assert [round(one.limited) for one in paces.values()] == [125, 125]
    begun_ms = own.now_ms() - 3_600_000
    own.meta = msgspec.structs.replace(own.meta, started_ms=begun_ms)
    for ago in range(7):  # a dollar a request: far beyond the budget
        own.spend({"stream:GetRecords:requests": 10}, own.now_ms() - ago * 60_000)
    at[0] += 10
    budget.keep()
    assert [round(one.limited, 1) for one in paces.values()] == [12.5, 12.5]


def test_the_smaller_limit_counts(own: WholeStore) -> None:
    pace = SidePace(5)
    Budget(own, Terms(budget=1_000_000), {Side.SOURCE: pace}, 5, 1).keep()
    assert pace.limited == 5
    Budget(own, Terms(), {Side.SOURCE: pace}, 7, 1).keep()  # no budget: as it was
    assert pace.limited == 5


@pytest.fixture
def own(valkey_url: str) -> Iterator[WholeStore]:
    with own_store(valkey_url) as one:
        yield one
