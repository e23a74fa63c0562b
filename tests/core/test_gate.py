"""The gate: what each check lets pass, and that nothing measured is never a pass."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.comparing.definitions import Difference
from pipeline.core.comparing.state import CompareSettings, Comparison, ExportSeen, Tally
from pipeline.core.figures import Figures
from pipeline.core.gate import CHECKS, Limits, Result, Scope, evaluate, keys_needed
from pipeline.core.ledger import Gap, Ledger, Queue, ReaderState
from pipeline.core.statistics import LAG_BUCKETS_SECONDS, exact_interval

NOW = 1_800_000_000_000
#: One item too many on one side.
ODD = Tally(equal=5, source_items=5, target_items=6)
LIMITS = Limits(objective=0.999, lag_ms=60_000, reader_lag_ms=60_000, backlog=1_000)


def lags(bucket: int, count: int = 100) -> list[int]:
    counts = [0] * (len(LAG_BUCKETS_SECONDS) + 1)
    counts[bucket] = count
    return counts


def ledger(**changes: object) -> Ledger:
    fine = Ledger(
        records_read=10_000, versions_published=10_000, reached=10_000, matches=10_000, keys_judged=5_000
    )
    return msgspec.structs.replace(fine, **changes)


def figures(**changes: object) -> Figures:
    """A migration that may be switched over, but for `changes`."""
    fine = Figures(
        now_ms=NOW,
        started_ms=NOW - 3_600_000,
        ledger=ledger(),
        queue=Queue(0, 0, 0, 0, 0),
        reader=ReaderState(NOW - 2_000, {}, 0, 1),
        lag_counts=lags(4),
        oldest_waiting_ms=None,
        validators=2,
        comparison=compared(),
    )
    return msgspec.structs.replace(fine, **changes)


def compared(percent: float = 100, **changes: object) -> Comparison:
    """A comparison of the whole table that found everything equal, but for `changes`."""
    settings = CompareSettings(table_bytes=0, sample_percent=percent, segments=1_000)
    planned = len(settings.plan().segments)
    tally = Tally(equal=9_000, source_items=9_000, target_items=9_000, partition_keys=9_000)
    fine = Comparison("c", settings, planned, planned, NOW - 1_800_000, NOW - 900_000, tally)
    return msgspec.structs.replace(fine, **changes)


def results(of: Figures, limits: Limits = LIMITS) -> dict[str, Result]:
    """The checks that did not pass."""
    return {c.name: c.result for c in evaluate(of, limits).checks if c.result is not Result.PASSED}


def test_a_caught_up_migration_without_findings_is_a_go() -> None:
    verdict = evaluate(figures(), LIMITS)
    assert verdict.result is Result.PASSED
    assert [check.name for check in verdict.checks] == list(CHECKS)
    assert all(check.reason for check in verdict.checks)


def test_of_a_migration_that_has_not_begun_nothing_can_be_told() -> None:
    verdict = evaluate(figures(has_begun=False), LIMITS)
    assert verdict.result is Result.INCONCLUSIVE and [check.name for check in verdict.checks] == list(CHECKS)
    assert {check.result for check in verdict.checks} == {Result.INCONCLUSIVE}


def test_a_share_below_the_whole_is_never_called_100_percent() -> None:
    """50,000,000 keys, one of them wrong."""
    judged = ledger(keys_judged=50_000_000, open={"missing": 1})
    [success] = [c for c in evaluate(figures(ledger=judged), LIMITS).checks if c.name == "success"]
    assert success.reason.startswith("at least 99.9999% of the keys are right")


def test_nothing_compared_is_inconclusive_and_never_a_go() -> None:
    empty = figures(ledger=Ledger(), lag_counts=lags(0, 0), comparison=None)
    assert evaluate(empty, LIMITS).result is Result.INCONCLUSIVE
    unknown = ("compared", "success", "whole-table", "definitions", "lag")
    assert results(empty) == dict.fromkeys(unknown, Result.INCONCLUSIVE)


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("mismatches", {"ledger": ledger(open={"missing": 1, "stale": 0}, reached=9_999, alarmed=1)}),
        ("lag", {"lag_counts": lags(13)}),
        ("waiting", {"oldest_waiting_ms": NOW - 61_000}),
        ("reader", {"reader": ReaderState(NOW - 61_000, {}, 0, 1)}),
        ("reader", {"reader": ReaderState(NOW, {}, 0, 0)}),
        ("validators", {"validators": 0}),
        ("looks", {"longest_due_ms": NOW - 30_001, "ledger": ledger(reached=0, outstanding=10_000)}),
        ("gaps", {"reader": ReaderState(NOW, {}, 1, 1)}),
        ("dead", {"queue": Queue(0, 0, 0, 0, 1)}),
        ("backlog", {"queue": Queue(1_001, 0, 0, 0, 0)}),
        ("accounting", {"ledger": ledger(reached=9_999)}),
        ("accounting", {"ledger": ledger(reached=10_015, outstanding=-15)}),
    ],
)
def test_each_trouble_closes_the_gate_by_its_own_check(check: str, changes: dict[str, object]) -> None:
    assert evaluate(figures(**changes), LIMITS).result is Result.FAILED
    assert results(figures(**changes))[check] is Result.FAILED


@pytest.mark.parametrize(
    "changes",
    [
        {"lag_counts": lags(12)},  # up to 60 s
        {"oldest_waiting_ms": NOW - 60_000},
        {"reader": ReaderState(NOW - 60_000, {}, 0, 1)},
        {"queue": Queue(1_000, 0, 0, 0, 0)},
        {"longest_due_ms": NOW - 30_000},
        {"longest_due_ms": NOW + 5_000},
    ],
)
def test_a_figure_at_its_limit_passes(changes: dict[str, object]) -> None:
    assert results(figures(**changes)) == {}


def test_a_sample_too_small_for_the_objective_is_inconclusive_and_says_how_many_keys_it_takes() -> None:
    few = figures(ledger=ledger(keys_judged=100))
    assert results(few) == {"success": Result.INCONCLUSIVE}
    (reason,) = [check.reason for check in evaluate(few, LIMITS).checks if check.name == "success"]
    assert f"{keys_needed(0.999, 0.95):,} are needed" in reason


def test_more_wrong_keys_than_the_objective_allows_fail_however_wide_the_interval() -> None:
    wrong = figures(ledger=ledger(keys_judged=1_000, open={"missing": 100}, reached=9_900, alarmed=100))
    assert results(wrong)["success"] is Result.FAILED


@pytest.mark.parametrize("objective", [0.5, 0.99, 0.999, 0.99999])
def test_the_keys_needed_are_the_fewest_that_reach_the_objective(objective: float) -> None:
    needed = keys_needed(objective, 0.95)
    assert exact_interval(needed, needed)[0] >= objective
    assert exact_interval(needed - 1, needed - 1)[0] < objective


def test_a_frozen_table_without_fresh_writes_can_pass_once_everything_has_arrived() -> None:
    quiet = figures(lag_counts=lags(0, 0))
    assert results(quiet) == {}
    under_way = figures(lag_counts=lags(0, 0), ledger=ledger(reached=9_999, outstanding=1))
    assert results(under_way) == {"lag": Result.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("judged", "excused", "result"),
    [
        (5_000, 0, Result.PASSED),
        (9_500, 500, Result.PASSED),  # 5 %
        (9_499, 501, Result.INCONCLUSIVE),
        (4, 36, Result.INCONCLUSIVE),
        (0, 40, Result.INCONCLUSIVE),
    ],
)
def test_what_is_excused_may_be_a_small_share_only(judged: int, excused: int, result: Result) -> None:
    some = ledger(keys_judged=judged, excused=excused, expired=excused, reached=10_000 - excused)
    checks = {one.name: one for one in evaluate(figures(ledger=some), LIMITS).checks}
    assert checks["excused"].result is result
    if excused:
        assert f"{excused:,}, " in checks["excused"].reason


WORSE = {Result.PASSED: 0, Result.INCONCLUSIVE: 1, Result.FAILED: 2}


@given(
    right=st.integers(0, 5_000),
    wrong=st.integers(0, 20),
    excused=st.integers(0, 5_000),
    more=st.integers(1, 5_000),
    limit=st.floats(0, 1),
    objective=st.sampled_from([0.5, 0.99, 0.999]),
)
def test_more_excused_keys_never_make_the_answer_better(
    right: int, wrong: int, excused: int, more: int, limit: float, objective: float
) -> None:
    """Neither keys that come to it, nor keys that were right before; with none it is as good as it gets."""
    limits = msgspec.structs.replace(LIMITS, excused=limit, objective=objective)

    def answer(right: int, excused: int) -> int:
        some = ledger(keys_judged=right + wrong, excused=excused, open={"missing": wrong})
        return WORSE[evaluate(figures(ledger=some), limits).result]

    before = answer(right, excused)
    assert answer(right, excused + more) >= before
    moved = min(more, right)
    assert answer(right - moved, excused + moved) >= before
    assert answer(right, 0) <= before


@given(data=st.data())
def test_worse_facts_never_make_the_answer_better(data: st.DataObject) -> None:
    """Fewer validators or readers, longer waits, more outstanding, lost, dead or wrong."""

    def fact(name: str, most: int) -> tuple[int, int]:
        better = data.draw(st.integers(0, most), name)
        return better, data.draw(st.integers(better, most), f"{name}, worse")

    facts = [
        fact(name, most)
        for name, most in (
            *(("due", 100_000), ("waiting", 200_000), ("behind", 200_000), ("outstanding", 10_000)),
            *(("backlog", 3_000), ("dead", 2), ("gaps", 2), ("wrong", 50), ("no validator", 1)),
            *(("no reader", 1), ("lag", len(LAG_BUCKETS_SECONDS))),
        )
    ]

    def answer(which: int) -> int:
        due, waiting, behind, outstanding, backlog, dead, gaps, wrong, no_validator, no_reader, lag = (
            one[which] for one in facts
        )
        some = ledger(reached=10_000 - outstanding, outstanding=outstanding, open={"missing": wrong})
        measured = figures(
            ledger=some,
            queue=Queue(backlog, 0, 0, 0, dead),
            reader=ReaderState(NOW - behind, {}, gaps, 1 - no_reader),
            lag_counts=lags(lag),
            oldest_waiting_ms=NOW - waiting if waiting else None,
            longest_due_ms=NOW - due,
            validators=1 - no_validator,
        )
        return WORSE[evaluate(measured, LIMITS).result]

    assert answer(1) >= answer(0)


def test_an_unknown_reader_position_is_inconclusive() -> None:
    unknown = dict.fromkeys(("reader", "whole-table"), Result.INCONCLUSIVE)
    assert results(figures(reader=ReaderState(0, {}, 0, 1))) == unknown


def test_a_failed_check_outweighs_an_inconclusive_one() -> None:
    assert evaluate(figures(ledger=Ledger(), queue=Queue(0, 0, 0, 0, 1)), LIMITS).result is Result.FAILED


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"comparison": None}, "no comparison was made: `compare` makes one"),
        ({"comparison": compared(finished_ms=None)}, "suspects without an answer"),
        ({"comparison": compared(done=999)}, "999 of 1,000 segments were read"),
        ({"comparison": compared(tally=Tally())}, "nothing was compared"),
        ({"comparison": compared(tally=ODD)}, "6 items of the target"),
        ({"watched_since_ms": NOW - 1_700_000}, "not watched yet when the comparison began"),
        ({"reader": ReaderState(0, {}, 0, 1)}, "not watched yet when the comparison began"),
        ({"gap_ms": NOW - 1_000_000}, "changes were lost since the comparison began"),
        ({"ledger": ledger(suspects_indeterminate=1)}, "whose source never stood still: 1"),
    ],
)
def test_a_whole_table_is_vouched_for_only_by_a_comparison_and_a_watch_since_before_it(
    changes: dict[str, object], says: str
) -> None:
    verdict = evaluate(figures(**changes), LIMITS)
    [check] = [check for check in verdict.checks if check.name == "whole-table"]
    assert check.result is Result.INCONCLUSIVE and says in check.reason
    only_changes = msgspec.structs.replace(LIMITS, scope=Scope.CHANGES)
    [check] = [c for c in evaluate(figures(**changes), only_changes).checks if c.name == "whole-table"]
    assert check.result is Result.PASSED and "--gate-scope changes" in check.reason


def test_definitions_that_differ_are_named_and_those_nobody_compared_are_no_pass() -> None:
    def check(of: Figures, scope: Scope = Scope.WHOLE_TABLE) -> tuple[Result, str]:
        limits = msgspec.structs.replace(LIMITS, scope=scope)
        [found] = [one for one in evaluate(of, limits).checks if one.name == "definitions"]
        return found.result, found.reason

    alike = check(figures())
    assert alike == (Result.PASSED, "when the comparison began, the tables' definitions were alike")
    settings = CompareSettings(
        0,
        segments=1_000,
        definitions=(Difference("global index by-\x1bdate", "d (HASH, S), projects ALL", "none"),),
        definitions_unknown=("tags",),
    )
    result, reason = check(figures(comparison=compared(settings=settings)))
    assert result is Result.PASSED and "\x1b" not in reason
    assert "(source d (HASH, S), projects ALL, target none); could not be asked: tags" in reason
    assert check(figures(comparison=None))[0] is Result.INCONCLUSIVE
    assert check(figures(comparison=None), Scope.CHANGES)[0] is Result.PASSED


def test_a_gap_from_before_the_comparison_does_not_matter_to_it() -> None:
    assert results(figures(gap_ms=NOW - 1_900_000)) == {}


def test_a_closed_gap_is_told_and_closes_no_gate() -> None:
    gap = Gap("p", "trimmed", "", NOW, NOW - 9, NOW, NOW, "incremental export arn of the source")
    reader = ReaderState(NOW - 2_000, {}, 2, 1, [gap])
    [check] = [one for one in evaluate(figures(reader=reader), LIMITS).checks if one.name == "gaps"]
    assert check.result is Result.FAILED
    assert check.reason == (
        "losses of stream records: 1 open, 1 closed by incremental export arn of the source"
    )
    assert results(figures(reader=msgspec.structs.replace(reader, gaps=1))) == {}


def test_an_export_is_vouched_for_since_a_minute_before_its_time() -> None:
    export = ExportSeen("/there", None, "abc", 1, 1, 1, to_ms=NOW - 1_900_000)
    settings = CompareSettings(0, source_export=export, buckets=1)
    of = compared(settings=settings, planned=1, done=1)
    since = export.to_ms - 60_000
    assert results(figures(comparison=of, watched_since_ms=since)) == {}
    late = figures(comparison=of, watched_since_ms=since + 1)
    [check] = [one for one in evaluate(late, LIMITS).checks if one.name == "whole-table"]
    assert check.result is Result.INCONCLUSIVE
    assert "not watched yet a minute before the export's time" in check.reason and "scan" in check.reason
    assert results(figures(comparison=of, gap_ms=since)) == {"whole-table": Result.INCONCLUSIVE}


def test_what_changed_in_a_window_is_not_the_table() -> None:
    changes = ExportSeen("/there", None, "abc", 1, 1, 1, to_ms=NOW, from_ms=NOW - 1)
    of = compared(settings=CompareSettings(0, source_export=changes), planned=1, done=1)
    assert results(figures(comparison=of)) == {"whole-table": Result.INCONCLUSIVE}
    assert results(figures(comparison=of, kept=compared())) == {}


def test_a_sample_passes_with_its_bound() -> None:
    many = CompareSettings(table_bytes=0, sample_percent=50, segments=10_000)
    of = compared(settings=many, planned=5_000, done=5_000)
    assert results(figures(comparison=of)) == {}
    few = Tally(equal=100, source_items=100, target_items=100, partition_keys=100)
    of_few = msgspec.structs.replace(of, tally=few)
    assert results(figures(comparison=of_few)) == {"whole-table": Result.INCONCLUSIVE}


def test_a_sample_of_few_segments_proves_little_however_many_keys_they_hold() -> None:
    """What an import lost lies together: in a segment that was not read, perhaps."""
    [check] = [
        one
        for one in evaluate(figures(comparison=compared(percent=50)), LIMITS).checks
        if one.name == "whole-table"
    ]
    assert check.result is Result.INCONCLUSIVE
    assert "500 segments were read, 3,688 are needed" in check.reason and "--segments" in check.reason


def test_where_no_key_has_changed_the_comparison_speaks_for_all() -> None:
    unchanged = figures(ledger=Ledger(), lag_counts=lags(0, 0))
    assert results(unchanged) == {"lag": Result.INCONCLUSIVE}
    nothing_judged = dict.fromkeys(("compared", "success", "lag"), Result.INCONCLUSIVE)
    waiting = Ledger(records_read=1, versions_published=1, outstanding=1)
    assert results(figures(ledger=waiting, lag_counts=lags(0, 0))) == nothing_judged
    excused = Ledger(suspects_published=1, versions_published=1, expired=1, excused=1)
    assert results(figures(ledger=excused, lag_counts=lags(0, 0))).keys() >= nothing_judged.keys()
