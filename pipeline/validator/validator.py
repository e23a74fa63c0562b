"""The validator: claims due keys, reads them on the verified side, judges each by its history, commits.

Reads: the store's work stream and histories; items of both tables. Writes: verdicts, findings, next looks and
counters through store.commit. Never: redis or boto3 directly, item values outside this process, a verdict
from an error.

One process keeps `in_flight` BatchGetItem calls under way: each of its threads runs claim → read → judge →
commit on its own batch, so a socket that hangs delays that batch alone.
"""

import threading
import time
from collections.abc import Callable

import structlog

from pipeline.aws import MAX_KEYS, BatchResult, RateLimiter, TableReader
from pipeline.core.canonical import Digester, Item, MalformedItem, diff
from pipeline.core.judging.history import FindingChange, History, needs_witness
from pipeline.core.judging.rule import judge, wake
from pipeline.core.ledger import Entry, Settled
from pipeline.core.model import Look, Policy, Side
from pipeline.errors import AwsError
from pipeline.metrics import MigrationMetrics
from pipeline.store import Store, codec
from pipeline.validator.batch import NOTHING, Batch, Case, Decided, Seen, put_back, settled

log = structlog.get_logger(__name__)

#: Keys a claim asks for: two BatchGetItem's worth halves what Redis costs a key, more saves little.
CLAIM_KEYS = 200
#: An entry delivered more often than this has taken down its validators: it becomes a dead letter.
MAX_DELIVERIES = 10
#: Tries in a row for keys that come back unprocessed before the key is put back for later.
READ_TRIES = 4
#: Back-off after failed calls, doubling between these bounds.
BACKOFF_MIN_SECONDS, BACKOFF_MAX_SECONDS = 0.5, 30.0
#: How often entries of validators that went silent are looked for.
RECLAIM_EVERY_SECONDS = 5.0
#: A commit refused this often in a row is left to be claimed again.
COMMIT_TRIES = 5


