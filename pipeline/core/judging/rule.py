"""The judging rule: one sampled key's history, and what a look at the verified side says about it.

Reads: a `History`, a `Look`, a `Moment`, a `Policy`. Writes: a `Judgement`. Never: I/O, clocks. No item value
comes here. What a look proves is asked of `matching` once, then it is decided here, then `history` bounds
what is kept.

A history is the list of versions a key had at the origin, oldest not yet proven reached (`lo`) to newest
(`g`), with a few older ones before `lo` so that "the target is k versions behind" can be said.

    publish appends ──► WAITING ──match of g──► SETTLING ──match / nothing to fear──► closed
                          ▲ │                      │
                          │ └─no match, proven─► ALARMED ──match──► recovered, SETTLING
                          └────────no match────────┘

Why an alarm is never false (see docs/how-it-judges.md for the same in plain words):
 1. Whatever a stream-fed replica holds was visible in the stream before. So a look that matches no version
    of the history is evidence only once the readers have read past the look (`caught_up`).
 2. A look may match none of lo … g because the replica is merely late: nothing is decided before
    created(lo) + converge_within + 1 s (creation times are floored to the second).
 3. The deciding look is strongly consistent, and the origin is read after it. Equal means match, whatever the
    history says.
 4. Where the history cannot vouch (records lost, contents not shown, a suspect of a comparison, or the
    verified side leads), only a source that stood still for converge_within while the target stayed
    different is an alarm.
Why nothing permanent is missed: once both tables stand still, every look mismatches, every proof arrives.
"""

import msgspec

from pipeline.core.judging.divergence import diverged, still_alarmed, still_excused
from pipeline.core.judging.history import (
    FLOOR_MS,
    LOOK_SPACING_MS,
    FindingChange,
    HeldLook,
    History,
    Judgement,
    late_noted,
    thin,
    trim,
)
from pipeline.core.judging.lag import measured_lag_ms
from pipeline.core.judging.matching import Proof, caught_up, prove
from pipeline.core.judging.standstill import hold, rests_until_ms, suspect_again_ms
from pipeline.core.model import UNKNOWN, Look, Moment, Phase, Policy, VerdictKind

#: Rechecks grow with the age of the oldest unreached version (half its age), within these bounds.
RECHECK_MIN_MS, RECHECK_MAX_MS = 500, 15_000
#: A reader this far behind cannot prove a look soon: hold the cheap look rather than buy strong ones.
READER_BEHIND_MS = 30_000
#: What is not in the deadline yet is looked at again after this, when it is.
NEWS_MS = 2_000
#: An undecidable key is given up as indeterminate after this many convergence deadlines.
GIVE_UP_FACTOR = 10
#: Named once: on Python 3.11 finding an enum's member takes as long as all that is done with it.
_WAITING, _SETTLING, _ALARMED, _EXCUSED = Phase
_OPEN, _MATCH = (_ALARMED, _EXCUSED), VerdictKind.MATCH
_change = msgspec.structs.replace
#: What ends an excuse: the next difference is another one.
_NO_EXCUSE = {"excused": 0, "excused_since_ms": 0}


def needs_witness(history: History) -> bool:
    """True when the stream did not show what the versions in question contain: read the origin as well.

    Of a suspect, because its version tells what the origin held once, and no record tells what came since.
    """
    if history.suspect:
        return True
    if history.lo >= len(history.versions) - 1:
        return history.versions[-1][0] == UNKNOWN
    return any(digest == UNKNOWN for digest, _ in history.versions[history.lo :])


def wake(history: History, moment: Moment, policy: Policy) -> Judgement | None:
    """Judge what can be judged without a new look; None = a look is needed.

    What is closed here whatever the moment, `lua/claim.lua` closes before anybody is woken.
    """
    held = history.held
    if history.phase is _SETTLING:
        if history.settle:
            return None
        return _close(history, held is None or caught_up(history, held.look, moment), moment)
    if held is None or held.look.seen < history.first + history.lo:
        return None  # nothing is held that could be about the unreached versions
    proof = prove(history, held.look, moment, policy)
    if proof.reached >= 0:
        return _progress(history, held.look, proof, moment, policy)
    return _decide(history, held, proof, moment, policy)


