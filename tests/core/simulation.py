"""A seeded world in which the production judging rule (`rule.judge`, `rule.wake`) is put to the test.

A writer changes keys, a stream shows the changes late, a replicator applies them to the target late, out of
order, wrongly or not at all, a reader with outages publishes, a validator looks. Keys do not influence each
other, so each is simulated alone against the world's common timeline.
"""

import bisect
import hashlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from pipeline.core.adaptive import (
    ADAPT_EVERY_MS,
    DEADLINE_MINUTES,
    MEDIAN_MINUTES,
    Adaptive,
    Observed,
    adapt,
    is_probe,
)
from pipeline.core.judging import rule
from pipeline.core.judging.history import FindingChange, History, Judgement
from pipeline.core.ledger import lag_bucket, tally
from pipeline.core.model import (
    ABSENT,
    UNKNOWN,
    Change,
    Look,
    Moment,
    Phase,
    Policy,
    Side,
    StreamView,
    VerdictKind,
)
from pipeline.core.statistics import LAG_BUCKETS_SECONDS
from pipeline.store import codec
from tests.core.reference import append, brought_forward
from tests.core.ttl_world import DESCRIBED_BEFORE_MS, START_MS
from tests.core.world import LOOKS_BACK_MS, World, replicated

POLL_MS = 500
STREAM_MARGIN_MS = 3_000


@dataclass
class Outcome:
    """What a scenario came to, over all its keys.

    written: keys ever written, `wrong` of them divergent at the end, sampled or not. keys and the rest: of
    the sampled ones; judged: those of them that were written. open: findings open at the end. detected_ms: of
    each alarm, how old the oldest version was that it was about. deadlines: see `Deadline`.
    """

    written: int = 0
    wrong: int = 0
    keys: int = 0
    judged: int = 0
    open: int = 0
    versions: int = 0
    divergent: int = 0
    false_alarms: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    unbalanced: list[str] = field(default_factory=list)
    reads: int = 0
    alarms: int = 0
    detected_ms: list[int] = field(default_factory=list)
    deadlines: list[tuple[int, int]] = field(default_factory=list)
    excused: int = 0
    indeterminate: int = 0


class Timeline:
    """What a table held for one key: states[i] from times[i] on."""

    def __init__(self) -> None:
        self.times: list[int] = [0]
        self.states: list[bytes] = [ABSENT]

    def put(self, at_ms: int, state: bytes) -> bool:
        """False when nothing changed: DynamoDB emits no record then."""
        if self.states[-1] == state:
            return False
        self.times.append(at_ms)
        self.states.append(state)
        return True

    def at(self, at_ms: int) -> bytes:
        return self.states[bisect.bisect_right(self.times, at_ms) - 1]

    def between(self, start_ms: int, end_ms: int) -> set[bytes]:
        first = bisect.bisect_right(self.times, start_ms) - 1
        last = bisect.bisect_right(self.times, end_ms)
        return set(self.states[first:last])


def simulate(world: World, seed: int, keeps: Callable[[bytes], bool] = lambda _key: True) -> Outcome:
    """keeps: the sampler; keys that it leaves out are written and replicated, but not watched."""
    outcome = Outcome()
    deadline = Deadline(world)
    watched = []
    for number in range(world.keys):
        name = f"{seed}/{number}"
        key = _Key(world, name, outcome, deadline)
        outcome.written += key.written
        outcome.wrong += key.divergent
        if keeps(name.encode()):
            watched.append(key)
    _run(watched, together=world.at_most_ms > 0)
    outcome.deadlines = deadline.all
    return outcome


def _run(keys: list["_Key"], *, together: bool) -> None:
    """Each by itself, or all by the same clock: a deadline that follows the lag follows that of all keys."""
    if not together:
        for key in keys:
            while key.next_ms < key.end_ms:
                key.step()
    else:
        waiting = [(key.next_ms, number) for number, key in enumerate(keys)]
        heapq.heapify(waiting)
        while waiting:
            _, number = heapq.heappop(waiting)
            if keys[number].next_ms < keys[number].end_ms:
                keys[number].step()
                heapq.heappush(waiting, (keys[number].next_ms, number))
    for key in keys:
        key.account()


