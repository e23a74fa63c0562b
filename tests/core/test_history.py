"""The judging rule, one behaviour a test. Times are ms; the deadline is created + 60 s + 1 s."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.judging.divergence import classify
from pipeline.core.judging.history import (
    KEEP_REACHED,
    MAX_VERSIONS,
    FindingChange,
    HeldLook,
    History,
    Judgement,
)
from pipeline.core.judging.rule import judge, needs_witness, wake
from pipeline.core.model import ABSENT, MISMATCHES, UNKNOWN, Change, Look, Moment, Phase, Policy, VerdictKind
from pipeline.store import codec
from tests.core.reference import append

POLICY = Policy(converge_within_ms=60_000, stable_for_ms=30_000)
LEADS = Policy(converge_within_ms=60_000, stable_for_ms=30_000, leads=True)
A, B, C, D, X = (bytes([n]) * 16 for n in (1, 2, 3, 4, 9))


def built(
    *digests: bytes, lo: int = 1, created: int = 0, phase: Phase = Phase.WAITING, **more: object
) -> History:
    """A history whose versions were created a second apart, the first one being the base."""
    versions = tuple((digest, created + 1000 * index) for index, digest in enumerate(digests))
    return History(versions, lo, phase, **more)  # type: ignore[arg-type]


def look(
    digest: bytes,
    at: int,
    *,
    seen: int = 9,
    strong: bool = False,
    witness: bytes | None = None,
    expires: str = "",
) -> Look:
    """expires: which side's item TTL will delete: "verified", "witness" or both."""
    return Look(
        digest=digest,
        at_ms=at,
        seen=seen,
        strong=strong,
        witness=witness,
        verified_expires="verified" in expires,
        witness_expires="witness" in expires,
    )


def now(at: int, *, watermark: int | None = None, gap: int = 0) -> Moment:
    return Moment(now_ms=at, watermark_ms=at if watermark is None else watermark, gap_ms=gap)


def after(judgement: Judgement) -> History:
    assert judgement.history is not None
    return judgement.history


def test_a_match_of_the_newest_version_settles() -> None:
    result = judge(built(ABSENT, A), look(A, 1500), now(1500), POLICY)
    assert (result.verdict, result.reached, result.lag_ms) == (VerdictKind.MATCH, 1, 500)
    assert after(result).phase is Phase.SETTLING
    assert result.next_ms == 1500 + POLICY.stable_for_ms


@pytest.mark.parametrize(
    ("found_ms", "looked_ms", "unseen", "lag_ms"),
    [
        (31_000, 0, False, 30_000),
        (31_001, 0, False, -1),  # written at 1,000, first looked for now: reader or validators were late
        (150_000, 500, False, -1),  # the last look was before the write
        (150_000, 145_000, False, 149_000),  # a look missed it just before: the replication was late
        (150_000, 145_000, True, -1),  # that look was before it was published: the reader was late
        (150_000, 1_500, False, -1),  # a look missed it in time, then nobody looked
        (150_000, 31_001, False, 149_000),  # then nobody looked, but it was late before
    ],
)
def test_a_delay_of_our_own_is_no_replication_lag(
    found_ms: int, looked_ms: int, unseen: bool, lag_ms: int
) -> None:
    history = built(ABSENT, A, looked_ms=looked_ms, unseen=unseen)
    result = judge(history, look(A, found_ms), now(found_ms), POLICY)
    assert (result.verdict, result.lag_ms) == (VerdictKind.MATCH, lag_ms)


def test_a_look_at_what_is_still_to_be_read_makes_no_lag() -> None:
    """After a pause the target has C, and the reader is at A. The look is about A alone."""
    history = built(ABSENT, A)
    missed = after(judge(history, look(C, 50_000, seen=history.newest), now(50_000), POLICY))
    read = append(append(missed, Change(b"k", A, B, 2_000)), Change(b"k", B, C, 3_000))
    found = judge(read, look(C, 51_000, seen=read.newest), now(51_000), POLICY)
    assert (found.reached, found.lag_ms) == (3, -1)


