"""Which shards there are, and which of them may be read now: discovery.

Reads: DescribeStream (paginated and paced), ListStreams when the stream was disabled. Writes: nothing. Never:
the store. It says what should be done there; no record is read.

What a listing is taken to mean is `shard_lineage.plan`'s; what is added here:
1. A shard is tracked from the moment it may be read, so every reader process may read whatever is tracked.
2. With LATEST, a new shard whose parent was never read (a shard that was listed late, also when it is the
   first, or a beginning that was interrupted, or a migration begun again after its state was lost) leaves
   out what was written before the migration was begun.
3. A finished parent's watermark stays until its children are tracked and have taken it over.
4. A finished shard stays as a tombstone until it has been missing from the listings for a while: a shard that
   is left out once and then listed again must not be read twice.
5. A tracked shard that is not listed any more is not given up here: the listing is only eventually
   consistent. Whoever reads it finds out (ResourceNotFoundException) and records the gap.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping

import structlog

from pipeline.aws import StreamClient, StreamInfo
from pipeline.core import shard_lineage
from pipeline.core.model import Checkpoint
from pipeline.core.shard_lineage import LineagePlan, Shard, Start
from pipeline.errors import AwsError, AwsUnavailable, ConfigurationError, NotFound, Throttled
from pipeline.producers.base import Discovery, Found, Lost, Stop
from pipeline.producers.stream.listing import Listing, Pace
from pipeline.producers.stream.position import (
    WATERMARK_BEHIND_MS,
    GapReason,
    Position,
    PositionKind,
    arn_of,
    label_of,
    partition_of,
    shard_of,
    stream_of,
)

log = structlog.get_logger(__name__)

#: Between two listings when nothing points to a new shard …
LIST_EVERY_SECONDS = 10.0
#: … and when a shard was finished whose children are not listed yet: 1, 2, 4 … s.
LIST_SOON_SECONDS = 1.0
#: A tombstone is forgotten when it has been missing from the listings this long.
FORGET_AFTER_SECONDS = 600.0
#: A finished shard without a listed child holds the watermark back this long: its child may be listed late.
CHILDLESS_SECONDS = 300.0


class Discoverer:
    """Finds the partitions of a table's streams. Only `is_closed` is for other threads."""

    def __init__(
        self,
        client: StreamClient,
        arn: str,
        table: str,
        now_ms: Callable[[], int],
        stop: Stop,
        *,
        started_ms: int,
        from_latest: bool,
        begun_again: Callable[[], bool] = lambda: False,
        pace: Pace | None = None,
        forget_after_seconds: float = FORGET_AFTER_SECONDS,
    ) -> None:
        """arn: the configured stream; table: the name of the table it must belong to. begun_again: the state
        was lost, and the watch goes on. pace: of the listings' pages, of all who list at one account.

        now_ms: the store's clock. started_ms: when the migration was begun. Raises ConfigurationError for an
        ARN that is not a stream's.
        """
        if "/stream/" not in arn:
            raise ConfigurationError(
                f"--stream-arn {arn} is not a stream's ARN",
                "write it as AWS shows it (arn:…:table/<name>/stream/<label>)",
            )
        self.arn = arn
        self._client = client
        self._table = table
        self._now_ms = now_ms
        self._stop = stop
        self._started_ms = started_ms
        self._from_latest = from_latest
        self._begun_again = begun_again
        self._pace = pace or Pace()
        self._forget_after_seconds = forget_after_seconds
        self._label = ""
        self._newest_label = arn.rpartition("/")[2]
        self._said_disabled = False
        self._enabled = True
        self._came_late = False  # the first listing held no shard
        self._listing: Listing | None = None  # under way
        self._shards: dict[str, Shard] = {}  # the last listing, by partition
        self._list_due = self._listed_at = 0.0
        self._soon = 0  # listings in a row that lacked a child
        self._finished_since: dict[str, float] = {}
        self._unlisted_since: dict[str, float] = {}
        self._closed: frozenset[str] = frozenset()

    def is_closed(self, partition: str) -> bool:
        """True when the last listing said so; a reader process that does not discover never knows."""
        return partition in self._closed

    def discover(self, tracked: Mapping[str, Checkpoint], watermarks: Mapping[str, int]) -> Discovery:
        """See `base.Producer`."""
        self._choose_stream(tracked)
        finished = {name for name, checkpoint in tracked.items() if checkpoint.finished}
        if not finished <= self._finished_since.keys():
            self._list_due = 0.0  # news: probably a shard that was open when it was listed
        now = time.monotonic()
        self._finished_since = {name: self._finished_since.get(name, now) for name in finished}
        if now >= self._list_due and not self._list(tracked):
            return Discovery()
        return self._conclude(tracked, finished, watermarks)

    # --- which stream, which shards --------------------------------------------------------------------

    def _choose_stream(self, tracked: Mapping[str, Checkpoint]) -> None:
        """The oldest stream that is not read to its end; when there is none, the newest known."""
        unread = {label_of(name) for name, checkpoint in tracked.items() if not checkpoint.finished}
        label = min(unread) if unread else max({self._newest_label, *map(label_of, tracked)})
        if label != self._label:
            if self._label:
                log.warning("going on with another stream of the table", stream=label, before=self._label)
            self._label = label
            self._shards = {}
            self._list_due = 0.0

    def _list(self, tracked: Mapping[str, Checkpoint]) -> bool:
        """Take a new listing, or go on with the one under way; False while it is not whole."""
        arn = arn_of(self.arn, self._label)
        listing, self._listing = self._listing, None
        if listing is None or listing.arn != arn or listing.is_stale:
            listing = Listing(self._client, arn, self._stop, self._pace)
        shards: list[Shard] = []
        enabled = False
        try:
            info = listing.turn()
            if info is None:
                self._listing = listing
                return False
            self._check(info, tracked)
            shards, enabled = listing.shards, info.enabled
        except (Throttled, AwsUnavailable):
            self._listing = listing
            raise
        except NotFound:
            if not any(label_of(name) == self._label for name in tracked):
                raise
            log.error("the stream does not exist any more", stream=arn)
        self._shards = {self._partition(shard.id): shard for shard in shards}
        if not (tracked or shards or self._came_late):
            self._came_late = True
            log.info("the stream lists no shard yet: what is written from now on will be read", stream=arn)
        self._closed = frozenset(name for name, shard in self._shards.items() if shard.closed)
        self._enabled = enabled
        self._listed_at = time.monotonic()
        self._list_due = self._listed_at + LIST_EVERY_SECONDS
        self._soon += 1
        if not enabled:
            self._look_for_newer()
        return True

    def _check(self, info: StreamInfo, tracked: Mapping[str, Checkpoint]) -> None:
        if info.table_name != self._table:
            raise ConfigurationError(
                f"--stream-arn is a stream of table {info.table_name}, not of {self._table}", "correct it"
            )
        if not tracked and not info.enabled:
            raise ConfigurationError(
                f"stream {info.arn} is disabled", f"enable a stream on table {self._table}"
            )

    def _look_for_newer(self) -> None:
        try:
            newest = self._client.latest_stream(self._table)
        except AwsError as error:  # the old stream is to be drained whether or not there is a newer one
            log.error("a newer stream cannot be looked for", error=str(error))
            return
        label = (newest or "").rpartition("/")[2]
        # Under the name of another account's table a table of our own may be listed.
        if label > self._newest_label and newest == arn_of(self.arn, label):
            self._newest_label = label
        elif self._newest_label <= self._label and not self._said_disabled:
            self._said_disabled = True  # once: a gap is noted as well, which is alerted on
            log.error(
                "the stream is disabled: changes are not seen",
                stream=self._label,
                remedy="enable a new stream",
            )

    # --- what follows ----------------------------------------------------------------------------------

    def _conclude(
        self, tracked: Mapping[str, Checkpoint], finished: set[str], watermarks: Mapping[str, int]
    ) -> Discovery:
        first = Start.LATEST if self._begins(tracked) else Start.TRIM_HORIZON
        plan = shard_lineage.plan(self._shards.values(), self._ids(finished), self._ids(tracked), first)
        ready = frozenset(plan.readable)
        begin = {
            self._partition(shard): start
            for shard, start in plan.begin.items()
            if shard in ready or start is Start.NEVER
        }
        tombstones = [name for name in begin if begin[name] is Start.NEVER]
        waiting = self._waiting(plan, begin.keys() | tracked.keys(), finished & watermarks.keys())
        return Discovery(
            lost=[] if self._enabled else [Lost(stream_of(self._label), GapReason.STREAM_DISABLED)],
            found=[self._start(name, start, tracked, watermarks) for name, start in begin.items()],
            unwatched=tombstones + sorted((finished & watermarks.keys()) - waiting),
            forget=self._forgettable(plan, finished, tracked),
        )

    def _begins(self, tracked: Mapping[str, Checkpoint]) -> bool:
        """True at the first discovery of a migration that is to begin with what is written from now on."""
        return self._from_latest and not (tracked or self._came_late or self._begun_again())

    def _start(
        self, name: str, start: Start, tracked: Mapping[str, Checkpoint], watermarks: Mapping[str, int]
    ) -> Found:
        """Rules 1 and 2. A child starts with its parent's watermark: everything before that is published."""
        if start is Start.NEVER:
            return Found(name, Position(PositionKind.TRIM_HORIZON).checkpoint(finished=True))
        if self._begins(tracked) or not (tracked or self._from_latest):
            kind = PositionKind.LATEST if start is Start.LATEST else PositionKind.TRIM_HORIZON
            return Found(name, Position(kind).checkpoint())
        parent_name = self._partition(self._shards[name].parent or "")
        ended_ms = Position.of(tracked[parent_name]).at_ms if parent_name in tracked else 0
        if self._from_latest and not ended_ms:
            return Found(name, Position(PositionKind.LATEST, at_ms=self._started_ms).checkpoint())
        through_ms = watermarks.get(parent_name, max(ended_ms - WATERMARK_BEHIND_MS, 0))
        begun_ms = through_ms or self._now_ms()
        return Found(name, Position(PositionKind.TRIM_HORIZON, at_ms=begun_ms).checkpoint(), through_ms)

    def _waiting(self, plan: LineagePlan, known: Collection[str], held: set[str]) -> set[str]:
        """The finished partitions whose watermark is still needed; lists again soon when a child is missing.

        held: the finished ones that have a watermark. known: tracked, or to be tracked now.
        """
        now = time.monotonic()
        childless = {
            name
            for name in held.intersection(map(self._partition, plan.childless))
            if self._enabled and now - self._finished_since[name] < CHILDLESS_SECONDS
        }
        if childless:
            self._list_due = min(self._list_due, self._listed_at + LIST_SOON_SECONDS * 2**self._soon)
        else:
            self._soon = 0
        blocked = {
            self._partition(shard.parent)
            for name, shard in self._shards.items()
            if shard.parent is not None and name not in known
        }
        return childless | (blocked & held)

    def _forgettable(
        self, plan: LineagePlan, finished: set[str], tracked: Mapping[str, Checkpoint]
    ) -> list[str]:
        """Rule 4; tombstones of an older stream go as soon as a newer one is tracked."""
        now = time.monotonic()
        missing = map(self._partition, plan.forgettable)
        self._unlisted_since = {name: self._unlisted_since.get(name, now) for name in missing}
        gone = [
            name for name, since in self._unlisted_since.items() if now - since > self._forget_after_seconds
        ]
        if any(label_of(name) == self._label for name in tracked):
            gone += [name for name in finished if label_of(name) < self._label]
        return gone

    def _ids(self, names: Iterable[str]) -> list[str]:
        return [shard_of(name) for name in names if label_of(name) == self._label]

    def _partition(self, shard: str) -> str:
        return partition_of(self._label, shard)
