"""No script is ever carried out by half: Redis rolls nothing back, so whatever it may refuse comes first."""

import contextlib
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from pipeline.core.judging.history import History
from pipeline.core.model import ABSENT, Change, Checkpoint, Counts, Phase, VerdictKind
from pipeline.errors import MonitorError, StoreError, StoreUnavailable
from pipeline.store import RedisConnection, begin, codec, scripts
from pipeline.store.connection import GROUP, NotAllowed
from pipeline.store.messages import Commit, Lease, Outcome
from tests import servers
from tests.servers import eventually
from tests.whole_store import WholeStore

A, B = (bytes([n]) * 16 for n in (1, 2))
SETTINGS = {"target_table": "orders"}
BEGIN, NEXT = Checkpoint(b""), Checkpoint(b"next")
FAR_MS = 2**50
NEW = History(((ABSENT, 0), (A, 1)), 1)
OVER = History(((ABSENT, 0), (A, 1)), 2, Phase.SETTLING)
SETTLING = History(((ABSENT, 0), (A, 1)), 2, Phase.SETTLING, settle=True, looked_ms=1)
LOOKED = History(((ABSENT, 0), (A, 1)), 2, Phase.SETTLING, settle=True, looked_ms=FAR_MS)
FOUND = History(((ABSENT, 0), (A, 1)), 1, Phase.ALARMED, alarmed=1, kind=VerdictKind.MISSING)


