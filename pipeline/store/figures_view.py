"""The store, looked at: what can be asked of a migration even before it has begun.

Reads: the migration's keys (see `pipeline/store/__init__.py`). Writes: nothing. Never: judging.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

import msgspec

from pipeline.core.adaptive import Adaptive
from pipeline.core.budget import Lowered
from pipeline.core.comparing.state import Comparison
from pipeline.core.cost import Spending, Terms
from pipeline.core.figures import Clock, Figures
from pipeline.core.judging.history import LATE_BUCKET_MS
from pipeline.core.ledger import (
    ClosedFinding,
    Closing,
    Finding,
    Gap,
    Ledger,
    Queue,
    ReaderState,
    partition_counts,
)
from pipeline.core.model import Checkpoint
from pipeline.core.outlook import Unsettled
from pipeline.core.samples import Sample, timeline
from pipeline.errors import StateDamaged
from pipeline.store import codec
from pipeline.store.adapting import counts_by_bucket, kept
from pipeline.store.answers import comparison_of, damaged, instant_ms, reading, whole
from pipeline.store.beginning import readable
from pipeline.store.begun import begun_migrations
from pipeline.store.clock import StateClock
from pipeline.store.connection import RedisConnection
from pipeline.store.followed import lowered_of
from pipeline.store.messages import gap_of
from pipeline.store.opened import opened
from pipeline.store.questions import Question, figures_questions
from pipeline.store.spending import cost_questions, spending_of

#: Findings that are read at a time.
FINDINGS_PAGE = 500
Answer = TypeVar("Answer")
#: So many partitions that are behind are told apart.
FURTHEST_BEHIND = 10
#: Histories that are read at a time.
HISTORIES_PAGE = 1_000

_decode_sample = msgspec.json.Decoder(Sample).decode


class FiguresView:
    """One migration's numbers and findings, read only; none before it has begun. Thread-safe."""

    terms = Terms()  # what the figures are priced by: set by whoever knows
    _sample = ""  # the one whose keys are counted, as last heard (`scripts.of_sample`)

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._redis, self._key = connection.redis, connection.key
        self.migration = connection.migration

    def close(self) -> None:
        self._connection.close()

    def begun_migrations(self) -> list[str]:
        """All whose state is in this Redis (`begun`)."""
        return begun_migrations(self._connection)

    def check_takes_writes(self) -> None:
        """Raises StoreUnavailable where the server takes no writes: then nobody can go on (connection.py)."""
        self._connection.check_takes_writes()

    def now_ms(self) -> int:
        """The state's clock: the one clock that all processes share (clock.py)."""
        return self._connection.clock.now_ms()

    @property
    def clock(self) -> StateClock:
        return self._connection.clock

    def spending(self) -> Spending:
        """What all processes asked of AWS."""
        told = self._ask(cost_questions(self._key, self.now_ms()))
        with reading(self._key("cost")):
            return spending_of(told)

    def partitions(self, producer: str | None = None) -> dict[str, Checkpoint]:
        """Every partition that is tracked, with its checkpoint; those of one producer, if it is given."""
        with self._connection.asking("partitions"):
            raw = cast(dict[bytes, bytes], self._redis.hgetall(self._key("checkpoints")))
        mine = f"{producer}:" if producer else ""
        with reading(self._key("checkpoints")):
            return {name: at for name, at in _checkpoints(raw).items() if name.startswith(mine)}

    def gaps(self) -> list[Gap]:
        """Oldest first."""
        with self._connection.asking("gaps"):
            raw = cast(dict[bytes, bytes], self._redis.hgetall(self._key("gaps")))
        with reading(self._key("gaps")):
            return _gaps(raw)

    def begun_again(self) -> bool:
        """True when the state was lost once (see `ReaderStore.begin_again`)."""
        with self._connection.asking("begun_again"):
            return bool(self._redis.hexists(self._key("meta"), "begun_again_ms"))

    def ledger(self) -> Ledger:
        return self.figures().ledger

    def queue(self) -> Queue:
        return self.figures().queue

    def reader_state(self) -> ReaderState:
        return self.figures().reader

    def figures(self) -> Figures:
        """Everything that statistics, gate and metrics are made of, of one instant.

        Raises StoreUnavailable, and ConfigurationError for state that this version cannot read.
        """
        now_ms = self.now_ms()
        questions, told, lowered = self._told(now_ms)

        def read(name: str, parse: Callable[[Any], Answer]) -> Answer:
            with reading(str(questions[name][1])):
                return parse(told[name])

        if told["meta"][1]:
            readable(told["meta"][0], self.migration)
        started_ms, watermark_ms, watched_since_ms = read(
            "meta", lambda raw: [instant_ms(one) for one in raw[1:]]
        )
        queued, handed_out = read("queued", lambda raw: [whole(one or 0) for one in raw])
        gaps = read("gaps", _gaps)
        return Figures(
            now_ms=now_ms,
            started_ms=started_ms or now_ms,
            has_begun=bool(started_ms),
            ledger=read("ledger", lambda _: _ledger(told)),
            queue=Queue(
                backlog=queued,
                pending=handed_out,
                outstanding=told["history"],
                due=max(0, told["history"] - queued),
                dead=told["dead"],
                consumers=len(told["pending"]["consumers"] or ()) if told["pending"] else 0,
            ),
            reader=ReaderState(
                watermark_ms=watermark_ms,
                partitions=read("checkpoints", lambda raw: partition_counts(_checkpoints(raw))),
                gaps=len(gaps),
                readers=told["readers"],
                furthest_behind_ms=read(
                    "watermarks", lambda raw: _furthest_behind_ms(raw, told["checkpoints"])
                ),
                closed=[gap for gap in gaps if gap.closed_ms is not None],
            ),
            lag_counts=_added(
                read(name, lambda raw: counts_by_bucket([raw])) for name in told if name.startswith("lag:")
            ),
            adaptive=read("adaptive", _adaptive),
            lowered=lowered,
            sample_percent=read("lowered", lambda raw: _sample_percent(raw[1])),
            spending=read("cost", lambda _: spending_of(told)),
            terms=self.terms,
            oldest_waiting_ms=read("late", _oldest_bucket_ms),
            oldest_finding_ms=read("oldest-finding", _first_ms),
            longest_due_ms=read("oldest-due", lambda raw: _longest_due_ms(told["oldest-entry"], raw)),
            verdict_ms=read("verdict", lambda raw: None if raw is None else instant_ms(raw)),
            validators=told["validators"],
            clock=read("clock", _clock),
            comparison=read("comparison", _comparison),
            kept=read("of-table", _comparison),
            watched_since_ms=watched_since_ms,
            gap_ms=max((gap.at_ms for gap in gaps if gap.closed_ms is None), default=0),
            marks=read("marks", _marks),
        )

    def _told(self, now_ms: int) -> tuple[dict[str, Question], dict[str, Any], Lowered | None]:
        """What was asked and answered, and the lowered sample: distinct keys are those of the one in use."""
        while True:
            sample = self._sample
            questions = figures_questions(self._key, now_ms, sample)
            told = self._ask(questions)
            lowered = lowered_of(told["lowered"][0], self._key("meta"))
            in_use = str(lowered.since_ms) if lowered else ""
            if in_use == sample:
                return questions, told, lowered
            self._sample = in_use

    def _ask(self, questions: dict[str, Question]) -> dict[str, Any]:
        """The answers, all of one instant; None from a consumer group before the migration has begun."""
        with self._connection.asking("figures"):
            pipe = self._redis.pipeline(transaction=True)
            for question in questions.values():
                pipe.execute_command(*question)  # type: ignore[no-untyped-call]
            answers = pipe.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, Exception) and not str(answer).startswith("NOGROUP"):
                    raise answer
        shown = (None if isinstance(answer, Exception) else answer for answer in answers)
        return dict(zip(questions, shown, strict=True))

    def findings(self, from_ms: int = 0, until_ms: int | None = None) -> Iterator[Finding]:
        """Open findings, oldest first; so many at a time are held, however many there are.

        from_ms, until_ms: only those opened then. One that is opened or closed meanwhile may be among them
        or not.
        """
        unreadable = 0
        for page in opened(self._connection, from_ms, until_ms, FINDINGS_PAGE):
            with self._connection.asking("findings"):
                names = [key for key, _ in page]
                raw = cast(list[bytes | None], self._redis.hmget(self._key("findings"), names))
            for (key, at_ms), stored in zip(page, raw, strict=True):
                if stored is None:
                    continue
                try:
                    with reading(self._key("findings")):
                        finding = finding_of(key, stored, at_ms)
                except StateDamaged:
                    unreadable += 1  # the others are shown first
                else:
                    yield finding
        if unreadable:
            raise damaged(f"{unreadable:,} of the findings in {self._key('findings')} cannot be read")

    def samples(self) -> list[Sample]:
        """How the migration went, oldest first."""
        with self._connection.asking("samples"):
            raw = cast(dict[bytes, bytes], self._redis.hgetall(self._key("samples")))
        with reading(self._key("samples")):
            return timeline({name.decode(): _decode_sample(text) for name, text in raw.items()})

    def unsettled(self, most: int) -> Unsettled:
        """The oldest version without an answer; not asked of more than `most` keys under way.

        A version that is published while this goes on may be left out: it is younger than the watermark of
        before.
        """
        oldest_ms: int | None = None
        cursor = asked = 0
        while asked <= most:
            with self._connection.asking("unsettled"):
                cursor, page = cast(
                    tuple[int, dict[bytes, bytes]],
                    self._redis.hscan(self._key("history"), cursor, count=HISTORIES_PAGE),
                )
            asked += len(page)
            found = [at_ms for at_ms in map(_unsettled_ms, page.values()) if at_ms is not None]
            oldest_ms = min(found if oldest_ms is None else [oldest_ms, *found], default=None)
            if cursor == 0:
                return Unsettled(oldest_ms, complete=True)
        return Unsettled(None, complete=False)

    def closed_findings(self) -> Iterator[ClosedFinding]:
        """Of the findings that were closed the latest ones, newest first; held as `findings` holds them."""
        before = "+"
        unreadable = 0
        while True:
            with self._connection.asking("closed_findings"):
                log = cast(
                    list[tuple[bytes, dict[bytes, bytes]]],
                    self._redis.xrevrange(self._key("findings-log"), max=before, count=FINDINGS_PAGE),
                )
            for entry, told in log:
                before = f"({entry.decode()}"
                try:
                    with reading(self._key("findings-log")):
                        closed = _closed(told)
                except StateDamaged:
                    unreadable += 1  # the others are shown first
                    continue
                if closed is not None:
                    yield closed
            if len(log) < FINDINGS_PAGE:
                break
        if unreadable:
            raise damaged(f"{unreadable:,} of the entries of {self._key('findings-log')} cannot be read")


