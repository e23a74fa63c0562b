"""One claimed batch on its way: the cases that are looked at, and what is decided for each entry.

Reads: nothing. Writes: nothing. Never: redis, AWS. The validator moves a batch along.
"""

from collections.abc import Iterable

import msgspec

from pipeline.core.adaptive import is_probe
from pipeline.core.judging.history import FindingChange, History, Judgement, late_noted
from pipeline.core.ledger import Closing, tally, unread
from pipeline.core.model import MISMATCHES, Look, Moment, Phase, Policy, VerdictKind
from pipeline.errors import AwsError
from pipeline.store import codec
from pipeline.store.clock import StateClock
from pipeline.store.messages import Claim, Commit, Entry

#: The verdicts that count a key as one of those judged. An excused one is: it is taken out again while it is.
_JUDGED = (VerdictKind.MATCH, VerdictKind.EXPIRED, *MISMATCHES)
#: What is told of a finding that is open afterwards.
_TOLD = (FindingChange.OPENED, FindingChange.UPDATED)
#: What ends a finding → why it ended.
_CLOSINGS = {FindingChange.RECOVERED: Closing.RECOVERED, FindingChange.EXCUSED: Closing.EXCUSED}

_encode_json = msgspec.json.Encoder().encode


class Case(msgspec.Struct, eq=False):
    """One claimed key on its way to a judgement."""

    entry: Entry
    history: History
    look: Look | None = None
    attributes: list[str] = []
    types: dict[str, str] = {}
    reads: int = 0
    reads_strong: int = 0
    probe: bool | None = None  # None = nobody has asked yet

    @property
    def is_probe(self) -> bool:
        """Whether the key is looked at at once; worked out once."""
        if self.probe is None:
            self.probe = is_probe(self.entry.key)
        return self.probe

    def looked(self) -> Look:
        """The look that was taken. Raises ValueError before there is one."""
        if self.look is None:
            raise ValueError("a case is judged by its look, and there is none yet")
        return self.look


class Decided(msgspec.Struct, frozen=True):
    """What is to be committed for one entry; no judgement = put back as it was, or buried."""

    commit: Commit
    case: Case | None = None
    judgement: Judgement | None = None


class WorkBatch:
    """One claim under way: the state's clock, what is decided so far, the last AWS error."""

    def __init__(self, claim: Claim, clock: StateClock, policy: Policy) -> None:
        """policy: as configured; where the deadline follows the lag, the claim brings it along."""
        self._claim = claim
        self._policy = policy
        if policy.adapted_ms is not None and (adaptive := claim.adaptive):
            self._policy = msgspec.structs.replace(
                policy,
                converge_within_ms=adaptive.converge_within_ms,
                first_look_ms=adaptive.first_look_ms,
                adapted_ms=adaptive.adapted_ms,
            )
        self._probing = msgspec.structs.replace(self._policy, first_look_ms=0)
        self._clock = clock
        self._steps = clock.steps
        self.decided: list[Decided] = []
        self.error: AwsError | None = None

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def latest_ms(self) -> int:
        return self._clock.latest_ms()

    @property
    def is_void(self) -> bool:
        """True when this process was found to have stood still since: its looks were timed wrongly."""
        return self._clock.steps != self._steps

    def moment(self) -> Moment:
        claim = self._claim
        return Moment(
            now_ms=self.now_ms(),
            watermark_ms=claim.watermark_ms,
            gap_ms=claim.gap_ms,
            watched_since_ms=claim.watched_since_ms,
            watched=claim.watched,
        )

    def policy(self, case: Case) -> Policy:
        """What the case is judged by: a probe is looked at as if nothing were known of the lag."""
        return self._probing if self._policy.first_look_ms and case.is_probe else self._policy

    def conclude(self, case: Case, judgement: Judgement, now_ms: int) -> None:
        self.decided.append(self.concluded(case, judgement, now_ms))

    def concluded(self, case: Case, judgement: Judgement, now_ms: int) -> Decided:
        """Where the deadline is fixed, nobody asks for the lag of probes."""
        is_probe = self._policy.adapted_ms is not None and judgement.lag_ms >= 0 and case.is_probe
        return concluded(case, judgement, now_ms, is_probe)

    def postpone(self, cases: Iterable[Case], delay_seconds: float) -> None:
        """Put keys back: an error is no verdict and proves nothing."""
        next_ms = self.now_ms() + int(delay_seconds * 1000)
        self.decided += [put_back(case, next_ms) for case in cases]


def concluded(case: Case, judgement: Judgement, now_ms: int, is_probe: bool = False) -> Decided:
    """What a judgement comes to for the store. is_probe: its lag is counted as a probe's, too."""
    after, verdict = judgement.history, judgement.verdict
    return Decided(
        Commit(
            entry=case.entry,
            after=codec.encode(after) if after is not None else b"",
            next_ms=judgement.next_ms,
            tally=tally(case.history, judgement, case.reads, case.reads_strong, probe=is_probe),
            finding=_finding(case, judgement, now_ms),
            closing=_CLOSINGS.get(judgement.finding),
            judged=_is_counted(case.history, verdict),
            verdict=verdict is not None,
            lag_ms=judgement.lag_ms,
        ),
        case,
        judgement,
    )


def _is_counted(history: History, verdict: VerdictKind | None) -> bool:
    """Whether the key counts among those judged: of a comparison's, which were chosen because they differed,
    only the excused ones do, which the ledger takes out again.
    """
    return verdict in _JUDGED and (not history.suspect or verdict is VerdictKind.EXPIRED)


def put_back(case: Case, next_ms: int) -> Decided:
    """The key as it was, but for what its reads cost, and that its versions are waited for.

    What nobody can read is as far from proven as what is late; only suspects are waited for elsewhere.
    """
    before, raw = case.history, case.entry.raw
    waits = before.phase in (Phase.WAITING, Phase.EXCUSED) and not before.suspect
    after = late_noted(before) if waits else before
    if after != before:
        raw = codec.encode(after)
    tally = unread(before, after, case.reads, case.reads_strong)
    return Decided(Commit(entry=case.entry, after=raw, next_ms=next_ms, tally=tally), case)


def _finding(case: Case, judgement: Judgement, now_ms: int) -> str | None:
    """An open finding as the store keeps it; None = there is none, or it stays as it is."""
    history = judgement.history
    if history is None or judgement.finding not in _TOLD:
        return None
    finding = {
        "kind": history.kind,
        "versions_behind": judgement.versions_behind,
        "attributes": case.attributes,
        "types": case.types,
        "operation": history.operation,
        "oldest_change_ms": None if history.suspect else history.versions[history.lo][1],
        "last_looked_ms": now_ms,
    }
    return _encode_json(finding).decode()
