"""One damaged value in Redis, of every kind: one clear error, no traceback, and the rest goes on."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.comparing.state import CompareSettings
from pipeline.core.gate import DEFAULT_LIMITS
from pipeline.core.judging.history import History
from pipeline.core.model import ABSENT, Change, Checkpoint, Counts
from pipeline.errors import ConfigurationError, MonitorError, StateDamaged
from pipeline.gathering import gather, maker
from pipeline.report import html, text
from pipeline.report.report_text import as_text
from pipeline.store import StoreView, codec
from pipeline.store.compare_store import Beginning
from pipeline.store.messages import Commit, Outcome
from tests import places
from tests.store_world import BEGIN, CALLS, NEW, NEXT, SETTLING, A, B, StoreWorld
from tests.whole_store import WholeStore

SETTINGS = {"target_table": "orders", "verify_on": "target", "partition_key": "pk", "partition_type": "S"}
ODD = (
    b"",
    b"x",
    b"\xff\xfe",
    b"-1",
    b"1e400",
    b"inf",
    b"nan",
    b"9" * 30,
    b"{",
    b"[]",
    b"null",
    b"{}",
    b"\x00",
    b"-99999999999999",
)
COUNTS = "reads outstanding open:missing open:new lag_ms_sum \udcff verdict_ms dead_entries:poison open:extra"
FIELDS = [
    *(("meta", field) for field in ["started_ms", "watermark_ms", "watched_since_ms", "secret", "settings"]),
    *(
        ("meta", field)
        for field in ("format", "epoch", "judged_by", "entry", "queued", "handed_out", "lowered")
    ),
    *(("cost", field) for field in ("target:BatchGetItem:requests", "stream:GetRecords:half_units", "x")),
    *(("ledger", field) for field in (*COUNTS.split(), "nobody:knows")),
    *(("clock", field) for field in ("distance_ms", "steps")),
    *(
        ("comparison", field)
        for field in ["id", "settings", "planned", "done", "started_ms", "finished_ms", "keys"]
    ),
    ("checkpoints", "test:1"),
    ("watermarks", "test:1"),
    ("leases", "test:1"),
    ("gaps", "gap"),
    ("late", "x"),
    ("marks", "T1"),
    ("findings", "found"),
    ("comparison-leases", "0"),
]
KEYS = (
    *("ledger", "checkpoints", "gaps", "late", "marks", "findings", "findings-since", "work", "due"),
    *("entries", "due-left"),
    *(
        "history",
        "keys-judged",
        "keys-sampled",
        "readers",
        "dead",
        "clock",
        "comparison",
        "leases",
        "watermarks",
    ),
)
FINDING = json.dumps({"kind": "missing", "versions_behind": 1, "attributes": [], "last_looked_ms": 5})


@pytest.fixture
def world(store_url: str) -> StoreWorld:
    world = StoreWorld(store_url)
    world.admin.hset(world.store._key("findings"), b"found", FINDING)
    return world


def look(world: StoreWorld) -> None:
    """What the commands and the monitor do with the state."""
    store = StoreView.open(world.url, world.store.migration)
    assert store is not None
    figures = store.figures()
    json.dumps(text.statistics_fields(figures, None), default=str)
    text.statistics_text(figures, None)
    made = gather(store, DEFAULT_LIMITS, maker(world.url), show_keys=False)
    html.page(made)
    as_text(made)
    list(store.findings())
    list(store.closed_findings())
    store.gaps()
    store.close()


def work(world: StoreWorld) -> None:
    """What the roles do with it."""
    store = WholeStore.begin(world.url, world.store.migration, {"target_table": "orders"})
    store.partitions("test")
    store.watermarks("test")
    store.clock.now_ms()
    store.heartbeat("test", "reader", 1_000)
    lease = store.lease("test:1", "reader", 600_000)
    if lease is not None:
        store.renew("reader", [lease], {"test:1": (BEGIN, 5)}, 1_000)
        store.publish(lease, BEGIN, NEXT, [Change(b"k", A, B, 1)], Counts(1, 0, {"MODIFY": 1}))
    store.claim("v", 10, 1, adopt=True)
    store.begin_comparison(CompareSettings(table_bytes=0, segments=3), Beginning.JOIN)
    store.take(world.comparison, "comparer", 1_000)
    store.close()


def fine_or_damaged(act: Callable[[StoreWorld], None], world: StoreWorld) -> None:
    """A refusal is one of ours, with what to do, and short."""
    refused: MonitorError | None = None
    try:
        act(world)
    except (StateDamaged, ConfigurationError) as error:
        refused = error
    assert refused is None or (refused.remedy and len(str(refused)) < 800)


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize(("key", "field"), FIELDS)
def test_a_damaged_field_is_one_clear_error_or_none(
    world: StoreWorld, key: str, field: str, value: bytes
) -> None:
    world.admin.hset(world.store._key(key), field.encode("utf-8", "surrogateescape"), value)
    fine_or_damaged(look, world)
    fine_or_damaged(work, world)


@pytest.mark.parametrize("kind", ["string", "list", "stream"])
@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_another_type_is_one_clear_error(world: StoreWorld, key: str, kind: str) -> None:
    name = world.store._key(key)
    world.admin.delete(name)
    make = {
        "string": lambda: world.admin.set(name, b"\xff"),
        "list": lambda: world.admin.rpush(name, b"x"),
        "stream": lambda: world.admin.xadd(name, {b"x": b"y"}),
    }
    make[kind]()
    if key == "work" and kind == "stream":
        return  # a queue without its group is another matter
    fine_or_damaged(look, world)
    fine_or_damaged(work, world)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.sampled_from(FIELDS), value=st.binary(max_size=40))
def test_any_bytes_in_any_field(world: StoreWorld, at: tuple[str, str], value: bytes) -> None:
    key, field = world.store._key(at[0]), at[1].encode("utf-8", "surrogateescape")
    before = world.admin.hget(key, field)
    world.admin.hset(key, field, value)
    try:
        fine_or_damaged(look, world)
    finally:
        if before is None:
            world.admin.hdel(key, field)
        else:
            world.admin.hset(key, field, before)


@pytest.mark.parametrize("score", ["inf", "1e300", "1e17"])
def test_a_finding_of_no_time_does_not_hide_the_others(world: StoreWorld, score: str) -> None:
    world.admin.hset(world.store._key("findings"), b"odd", FINDING)
    world.admin.execute_command("ZADD", world.store._key("findings-since"), score, b"odd")
    found = world.store.findings()
    assert next(found).key == b"found"
    with pytest.raises(StateDamaged, match="1 of the findings"):
        next(found)


@pytest.mark.parametrize(
    "told",
    [
        {b"k": b"odd", b"since": b"5", b"finding": FINDING, b"closed": b"x", b"why": b"recovered"},
        {b"k": b"odd", b"since": b"5", b"finding": FINDING, b"closed": b"7", b"why": b"nobody knows"},
        {b"k": b"odd", b"since": b"5", b"finding": b"{", b"closed": b"7", b"why": b"recovered"},
        {b"x": b"y"},
    ],
)
def test_a_closed_finding_that_cannot_be_read_does_not_hide_the_others(
    world: StoreWorld, told: dict[bytes, bytes | str]
) -> None:
    log: Any = world.store._key("findings-log")
    fine: Any = {**dict.fromkeys(told, b"7"), "k": "fine", "since": 5, "finding": FINDING, "closed": 7}
    odd: Any = told
    for entry in ({**fine, "why": "recovered"}, odd, {**fine, "why": "excused"}):
        world.admin.xadd(log, entry)
    found = world.store.closed_findings()
    assert [next(found).why, next(found).why] == ["excused", "recovered"]
    with pytest.raises(StateDamaged, match="1 of the entries"):
        next(found)


def test_closed_findings_of_which_nobody_kept_when_and_why_are_no_damage(world: StoreWorld) -> None:
    """State of a build before the first release: `report` and `findings --closed` ended with KeyError."""
    log: Any = world.store._key("findings-log")
    world.admin.xadd(log, {"k": "old", "since": 5, "finding": FINDING})
    assert list(world.store.closed_findings()) == []


# --- a damaged history -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw", [b"", b"\x02", b"\x07rubbish", b"\x02\x09" + bytes(60), b"\x02\x00" + bytes(70)]
)
def test_a_damaged_history_stops_no_batch_and_becomes_a_dead_letter(world: StoreWorld, raw: bytes) -> None:
    """It stopped the reader of its partition for as long as it stood there."""
    world.admin.hset(world.store._key("history"), b"odd", raw)
    before = world.store.ledger()
    changes = [Change(b"odd", A, B, 1), Change(b"fine", ABSENT, A, 1)]
    reply = world.store.publish(world.lease, BEGIN, NEXT, changes, Counts(2, 0, {"MODIFY": 2}))
    assert reply.outcome is Outcome.PUBLISHED
    ledger = world.store.ledger()
    assert (ledger.versions_published, ledger.balanced) == (before.versions_published + 2, before.balanced)
    assert ledger.dead_entries["poison"] == before.dead_entries["poison"] + 1
    [(_, letter)] = world.everything()[world.store._key("dead").encode()][0]  # type: ignore[index]
    assert letter == {b"k": b"odd", b"history": raw}
    again = world.admin.hget(world.store._key("history"), b"odd")
    assert isinstance(again, bytes) and codec.decode(again).versions == ((A, 0), (B, 1))


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"x", b"\xff\xff", b"\2\0\1\0k", b"\1\0\xff\xff"),
        *(b"\1\0\1\0kx", b"\1\0\1\0k\1\0j", b"\0\0x"),  # something stands behind its keys
    ],
)
def test_a_damaged_entry_becomes_a_dead_letter_and_stops_nobody(world: StoreWorld, raw: bytes) -> None:
    """Which keys stood in it nobody can tell: they stay outstanding, and the gate stays shut."""
    store = world.store
    store.claim("v", 100, 0)
    waiting = places.wait(store, 1, {b"waiting": History(((ABSENT, 0), (A, 1)), 1)})
    for number in (waiting, places.queue(store, b"queued")):
        store._redis.hset(store._key("entries"), number, raw)
    before = store.ledger()
    claim = store.claim("w", 10, 0)
    assert [entry.key for entry in claim.entries] == [b"", b""]
    dead = [Commit(entry, b"", 0, "dead_entries:poison=1", dead=True) for entry in claim.entries]
    assert store.commit(dead, claim.now_ms).lost == []
    assert store.commit(dead, claim.now_ms).lost == [0, 1]
    assert store.ledger().dead_entries["poison"] == before.dead_entries["poison"] + 2
    assert (
        store.ledger().outstanding == before.outstanding and store.claim("w", 10, 0, adopt=True).entries == []
    )


@pytest.mark.parametrize("number", [b"nobody's", b"other"])
@pytest.mark.parametrize("at", ["work", "due"])
def test_a_key_whose_history_names_a_wrong_entry_is_looked_at_where_it_is_listed(
    world: StoreWorld, at: str, number: bytes
) -> None:
    """Nobody looked at it ever again, whatever was written, and the gate did not know."""
    store, history = world.store, NEW
    store.claim("v", 100, 0)
    other = places.wait(store, 2**50, {b"other": history})
    listing = places.wait(store, 1, {b"right": history, b"wrong": history})
    wrong = (other if number == b"other" else number) + codec.encode(history)[8:]
    store._redis.hset(store._key("history"), b"wrong", wrong)
    if at == "work":
        store._redis.zrem(store._key("due"), listing)
        store._redis.hdel(store._key("due-left"), listing)
        store._redis.xadd(store._key("work"), {b"e": listing, b"t": b"1"})
    claim = store.claim("w", 10, 0)
    assert {entry.key for entry in claim.entries} == {b"right", b"wrong"}
    settled = [Commit(one, codec.encode(SETTLING), claim.now_ms, "reached=1") for one in claim.entries]
    assert store.commit(settled, claim.now_ms).lost == []
    raw = cast(list[bytes], store._redis.hmget(store._key("history"), [b"right", b"wrong"]))
    assert raw[0] == raw[1] == listing + codec.encode(SETTLING)[8:]


def test_a_name_that_is_damaged_in_an_entry_that_waits_becomes_a_dead_letter(world: StoreWorld) -> None:
    """Nobody looks at the key that it was: it stayed outstanding, and nothing shut the gate."""
    store = world.store
    store.claim("v", 100, 0)
    number = places.wait(store, 1, {b"right": NEW, b"wrong": NEW})
    store._redis.hset(store._key("entries"), number, places.packed(b"right", b"gone"))
    assert {one.key: one.raw == b"" for one in store.claim("w", 10, 0).entries} == {
        b"right": False,
        b"gone": True,
    }


def test_keys_that_left_an_entry_that_waits_make_no_dead_letter(world: StoreWorld) -> None:
    """One is looked at earlier and forgotten, the other looked at earlier and stays."""
    store = world.store
    store.claim("v", 100, 0)
    number = places.wait(store, 2**50, dict.fromkeys((b"stays", b"goes", b"came"), SETTLING))
    changes = [Change(b"goes", A, B, 1), Change(b"came", A, B, 1)]
    store.publish(world.lease, BEGIN, NEXT, changes, Counts(2, 0, {"MODIFY": 2}))
    claim = store.claim("w", 10, 0)
    over = [Commit(one, b"" if one.key == b"goes" else one.raw, 2**50, "reached=1") for one in claim.entries]
    assert len(over) == 2 and store.commit(over, claim.now_ms).lost == []
    store._redis.zadd(store._key("due"), {number: 1})
    assert [one.key for one in store.claim("w", 10, 0).entries] == [b"stays"]


@pytest.mark.parametrize("raw", [None, b"", b"x", b"\1\0\1\0kx"])
@pytest.mark.parametrize("some", [slice(3), slice(1)])
def test_of_an_entry_that_is_damaged_under_a_look_nothing_is_committed(
    world: StoreWorld, raw: bytes | None, some: slice
) -> None:
    """Half of it was written, and nothing counted, before it was seen that the entry cannot be read."""
    store = world.store
    store.claim("v", 100, 0)
    number = places.wait(store, 1, {b"a%d" % n: History(((ABSENT, 0), (A, 1)), 1) for n in range(3)})
    claim = store.claim("w", 10, 0)
    store._redis.hdel(store._key("entries"), number)
    if raw is not None:
        store._redis.hset(store._key("entries"), number, raw)
    before = world.everything()
    put_back = [Commit(entry, entry.raw, world.now_ms, "reached=1") for entry in claim.entries[some]]
    assert store.commit(put_back, claim.now_ms).lost == list(range(len(put_back)))
    assert world.everything() == before
    assert [entry.key for entry in store.claim("w", 10, 0, adopt=True).entries] == [b""]


@pytest.mark.parametrize("count", [b"", b"x", b"-7", b"0", b"nan", b"1e400", b"9" * 30])
def test_a_damaged_count_of_those_that_wait_loses_no_key(world: StoreWorld, count: bytes) -> None:
    store = world.store
    numbers = cast(list[bytes], store._redis.zrange(store._key("due"), 0, -1))
    for number in numbers:
        store._redis.hset(store._key("due-left"), number, count)
    CALLS["publish"](world, store)
    CALLS["suspect"](world, store)
    places.hasten(store)
    standing = {key for entry in store.claim("w", 100, 0).entries for key in [entry.key]}
    assert {b"new", b"settling", b"looked", b"due", b"answered", b"cold"} <= standing


def test_it_is_buried_once_however_often_the_batch_is_repeated(world: StoreWorld) -> None:
    world.admin.hset(world.store._key("history"), b"odd", b"rubbish")
    for _ in range(3):
        world.store.publish(world.lease, BEGIN, NEXT, [Change(b"odd", A, B, 1)], Counts(1, 0, {"MODIFY": 1}))
    assert world.store.queue().dead == 1


def test_a_damaged_watermark_proves_nothing_and_heals(world: StoreWorld) -> None:
    for odd in (b"9" * 18, b"x", b"inf", b"-5"):
        world.admin.hset(world.store._key("watermarks"), "test:1", odd)
        world.admin.hset(world.store._key("meta"), "watermark_ms", odd)
        claim = world.store.claim("v", 1, 0)
        assert claim.watermark_ms == 0
        world.store.renew("reader", [world.lease], {"test:1": (BEGIN, 7)}, 600_000)
        assert world.store.watermarks("test")["test:1"] == 7


def test_a_damaged_distance_of_the_clock_is_replaced(world: StoreWorld) -> None:
    kept = world.store._connection.clock._redis
    for odd in (b"x", b"9" * 14, b"9" * 30, b"-" + b"9" * 13, b""):
        world.admin.hset(world.store._key("clock"), "distance_ms", odd)
        assert kept.read().distance_ms is None
        assert kept.set(None, 5, step=False)
        assert kept.read().distance_ms == 5


def test_a_command_says_what_is_damaged_and_what_to_do(store_url: str) -> None:
    world = StoreWorld(store_url)
    world.admin.hset(world.store._key("meta"), "settings", json.dumps(SETTINGS))
    world.admin.hset(world.store._key("late"), "rubbish", 1)
    for command in ("status", "gate", "findings"):
        words = [command, "--redis-url", store_url, "--migration", world.store.migration]
        words = [sys.executable, "-m", "pipeline.cli", *words]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr
        assert done.returncode == 5 and "is damaged: " in done.stderr and "backup" in done.stderr


def test_redis_itself_finds_a_broken_estimate(world: StoreWorld) -> None:
    world.admin.set(world.store._key("keys-judged"), b"HYLL" + bytes([0]) * 40)
    fine_or_damaged(look, world)


def test_checkpoints_that_nobody_wrote_stop_with_one_error(world: StoreWorld) -> None:
    assert Checkpoint.decode(b"ox").position == b"x"
    world.admin.hset(world.store._key("checkpoints"), b"\xff", b"o")
    with pytest.raises(StateDamaged, match="checkpoints"):
        world.store.partitions("test")
