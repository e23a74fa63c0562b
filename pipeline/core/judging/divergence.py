"""What becomes of a proven divergence: an alarm, or an excuse while TTL itself will remove the difference.

Reads: a `History`, a `Look`, its `Proof`, a `Moment`, a `Policy`. Writes: a `Judgement`. Never: judging, I/O.
Proofs are made in `matching`; that the readers are past the look is `rule`'s to see to.

The excuse ends when the sides are equal, when TTL would no longer do it (the source's item was extended, TTL
was switched off, an item is too old for it), or after --ttl-grace, whatever TTL may still do.
"""

import msgspec

from pipeline.core.judging.history import (
    FLOOR_MS,
    LOOK_SPACING_MS,
    FindingChange,
    History,
    Judgement,
    thin,
)
from pipeline.core.judging.matching import Proof
from pipeline.core.model import ABSENT, UNKNOWN, Look, Moment, Phase, Policy, VerdictKind

#: Keys with an open finding or an excuse are looked at again after a quarter of its age, within these bounds.
#: Findings are waited for by people; an excuse ends with a new version mostly, which brings the look forward.
WATCH_MIN_MS, ALARMED_MAX_MS, EXCUSED_MAX_MS = 5_000, 300_000, 3_600_000


def diverged(history: History, look: Look, proof: Proof, moment: Moment, policy: Policy) -> Judgement:
    """The verdict on a divergence that was not known, or was excused until now."""
    since_ms = _excused_since(history, look, proof)
    if _is_excused(since_ms, look, policy):
        return _excuse(history, since_ms, look, moment, policy)
    kind, behind = classify(history, look, policy)
    after = _change(
        history,
        phase=Phase.ALARMED,
        kind=kind,
        alarmed=_overdue(history, look.at_ms, policy),
        excused=0,
        excused_since_ms=since_ms,
        held=None,
        settle=True,
        late=0,
    )
    return Judgement(
        history=thin(after),
        next_ms=moment.now_ms + LOOK_SPACING_MS,
        alarmed=after.alarmed,
        expired=-history.excused,
        verdict=kind,
        finding=FindingChange.OPENED,
        versions_behind=behind,
    )


def still_alarmed(history: History, look: Look, proof: Proof, moment: Moment, policy: Policy) -> Judgement:
    """An open finding whose difference is still there."""
    since_ms = _excused_since(history, look, proof)
    if _is_excused(since_ms, look, policy):
        return _excuse(history, since_ms, look, moment, policy)
    kind, behind = classify(history, look, policy)
    after = _change(
        history,
        looked_ms=look.at_ms,
        unseen=look.seen < history.newest,
        kind=kind,
        alarmed=max(history.alarmed, _overdue(history, look.at_ms, policy)),
        excused_since_ms=since_ms,
    )
    age = max(0, look.at_ms - history.versions[history.lo][1])
    return Judgement(
        history=thin(after),
        next_ms=moment.now_ms + min(max(age // 4, WATCH_MIN_MS), ALARMED_MAX_MS),
        alarmed=after.alarmed - history.alarmed,
        finding=FindingChange.UPDATED,
        versions_behind=behind,
    )


def still_excused(
    history: History, look: Look, proof: Proof, moment: Moment, policy: Policy
) -> Judgement | None:
    """An excuse that still holds, without a new proof; None = it does not, and a proof is needed."""
    since_ms = _excused_since(history, look, proof)
    if not _is_excused(since_ms, look, policy):
        return None
    return _change(_excuse(history, since_ms, look, moment, policy), verdict=None)


def _excuse(history: History, since_ms: int, look: Look, moment: Moment, policy: Policy) -> Judgement:
    was_alarmed = history.phase is Phase.ALARMED
    overdue = _overdue(history, look.at_ms, policy)
    after = _change(
        history,
        looked_ms=look.at_ms,
        unseen=look.seen < history.newest,
        phase=Phase.EXCUSED,
        kind=None,
        alarmed=0,
        excused=max(history.alarmed, history.excused, overdue),
        excused_since_ms=since_ms,
        held=None,
        settle=True,
        late=0,
    )
    delay = min(max((look.at_ms - since_ms) // 4, WATCH_MIN_MS), EXCUSED_MAX_MS)
    ends_ms = since_ms + policy.ttl_grace_ms
    return Judgement(
        history=thin(after),
        next_ms=max(min(look.at_ms + delay, ends_ms), moment.now_ms + LOOK_SPACING_MS),
        alarmed=-history.alarmed,
        expired=after.excused - history.excused,
        verdict=VerdictKind.EXPIRED,
        finding=FindingChange.EXCUSED if was_alarmed else FindingChange.NONE,
    )


def _excused_since(history: History, look: Look, proof: Proof) -> int:
    """Since when TTL has been about to remove the difference, as looks have shown it; 0 = it is not.

    A newer version makes another difference of it, which has its own grace.
    """
    if not proof.ttl_removes:
        return 0
    if not history.excused_since_ms:
        return look.at_ms
    return max(history.excused_since_ms, history.versions[-1][1] + FLOOR_MS)


def _is_excused(since_ms: int, look: Look, policy: Policy) -> bool:
    return since_ms > 0 and look.at_ms < since_ms + policy.ttl_grace_ms


def classify(history: History, look: Look, policy: Policy) -> tuple[VerdictKind, int]:
    """The mismatch kind, always in terms of the target, and how many versions the target is behind."""
    digest, newest = look.digest, history.versions[-1][0]
    if look.witness is not None and (history.suspect or newest == UNKNOWN):
        newest = look.witness  # what the origin holds now: a suspect's version is as old as the comparison
    unreached = len(history.versions) - history.lo
    lacking, surplus = (digest, newest) if not policy.leads else (newest, digest)
    if lacking == ABSENT:
        return VerdictKind.MISSING, unreached
    if surplus == ABSENT:
        return VerdictKind.EXTRA, unreached
    for index in range(len(history.versions) - 1, -1, -1):
        if history.versions[index][0] == digest:
            return VerdictKind.STALE, len(history.versions) - 1 - index
    return VerdictKind.DIFFERENT, unreached


def _overdue(history: History, at_ms: int, policy: Policy) -> int:
    """How many unreached versions, oldest first, are past their deadline: at least the oldest."""
    latest_created = at_ms - policy.converge_within_ms - FLOOR_MS
    late = sum(1 for _, created_ms in history.versions[history.lo :] if created_ms <= latest_created)
    return max(1, late) + history.skipped


_change = msgspec.structs.replace
