"""One key explained: what both sides hold, the versions that are known, what the rule concludes, in words.

Reads: structs of the core. Writes: nothing; callers print. Never: the store. The words are those of
docs/how-it-judges.md. Contents are told apart by letters: no digest is shown, and values only where the
outline holds them.
"""

from typing import Any

import msgspec

from pipeline.core.budget import InUse, at, in_words
from pipeline.core.judging.history import FLOOR_MS, FindingChange, History, Judgement
from pipeline.core.judging.matching import Proof, caught_up
from pipeline.core.judging.standstill import rests_until_ms
from pipeline.core.ledger import ClosedFinding, Finding
from pipeline.core.model import ABSENT, UNKNOWN, Moment, Phase, Policy, Side, VerdictKind
from pipeline.core.outline import Outline
from pipeline.report.findings_text import finding_object
from pipeline.report.words import instant, many, span

#: Versions that are listed from the first one not reached on, and of the newest; those between are left out.
OLDEST_LISTED, NEWEST_LISTED, BEFORE_LISTED = 20, 20, 3
#: What each kind of mismatch says (docs/how-it-judges.md, "Verdicts").
MEANINGS = {
    VerdictKind.MISSING: "the target lacks the item",
    VerdictKind.STALE: "the target holds an older version of the item",
    VerdictKind.DIFFERENT: "the target holds something that no known version was",
    VerdictKind.EXTRA: "the source has deleted the item, the target still holds it",
}


class SideSeen(msgspec.Struct, frozen=True):
    """What one side held now. error: why what it answered is no item; digest means nothing then."""

    digest: bytes
    error: str = ""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a key.

    key: as it is shown. watched_since_ms: since when changes are read. history: as it was before both sides
    were read. moved: it is another one now. look, proof, judgement: what the rule makes of these reads; None
    without a history, or where a side's answer is no item.
    """

    key: object
    policy: Policy
    moment: Moment
    sample: InUse
    sampled: bool
    dead: bool
    source: SideSeen
    target: SideSeen
    outline: Outline | None
    history: History | None
    moved: bool
    due_ms: int | None
    finding: Finding | None
    closed: list[ClosedFinding]
    proof: Proof | None
    judgement: Judgement | None
    later: Judgement | None

    @property
    def equal(self) -> bool | None:
        """Whether both sides hold the same; None where that cannot be said."""
        if self.source.error or self.target.error:
            return None
        return self.source.digest == self.target.digest

    @property
    def nothing_known(self) -> bool:
        """True where nobody has ever heard of such a key."""
        absent = self.equal and self.source.digest == ABSENT
        return bool(absent) and not (self.history or self.finding or self.closed or self.dead)

    @property
    def verified(self) -> Side:
        return Side.SOURCE if self.policy.leads else Side.TARGET


class VersionShown(msgspec.Struct, frozen=True):
    """One version. content: absent, a letter, or "not shown"."""

    number: int
    written: str
    content: str
    standing: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, as it may be shown; `findings --explain --json` prints it."""

    key: object
    at: str
    answer: str
    source: str
    target: str
    outline: Outline | None
    finding: dict[str, Any] | None
    closed: list[dict[str, Any]]
    versions: list[VersionShown]
    versions_left_out: int
    concluded: list[str]


def explanation(evidence: Evidence) -> Explanation:
    """What is told of a key."""
    letters = _letters(evidence)
    listed, left_out = _listed(evidence.history)
    history = evidence.history
    return Explanation(
        key=evidence.key,
        at=instant(evidence.moment.now_ms),
        answer=_answer(evidence),
        source=_holds(evidence.source, letters),
        target=_holds(evidence.target, letters),
        outline=evidence.outline,
        finding=finding_object(evidence.finding, evidence.key) if evidence.finding else None,
        closed=[finding_object(one.finding, evidence.key, one) for one in evidence.closed],
        versions=[_version(history, index, evidence, letters) for index in listed] if history else [],
        versions_left_out=left_out,
        concluded=_concluded(evidence),
    )


def _answer(evidence: Evidence) -> str:
    if evidence.equal is None:
        return "one side's answer is no item that DynamoDB would send: nothing is concluded from it"
    if evidence.nothing_known:
        return "neither side holds such an item, and nothing is known of it: is this the key you mean?"
    if evidence.equal:
        now = "both sides hold the same now"
        return f"{now}; its finding is still open" if evidence.finding else now
    now = "the sides differ now"
    if evidence.finding:
        kind = evidence.finding.kind
        return f"{now}; a finding is open: {kind}, {MEANINGS[kind]}"
    return f"{now}; no finding is open: late or wrong is not decided"


