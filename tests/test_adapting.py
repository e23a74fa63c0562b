"""The deadline that follows the lag, in a real Redis: who makes it, who is handed it, what it puts off."""

import uuid
from collections.abc import Iterator
from typing import cast

import msgspec
import pytest

from pipeline.core.adaptive import Adaptive, is_probe
from pipeline.core.ledger import PROBE, PROBE_MS, lag_bucket
from pipeline.core.model import ABSENT, Change, Checkpoint, Counts
from pipeline.store import begin
from pipeline.store.adapting import FIELDS
from pipeline.store.messages import Lease, Outcome
from tests import places
from tests.whole_store import WholeStore

AT_MOST_MS = 600_000
BEGIN, NEXT = Checkpoint(b"TRIM_HORIZON"), Checkpoint(b"1")
DIGEST = b"a" * 16
AUTO = {"converge-within": "auto", "converge-at-most": "10m"}
FIXED = {"converge-within": "1m"}
PROBING = next(key for key in (b'"%d"' % number for number in range(100)) if is_probe(key))
PATIENT = next(key for key in (b'"%d"' % number for number in range(100)) if not is_probe(key))


@pytest.fixture
def store(store_url: str) -> Iterator[WholeStore]:
    one = WholeStore.begin(store_url, f"test-{uuid.uuid4().hex}", {"verify_on": "target"})
    yield one
    one.close()


@pytest.fixture
def lease(store: WholeStore) -> Lease:
    store.register("test:1", BEGIN)
    taken = store.lease("test:1", "reader-a", 10_000)
    assert taken is not None
    return taken


def _measured(store: WholeStore, lag_ms: int, times: int) -> None:
    """As if so many looks had measured that lag, every one of a probe."""
    minute = store.now_ms() // 60_000
    bucket = lag_bucket(lag_ms)
    for field, count in ((f"{bucket}", times), (f"{PROBE}{bucket}", times), (PROBE_MS, times * lag_ms)):
        store._redis.hset(store._key(f"lag:{minute}"), field, count)


def _kept(store: WholeStore) -> Adaptive:
    found = store.claim("v", 1, 0).adaptive
    assert found is not None
    return found


def _written(store: WholeStore, lease: Lease, key: bytes, at_ms: int) -> int | None:
    """When the key is due that was written then; None: it is in work."""
    store._redis.hset(store._key("checkpoints"), "test:1", BEGIN.encode())
    change = Change(key, ABSENT, DIGEST, at_ms)
    assert store.publish(lease, BEGIN, NEXT, [change], Counts(1)).outcome is Outcome.PUBLISHED
    return places.due_ms(store, key)


def test_it_follows_what_was_measured_and_every_claim_brings_it_along(store: WholeStore) -> None:
    assert store.claim("v", 1, 0).adaptive is None
    _measured(store, 110_000, 50)
    store.adapt(AT_MOST_MS)
    made = _kept(store)
    assert (made.converge_within_ms, made.first_look_ms) == (360_000, 110_000)
    store.adapt(AT_MOST_MS)  # another validator, at once
    assert _kept(store) == made


def test_what_waits_counts_with_its_age(store: WholeStore) -> None:
    _measured(store, 1_000, 50)
    store._redis.hset(store._key("late"), str((store.now_ms() - 55_000) // 10_000), 5)
    store.adapt(AT_MOST_MS)
    assert _kept(store).converge_within_ms > 100_000


def test_where_readers_are_behind_the_longest_is_judged_by(store: WholeStore) -> None:
    _measured(store, 1_000, 50)
    store._redis.hset(store._key("meta"), "watermark_ms", store.now_ms() - 60_000)
    store.adapt(AT_MOST_MS)
    assert _kept(store).converge_within_ms == AT_MOST_MS


def test_a_changed_key_is_first_looked_at_when_half_are_through_but_for_a_probe(
    store: WholeStore, lease: Lease
) -> None:
    now_ms = store.now_ms()
    assert _written(store, lease, b'"before"', now_ms) is None
    _measured(store, 110_000, 50)
    store.adapt(AT_MOST_MS)
    assert _written(store, lease, PATIENT, now_ms) == -(-(now_ms + 110_000) // 1_000) * 1_000
    assert _written(store, lease, PROBING, now_ms) is None
    assert _written(store, lease, b'"old"', now_ms - 200_000) is None  # it should be there


def test_a_start_with_other_times_forgets_it(store: WholeStore) -> None:
    begin(store._connection, store.meta.settings, AUTO)
    store.adapt(AT_MOST_MS)
    assert store.figures().adaptive == _shown(store)
    begin(store._connection, store.meta.settings, AUTO)  # a restart goes on
    assert store.figures().adaptive is not None
    begin(store._connection, store.meta.settings, FIXED)
    assert store.figures().adaptive is store.claim("v", 1, 0).adaptive is None


def _shown(store: WholeStore) -> Adaptive:
    held = cast(bytes, store._redis.hget(store._key("meta"), "held"))
    return msgspec.structs.replace(_kept(store), held=tuple(map(tuple, msgspec.json.decode(held))))


@pytest.mark.parametrize("field", FIELDS)
def test_damaged_it_is_not_believed_and_made_anew(store: WholeStore, field: str) -> None:
    store.adapt(AT_MOST_MS)
    store._redis.hset(store._key("meta"), field, "rubbish")
    found = store.claim("v", 1, 0).adaptive
    assert found is None or field == "held"
    store._redis.hset(store._key("meta"), "adapted_ms", "1")
    store.adapt(AT_MOST_MS)
    assert _kept(store).adapted_ms > 1
