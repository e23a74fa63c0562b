"""Go or no-go: may the application be switched to the target now?

Reads: figures of one instant. Writes: nothing. Never: clocks, I/O. "Not measured" is never a pass.

Each check ends in one of three results. One failed check is a no-go; without one, a single inconclusive
check means that it is too early to say. So "nothing was compared" can never look like "all is well".
"""

import math
from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

from pipeline.core.budget import hole_in_words
from pipeline.core.comparing import result as comparing
from pipeline.core.comparing.state import Comparison
from pipeline.core.figures import Figures, Success
from pipeline.core.quoting import printable
from pipeline.core.statistics import CONFIDENCE, share_text


class Result(StrEnum):
    """How a check, or the gate as a whole, ended."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class Scope(StrEnum):
    """What the gate is to vouch for: the whole table, or only the keys that changed under watch."""

    WHOLE_TABLE = "whole-table"
    CHANGES = "changes"


class Limits(msgspec.Struct, frozen=True):
    """What the operator demands (`--gate-…`).

    objective: share of right keys, 0..1, that the lower bound of the 95 % interval must reach.
    lag_ms: for the 99th percentile of the replication lag, and for the oldest version still waited for.
    reader_lag_ms: how old the oldest unread change may be. backlog: entries due for a look. look_delay_ms:
    how long a key that is due may wait for one. excused: share of the keys, 0..1, that may differ in what
    TTL will remove.
    """

    objective: float = 0.999
    lag_ms: int = 60_000
    reader_lag_ms: int = 60_000
    backlog: int = 10_000
    look_delay_ms: int = 30_000
    excused: float = 0.05
    scope: Scope = Scope.WHOLE_TABLE


DEFAULT_LIMITS = Limits()
NOT_BEGUN = "the migration has not begun yet"


class Check(msgspec.Struct, frozen=True):
    """One check's result, and one sentence that says why."""

    name: str
    result: Result
    reason: str


class Verdict(msgspec.Struct, frozen=True):
    """The gate's answer and the checks that it follows from."""

    result: Result
    checks: list[Check]


def evaluate(figures: Figures, limits: Limits) -> Verdict:
    """Every check in the order of CHECKS, and what follows from them. Nothing can be told of a migration that
    has not begun.
    """
    if not figures.has_begun:
        return Verdict(Result.INCONCLUSIVE, [Check(name, Result.INCONCLUSIVE, NOT_BEGUN) for name in CHECKS])
    checks = [Check(name, *check(figures, limits)) for name, check in CHECKS.items()]
    return Verdict(overall(check.result for check in checks), checks)


def overall(results: Iterable[Result]) -> Result:
    """The answer of several: of a gate's checks, or of many migrations. Of none, nothing can be told."""
    found = set(results)
    for result in (Result.FAILED, Result.INCONCLUSIVE):
        if result in found:
            return result
    return Result.PASSED if found else Result.INCONCLUSIVE


_Answer = tuple[Result, str]


def _passes(fine: bool, reason: str) -> _Answer:
    return (Result.PASSED if fine else Result.FAILED), reason


def _compared(figures: Figures, limits: Limits) -> _Answer:
    changed = figures.success.keys
    if hole := _unfollowed(figures, limits):
        return Result.INCONCLUSIVE, f"{hole}: compare the whole table now"
    if changed == 0 and not _proves_alone(figures, limits):
        return Result.INCONCLUSIVE, "no key was compared yet"
    return Result.PASSED, f"{changed:,} keys that changed were compared"


def _unfollowed(figures: Figures, limits: Limits) -> str:
    """What of the sample was left out for a while, where no comparison of the table after that covers it:
    whole, or by as large a sample as is demanded.
    """
    comparison, lowered = figures.of_table, figures.lowered
    if comparison is not None and lowered is not None and comparison.vouches_from_ms >= lowered.fills_from_ms:
        demanded = msgspec.structs.replace(limits, scope=Scope.WHOLE_TABLE)
        if _whole_table(figures, demanded)[0] is Result.PASSED:
            return ""
    return hole_in_words(figures.sample)


def _mismatches(figures: Figures, _limits: Limits) -> _Answer:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in figures.ledger.open.items() if count)
    return _passes(not kinds, f"open findings: {kinds or 'none'}")


def _success(figures: Figures, limits: Limits) -> _Answer:
    success = figures.success
    if success.low is None or success.high is None:
        if _proves_alone(figures, limits):
            return Result.PASSED, "no key has changed while it was watched, and the whole table was compared"
        return Result.INCONCLUSIVE, "no key was compared yet"
    at_least = f"at least {share_text(success.low)} of the keys are right (95 % confidence)"
    demanded = f"{share_text(limits.objective)} is demanded"
    if success.low >= limits.objective:
        return Result.PASSED, f"{at_least}, {demanded}"
    if success.high < limits.objective:
        return Result.FAILED, f"at most {share_text(success.high)} of the keys are right, {demanded}"
    return Result.INCONCLUSIVE, f"{at_least}, {demanded}: {_needed(success, limits)}"