def judge(history: History, look: Look, moment: Moment, policy: Policy) -> Judgement:
    """The rule: what `look` says about `history`, given what is known at `moment`.

    Called again with the same look when the history changed under it (compare-and-set failed).
    """
    settled = history if history.phase is _SETTLING else None
    if settled is not None:
        history = reopened(settled)
    proof = prove(history, look, moment, policy)
    if settled is not None and proof.shows_newest:
        after = _change(settled, settle=False, held=_unexplained(settled, look))
        return _close(after, after.held is None or proof.caught_up, moment)
    if history.phase in _OPEN and not look.strong:
        return Judgement(history, escalate=True)  # one of the two reads is strong
    if proof.reached >= 0:
        return _progress(history, look, proof, moment, policy)
    if history.phase is _ALARMED:
        return still_alarmed(history, look, proof, moment, policy)
    if history.phase is _EXCUSED and (still := still_excused(history, look, proof, moment, policy)):
        return still
    judgement = _no_match(history, look, proof, moment, policy)
    if settled is None or judgement.escalate:
        return judgement
    return _change(judgement, reached=judgement.reached - 1)  # the newest version is given back


def reopened(history: History) -> History:
    """A settled history whose newest version counts as unreached again: what a look at it is about."""
    return _change(history, phase=_WAITING, lo=len(history.versions) - 1, settle=True, held=None)


# --- a look that matches -------------------------------------------------------------------------------


def _progress(history: History, look: Look, proof: Proof, moment: Moment, policy: Policy) -> Judgement:
    """Versions up to `proof.reached` are reached."""
    if proof.reached + 1 == len(history.versions):
        return _all_reached(history, look, moment, policy)
    return _still_behind(history, proof.reached + 1, look, policy)


def _all_reached(history: History, look: Look, moment: Moment, policy: Policy) -> Judgement:
    settle = history.settle or history.phase is not _WAITING or _past_unknown(history, moment, policy)
    reached_ms = look.at_ms
    if settle and not policy.leads:
        # Others may be under way, in any order, and one of them may look like the newest (A → B → A). A side
        # that leads has none under way.
        reached_ms = max(reached_ms, history.versions[-1][1] + policy.converge_within_ms + FLOOR_MS)
    after = History(
        versions=history.versions,
        lo=len(history.versions),
        phase=_SETTLING,
        first=history.first,
        settle=settle,
        looked_ms=look.at_ms,
        held=_unexplained(history, look),
        suspect=history.suspect,
    )
    return Judgement(
        history=trim(after),
        next_ms=reached_ms + policy.stable_for_ms,
        reached=history.unreached,
        alarmed=-history.alarmed,
        expired=-history.excused,
        lag_ms=measured_lag_ms(history, len(history.versions) - 1, look, policy),
        verdict=_MATCH,
        finding=FindingChange.RECOVERED if history.phase is _ALARMED else FindingChange.NONE,
    )


def _still_behind(history: History, lo: int, look: Look, policy: Policy) -> Judgement:
    """Versions before `lo` are reached, newer ones are not."""
    newly = lo - history.lo + history.skipped
    alarmed = max(0, history.alarmed - newly)
    after = _change(
        history,
        lo=lo,
        alarmed=alarmed,
        skipped=0,
        held=None,
        **_NO_EXCUSE,
        looked_ms=look.at_ms,
        unseen=look.seen < history.newest,
    )
    was_alarmed = history.phase is _ALARMED
    finding = FindingChange.UPDATED if was_alarmed else FindingChange.NONE
    if was_alarmed and look.at_ms >= _deadline(after, policy):
        after = _change(after, kind=VerdictKind.STALE)
    else:  # what is left is not overdue: plainly outstanding again
        after = late_noted(_change(after, phase=_WAITING, kind=None, alarmed=0))
        finding = FindingChange.RECOVERED if was_alarmed else FindingChange.NONE
    return Judgement(
        history=trim(after),
        next_ms=look.at_ms + max(LOOK_SPACING_MS, _recheck_delay(after, look.at_ms, policy)),
        reached=newly,
        alarmed=after.alarmed - history.alarmed,
        expired=-history.excused,
        lag_ms=measured_lag_ms(history, lo - 1, look, policy),
        finding=finding,
        versions_behind=len(after.versions) - after.lo if finding is FindingChange.UPDATED else 0,
    )


def _past_unknown(history: History, moment: Moment, policy: Policy) -> bool:
    """True when a change from before the watch began could still be on its way."""
    oldest = history.versions[history.lo][1]
    return moment.watched_since_ms > 0 and oldest < moment.watched_since_ms + policy.stable_for_ms


def _unexplained(history: History, look: Look) -> HeldLook | None:
    """A look that matched because both sides were equal, at a version that may still be to be read."""
    return None if look.digest == history.versions[-1][0] else HeldLook(look, look.at_ms)


