"""The ledger's terms, and what the store says of a migration: counts, findings, gaps, readers.

Reads: nothing. Writes: nothing. Never: I/O, redis.

The accounting identity, checked after every fault and shown by `status`:
    records read + suspects published = not sampled + versions published
    versions published = reached + alarmed + expired + indeterminate + dead + outstanding
and no count is negative: ten versions are not 25 reached and 15 less than nothing outstanding.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache

import msgspec

from pipeline.core.differing import CUT
from pipeline.core.judging.history import FindingChange, History, Judgement
from pipeline.core.model import MISMATCHES, ChangeType, Checkpoint, Phase, VerdictKind
from pipeline.core.statistics import LAG_BUCKETS_SECONDS

#: Before the bucket of a lag that was a probe's.
PROBE = "probe:"
#: The sum of these, in ms.
PROBE_MS = f"{PROBE}ms"
#: Named once: on Python 3.11 finding an enum's member takes as long as all that is done with it.
_EXCUSED = Phase.EXCUSED


class Gap(msgspec.Struct, frozen=True):
    """Stream records lost: in which partition, why, after which position, and when it was noticed.

    from_ms, to_ms: when they were written (from_ms 0 = nobody knows since when). closed_ms: when a comparison
    had judged every key that changed then, None = it is open. closed_by: that comparison, in words.
    """

    partition: str
    reason: str
    position: str
    at_ms: int
    from_ms: int = 0
    to_ms: int = 0
    closed_ms: int | None = None
    closed_by: str = ""


class Finding(msgspec.Struct, frozen=True):
    """An open mismatch of one key. attributes: names (paths) that differ, never values; see `differing`.

    types: of those paths, the ones whose type differs → "N → S", source first. operation: what made the
    newest version, None = not known. oldest_change_ms: when the oldest change that is not there was written,
    None where a comparison found the key and no change was seen.
    """

    key: bytes
    kind: VerdictKind
    versions_behind: int
    attributes: list[str]
    first_seen_ms: int
    last_looked_ms: int
    types: dict[str, str] = {}
    operation: ChangeType | None = None
    oldest_change_ms: int | None = None

    @property
    def attributes_cut(self) -> bool:
        """True when more differ than are named."""
        return self.attributes[-1:] == [CUT]

    @property
    def attributes_named(self) -> list[str]:
        return self.attributes[:-1] if self.attributes_cut else self.attributes


class Closing(StrEnum):
    """Why a finding was closed."""

    RECOVERED = "recovered"  # a later look found the key right
    EXCUSED = "excused"  # TTL itself will remove what it was about


class ClosedFinding(msgspec.Struct, frozen=True):
    """A finding that is over, as it last was."""

    finding: Finding
    closed_ms: int
    why: Closing


class Queue(msgspec.Struct, frozen=True):
    """backlog: keys in the work stream, `pending` of them handed out, to so many `consumers`. outstanding:
    keys with a history.
    """

    backlog: int
    pending: int
    outstanding: int
    due: int
    dead: int
    consumers: int = 0


class PartitionCounts(msgspec.Struct, frozen=True):
    """Partitions that are being read, and those that are read to their end."""

    open: int = 0
    finished: int = 0


class ReaderState(msgspec.Struct, frozen=True):
    """What the readers have done: watermark, partitions by producer, gaps, readers alive.

    furthest_behind_ms: watermarks of the partitions that are furthest behind, the worst first.
    gaps: all there ever were. closed: those that a comparison has closed, oldest first.
    """

    watermark_ms: int
    partitions: dict[str, PartitionCounts]
    gaps: int
    readers: int
    closed: Sequence[Gap] = ()
    furthest_behind_ms: Sequence[int] = ()

    @property
    def gaps_open(self) -> int:
        return self.gaps - len(self.closed)

    @property
    def partitions_open(self) -> int:
        return sum(counts.open for counts in self.partitions.values())

    @property
    def partitions_finished(self) -> int:
        return sum(counts.finished for counts in self.partitions.values())


class Ledger(msgspec.Struct, frozen=True):
    """Exact counts, changed only in the same atomic step as the thing counted."""

    records_read: int = 0
    records_repeated: int = 0  # read again and discarded: not part of the identity
    records: dict[str, int] = {}  # those read, by the name that their producer gives them
    not_sampled: int = 0
    versions_published: int = 0
    suspects_published: int = 0  # keys that a comparison found unequal: one version each
    suspects_taken_over: int = 0  # of those, by the stream, which showed another change before an answer
    suspects_waiting: int = 0  # of those, without an answer yet
    suspects_indeterminate: int = 0  # of those, given up: their source never stood still
    suspects_open: int = 0  # open findings that a comparison made
    keys_coalesced: int = 0
    reached: int = 0
    alarmed: int = 0
    expired: int = 0
    indeterminate: int = 0
    dead: int = 0
    outstanding: int = 0
    matches: int = 0
    mismatches: dict[str, int] = {}
    open: dict[str, int] = {}
    recovered: int = 0
    findings_excused: int = 0  # closed, because TTL itself will remove what they were about
    excused: int = 0  # keys whose difference TTL itself will remove; their versions are `expired`
    looks_without_progress: int = 0
    reads: int = 0
    reads_strong: int = 0
    entries_redelivered: int = 0
    dead_entries: dict[str, int] = {}
    gaps: int = 0
    lag_ms_sum: int = 0
    keys_judged: int = 0
    keys_sampled: int = 0

    @property
    def balanced(self) -> bool:
        """True when the accounting identity holds, of counts that can be."""
        return not self.imbalance

    @property
    def imbalance(self) -> str:
        """What is wrong with the books, in words; "" = nothing is."""
        for name, count in self._counts():
            if count < 0:
                return f"{name} is {count:,}, and nothing can be counted less than zero times"
        if self.records_read + self.suspects_published != self.not_sampled + self.versions_published:
            suspects = f" + {self.suspects_published:,} suspects" if self.suspects_published else ""
            parts = f"{self.not_sampled:,} + {self.versions_published:,}"
            return f"{self.records_read:,} records read{suspects} ≠ {parts}"
        terms = (self.reached, self.alarmed, self.expired, self.indeterminate, self.dead, self.outstanding)
        if self.versions_published != sum(terms):
            accounted = " + ".join(f"{term:,}" for term in terms)
            return f"{self.versions_published:,} versions published ≠ {accounted}"
        return ""

    def _counts(self) -> Iterator[tuple[str, int]]:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, dict):
                yield from ((f"{name} {label}", count) for label, count in value.items())
            else:
                yield name, value

    @classmethod
    def from_fields(cls, fields: dict[str, int], keys_judged: int, keys_sampled: int) -> "Ledger":
        """fields: the ledger hash; "group:label" fields go into the group's dict, all labels present.

        keys_judged: distinct keys that were ever given a verdict. Those under an excuse now are left out of
        what the ledger says: they are neither right nor wrong.
        """
        keys_judged = max(0, keys_judged - fields.get("excused", 0))
        groups: dict[str, dict[str, int]] = {
            "records": dict.fromkeys(ChangeType, 0),
            "mismatches": dict.fromkeys(MISMATCHES, 0),
            "open": dict.fromkeys(MISMATCHES, 0),
            "dead_entries": {"poison": 0, "redelivered": 0},
        }
        plain = {}
        for field, count in fields.items():
            group, _, label = field.partition(":")
            if label and group != "records" and label not in groups[group]:
                raise ValueError("no such label")  # labels of metrics are a closed set
            if label:
                groups[group][label] = count
            else:
                plain[field] = count
        return msgspec.convert(
            {**plain, **groups, "keys_judged": keys_judged, "keys_sampled": keys_sampled}, cls
        )


def tally(
    before: History, judgement: Judgement, reads: int, reads_strong: int, *, probe: bool = False
) -> str:
    """The judgement as counter changes, as `lua/commit.lua` adds them up: "reached=1 matches=1 …".

    probe: its lag, which was measured, is counted once more, among those of probes (`core/adaptive`).
    Most keys of a batch say the same, so few texts are made here, and few are read there.
    """
    after = judgement.history
    kind, late, phase = (after.kind, after.late, after.phase) if after else (None, 0, None)
    text = _tally(
        judgement.reached,
        judgement.alarmed,
        judgement.expired,
        judgement.indeterminate,
        reads,
        reads_strong,
        judgement.verdict,
        judgement.verdict is None and after is not None and reads_again(judgement),
        judgement.finding,
        (phase is _EXCUSED) - (before.phase is _EXCUSED),
        (before.kind, kind) if before.kind is not kind else None,
        (before.late, late) if before.late != late else None,
        lag_bucket(judgement.lag_ms) if judgement.lag_ms >= 0 else None,
        _suspects(before, after),
        before.suspect,
        probe,
    )
    return f"{text} lag:{PROBE_MS}={judgement.lag_ms}" if probe else text


def unread(before: History, after: History, reads: int, reads_strong: int) -> str:
    """The counter changes of a key that could not be read, as `tally` writes them."""
    counts = f"reads={reads} reads_strong={reads_strong}"
    return counts + "".join(f" late:{at}={by}" for at, by in _moved(before.late, after.late))


def _moved(before: int, after: int) -> list[tuple[int, int]]:
    """One less in the bucket before, one more in the bucket after; 0 is none."""
    return [(at, by) for at, by in ((before, -1), (after, 1)) if at and before != after]


def _suspects(before: History, after: History | None) -> tuple[int, int]:
    """By how much the suspects change that a comparison waits for, and those under an open finding."""
    if not before.suspect:
        return 0, 0
    waiting = int(after is not None and after.is_waiting_suspect) - int(before.is_waiting_suspect)
    found = int(after is not None and after.phase is Phase.ALARMED) - int(before.phase is Phase.ALARMED)
    return waiting, found


def buried(history: History) -> str:
    """The counter changes of a key that is given up as a dead letter, as `tally` writes them."""
    excused = int(history.phase is Phase.EXCUSED)
    waiting, found = _suspects(history, None)
    return (
        f"dead={history.unreached} outstanding={-history.outstanding} alarmed={-history.alarmed} "
        f"expired={-history.excused} excused={-excused} suspects_waiting={waiting} suspects_open={found}"
        + "".join(f" late:{at}={by}" for at, by in _moved(history.late, 0))
    )


@lru_cache(1024)
def _tally(  # noqa: PLR0913, PLR0917 - its arguments are what the cache knows a text by
    reached: int,
    alarmed: int,
    expired: int,
    indeterminate: int,
    reads: int,
    reads_strong: int,
    verdict: VerdictKind | None,
    recheck: bool,
    finding: FindingChange,
    excused: int,
    kinds: tuple[VerdictKind | None, VerdictKind | None] | None,
    lates: tuple[int, int] | None,
    lag: int | None,
    suspects: tuple[int, int],
    suspect: bool,
    probe: bool,
) -> str:
    """The text of `tally`.

    recheck: only another look follows. excused: 1 = the key is from now on, -1 = no longer. kinds, lates:
    before and after, None = alike. lag: bucket. suspects: those that wait, and those with a finding.
    suspect: the key is one. probe: the lag is one's.
    """
    counts = {
        "reached": reached,
        "alarmed": alarmed,
        "expired": expired,
        "indeterminate": indeterminate,
        "outstanding": -(reached + alarmed + expired + indeterminate),
        "reads": reads,
        "reads_strong": reads_strong,
        "matches": int(verdict is VerdictKind.MATCH),
        "looks_without_progress": int(recheck),
        "recovered": int(finding is FindingChange.RECOVERED),
        "findings_excused": int(finding is FindingChange.EXCUSED),
        "excused": excused,
        "suspects_waiting": suspects[0],
        "suspects_open": suspects[1],
        "suspects_indeterminate": int(suspect and verdict is VerdictKind.INDETERMINATE),
    }
    if verdict in MISMATCHES:
        counts[f"mismatches:{verdict}"] = 1
    if lag is not None:
        counts[f"lag:{lag}"] = 1
        if probe:
            counts[f"lag:{PROBE}{lag}"] = 1
    for group, change in (("open", kinds), ("late", lates)):
        for label, by in zip(change or (), (-1, 1), strict=False):
            if label:
                counts[f"{group}:{label}"] = by
    return " ".join([f"{field}={count}" for field, count in counts.items() if count])


def reads_again(judgement: Judgement) -> bool:
    """True when the judgement only schedules another look."""
    return judgement.finding is FindingChange.NONE and judgement.reached <= 0


def lag_bucket(lag_ms: int) -> int:
    """Index into LAG_BUCKETS_SECONDS (its length = more than the last bound)."""
    return bisect_left(LAG_BUCKETS_SECONDS, lag_ms / 1000)


def partition_counts(checkpoints: Mapping[str, Checkpoint]) -> dict[str, PartitionCounts]:
    """By producer: what a partition's name begins with."""
    finished = Counter(name.partition(":")[0] for name, at in checkpoints.items() if at.finished)
    tracked = Counter(name.partition(":")[0] for name in checkpoints)
    return {name: PartitionCounts(all_ - finished[name], finished[name]) for name, all_ in tracked.items()}
