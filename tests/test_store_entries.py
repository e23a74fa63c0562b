"""Entries of many keys: whatever is published, claimed, committed, lost, repeated or left behind, in whatever
order, each key stands in one entry, nothing is lost, and nothing is counted twice.
"""

import random
import uuid
from collections.abc import Iterator

import msgspec
import pytest

from pipeline.core.comparing.join import Showed, Suspect
from pipeline.core.comparing.state import CompareSettings
from pipeline.core.judging.history import History
from pipeline.core.judging.rule import judge, wake
from pipeline.core.ledger import tally
from pipeline.core.model import ABSENT, Change, Checkpoint, Counts, Look, Moment, Phase, Policy
from pipeline.store import codec
from pipeline.store.compare_store import Beginning
from pipeline.store.messages import Commit, Entry
from pipeline.store.validator_store import MAX_DELIVERIES
from tests.places import Places, due_ms, wait
from tests.whole_store import WholeStore

POLICY = Policy(60_000, 20_000)
VALIDATORS = ("v", "w")
KEYS = [b'"k%03d"' % number for number in range(230)]
MANY, FEW = KEYS[:], KEYS[:12]
#: Keys that a comparison finds, most of which nobody writes.
FOUND = [*FEW[:3], *(b'"s%d"' % number for number in range(6))]


class Clock:
    """The state's clock, moved by hand."""

    steps = 0

    def __init__(self, now_ms: int) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now


