"""A lowered sample: whose changes are left out, whose are not, and what is known afterwards."""

import uuid
from collections.abc import Iterator
from typing import cast

import msgspec
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.budget import Lowered
from pipeline.core.cost import Prices, Terms
from pipeline.core.model import ABSENT, Change, Checkpoint, Counts
from pipeline.core.sampling import Sampler
from pipeline.reader.budget import EVERY_SECONDS, Budget
from pipeline.store.messages import Commit, Lease, Outcome
from tests import validating
from tests.fake import Fake
from tests.test_compare_store import begun, different, taken
from tests.whole_store import WholeStore

A, B = (bytes([n]) * 16 for n in (1, 2))
BEGIN = Checkpoint(b"")
SETTINGS = {"target_table": "orders", "sample_rate": "100.0"}
HALF = Lowered(percent=50, since_ms=1_000, budget=1.0, spent=2.0, least_percent=50, first_ms=1_000)
KEYS = [b'"%d"' % number for number in range(40)]
KEPT = [key for key in KEYS if Sampler(50).keeps(key)]
BEYOND = [key for key in KEYS if key not in KEPT]


class World:
    """A reader and a validator, processes of their own, of one migration."""

    def __init__(self, url: str) -> None:
        name = f"test-{uuid.uuid4().hex}"
        self.reader, self.validator, self.other = (WholeStore.begin(url, name, SETTINGS) for _ in range(3))
        self.reader.register("test:1", BEGIN)
        lease = self.reader.lease("test:1", "reader", 600_000)
        assert lease is not None
        self.lease: Lease = lease
        self.at = BEGIN

    def hear(self) -> None:
        for store in (self.reader, self.validator, self.other):
            store.spend({}, store.now_ms())

    def lower(self, lowered: Lowered = HALF) -> None:
        """Done by a process that nobody else is."""
        self.other.spend({}, self.other.now_ms())
        assert self.other.lower(lowered)

    def publish(self, *keys: bytes, before: bytes = ABSENT, after: bytes = A) -> int:
        """How many changes were left out."""
        following = Checkpoint(self.at.position + b".")
        changes = [Change(key, before, after, 1) for key in keys]
        counts = Counts(len(keys), 0, {"INSERT": len(keys)})
        reply = self.reader.publish(self.lease, self.at, following, changes, counts)
        assert reply.outcome is Outcome.PUBLISHED
        self.at = following
        return reply.left_out

    def judge_all(self) -> None:
        """Everything that is due is found right, and closed."""
        while entries := self.validator.claim("v", 100, 0).entries:
            now_ms = self.validator.now_ms()
            tally = "reached=1 matches=1 outstanding=-1"
            self.validator.commit(
                [Commit(entry, b"", 0, tally, judged=True, verdict=True) for entry in entries], now_ms
            )

    def histories(self) -> set[bytes]:
        return set(cast(list[bytes], self.reader._redis.hkeys(self.reader._key("history"))))

    def close(self) -> None:
        for store in (self.reader, self.validator, self.other):
            store.close()


@pytest.fixture
def world(store_url: str) -> Iterator[World]:
    one = World(store_url)
    yield one
    one.close()


def test_keys_beyond_the_lowered_sample_are_left_out_and_counted(world: World) -> None:
    world.lower()
    world.hear()
    assert world.publish(*KEYS) == len(BEYOND)
    assert world.histories() == set(KEPT)
    ledger = world.reader.ledger()
    assert (ledger.records_read, ledger.not_sampled) == (len(KEYS), len(BEYOND))
    assert ledger.versions_published == ledger.outstanding == len(KEPT)
    assert ledger.keys_sampled == len(KEPT)
    assert ledger.balanced


def test_a_key_with_a_history_is_followed_until_it_is_closed(world: World) -> None:
    world.publish(*KEYS)
    world.lower()
    world.hear()
    assert world.publish(*KEYS, before=A, after=B) == 0
    world.validator._redis.delete(world.validator._key("work"))  # as if all had been looked at
    world.validator._redis.hdel(world.validator._key("history"), *KEYS)
    assert world.publish(*KEYS, before=B, after=A) == len(BEYOND)
    assert world.reader.ledger().records_read == 3 * len(KEYS)


def test_a_key_with_a_finding_but_no_history_is_followed(world: World) -> None:
    """Its history became a dead letter: only a new change closes the finding."""
    world.reader._redis.hset(world.reader._key("findings"), BEYOND[0], b"{}")
    world.lower()
    world.hear()
    assert world.publish(*BEYOND) == len(BEYOND) - 1
    assert world.histories() == {BEYOND[0]}


