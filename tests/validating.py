"""A source and a target in one fake, a store and one validator: what tests of judging by real reads share."""

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec

from pipeline import metrics
from pipeline.aws import Connection, SideConfig, TableReader, describe_table
from pipeline.core.canonical import Digester
from pipeline.core.judging.history import History
from pipeline.core.ledger import Finding, Ledger
from pipeline.core.model import ABSENT, Change, Checkpoint, Counts, Policy, Side
from pipeline.errors import AwsError
from pipeline.store import codec
from pipeline.store.messages import Claim, Lease
from pipeline.validator.side_reader import SideReader
from pipeline.validator.validator import Validator
from tests import places
from tests.fake import Fake
from tests.servers import eventually
from tests.whole_store import WholeStore

#: Deadlines of no length: the first look that mismatches is decided at once, settling is over at once.
AT_ONCE = Policy(converge_within_ms=-1_000, stable_for_ms=0)
BEGIN = Checkpoint(b"")


class World:
    """A source and a target in one fake, a store, one validator, and the change stream played by hand."""

    def __init__(
        self,
        fake: Fake,
        store: WholeStore,
        policy: Policy = AT_ONCE,
        key_type: str = "S",
        verified: Side = Side.TARGET,
        ttl: str | None = "expires",
        ttl_every_seconds: float = 0.0,
    ) -> None:
        self.fake, self.store, self.key_type = fake, store, key_type
        self.ttl, self.ttl_every_seconds = ttl, ttl_every_seconds
        for name in (Side.SOURCE, Side.TARGET):
            fake.control.create_table(name, partition_type=key_type, ttl=ttl)
        store.register("test:shard", BEGIN, 0)
        lease = store.lease("test:shard", "reader", 600_000)
        assert lease is not None
        self.lease: Lease = lease
        self.checkpoint = BEGIN
        self.reads_on = False
        connection = Connection(SideConfig("source", region="us-east-1", endpoint_url=fake.url))
        self.schema = describe_table(connection, "source").schema
        self.metrics, self.stop = metrics.start(None, "test").of_validator("test"), threading.Event()
        self.validator = Validator(
            store,
            self.side_reader(verified, connection),
            self.side_reader(verified.other, connection),
            policy,
            self.metrics,
            consumer="v",
            reclaim_after_ms=1,
        )
        claim, claim_alone = store.claim, store.claim_alone

        def claimed_alone(*asked: Any) -> tuple[Claim, int]:
            alone, trials = claim_alone(*asked)
            return self._read(alone), trials

        store.claim = lambda *asked, **how: self._read(claim(*asked, **how))  # type: ignore[method-assign]
        store.claim_alone = claimed_alone  # type: ignore[assignment, method-assign]

    def _read(self, claim: Claim) -> Claim:
        """With a watermark that no reader can post: of an hour to come."""
        ahead_ms = claim.now_ms + 3_600_000
        return msgspec.structs.replace(claim, watermark_ms=ahead_ms) if self.reads_on else claim

    def side_reader(
        self,
        side: Side,
        connection: Connection,
        *,
        max_rcu: float = 0,
        stop: threading.Event | None = None,
    ) -> SideReader:
        return SideReader(
            side,
            TableReader(connection, side, self.schema),
            self.metrics,
            digester=Digester(),
            ttl_attribute=self.ttl,
            ttl_every_seconds=self.ttl_every_seconds,
            max_rcu=max_rcu,
            stop=stop or self.stop,
        )

    def item(self, key: str, value: str, **more: Any) -> dict[str, Any]:
        return {"pk": {self.key_type: key}, "value": {"S": value}, **more}

    def published(self, key: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
        """The reader publishes a change of `key`, and has read through everything."""
        changes = [
            Change(self.compact(key), digest_of(before), digest_of(after), self.store.now_ms() - 2_000)
        ]
        self.publish(changes)

    def change(self, key: str, value: str = "new") -> Change:
        """An item that was written two seconds ago."""
        return Change(
            self.compact(key), ABSENT, digest_of(self.item(key, value)), self.store.now_ms() - 2_000
        )

    def publish(self, changes: list[Change]) -> None:
        self.publish_unread(changes)
        self.read_through()

    def publish_unread(self, changes: list[Change]) -> None:
        """The reader publishes changes, and may be behind."""
        following = Checkpoint(uuid.uuid4().hex.encode())
        self.store.publish(self.lease, self.checkpoint, following, changes, Counts(len(changes)))
        self.checkpoint = following

    def read_through(self) -> None:
        """The reader has read through everything, for an hour to come."""
        self.reads_on = True
        self._post(self.store.now_ms())

    def read_until(self, watermark_ms: int) -> None:
        self.reads_on = False
        self._post(watermark_ms)

    def _post(self, watermark_ms: int) -> None:
        watermarks = {"test:shard": (self.checkpoint, watermark_ms)}
        self.store.renew("reader", [self.lease], watermarks, 600_000)

    def compact(self, key: str) -> bytes:
        return self.schema.compact_of({"pk": {self.key_type: key}})

    def validate(self, until: Callable[[Ledger], bool]) -> Ledger:
        def looked() -> Ledger | None:
            with contextlib.suppress(AwsError):  # back-off after a refusal ordered by the test
                self.validator.step()
            ledger = self.store.ledger()
            return ledger if until(ledger) else None

        return eventually(looked)

    def histories(self) -> list[History]:
        raw = cast(list[bytes], self.store._redis.hvals(self.store._key("history")))
        return [codec.decode(one) for one in raw]

    def hasten(self) -> None:
        """Whatever is due some time is due now."""
        places.hasten(self.store)

    def findings(self) -> list[Finding]:
        return list(self.store.findings())


def digest_of(item: dict[str, Any] | None) -> bytes:
    return ABSENT if item is None else Digester().digest_item(item)


@contextlib.contextmanager
def own_store(url: str) -> Iterator[WholeStore]:
    """A migration of its own on a server that is shared."""
    store = WholeStore.begin(url, f"validator-{uuid.uuid4().hex}", {"target_table": "target"})
    try:
        yield store
    finally:
        store.close()
