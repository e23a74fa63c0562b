"""One key's history as data: its versions, what is known of them, and the judgement that changes them.

Reads: nothing. Writes: nothing. Never: judging, proofs, I/O. What a look proves is found in `matching`,
decisions are made in `rule`; no item value comes here.

    versions    0 … lo-1       reached; a few are kept to tell "stale" from "different"
                lo … g         not proven reached; the first `alarmed` of them belong to an open finding, or
                               the first `excused` of them to a difference that TTL itself will remove
    ordinals    first … first + len - 1: they go on counting when older versions are forgotten
"""

from enum import IntEnum

import msgspec

from pipeline.core.model import ABSENT, UNKNOWN, ChangeType, Look, Phase, VerdictKind, Version

#: Creation times are floored to one second by DynamoDB Streams, so every deadline gets one second more.
FLOOR_MS = 1_000
#: Two looks at one key are at least this far apart: a hot key costs one read a second, not one per write.
LOOK_SPACING_MS = 1_000
#: Width of the buckets in which keys that wait for convergence are counted by creation time.
LATE_BUCKET_MS = 10_000
#: Older, reached versions that are kept to tell "stale" from "different": an overtaken write of a hot item
#: comes back many versions later. A cold item, which most are, never has that many.
KEEP_REACHED = 16
#: Instants are before the year 3000, and ordinals are far from what their bytes hold.
MAX_MS, MAX_ORDINAL = 32_503_680_000_000, 1 << 31
#: Named once: on Python 3.11 finding an enum's member takes as long as all that is done with it.
_SETTLING, _ALARMED = Phase.SETTLING, Phase.ALARMED
#: A history longer than this is thinned to its newest half: a replica that far behind is late anyway.
MAX_VERSIONS = 2_048


class HeldLook(msgspec.Struct, frozen=True):
    """A look that matched nothing, kept until it can be judged.

    since_ms: when the still stand began (the first look with this source digest and no version since);
    the other fields are the newest look's.
    """

    look: Look
    since_ms: int