class World:
    """A migration in which every script finds everything to do that it ever does."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.admin = redis.Redis.from_url(url)
        self.store = store = WholeStore.begin(url, f"test-{uuid.uuid4().hex}", SETTINGS)
        store.register("test:1", BEGIN)
        store.register("test:gone", Checkpoint(b"", finished=True))
        lease = store.lease("test:1", "reader", 600_000)
        assert lease is not None
        self.lease: Lease = lease
        self.discovery = store.discovery()
        self.put(b"found", FOUND, 1, "alarmed")
        store._redis.hset(store._key("findings"), b"found", b"{}")
        store._redis.zadd(store._key("findings-since"), {b"found": 1})
        claim = store.claim("v", 10, 0)
        [self.entry], self.now_ms = claim.entries, claim.now_ms
        self.put(b"due", NEW, 1, "outstanding")
        self.put(b"over", OVER, 1, "reached")
        self.put(b"settling", SETTLING, FAR_MS, "reached")
        self.put(b"looked", LOOKED, FAR_MS, "reached")

    def put(self, key: bytes, history: History, due_ms: int, term: str) -> None:
        """As if earlier batches and looks had made it."""
        store = self.store
        store._redis.hset(store._key("history"), key, codec.encode(history))
        store._redis.zadd(store._key("due"), {key: due_ms})
        for field in ("records_read", "versions_published", term):
            store._redis.hincrby(store._key("ledger"), field, 1)

    def everything(self) -> dict[bytes, object]:
        """All that the migration has in Redis."""
        keys = list(self.admin.scan_iter(self.store._key("*").replace("{", "[{]")))
        return {key: self._content(key) for key in keys}

    def _content(self, key: bytes) -> object:
        redis, kind = self.admin, self.admin.type(key)
        if kind == b"hash":
            return redis.hgetall(key)
        if kind == b"zset":
            return redis.zrange(key, 0, -1, withscores=True)
        if kind == b"stream":
            taken = redis.xpending_range(key, GROUP, "-", "+", 100) if redis.xinfo_groups(key) else []
            return redis.xrange(key), [(one["message_id"], one["times_delivered"]) for one in taken]
        return redis.dump(key)

    @contextlib.contextmanager
    def without(self, command: str) -> Iterator[WholeStore]:
        """The store as a user has it who may do everything but this."""
        word = "xgroup|create" if command == "XGROUP" else command.lower()
        self.admin.acl_setuser("weak", enabled=True, nopass=True, keys=["*"], commands=["+@all", f"-{word}"])
        connection = RedisConnection(self.url.replace("://", "://weak:x@"), self.store.migration)
        try:
            yield WholeStore(connection, self.store.meta)
        finally:
            connection.close()
            self.admin.acl_deluser("weak")


# --- what each script is called for: each does all that its script ever does -------------------------------


def publish(world: World, store: WholeStore) -> None:
    changes = [Change(key, A, B, 1) for key in (b"new", b"settling", b"looked", b"found")]
    counts = Counts(len(changes), 0, {"MODIFY": len(changes)})
    reply = store.publish(world.lease, BEGIN, NEXT, changes, counts, watch_began_ms=1)
    assert reply.outcome is Outcome.PUBLISHED


def claim(_: World, store: WholeStore) -> None:
    found = store.claim("v", 10, 1, adopt=True).entries
    assert {entry.key for entry in found} == {b"found", b"due"}


def commit(world: World, store: WholeStore) -> None:
    """A finding recovers, the history stays, its key is counted, and a copy goes to the dead letters."""
    tally = "alarmed=-1 reached=1 open:missing=-1 recovered=1 lag:1=1 late:5=1"
    done = Commit(world.entry, world.entry.raw, 1, tally, "", judged=True, dead=True, lag_ms=5)
    assert store.commit([done], world.now_ms) == []


CALLS: dict[str, Callable[[World, WholeStore], object]] = {
    "add_gap": lambda w, s: s.add_gap(w.lease, "test:1", "trimmed", BEGIN),
    "begin": lambda _, s: begin(s._connection, SETTINGS),
    "begin_again": lambda _, s: s.begin_again(),
    "claim": claim,
    "commit": commit,
    "heartbeat": lambda _, s: s.heartbeat("test", "reader", 60_000),
    "lease": lambda _, s: s.lease("test:2", "reader", 60_000),
    "mark": lambda _, s: s.mark("T1"),
    "publish": publish,
    "release": lambda w, s: s.release(w.lease),
    "renew": lambda w, s: s.renew("reader", [w.lease], {"test:1": (BEGIN, 9)}, 60_000),
    "track": lambda w, s: s.track(w.discovery, [("test:3", BEGIN, 5)], ["test:1"], ["test:gone"]),
}
#: What each script says it does: `local work = key(1, 'stream', 'XADD XLEN')`; and what all of them do.
_KEY = re.compile(r"key\(\w+, (?:'\w+'|nil), +'([A-Z ]+)'\)")
_BY_ALL = ("TIME", "TYPE")


def commands_of(script: str) -> list[str]:
    text = scripts.source(script).partition("return refused end")[0]
    found = {command for said in _KEY.findall(text) for command in said.split()}
    assert found, script
    return sorted(found | set(_BY_ALL))


CASES = [(script, command) for script in scripts.names() for command in commands_of(script)]


@pytest.fixture
def world(store_url: str) -> Iterator[World]:
    world = World(store_url)
    yield world
    world.store.close()
    world.admin.close()


def prepared(world: World, script: str) -> None:
    if script in ("begin", "begin_again"):
        world.admin.delete(world.store._key("meta"), world.store._key("work"))


@pytest.mark.parametrize(("script", "command"), CASES)
def test_a_user_who_lacks_one_command_changes_nothing(world: World, script: str, command: str) -> None:
    """What stood in front of the refused one had been written, and was written again by the repeat."""
    prepared(world, script)
    before = world.everything()
    with world.without(command) as weak, pytest.raises(NotAllowed, match=command):
        CALLS[script](world, weak)
    assert world.everything() == before
    CALLS[script](world, world.store)
    assert world.store.ledger().balanced


@pytest.mark.parametrize("script", scripts.names())
def test_a_key_that_is_something_else_changes_nothing(world: World, script: str) -> None:
    prepared(world, script)
    names = {"commit": scripts.commit(world.now_ms // 60_000)}
    keys = names.get(script, getattr(scripts, script.upper(), None))
    assert keys is not None
    replaced = [name for name in keys.keys if script != "begin_again" or name == "meta"]
    for name in replaced:
        key = world.store._key(name)
        saved = world.admin.dump(key)
        world.admin.delete(key)
        world.admin.rpush(key, "something else")
        before = world.everything()
        with pytest.raises(StoreError, match="something else"):
            CALLS[script](world, world.store)
        assert world.everything() == before
        world.admin.delete(key)
        if saved is not None:
            world.admin.restore(key, 0, saved)
    CALLS[script](world, world.store)


@pytest.mark.parametrize(
    ("script", "name", "field"),
    [
        ("publish", "ledger", "keys_coalesced"),
        ("publish", "ledger", "records:MODIFY"),
        ("commit", "ledger", "recovered"),
        ("commit", "late", "5"),
        ("commit", "lag", "1"),
        ("add_gap", "ledger", "gaps"),
        ("lease", "meta", "epoch"),
    ],
)
def test_a_counter_that_is_no_number_changes_nothing(
    world: World, script: str, name: str, field: str
) -> None:
    key = world.store._key(f"lag:{world.now_ms // 60_000}" if name == "lag" else name)
    world.admin.hset(key, field, "many")
    before = world.everything()
    with pytest.raises(StoreError, match="no number"):
        CALLS[script](world, world.store)
    assert world.everything() == before
    world.admin.hdel(key, field)
    CALLS[script](world, world.store)


def test_a_history_of_two_bytes_does_not_stop_a_claim(world: World) -> None:
    """It raised in the middle of every claim: nobody got any work any more."""
    world.admin.hset(world.store._key("history"), b"cut", b"\1\1")
    world.admin.zadd(world.store._key("due"), {b"cut": 1})
    found = world.store.claim("v", 10, 0).entries
    assert {entry.key for entry in found} == {b"due", b"cut"}


def test_memory_that_runs_out_in_the_middle_of_a_batch(world: World) -> None:
    """All of the batch or nothing of it; and the repeat brings the books where they belong."""
    changes = [Change(b"key %d" % number, ABSENT, A, 1) for number in range(20_000)]
    counts = Counts(len(changes), 0, {"INSERT": len(changes)})
    for spare_kb in (0, 16, 256, 1_024):
        used = int(world.admin.info("memory")["used_memory"])
        world.admin.config_set("maxmemory", used + spare_kb * 1024)
        before = world.everything()
        try:
            world.store.publish(world.lease, BEGIN, NEXT, changes, counts)
            break
        except StoreUnavailable:
            assert world.everything() == before
        finally:
            world.admin.config_set("maxmemory", 0)
    reply = world.store.publish(world.lease, BEGIN, NEXT, changes, counts)
    ledger = world.store.ledger()
    assert reply.outcome in (Outcome.DUPLICATE, Outcome.PUBLISHED)
    assert ledger.balanced and ledger.records["INSERT"] == len(changes)


@pytest.mark.parametrize("binary", [servers.valkey_binary, servers.redis_binary])
def test_a_server_that_cannot_save_takes_nothing_and_goes_on_later(
    tmp_path: Path, binary: Callable[[], str]
) -> None:
    """MISCONF: a snapshot failed, and Redis takes no writes until one succeeds."""
    directory = tmp_path / "state"
    options = ("--appendonly", "no", "--save", "900 1000000")
    with servers.redis_like(binary(), directory, *options) as url:
        world = World(url)
        (directory / "dump.rdb" / "in the way").mkdir(parents=True)
        world.admin.bgsave()
        eventually(lambda: world.admin.info("persistence")["rdb_last_bgsave_status"] == "err")
        before = world.everything()
        for script in ("publish", "claim", "commit", "renew"):
            with pytest.raises(StoreUnavailable, match="no writes"):
                CALLS[script](world, world.store)
        assert world.everything() == before
        shutil.rmtree(directory / "dump.rdb")
        world.admin.bgsave()
        eventually(lambda: world.admin.info("persistence")["rdb_last_bgsave_status"] == "ok")
        for script in ("commit", "publish"):
            CALLS[script](world, world.store)
        assert world.store.ledger().balanced


def test_what_is_refused_is_an_error_of_ours(world: World) -> None:
    with world.without("EVALSHA") as weak, pytest.raises(MonitorError):
        weak.mark("T1")