class Deadline:
    """What every validator judges by at a time: the policy as it is, or as it follows the lag.

    all: every deadline there was, (when, ms).
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._lags: dict[int, list[int]] = {}
        self._probes: dict[int, list[int]] = {}
        self._probes_ms: dict[int, int] = {}
        self._waiting: dict[int, int] = {}
        self.outstanding = 0
        self._adaptive: Adaptive | None = None
        self.all: list[tuple[int, int]] = []

    def count(self, key: bytes, lag_ms: int, before: int, after: int, now_ms: int) -> None:
        """A look's lag (-1 = none), and the buckets in which the key waits."""
        if lag_ms >= 0:
            for counts in (self._lags, self._probes) if is_probe(key) else (self._lags,):
                counts.setdefault(now_ms // 60_000, [0] * (len(LAG_BUCKETS_SECONDS) + 1))[
                    lag_bucket(lag_ms)
                ] += 1
            if is_probe(key):
                self._probes_ms[now_ms // 60_000] = self._probes_ms.get(now_ms // 60_000, 0) + lag_ms
        for bucket, by in ((before, -1), (after, 1)) if before != after else ():
            if bucket:
                self._waiting[bucket] = self._waiting.get(bucket, 0) + by

    def policy(self, key: bytes, now_ms: int, behind_ms: int) -> Policy:
        world = self._world
        if not world.at_most_ms:
            return world.policy
        if self._adaptive is None or now_ms >= self._adaptive.adapted_ms + ADAPT_EVERY_MS:
            self._adaptive = adapt(self._observed(now_ms, behind_ms), world.at_most_ms, self._adaptive)
            self.all.append((now_ms, self._adaptive.converge_within_ms))
        return msgspec.structs.replace(
            world.policy,
            converge_within_ms=self._adaptive.converge_within_ms,
            first_look_ms=0 if is_probe(key) else self._adaptive.first_look_ms,
            adapted_ms=self._adaptive.adapted_ms,
        )

    def _observed(self, now_ms: int, behind_ms: int) -> Observed:
        def last(counts: dict[int, list[int]], minutes: int) -> list[int]:
            none = [0] * (len(LAG_BUCKETS_SECONDS) + 1)
            told = [counts.get(now_ms // 60_000 - ago, none) for ago in range(minutes)]
            return [sum(one) for one in zip(*told, strict=True)]

        return Observed(
            now_ms=now_ms,
            lags=last(self._lags, DEADLINE_MINUTES),
            recent=last(self._lags, MEDIAN_MINUTES),
            probes=last(self._probes, MEDIAN_MINUTES),
            probes_ms=sum(self._probes_ms.get(now_ms // 60_000 - ago, 0) for ago in range(MEDIAN_MINUTES)),
            waiting=self._waiting,
            outstanding=self.outstanding,
            behind_ms=behind_ms,
        )


class _Key:
    def __init__(self, world: World, name: str, outcome: Outcome, deadline: Deadline) -> None:
        self.world, self.name, self.outcome = world, name, outcome
        self.deadline = deadline
        self.random = random.Random(name)
        self.source, self.target = Timeline(), Timeline()
        self.suspects = 0
        self.compared_ms = START_MS + self.random.randint(*world.compared_ms) if world.compared_ms else 0
        if world.compared_ms:
            self._import()
        self.lost_by_ttl: bytes | None = None
        self._write_and_replicate()
        leads = world.policy.leads
        self.origin, self.verified = (self.target, self.source) if leads else (self.source, self.target)
        self.published: list[tuple[int, Change | None]] = [*(self._stream() if world.watched else ())]
        self.changes = len(self.published)
        if self.compared_ms:
            bisect.insort(self.published, (self.compared_ms, None), key=lambda one: one[0])
        self.history: History | None = None
        self.due_ms = 0
        self.finding = False
        self.counts: dict[str, int] = {}
        self.waiting = list(self.published)
        quiet_from = max(self.source.times[-1], self.target.times[-1], START_MS + world.writing_ms)
        self.end_ms = quiet_from + 40 * world.longest_ms + 600_000
        self.now = START_MS

    # --- the world ---------------------------------------------------------------------------------------

    def _import(self) -> None:
        """What was there before anybody watched: one item on both sides, or not."""
        state = self._state(0)
        self.source.states[0] = self.target.states[0] = state
        if (chance := self.random.random()) < self.world.lost:
            self.target.states[0] = ABSENT
        elif chance < self.world.lost + self.world.spoiled:
            self.target.states[0] = hashlib.sha256(b"spoiled" + state).digest()[:16]

    def _write_and_replicate(self) -> None:
        world, rng = self.world, self.random
        at_ms, value = START_MS, 0
        while (at_ms := at_ms + max(1, int(rng.expovariate(world.writes_per_second) * 1000))) <= (
            START_MS + world.writing_ms
        ):
            value += 1
            self.source.put(at_ms, self._state(value))
        self._expire(self.source, Side.SOURCE)
        changes = list(zip(self.source.times, self.source.states, strict=True))[1:]
        for write in replicated(world, rng, changes):
            self.target.put(write.at_ms, write.state)
        self._expire(self.target, Side.TARGET)

    def _expire(self, table: Timeline, side: Side) -> None:
        """What TTL does to what was written."""
        if self.world.ttl is None:
            return
        writes = list(zip(table.times, table.states, strict=True))[1:]
        table.times, table.states = table.times[:1], table.states[:1]
        for at_ms, state in self.world.ttl.with_deletions(writes, side, self.random):
            table.put(at_ms, state)
        if side is Side.TARGET and table.times[1:] and table.times[-1] not in dict(writes):
            self.lost_by_ttl = table.states[-2]

    def _state(self, value: int) -> bytes:
        if self.world.values:
            value = self.random.randrange(self.world.values + 1)
            return hashlib.sha256(f"{self.name} {value}".encode()).digest()[:16] if value else ABSENT
        if self.random.random() < 0.1:
            return ABSENT
        return hashlib.sha256(f"{self.name} {value}".encode()).digest()[:16]

    def _stream(self) -> list[tuple[int, Change | None]]:
        """(when published, change) of the origin's stream."""
        out: list[tuple[int, Change | None]] = []
        times, states = self.origin.times, self.origin.states
        for before, after, at in zip(states, states[1:], times[1:], strict=False):
            available = at + self.random.randint(50, 900)
            change = Change(self.name.encode(), *self._shown(before, after), at // 1000 * 1000)
            out.append((self._polled(available), change))
        # a shard is read in order
        for index in range(len(out) - 2, -1, -1):
            if out[index][0] > out[index + 1][0]:
                out[index] = (out[index + 1][0], out[index][1])
        return out

    def _shown(self, before: bytes, after: bytes) -> tuple[bytes, bytes]:
        """The digests that the stream's view type lets the reader compute."""
        view = self.world.view
        if view in (StreamView.KEYS_ONLY, StreamView.NEW_IMAGE) and before != ABSENT:
            before = UNKNOWN
        if view in (StreamView.KEYS_ONLY, StreamView.OLD_IMAGE) and after != ABSENT:
            after = UNKNOWN
        return before, after

    def _polled(self, available_ms: int) -> int:
        poll = -(-available_ms // POLL_MS) * POLL_MS
        if self.world.outage:
            start, end = (START_MS + edge for edge in self.world.outage)
            if start <= poll < end:
                poll = end
        return poll

    def _moment(self, now_ms: int) -> Moment:
        if not self.world.watched:
            return Moment(now_ms=now_ms, watched=False)
        poll = now_ms // POLL_MS * POLL_MS
        if self.world.outage:
            start, end = (START_MS + edge for edge in self.world.outage)
            if start <= poll < end:
                poll = start - POLL_MS
        return Moment(now_ms=now_ms, watermark_ms=poll - STREAM_MARGIN_MS, gap_ms=self.world.gap_ms)

    # --- the pipeline --------------------------------------------------------------------------------------

    @property
    def next_ms(self) -> int:
        """When something happens to the key next."""
        return min(self._next_publish, self._next_look)

    @property
    def _next_publish(self) -> int:
        return self.waiting[0][0] if self.waiting else self.end_ms

    @property
    def _next_look(self) -> int:
        return max(self.due_ms, self.now) if self.history is not None else self.end_ms

    def step(self) -> None:
        next_look = self._next_look
        publishes = self._next_publish <= next_look
        self.now = self.next_ms
        if publishes:
            self._publish(*self.waiting.pop(0))
        else:
            self._validate(next_look, self.waiting)

    def account(self) -> None:
        self._account(self.end_ms)

    def _policy(self, now_ms: int) -> Policy:
        behind_ms = now_ms - self._moment(now_ms).watermark_ms
        return self.deadline.policy(self.name.encode(), now_ms, behind_ms)

    def _publish(self, now_ms: int, change: Change | None) -> None:
        if change is None:
            self._compare(now_ms)
            return
        self.outcome.versions += 1
        if self.history is not None and self.history.is_waiting_suspect:
            self._count({"suspects_waiting": -1})
        before = self.history
        self.history = codec.decode(codec.encode(append(before, change)))
        first_look_ms = self._policy(now_ms).first_look_ms
        worth_from_ms = change.created_ms + first_look_ms if first_look_ms else 0
        if before is None:
            self.due_ms = max(now_ms + 50, worth_from_ms)
        else:
            self.due_ms = brought_forward(before, self.due_ms, now_ms, worth_from_ms)
        self._count({"outstanding": 1})

    def _compare(self, now_ms: int) -> None:
        """What lua/suspect.lua does, if both sides differ as they are read, one a little after the other."""
        source = self.source.at(now_ms - self.random.randint(0, 1_000))
        if source == self.target.at(now_ms):
            return
        one = self.history
        if one is None or (one.suspect and one.phase is Phase.SETTLING):
            digest = UNKNOWN if self.world.policy.leads else source
            self.history = History(((digest, now_ms),), 0, incomplete=True, suspect=True)
            self.due_ms = now_ms + 50
            self.suspects += 1
            self._count({"outstanding": 1, "suspects_waiting": 1})
        elif one.phase is Phase.SETTLING:
            self.history = msgspec.structs.replace(one, settle=True)

    def _validate(self, now_ms: int, waiting: list[tuple[int, Change | None]]) -> None:
        assert self.history is not None
        policy = self._policy(now_ms)
        claimed = self.history
        judgement = rule.wake(claimed, self._moment(now_ms), policy)
        look = None
        if judgement is None:
            strong = False
            while True:
                look = self._look(now_ms, claimed, strong)
                now_ms += self.random.randint(20, 400)
                while waiting and waiting[0][0] <= now_ms:  # published between the read and the commit
                    at, change = waiting.pop(0)
                    self._publish(at, change)
                judgement = rule.judge(self.history, look, self._moment(now_ms), policy)
                if not judgement.escalate:
                    break
                strong, claimed = True, self.history
        self._commit(self.history, judgement, look, policy, now_ms)

    def _look(self, now_ms: int, claimed: History, strong: bool) -> Look:
        self.outcome.reads += 2 if strong else 1
        read_at = now_ms if strong else now_ms - self.random.choice((0, 0, 0, LOOKS_BACK_MS))
        digest = self.verified.at(read_at)
        witness = self.origin.at(now_ms + 15) if strong or rule.needs_witness(claimed) else None
        return Look(
            digest=digest,
            at_ms=now_ms,
            seen=claimed.newest,
            strong=strong,
            witness=witness,
            verified_expires=self._expires(digest, self.verified, now_ms),
            witness_expires=witness is not None and self._expires(witness, self.origin, now_ms),
        )

    def _expires(self, state: bytes, table: Timeline, now_ms: int) -> bool:
        """What the validator finds, by a description of TTL that may be a little old."""
        if self.world.ttl is None:
            return False
        described_ms = now_ms - self.random.randint(0, DESCRIBED_BEFORE_MS)
        return self.world.ttl.dooms(state, self._side(table), now_ms, described_ms)

    def _side(self, table: Timeline) -> Side:
        return Side.SOURCE if table is self.source else Side.TARGET

    def _commit(
        self, before: History, judgement: Judgement, look: Look | None, policy: Policy, now_ms: int
    ) -> None:
        late = judgement.history.late if judgement.history else 0
        self.deadline.count(self.name.encode(), judgement.lag_ms, before.late, late, now_ms)
        for item in tally(before, judgement, 0, 0).split():
            name, _, delta = item.partition("=")
            self._count({name: int(delta)})
        if judgement.finding is FindingChange.OPENED:
            self.finding = True
            self.outcome.alarms += 1
            self.outcome.detected_ms.append(
                now_ms - before.versions[before.lo][1] if before.lo < len(before.versions) else 0
            )
            deciding = look if look is not None else before.held.look  # type: ignore[union-attr]
            self._check_alarm(deciding, policy)
        elif judgement.finding in (FindingChange.RECOVERED, FindingChange.EXCUSED):
            self.finding = False
        if judgement.verdict is VerdictKind.EXPIRED:
            self.outcome.excused += 1
        self.history, self.due_ms = judgement.history, judgement.next_ms

    def _count(self, counts: dict[str, int]) -> None:
        self.deadline.outstanding += counts.get("outstanding", 0)
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    # --- the truth -----------------------------------------------------------------------------------------

    @property
    def written(self) -> bool:
        return len(self.source.states) > 1

    @property
    def divergent(self) -> bool:
        """The tables differ when everything has come to rest."""
        return self.source.states[-1] != self.target.states[-1]

    def _check_alarm(self, look: Look, policy: Policy) -> None:
        """An alarm is false when the target then held what the source held within converge-within."""
        held = self.target.at(look.at_ms)
        recent = self.source.between(look.at_ms - policy.converge_within_ms, look.at_ms + 15)
        if held in recent or self._excusable(look):
            self.outcome.false_alarms.append(f"{self.name} at {look.at_ms - START_MS} ms")

    def _is_visible(self) -> bool:
        """Whether the divergence at the end could be seen by anybody."""
        last_ms = max(self.source.times[-1], self.target.times[-1])
        if self.compared_ms and last_ms < self.compared_ms - 1_000:
            return True
        if not self.world.watched or len(self.source.times) == 1:
            return False
        if self.world.policy.leads:
            return self.target.times[-1] >= self.source.times[-1]
        # What the target's own TTL takes of what was right leaves no record at the source.
        return self.lost_by_ttl != self.source.states[-1]

    def _excusable(self, look: Look) -> bool:
        """TTL would have removed the difference, that was known, and its grace was not over.

        The grace of a difference begins with the origin's version, or when that may be deleted.
        """
        ttl, at_ms = self.world.ttl, look.at_ms
        if ttl is None or look.witness is None:
            return False
        sides = ((look.digest, self._side(self.verified)), (look.witness, self._side(self.origin)))
        held = [(state, side) for state, side in sides if state != ABSENT]
        known = all(
            ttl.dooms(*one, at_ms, then) for one in held for then in (at_ms, at_ms - DESCRIBED_BEFORE_MS)
        )
        made_ms = max(t for t in self.origin.times if t <= at_ms + 15)
        since_ms = max([made_ms, *(ttl.doomed_from(*one) for one in held if one == sides[1])])
        return bool(held) and known and at_ms < since_ms + self.world.policy.ttl_grace_ms

    def _account(self, end_ms: int) -> None:
        outcome = self.outcome
        outcome.keys += 1
        outcome.indeterminate += self.counts.get("indeterminate", 0)
        outcome.judged += self.written
        outcome.open += self.finding
        divergent = self.divergent
        visible = self._is_visible()
        outcome.divergent += divergent
        if divergent and visible and not self.finding:
            outcome.missed.append(self.name)
        if self.history is not None and self.history.phase is Phase.EXCUSED:
            outcome.missed.append(f"{self.name} still excused at the end")
        if not divergent and self.finding:
            outcome.false_alarms.append(f"{self.name} still open at the end")
        terms = ("reached", "alarmed", "expired", "indeterminate", "outstanding")
        if sum(self.counts.get(term, 0) for term in terms) != self.changes + self.suspects:
            outcome.unbalanced.append(self.name)
        waits = self.history is not None and self.history.is_waiting_suspect
        if self.counts.get("suspects_waiting", 0) != waits:
            outcome.unbalanced.append(self.name)
        unreached = self.history.outstanding if self.history is not None else 0
        if self.counts.get("outstanding", 0) != unreached:
            outcome.unbalanced.append(self.name)