def _closed(told: dict[bytes, bytes]) -> ClosedFinding | None:
    if not told[b"finding"] or not {b"closed", b"why"} & told.keys():
        return None  # nothing is known of it, or not when and why: so they were kept once
    finding = finding_of(told[b"k"], told[b"finding"], float(told[b"since"]))
    return ClosedFinding(finding, instant_ms(told[b"closed"]), Closing(told[b"why"].decode()))


def _unsettled_ms(raw: bytes) -> int | None:
    try:
        return codec.decode(raw).oldest_unsettled_ms
    except ValueError:
        return None  # poison: it becomes a dead letter, which is counted


def finding_of(key: bytes, stored: bytes, opened_ms: float) -> Finding:
    """A finding as it is stored. Raises ValueError and the like (`answers.reading`)."""
    told = msgspec.json.decode(stored)
    finding = msgspec.convert({**told, "key": key, "first_seen_ms": instant_ms(opened_ms)}, Finding)
    instant_ms(finding.last_looked_ms)
    whole(finding.versions_behind)
    return finding


def _first_ms(scored: list[tuple[bytes, float]]) -> int | None:
    """The score of the first member."""
    return instant_ms(scored[0][1]) if scored else None


def _oldest_bucket_ms(buckets: list[bytes]) -> int | None:
    return instant_ms(min(whole(bucket) for bucket in buckets) * LATE_BUCKET_MS) if buckets else None