def test_what_is_published_while_the_look_is_judged_was_missed_by_none() -> None:
    """The key changed under the judgement, which is made again with the same look."""
    missed = built(ABSENT, A, looked_ms=2_000)
    read = append(append(missed, Change(b"k", A, B, 1_500)), Change(b"k", B, C, 60_000))
    found = judge(read, look(B, 50_000, seen=missed.newest), now(61_000), POLICY)
    assert (found.reached, found.lag_ms) == (2, -1)


def test_a_late_replication_is_measured_while_its_key_goes_on_changing() -> None:
    """Each look comes after another publish, and finds what was written 40 s before."""
    history = built(ABSENT, A, created=-1_000)
    for second in range(0, 80, 5):
        history = append(
            history, Change(b"k", history.versions[-1][0], bytes([100 + second]) * 16, second * 1_000)
        )
        shown = bytes([60 + second]) * 16 if second >= 40 else ABSENT
        judged = judge(
            history, look(shown, second * 1_000 + 500, seen=history.newest), now(second * 1_000 + 500), POLICY
        )
        assert judged.lag_ms == (40_500 if second >= 40 else -1)
        history = after(judged)


def test_a_match_of_an_older_version_reaches_the_ones_before_it() -> None:
    result = judge(built(ABSENT, A, B, C), look(B, 4000), now(4000), POLICY)
    assert (result.verdict, result.reached) == (None, 2)
    assert after(result).versions[after(result).lo][0] == C


def test_versions_under_way_together_settle_only_when_the_newest_has_had_its_time_as_well() -> None:
    """They may arrive in any order. Here B was lost, so it may even be the first A that the look shows."""
    history = History(((A, 0), (B, 1_000), (A, 100_000)), lo=1, settle=True)
    result = judge(history, look(A, 101_000), now(101_000), POLICY)
    assert (result.verdict, result.reached) == (VerdictKind.MATCH, 2)
    assert result.next_ms == 100_000 + 61_000 + POLICY.stable_for_ms


def test_an_item_that_returned_to_what_it_was_is_not_taken_for_done_at_once() -> None:
    """Created and deleted again: a replica that has not begun looks just like one that is done."""
    returned = append(built(ABSENT, A), Change(b"k", A, ABSENT, 2000))
    early = judge(returned, look(ABSENT, 3000), now(3000), POLICY)
    assert (early.reached, early.verdict, after(early).phase) == (0, None, Phase.WAITING)
    later = judge(after(early), look(ABSENT, 62_000), now(62_000), POLICY)
    assert (later.reached, later.verdict) == (2, VerdictKind.MATCH)


def test_the_trace_that_matching_gives_is_true() -> None:
    """The numbered steps of `matching._may_still_be_at`."""
    history = History(((ABSENT, 0), (A, 2_000), (ABSENT, 3_000)), lo=1)
    assert judge(history, look(ABSENT, 4_000), now(4_000), POLICY).reached == 0
    assert judge(history, look(ABSENT, 62_999), now(62_999), POLICY).reached == 0
    assert judge(history, look(ABSENT, 63_000), now(63_000), POLICY).reached == 2


def test_the_trace_that_the_rule_gives_is_true() -> None:
    """The numbered steps of `rule._decide`."""
    history = History(((ABSENT, 0), (B, 9_000)), lo=1)
    assert judge(history, look(A, 70_000), now(70_000, watermark=67_000), POLICY).escalate  # 1
    strong = look(A, 70_000, seen=1, strong=True, witness=B)
    for gap, decided in ((0, True), (50_000, False)):
        held = after(judge(history, strong, now(70_100, watermark=67_000, gap=gap), POLICY))  # 2
        proven = wake(held, now(74_000, watermark=71_000, gap=gap), POLICY)  # 3, 4
        assert proven is not None and (proven.finding is FindingChange.OPENED) == decided
    assert wake(held, now(131_000, watermark=128_000, gap=50_000), POLICY) is None  # 5
    again = judge(
        held,
        look(A, 131_000, seen=1, strong=True, witness=B),
        now(131_100, watermark=128_000, gap=50_000),
        POLICY,
    )
    alarm = wake(after(again), now(136_000, watermark=132_000, gap=50_000), POLICY)  # 6
    assert alarm is not None and alarm.finding is FindingChange.OPENED
    moved = judge(
        held,
        look(A, 131_000, seen=1, strong=True, witness=C),
        now(131_100, watermark=128_000, gap=50_000),
        POLICY,
    )
    assert after(moved).held == HeldLook(look(A, 131_000, seen=1, strong=True, witness=C), 131_000)  # 7