def _close(history: History, past_the_look: bool, moment: Moment) -> Judgement:
    """Forget a settled history, but not before the readers are past the look that settled it.

    The version that it showed would begin a history that knows nothing of those before it, one of which may
    have come back just then.
    """
    if past_the_look:
        return Judgement(None)
    return Judgement(history, next_ms=moment.now_ms + RECHECK_MAX_MS)


# --- a look that matches nothing -----------------------------------------------------------------------


def _no_match(history: History, look: Look, proof: Proof, moment: Moment, policy: Policy) -> Judgement:
    if history.suspect:
        return _suspicious(history, look, proof, moment, policy)
    if not policy.leads and look.at_ms < _deadline(history, policy):
        # Equal sides, which a record still to be read may explain: kept until the readers are past the look.
        held = HeldLook(look, look.at_ms) if look.digest == look.witness else None
        after = late_noted(
            _change(history, held=held, looked_ms=look.at_ms, unseen=look.seen < history.newest)
        )
        delay = min(_recheck_delay(history, look.at_ms, policy), _deadline(history, policy) - look.at_ms)
        return Judgement(thin(after), next_ms=look.at_ms + delay)
    if _is_news(history, policy):
        after = late_noted(_change(history, looked_ms=look.at_ms, unseen=look.seen < history.newest))
        return Judgement(thin(after), next_ms=look.at_ms + NEWS_MS)
    if not look.strong and _worth_escalating(history, look, moment, policy):
        return Judgement(history, escalate=True)
    held = hold(history.held, history, look, policy)
    after = late_noted(_change(history, held=held, looked_ms=look.at_ms, unseen=look.seen < history.newest))
    decided = _decide(after, held, proof, moment, policy)
    if decided is None:  # another look is needed, later
        return Judgement(thin(after), next_ms=moment.now_ms + RECHECK_MIN_MS)
    return decided


def _suspicious(history: History, look: Look, proof: Proof, moment: Moment, policy: Policy) -> Judgement:
    """A suspect, read on both sides. Its version says when it was compared, not when it was written: so it
    has no deadline, and the still stand begins with the first look.

    --converge-within 60s; times in seconds. A comparison at 0 saw the source's A and the target's B.

     1. Look at 1: target B, source A. The still stand begins.
     2. Looks at 3, 7, 15, 30, 45: as before. Had one found both sides equal, that were a match; had one found
        another item at the source, the still stand would begin again.
     3. Look at 62, after 61 s: as before. The caller has it repeated, strongly consistent: the same. Alarm.
     4. A source that has moved again when the suspect is ten times 60 s old is given up. Age alone gives
        nothing up: where reads are few, the first look may come later than that.
    """
    held = hold(history.held, history, look, policy)
    rested = look.at_ms >= rests_until_ms(held, policy)
    if rested and not look.strong:
        return Judgement(history, escalate=True)
    moved = history.held is not None and held.since_ms == look.at_ms
    if moved and moment.now_ms >= history.versions[-1][1] + GIVE_UP_FACTOR * policy.converge_within_ms:
        return Judgement(
            None,
            alarmed=-history.alarmed,
            expired=-history.excused,
            indeterminate=history.unreached,
            verdict=VerdictKind.INDETERMINATE,
        )
    after = _change(history, held=held, looked_ms=look.at_ms, unseen=look.seen < history.newest)
    decided = _decide(after, held, proof, moment, policy)
    if decided is None:  # another look is needed, later
        return Judgement(after, next_ms=moment.now_ms + RECHECK_MIN_MS)
    return decided


def _worth_escalating(history: History, look: Look, moment: Moment, policy: Policy) -> bool:
    held = history.held
    if policy.leads:
        return held is not None and look.at_ms - held.since_ms >= policy.converge_within_ms + FLOOR_MS
    if moment.now_ms - moment.watermark_ms < READER_BEHIND_MS:
        return True
    return held is not None and caught_up(history, held.look, moment)


