"""A migration in which every script finds everything to do that it ever does, and what each is called for.

Reads and writes: a real server. Never: a key of another migration.
"""

import contextlib
import uuid
from collections.abc import Callable, Iterator

import msgspec
import redis

from pipeline.core.budget import Lowered
from pipeline.core.comparing.join import Showed, Suspect
from pipeline.core.comparing.state import CompareSettings, Tally
from pipeline.core.judging.history import History
from pipeline.core.ledger import Closing
from pipeline.core.model import ABSENT, Change, Checkpoint, Counts, Phase, VerdictKind
from pipeline.core.samples import Sample
from pipeline.store import RedisConnection, begin
from pipeline.store.compare_store import Beginning, Part, Standing
from pipeline.store.connection import GROUP, KeptTime
from pipeline.store.followed import Followed
from pipeline.store.messages import Commit, Lease, Outcome
from tests import places
from tests.whole_store import WholeStore

A, B = (bytes([n]) * 16 for n in (1, 2))
SETTINGS = {"target_table": "orders"}
BEGIN, NEXT = Checkpoint(b""), Checkpoint(b"next")
FAR_MS = 2**50
NEW = History(((ABSENT, 0), (A, 1)), 1)
OVER = History(((ABSENT, 0), (A, 1)), 2, Phase.SETTLING)
SETTLING = History(((ABSENT, 0), (A, 1)), 2, Phase.SETTLING, settle=True, looked_ms=1)
LOOKED = History(((ABSENT, 0), (A, 1)), 2, Phase.SETTLING, settle=True, looked_ms=FAR_MS)
ANSWERED = History(((A, 1),), 1, Phase.SETTLING, incomplete=True, suspect=True)
LOWERED = Lowered(50, 1, 1.0, 2.0, 50, 1)
FOUND = History(((ABSENT, 0), (A, 1)), 1, Phase.ALARMED, alarmed=1, kind=VerdictKind.MISSING)


class StoreWorld:
    """A migration in which every script finds everything to do that it ever does."""

    def __init__(self, url: str, user: str = "") -> None:
        """user: "name:password@", who the store is then."""
        self.url = url
        self.admin = redis.Redis.from_url(url)
        self.store = store = WholeStore.begin(
            url.replace("://", f"://{user}"), f"test-{uuid.uuid4().hex}", SETTINGS
        )
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
        self.admin.xgroup_createconsumer(store._key("work"), GROUP, "gone")
        self.put(b"due", NEW, 1, "outstanding")
        self.put(b"over", OVER, 1, "reached")
        self.put(b"settling", SETTLING, FAR_MS, "reached")
        self.put(b"looked", LOOKED, FAR_MS, "reached")
        self.put(b"closing", OVER, FAR_MS, "reached")
        self.put(b"answered", ANSWERED, FAR_MS, "reached")
        store.keep(Sample(self.now_ms - 86_400_000))
        settings = CompareSettings(table_bytes=0, segments=3)
        self.comparison = store.begin_comparison(settings, Beginning.BEGIN).id
        self.part, self.read_part = self.taken(), self.taken()
        assert store.lower(LOWERED)
        self.followed = store.spend({}, self.now_ms)
        store._followed = Followed()  # whoever is to know of it is told
        assert self.followed.keeps(b"new")
        self.beyond = next(one for one in (b"%d" % n for n in range(99)) if not self.followed.keeps(one))

    def taken(self) -> Part:
        """A partition of the comparison."""
        _, part = self.store.take(self.comparison, "comparer", 600_000)
        assert part is not None
        return part

    def put(self, key: bytes, history: History, due_ms: int, term: str) -> None:
        """As if earlier batches and looks had made it."""
        store = self.store
        places.wait(store, due_ms, {key: history})
        for field in ("records_read", "versions_published", term):
            store._redis.hincrby(store._key("ledger"), field, 1)
        if history.kind:
            store._redis.hincrby(store._key("ledger"), f"open:{history.kind}", 1)

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


