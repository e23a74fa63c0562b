"""The store against real servers: atomic publish and commit, fences, rechecks, dead letters, accounting."""

import itertools
import json
import re
import threading
import tracemalloc
import uuid
from collections.abc import Callable, Iterator

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.judging.history import FindingChange, HeldLook, History, Judgement
from pipeline.core.judging.rule import judge, wake
from pipeline.core.ledger import Closing, tally
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
from pipeline.errors import (
    ConfigurationError,
    SettingsChanged,
    StateDamaged,
    StateLost,
    StoreUnavailable,
    StoreUnusable,
)
from pipeline.store import RedisConnection, StoreView, check_server, codec
from pipeline.store.beginning import begin
from pipeline.store.messages import Commit, Entry, Lease, Outcome
from tests import places
from tests.core.reference import append
from tests.whole_store import WholeStore

A, B, C = (bytes([n]) * 16 for n in (1, 2, 3))
BEGIN = Checkpoint(b"")
POLICY = Policy(60_000, 30_000)
SETTINGS = {"target_table": "orders", "sample_rate": "100.0"}


def after(number: int) -> Checkpoint:
    return Checkpoint(f"{number}".encode())


def inserts(number: int) -> Counts:
    return Counts(number, 0, {"INSERT": number})


@pytest.fixture
def store(store_url: str) -> Iterator[WholeStore]:
    one = WholeStore.begin(store_url, f"test-{uuid.uuid4().hex}", SETTINGS)
    yield one
    one.close()


@pytest.fixture
def lease(store: WholeStore) -> Lease:
    store.register("test:1", BEGIN)
    taken = store.lease("test:1", "reader-a", 10_000)
    assert taken is not None
    return taken


def publish(
    store: WholeStore, lease: Lease, *changes: Change, at: Checkpoint = BEGIN, to: Checkpoint | None = None
) -> Outcome:
    counts = inserts(len(changes))
    return store.publish(lease, at, to or after(1), changes, counts).outcome


def change(key: bytes = b'"k"', before: bytes = ABSENT, digest: bytes = A) -> Change:
    return Change(key, before, digest, 1_000)


def settle(store: WholeStore, entry: Entry, digest: bytes, now_ms: int) -> Commit:
    history = codec.decode(entry.raw)
    judgement = judge(history, Look(digest, now_ms, history.newest), Moment(now_ms, now_ms), POLICY)
    return commit_of(entry, history, judgement)


def commit_of(entry: Entry, history: History, judgement: Judgement) -> Commit:
    encoded = codec.encode(judgement.history) if judgement.history else b""
    return Commit(entry, encoded, judgement.next_ms, tally(history, judgement, 1, 0), judged=True)


# --- start -------------------------------------------------------------------------------------------------


def test_a_server_that_may_evict_is_refused(store: WholeStore, store_url: str) -> None:
    client = redis.Redis.from_url(store_url)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(ConfigurationError, match="noeviction"):
            check_server(store._connection)
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    assert check_server(store._connection).policy == "noeviction"


def test_changed_settings_are_refused_by_name(store: WholeStore, store_url: str) -> None:
    with pytest.raises(SettingsChanged, match=r"sample_rate: 100\.0 → 5\.0"):
        WholeStore.begin(store_url, store.migration, {**SETTINGS, "sample_rate": "5.0"})
    assert WholeStore.begin(store_url, store.migration, SETTINGS).meta == store.meta


def test_nobody_listening_is_store_unavailable() -> None:
    with pytest.raises(StoreUnavailable):
        StoreView.open("redis://127.0.0.1:1", "m")


def test_a_url_that_is_none_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="--redis-url"):
        RedisConnection("http://localhost", "m")


@pytest.mark.parametrize("stored", [None, "1", "99"])
@pytest.mark.parametrize("opening", ["begin", "open", "figures"])
def test_state_of_another_format_is_refused_and_the_remedy_named(
    store: WholeStore, store_url: str, stored: str | None, opening: str
) -> None:
    """None: as versions before the first release left it."""
    if stored is None:
        store._redis.hdel(store._key("meta"), "format")
    else:
        store._redis.hset(store._key("meta"), "format", stored)
    ways: dict[str, Callable[[], object]] = {
        "begin": lambda: WholeStore.begin(store_url, store.migration, SETTINGS),
        "open": lambda: StoreView.open(store_url, store.migration),
        "figures": store.figures,
    }
    with pytest.raises(ConfigurationError, match="another name") as refused:
        ways[opening]()
    command = re.search(r"`(redis-cli .*?)`", str(refused.value))
    assert command is not None
    assert f"'ddbmm:{{{store.migration}}}:*'" in command[1]