def test_a_suspect_beyond_the_lowered_sample_is_followed(world: World) -> None:
    """A comparison reads whole tables: what it asks about is judged by what the stream shows of it since."""
    world.lower()
    world.hear()
    store = world.other
    id_ = begun(store).id
    part = taken(store, id_)
    suspects = different(BEYOND[0])
    assert store.suspect(id_, part, suspects).waiting == 1
    assert world.publish(*BEYOND[:2]) == 1
    assert world.histories() == {BEYOND[0]}
    assert list(store.suspect(id_, part, suspects).covered) == [0]  # it is the stream's now
    assert world.reader.ledger().balanced


def test_who_does_not_know_the_sample_leaves_nothing_out(world: World) -> None:
    """A reader that has not heard yet; and one that has not heard that it was raised again."""
    world.lower()
    assert world.publish(*KEYS[:20]) == 0
    world.hear()
    raised = msgspec.structs.replace(HALF, percent=100, since_ms=2_000, raised_ms=2_000)
    world.lower(raised)
    assert world.publish(*KEYS[20:]) == 0


def test_keys_judged_are_counted_anew(world: World) -> None:
    world.publish(*KEYS)
    world.judge_all()
    assert world.reader.ledger().keys_judged == len(KEYS)
    world.lower()
    assert world.reader.ledger().keys_judged == 0
    world.hear()
    world.publish(*KEPT[:3], before=A, after=B)
    world.judge_all()
    ledger = world.reader.ledger()
    assert (ledger.keys_judged, ledger.keys_sampled, ledger.balanced) == (3, 3, True)


def test_a_key_beyond_that_is_judged_later_does_not_count(world: World) -> None:
    """It was followed to the end, and from then on it may change unseen."""
    world.publish(*BEYOND, *KEPT[:2])
    world.lower()
    world.hear()
    world.judge_all()
    assert world.reader.ledger().keys_judged == 2
    assert world.publish(*BEYOND, before=A, after=B) == len(BEYOND)
    assert world.reader.ledger().keys_judged == 2


def test_a_validator_that_has_not_heard_does_not_count_for_the_new_sample(world: World) -> None:
    world.publish(*BEYOND)
    world.lower()
    world.judge_all()
    assert world.reader.ledger().keys_judged == 0


def test_only_one_of_several_that_lower_it_does(world: World) -> None:
    world.hear()
    assert world.reader.lower(HALF)
    assert not world.validator.lower(msgspec.structs.replace(HALF, percent=25))
    world.hear()
    assert world.validator._followed.lowered == HALF


def test_a_state_that_is_begun_again_stays_lowered(world: World) -> None:
    """Only the operator raises the sample again."""
    world.lower()
    world.hear()
    world.reader._redis.delete(world.reader._key("meta"), world.reader._key("work"))
    assert world.reader.begin_again()
    world.hear()
    assert world.reader._followed.lowered is not None
    assert world.reader._followed.lowered.percent == 50
    assert world.reader._followed.sample != str(HALF.since_ms)  # what was counted in the lost state is over


def test_what_is_spent_adds_up(world: World) -> None:
    now_ms = world.reader.now_ms()
    for _ in range(2):
        world.reader.spend({"stream:GetRecords:requests": 3}, now_ms)
    assert world.reader._redis.hgetall(world.reader._key("cost")) == {b"stream:GetRecords:requests": b"6"}
    assert world.reader._redis.ttl(world.reader._key(f"cost:{now_ms // 60_000}")) > 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sets(st.sampled_from(KEYS), min_size=1)),
        st.tuples(st.just("lower"), st.sampled_from([50, 25, 12.5, 100])),
        st.tuples(st.just("hear"), st.sampled_from(["reader", "validator"])),
        st.tuples(st.just("judge"), st.none()),
    ),
    max_size=25,
)