def test_a_look_at_a_value_held_twice_proves_the_earlier_time_only() -> None:
    thrice = built(ABSENT, A, B, A, C)
    result = judge(thrice, look(A, 4000), now(4000), POLICY)
    assert result.reached == 1


def test_no_match_before_the_deadline_is_looked_at_again_with_growing_pauses() -> None:
    early = judge(built(ABSENT, A), look(ABSENT, 3000), now(3000), POLICY)
    late = judge(built(ABSENT, A), look(ABSENT, 21_000), now(21_000), POLICY)
    assert early.verdict is None and early.finding is FindingChange.NONE
    assert early.next_ms - 3000 == 1000
    assert late.next_ms - 21_000 == 10_000


def test_no_match_after_the_deadline_asks_for_a_strong_look_and_a_witness() -> None:
    assert judge(built(ABSENT, A), look(ABSENT, 62_000), now(62_000), POLICY).escalate


def test_a_strong_mismatch_is_held_until_the_readers_have_read_past_it() -> None:
    strong = look(ABSENT, 62_000, strong=True, witness=A)
    held = judge(built(ABSENT, A), strong, now(62_000, watermark=58_000), POLICY)
    assert held.finding is FindingChange.NONE and after(held).held is not None
    too_early = wake(after(held), now(63_000, watermark=61_000), POLICY)
    assert too_early is not None and too_early.finding is FindingChange.NONE
    proven = wake(after(held), now(67_000, watermark=63_500), POLICY)
    assert proven is not None
    assert (proven.verdict, proven.finding, proven.alarmed) == (VerdictKind.MISSING, FindingChange.OPENED, 1)


def test_a_look_that_was_long_on_its_way_is_proven_only_past_its_answer() -> None:
    """A validator that stood still (a paused VM) may have read at any time until then."""
    slow = Look(digest=ABSENT, at_ms=62_000, seen=9, strong=True, witness=A, answered_ms=102_000)
    held = judge(built(ABSENT, A), slow, now(102_000, watermark=99_000), POLICY)
    assert held.finding is FindingChange.NONE
    proven = wake(after(held), now(107_000, watermark=103_000), POLICY)
    assert proven is not None and proven.finding is FindingChange.OPENED


def test_a_held_look_that_a_later_record_explains_is_progress() -> None:
    """The target was ahead of our reader, not wrong."""
    held = judge(built(ABSENT, A), look(B, 62_000, strong=True, witness=C), now(62_000, watermark=0), POLICY)
    caught_up = append(after(held), Change(b"k", A, B, 61_000))
    result = wake(caught_up, now(70_000), POLICY)
    assert result is not None
    assert (result.finding, result.reached, result.verdict) == (FindingChange.NONE, 2, VerdictKind.MATCH)


def test_equal_sides_match_whatever_the_history_says() -> None:
    result = judge(
        built(ABSENT, A), look(B, 62_000, seen=1, strong=True, witness=B), now(62_000, watermark=0), POLICY
    )
    assert (result.verdict, result.reached) == (VerdictKind.MATCH, 1)


def test_that_neither_side_has_the_item_is_no_match_for_a_version_that_is_one() -> None:
    """A key that was misread is found on neither side: an alarm, never a silent success."""
    nowhere = look(ABSENT, 62_000, seen=1, strong=True, witness=ABSENT)
    assert judge(built(A, B), nowhere, now(62_000, watermark=0), POLICY).reached == 0
    proven = judge(built(A, B), nowhere, now(66_000), POLICY)
    assert (proven.finding, proven.verdict) == (FindingChange.OPENED, VerdictKind.MISSING)
    after_a_gap = judge(built(A, B), nowhere, now(66_000, gap=5_000), POLICY)
    assert after_a_gap.verdict is VerdictKind.MATCH  # the deletion's record may be among those lost