def test_a_key_has_another_hash_in_every_migration(store: WholeStore, store_url: str) -> None:
    other = WholeStore.begin(store_url, f"test-{uuid.uuid4().hex}", SETTINGS)
    assert other.key_hash(b'"k"') != store.key_hash(b'"k"')
    again = StoreView.open(store_url, store.migration)
    assert again is not None and again.key_hash(b'"k"') == store.key_hash(b'"k"')


def test_many_that_begin_at_once_begin_one_migration(store_url: str) -> None:
    """One secret, one start: five calls, one after the other, could mix two beginnings."""
    name, metas = f"test-{uuid.uuid4().hex}", []

    def begin() -> None:
        metas.append(WholeStore.begin(store_url, name, SETTINGS).meta)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(metas) == 8 and len(set(map(msgspec.json.encode, metas))) == 1


def test_readers_alive_are_counted_by_the_stores_clock(store: WholeStore) -> None:
    assert store.heartbeat("test", "a", 60_000) == 1
    assert store.heartbeat("test", "b", 60_000) == 2
    store._redis.zadd(store._key("readers"), {"test:a": store.now_ms() - 1})
    assert store.heartbeat("test", "b", 60_000) == 1
    assert store.reader_state().readers == 1
    store.retire("test", "b")
    assert store.reader_state().readers == 0


# --- publish -----------------------------------------------------------------------------------------------


def test_a_publish_repeated_after_a_lost_reply_changes_nothing(store: WholeStore, lease: Lease) -> None:
    assert publish(store, lease, change()) is Outcome.PUBLISHED
    assert publish(store, lease, change()) is Outcome.DUPLICATE
    ledger = store.ledger()
    assert (ledger.records_read, ledger.versions_published, store.queue().backlog) == (1, 1, 1)


def test_a_fenced_reader_publishes_nothing(store: WholeStore, lease: Lease) -> None:
    store.release(lease)
    assert store.lease("test:1", "reader-b", 10_000) is not None
    assert publish(store, lease, change()) is Outcome.FENCED
    assert store.ledger().versions_published == 0


def test_a_reader_at_the_wrong_position_gets_a_conflict(store: WholeStore, lease: Lease) -> None:
    publish(store, lease, change())
    assert publish(store, lease, change(), at=BEGIN, to=after(2)) is Outcome.CONFLICT
    ledger = store.ledger()
    assert (ledger.records_read, ledger.records_repeated) == (1, 1)


def test_of_two_readers_that_race_for_a_lease_one_gets_it(store: WholeStore) -> None:
    store.register("test:1", BEGIN)
    taken: list[Lease | None] = []
    threads = [
        threading.Thread(target=lambda name=name: taken.append(store.lease("test:1", name, 10_000)))
        for name in ("a", "b", "c", "d")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one is not None for one in taken) == 1


def test_a_lease_left_alone_goes_to_another_reader_with_a_higher_epoch(store: WholeStore) -> None:
    store.register("test:1", BEGIN)
    first = store.lease("test:1", "a", 0)
    second = store.lease("test:1", "b", 10_000)
    assert first is not None and second is not None and second.epoch > first.epoch
    assert store.renew("a", [first], {"test:1": (BEGIN, 0)}, 10_000) == {}


def test_a_key_is_queued_at_most_once(store: WholeStore, lease: Lease) -> None:
    publish(store, lease, change(), change(before=A, digest=B), change(before=B, digest=C))
    assert store.queue().backlog == 1
    ledger = store.ledger()
    assert (ledger.versions_published, ledger.keys_coalesced, ledger.keys_sampled) == (3, 2, 1)


