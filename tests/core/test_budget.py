"""--max-cost-per-hour: when the sample is lowered, by how much, and what is said of it."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.budget import (
    LEAST_PERCENT,
    InUse,
    Lowered,
    at,
    comparison_share,
    hole_in_words,
    in_words,
    lower_sample,
    money,
    no_help,
    raise_sample,
)
from pipeline.core.cost import Asked, Prices, Spending, Terms

MINUTE, HOUR = 60_000, 3_600_000
NOW = 1_000 * HOUR
BEGUN = NOW - HOUR
LOOK, STREAM = ("target", "BatchGetItem"), ("stream", "GetRecords")
#: A dollar a unit, a dollar a request.
DOLLAR = Prices(1e6, 1e6, 1e6, "a dollar each")
WHOLE = InUse(100.0, BEGUN, None)


def an_hour(looks: float, stream: float = 0.0, scans: float = 0.0) -> Spending:
    """So many dollars an hour, for long enough."""
    bill = {
        LOOK: Asked(0, round(looks / 60 * 2)),
        STREAM: Asked(round(stream / 60)),
        ("source", "Scan"): Asked(0, round(scans / 60 * 2)),
    }
    return Spending(bill, {NOW // MINUTE - ago: bill for ago in range(1, 6)})


def lowered_to(percent: float, ago_ms: int = 20 * MINUTE) -> InUse:
    at_ms = NOW - ago_ms
    return InUse(100.0, BEGUN, Lowered(percent, at_ms, 100.0, 300.0, percent, at_ms))


def lower(spending: Spending, budget: float, sample: InUse = WHOLE) -> Lowered | None:
    return lower_sample(spending, Terms(DOLLAR, budget), NOW, sample, 90_000)


def test_below_the_budget_nothing_is_done() -> None:
    assert lower(an_hour(600), 600) is None


def test_without_a_budget_nothing_is_done() -> None:
    assert lower(an_hour(10**9), 0) is None


@pytest.mark.parametrize(("looks", "percent"), [(660, 50), (1_200, 50), (2_400, 25), (60_000, 1.5625)])
def test_it_is_halved_as_often_as_the_looks_demand(looks: float, percent: float) -> None:
    found = lower(an_hour(looks), 600)
    assert found is not None
    assert (found.percent, found.since_ms, found.least_percent) == (percent, NOW, percent)
    assert found.budget == 600
    assert found.spent == pytest.approx(looks)


def test_what_the_stream_costs_leaves_less_for_the_looks() -> None:
    found = lower(an_hour(looks=600, stream=480), 600)
    assert found is not None and found.percent == 25  # 120 are left


def test_scans_are_a_comparisons() -> None:
    assert lower(an_hour(looks=60, scans=60_000), 600) is None


def test_where_the_stream_alone_costs_more_nothing_helps() -> None:
    spending = an_hour(looks=600, stream=660)
    assert lower(spending, 600) is None
    said = no_help(spending, Terms(DOLLAR, 600), NOW, WHOLE)
    assert "$660.00 an hour" in said and "$600.00" in said
    assert no_help(spending, Terms(DOLLAR, 0), NOW, WHOLE) == ""
    assert no_help(spending, Terms(DOLLAR, 700), NOW, WHOLE) == ""


def test_a_step_waits_until_the_last_one_shows() -> None:
    assert lower(an_hour(1_200), 600, lowered_to(50, ago_ms=6 * MINUTE)) is None
    found = lower(an_hour(1_200), 600, lowered_to(50, ago_ms=8 * MINUTE))
    assert found is not None
    assert (found.percent, found.least_percent, found.first_ms) == (25, 25, NOW - 8 * MINUTE)


def test_a_run_that_has_just_begun_is_not_judged() -> None:
    assert lower(an_hour(1_200), 600, InUse(100.0, NOW - 4 * MINUTE, None)) is None


def test_no_sample_is_lowered_to_nothing() -> None:
    found = lower(an_hour(10**9), 60)
    assert found is not None and found.percent == LEAST_PERCENT
    assert lower(an_hour(10**9), 60, lowered_to(LEAST_PERCENT)) is None


def test_the_least_sample_that_costs_too_much_is_said() -> None:
    """Keys under an open finding are looked at on and on, whatever the sample: nothing more is done."""
    least, terms = lowered_to(LEAST_PERCENT), Terms(DOLLAR, 600)
    said = no_help(an_hour(looks=660, stream=60), terms, NOW, least)
    assert "$720.00 an hour" in said and "no sample is made smaller" in said
    assert no_help(an_hour(looks=660, stream=60), terms, NOW, lowered_to(25)) == ""
    assert no_help(an_hour(looks=540, stream=60), terms, NOW, least) == ""


@pytest.mark.parametrize(("budget", "is_raised"), [(0, True), (101, True), (100, False), (5, False)])
def test_only_a_higher_budget_raises_it(budget: float, is_raised: bool) -> None:
    raised = raise_sample(Terms(DOLLAR, budget), NOW, lowered_to(25))
    assert (raised is not None) == is_raised
    if raised is not None:
        assert (raised.percent, raised.since_ms, raised.raised_ms, raised.least_percent) == (
            100,
            NOW,
            NOW,
            25,
        )
        assert raised.has_hole
        assert raise_sample(Terms(DOLLAR, 0), NOW, InUse(100.0, BEGUN, raised)) is None


def test_what_is_said() -> None:
    sample = lowered_to(25)
    said = in_words(sample)
    assert "25 % of the keys are followed since 1970-02-11 15:40 UTC, not 100 %" in said
    assert "$300.00 an hour" in said and "above 100, or 0, raises it again" in said
    assert (in_words(WHOLE), hole_in_words(WHOLE), hole_in_words(sample)) == ("", "", "")
    raised = raise_sample(Terms(DOLLAR, 0), NOW, sample)
    assert in_words(InUse(100.0, BEGUN, raised)) == ""
    assert "from 1970-02-11 15:40 UTC to 1970-02-11 16:00 UTC only 25 %" in hole_in_words(
        InUse(100.0, BEGUN, raised)
    )


def test_a_sample_lowered_below_the_hole_has_none() -> None:
    """Samples are nested: who is in the smaller one was followed all the time."""
    raised = raise_sample(Terms(DOLLAR, 0), NOW - HOUR // 2, lowered_to(25, HOUR))
    assert raised is not None
    again = lower(an_hour(6_000), 600, InUse(100.0, BEGUN, raised))
    assert again is not None and again.percent == 12.5
    assert not again.has_hole
    assert msgspec.structs.replace(again, percent=50.0).has_hole


def test_a_comparison_gets_what_the_watch_leaves() -> None:
    terms = Terms(DOLLAR, 600)
    assert comparison_share(an_hour(looks=120, stream=60), terms, NOW, BEGUN) == pytest.approx(420)
    assert comparison_share(an_hour(looks=6_000), terms, NOW, BEGUN) == pytest.approx(60)
    assert comparison_share(Spending({}, {}), terms, NOW, BEGUN) == 600


@given(st.integers(0, 32_503_680_000))
def test_an_instant(seconds: int) -> None:
    assert at(seconds * 1000) == datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


@pytest.mark.parametrize(("dollars", "text"), [(1234.5, "$1,234.50"), (0.0346, "$0.035"), (0, "$0")])
def test_money(dollars: float, text: str) -> None:
    assert money(dollars) == text


@given(looks=st.floats(0, 1e9), stream=st.floats(0, 1e6), budget=st.floats(0.01, 1e6))
def test_a_lower_sample_is_expected_near_the_budget_and_never_far_below(
    looks: float, stream: float, budget: float
) -> None:
    found = lower(an_hour(looks, stream), budget)
    if found is None or found.percent == LEAST_PERCENT:
        return
    share = found.percent / 100
    assert share <= 0.5
    bill = an_hour(looks, stream).minutes[NOW // MINUTE - 1]
    looked, read = bill[LOOK].units * 60, bill[STREAM].requests * 60
    assert looked * share * 2 + read > budget * 0.999 or share == 0.5
