"""What the gate says of a sample that was lowered, and of one that was raised again."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.budget import Lowered
from pipeline.core.cost import Asked, Spending, Terms
from pipeline.core.gate import Limits, Result, Scope, evaluate
from pipeline.core.outlook import Unsettled, outlook
from pipeline.core.samples import Sample, cost_by_hour
from pipeline.core.strata import in_words, strata
from pipeline.core.unknowns import keys_in_words, unknowns
from tests.core.test_gate import LIMITS, NOW, compared, figures, ledger, results

SINCE = NOW - 1_200_000
#: In use since twenty minutes ago; and raised again ten minutes ago.
LOWERED = Lowered(25, SINCE, 1.0, 3.0, 25, SINCE)
RAISED = msgspec.structs.replace(LOWERED, percent=100, since_ms=NOW - 600_000, raised_ms=NOW - 600_000)
SETTINGS = {"verify_on": "target", "sample_rate": "100.0"}


def test_a_lowered_sample_is_a_go_when_enough_of_it_was_judged() -> None:
    assert evaluate(figures(lowered=LOWERED), LIMITS).result is Result.PASSED


def test_until_enough_of_it_was_judged_it_is_too_early_to_say() -> None:
    few = figures(lowered=LOWERED, ledger=ledger(keys_judged=100))
    assert evaluate(few, LIMITS).result is Result.INCONCLUSIVE
    none = figures(lowered=LOWERED, ledger=ledger(keys_judged=0))
    assert results(none)["compared"] is Result.INCONCLUSIVE


def test_it_is_said_beside_the_answer() -> None:
    said = unknowns(figures(lowered=LOWERED), SETTINGS, LIMITS)
    assert any("25 % of the keys are followed since" in one and "raises it again" in one for one in said)
    assert any("of the others only the interval speaks" in one for one in said)
    assert "when the sample changed" in keys_in_words(figures(lowered=LOWERED))
    assert "when the sample changed" in in_words(strata(figures(lowered=LOWERED))[0])


@pytest.mark.parametrize("scope", list(Scope))
def test_a_sample_that_was_raised_again_has_a_hole(scope: Scope) -> None:
    limits = msgspec.structs.replace(LIMITS, scope=scope)
    raised = figures(lowered=RAISED)
    assert results(raised, limits)["compared"] is Result.INCONCLUSIVE
    assert evaluate(raised, limits).result is Result.INCONCLUSIVE
    assert any("is not known to be right" in one for one in unknowns(raised, SETTINGS, limits))


@pytest.mark.parametrize("scope", list(Scope))
def test_a_comparison_after_that_fills_it(scope: Scope) -> None:
    limits = msgspec.structs.replace(LIMITS, scope=scope)
    later = compared(started_ms=NOW - 300_000, finished_ms=NOW - 100_000)
    assert evaluate(figures(lowered=RAISED, comparison=later), limits).result is Result.PASSED
    under_way = msgspec.structs.replace(later, finished_ms=None, done=1)
    assert results(figures(lowered=RAISED, comparison=under_way), limits)["compared"] is Result.INCONCLUSIVE


@pytest.mark.parametrize(("after_ms", "fills"), [(-1, False), (0, False), (9_999, False), (10_000, True)])
def test_it_fills_what_its_reads_can_have_seen(after_ms: int, fills: bool) -> None:
    """A Scan may answer with what was right a moment ago, and clocks are apart."""
    later = compared(started_ms=RAISED.raised_ms + after_ms, finished_ms=NOW - 100_000)
    said = results(figures(lowered=RAISED, comparison=later))
    assert (said.get("compared") is not Result.INCONCLUSIVE) == fills


def test_a_comparison_of_too_few_keys_does_not_fill_it() -> None:
    """Whatever was asked for besides: the hole is in the keys that changed."""
    few = compared(percent=0.1, started_ms=NOW - 300_000, finished_ms=NOW - 100_000)
    limits = msgspec.structs.replace(LIMITS, scope=Scope.CHANGES)
    assert results(figures(lowered=RAISED, comparison=few), limits) == {"compared": Result.INCONCLUSIVE}


def test_a_hole_is_said_with_what_fills_it() -> None:
    """The sentence stays, and is true after the comparison as well."""
    [said] = [one for one in unknowns(figures(lowered=RAISED), SETTINGS, LIMITS) if "only 25 %" in one]
    assert said.endswith("but by a comparison that was begun later")


def test_records_that_were_not_sampled_are_changes() -> None:
    """A comparison speaks for all keys only where none has changed since: not where none was looked at."""
    none = ledger(records_read=50, not_sampled=50, versions_published=0, reached=0, matches=0, keys_judged=0)
    assert results(figures(ledger=none))["success"] is Result.INCONCLUSIVE


def test_how_fast_keys_are_judged_is_measured_since_the_sample_changed() -> None:
    samples = [Sample(NOW - ago, keys=keys) for ago, keys in ((800_000, 50_000), (500_000, 100))]
    few = figures(lowered=RAISED, ledger=ledger(keys_judged=200))
    ahead = outlook(few, samples, Limits(objective=0.999), Unsettled(None, complete=True))
    assert ahead.enough_keys.at_ms is not None


@given(st.sampled_from([None, LOWERED, RAISED]), st.integers(0, 20_000))
def test_a_changed_sample_never_makes_the_answer_better(changed: Lowered | None, judged: int) -> None:
    order = [Result.PASSED, Result.INCONCLUSIVE, Result.FAILED]
    of = figures(ledger=ledger(keys_judged=judged))
    before = evaluate(of, LIMITS).result
    after = evaluate(msgspec.structs.replace(of, lowered=changed), LIMITS).result
    assert order.index(after) >= order.index(before)


def test_a_stream_that_costs_more_than_is_allowed_is_said() -> None:
    bill = {("stream", "GetRecords"): Asked(1_000_000)}
    spending = Spending(bill, {NOW // 60_000 - 1: bill})
    said = unknowns(figures(spending=spending, terms=Terms(budget=1.0)), SETTINGS, LIMITS)
    assert any("no smaller sample can help" in one for one in said)


def test_the_hours_of_the_run_add_up_to_what_was_spent() -> None:
    hour = 3_600_000
    samples = [Sample(n * hour // 2, target_units=n * 1e6) for n in range(7)]
    hours = cost_by_hour(samples, Terms().prices)
    assert [one.at_ms for one in hours] == [0, hour, 2 * hour, 3 * hour]
    assert sum(one.dollars for one in hours) == pytest.approx(6 * 0.125)
    assert cost_by_hour([Sample(0, target_units=5e6), Sample(hour)], Terms().prices)[1].dollars == 0
