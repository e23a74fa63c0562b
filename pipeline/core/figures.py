"""What the store says at one instant, and what follows from it: behind console, status, metrics and gate.

Reads: nothing. Writes: nothing. Never: clocks, I/O. A figure that was not measured is None, never 0.

Units: `*_ms` milliseconds on the store's clock, `*_seconds` seconds. One unit of the success rate is a
distinct key, not a read: a hot key that is looked at a thousand times says no more than a cold one.
"""

import msgspec

from pipeline.core.adaptive import Adaptive
from pipeline.core.budget import InUse, Lowered
from pipeline.core.comparing.partitions import Mode
from pipeline.core.comparing.state import Comparison
from pipeline.core.cost import NOTHING_SPENT, Cost, Spending, Terms, cost_of
from pipeline.core.ledger import Ledger, Queue, ReaderState
from pipeline.core.statistics import LAG_BUCKETS_SECONDS, exact_interval, quantile_from_buckets

#: How long DynamoDB keeps a stream record (AWS, "Change data capture for DynamoDB Streams").
STREAM_RETENTION_SECONDS = 24 * 3600
#: Watermarks stay three seconds behind, and two clocks are two seconds apart at most: one that is further
#: ahead of the clock that is read was not made by it.
CLOCK_BEHIND_MS = 5_000
CONFIDENCE = 0.95


class Success(msgspec.Struct, frozen=True):
    """Of the keys that changed: distinct ones judged, the share without an open finding, its exact interval.

    ratio, low and high lie in 0..1 and are None while no key was judged: nothing compared is not a pass.
    excused: keys that differ in what TTL itself will remove; neither right nor wrong, and not among `keys`.
    """

    ratio: float | None
    low: float | None
    high: float | None
    confidence: float
    keys: int
    excused: int = 0


class Lag(msgspec.Struct, frozen=True):
    """Replication lag in seconds: source write to first matching look. None: nothing measured."""

    p50: float | None
    p95: float | None
    p99: float | None


class Clock(msgspec.Struct, frozen=True):
    """The state's clock against Redis' TIME.

    distance_ms: how far it is ahead, None = nobody has said. steps: how often TIME stepped.
    """

    distance_ms: int | None = None
    steps: int = 0


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The store's answers, read together.

    lag_counts: replication lags of the last minutes, one count per LAG_BUCKETS_SECONDS and one beyond.
    oldest_waiting_ms: creation of the oldest version that a look did not find, None when there is none.
    longest_due_ms: when the key became due, or will, that is the first to be looked at; None: none waits.
    verdict_ms: when the latest verdict was committed. validators: those with a heartbeat.
    oldest_finding_ms: when the oldest open finding was opened, None when none is open.
    marks: when the operator said that a milestone of the cutover was reached (see model.MARKS).
    comparison: the latest one, None when there was none. kept: the one of the table before it, where the
    latest is only of what changed in a window. watched_since_ms: see model.Moment. gap_ms: when the newest
    open gap was recorded (0 = none). adaptive: the deadline that follows the lag, None = it is fixed.
    has_begun: False where there is no such migration yet, and nothing of it was read.
    sample_percent: of the keys, as the migration was begun. lowered: the sample in use, None = that one.
    spending: what was asked of AWS. terms: what that costs, which is the asker's to say.
    """

    now_ms: int
    started_ms: int
    ledger: Ledger
    queue: Queue
    reader: ReaderState
    lag_counts: list[int]
    oldest_waiting_ms: int | None
    oldest_finding_ms: int | None = None
    longest_due_ms: int | None = None
    verdict_ms: int | None = None
    validators: int = 0
    marks: dict[str, int] = {}
    clock: Clock = Clock()
    comparison: Comparison | None = None
    kept: Comparison | None = None
    watched_since_ms: int = 0
    gap_ms: int = 0
    adaptive: Adaptive | None = None
    has_begun: bool = True
    lowered: Lowered | None = None
    sample_percent: float = 100.0
    spending: Spending = NOTHING_SPENT
    terms: Terms = Terms()

    @property
    def sample(self) -> InUse:
        return InUse(self.sample_percent, self.started_ms, self.lowered)

    @property
    def cost(self) -> Cost:
        return cost_of(self.spending, self.terms, self.now_ms, self.started_ms)

    @property
    def success(self) -> Success:
        # The store estimates the number of distinct keys; the findings it lists are exact and among them.
        # What a comparison found says nothing of how often changes arrive.
        wrong = max(0, self.open_total - self.ledger.suspects_open)
        keys = max(self.ledger.keys_judged, wrong)
        if keys == 0:
            return Success(
                ratio=None, low=None, high=None, confidence=CONFIDENCE, keys=0, excused=self.ledger.excused
            )
        low, high = exact_interval(keys - wrong, keys, CONFIDENCE)
        return Success(
            ratio=(keys - wrong) / keys,
            low=low,
            high=high,
            confidence=CONFIDENCE,
            keys=keys,
            excused=self.ledger.excused,
        )

    @property
    def of_table(self) -> Comparison | None:
        """The latest comparison of the whole table, or of a sample of it."""
        latest = self.comparison
        return self.kept if latest is not None and latest.settings.mode is Mode.CHANGES else latest

    @property
    def lag(self) -> Lag:
        if not any(self.lag_counts):
            return Lag(None, None, None)
        return Lag(
            *(quantile_from_buckets(LAG_BUCKETS_SECONDS, self.lag_counts, q) for q in (0.5, 0.95, 0.99))
        )

    @property
    def overdue_seconds(self) -> float:
        """How long the key that has waited longest for a look has been due; 0: none waits.

        What is not looked at is not known to be late either: this is the age of what nobody knows.
        """
        return max(0, self.now_ms - (self.longest_due_ms or self.now_ms)) / 1000

    @property
    def open_total(self) -> int:
        return sum(self.ledger.open.values())

    @property
    def reader_lag_seconds(self) -> float | None:
        """Age of the oldest change that may be unread; None before the readers have said.

        None as well where they have said it of the future: the clock that is read is behind theirs.
        """
        watermark_ms = self.reader.watermark_ms
        if not watermark_ms or watermark_ms > self.now_ms + CLOCK_BEHIND_MS:
            return None
        return max(self.now_ms - watermark_ms, 0) / 1000

    @property
    def replication_delay_seconds(self) -> float | None:
        """The larger of p99 lag and age of the oldest change that was not found; None: neither is known.

        p99 alone counts only what arrived: of a replicator that stands still it tells how fast it was.
        """
        found = [] if self.lag.p99 is None else [self.lag.p99]
        if self.oldest_waiting_ms is not None:
            found.append(max(self.now_ms - self.oldest_waiting_ms, 0) / 1000)
        return max(found, default=None)

    @property
    def retention_headroom_seconds(self) -> float | None:
        """Until DynamoDB drops the oldest unread change; negative: it is gone."""
        lag = self.reader_lag_seconds
        return None if lag is None else STREAM_RETENTION_SECONDS - lag