@given(steps=STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_order_the_books_balance_and_no_key_that_was_left_out_counts(
    store_url: str, steps: list[tuple[str, object]]
) -> None:
    """A key that was judged and then changed unseen is not among those judged."""
    world = World(store_url)
    redis, name = world.reader._redis, world.reader._key
    unseen: set[bytes] = set()
    sample = ""
    for number, (step, what) in enumerate(steps, start=1):
        if step == "publish":
            assert isinstance(what, set)
            keys = sorted(what)
            known = world.histories()
            left_out = world.publish(*keys)
            followed = world.histories()
            assert known <= followed and left_out == len(set(keys) - followed)
            unseen = (unseen | set(keys)) - followed
        elif step == "lower":
            assert isinstance(what, (int, float))
            world.lower(Lowered(float(what), number, 1.0, 2.0, float(what), number))
            sample = f":{number}"
        elif step == "hear":
            store = world.reader if what == "reader" else world.validator
            store.spend({}, store.now_ms())
        else:
            world.judge_all()
        ledger = world.reader.ledger()
        assert ledger.balanced
        for key in unseen:  # one that is added to a copy of those judged was not among them
            redis.copy(name(f"keys-judged{sample}"), name("copy"), replace=True)
            assert redis.pfadd(name("copy"), key) == 1
            redis.delete(name("copy"))
    world.close()


def test_differences_in_keys_of_the_lowered_sample_are_all_found_and_no_others(
    store: WholeStore, fake: Fake
) -> None:
    """Planted: of sixty items that change, every third never arrives."""
    world = validating.World(fake, store)
    names = [f"k{number}" for number in range(60)]
    assert store.lower(HALF)
    store.spend({}, store.now_ms())
    for name in names:
        item = world.item(name, "new")
        fake.control.put("source", item)
        if int(name[1:]) % 3:
            fake.control.put("target", item)
    world.publish([world.change(name) for name in names])
    kept = [name for name in names if Sampler(50).keeps(world.compact(name))]
    ledger = world.validate(lambda one: one.outstanding == 0)
    wrong = {world.compact(name) for name in kept if int(name[1:]) % 3 == 0}
    assert {finding.key for finding in world.findings()} == wrong
    assert wrong and ledger.balanced
    assert (ledger.keys_judged, ledger.not_sampled) == (len(kept), len(names) - len(kept))


# --- the reader that keeps the budget ----------------------------------------------------------------------


class Kept:
    """A reader's budget, whose ten seconds are always over."""

    def __init__(self, store: WholeStore, budget: float) -> None:
        self.store, self.at = store, 0.0
        dear = Prices(1e6, 1e6, 1e6, "a dollar each")
        self.budget = Budget(store, Terms(dear, budget), 100.0, 0, lambda: self.at)

    def keep(self) -> float:
        """The sample afterwards."""
        self.at += EVERY_SECONDS
        self.store.spend({}, self.store.now_ms())
        self.budget.keep()
        self.store.spend({}, self.store.now_ms())
        return self.store.lowered.percent if self.store.lowered else 100.0


def spent(store: WholeStore, looks: int, stream: int = 0) -> None:
    """So many dollars in each of the last six minutes, of a migration that was begun an hour ago."""
    begun_ms = store.now_ms() - 3_600_000
    store._redis.hset(store._key("meta"), "started_ms", begun_ms)
    store.meta = msgspec.structs.replace(store.meta, started_ms=begun_ms)
    counts = {"target:BatchGetItem:half_units": 2 * looks, "stream:GetRecords:requests": stream}
    for ago in range(7):
        store.spend(counts, store.now_ms() - ago * 60_000)


def test_a_reader_lowers_the_sample_once_and_only_the_operator_raises_it(store: WholeStore) -> None:
    spent(store, looks=30)  # 1,800 an hour, or a little more while the minute goes on
    kept = Kept(store, 1_000)
    assert kept.keep() == 100  # it looks first whether to raise it
    assert kept.keep() == 50
    assert kept.keep() == 50  # what it spends now has to show first
    assert Kept(store, 1_000).keep() == 50  # a restart with the same budget
    assert Kept(store, 500).keep() == 50
    assert Kept(store, 1_001).keep() == 100
    figures = store.figures()
    assert figures.sample.percent == 100 and figures.lowered is not None and figures.lowered.has_hole


def test_a_stream_that_costs_more_than_is_allowed_lowers_nothing_and_is_said_once(store: WholeStore) -> None:
    spent(store, looks=30, stream=30)
    kept = Kept(store, 1_000)
    with structlog.testing.capture_logs() as logs:
        assert [kept.keep() for _ in range(4)] == [100] * 4
    assert [one["event"] for one in logs].count("above --max-cost-per-hour") == 1


@pytest.fixture
def store(store_url: str) -> Iterator[WholeStore]:
    with validating.own_store(store_url) as one:
        yield one


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        yield one
