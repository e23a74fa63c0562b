"""The validator: claims due keys, reads them on the verified side, judges each by its history, commits.

Reads: the store's work stream and histories; items of both tables. Writes: verdicts, findings, next looks and
counters through store.commit. Never: redis, boto3. No item value leaves this process, and no verdict comes
from an error.

One process keeps `in_flight` BatchGetItem calls under way: each of its threads runs claim → read → judge →
commit on its own batch, so a socket that hangs delays that batch alone.
"""

import threading
import time
from collections.abc import Callable

import msgspec
import structlog

from pipeline.aws import MAX_KEYS
from pipeline.core.differing import differences
from pipeline.core.judging.history import FindingChange, History, Judgement
from pipeline.core.judging.rule import judge, needs_witness, wake
from pipeline.core.ledger import buried
from pipeline.core.model import Look, Policy, VerdictKind
from pipeline.errors import AwsError
from pipeline.metrics import ValidatorMetrics
from pipeline.store import ValidatorStore, codec
from pipeline.store.messages import Commit, Entry
from pipeline.validator import findings
from pipeline.validator.batch import Case, Decided, WorkBatch, put_back
from pipeline.validator.quarantine import House, Quarantine
from pipeline.validator.side_reader import ItemRead, ReadRequest, SideReader

log = structlog.get_logger(__name__)

#: Keys a claim asks for: two BatchGetItem's worth halves what Redis costs a key, more saves little.
CLAIM_KEYS = 200
#: One that took its validator down alone this often becomes a dead letter.
MAX_TRIALS = 5
#: The next trial after one that could not be held.
TRIAL_RETRY_SECONDS = 5.0
#: When a key is due again that was not read, and one whose item nobody can read.
UNREAD_SECONDS, UNREADABLE_SECONDS = 0.5, 30.0
#: How often entries of validators that went silent are looked for.
RECLAIM_EVERY_SECONDS = 5.0
#: A commit refused this often in a row is left to be claimed again.
COMMIT_TRIES = 5


