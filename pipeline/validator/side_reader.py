"""One side as the validator reads it: table, read units, TTL, and what that costs in metrics.

Reads: items of one table, and its TTL description again and again. Writes: the side's metrics. Never: the
store. A failed call is retried by the caller; no item value leaves this process.
"""

import threading
import time
from collections.abc import Callable, Mapping

import msgspec
import structlog

from pipeline.aws import BatchResult, RateLimiter, TableReader
from pipeline.backoff import Backoff
from pipeline.core.canonical import Digester, Item, MalformedItem
from pipeline.core.model import ABSENT, Side
from pipeline.core.ttl import will_be_deleted
from pipeline.errors import AwsError
from pipeline.metrics import ValidatorMetrics

log = structlog.get_logger(__name__)

#: Tries in a row for keys that come back unprocessed before they are left to a later batch.
READ_TRIES = 4
#: Between them.
RETRIES = Backoff(0.5, 2.0)
#: One wait for read units: another thread, which owes nothing, may have the next turn.
PAY_SECONDS_MIN, PAY_SECONDS_MAX = 0.01, 0.05
#: A read that may lead to a verdict asks what TTL deletes when the last answer is older than this, at most.
#: While nothing is suspicious, nothing is asked.
TTL_EVERY_SECONDS = 10.0


class ItemRead(msgspec.Struct, frozen=True, gc=False):
    """What is kept of an item that was read: its digest; of a whole one, whether TTL will delete it, and it.

    error: why it has no digest, "" = it has one.
    """

    digest: bytes = ABSENT
    expires: bool = False
    item: Item | None = None
    error: str = ""


#: What is read where there is no item.
NOTHING = ItemRead()


class ReadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How a batch is read.

    at_ms: now, by the store's clock. strong: strongly consistent. likely: the digest that a key's item has
    when the sides are in sync, which is cheap to confirm. whole: the read may lead to a verdict: keep the
    items, to tell attributes apart, and look at their TTL.
    """

    at_ms: int
    strong: bool
    likely: Mapping[bytes, bytes]
    whole: bool


class SideReader:
    """Reads the items of one side. Thread-safe: a process's threads share one instance."""

    def __init__(
        self,
        side: Side,
        table: TableReader,
        metrics: ValidatorMetrics,
        *,
        digester: Digester,
        ttl_attribute: str | None = None,
        ttl_every_seconds: float = TTL_EVERY_SECONDS,
        max_rcu: float = 0,
        stop: threading.Event,
    ) -> None:
        """ttl_attribute: as described just now. ttl_every_seconds: how old the description may be; not older
        than a difference must be to be judged. max_rcu: read units per second, 0 = unlimited.
        """
        self._side = side
        self._table = table
        self._digester = digester
        self._ttl_attribute = ttl_attribute
        self._ttl_every_seconds = ttl_every_seconds
        self._ttl_described_at = time.monotonic()
        self._ttl_lock = threading.Lock()
        self._limiter = RateLimiter(max_rcu)
        self._stop = stop
        self._batch_keys = metrics.batch_keys[side]
        self._waited = metrics.rate_limit_wait_seconds[side]

    def read(self, keys: list[bytes], request: ReadRequest) -> tuple[dict[bytes, ItemRead], set[bytes]]:
        """What is read of each key, and the keys that DynamoDB did not get to. Raises AwsError."""
        if request.whole and keys:
            self._describe_ttl()
        found: dict[bytes, ItemRead] = {}
        left = keys
        keep = self._keeper(request)
        for attempt in range(READ_TRIES):
            if not left or (attempt and (self._owes() or self._stop.wait(RETRIES.after(attempt)))):
                break
            result = self._batch_get(left, keep, request.strong)
            found.update(result.items)
            found.update(dict.fromkeys(result.absent, NOTHING))
            left = result.unprocessed
        return found, set(left)

    def pay(self) -> float:
        """How long this migration's work is to be left alone until this thread's reads are paid for, if it is
        this thread's turn then; 0.0 once they are. That is counted as waited.

        To be asked before work is taken: what is in hand while its reader waits would be taken for lost by
        others, and keep small items waiting behind large ones.
        """
        owed = self._owes()
        if owed <= 0:
            return 0.0
        seconds = min(max(owed, PAY_SECONDS_MIN), PAY_SECONDS_MAX)
        self._waited.inc(seconds)
        return seconds

    def _owes(self) -> float:
        return self._limiter.debt_seconds(threading.get_ident())

    def probe(self) -> None:
        """Read a key that no item has: done before what may be blamed on another one. Raises AwsError."""
        self._batch_get([self._table.nobody], lambda _key, _item: NOTHING, strong=False)

    def _describe_ttl(self) -> None:
        """Ask what TTL deletes by now; what is known stays if that fails. One thread asks, others wait."""
        with self._ttl_lock:
            if time.monotonic() - self._ttl_described_at < self._ttl_every_seconds:
                return
            self._ttl_described_at = time.monotonic()
            try:
                attribute = self._table.ttl_attribute()
            except AwsError as error:
                log.warning("TTL not described", side=self._side, error=str(error), kind=type(error).__name__)
                return
            if attribute != self._ttl_attribute:
                log.info("TTL changed", side=self._side, attribute=attribute or "none: nothing is deleted")
            self._ttl_attribute = attribute

    def _batch_get(
        self, keys: list[bytes], keep: Callable[[bytes, Item], ItemRead], strong: bool
    ) -> BatchResult[ItemRead]:
        result = self._table.batch_get(keys, keep, strong)
        self._limiter.charge(result.consumed_units, threading.get_ident())
        self._batch_keys.observe(len(keys))
        return result

    def _keeper(self, request: ReadRequest) -> Callable[[bytes, Item], ItemRead]:
        """What makes an `ItemRead` of a key's item."""
        ttl_attribute, digest_item = self._ttl_attribute, self._digester.digest_item
        likely, at_ms, whole = request.likely, request.at_ms, request.whole

        def keep(key: bytes, item: Item) -> ItemRead:
            try:
                digest = digest_item(item, likely.get(key))
            except MalformedItem as error:
                return ItemRead(error=str(error))
            if not whole:
                return ItemRead(digest=digest)
            expires = ttl_attribute is not None and will_be_deleted(item, ttl_attribute, at_ms)
            return ItemRead(digest=digest, expires=expires, item=item)

        return keep
