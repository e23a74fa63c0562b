"""What publish.lua makes of histories, against Python: every version kept or counted, histories bounded."""

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.judging import history as histories
from pipeline.core.judging.history import HeldLook, History, thin
from pipeline.core.judging.rule import judge
from pipeline.core.ledger import tally
from pipeline.core.model import (
    ABSENT,
    UNKNOWN,
    Change,
    Checkpoint,
    Counts,
    Look,
    Moment,
    Phase,
    Policy,
    VerdictKind,
)
from pipeline.store import codec, reader_store
from pipeline.store.messages import Commit, Lease, Outcome
from tests.core.reference import append
from tests.whole_store import WholeStore

A, B, C = (bytes([n]) * 16 for n in (1, 2, 3))
KEYS = (b'"a"', b'"b"', b'"c"')


class Publishing:
    """A migration with one partition, and what is published there."""

    def __init__(self, url: str) -> None:
        self.store = WholeStore.begin(url, f"test-{uuid.uuid4().hex}", {"target_table": "orders"})
        self._at = Checkpoint(b"")
        self.store.register("test:1", self._at)
        lease = self.store.lease("test:1", "reader", 600_000)
        assert lease is not None
        self._lease: Lease = lease

    def publish(self, changes: list[Change]) -> None:
        following = Checkpoint(uuid.uuid4().bytes)
        counts = Counts(len(changes), 0, {"MODIFY": len(changes)})
        reply = self.store.publish(self._lease, self._at, following, changes, counts)
        assert reply.outcome is Outcome.PUBLISHED
        self._at = following

    def put(self, key: bytes, history: History) -> None:
        """As if earlier batches and looks had made it."""
        self.store._redis.hset(self.store._key("history"), key, codec.encode(history))

    def history(self, key: bytes) -> History:
        raw = self.store._redis.hget(self.store._key("history"), key)
        assert isinstance(raw, bytes)
        return codec.decode(raw)

    def size(self, key: bytes) -> int:
        length = self.store._redis.hstrlen(self.store._key("history"), key)
        assert isinstance(length, int)
        return length


@pytest.fixture
def publishing(store_url: str) -> Iterator[Publishing]:
    one = Publishing(store_url)
    yield one
    one.store.close()


digests = st.sampled_from([ABSENT, UNKNOWN, A, B, C])
instants = st.integers(0, 2**44)
looks = st.builds(
    HeldLook,
    st.builds(Look, digests, instants, st.integers(0, 9), st.booleans(), st.none() | digests),
    instants,
)


@st.composite
def stored(draw: st.DrawFn) -> History:
    versions = tuple(draw(st.lists(st.tuples(digests, instants), min_size=1, max_size=12)))
    phase = draw(st.sampled_from(Phase))
    lo = len(versions) if phase is Phase.SETTLING else draw(st.integers(0, len(versions) - 1))
    counted = draw(st.integers(0, len(versions) - lo))
    excused, alarmed = phase is Phase.EXCUSED, phase is Phase.ALARMED
    return History(
        versions,
        lo,
        phase=phase,
        first=draw(st.integers(0, 70_000)),
        alarmed=counted if alarmed else 0,
        excused=counted if excused else 0,
        excused_since_ms=draw(instants) if excused and counted else 0,
        skipped=draw(st.integers(0, 70_000)),
        kind=VerdictKind.STALE if alarmed else None,
        settle=draw(st.booleans()),
        incomplete=draw(st.booleans()),
        looked_ms=draw(instants),
        late=draw(st.integers(0, 2**31)),
        held=None if alarmed else draw(st.none() | looks),
        unseen=draw(st.booleans()),
    )


changed = st.builds(Change, st.sampled_from(KEYS), digests, digests, instants)
batches_of_changes = st.lists(st.lists(changed, max_size=20), max_size=3)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(KEYS[:2]), stored()), batches_of_changes)
def test_a_batch_makes_of_each_history_what_python_makes_of_it(
    store_url: str,
    monkeypatch: pytest.MonkeyPatch,
    before: dict[bytes, History],
    batches: list[list[Change]],
) -> None:
    """Bounded at few versions here, so that thinning happens in most cases."""
    for module in (histories, reader_store):
        monkeypatch.setattr(module, "MAX_VERSIONS", 6)
    publishing = Publishing(store_url)
    expected = dict(before)
    for key, history in before.items():
        publishing.put(key, history)
    for batch in batches:
        publishing.publish(batch)
        for change in batch:
            expected[change.key] = append(expected.get(change.key), change)
        for key in {change.key for change in batch}:
            expected[key] = thin(expected[key])
    published = sum(map(len, batches))
    ledger = publishing.store.ledger()
    outstanding = sum(one.outstanding for one in before.values()) + ledger.outstanding
    assert {key: publishing.history(key) for key in expected} == expected
    assert sum(one.outstanding for one in expected.values()) == outstanding
    assert ledger.versions_published == ledger.outstanding == published
    publishing.store.close()


def test_a_hot_key_that_nobody_looks_at_stays_small_and_is_counted_to_the_last_version(
    publishing: Publishing,
) -> None:
    """Only a look thinned a history: 26,000 versions cost Redis 4.6 s a batch, 412 MB of append-only file."""
    created, before, versions = 1_000, ABSENT, 0
    for _ in range(12):
        batch = []
        for _ in range(1_000):
            after = versions.to_bytes(16)
            batch.append(Change(b'"hot"', before, after, created))
            before, created, versions = after, created + 1, versions + 1
        publishing.publish(batch)
        assert publishing.size(b'"hot"') <= codec.HEADER.size + codec.VERSION.size * (
            histories.MAX_VERSIONS + 2
        )
    history = publishing.history(b'"hot"')
    assert (history.unreached, history.newest) == (versions, versions)
    assert history.versions[-1] == (before, created - 1)
    ledger = publishing.store.ledger()
    assert (ledger.versions_published, ledger.outstanding) == (versions, versions)


def test_the_replica_of_a_thinned_key_is_found_right_and_every_version_reached(
    publishing: Publishing,
) -> None:
    last = b"z" * 16
    publishing.publish([Change(b'"hot"', ABSENT, b"%016d" % n, 1_000) for n in range(5_000)])
    publishing.publish([Change(b'"hot"', b"%016d" % 4_999, last, 2_000)])
    claim = publishing.store.claim("v", 1, 0)
    [entry] = claim.entries
    history, now = codec.decode(entry.raw), claim.now_ms
    look = Look(last, now, history.newest, strong=True, witness=last)
    judgement = judge(history, look, Moment(now, now + 10_000), Policy(60_000, 1_000))
    assert judgement.verdict is VerdictKind.MATCH and judgement.reached == 5_001
    after = codec.encode(judgement.history) if judgement.history else b""
    commit = Commit(entry, after, judgement.next_ms, tally(history, judgement, 1, 1), judged=True)
    assert publishing.store.commit([commit], now).refused == []
    ledger = publishing.store.ledger()
    assert (ledger.reached, ledger.outstanding, ledger.balanced) == (5_001, 0, True)