# --- contents ----------------------------------------------------------------------------------------------


def _letters(evidence: Evidence) -> dict[bytes, str]:
    """Digest → what stands for it. The same content has the same letter everywhere."""
    named = {ABSENT: "absent", UNKNOWN: "not shown"}
    known = [digest for digest, _ in evidence.history.versions] if evidence.history else []
    known += [side.digest for side in (evidence.source, evidence.target) if not side.error]
    for digest in known:
        named.setdefault(digest, f"content {_letter(len(named) - 2)}")
    return named


def _letter(number: int) -> str:
    """A, B … Z, AA, AB …"""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def _holds(side: SideSeen, letters: dict[bytes, str]) -> str:
    if side.error:
        return f"an answer that is no item: {side.error}"
    return "no item" if side.digest == ABSENT else f"an item, {letters[side.digest]}"


# --- versions ----------------------------------------------------------------------------------------------


def _listed(history: History | None) -> tuple[list[int], int]:
    """Indexes of the versions that are listed, and how many are not."""
    if history is None:
        return [], 0
    count = len(history.versions)
    first = max(0, history.lo - BEFORE_LISTED)
    middle = set(range(first, min(count, first + OLDEST_LISTED)))
    listed = sorted(middle | set(range(max(0, count - NEWEST_LISTED), count)))
    return listed, count - len(listed)


def _version(history: History, index: int, evidence: Evidence, letters: dict[bytes, str]) -> VersionShown:
    digest, created_ms = history.versions[index]
    return VersionShown(
        number=history.first + index,
        written=instant(created_ms) if created_ms else "before",
        content=letters[digest],
        standing=_standing(history, index, evidence),
    )


def _standing(history: History, index: int, evidence: Evidence) -> str:
    if index < history.lo:
        return "reached"
    position = index - history.lo + (history.skipped if index > history.lo else 0)
    if position < history.alarmed:
        return "not reached: the finding is about it"
    if position < history.excused:
        return "not reached, excused: TTL itself will remove what differs"
    if history.suspect:
        return "what the source held when it was compared; the target held something else"
    if evidence.policy.leads:
        return "not matched yet"
    ends_ms = history.versions[index][1] + evidence.policy.converge_within_ms + FLOOR_MS
    if evidence.moment.now_ms < ends_ms:
        return f"not reached yet, in time until {instant(ends_ms)}"
    return f"not reached, its time was over at {instant(ends_ms)}"


# --- what is concluded -------------------------------------------------------------------------------------


def _concluded(evidence: Evidence) -> list[str]:
    said = (
        _without_history(evidence) if evidence.history is None else _with_history(evidence.history, evidence)
    )
    if evidence.dead:
        said.append("An entry of this key was given up without a verdict: it is among the dead letters.")
    if evidence.moved:
        said.append("A change or a look came while both sides were read: ask again for what it made of it.")
    return said


def _without_history(evidence: Evidence) -> list[str]:
    if not evidence.sampled:
        sample = evidence.sample
        why = f"--sample-rate {sample.begun_percent:g}"
        if in_words(sample):
            why = f"{sample.percent:.3g} % since {at(sample.lowered_ms)}, to keep to --max-cost-per-hour"
        return [
            f"The sampler leaves this key out ({why}): its changes are not followed. A comparison of the "
            "whole table reads it (`compare`)."
        ]
    since = evidence.moment.watched_since_ms
    watched = f" (since {instant(since)})" if since else ""
    return [
        f"There is no history: no change of this key was read since the watch began{watched}, or every "
        "version of it was reached, settled, and was forgotten. What nobody changed is found by `compare`."
    ]


def _with_history(history: History, evidence: Evidence) -> list[str]:
    said = [_phase(history, evidence)]
    if why := _cannot_vouch(history, evidence):
        said.append(
            f"The history cannot vouch: {why}. A difference is a mismatch only when the source stands still "
            f"for {span(evidence.policy.converge_within_ms / 1000)} while the target stays different."
        )
    if history.held is not None and history.phase is Phase.WAITING:
        said.append(_held(history, evidence))
    if evidence.proof is not None and evidence.judgement is not None:
        said.append(_by_the_rule(history, evidence.proof, evidence.judgement, evidence))
    return said