class Validator:
    """Judges batches; `step` is one batch. Thread-safe: a process's threads share one instance."""

    def __init__(
        self,
        store: Store,
        readers: tuple[TableReader, TableReader],
        policy: Policy,
        metrics: MigrationMetrics,
        *,
        consumer: str,
        verified_side: Side,
        ignore: frozenset[str] = frozenset(),
        ttl_attributes: tuple[str | None, str | None] = (None, None),
        max_rcu: float = 0,
        reclaim_after_ms: int = 30_000,
        verbose: bool = False,
        stop: threading.Event | None = None,
    ) -> None:
        """readers, ttl_attributes: (verified side's, origin's). max_rcu: units/s a side, 0 = unlimited."""
        self._store = store
        self._readers = readers
        self._policy = policy
        self._metrics = metrics
        self._consumer = consumer
        sides = (verified_side, verified_side.other)
        self._batch_keys = [metrics.batch_keys[side] for side in sides]
        self._waited = [metrics.rate_limit_wait_seconds[side] for side in sides]
        self._digester = Digester(ignore)
        self._ignore = ignore
        self._ttl_attributes = ttl_attributes
        self._limiters = (RateLimiter(max_rcu), RateLimiter(max_rcu))
        self._reclaim_after_ms = reclaim_after_ms
        self._verbose = verbose
        self._stop = stop or threading.Event()
        self._lock = threading.Lock()
        self._adopted = False
        self._reclaimed_at = 0.0

    def step(self) -> int:
        """One batch: claim, read, judge, commit. Returns how many entries were claimed (0 = nothing is due).

        Raises StoreError when Redis does not play along, AwsError when a table could not be read: then the
        keys concerned have been put back with their histories as they were, the others are committed.
        """
        batch, entries = self._claim()
        if entries:
            self._look(batch, self._decide_without_look(batch, entries))
            self._commit(batch)
        if batch.error is not None:
            raise batch.error
        return len(entries)

    def _claim(self) -> tuple[Batch, list[Entry]]:
        with self._lock:
            adopt, self._adopted = not self._adopted, True
            reclaim = time.monotonic() - self._reclaimed_at >= RECLAIM_EVERY_SECONDS
            if reclaim:
                self._reclaimed_at = time.monotonic()
        asked = time.monotonic()
        claim = self._store.claim(self._consumer, CLAIM_KEYS, self._reclaim_after_ms if reclaim else 0, adopt)
        return Batch(claim, asked), claim.entries

    # --- what needs no look ------------------------------------------------------------------------------

    def _decide_without_look(self, batch: Batch, entries: list[Entry]) -> list[Case]:
        """Judge what can be judged from what is known; returns the cases that need a look."""
        cases: list[Case] = []
        moment = batch.moment()
        for entry in entries:
            try:
                case = Case(entry, codec.decode(entry.raw))
            except ValueError:
                batch.decided.append(self._bury(entry, None, "poison"))
                continue
            if entry.deliveries > MAX_DELIVERIES:
                batch.decided.append(self._bury(entry, case.history, "redelivered"))
                continue
            judgement = wake(case.history, moment, self._policy)
            if judgement is None:
                cases.append(case)
            else:
                batch.settle(case, judgement, moment.now_ms)
        return cases

    def _bury(self, entry: Entry, history: History | None, reason: str) -> Decided:
        """Make an entry a dead letter: kept, counted, never handed out again."""
        log.error(
            "dead letter", reason=reason, key=self._store.key_hash(entry.key), deliveries=entry.deliveries
        )
        counts = f"dead_entries:{reason}=1"
        if history is not None:
            counts += (
                f" dead={history.unreached} outstanding={-history.outstanding} alarmed={-history.alarmed}"
            )
        return Decided(Settled(entry, b"", 0, counts, dead=True))

    # --- looking -----------------------------------------------------------------------------------------

    def _look(self, batch: Batch, cases: list[Case]) -> None:
        """Look at the cases; then, strongly consistent and with a witness, at those that call for it."""
        for strong in (False, True):
            again: list[Case] = []
            for start in range(0, len(cases), MAX_KEYS):
                try:
                    again += self._look_once(batch, cases[start : start + MAX_KEYS], strong)
                except AwsError as error:
                    batch.error = error
                    batch.postpone([*again, *cases[start:]], BACKOFF_MIN_SECONDS)
                    return
            cases = again
        batch.postpone(cases, 0)

    def _look_once(self, batch: Batch, cases: list[Case], strong: bool) -> list[Case]:
        """One read of the verified side, of the origin too where needed; the cases still to decide."""
        at_ms = batch.now_ms()
        doubtful = {case.entry.key for case in cases if strong or needs_witness(case.history)}
        likely = {case.entry.key: case.history.versions[-1][0] for case in cases}
        observed, missed = self._read(cases, self._eye(0, likely, at_ms, bool(doubtful)), 0, strong)
        to_witness = [c for c in cases if c.entry.key in doubtful and c.entry.key in observed]
        witnessed, unwitnessed = self._read(to_witness, self._eye(1, likely, at_ms, True), 1, True)
        if unread := missed | unwitnessed:
            batch.postpone((c for c in cases if c.entry.key in unread), BACKOFF_MIN_SECONDS)
            cases = [case for case in cases if case.entry.key not in unread]
        answered_ms, moment = batch.latest_ms(), batch.moment()
        undecided: list[Case] = []
        for case in cases:
            seen, witness = observed[case.entry.key], witnessed.get(case.entry.key)
            error = seen.error or (witness and witness.error)
            if error:
                log.error("item cannot be read", key=self._store.key_hash(case.entry.key), error=error)
                batch.postpone([case], BACKOFF_MAX_SECONDS)
                continue
            case.look = self._look_of(case, seen, witness, (at_ms, answered_ms), strong)
            judgement = judge(case.history, case.look, moment, self._policy)
            if judgement.escalate:
                undecided.append(case)
            else:
                batch.settle(case, judgement, moment.now_ms)
        return undecided

    def _read(
        self, cases: list[Case], eye: Callable[[bytes, Item], Seen], which: int, strong: bool
    ) -> tuple[dict[bytes, Seen], set[bytes]]:
        """Read the cases' keys on one side: what is seen of each, and the keys DynamoDB did not get to."""
        found: dict[bytes, Seen] = {}
        left = [case.entry.key for case in cases]
        for attempt in range(READ_TRIES):
            if not left or (attempt and self._stop.wait(BACKOFF_MIN_SECONDS * 2 ** (attempt - 1))):
                break
            result = self._batch_get(which, left, eye, strong)
            found.update(result.items)
            found.update(dict.fromkeys(result.absent, NOTHING))
            left = result.unprocessed
        for case in cases:
            if strong:
                case.reads_strong += 1
            else:
                case.reads += 1
        return found, set(left)

    def _batch_get(
        self, which: int, keys: list[bytes], eye: Callable[[bytes, Item], Seen], strong: bool
    ) -> BatchResult[Seen]:
        began = time.monotonic()
        self._limiters[which].acquire(self._stop)
        self._waited[which].inc(time.monotonic() - began)
        result = self._readers[which].batch_get(keys, eye, strong)
        self._limiters[which].charge(result.consumed_units)
        self._batch_keys[which].observe(len(keys))
        return result

    def _eye(
        self, which: int, likely: dict[bytes, bytes], at_ms: int, whole: bool
    ) -> Callable[[bytes, Item], Seen]:
        """What is kept of an item of that side. likely: the digest it has when the sides are in sync.

        whole: keep the item too, to tell attributes apart.
        """
        ttl_attribute, digest_item = self._ttl_attributes[which], self._digester.digest_item

        def see(key: bytes, item: Item) -> Seen:
            try:
                digest = digest_item(item, likely.get(key))
            except MalformedItem as error:
                return Seen(error=str(error))
            expired = ttl_attribute is not None and _is_expired(item, ttl_attribute, at_ms)
            return Seen(digest, expired, item if whole else None)

        return see

    def _look_of(
        self, case: Case, seen: Seen, witness: Seen | None, between_ms: tuple[int, int], strong: bool
    ) -> Look:
        """What was read as a look; of the items, only names of attributes outlive this call."""
        at_ms, answered_ms = between_ms
        if witness is None:
            return Look(seen.digest, at_ms, case.history.newest, strong, None, seen.expired, answered_ms)
        if seen.item and witness.item and seen.digest != witness.digest:
            case.attributes = diff(witness.item, seen.item, self._ignore)
        expired = seen.expired or witness.expired
        return Look(seen.digest, at_ms, case.history.newest, strong, witness.digest, expired, answered_ms)

    # --- committing --------------------------------------------------------------------------------------

    def _commit(self, batch: Batch) -> None:
        """Commit what is decided; where a history changed, judge the same look against the new one."""
        decided = batch.decided
        for _ in range(COMMIT_TRIES):
            if not decided:
                return
            refused = self._store.commit([one.settled for one in decided], batch.now_ms())
            refused_at = {one.index for one in refused}
            self._measure([one for index, one in enumerate(decided) if index not in refused_at])
            changed = [(decided[one.index].case, one.raw) for one in refused if one.raw]
            decided = [self._judge_again(case, raw, batch) for case, raw in changed if case is not None]

    def _judge_again(self, case: Case, raw: bytes, batch: Batch) -> Decided:
        case.entry = Entry(case.entry.id, case.entry.key, raw, case.entry.deliveries)
        case.history = codec.decode(raw)
        if case.look is not None:
            judgement = judge(case.history, case.look, batch.moment(), self._policy)
            if not judgement.escalate:
                return settled(case, judgement, batch.now_ms())
        return put_back(case, batch.now_ms())

    def _measure(self, committed: list[Decided]) -> None:
        metrics = self._metrics
        looked = [
            (one.case, one.judgement) for one in committed if one.judgement and one.case and one.case.look
        ]
        if not looked:
            return
        metrics.validations.inc(len(looked))
        metrics.last_validation_timestamp_seconds.set(time.time())
        lags_ms = [judgement.lag_ms for _, judgement in looked if judgement.lag_ms >= 0]
        metrics.replication_lag_seconds.observe_all([lag_ms / 1000 for lag_ms in lags_ms])
        metrics.validations_undecided.inc(sum(judgement.verdict is None for _, judgement in looked))
        for case, judgement in looked:
            if judgement.finding is FindingChange.OPENED and judgement.verdict is not None:
                metrics.mismatches[judgement.verdict].inc()
            if self._verbose and judgement.verdict is not None:
                key = self._store.key_hash(case.entry.key)
                log.info("verdict", key=key, verdict=judgement.verdict, lag_ms=judgement.lag_ms)


def _is_expired(item: Item, ttl_attribute: str, at_ms: int) -> bool:
    """True when the item is past its TTL (DynamoDB deletes it within days; until then it can be read)."""
    value = item.get(ttl_attribute, {}).get("N")
    return value is not None and 0 < float(value) <= at_ms / 1000