class History(msgspec.Struct, frozen=True):
    """A sampled key's versions and what is known of them.

    versions: oldest first; versions[:lo] are reached, versions[lo:] are not. first: ordinal of versions[0].
    alarmed, excused: how many unreached versions (oldest first) are counted as alarmed, or as expired; never
    both. excused_since_ms: when a look first showed the present difference to be one that TTL will remove
    (0 = it is not). skipped: versions thinned out after versions[lo], not reached until a later one is.
    settle: a settling look is due before closing. incomplete: a version may be missing. late: bucket in which
    the key is counted as waiting. suspect: a comparison began it, and no change was published since.
    unseen: the newest version was published after the latest look, so none can have missed it.
    """

    versions: tuple[Version, ...]
    lo: int
    phase: Phase = Phase.WAITING
    first: int = 0
    alarmed: int = 0
    skipped: int = 0
    kind: VerdictKind | None = None
    settle: bool = False
    incomplete: bool = False
    looked_ms: int = 0
    late: int = 0
    held: HeldLook | None = None
    excused: int = 0
    excused_since_ms: int = 0
    suspect: bool = False
    unseen: bool = False

    @property
    def newest(self) -> int:
        """Ordinal of the newest version."""
        return self.first + len(self.versions) - 1

    @property
    def unreached(self) -> int:
        """How many versions are not proven reached, alarmed and excused ones included."""
        return len(self.versions) - self.lo + self.skipped

    @property
    def outstanding(self) -> int:
        """How many versions are neither reached, alarmed nor excused: the ledger's `outstanding`."""
        return self.unreached - self.alarmed - self.excused

    @property
    def is_waiting_suspect(self) -> bool:
        """True for what a comparison still waits for: a suspect without an answer."""
        return self.suspect and self.phase is Phase.WAITING

    @property
    def oldest_waiting(self) -> Version | None:
        """The oldest unreached version that no excuse covers; None = all are covered."""
        index = self.lo + max(0, self.excused - self.skipped)
        return self.versions[index] if index < len(self.versions) else None

    @property
    def oldest_unsettled_ms(self) -> int | None:
        """When the oldest version was written that has no answer yet; None = all have one.

        A finding and an excuse are answers; that all are reached is none before the settling look.
        """
        if self.phase is Phase.SETTLING:
            return self.versions[-1][1]
        index = self.lo + max(0, self.alarmed + self.excused - self.skipped)
        return self.versions[index][1] if index < len(self.versions) else None

    def is_known_late(self, at_ms: int) -> bool:
        """True when the oldest version that is waited for was counted as late by a look before `at_ms`."""
        oldest = self.oldest_waiting
        return oldest is None or (self.late == oldest[1] // LATE_BUCKET_MS and self.looked_ms < at_ms)

    @property
    def operation(self) -> ChangeType | None:
        """What made the newest version; None where the history cannot tell, or no change was seen."""
        newest = self.versions[-1][0]
        if self.suspect or newest == UNKNOWN:
            return None
        if newest == ABSENT:
            return ChangeType.REMOVE
        before = self.versions[-2][0] if len(self.versions) > 1 else UNKNOWN
        if before == UNKNOWN or self.incomplete:
            return None
        return ChangeType.INSERT if before == ABSENT else ChangeType.MODIFY


class FindingChange(IntEnum):
    """What a judgement does to the key's finding."""

    NONE = 0
    OPENED = 1
    UPDATED = 2
    RECOVERED = 3
    EXCUSED = 4  # closed, because TTL itself will remove what it is about


class Judgement(msgspec.Struct, frozen=True):
    """What follows from a look.

    history: the new history, None = closed. next_ms: when to look again (0 when closed).
    reached … indeterminate: by how much the ledger's terms change; `outstanding` changes by the opposite sum.
    lag_ms: replication lag measured by this look, -1 = none. verdict: given by this look, None = not yet.
    escalate: nothing is decided; read both sides strongly consistent and judge again.
    """

    history: History | None
    next_ms: int = 0
    reached: int = 0
    alarmed: int = 0
    expired: int = 0
    indeterminate: int = 0
    lag_ms: int = -1
    verdict: VerdictKind | None = None
    finding: FindingChange = FindingChange.NONE
    versions_behind: int = 0
    escalate: bool = False


def fault_of(history: History) -> str:
    """Why no look and no publish can have left a history like this; "" = one can.

    What is stored may be damaged, and the rule takes for granted what is said here.
    """
    phase, versions = history.phase, history.versions
    alarmed = phase is _ALARMED
    if (history.lo == len(versions)) != (phase is _SETTLING):
        return "its phase and what is reached of it contradict each other"
    if (history.kind is not None) != alarmed or (history.alarmed and not alarmed):
        return "its phase and its finding contradict each other"
    if history.held and alarmed:
        return "its phase and its held look contradict each other"
    if history.excused and phase is not Phase.EXCUSED:
        return "its phase and its excuse contradict each other"
    if len(versions) - history.lo + history.skipped < history.alarmed + history.excused:
        return "more of its versions are counted than there are"
    if history.first > MAX_ORDINAL or history.skipped > MAX_ORDINAL:
        return "no key has that many versions"
    beyond = history.excused_since_ms > MAX_MS
    for _, at_ms in versions:
        beyond = beyond or at_ms > MAX_MS
    if held := history.held:
        beyond = beyond or max(held.since_ms, held.look.at_ms, held.look.answered_ms) > MAX_MS
    return "nobody wrote or looked at that time" if beyond else ""


def trim(history: History) -> History:
    """Forget reached versions beyond the few that tell stale from different."""
    drop = history.lo - KEEP_REACHED
    if drop <= 0:
        return history
    return msgspec.structs.replace(
        history, versions=history.versions[drop:], lo=history.lo - drop, first=history.first + drop
    )


def thin(history: History) -> History:
    """Bound a history's memory: forget the contents of its older unreached versions, not their number.

    versions[lo] keeps its creation time, so the deadline stays; its content becomes UNKNOWN.
    """
    if len(history.versions) - history.lo <= MAX_VERSIONS:
        return history
    newest = history.versions[-MAX_VERSIONS // 2 :]
    removed = len(history.versions) - history.lo - 1 - len(newest)
    anchor = (UNKNOWN, history.versions[history.lo][1])
    return msgspec.structs.replace(
        history,
        versions=(*history.versions[: history.lo], anchor, *newest),
        first=history.first + removed,
        skipped=history.skipped + removed,
        incomplete=True,
    )


def late_noted(history: History) -> History:
    """The bucket noted in which a key waits that a look did not find, or that could not be looked at."""
    oldest = history.oldest_waiting
    return msgspec.structs.replace(history, late=oldest[1] // LATE_BUCKET_MS if oldest else 0)