def test_a_reader_far_behind_holds_the_cheap_look_instead_of_buying_strong_ones() -> None:
    result = judge(built(ABSENT, A), look(B, 200_000), now(200_000, watermark=100_000), POLICY)
    assert not result.escalate and after(result).held is not None


def test_a_settled_key_without_company_closes_without_another_look() -> None:
    settled = judge(built(ABSENT, A), look(A, 1500), now(1500), POLICY)
    assert wake(after(settled), now(31_500), POLICY) == Judgement(None)


def test_what_only_equality_explains_is_forgotten_when_the_readers_are_past_the_look() -> None:
    """The source went back to A, and the record is still to be read: it must find B, which may come again."""
    equal = look(A, 200_000, strong=True, witness=A)
    settling = History(((A, 0), (B, 100_000)), lo=2, phase=Phase.SETTLING, settle=True)
    early = judge(settling, equal, now(200_400, watermark=197_000), POLICY)
    assert after(early).phase is Phase.SETTLING and early.verdict is None
    still = wake(after(early), now(201_000, watermark=200_000), POLICY)
    assert still is not None and still.history == early.history and still.next_ms > 201_000
    over = wake(after(early), now(203_000, watermark=201_000), POLICY)
    assert over is not None and over.history is None


def test_what_was_held_of_reached_versions_says_nothing_of_a_new_one() -> None:
    settling = History(((A, 0), (B, 100_000)), lo=2, phase=Phase.SETTLING, settle=True)
    equal = look(A, 200_000, seen=settling.newest, strong=True, witness=A)
    early = judge(settling, equal, now(200_400, watermark=197_000), POLICY)
    again = append(after(early), Change(b"k", A, C, 199_000))
    assert wake(again, now(300_000), POLICY) is None


def test_a_settled_key_with_two_versions_in_flight_is_looked_at_again() -> None:
    two = append(built(ABSENT, A), Change(b"k", A, B, 2000))
    settled = judge(two, look(B, 2500), now(2500), POLICY)
    assert wake(after(settled), now(32_500), POLICY) is None
    assert judge(after(settled), look(B, 32_500), now(32_500), POLICY) == Judgement(None)


def test_a_key_first_seen_just_after_the_watch_began_is_looked_at_again() -> None:
    """An older change, never read, could still be on its way."""
    just_begun = Moment(now_ms=1500, watermark_ms=1500, watched_since_ms=500)
    settled = judge(built(ABSENT, A), look(A, 1500), just_begun, POLICY)
    assert wake(after(settled), now(31_500), POLICY) is None


def test_a_regression_at_the_settling_look_gives_the_version_back() -> None:
    settled = after(
        judge(append(built(ABSENT, A), Change(b"k", A, B, 2000)), look(B, 2500), now(2500), POLICY)
    )
    back = judge(settled, look(A, 32_500), now(32_500), POLICY)
    assert (back.reached, after(back).phase, after(back).outstanding) == (-1, Phase.WAITING, 1)
    alarm = judge(after(back), look(A, 70_000, strong=True, witness=B), now(72_000), POLICY)
    assert (alarm.verdict, alarm.versions_behind) == (VerdictKind.STALE, 1)


def test_an_open_finding_recovers_when_the_newest_version_arrives() -> None:
    alarmed = built(ABSENT, A, phase=Phase.ALARMED, alarmed=1, kind=VerdictKind.MISSING)
    result = judge(alarmed, look(A, 90_000, strong=True, witness=A), now(90_000), POLICY)
    assert (result.finding, result.reached, result.alarmed) == (FindingChange.RECOVERED, 1, -1)
    assert after(result).settle  # a repair may be overtaken too


def test_no_cheap_look_alone_closes_a_finding() -> None:
    """An answer that lacks the item would, though the target still holds what the source deleted."""
    extra = built(A, ABSENT, phase=Phase.ALARMED, alarmed=1, kind=VerdictKind.EXTRA)
    assert judge(extra, look(ABSENT, 90_000), now(90_000), POLICY).escalate


