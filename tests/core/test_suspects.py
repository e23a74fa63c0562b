"""The rule on suspects of a comparison: when both sides must have stood still, and what they are called."""

import msgspec
import pytest

from pipeline.core.judging.history import FindingChange, History, Judgement
from pipeline.core.judging.rule import judge, needs_witness, wake
from pipeline.core.ledger import buried, tally
from pipeline.core.model import ABSENT, UNKNOWN, Look, Moment, Phase, Policy, VerdictKind

POLICY = Policy(converge_within_ms=60_000, stable_for_ms=30_000)
LEADS = Policy(converge_within_ms=60_000, stable_for_ms=30_000, leads=True)
A, B, C = (bytes([n]) * 16 for n in (1, 2, 3))


def suspect(source: bytes = A) -> History:
    return History(((source, 0),), 0, incomplete=True, suspect=True)


def look(target: bytes, source: bytes, at: int, *, strong: bool = False) -> Look:
    return Look(target, at, 0, strong, source, answered_ms=at)


def alone(at: int) -> Moment:
    """No reader is alive."""
    return Moment(at, watched=False)


def watched(at: int, watermark: int) -> Moment:
    return Moment(at, watermark)


def after(judgement: Judgement) -> History:
    assert judgement.history is not None
    return judgement.history


def looked_at(history: History, *looks: Look, policy: Policy = POLICY) -> Judgement:
    """Alone, each look as soon as it is due."""
    for one in looks:
        judgement = judge(history, one, alone(one.at_ms), policy)
        if judgement.history is not None:
            history = judgement.history
    return judgement


def test_both_sides_are_read_from_the_first_look_on() -> None:
    assert needs_witness(suspect())


def test_equal_sides_are_a_match_at_once_and_no_replication_lag() -> None:
    result = looked_at(suspect(), look(B, B, 1_000))
    assert (result.verdict, result.reached, result.lag_ms) == (VerdictKind.MATCH, 1, -1)
    assert looked_at(suspect(), look(A, A, 1_000)).lag_ms == -1


def test_a_replica_that_arrives_at_what_was_compared_is_a_match() -> None:
    assert looked_at(suspect(A), look(B, A, 1_000), look(A, A, 3_000)).verdict is VerdictKind.MATCH


@pytest.mark.parametrize(
    ("compared", "target", "source", "kind"),
    [
        (A, ABSENT, A, VerdictKind.MISSING),
        (ABSENT, A, ABSENT, VerdictKind.EXTRA),
        (A, B, A, VerdictKind.DIFFERENT),
        (A, B, ABSENT, VerdictKind.EXTRA),  # deleted at the source since
        (UNKNOWN, ABSENT, A, VerdictKind.MISSING),
        (UNKNOWN, A, ABSENT, VerdictKind.EXTRA),
    ],
)
def test_what_stays_different_is_a_finding_once_the_source_stood_still(
    compared: bytes, target: bytes, source: bytes, kind: VerdictKind
) -> None:
    still = looked_at(suspect(compared), look(target, source, 1_000), look(target, source, 62_000))
    assert still.escalate
    result = looked_at(
        suspect(compared), look(target, source, 1_000), look(target, source, 62_000, strong=True)
    )
    assert (result.verdict, result.alarmed, result.finding) == (kind, 1, FindingChange.OPENED)


@pytest.mark.parametrize(
    ("target", "source", "kind"), [(ABSENT, A, VerdictKind.MISSING), (A, ABSENT, VerdictKind.EXTRA)]
)
def test_kinds_are_the_targets_with_the_source_in_the_lead_too(
    target: bytes, source: bytes, kind: VerdictKind
) -> None:
    """The verified side is the source, the witness is of the target."""
    looks = look(source, target, 1_000), look(source, target, 62_000, strong=True)
    assert looked_at(suspect(UNKNOWN), *looks, policy=LEADS).verdict is kind


def test_a_source_that_moved_must_stand_still_anew() -> None:
    result = looked_at(suspect(), look(B, A, 1_000), look(B, C, 40_000), look(B, C, 62_000, strong=True))
    assert result.verdict is None and after(result).is_waiting_suspect


def test_looks_come_ever_more_slowly_and_one_at_the_end_of_the_still_stand() -> None:
    history, at, times = suspect(), 1_000, []
    while at < 62_000:
        judgement = judge(history, look(B, A, at), alone(at), POLICY)
        history, at = after(judgement), judgement.next_ms
        times.append(at)
    assert times == [3_000, 5_000, 9_000, 17_000, 32_000, 47_000, 62_000]


def test_a_source_that_never_rests_is_given_up_and_the_books_balance() -> None:
    history = suspect()
    first = judge(history, look(B, A, 1_000), alone(1_000), POLICY)
    result = judge(after(first), look(B, C, 600_000), alone(600_000), POLICY)
    assert (result.history, result.verdict, result.indeterminate) == (None, VerdictKind.INDETERMINATE, 1)
    said = tally(history, result, 1, 0).split()
    assert {"indeterminate=1", "outstanding=-1", "suspects_waiting=-1", "suspects_indeterminate=1"} <= set(
        said
    )


def test_a_suspect_that_had_to_wait_long_for_its_looks_is_not_given_up_for_its_age() -> None:
    """Few read units, many suspects: the first look comes after ten times --converge-within."""
    first = judge(suspect(), look(B, A, 900_000), alone(900_000), POLICY)
    assert first.verdict is None and after(first).is_waiting_suspect
    result = judge(after(first), look(B, A, 1_900_000, strong=True), alone(1_900_000), POLICY)
    assert (result.verdict, result.finding) == (VerdictKind.DIFFERENT, FindingChange.OPENED)


def test_where_a_reader_is_alive_it_has_to_be_past_the_look() -> None:
    first = judge(suspect(), look(B, A, 1_000), watched(1_000, 0), POLICY)
    held = judge(after(first), look(B, A, 62_000, strong=True), watched(62_000, 60_000), POLICY)
    assert held.verdict is None
    assert wake(after(held), watched(63_000, 62_000), POLICY) is not None
    alarm = wake(after(held), watched(64_000, 63_000), POLICY)
    assert alarm is not None and alarm.verdict is VerdictKind.DIFFERENT


def test_a_suspect_is_not_counted_as_a_change_that_is_waited_for() -> None:
    assert after(looked_at(suspect(), look(B, A, 1_000))).late == 0


def test_a_dead_letter_is_waited_for_no_longer() -> None:
    assert "suspects_waiting=-1" in buried(suspect())
    found = msgspec.structs.replace(suspect(), phase=Phase.ALARMED, alarmed=1, kind=VerdictKind.MISSING)
    assert "suspects_open=-1" in buried(found) and "suspects_waiting=0" in buried(found)


def test_a_finding_of_a_suspect_recovers_like_any_other() -> None:
    looks = look(B, A, 1_000), look(B, A, 62_000, strong=True), look(A, A, 70_000, strong=True)
    result = looked_at(suspect(), *looks)
    assert (result.finding, result.reached, result.alarmed) == (FindingChange.RECOVERED, 1, -1)
    assert after(result).phase is Phase.SETTLING