class Entries:
    """A reader, a comparison and validators by chance, any of which may die or not hear an answer."""

    def __init__(self, url: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.store = WholeStore.begin(url, f"test-{uuid.uuid4().hex}", {"target_table": "orders"})
        self.clock = Clock(self.store.now_ms())
        self.store._connection.clock = self.clock  # type: ignore[assignment]
        self.at = Checkpoint(b"")
        self.store.register("test:1", self.at)
        self.lease = self.store.lease("test:1", "reader", 2**40)
        self.comparison = self.store.begin_comparison(CompareSettings(0, segments=1), Beginning.BEGIN).id
        _, self.part = self.store.take(self.comparison, "comparer", 2**40)
        self.origin: dict[bytes, bytes] = {}
        self.in_hand: dict[str, list[Entry]] = {name: [] for name in VALIDATORS}
        self.alone: dict[str, set[bytes]] = {name: set() for name in VALIDATORS}
        self.published = 0

    def step(self) -> None:
        acts = [
            self.publish,
            self.commit,
            self.time_goes_on,
            self.claim,
            self.suspect,
            self.die,
            self.try_one,
        ]
        [act] = self.chance.choices(acts, [6, 8, 5, 3, 2, 1, 2])
        act()

    def publish(self) -> None:
        keys = self.chance.choice([MANY, *[self.chance.choices(FEW, k=7)] * 5])
        repeated = self.chance.random() < 0.2
        changes = []
        for key in keys:
            after = uuid.uuid4().bytes
            changes.append(Change(key, self.origin.get(key, ABSENT), after, self.clock.now))
            self.origin[key] = after
        following = Checkpoint(uuid.uuid4().bytes)
        assert self.lease is not None
        for _ in range(1 + repeated):
            self.store.publish(self.lease, self.at, following, changes, Counts(len(changes)))
        self.at = following
        self.published += len(changes)

    def suspect(self) -> None:
        keys, repeated = set(self.chance.choices(FOUND, k=4)), self.chance.random() < 0.2
        suspects = [Suspect(key, self.origin.get(key, ABSENT), Showed.BOTH) for key in sorted(keys)]
        assert self.part is not None
        for _ in range(1 + repeated):
            self.store.suspect(self.comparison, self.part, suspects)

    def time_goes_on(self) -> None:
        self.clock.now += self.chance.choice([50, 700, 1_500, 3_000, 25_000])

    def claim(self) -> None:
        who, count = self.chance.choice(VALIDATORS), self.chance.choice([1, 7, 200])
        self.take(who, self.store.claim(who, count, self.chance.choice([0, 1])).entries)

    def die(self) -> None:
        """Some times, and come back with what was in hand."""
        who = self.chance.choice(VALIDATORS)
        for _ in range(self.chance.randint(1, MAX_DELIVERIES + 1)):
            self.in_hand[who], self.alone[who] = [], set()
            self.take(who, self.store.claim(who, 500, 0, adopt=True).entries)

    def take(self, who: str, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.alone:
                self.alone[who].add(entry.id)
            else:
                self.in_hand[who].append(entry)

    def try_one(self) -> None:
        who = self.chance.choice(VALIDATORS)
        ids = sorted(self.alone[who])
        tried = self.store.claim_alone(who, ids, b"")[0].entries if ids else []
        assert len(tried) <= 1
        self.alone[who] -= {entry.id for entry in tried} or set(ids)
        self.in_hand[who] += tried

    def commit(self) -> None:
        """All that is in hand or a part, once or twice; a thread that stood still has it in hand yet."""
        who = self.chance.choice(VALIDATORS)
        self.take(who, self.store.claim(who, 200, 0).entries)
        some = self.in_hand[who][:: self.chance.choice([1, 1, 2, 5])]
        found = self.chance.choice(["right", "right", "right", "late", "unread"])
        commits = [self.looked_at(entry, found) for entry in some]
        self.store.commit(commits, self.clock.now)
        if self.chance.random() < 0.2:
            again = self.store.commit(commits, self.clock.now)
            assert len(again.lost) + len(again.refused) == len(commits)
        if self.chance.random() < 0.8:
            committed = {id(entry) for entry in some}
            self.in_hand[who] = [one for one in self.in_hand[who] if id(one) not in committed]

    def looked_at(self, entry: Entry, found: str) -> Commit:
        history, now = codec.decode(entry.raw), self.clock.now
        if found == "unread":
            return Commit(entry, entry.raw, now + 500, "reads=1")
        digest = self.origin.get(entry.key, ABSENT) if found == "right" else b"\7" * 16
        moment = Moment(now, now)
        judgement = wake(history, moment, POLICY)
        if judgement is None:
            look = Look(digest, now, history.newest, witness=self.origin.get(entry.key, ABSENT))
            judgement = judge(history, look, moment, POLICY)
            if judgement.escalate:
                look = msgspec.structs.replace(look, strong=True)
                judgement = judge(history, look, moment, POLICY)
        after = codec.encode(judgement.history) if judgement.history else b""
        return Commit(entry, after, judgement.next_ms, tally(history, judgement, 1, 0))

    def histories(self) -> dict[bytes, History]:
        return {key: codec.decode(raw) for key, raw in Places(self.store).histories.items()}

    def each_key_stands_in_one_entry(self) -> None:
        assert Places(self.store).faults() == []

    def the_books_balance(self) -> None:
        figures, histories = self.store.figures(), self.histories()
        ledger = figures.ledger
        assert ledger.imbalance == ""
        assert ledger.versions_published - ledger.suspects_published == self.published
        assert ledger.outstanding == sum(one.outstanding for one in histories.values())
        assert ledger.dead_entries == {"poison": 0, "redelivered": 0}
        assert figures.queue.backlog + figures.queue.due == figures.queue.outstanding == len(histories)

    def finish(self) -> None:
        """Whatever happened: every key is looked at in the end, and nothing is left of it."""
        for _ in range(60):
            if not self.histories():
                break
            self.clock.now += 40_000
            for who in VALIDATORS:
                self.take(who, self.store.claim(who, 500, 1).entries)
                for id_ in self.alone[who]:
                    self.in_hand[who] += self.store.claim_alone(who, [id_], b"")[0].entries
                commits = [self.looked_at(entry, "right") for entry in self.in_hand[who]]
                self.store.commit(commits, self.clock.now)
                self.in_hand[who], self.alone[who] = [], set()
        places = Places(self.store)
        left = (places.histories, places.entries, places.left, places.due, places.work, places.queued)
        assert left == ({}, {}, {}, [], [], 0)
        ledger = self.store.ledger()
        assert ledger.outstanding == 0 and ledger.balanced


@pytest.mark.parametrize("seed", range(8))
def test_every_key_stands_in_one_entry_and_is_judged_in_the_end(store_url: str, seed: int) -> None:
    world = Entries(store_url, seed)
    for _ in range(150):
        world.step()
        world.each_key_stands_in_one_entry()
        world.the_books_balance()
    world.finish()
    world.store.close()


# --- one step at a time ------------------------------------------------------------------------------------


@pytest.fixture
def store(store_url: str) -> Iterator[WholeStore]:
    one = WholeStore.begin(store_url, f"test-{uuid.uuid4().hex}", {"target_table": "orders"})
    yield one
    one.close()


def published(store: WholeStore, keys: list[bytes]) -> None:
    begin = Checkpoint(b"")
    store.register("test:1", begin)
    lease = store.lease("test:1", "reader", 600_000)
    assert lease is not None
    changes = [Change(key, ABSENT, b"a" * 16, 1) for key in keys]
    store.publish(lease, begin, Checkpoint(b"1"), changes, Counts(len(keys)))


def test_what_is_published_together_is_looked_at_together_a_read_at_a_time(store: WholeStore) -> None:
    published(store, KEYS)
    assert (store.queue().backlog, store._redis.xlen(store._key("work"))) == (230, 3)
    claimed = [store.claim("v", 200, 0).entries, store.claim("v", 1, 0).entries]
    assert [len(entries) for entries in claimed] == [200, 30]
    assert store.queue().pending == 230


def test_of_an_entry_that_is_committed_in_part_the_rest_stays(store: WholeStore) -> None:
    published(store, FEW)
    claim = store.claim("v", 100, 0)
    some = claim.entries[::2]
    assert store.commit([Commit(one, one.raw, 2**42, "") for one in some], claim.now_ms).lost == []
    assert (store.queue().backlog, store.queue().pending, store.queue().due) == (6, 6, 6)
    again = store.claim("v", 100, 0, adopt=True).entries
    assert [entry.key for entry in again] == FEW[1::2]
    done = store.commit([Commit(one, one.raw, 2**42, "") for one in claim.entries], claim.now_ms)
    assert done.lost == [0, 2, 4, 6, 8, 10], "those that were committed stand in another entry"
    assert store._redis.xlen(store._key("work")) == 0 and Places(store).faults() == []


def test_an_entry_whose_keys_go_on_together_goes_on_as_it_is(store: WholeStore) -> None:
    """It may even come back with the same number: only who has it in hand now commits."""
    published(store, FEW)
    first = store.claim("v", 100, 0)
    [number] = {entry.number for entry in first.entries}
    back = [Commit(one, one.raw, first.now_ms, "") for one in first.entries]
    assert store.commit(back, first.now_ms).lost == []
    again = store.claim("v", 100, 0)
    assert [(one.key, one.number) for one in again.entries] == [(key, number) for key in FEW]
    assert store.commit(back, first.now_ms).lost == list(range(len(FEW)))
    apart = [Commit(one, one.raw, 2**42 + 1_000 * nth, "") for nth, one in enumerate(again.entries)]
    assert store.commit(apart, again.now_ms).lost == [] and Places(store).faults() == []
    assert store._redis.zcard(store._key("due")) == len(FEW)


def test_an_entry_that_was_delivered_too_often_is_taken_apart(store: WholeStore) -> None:
    """What its validators died of is one of its keys at most. A slow one of before commits nothing."""
    published(store, FEW)
    slow = store.claim("slow", 100, 0)
    for _ in range(MAX_DELIVERIES - 1):
        assert not store.claim("slow", 100, 0, adopt=True).entries[0].alone
    taken_apart = store.claim("slow", 100, 0, adopt=True).entries
    assert [entry.key for entry in taken_apart] == FEW and all(entry.alone for entry in taken_apart)
    assert len({entry.id for entry in taken_apart}) == len(FEW)
    lost = store.commit([Commit(one, one.raw, 2**42, "") for one in slow.entries], slow.now_ms).lost
    assert lost == list(range(len(FEW))) and Places(store).faults() == []
    assert store.ledger().entries_redelivered == len(FEW) * MAX_DELIVERIES
    tried, trials = store.claim_alone("slow", [taken_apart[3].id], b"")
    assert ([entry.key for entry in tried.entries], trials) == ([FEW[3]], 1)
    done = store.commit([Commit(tried.entries[0], b"", 0, "", dead=True)], tried.now_ms)
    assert done.lost == [] and store.queue().pending == len(FEW) - 1


def test_an_entry_whose_keys_all_went_to_other_ones_is_gone(store: WholeStore) -> None:
    """A hot key goes from entry to entry every second: what it leaves behind must not add up."""
    history = History(((ABSENT, 0), (b"a" * 16, 1)), 2, Phase.SETTLING)
    wait(store, store.now_ms() + 600_000, dict.fromkeys(FEW, history))
    published(store, FEW[:6])
    assert (store.queue().backlog, store.queue().due) == (6, 6)
    [left] = store._redis.hvals(store._key("due-left"))
    assert left == b"6" and Places(store).faults() == []
    store._redis.hset(store._key("checkpoints"), "test:1", Checkpoint(b"").encode())
    published(store, FEW[6:])
    assert store._redis.zcard(store._key("due")) == store._redis.hlen(store._key("due-left")) == 0
    assert Places(store).faults() == []


def test_a_look_is_due_with_others_and_never_earlier_than_it_was_asked_for(store: WholeStore) -> None:
    published(store, KEYS[:200])
    claim = store.claim("v", 200, 0)
    asked = {one.key: claim.now_ms + 3_000 + nth * 100 for nth, one in enumerate(claim.entries)}
    store.commit([Commit(one, one.raw, asked[one.key], "") for one in claim.entries], claim.now_ms)
    for key, at_ms in asked.items():
        due = due_ms(store, key)
        assert due is not None and at_ms <= due < at_ms + (100 if due < claim.now_ms + 10_000 else 1_000)
    assert store._redis.zcard(store._key("due")) < 90