def test_an_overtaken_write_of_a_hot_item_is_stale_though_ten_versions_were_reached_since() -> None:
    digests = [bytes([n]) * 16 for n in range(1, 12)]
    settling = after(judge(built(ABSENT, *digests), look(digests[-1], 12_000), now(12_000), POLICY))
    late = look(digests[0], 90_000, strong=True, witness=digests[-1], seen=settling.newest)
    result = judge(settling, late, now(91_500), POLICY)
    assert (result.verdict, result.versions_behind) == (VerdictKind.STALE, 10)


def test_an_open_finding_that_moves_on_but_stays_overdue_stays_open_as_stale() -> None:
    alarmed = built(ABSENT, A, B, phase=Phase.ALARMED, alarmed=2, kind=VerdictKind.MISSING)
    result = judge(alarmed, look(A, 90_000, strong=True, witness=B), now(90_000), POLICY)
    assert (result.finding, after(result).kind, result.reached, result.alarmed) == (
        FindingChange.UPDATED,
        VerdictKind.STALE,
        1,
        -1,
    )


def test_an_open_finding_is_looked_at_ever_more_slowly() -> None:
    alarmed = built(ABSENT, A, phase=Phase.ALARMED, alarmed=1, kind=VerdictKind.MISSING)
    delays = [
        judge(alarmed, look(ABSENT, at, strong=True, witness=A), now(at), POLICY).next_ms - at
        for at in (70_000, 200_000, 10_000_000)
    ]
    assert delays == sorted(delays) and delays[0] < delays[1] < delays[2] == 300_000


def test_kinds_are_told_in_terms_of_the_target() -> None:
    present, deleted = built(ABSENT, A, B), built(A, B, ABSENT)
    assert classify(present, look(ABSENT, 1), POLICY)[0] is VerdictKind.MISSING
    assert classify(deleted, look(X, 1), POLICY)[0] is VerdictKind.EXTRA
    assert classify(present, look(A, 1), POLICY) == (VerdictKind.STALE, 1)
    assert classify(present, look(X, 1), POLICY)[0] is VerdictKind.DIFFERENT
    # the verified side is the source now: what it lacks, the target has too much
    assert classify(present, look(ABSENT, 1), LEADS)[0] is VerdictKind.EXTRA
    assert classify(deleted, look(X, 1), LEADS)[0] is VerdictKind.MISSING


def test_where_the_source_leads_a_look_that_matches_nothing_is_kept_not_judged() -> None:
    result = judge(built(ABSENT, A), look(B, 2000, seen=1), now(2000), LEADS)
    assert not result.escalate and after(result).held is not None
    arrived = append(after(result), Change(b"k", A, B, 5000))
    reached = wake(arrived, now(6000), LEADS)
    assert reached is not None and (reached.verdict, reached.reached, reached.lag_ms) == (
        VerdictKind.MATCH,
        2,
        3000,
    )


def test_where_the_source_leads_only_a_source_that_stood_still_is_an_alarm() -> None:
    first = judge(built(ABSENT, A), look(B, 2000, seen=1), now(2000), LEADS)
    assert wake(after(first), now(63_100), LEADS) is None
    assert judge(after(first), look(B, 63_100, seen=1), now(63_100), LEADS).escalate
    strong = look(B, 63_200, seen=1, strong=True, witness=A)
    alarm = judge(after(first), strong, now(68_000, watermark=65_000), LEADS)
    assert (alarm.finding, alarm.verdict) == (FindingChange.OPENED, VerdictKind.DIFFERENT)
    moved = look(C, 63_200, seen=1, strong=True, witness=A)
    assert judge(after(first), moved, now(68_000, watermark=65_000), LEADS).finding is FindingChange.NONE


