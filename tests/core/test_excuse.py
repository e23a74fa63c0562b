"""What TTL itself will remove is excused, watched, and no longer excused than that. Times are ms."""

import pytest

from pipeline.core.judging.divergence import EXCUSED_MAX_MS
from pipeline.core.judging.history import FindingChange, History, Judgement
from pipeline.core.judging.rule import judge, wake
from pipeline.core.model import ABSENT, Change, Phase, VerdictKind
from tests.core.reference import append
from tests.core.test_history import LEADS, POLICY, A, B, C, X, after, built, look, now

DAY_MS = 86_400_000
GRACE_MS = POLICY.ttl_grace_ms
#: The changes that `built` makes are judged wrong from here on.
LATE = 64_000


def excused(*digests: bytes, expires: str = "witness") -> History:
    """A key whose versions are all excused, by a look at LATE."""
    history = built(*digests)
    target = ABSENT if expires == "witness" else X
    source = history.versions[-1][0]
    shown = look(target, LATE, seen=history.newest, strong=True, witness=source, expires=expires)
    result = judge(history, shown, now(LATE + 3_000), POLICY)
    assert result.verdict is VerdictKind.EXPIRED
    return after(result)


@pytest.mark.parametrize(
    ("held_by", "expires", "verdict"),
    [
        ("source only", "source", VerdictKind.EXPIRED),
        ("source only", "", VerdictKind.MISSING),
        ("target only", "target", VerdictKind.EXPIRED),
        ("target only", "", VerdictKind.EXTRA),
        ("older at the target", "source and target", VerdictKind.EXPIRED),
        ("older at the target", "target", VerdictKind.STALE),
        ("older at the target", "source", VerdictKind.STALE),
        ("other at the target", "source and target", VerdictKind.EXPIRED),
        ("other at the target", "target", VerdictKind.DIFFERENT),
        ("other at the target", "source", VerdictKind.DIFFERENT),
    ],
)
def test_only_a_side_that_ttl_will_empty_has_an_excuse(
    held_by: str, expires: str, verdict: VerdictKind
) -> None:
    source = ABSENT if held_by == "target only" else B
    target = {"source only": ABSENT, "target only": A, "older at the target": A, "other at the target": X}[
        held_by
    ]
    sides = expires.replace("source", "witness").replace("target", "verified")
    history = built(ABSENT, A, source, lo=2)
    shown = look(target, LATE + 2_000, seen=2, strong=True, witness=source, expires=sides)
    result = judge(history, shown, now(LATE + 5_000), POLICY)
    assert result.verdict is verdict
    assert after(result).phase is (Phase.EXCUSED if verdict is VerdictKind.EXPIRED else Phase.ALARMED)


@pytest.mark.parametrize(
    ("source", "target", "expires", "verdict"),
    [
        (B, ABSENT, "source", VerdictKind.EXPIRED),
        (B, ABSENT, "target", VerdictKind.MISSING),
        (ABSENT, B, "target", VerdictKind.EXPIRED),
        (ABSENT, B, "source", VerdictKind.EXTRA),
        (X, B, "source and target", VerdictKind.EXPIRED),
        (X, B, "source", VerdictKind.DIFFERENT),
    ],
)
def test_where_the_source_is_looked_up_the_sides_change_places(
    source: bytes, target: bytes, expires: str, verdict: VerdictKind
) -> None:
    """The history is the target's, the witness as well."""
    sides = expires.replace("source", "verified").replace("target", "witness")
    if source == ABSENT:
        sides = sides.replace("verified", "")
    if target == ABSENT:
        sides = sides.replace("witness", "")
    history = built(ABSENT, A, target, lo=2)
    first = after(judge(history, look(source, LATE, seen=2), now(LATE), LEADS))
    shown = look(source, LATE + 61_000, seen=2, strong=True, witness=target, expires=sides)
    assert judge(first, shown, now(LATE + 65_000), LEADS).verdict is verdict


