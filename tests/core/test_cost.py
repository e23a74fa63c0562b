"""What is spent, in units and dollars: by side and operation, so far and an hour."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.cost import (
    BILLED,
    LISTED,
    Asked,
    Prices,
    Spending,
    Terms,
    bill_of,
    cost_of,
    dollars_of,
    field,
    given_prices,
    window,
)
from pipeline.core.model import Side

MINUTE, HOUR = 60_000, 3_600_000
NOW = 1_000 * HOUR
LOOK = ("target", "BatchGetItem")


def spent_in(minutes: dict[int, int], total: int = 0) -> Spending:
    """Half units of looks at the target, by how many minutes ago."""
    found = {NOW // MINUTE - ago: {LOOK: Asked(1, half)} for ago, half in minutes.items()}
    return Spending({LOOK: Asked(1, total or sum(minutes.values()))}, found)


def test_a_million_units_cost_what_the_list_says() -> None:
    assert LISTED.of("source", Asked(1, 2_000_000)) == 0.125
    assert LISTED.of("stream", Asked(1_000_000)) == pytest.approx(0.2)
    assert "us-east-1" in LISTED.said and "2026-09-13" in LISTED.said


def test_each_side_has_its_own_price() -> None:
    prices = Prices(1.0, 2.0, 3.0, "made up")
    assert prices.of_units(Side.SOURCE, 1_000_000) == 1.0
    assert prices.of_units(Side.TARGET, 1_000_000) == 2.0


def test_given_prices_say_so() -> None:
    assert given_prices(LISTED, None, None) is LISTED
    some = given_prices(LISTED, 7.0, None)
    assert (some.source_units, some.target_units, some.stream_reads) == (7.0, 7.0, 0.2)
    assert "read units as given by option" in some.said and "us-east-1" in some.said
    assert given_prices(LISTED, 7.0, 8.0).said == "as given by option"


def test_the_rate_is_that_of_the_last_minutes() -> None:
    cost = cost_of(spent_in({1: 1_000, 2: 1_000, 3: 1_000, 4: 1_000, 5: 1_000}), Terms(), NOW, 0)
    assert cost.an_hour == pytest.approx(500 * 60 * 0.125 / 1e6)
    assert cost.a_day == pytest.approx(24 * (cost.an_hour or 0))
    assert cost.dollars == pytest.approx(2_500 * 0.125 / 1e6)


def test_of_less_than_a_minute_there_is_no_rate() -> None:
    cost = cost_of(spent_in({0: 1_000}), Terms(), NOW, NOW - 59_000)
    assert (cost.an_hour, cost.a_day) == (None, None)
    assert [line.an_hour for line in cost.lines] == [None] * len(BILLED)


def test_what_was_before_the_window_does_not_count() -> None:
    found = window(spent_in({6: 1_000_000, 3: 10}), NOW, 0)
    assert found is not None and found[0][LOOK].half_units == 10


def test_counts_below_zero_are_nobodys() -> None:
    with pytest.raises(ValueError, match="less than zero"):
        bill_of({field("source", "Scan", "requests"): -1})


COUNTS = st.integers(0, 10**12)


@given(st.lists(st.tuples(st.sampled_from(BILLED), COUNTS, COUNTS), max_size=20))
def test_the_lines_add_up(asked: list[tuple[tuple[str, str], int, int]]) -> None:
    total = {one: Asked(requests, half) for one, requests, half in asked}
    cost = cost_of(Spending(total, {}), Terms(), NOW, NOW - HOUR)
    assert cost.dollars == pytest.approx(sum(line.dollars for line in cost.lines))
    assert cost.dollars == pytest.approx(dollars_of(total, LISTED))
    assert [(line.side, line.operation) for line in cost.lines] == list(BILLED)