def publish(world: StoreWorld, store: WholeStore) -> None:
    changes = [Change(key, A, B, 1) for key in (b"new", b"settling", b"looked", b"found", world.beyond)]
    counts = Counts(len(changes), 0, {"MODIFY": len(changes)})
    store._followed = world.followed
    reply = store.publish(world.lease, BEGIN, NEXT, changes, counts, watch_began_ms=1)
    assert reply.outcome is Outcome.PUBLISHED


def claim(_: StoreWorld, store: WholeStore) -> None:
    found = store.claim("v", 10, 1, adopt=True, forget_after_ms=0).entries
    assert {entry.key for entry in found} == {b"found", b"due"}


def commit(world: StoreWorld, store: WholeStore) -> None:
    """A finding recovers, the history stays, its key is counted, and a copy goes to the dead letters."""
    tally = "alarmed=-1 reached=1 open:missing=-1 recovered=1 lag:1=1 late:5=1"
    done = Commit(
        world.entry,
        world.entry.raw,
        1,
        tally,
        None,
        Closing.RECOVERED,
        judged=True,
        verdict=True,
        dead=True,
        lag_ms=5,
    )
    assert store.commit([done], world.now_ms).refused == []


def suspect(world: StoreWorld, store: WholeStore) -> None:
    """A new one, one that was answered, one whose stream is about to close it."""
    names = (b"cold", b"answered", b"closing")
    suspects = [Suspect(name, A, Showed.BOTH) for name in names]
    published = store.suspect(world.comparison, world.part, suspects)
    assert (published.outcome, published.covered) == (Outcome.PUBLISHED, [2])


def take(world: StoreWorld, store: WholeStore) -> None:
    assert store.take(world.comparison, "other", 60_000)[0] is Standing.TAKEN


def lower(world: StoreWorld, store: WholeStore) -> None:
    store._followed = world.followed
    assert store.lower(msgspec.structs.replace(LOWERED, percent=25, since_ms=2))


def keep_clock(_: StoreWorld, store: WholeStore) -> None:
    """The clock as it is kept at first, and after TIME went back."""
    kept = KeptTime(store._connection)
    kept.set(None, 0, step=False)
    kept.set(0, 600_000, step=True)


CALLS: dict[str, Callable[[StoreWorld, WholeStore], object]] = {
    "adapt": lambda _, s: s.adapt(600_000),
    "add_gap": lambda w, s: s.add_gap(w.lease, "test:1", "trimmed", BEGIN),
    "begin": lambda _, s: begin(s._connection, SETTINGS),
    "begin_again": lambda _, s: s.begin_again(),
    "claim": claim,
    "claim_alone": lambda w, s: s.claim_alone("v", [w.entry.id], b"1-0"),
    "commit": commit,
    "compare_begin": lambda _, s: s.begin_comparison(CompareSettings(1), Beginning.RESTART),
    "compare_finish": lambda w, s: s.finish(w.comparison, w.read_part, Tally(equal=1, source_items=1)),
    "compare_renew": lambda w, s: s.renew_parts(w.comparison, "comparer", [w.part], 60_000),
    "compare_take": take,
    "heartbeat": lambda _, s: s.heartbeat("test", "reader", 60_000),
    "keep_clock": keep_clock,
    "lease": lambda _, s: s.lease("test:2", "reader", 60_000),
    "lower": lower,
    "mark": lambda _, s: s.mark("T1"),
    "publish": publish,
    "sample": lambda w, s: s.keep(Sample(w.now_ms + 86_400_000)),
    "release": lambda w, s: s.release(w.lease),
    "renew": lambda w, s: s.renew("reader", [w.lease], {"test:1": (BEGIN, 9)}, 60_000),
    "spend": lambda w, s: s.spend({"target:BatchGetItem:requests": 1}, w.now_ms),
    "suspect": suspect,
    "track": lambda w, s: s.track(w.discovery, [("test:3", BEGIN, 5)], ["test:1"], ["test:gone"]),
}