def test_versions_under_an_excuse_are_counted_as_expired_until_it_ends() -> None:
    history = built(ABSENT, A, B)
    shown = look(ABSENT, LATE + 2_000, seen=2, strong=True, witness=B, expires="witness")
    result = judge(history, shown, now(LATE + 5_000), POLICY)
    assert (result.expired, result.alarmed, after(result).outstanding) == (2, 0, 0)
    both_empty = append(after(result), Change(b"k", B, ABSENT, DAY_MS))
    equal = judge(both_empty, look(ABSENT, DAY_MS + 9, seen=3, strong=True), now(DAY_MS + 9), POLICY)
    assert (equal.verdict, equal.expired, equal.reached) == (VerdictKind.MATCH, -2, 3)
    assert equal.finding is FindingChange.NONE


def test_what_ttl_took_is_no_replication_lag() -> None:
    """The source's item was deleted a day before the target's: TTL's slowness, not the replica's."""
    history = excused(A, ABSENT, expires="verified")
    done = judge(history, look(ABSENT, DAY_MS, seen=1, strong=True), now(DAY_MS), POLICY)
    assert (done.verdict, done.lag_ms) == (VerdictKind.MATCH, -1)


def test_a_look_that_ends_or_prolongs_an_excuse_is_strongly_consistent() -> None:
    for digest in (ABSENT, A):
        assert judge(excused(ABSENT, A), look(digest, DAY_MS), now(DAY_MS), POLICY).escalate


def test_an_excused_key_is_looked_at_ever_more_slowly_until_the_grace_is_over() -> None:
    history, at = excused(ABSENT, A), LATE
    pauses: list[int] = []
    while True:
        shown = look(ABSENT, at, seen=1, strong=True, witness=A, expires="witness")
        result = judge(history, shown, now(at + 100), POLICY)
        if result.finding is FindingChange.OPENED or after(result).held is not None:
            break
        assert (result.verdict, result.expired) == (None, 0)
        history, pauses = after(result), [*pauses, result.next_ms - at]
        at = result.next_ms
    assert at == LATE + GRACE_MS
    assert pauses[:-1] == sorted(pauses[:-1]) and max(pauses) == EXCUSED_MAX_MS
    assert len(pauses) < 250


def test_after_the_grace_it_is_a_mismatch_and_stays_one() -> None:
    at = LATE + GRACE_MS
    history = excused(ABSENT, A)
    shown = look(ABSENT, at, seen=1, strong=True, witness=A, expires="witness")
    alarm = judge(history, shown, now(at + 3_000), POLICY)
    assert (alarm.verdict, alarm.alarmed, alarm.expired) == (VerdictKind.MISSING, 1, -1)
    again = look(ABSENT, at + 60_000, seen=1, strong=True, witness=A, expires="witness")
    still = judge(after(alarm), again, now(at + 63_000), POLICY)
    assert (still.finding, still.expired) == (FindingChange.UPDATED, 0)


def test_an_excuse_that_ttl_no_longer_gives_ends_once_the_readers_are_past_the_look() -> None:
    """TTL was switched off, or the item has become too old for it."""
    history = excused(ABSENT, A)
    shown = look(ABSENT, DAY_MS, seen=1, strong=True, witness=A)
    held = judge(history, shown, now(DAY_MS + 100, watermark=DAY_MS - 3_000), POLICY)
    assert (held.expired, after(held).phase, held.finding) == (0, Phase.EXCUSED, FindingChange.NONE)
    alarm = wake(after(held), now(DAY_MS + 3_000, watermark=DAY_MS + 1_000), POLICY)
    assert alarm is not None
    assert (alarm.verdict, alarm.alarmed, alarm.expired) == (VerdictKind.MISSING, 1, -1)