def _phase(history: History, evidence: Evidence) -> str:
    due = f"at {instant(evidence.due_ms)}" if evidence.due_ms else "as soon as a validator is free"
    if history.phase is Phase.ALARMED:
        return f"A finding is open. It is looked at again {due}, and at once after a new write."
    if history.phase is Phase.EXCUSED:
        ends = instant(history.excused_since_ms + evidence.policy.ttl_grace_ms)
        since = instant(history.excused_since_ms)
        return f"What TTL itself will remove is excused: since {since}, until {ends} at the latest."
    if history.phase is Phase.SETTLING:
        if history.settle:
            return (
                f"Every version is reached: settling. One more look {due}, for an older write may still "
                "arrive and overwrite the right one."
            )
        return f"Every version is reached: settling. The history closes {due}, without a read."
    if history.suspect:
        return f"A comparison found the sides unequal, and no change was read since. The next look is {due}."
    oldest = history.first + history.lo
    return f"Version {oldest} is the oldest that is not proven reached. The next look is {due}."


def _cannot_vouch(history: History, evidence: Evidence) -> str:
    """Why a look that no version explains is no evidence by itself; "" = it is."""
    if evidence.policy.leads:
        return "with --verify-on source the side that is looked at is ahead of the stream that is read"
    if history.suspect:
        return "a comparison began it"
    open_ones = history.versions[history.lo :] or history.versions[-1:]
    if history.incomplete or open_ones[0][1] <= evidence.moment.gap_ms:
        return "records of the stream were lost, and it may lack a version"
    if any(digest == UNKNOWN for digest, _ in open_ones):
        return "the stream did not show what a version contains"
    return ""


def _held(history: History, evidence: Evidence) -> str:
    held = history.held
    if held is None:
        return ""
    at = instant(held.look.at_ms)
    if not caught_up(history, held.look, evidence.moment):
        watermark = evidence.moment.watermark_ms
        behind = f"they are at {instant(watermark)}" if watermark else "they have not said where they are"
        return f"The look at {at} is held until the readers' watermark has passed it; {behind}."
    if _cannot_vouch(history, evidence):
        since, until = instant(held.since_ms), instant(rests_until_ms(held, evidence.policy))
        return f"The look at {at} is held; the source has stood still since {since}, and must until {until}."
    return f"The look at {at} is held, and the readers are past it: it is judged at the next look."


def _by_the_rule(history: History, proof: Proof, judgement: Judgement, evidence: Evidence) -> str:
    side = evidence.verified
    if judgement.finding is FindingChange.RECOVERED:
        return "By the rule, these two reads close the finding: recovered. A validator's next look does it."
    if judgement.verdict is VerdictKind.EXPIRED:
        return "By the rule, these two reads are excused: TTL itself will remove what differs."
    if judgement.verdict is VerdictKind.MATCH or (history.phase is Phase.SETTLING and proof.shows_newest):
        return f"By the rule, these two reads are a match: the {side} shows the newest version."
    if judgement.finding is FindingChange.OPENED:
        return f"By the rule, this is a mismatch: {_mismatch(judgement)}."
    if judgement.finding is FindingChange.UPDATED:
        return f"By the rule, the finding stays open: {_mismatch(judgement)}."
    if proof.reached >= 0:
        number = history.first + proof.reached
        return f"By the rule, this is progress: the {side} has reached version {number}, and is behind."
    return _undecided(history, proof, judgement, evidence)


def _undecided(history: History, proof: Proof, judgement: Judgement, evidence: Evidence) -> str:
    if judgement.verdict is VerdictKind.INDETERMINATE:
        return "By the rule, this key is indeterminate: it never rested long enough to be compared."
    if history.phase is Phase.EXCUSED and judgement.history and judgement.history.phase is Phase.EXCUSED:
        return "By the rule, the excuse still holds."
    oldest = history.oldest_waiting
    if not history.suspect and not evidence.policy.leads and oldest is not None:
        ends_ms = oldest[1] + evidence.policy.converge_within_ms + FLOOR_MS
        if evidence.moment.now_ms < ends_ms:
            return f"By the rule, nothing is decided: replication has its time until {instant(ends_ms)}."
    held = "By the rule, this look is suspicious, and is held until the readers are past it"
    if not proof.caught_up and evidence.later and evidence.later.finding is FindingChange.OPENED:
        return f"{held}. If no record explains it then, it is a mismatch: {_mismatch(evidence.later)}."
    if not proof.caught_up:
        return f"{held}."
    return "By the rule, this look is suspicious, and the source must stand still first."


def _mismatch(judgement: Judgement) -> str:
    """The kind of an open finding, and what it says."""
    kind = judgement.history.kind if judgement.history else None
    if kind is None:
        return "of no kind"
    behind = f", {many(judgement.versions_behind, 'version')} behind" if judgement.versions_behind else ""
    return f"{kind}{behind}; {MEANINGS[kind]}"