class Validator:
    """Judges batches; `step` is one batch. Thread-safe: a process's threads share one instance."""

    def __init__(
        self,
        store: ValidatorStore,
        verified: SideReader,
        origin: SideReader,
        policy: Policy,
        metrics: ValidatorMetrics,
        *,
        consumer: str,
        ignore: frozenset[str] = frozenset(),
        reclaim_after_ms: int = 30_000,
        verbose: bool = False,
        house: House | None = None,
    ) -> None:
        """verified: the side looked at. origin: the one whose changes are read. ignore: attributes. house: of
        a process that validates several migrations.
        """
        self._store = store
        self._verified = verified
        self._origin = origin
        self._policy = policy
        self._metrics = metrics
        self._consumer = consumer
        self._ignore = ignore
        self._reclaim_after_ms = reclaim_after_ms
        self._verbose = verbose
        self._lock = threading.Lock()
        self._adopted = False
        self._reclaimed_at = 0.0
        self._quarantine = Quarantine(house)
        self._survived = b""  # the entry that was tried alone last

    def pay(self) -> float:
        """How long this thread takes no work, with nothing in hand, before it reads again (--max-rcu)."""
        return max(self._verified.pay(), self._origin.pay())

    def step(self, claimed: Callable[[int], None] = lambda _entries: None) -> int:
        """One batch: claim, read, judge, commit. Returns how many entries were claimed (0 = nothing is due).

        claimed: is told as soon as that is known, unless an entry is tried alone.

        Raises StoreError when Redis does not play along, AwsError when a table could not be read: then the
        keys concerned have been put back with their histories as they were, the others are committed.
        """
        self._store.clock.check()
        with self._quarantine.trial() as waiting:
            if waiting and self._can_read():
                return self._step_alone(waiting)
        with self._quarantine.company():
            batch, entries = self._claim()
            claimed(len(entries))
            self._quarantine.admit(entry.id for entry in entries if entry.alone)
            self._finish(batch, [entry for entry in entries if not entry.alone])
            return len(entries)

    def probe(self) -> None:
        """Read a key that nobody has, on both sides. Raises AwsError."""
        self._verified.probe()
        self._origin.probe()

    def _can_read(self) -> bool:
        """Whether a key that nobody has can be read. A process that dies of it died of no entry."""
        try:
            self.probe()
        except AwsError as error:
            log.warning("no entry is tried alone now", error=str(error), retry_seconds=TRIAL_RETRY_SECONDS)
            self._quarantine.rest(TRIAL_RETRY_SECONDS)
            return False
        return True

    def _step_alone(self, waiting: list[bytes]) -> int:
        """As `step`, of one entry under suspicion: a process that dies now died of that."""
        claim, trials = self._store.claim_alone(self._consumer, waiting, self._survived)
        self._quarantine.release([entry.id for entry in claim.entries] or waiting)
        for entry in claim.entries:
            try:
                self._try(WorkBatch(claim, self._store.clock, self._policy), entry, trials)
            finally:
                self._survived = entry.id
        return len(claim.entries)

    def _try(self, batch: WorkBatch, entry: Entry, trials: int) -> None:
        log.warning(
            "entry was in hand when validators died: tried alone",
            key=self._store.key_hash(entry.key),
            trials=trials,
        )
        if trials <= MAX_TRIALS:
            self._finish(batch, [entry])
        else:
            batch.decided.append(self._bury(entry, _history(entry), "redelivered"))
            self._commit(batch)

    def _finish(self, batch: WorkBatch, entries: list[Entry]) -> None:
        if entries:
            self._look(batch, self._decide_without_look(batch, entries))
            self._commit(batch)
        if batch.error is not None:
            raise batch.error

    def _claim(self) -> tuple[WorkBatch, list[Entry]]:
        with self._lock:
            adopt, self._adopted = not self._adopted, True
            reclaim = time.monotonic() - self._reclaimed_at >= RECLAIM_EVERY_SECONDS
            if reclaim:
                self._reclaimed_at = time.monotonic()
        claim = self._store.claim(self._consumer, CLAIM_KEYS, self._reclaim_after_ms if reclaim else 0, adopt)
        return WorkBatch(claim, self._store.clock, self._policy), claim.entries

    # --- what needs no look ------------------------------------------------------------------------------

    def _decide_without_look(self, batch: WorkBatch, entries: list[Entry]) -> list[Case]:
        """Judge what can be judged from what is known; returns the cases that need a look."""
        cases: list[Case] = []
        moment = batch.moment()
        for entry in entries:
            try:
                case = Case(entry, codec.decode(entry.raw))
            except ValueError:
                batch.decided.append(self._bury(entry, None, "poison"))
                continue
            judgement = wake(case.history, moment, batch.policy(case))
            if judgement is None:
                cases.append(case)
            else:
                batch.conclude(case, judgement, moment.now_ms)
        return cases

    def _bury(self, entry: Entry, history: History | None, reason: str) -> Decided:
        """Make an entry a dead letter: kept, counted, never handed out again."""
        log.error("dead letter", reason=reason, key=self._store.key_hash(entry.key))
        counts = f"dead_entries:{reason}=1"
        if history is not None:
            counts += f" {buried(history)}"
        return Decided(Commit(entry=entry, after=b"", next_ms=0, tally=counts, dead=True))

    # --- looking -----------------------------------------------------------------------------------------

    def _look(self, batch: WorkBatch, cases: list[Case]) -> None:
        """Look at the cases; then, strongly consistent and with a witness, at those that call for it."""
        for strong in (False, True):
            again: list[Case] = []
            for start in range(0, len(cases), MAX_KEYS):
                try:
                    again += self._look_once(batch, cases[start : start + MAX_KEYS], strong)
                except AwsError as error:
                    batch.error = error
                    batch.postpone([*again, *cases[start:]], UNREAD_SECONDS)
                    return
            cases = again
        batch.postpone(cases, 0)

    def _look_once(self, batch: WorkBatch, cases: list[Case], strong: bool) -> list[Case]:
        """One read of the verified side, of the origin too where needed; the cases still to decide."""
        at_ms = batch.now_ms()
        doubtful = [case for case in cases if strong or needs_witness(case.history)]
        likely = {case.entry.key: case.history.versions[-1][0] for case in cases}
        request = ReadRequest(at_ms=at_ms, strong=strong, likely=likely, whole=bool(doubtful))
        seen, missed = self._read(self._verified, cases, request)
        doubtful = [case for case in doubtful if case.entry.key in seen]
        request = ReadRequest(at_ms=at_ms, strong=True, likely=likely, whole=True)
        witnessed, unwitnessed = self._read(self._origin, doubtful, request)
        if unread := missed | unwitnessed:
            batch.postpone((c for c in cases if c.entry.key in unread), UNREAD_SECONDS)
            cases = [case for case in cases if case.entry.key not in unread]
        answered_ms = batch.latest_ms()  # asked first: it may find that the time before was another one
        if batch.is_void:
            batch.postpone(cases, 0)
            return []
        looked: list[Case] = []
        for case in cases:
            item, witness = seen[case.entry.key], witnessed.get(case.entry.key)
            if error := item.error or (witness and witness.error):
                log.error("item cannot be read", key=self._store.key_hash(case.entry.key), error=error)
                batch.postpone([case], UNREADABLE_SECONDS)
                continue
            case.look = Look(
                digest=item.digest,
                at_ms=at_ms,
                seen=case.history.newest,
                strong=strong,
                witness=witness.digest if witness else None,
                verified_expires=item.expires,
                witness_expires=witness is not None and witness.expires,
                answered_ms=answered_ms,
            )
            self._note_difference(case, item, witness)
            looked.append(case)
        return self._judge(batch, looked)

    def _read(
        self, side: SideReader, cases: list[Case], request: ReadRequest
    ) -> tuple[dict[bytes, ItemRead], set[bytes]]:
        """What is read of the cases' keys, and the keys that DynamoDB did not get to; the cases count it."""
        read = side.read([case.entry.key for case in cases], request)
        for case in cases:
            if request.strong:
                case.reads_strong += 1
            else:
                case.reads += 1
        return read

    def _note_difference(self, case: Case, item: ItemRead, witness: ItemRead | None) -> None:
        """Names of the attributes that differ, and their types: all that outlives the items."""
        if witness is None or not (item.item and witness.item) or item.digest == witness.digest:
            return
        source, target = witness.item, item.item
        if self._policy.leads:
            source, target = target, source
        case.attributes, case.types = differences(source, target, self._ignore)

    def _judge(self, batch: WorkBatch, cases: list[Case]) -> list[Case]:
        """Judge the cases by their looks; those that call for a stronger one."""
        undecided: list[Case] = []
        moment = batch.moment()
        for case in cases:
            judgement = judge(case.history, case.looked(), moment, batch.policy(case))
            if judgement.escalate:
                undecided.append(case)
            else:
                batch.conclude(case, judgement, moment.now_ms)
        return undecided

    # --- committing --------------------------------------------------------------------------------------

    def _commit(self, batch: WorkBatch) -> None:
        """Commit what is decided; where a history changed, judge the same look against the new one."""
        decided = batch.decided
        for _ in range(COMMIT_TRIES):
            if not decided:
                return
            now_ms = batch.now_ms()
            done = self._store.commit([one.commit for one in decided], now_ms)
            uncommitted = {*done.lost, *(one.index for one in done.refused)}
            self._measure([one for index, one in enumerate(decided) if index not in uncommitted])
            for change in done.findings:
                one = decided[change.index]
                findings.tell(self._store.key_hash(one.commit.entry.key), one, change, now_ms)
            changed = [(decided[one.index].case, one.raw) for one in done.refused if one.raw]
            decided = [self._judge_again(case, raw, batch) for case, raw in changed if case is not None]

    def _judge_again(self, case: Case, raw: bytes, batch: WorkBatch) -> Decided:
        case.entry = msgspec.structs.replace(case.entry, raw=raw)
        try:
            case.history = codec.decode(raw)
        except ValueError:  # damaged since it was claimed
            return self._bury(case.entry, None, "poison")
        if case.look is not None and not batch.is_void:
            judgement = judge(case.history, case.look, batch.moment(), batch.policy(case))
            if not judgement.escalate:
                return batch.concluded(case, judgement, batch.now_ms())
        return put_back(case, batch.now_ms())

    def _measure(self, committed: list[Decided]) -> None:
        """Count what was committed; what a look of before decided counts as well, but for the look."""
        metrics = self._metrics
        looked = undecided = matches = 0
        lags: list[float] = []
        match, opened = VerdictKind.MATCH, FindingChange.OPENED
        for one in committed:
            case, judgement = one.case, one.judgement
            if case is None or judgement is None:
                continue
            verdict = judgement.verdict
            if case.look:
                looked += 1
                undecided += verdict is None
            if judgement.lag_ms >= 0:
                lags.append(judgement.lag_ms / 1000)
            if verdict is not None:
                matches += verdict is match
                if judgement.finding is opened:
                    metrics.mismatches[verdict].inc()
                if self._verbose:
                    self._tell(case, judgement)
        metrics.validations.inc(looked)
        metrics.validations_undecided.inc(undecided)
        metrics.replication_lag_seconds.observe_all(lags)
        metrics.validation_matches.inc(matches)

    def _tell(self, case: Case, judgement: Judgement) -> None:
        key = self._store.key_hash(case.entry.key)
        held = {} if case.look else {"by": "a look that was held"}
        log.info("verdict", key=key, verdict=judgement.verdict, lag_ms=judgement.lag_ms, **held)


def _history(entry: Entry) -> History | None:
    """Of an entry to be buried; None if even that cannot be read."""
    try:
        return codec.decode(entry.raw)
    except Exception:  # noqa: BLE001  # it may be what took the validators down
        return None