known = st.sampled_from([ABSENT, A, B, C])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(known | st.just(UNKNOWN), known | st.just(UNKNOWN), st.integers(0, 2**44)),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(Phase),
)
def test_publish_appends_exactly_as_the_reference_does(
    store: WholeStore, lease: Lease, changes: list[tuple[bytes, bytes, int]], phase: Phase
) -> None:
    key = uuid.uuid4().hex.encode()
    expected: History | None = None
    position = store.partitions()["test:1"]
    for before, digest, created in changes:
        one = Change(key, before, digest, created)
        following = Checkpoint(uuid.uuid4().hex.encode())
        assert store.publish(lease, position, following, [one], inserts(1)).outcome is Outcome.PUBLISHED
        position = following
        expected = append(expected, one)
    raw = store._redis.hget(store._key("history"), key)
    assert isinstance(raw, bytes) and codec.decode(raw) == expected


def test_the_instant_the_watch_began_at_latest_is_kept_and_handed_to_validators(store: WholeStore) -> None:
    assert store.claim("v", 1, 0).watched_since_ms == 0
    for name, at_ms in (("test:1", 7_000), ("test:2", 9_000), ("test:3", 8_000)):
        store.register(name, BEGIN)
        lease = store.lease(name, "reader-a", 10_000)
        assert lease is not None
        begun = store.publish(lease, BEGIN, after(0), [], Counts(), watch_began_ms=at_ms)
        assert begun.outcome is Outcome.PUBLISHED
    assert store.claim("v", 1, 0).watched_since_ms == 9_000


def test_thousands_of_changes_go_in_one_step(store: WholeStore, lease: Lease) -> None:
    changes = [change(key=f'"{number}"'.encode()) for number in range(5_000)]
    assert publish(store, lease, *changes) is Outcome.PUBLISHED
    assert store.queue().outstanding == store.queue().backlog == 5_000


@pytest.mark.parametrize("position", [b"", b"a|b|c", b'"\\xff"\xff\x00\n', b"o"])
@pytest.mark.parametrize("finished", [False, True])
def test_a_position_is_whatever_bytes_its_producer_chose(
    store: WholeStore, lease: Lease, position: bytes, finished: bool
) -> None:
    following = Checkpoint(position + b"!", finished)
    assert publish(store, lease, change(), to=following) is Outcome.PUBLISHED
    assert store.partitions() == {"test:1": following}
    assert store.add_gap(lease, "test:1", "trimmed", following) is Outcome.PUBLISHED
    assert len(store.gaps()) == 1