def test_a_new_version_has_its_time_though_an_older_one_is_excused() -> None:
    """The session is extended: the source's item will not be deleted now, and the replica is merely late."""
    extended = append(excused(A, B, expires="verified and witness"), Change(b"k", B, C, DAY_MS))
    early = look(X, DAY_MS + 5_000, seen=2, strong=True, witness=C, expires="verified")
    result = judge(extended, early, now(DAY_MS + 9_000), POLICY)
    assert (result.verdict, result.finding, result.expired) == (None, FindingChange.NONE, 0)
    assert after(result).late == DAY_MS // 10_000
    arrived = look(C, DAY_MS + 20_000, seen=2, strong=True, witness=C)
    done = judge(after(result), arrived, now(DAY_MS + 20_000), POLICY)
    assert (done.verdict, done.reached, done.expired) == (VerdictKind.MATCH, 2, -1)


def test_a_new_version_that_was_dropped_ends_the_excuse_when_its_time_is_over() -> None:
    extended = append(excused(A, B, expires="verified and witness"), Change(b"k", B, C, DAY_MS))
    late = look(A, DAY_MS + 61_000, seen=2, strong=True, witness=C, expires="verified")
    result = judge(extended, late, now(DAY_MS + 65_000), POLICY)
    assert (result.verdict, result.alarmed, result.expired) == (VerdictKind.STALE, 2, -1)


def test_a_new_version_that_expires_too_joins_the_excuse_when_it_is_late() -> None:
    history = append(excused(A, B, expires="verified and witness"), Change(b"k", B, C, DAY_MS))
    for at, expired in ((DAY_MS + 5_000, 0), (DAY_MS + 61_000, 1)):
        shown = look(X, at, seen=2, strong=True, witness=C, expires="verified and witness")
        result = judge(history, shown, now(at + 100), POLICY)
        assert (result.expired, result.verdict) == (expired, None)
        history = after(result)
    assert (history.excused, history.outstanding) == (2, 0)


def test_progress_during_an_excuse_makes_the_rest_plainly_outstanding_again() -> None:
    history = append(excused(A, B, expires="verified and witness"), Change(b"k", B, C, DAY_MS))
    shown = look(B, DAY_MS + 1_000, seen=2, strong=True, witness=C, expires="verified")
    result = judge(history, shown, now(DAY_MS + 1_000), POLICY)
    assert (result.reached, result.expired, after(result).phase) == (1, -1, Phase.WAITING)
    assert after(result).outstanding == 1


def test_an_open_finding_whose_items_expire_is_closed_as_excused_not_as_recovered() -> None:
    alarmed = built(ABSENT, A, phase=Phase.ALARMED, alarmed=1, kind=VerdictKind.MISSING)
    shown = look(ABSENT, DAY_MS, seen=1, strong=True, witness=A, expires="witness")
    result = judge(alarmed, shown, now(DAY_MS + 100), POLICY)
    assert (result.finding, result.alarmed, result.expired) == (FindingChange.EXCUSED, -1, 1)
    assert (after(result).kind, after(result).phase) == (None, Phase.EXCUSED)
    revoked = look(ABSENT, 2 * DAY_MS, seen=1, strong=True, witness=A)
    again = judge(after(result), revoked, now(2 * DAY_MS + 3_000), POLICY)
    assert (again.finding, again.verdict) == (FindingChange.OPENED, VerdictKind.MISSING)


def test_where_the_history_cannot_vouch_the_source_must_stand_still_before_an_excuse_ends() -> None:
    """A key under excuse for days is not given up as indeterminate for its age."""
    history = append(excused(ABSENT, A, B), Change(b"k", X, C, DAY_MS))  # a record is missing before C
    assert history.incomplete
    result: Judgement | None = None
    at = DAY_MS + 61_000
    for _ in range(50):
        result = wake(history, now(at), POLICY)
        if result is None:
            shown = look(X, at, seen=history.newest, strong=True, witness=C)
            result = judge(history, shown, now(at), POLICY)
        assert result.indeterminate == 0
        if result.finding is FindingChange.OPENED:
            break
        history, at = after(result), result.next_ms
    assert result is not None and (result.verdict, result.expired) == (VerdictKind.DIFFERENT, -2)
    assert at < DAY_MS + 61_000 + 2 * POLICY.converge_within_ms