def _needed(success: Success, limits: Limits) -> str:
    if limits.objective >= 1:
        return "no sample can show that"
    needed = keys_needed(limits.objective, success.confidence)
    return f"{success.keys:,} keys were compared, {needed:,} are needed when all are right"


def keys_needed(objective: float, confidence: float) -> int:
    """The fewest keys, all of them right, whose interval begins at `objective` (below 1) or above.

    With n of n right it begins at ((1 - confidence) / 2) ** (1 / n) (see `exact_interval`), solved for n.
    """
    return max(1, math.ceil(math.log((1 - confidence) / 2) / math.log(objective)))


def _excused(figures: Figures, limits: Limits) -> _Answer:
    """What is excused is not known to be right: of a table where much is, the rest says little."""
    excused = figures.success.excused
    if excused <= 0:
        return Result.PASSED, "no key is excused"
    share = excused / (excused + figures.success.keys)
    reason = (
        f"keys excused, because they differ in what TTL itself will remove: {excused:,}, {share:.2%} of all "
        f"with an answer, {limits.excused:.2%} is allowed"
    )
    return (Result.PASSED if share <= limits.excused else Result.INCONCLUSIVE), reason


def _lag(figures: Figures, limits: Limits) -> _Answer:
    p99 = figures.lag.p99
    if p99 is not None:
        return _passes(
            p99 * 1000 <= limits.lag_ms,
            f"99 % of the changes were seen on the other side within {p99:.1f} s, "
            f"{limits.lag_ms / 1000:g} s is allowed",
        )
    if figures.success.keys and figures.ledger.outstanding == 0:
        return Result.PASSED, "no lag was measured in the last minutes, and nothing is under way"
    return Result.INCONCLUSIVE, "no replication lag was measured in the last minutes"


def _waiting(figures: Figures, limits: Limits) -> _Answer:
    if figures.oldest_waiting_ms is None:
        return Result.PASSED, "no change is waited for"
    age_ms = max(figures.now_ms - figures.oldest_waiting_ms, 0)
    return _passes(
        age_ms <= limits.lag_ms,
        "the oldest change that the latest look did not find on the other side is "
        f"{age_ms / 1000:.0f} s old, {limits.lag_ms / 1000:g} s is allowed",
    )


def _reader(figures: Figures, limits: Limits) -> _Answer:
    if figures.reader.readers == 0:
        return Result.FAILED, "no stream reader is alive: start `run`; if it is going, its log says why"
    lag = figures.reader_lag_seconds
    if lag is None:
        return Result.INCONCLUSIVE, "the readers have not said how far they are"
    return _passes(
        lag * 1000 <= limits.reader_lag_ms,
        f"the reader is {lag:.1f} s behind the stream, {limits.reader_lag_ms / 1000:g} s is allowed",
    )


def _validators(figures: Figures, _limits: Limits) -> _Answer:
    """Without one, nothing that is written from now on is proven, however good the figures look. One that
    cannot read its tables is none.
    """
    alive = figures.validators
    none = "no validator is alive and able to judge: start `run`; if it is going, its log says why"
    return _passes(alive > 0, f"validators alive: {alive:,}" if alive else none)


def _looks(figures: Figures, limits: Limits) -> _Answer:
    """Whether what is outstanding drains. What is not reached was looked for in vain, which `waiting` times;
    or nobody has looked since its key became due, which is timed here.
    """
    overdue, outstanding = figures.overdue_seconds, figures.ledger.outstanding
    return _passes(
        overdue * 1000 <= limits.look_delay_ms,
        f"versions not proven yet: {outstanding:,}; the key that waits longest for a look has been due for "
        f"{overdue:.0f} s, {limits.look_delay_ms / 1000:g} s is allowed",
    )


def _gaps(figures: Figures, _limits: Limits) -> _Answer:
    """A loss is open until a comparison has judged every key that changed meanwhile."""
    reader = figures.reader
    reason = f"losses of stream records: {reader.gaps_open:,}"
    if reader.closed:
        by = ", ".join(dict.fromkeys(gap.closed_by for gap in reader.closed))
        reason += f" open, {len(reader.closed):,} closed by {by}"
    return _passes(reader.gaps_open == 0, reason)


def _dead(figures: Figures, _limits: Limits) -> _Answer:
    dead = figures.queue.dead
    return _passes(dead == 0, f"queue entries given up without a verdict: {dead:,}")


def _backlog(figures: Figures, limits: Limits) -> _Answer:
    backlog = figures.queue.backlog
    return _passes(backlog <= limits.backlog, f"{backlog:,} keys wait for a look, {limits.backlog:,} may")