def _clock(raw: list[bytes | None]) -> Clock:
    distance_ms, steps = raw
    return Clock(None if distance_ms is None else whole(distance_ms), whole(steps or 0))


def _marks(raw: dict[bytes, bytes]) -> dict[str, int]:
    return {name.decode(): instant_ms(at_ms) for name, at_ms in sorted(raw.items())}


def _longest_due_ms(entries: Any, scored: list[tuple[bytes, float]]) -> int | None:
    """When the key became due that has waited longest for its look, or will be the first to become so.

    entries: the oldest one of `work`. What is in it without a date (nobody here puts it there) has none.
    """
    since = [instant_ms(fields[b"t"]) for _, fields in entries if fields.get(b"t", b"").isdigit()]
    due = [whole(score) for _, score in scored]
    return min([*since, *filter(None, due)], default=None)


def _checkpoints(raw: dict[bytes, bytes]) -> dict[str, Checkpoint]:
    return {partition.decode(): Checkpoint.decode(checkpoint) for partition, checkpoint in raw.items()}


def _furthest_behind_ms(watermarks: dict[bytes, bytes], checkpoints: dict[bytes, bytes]) -> list[int]:
    """The oldest watermarks of partitions that are still read, the oldest first."""
    open_ones = {name for name, raw in checkpoints.items() if not Checkpoint.decode(raw).finished}
    return sorted(int(at_ms) for name, at_ms in watermarks.items() if name in open_ones)[:FURTHEST_BEHIND]


def _gaps(raw: dict[bytes, bytes]) -> list[Gap]:
    return sorted((gap_of(field, value) for field, value in raw.items()), key=lambda gap: gap.at_ms)


def _comparison(raw: dict[bytes, bytes]) -> Comparison | None:
    return comparison_of({name.decode(): one.decode() for name, one in raw.items()}) if raw else None


def _ledger(told: dict[str, Any]) -> Ledger:
    fields = {name.decode(): whole(value) for name, value in told["ledger"].items() if name != b"verdict_ms"}
    # HyperLogLog is off by a percent either way; there are never more keys than histories were begun.
    begun = fields.get("versions_published", 0) - fields.get("keys_coalesced", 0)
    return Ledger.from_fields(fields, min(told["keys-judged"], begun), min(told["keys-sampled"], begun))


def _sample_percent(settings: bytes | None) -> float:
    """What the migration was begun with, as `begin` writes it."""
    told = msgspec.json.decode(settings or b"{}", type=dict[str, str])
    return float(told.get("sample_rate", "100"))


def _adaptive(raw: list[bytes | None]) -> Adaptive | None:
    """None where the latest start judges by a fixed deadline."""
    judged_by, *fields = raw
    times = msgspec.json.decode(judged_by or b"{}", type=dict[str, str])
    return kept(fields) if times.get("converge-within") == "auto" else None


def _added(minutes: Iterable[list[int]]) -> list[int]:
    return [sum(counts) for counts in zip(*minutes, strict=True)]