def test_a_history_that_spans_a_gap_vouches_only_for_a_source_that_stood_still() -> None:
    strong = look(X, 62_000, seen=1, strong=True, witness=A)
    first = judge(built(ABSENT, A), strong, now(65_000, gap=50_000), POLICY)
    assert first.finding is FindingChange.NONE
    again = look(X, 124_000, seen=1, strong=True, witness=A)
    second = judge(after(first), again, now(127_000, gap=50_000), POLICY)
    assert second.finding is FindingChange.OPENED


def test_contents_that_the_stream_did_not_show_call_for_the_witness_at_once() -> None:
    assert needs_witness(built(ABSENT, UNKNOWN))
    assert not needs_witness(built(UNKNOWN, A))
    result = judge(built(ABSENT, UNKNOWN), look(A, 1500, seen=1, witness=A), now(1500), POLICY)
    assert result.verdict is VerdictKind.MATCH


def test_a_key_that_never_rests_and_cannot_be_compared_becomes_indeterminate_but_stays_watched() -> None:
    history = built(
        ABSENT,
        UNKNOWN,
        UNKNOWN,
        UNKNOWN,
        held=HeldLook(look(A, 600_000, strong=True, witness=B, seen=2), 600_000),
    )
    result = wake(history, now(700_000), POLICY)
    assert result is not None
    assert (result.verdict, result.indeterminate, after(result).outstanding) == (
        VerdictKind.INDETERMINATE,
        2,
        1,
    )


def test_a_key_that_rests_becomes_an_alarm_however_late_though_its_history_cannot_vouch() -> None:
    """Read again a day later, after a gap: the look before the still stand and the one after it tell."""
    history, at = built(ABSENT, A), 86_400_000
    result: Judgement | None = None
    for _ in range(50):
        result = wake(history, now(at, gap=80_000_000), POLICY)
        if result is None:
            seen = look(ABSENT, at, seen=history.newest, strong=True, witness=A)
            result = judge(history, seen, now(at, gap=80_000_000), POLICY)
        if result.finding is FindingChange.OPENED:
            break
        history, at = after(result), result.next_ms
    assert result is not None and (result.verdict, result.alarmed) == (VerdictKind.MISSING, 1)
    assert at - 86_400_000 < 2 * POLICY.converge_within_ms


def test_a_history_without_end_is_thinned_but_counts_every_version() -> None:
    history = built(ABSENT, *[(n + 1).to_bytes(16, "big") for n in range(MAX_VERSIONS + 100)])
    waiting = judge(
        history,
        look(X, 4_000_000, strong=True, witness=X[:15] + b"a"),
        now(4_000_000, watermark=0),
        POLICY,
    )
    assert after(waiting).unreached == history.unreached
    assert len(after(waiting).versions) < MAX_VERSIONS
    done = judge(after(waiting), look(history.versions[-1][0], 4_100_000), now(4_100_000), POLICY)
    assert done.reached == history.unreached


def test_few_reached_versions_are_kept() -> None:
    history = built(ABSENT, *[bytes([n + 1]) * 16 for n in range(20)])
    result = judge(history, look(bytes([20]) * 16, 30_000), now(30_000), POLICY)
    assert len(after(result).versions) == KEEP_REACHED
    assert after(result).newest == history.newest


digests = st.sampled_from([ABSENT, UNKNOWN, A, B, C, D])
instants = st.integers(0, 10**13)


@st.composite
def histories(draw: st.DrawFn) -> History:
    versions = tuple(draw(st.lists(st.tuples(digests, instants), min_size=1, max_size=6)))
    held = draw(
        st.none()
        | st.builds(
            HeldLook,
            st.builds(
                Look,
                digest=digests,
                at_ms=instants,
                seen=st.integers(0, 9),
                strong=st.booleans(),
                witness=st.none() | digests,
                verified_expires=st.booleans(),
                witness_expires=st.booleans(),
                answered_ms=instants,
            ),
            instants,
        )
    )
    phase = draw(st.sampled_from(Phase))
    lo = len(versions) if phase is Phase.SETTLING else draw(st.integers(0, len(versions) - 1))
    counted = draw(st.integers(0, len(versions) - lo))
    return History(
        versions=versions,
        lo=lo,
        phase=phase,
        first=draw(st.integers(0, 2**31)),
        alarmed=counted if phase is Phase.ALARMED else 0,
        skipped=draw(st.integers(0, 9)),
        kind=draw(st.sampled_from(MISMATCHES)) if phase is Phase.ALARMED else None,
        settle=draw(st.booleans()),
        incomplete=draw(st.booleans()),
        looked_ms=draw(instants),
        late=draw(st.integers(0, 2**31)),
        held=None if phase is Phase.ALARMED else held,
        excused=counted if phase is Phase.EXCUSED else 0,
        excused_since_ms=draw(instants),
        unseen=draw(st.booleans()),
    )