def _whole_table(figures: Figures, limits: Limits) -> _Answer:
    """Equal when it was read, and watched without a gap from before that: so it is equal now."""
    if limits.scope is Scope.CHANGES:
        return Result.PASSED, "not asked for (--gate-scope changes): only keys that changed are vouched for"
    comparison = figures.of_table
    if comparison is None:
        return (
            Result.INCONCLUSIVE,
            "no comparison was made: `compare` makes one, `--gate-scope changes` does without",
        )
    if why := comparing.unproven(comparison, figures):
        return Result.INCONCLUSIVE, f"the comparison proves nothing: {why}"
    if why := _unwatched(figures, comparison):
        return Result.INCONCLUSIVE, why
    share = comparing.success(comparison, figures)
    if share is None or comparison.whole:
        return Result.PASSED, f"the whole table was compared, {comparison.tally.keys:,} keys"
    of = "keys" if comparison.settings.exports else "segments"
    reason = (
        f"{comparison.settings.sample_percent:g} % of the {of} were compared: at least "
        f"{share_text(share.low)} of the {share.unit}s are right (95 % confidence), "
        f"{share_text(limits.objective)} is demanded"
    )
    if share.low >= limits.objective:
        return Result.PASSED, reason
    return Result.INCONCLUSIVE, reason + _sample_needed(comparison, limits)


def _sample_needed(comparison: Comparison, limits: Limits) -> str:
    """Differences may lie together in a segment, so it takes as many segments as keys."""
    if comparison.settings.exports or limits.objective >= 1:
        return ""
    needed = keys_needed(limits.objective, CONFIDENCE)
    if comparison.planned >= needed:
        return ""
    return (
        f": {comparison.planned:,} segments were read, {needed:,} are needed when all are right "
        "(--segments makes more of them, --sample-rate 100 reads all)"
    )


def _definitions(figures: Figures, limits: Limits) -> _Answer:
    """What differs is named, and is the operator's to judge: a migration may be made to change it. Keys that
    differ are refused by `compare`, so here they are not compared yet.
    """
    comparison = figures.comparison
    if comparison is None:
        if limits.scope is Scope.CHANGES:
            return Result.PASSED, "not compared (--gate-scope changes): `doctor` compares them"
        return Result.INCONCLUSIVE, "the tables' definitions were not compared: `compare` does that"
    differences = comparison.settings.definitions
    differing = [f"{one.what} (source {one.source}, target {one.target})" for one in differences]
    said = f"differed in {', '.join(differing)}" if differing else "were alike"
    unknown = comparison.settings.definitions_unknown
    not_asked = f"; could not be asked: {', '.join(unknown)}" if unknown else ""
    return Result.PASSED, printable(f"when the comparison began, the tables' definitions {said}{not_asked}")


def _unwatched(figures: Figures, comparison: Comparison) -> str:
    """Why nobody can tell what was written since, and what to do; "" = the stream was watched all the time.

    Since a minute before the time of an export: of what was written later it may lack some.
    """
    since_ms, exports = comparison.vouches_from_ms, comparison.settings.exports
    when = "a minute before the export's time" if exports else "the comparison began"
    remedy = "compare again by scan, or make an export now" if exports else "compare again"
    if not figures.reader.watermark_ms or figures.watched_since_ms > since_ms:
        watched = "" if exports else "when "
        return f"the stream was not watched yet {watched}{when}: {remedy}"
    if figures.gap_ms >= since_ms:
        closing = ", or close the gap by an incremental export of the stream's table"
        return f"changes were lost since {when}: {remedy}{closing}"
    return ""


def _proves_alone(figures: Figures, limits: Limits) -> bool:
    """Whether a comparison speaks for all keys, because none has changed. What is excused is not known to be
    right, whoever found it.
    """
    ledger = figures.ledger
    changed = ledger.versions_published - ledger.suspects_published + ledger.not_sampled
    if limits.scope is Scope.CHANGES or changed or figures.success.excused:
        return False
    return _whole_table(figures, limits)[0] is Result.PASSED


def _accounting(figures: Figures, _limits: Limits) -> _Answer:
    wrong = figures.ledger.imbalance
    return _passes(not wrong, f"the accounting identity {f'does not hold: {wrong}' if wrong else 'holds'}")


#: Name → check. The names are label values of ddbmm_cutover_check_passed.
CHECKS: dict[str, Callable[[Figures, Limits], _Answer]] = {
    "compared": _compared,
    "mismatches": _mismatches,
    "success": _success,
    "whole-table": _whole_table,
    "definitions": _definitions,
    "excused": _excused,
    "lag": _lag,
    "waiting": _waiting,
    "reader": _reader,
    "validators": _validators,
    "looks": _looks,
    "gaps": _gaps,
    "dead": _dead,
    "backlog": _backlog,
    "accounting": _accounting,
}