def test_a_batch_that_cannot_be_written_whole_is_not_written_at_all(
    store: WholeStore, lease: Lease, store_url: str
) -> None:
    """A script is not rolled back: what is refused in its middle would be there twice when it is repeated."""
    batch = [change(), change(key=b'"other"'), change(key=b'"bad"')]
    store._redis.hset(store._key("ledger"), "outstanding", "no number")
    with pytest.raises(StateDamaged, match="holds no number"):
        publish(store, lease, *batch)
    store._redis.hdel(store._key("ledger"), "outstanding")
    store._redis.acl_setuser("weak", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-pfadd"])
    try:
        weak = WholeStore.begin(store_url.replace("://", "://weak:x@"), store.migration, SETTINGS)
        with pytest.raises(StoreUnusable, match="PFADD"):
            publish(weak, lease, *batch)
    finally:
        store._redis.acl_deluser("weak")
    assert (store.queue().backlog, store.queue().outstanding, store.ledger().records_read) == (0, 0, 0)
    assert publish(store, lease, *batch) is Outcome.PUBLISHED


# --- watermark ---------------------------------------------------------------------------------------------


def test_the_watermark_is_the_least_of_all_partitions_and_never_goes_back(
    store: WholeStore, lease: Lease
) -> None:
    store.register("test:2", BEGIN, 500)
    store.renew("reader-a", [lease], {"test:1": (BEGIN, 9_000)}, 10_000)
    assert store.reader_state().watermark_ms == 500
    store.track(store.discovery(), unwatched=["test:2"])
    store.renew("reader-a", [lease], {"test:1": (BEGIN, 8_000)}, 10_000)
    assert store.reader_state().watermark_ms == 9_000


def test_a_watermark_is_not_posted_for_another_checkpoint_than_the_stored_one(
    store: WholeStore, lease: Lease
) -> None:
    """A Redis that came back older: what it has lost is not read through."""
    assert store.renew("reader-a", [lease], {"test:1": (after(7), 9_000)}, 10_000) == {"test:1": False}
    assert store.reader_state().watermark_ms == 0


def test_readers_are_told_that_the_state_is_gone(store: WholeStore, lease: Lease, store_url: str) -> None:
    store._redis.delete(store._key("meta"))
    with pytest.raises(StateLost):
        store.lease("test:1", "reader-a", 10_000)
    with pytest.raises(StateLost):
        store.renew("reader-a", [lease], {"test:1": (BEGIN, 0)}, 10_000)
    assert store.begin_again()
    assert store.partitions() == {} and store.begun_again()
    assert not store.begin_again()
    assert WholeStore.begin(store_url, store.migration, SETTINGS).meta == store.meta
    assert store.renew("reader-a", [lease], {"test:1": (BEGIN, 0)}, 10_000) == {}


def test_of_two_that_begin_again_the_one_that_watched_longest_wins(store: WholeStore, store_url: str) -> None:
    store._redis.delete(store._key("meta"))
    other = WholeStore.begin(store_url, store.migration, SETTINGS)
    other.meta = msgspec.structs.replace(other.meta, started_ms=store.meta.started_ms + 1)
    store._redis.hset(store._key("meta"), "started_ms", other.meta.started_ms)
    assert store.begin_again()
    assert not other.begin_again()
    assert WholeStore.begin(store_url, store.migration, SETTINGS).meta == store.meta


def test_a_partition_without_a_watermark_holds_nobody_back(store: WholeStore, lease: Lease) -> None:
    store.register("test:2", BEGIN, watermark_ms=None)
    other = store.lease("test:2", "reader-a", 10_000)
    assert other is not None
    posted = {"test:1": (BEGIN, 9_000), "test:2": (BEGIN, 1_000)}
    assert store.renew("reader-a", [lease, other], posted, 10_000) == {"test:1": True, "test:2": True}
    assert store.reader_state().watermark_ms == 9_000


def test_a_gap_is_named_counted_and_handed_to_validators(store: WholeStore, lease: Lease) -> None:
    reported = [store.add_gap(lease, "test:1", "trimmed", after(7)) for _ in range(2)]  # a lost reply
    assert reported == [Outcome.PUBLISHED, Outcome.DUPLICATE]
    assert [(gap.partition, gap.reason, gap.position) for gap in store.gaps()] == [("test:1", "trimmed", "7")]
    assert store.ledger().gaps == store.reader_state().gaps == 1
    assert store.claim("v", 10, 0).gap_ms == store.gaps()[0].at_ms


# --- one step each: what another reader does in between ----------------------------------------------------


def after_command(store: WholeStore, number: int, action: Callable[[], object]) -> None:
    """Have `action` done by somebody else right after the `number`-th command that `store` sends."""
    send, sent = store._redis.execute_command, itertools.count(1)

    def send_then_act(*command: object, **options: object) -> object:
        reply = send(*command, **options)
        if next(sent) == number:
            action()
        return reply

    store._redis.execute_command = send_then_act  # type: ignore[method-assign]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_late_release_never_fences_the_new_owner(store: WholeStore, store_url: str, number: int) -> None:
    store.register("test:1", BEGIN)
    late = store.lease("test:1", "late", 0)  # has run out already
    assert late is not None
    other, taken = WholeStore.begin(store_url, store.migration, SETTINGS), []
    after_command(store, number, lambda: taken.append(other.lease("test:1", "new", 10_000)))
    store.release(late)
    new = taken[0] if taken else other.lease("test:1", "new", 10_000)
    assert new is not None
    assert other.renew("new", [new], {"test:1": (BEGIN, 0)}, 10_000) == {"test:1": True}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_gap_reported_twice_at_once_is_recorded_once(
    store: WholeStore, lease: Lease, store_url: str, number: int
) -> None:
    other = WholeStore.begin(store_url, store.migration, SETTINGS)
    after_command(store, number, lambda: other.add_gap(lease, "test:1", "trimmed", after(7)))
    store.add_gap(lease, "test:1", "trimmed", after(7))
    assert (len(store.gaps()), store.ledger().gaps) == (1, 1)


def test_a_reader_that_was_overtaken_reports_no_gap(store: WholeStore, lease: Lease) -> None:
    store.release(lease)
    assert store.lease("test:1", "reader-b", 10_000) is not None
    assert store.add_gap(lease, "test:1", "trimmed", after(7)) is Outcome.FENCED
    assert store.gaps() == []


def test_a_discovery_that_was_overtaken_brings_nothing_back(store: WholeStore) -> None:
    """Suspended with an old listing in its hands while others finished and forgot what it lists."""
    late = store.discovery()
    store.release(late)
    store.register("test:1", Checkpoint(b"9", finished=True))
    store.track(store.discovery(), forget=["test:1"])
    assert not store.track(late, [("test:1", BEGIN, 0)])
    assert store.partitions() == {}


def test_a_partition_that_is_tracked_keeps_its_checkpoint_and_its_watermark(
    store: WholeStore, lease: Lease
) -> None:
    publish(store, lease, change())
    store.track(store.discovery(), unwatched=["test:1"])
    store.register("test:1", BEGIN, 5)
    assert store.partitions() == {"test:1": after(1)} and store.watermarks("test") == {}


def test_what_a_wrong_clock_dated_an_hour_ahead_holds_nobody_up(store: WholeStore, lease: Lease) -> None:
    ahead_ms = store.now_ms() + 3_600_000
    store._redis.hset(store._key("leases"), "test:1", f"{lease.epoch}|{ahead_ms}|{lease.owner}")
    assert store.lease("test:1", "reader-b", 10_000) is not None
    store._redis.zadd(store._key("readers"), {"test:gone": ahead_ms})
    assert store.heartbeat("test", "reader-b", 10_000) == 1


def test_readers_alive_are_counted_by_producer(store: WholeStore) -> None:
    assert [store.heartbeat("test", one, 10_000) for one in ("a", "b")] == [1, 2]
    assert store.heartbeat("toy", "a", 10_000) == 1
    store.retire("test", "a")
    assert store.heartbeat("test", "b", 10_000) == 1


def test_a_validator_is_alive_until_it_says_that_it_is_gone_or_falls_silent(store: WholeStore) -> None:
    assert store.figures().validators == 0
    store._redis.zadd(store._key("validators"), {"validators:silent": store.now_ms() - 1})
    assert store.figures().validators == 0
    for name in ("a", "b"):
        store.say_alive(name, 10_000)
    assert store.figures().validators == 2
    store.say_gone("a")
    assert store.figures().validators == 1


def test_a_key_is_overdue_from_when_it_became_due_until_its_look_is_committed(
    store: WholeStore, lease: Lease
) -> None:
    """In `work`, in a validator's hands, and in `due` alike; however often a validator failed to read it."""
    before_ms = store.now_ms()
    publish(store, lease, change())
    [entry] = store.claim("v", 10, 0).entries
    due_ms = store.figures().longest_due_ms
    assert due_ms is not None and before_ms <= due_ms <= store.now_ms()
    store.commit([Commit(entry, entry.raw, before_ms - 40_000, "")], store.now_ms())
    for _ in ("in due", "in work"):
        assert store.figures().longest_due_ms == before_ms - 40_000
        assert store.figures().overdue_seconds >= 40
        [entry] = store.claim("v", 10, 0).entries or [entry]
    ahead_ms = store.now_ms() // 1_000 * 1_000 + 60_000
    store.commit([Commit(entry, entry.raw, ahead_ms, "", verdict=True)], store.now_ms())
    figures = store.figures()
    assert (figures.longest_due_ms, figures.overdue_seconds) == (ahead_ms, 0)
    assert figures.verdict_ms is not None and figures.verdict_ms >= before_ms


# --- claim and commit --------------------------------------------------------------------------------------


def test_a_verdict_is_committed_once_even_if_the_reply_is_lost(store: WholeStore, lease: Lease) -> None:
    publish(store, lease, change())
    claim = store.claim("v", 10, 0)
    done = [settle(store, claim.entries[0], A, claim.now_ms)]
    assert store.commit(done, claim.now_ms).refused == []
    store.commit(
        done, claim.now_ms
    )  # the history has changed by our own commit: refused or ignored, never counted
    ledger = store.ledger()
    assert (ledger.reached, ledger.matches, ledger.outstanding, ledger.balanced) == (1, 1, 0, True)
    assert store.queue().due == 1


def test_a_validator_that_lost_its_entry_changes_nothing(store: WholeStore, lease: Lease) -> None:
    publish(store, lease, change())
    slow = store.claim("slow", 10, 0)
    quick = store.claim("quick", 10, 1) if _wait_until_idle(store) else None
    assert quick is not None and [entry.deliveries for entry in quick.entries] == [2]
    store.commit([settle(store, quick.entries[0], A, quick.now_ms)], quick.now_ms)
    before = store.ledger()
    store.commit([settle(store, slow.entries[0], A, slow.now_ms)], slow.now_ms)
    assert store.ledger().reached == before.reached == 1
    assert store.ledger().balanced


def test_an_entry_that_has_become_another_stays_in_the_queue(store: WholeStore, lease: Lease) -> None:
    """A server that was replaced gave the id to one entry, and its replacement to another."""
    publish(store, lease, change(b'"mine"'))
    publish(store, lease, change(b'"other"'), at=after(1), to=after(2))
    claim = store.claim("v", 10, 0)
    mine, other = claim.entries
    for id_ in (other.id, b"1-1"):
        moved = msgspec.structs.replace(mine, id=id_)
        assert store.commit([settle(store, moved, A, claim.now_ms)], claim.now_ms).lost == [0]
    assert (store.ledger().reached, store.queue().pending, store.queue().due) == (0, 2, 0)
    done = [settle(store, one, A, claim.now_ms) for one in claim.entries]
    assert store.commit(done, claim.now_ms).lost == []
    assert store.ledger().reached == 2 and store.ledger().balanced


def _wait_until_idle(store: WholeStore) -> bool:
    """True once the pending entry has been idle for over a millisecond, on the server's clock."""
    started = store.now_ms()
    while store.now_ms() < started + 5:
        pass
    return True


def test_a_version_published_under_a_look_refuses_the_commit_and_shows_the_new_history(
    store: WholeStore, lease: Lease
) -> None:
    publish(store, lease, change())
    claim = store.claim("v", 10, 0)
    publish(store, lease, change(before=A, digest=B), at=after(1), to=after(2))
    refused = store.commit([settle(store, claim.entries[0], A, claim.now_ms)], claim.now_ms).refused
    assert [one.index for one in refused] == [0]
    assert len(codec.decode(refused[0].raw).versions) == 3
    assert store.ledger().reached == 0


def test_a_restarted_validator_takes_back_what_its_earlier_life_left(store: WholeStore, lease: Lease) -> None:
    publish(store, lease, change())
    assert store.claim("v", 10, 0).entries
    assert store.claim("v", 10, 0).entries == []
    assert [entry.key for entry in store.claim("v", 10, 0, adopt=True).entries] == [b'"k"']
    assert store.ledger().entries_redelivered == 1


def test_a_due_recheck_comes_back_through_the_work_stream(store: WholeStore, lease: Lease) -> None:
    publish(store, lease, change())
    claim = store.claim("v", 10, 0)
    entry = claim.entries[0]
    store.commit([Commit(entry, entry.raw, claim.now_ms, "looks_without_progress=1")], claim.now_ms)
    again = store.claim("v", 10, 0)
    assert [one.key for one in again.entries] == [entry.key]
    assert store.queue().due == 0


def test_what_is_settled_and_due_is_forgotten_just_where_the_rule_would(
    store: WholeStore, lease: Lease, store_url: str
) -> None:
    """claim.lua spares most keys the way to a validator: its shortcut against the rule itself."""
    held = HeldLook(Look(A, 1_000, 1), 1_000)
    every = itertools.product(Phase, (False, True), (False, True), (None, held), (A, B * 4))
    over: set[bytes] = set()
    kept: set[bytes] = set()
    waiting: dict[bytes, History | bytes] = {}
    for number, (phase, settle_look, incomplete, look, key) in enumerate(every):
        history = History(
            ((ABSENT, 0), (A, 1_000)), 2, phase, settle=settle_look, incomplete=incomplete, held=look
        )
        name = key + bytes([number])
        waiting[name] = history
        unproven = wake(history, Moment(2_000, 0), POLICY)
        (over if unproven is not None and unproven.history is None else kept).add(name)
    places.wait(store, 1_000, waiting)
    handed_out = store.claim("v", 100, 0)
    assert {entry.key for entry in handed_out.entries} == kept
    assert over and store.queue().outstanding == len(kept) and store.queue().due == 0


def test_many_settled_keys_leave_room_for_the_one_that_is_not(
    store: WholeStore, lease: Lease, store_url: str
) -> None:
    settled_history = History(((ABSENT, 0), (A, 1_000)), 2, Phase.SETTLING)
    for number in range(9):
        places.wait(store, 1_000 + number, {b"%d-%d" % (number, nth): settled_history for nth in range(9)})
    places.wait(store, 2_000, {b"last": History(((ABSENT, 0), (A, 1_000)), 1)})
    assert [entry.key for entry in store.claim("v", 10, 0).entries] == [b"last"]
    assert store.queue().outstanding == 1


def test_a_recheck_that_is_not_due_stays_away(store: WholeStore, lease: Lease) -> None:
    publish(store, lease, change())
    claim = store.claim("v", 10, 0)
    store.commit([settle(store, claim.entries[0], A, claim.now_ms)], claim.now_ms)
    assert store.claim("v", 10, 0).entries == []


def test_a_new_version_brings_a_settling_key_forward(store: WholeStore, lease: Lease) -> None:
    publish(store, lease, change())
    claim = store.claim("v", 10, 0)
    long_ago = claim.now_ms - 60_000
    done = settle(store, claim.entries[0], A, long_ago)
    in_half_a_minute = msgspec.structs.replace(done, next_ms=claim.now_ms + 30_000)
    store.commit([in_half_a_minute], claim.now_ms)
    publish(store, lease, change(before=A, digest=B), at=after(1), to=after(2))
    assert len(store.claim("v", 10, 0).entries) == 1


FINDING_LEFT = '{"kind":"different","versions_behind":1,"attributes":[],"last_looked_ms":7}'


def test_a_finding_opens_updates_and_recovers(store: WholeStore, lease: Lease) -> None:
    publish(store, lease, change())
    claim = store.claim("v", 10, 0)
    entry, history = claim.entries[0], codec.decode(claim.entries[0].raw)
    look = Look(ABSENT, 70_000, 1, True, A)
    judgement = judge(history, look, Moment(75_000, 74_000), POLICY)
    assert judgement.finding is FindingChange.OPENED
    finding = '{"kind":"missing","versions_behind":1,"attributes":[],"last_looked_ms":70000}'
    done = commit_of(entry, history, judgement)
    store.commit([Commit(entry, done.after, claim.now_ms, done.tally, finding, judged=True)], claim.now_ms)
    opened = list(store.findings())
    assert [(one.key, one.kind, one.first_seen_ms) for one in opened] == [
        (b'"k"', VerdictKind.MISSING, claim.now_ms)
    ]
    assert store.ledger().open["missing"] == 1 and store.ledger().balanced

    again = store.claim("v", 10, 0)
    history = codec.decode(again.entries[0].raw)
    recovered = judge(history, Look(A, 80_000, 1, True, A), Moment(80_000, 80_000), POLICY)
    done = commit_of(again.entries[0], history, recovered)
    store.commit(
        [Commit(again.entries[0], done.after, done.next_ms, done.tally, None, Closing.RECOVERED)],
        again.now_ms,
    )
    ledger = store.ledger()
    assert list(store.findings()) == []
    assert (ledger.open["missing"], ledger.recovered, ledger.alarmed, ledger.reached) == (0, 1, 0, 1)
    assert ledger.balanced


@pytest.mark.parametrize("seen", [A, ABSENT])
def test_a_finding_that_a_dead_letter_left_is_taken_up_by_the_next_answer(
    store: WholeStore, lease: Lease, seen: bytes
) -> None:
    """It stays open: the key was last seen wrong. But it could never be closed, or was counted twice."""
    store._redis.hset(store._key("findings"), b'"k"', FINDING_LEFT)
    store._redis.execute_command("ZADD", store._key("findings-since"), 5, b'"k"')
    store._redis.hincrby(store._key("ledger"), "open:different", 1)
    publish(store, lease, change())
    claim = store.claim("v", 10, 0)
    entry, history = claim.entries[0], codec.decode(claim.entries[0].raw)
    judgement = judge(history, Look(seen, 70_000, 1, True, A), Moment(75_000, 74_000), POLICY)
    done = commit_of(entry, history, judgement)
    finding = FINDING_LEFT.replace("different", "missing") if seen == ABSENT else None
    made = Commit(entry, done.after, claim.now_ms, done.tally, finding, verdict=True)
    committed = store.commit([made], claim.now_ms)
    assert [(one.since_ms, one.before) for one in committed.findings] == [(5, FINDING_LEFT.encode())]
    ledger, found = store.ledger(), list(store.findings())
    assert (ledger.open["different"], ledger.open["missing"]) == (0, len(found))
    assert [(one.kind, one.first_seen_ms) for one in found] == ([("missing", 5)] if finding else [])
    assert ledger.recovered == (0 if finding else 1) and ledger.balanced
    assert len(list(store.closed_findings())) == ledger.recovered


def test_findings_are_read_in_order_and_a_page_at_a_time(store: WholeStore) -> None:
    """Thousands of them, many of one instant, without holding them all."""
    names = [f"attribute-{number:04}" + "x" * 40 for number in range(50)]
    stored = json.dumps({"kind": "missing", "versions_behind": 1, "attributes": names, "last_looked_ms": 7})
    keys = [f'"{number:05}"' for number in range(6_000)]
    for start in range(0, len(keys), 1_000):
        some = keys[start : start + 1_000]
        store._redis.hset(store._key("findings"), mapping=dict.fromkeys(some, stored))
        store._redis.zadd(store._key("findings-since"), {key: int(key[1:6]) // 2_700 for key in some})
    store._redis.hdel(store._key("findings"), keys[77])  # closed in this very moment
    tracemalloc.start()
    seen = [one.key.decode() for one in store.findings()]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == [*keys[:77], *keys[78:]]
    assert peak < 10_000_000  # all of them decoded are 40 MB


def test_a_poison_entry_is_handed_out_without_a_history(store: WholeStore) -> None:
    store._redis.xadd(store._key("work"), {"garbage": "x"})
    claim = store.claim("v", 10, 0)
    assert [(entry.key, entry.raw) for entry in claim.entries] == [(b"", b"")]
    dead = Commit(claim.entries[0], b"", 0, "dead_entries:poison=1", dead=True)
    store.commit([dead], claim.now_ms)
    assert (store.queue().dead, store.queue().backlog, store.ledger().dead_entries["poison"]) == (1, 0, 1)


def test_a_full_server_refuses_new_work_but_drains(store: WholeStore, lease: Lease, store_url: str) -> None:
    publish(store, lease, *[change(key=f'"{number}"'.encode()) for number in range(100)])
    client = redis.Redis.from_url(store_url)
    client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            publish(store, lease, change(key=b'"new"'), at=after(1), to=after(2))
        claim = store.claim("v", 100, 0)
        assert (
            store.commit([settle(store, one, A, claim.now_ms) for one in claim.entries], claim.now_ms).refused
            == []
        )
    finally:
        client.config_set("maxmemory", "0")
    assert store.ledger().reached == 100 and store.ledger().balanced


def test_keys_that_wait_for_convergence_are_known_by_age(store: WholeStore, lease: Lease) -> None:
    publish(store, lease, Change(b'"k"', ABSENT, A, 1_000_000))
    claim = store.claim("v", 10, 0)
    store.commit([settle(store, claim.entries[0], B, 1_001_000)], claim.now_ms)
    assert store.figures().oldest_waiting_ms == 1_000_000
    again = store.claim("v", 10, 0)
    store.commit([settle(store, again.entries[0], A, 1_002_000)], again.now_ms)
    assert store.figures().oldest_waiting_ms is None
    assert sum(store.figures().lag_counts) == 1


def test_the_times_of_the_last_start_are_kept_but_not_those_of_one_that_is_refused(store: WholeStore) -> None:
    connection, settings = store._connection, store.meta.settings
    first, second = {"converge-within": "1m"}, {"converge-within": "30s"}
    assert begin(connection, settings, first).judged_by == {}
    with pytest.raises(SettingsChanged):
        begin(connection, settings | {"sample_rate": "7"}, second)
    assert begin(connection, settings).judged_by == first  # a role that says nothing of them
    assert begin(connection, settings, second).judged_by == first
    assert begin(connection, settings, second).judged_by == second