@given(histories())
def test_a_history_survives_its_encoding(history: History) -> None:
    assert codec.decode(codec.encode(history)) == history


@given(histories(), st.data())
def test_bytes_of_another_length_are_refused(history: History, data: st.DataObject) -> None:
    raw = codec.encode(history)
    cut = data.draw(st.integers(0, len(raw) - 1).filter(lambda length: (len(raw) - length) % 24))
    with pytest.raises(ValueError, match="not a history"):
        codec.decode(raw[:cut])


@given(histories(), st.integers(0, 255), st.sampled_from([0, 1, 3, 4]))
def test_codes_that_no_history_has_are_refused(history: History, code: int, at: int) -> None:
    """Format, phase, kind and `lo` are checked; whatever passes encodes to the same bytes again."""
    raw = bytearray(codec.encode(history))
    raw[codec.NUMBER_BYTES + at] = code
    known = (
        code == codec.FORMAT,
        code < len(Phase),
        None,
        code <= len(MISMATCHES),
        code <= len(history.versions),
    )
    try:
        decoded = codec.decode(bytes(raw))
    except ValueError:
        return  # also where the codes contradict each other
    else:
        assert known[at] and codec.encode(decoded) == raw


@given(st.binary(max_size=200))
def test_any_bytes_are_a_history_or_are_refused_as_none(raw: bytes) -> None:
    """No other error, and no bytes that mean something else after they were read and written."""
    try:
        history = codec.decode(raw)
    except ValueError as error:
        assert str(error).startswith("not a history")  # noqa: PT017  # either may be right
    else:
        assert codec.decode(codec.encode(history)) == history


@given(
    st.lists(
        st.tuples(digests.filter(lambda d: d != UNKNOWN), st.integers(0, 200_000)), min_size=1, max_size=8
    ),
    st.lists(
        st.tuples(
            digests.filter(lambda d: d != UNKNOWN),
            st.integers(0, 400_000),
            st.booleans(),
            st.sampled_from(["", "verified", "witness", "verified and witness"]),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_every_version_is_accounted_for_whatever_is_seen(
    versions: list[tuple[bytes, int]], looks: list[tuple[bytes, int, bool, str]], leads: bool
) -> None:
    """Versions move between the ledger's terms; none appears or disappears."""
    history: History | None = None
    for digest, created in sorted(versions, key=lambda version: version[1]):
        history = append(history, Change(b"k", UNKNOWN, digest, created))
    assert history is not None
    total, terms = len(versions), {"reached": 0, "alarmed": 0, "expired": 0, "indeterminate": 0}
    policy = LEADS if leads else POLICY
    for digest, at, strong, expires in sorted(looks, key=lambda one: one[1]):
        moment = now(at + 3000)
        result = wake(history, moment, policy)
        if result is None:
            result = judge(
                history,
                look(
                    digest,
                    at,
                    seen=history.newest,
                    strong=strong,
                    witness=A if strong else None,
                    expires=expires,
                ),
                moment,
                policy,
            )
        if result.escalate:
            continue
        for term in terms:
            terms[term] += getattr(result, term)
        if result.history is None:
            assert sum(terms.values()) == total
            return
        history = result.history
        assert (terms["alarmed"], terms["expired"]) == (history.alarmed, history.excused)
        assert (history.phase is Phase.EXCUSED) == (history.excused > 0)
        assert 0 in (history.alarmed, history.excused)
        assert sum(terms.values()) + history.outstanding == total
        assert result.next_ms > 0
