"""Intervals against brute force and closed forms, quantiles, sample sizes, words."""

from bisect import bisect_left
from math import comb

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.statistics import (
    LAG_BUCKETS_SECONDS,
    exact_interval,
    margin_in_words,
    quantile_from_buckets,
)

CONFIDENCES = st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.9999])


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[int, int]:
    n = draw(st.integers(1, 10**6))
    return draw(st.integers(0, n)), n


# --- intervals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 5.
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_the_interval_agrees_with_published_intervals(
    successes: int, n: int, low: float, high: float
) -> None:
    assert exact_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(outcomes(), CONFIDENCES)
def test_the_interval_holds_the_ratio_and_stays_within_0_and_1(
    outcome: tuple[int, int], confidence: float
) -> None:
    successes, n = outcome
    low, high = exact_interval(successes, n, confidence)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high


@given(st.integers(1, 60), st.data())
def test_at_each_bound_the_outcome_is_just_unlikely_enough(n: int, data: st.DataObject) -> None:
    """At the lower bound so many successes or more have probability 2.5 %, at the upper so many or fewer."""
    successes = data.draw(st.integers(0, n))
    low, high = exact_interval(successes, n)
    if successes > 0:
        assert sum(_binomial(n, low)[successes:]) == pytest.approx(0.025, rel=1e-6)
    if successes < n:
        assert sum(_binomial(n, high)[: successes + 1]) == pytest.approx(0.025, rel=1e-6)


@given(outcomes())
def test_failures_are_the_mirror_of_successes(outcome: tuple[int, int]) -> None:
    successes, n = outcome
    low, high = exact_interval(successes, n)
    assert exact_interval(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(outcomes())
def test_more_confidence_is_a_wider_interval(outcome: tuple[int, int]) -> None:
    narrow, wide = exact_interval(*outcome, confidence=0.9), exact_interval(*outcome, confidence=0.99)
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


@pytest.mark.parametrize("n", [5, 30, 100, 500])
def test_at_every_true_rate_the_interval_covers_it_as_often_as_it_says(n: int) -> None:
    intervals = [exact_interval(successes, n) for successes in range(n + 1)]
    for step in range(1, 200):
        rate = 1 - 0.5 ** (step / 10)  # from 7 % right to one key in a million wrong
        chances = _binomial(n, rate)
        covered = sum(chances[k] for k, (low, high) in enumerate(intervals) if low <= rate <= high)
        assert covered >= 0.95 - 1e-9, rate


@pytest.mark.parametrize("wrong", [0, 1, 2, 3, 5, 10, 30, 100, 300, 1_000])
def test_a_sample_of_5_percent_of_a_finite_table_is_covered_as_well(wrong: int) -> None:
    """Sampled without putting back: hypergeometric, a little less scattered than binomial."""
    keys, n = 4_000, 200
    covered = 0.0
    for found in range(min(wrong, n) + 1):
        low, high = exact_interval(n - found, n)
        if low <= 1 - wrong / keys <= high:
            covered += comb(wrong, found) * comb(keys - wrong, n - found) / comb(keys, n)
    assert covered >= 0.95 - 1e-9


def _binomial(n: int, rate: float) -> list[float]:
    return [comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)]


def test_nothing_compared_leaves_everything_open() -> None:
    assert exact_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("successes", "n", "confidence"), [(-1, 5, 0.9), (6, 5, 0.9), (1, 5, 0), (1, 5, 1), (0, 0, 2)]
)
def test_impossible_counts_are_refused(successes: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"successes|confidence"):
        exact_interval(successes, n, confidence)


# --- quantiles ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        ([0, 10, 0, 0], 0.5, 1.5),
        ([0, 10, 0, 0], 1.0, 2.0),
        ([10, 0, 0, 0], 0.5, 0.5),
        ([5, 5, 0, 0], 0.5, 1.0),
        ([5, 0, 5, 0], 0.75, 3.0),
        ([0, 0, 0, 10], 0.5, 4.0),
        ([9, 0, 0, 1], 0.99, 4.0),
        ([0, 1, 0, 0], 0.0, 1.0),
    ],
)
def test_quantiles_are_interpolated_as_prometheus_does(counts: list[int], q: float, expected: float) -> None:
    assert quantile_from_buckets((1.0, 2.0, 4.0), counts, q) == pytest.approx(expected)


@example([0.0, 0.0, 0.0], 1.0)
@given(st.lists(st.floats(0, 3600), min_size=1, max_size=60), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(lags: list[float], q: float) -> None:
    counts = [0] * (len(LAG_BUCKETS_SECONDS) + 1)
    for lag in lags:
        counts[bisect_left(LAG_BUCKETS_SECONDS, lag)] += 1
    rank = next(rank for rank in range(1, len(lags) + 1) if rank >= q * len(lags))
    index = bisect_left(LAG_BUCKETS_SECONDS, sorted(lags)[rank - 1])
    edges = (0.0, *LAG_BUCKETS_SECONDS)
    assert edges[index] <= quantile_from_buckets(LAG_BUCKETS_SECONDS, counts, q) <= edges[index + 1]


@pytest.mark.parametrize(
    ("counts", "q"), [([0, 0], 0.5), ([1], 0.5), ([1, 1, 1], 0.5), ([1, 0], 1.5), ([1, 0], -0.1)]
)
def test_a_quantile_of_nothing_is_refused(counts: list[int], q: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        quantile_from_buckets((1.0,), counts, q)


def test_the_lag_bounds_rise_from_a_tenth_of_a_second_to_an_hour() -> None:
    assert list(LAG_BUCKETS_SECONDS) == sorted(set(LAG_BUCKETS_SECONDS))
    assert (LAG_BUCKETS_SECONDS[0], LAG_BUCKETS_SECONDS[-1]) == (0.1, 3600.0)


# --- words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "words"),
    [
        (0, 0, "nothing compared"),
        (5, 5, "too few keys to tell (-52.2/+0 points), at worst 53 % of the keys wrong"),
        (100, 100, "wide margin (-3.6/+0 points), at worst 1 key in 27 wrong"),
        (1_017, 1_020, "fair margin (-0.56/+0.23 points), at worst 1 key in 116 wrong"),
        (10_000, 10_000, "narrow margin (-0.037/+0 points), at worst 1 key in 2,711 wrong"),
        (50, 100, "too few keys to tell (-10.2/+10.2 points), at worst 61 % of the keys wrong"),
    ],
)
def test_a_margin_in_words(successes: int, n: int, words: str) -> None:
    low, high = exact_interval(successes, n)
    assert margin_in_words(low, successes / n if n else 0.0, high, n) == words