def _decide(
    history: History, held: HeldLook, proof: Proof, moment: Moment, policy: Policy
) -> Judgement | None:
    """Judge a held look that matches no version; None = a new look is needed now.

    --converge-within 60s; times in seconds. A history that vouches: absent, B (written at 9), lo = 1.

     1. Look at 70, past the deadline 9 + 60 + 1: A. It is not strong: the caller has it repeated.
     2. Strong look at 70: target A, then source B. The readers' watermark is 67: a record from between 67 and
        70 may show that there was an A. Wait.
     3. At 74 the watermark is 71 = 70 + 1: the readers are past the look. No version is an A: alarm.

    A history that does not vouch (records were lost at 50): the same, but A may be among those lost.

     4. At 74, after step 2: the still stand began with the look at 70, and must last until 70 + 61 = 131.
        Wait.
     5. At 131 the held look is too old to tell that the source still stands still: None, look again.
     6. Strong look at 131: target A, source B as before, no new record: still since 70. When the watermark
        is 132, nothing that a lost record could tell of can still be on its way: alarm.
     7. Had the source held C at 131, the still stand would begin again at 131. A key that never rests is
        given up as indeterminate when its oldest version is ten times 60 s old, at 9 + 600; the newest goes
        on.

    A look that is not strong (bought while the readers were far behind) ends in a new look at the end of its
    wait, never in an alarm.
    """
    look, now_ms = held.look, moment.now_ms
    if _has_more_time(history, look, policy):
        return None
    rested_ms = rests_until_ms(held, policy)
    if history.suspect and look.at_ms < rested_ms:
        again_ms = suspect_again_ms(held, policy)
        return None if now_ms >= again_ms else Judgement(history, next_ms=again_ms)
    if not look.strong:
        ready = proof.caught_up if proof.vouches else rested_ms <= now_ms
        return None if ready and now_ms > look.at_ms else _wait(history, held, moment, policy)
    if not proof.caught_up:
        return _wait(history, held, moment, policy)
    unmoved = look.seen == history.newest
    if proof.vouches or (unmoved and look.at_ms >= rested_ms):
        return diverged(history, look, proof, moment, policy)
    if _is_hopeless(history, moment, policy):
        return _give_up(history, moment)
    outdated = now_ms >= rested_ms or not unmoved
    if outdated and now_ms > look.at_ms + LOOK_SPACING_MS:
        return None
    return _wait(history, held, moment, policy)


def _wait(history: History, held: HeldLook, moment: Moment, policy: Policy) -> Judgement:
    """Come back to the held look: soon for a proof under way, at the end of the still stand otherwise."""
    age = max(0, moment.now_ms - held.look.at_ms)
    delay = min(max(age // 2, RECHECK_MIN_MS), RECHECK_MAX_MS)
    until = rests_until_ms(held, policy)
    if moment.now_ms < until:
        delay = min(delay, until - moment.now_ms)
    return Judgement(thin(history), next_ms=moment.now_ms + max(delay, 1))


def _is_hopeless(history: History, moment: Moment, policy: Policy) -> bool:
    """True when versions that a newer one has replaced are waited for longer than anything is worth."""
    oldest = history.oldest_waiting
    if oldest is None or history.unreached == 1:
        return False
    return moment.now_ms >= oldest[1] + GIVE_UP_FACTOR * policy.converge_within_ms


def _give_up(history: History, moment: Moment) -> Judgement:
    """Never comparable while watched: all but the newest version are indeterminate, the newest goes on."""
    last = len(history.versions) - 1
    after = _change(history, lo=last, phase=_WAITING, skipped=0, held=None, **_NO_EXCUSE)
    return Judgement(
        history=trim(late_noted(after)),
        next_ms=moment.now_ms + RECHECK_MIN_MS,
        expired=-history.excused,
        indeterminate=history.unreached - 1,
        verdict=VerdictKind.INDETERMINATE,
    )


# --- small steps ---------------------------------------------------------------------------------------


def _deadline(history: History, policy: Policy) -> int:
    """Until when the oldest version that is waited for may take to be replicated; 0 = none is."""
    oldest = history.oldest_waiting
    return oldest[1] + policy.converge_within_ms + FLOOR_MS if oldest else 0


def _is_news(history: History, policy: Policy) -> bool:
    """True when the deadline follows the lag, and what this version says of the lag is not in it yet."""
    return policy.adapted_ms is not None and not history.is_known_late(policy.adapted_ms)


def _has_more_time(history: History, look: Look, policy: Policy) -> bool:
    """True when the deadline has grown since the look that is held: it is not over."""
    if policy.adapted_ms is None or history.suspect:
        return False
    return look.at_ms < _deadline(history, policy)


def _recheck_delay(history: History, now_ms: int, policy: Policy) -> int:
    oldest = history.oldest_waiting
    age = max(0, now_ms - oldest[1]) if oldest else 0
    return max(min(max(age // 2, RECHECK_MIN_MS), RECHECK_MAX_MS), policy.first_look_ms - age)
