"""Intervals against brute force and closed forms, quantiles, sample sizes, words."""

from bisect import bisect_left
from math import comb, isclose, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.statistics import (
    LAG_BUCKETS_SECONDS,
    largest_unseen_defect_rate,
    margin_in_words,
    quantile_from_buckets,
    required_sample,
    wilson,
)

CONFIDENCES = st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.9999])


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[int, int]:
    n = draw(st.integers(1, 10**9))
    return draw(st.integers(0, n)), n


# --- wilson -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(outcomes(), CONFIDENCES)
def test_the_interval_holds_the_ratio_and_stays_within_0_and_1(
    outcome: tuple[int, int], confidence: float
) -> None:
    successes, n = outcome
    low, high = wilson(successes, n, confidence)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high


@given(outcomes())
def test_the_bounds_solve_the_score_equation(outcome: tuple[int, int]) -> None:
    """At each bound p, the ratio lies exactly z standard errors away: |ratio - p| = z sqrt(p (1 - p) / n)."""
    successes, n = outcome
    for bound in wilson(successes, n):
        if 0 < bound < 1:
            error = 1.959963984540054 * sqrt(bound * (1 - bound) / n)
            assert isclose(abs(successes / n - bound), error, rel_tol=1e-3, abs_tol=1e-12)


@given(outcomes())
def test_failures_are_the_mirror_of_successes(outcome: tuple[int, int]) -> None:
    successes, n = outcome
    low, high = wilson(successes, n)
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(outcomes())
def test_more_confidence_is_a_wider_interval(outcome: tuple[int, int]) -> None:
    narrow, wide = wilson(*outcome, confidence=0.9), wilson(*outcome, confidence=0.99)
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


@pytest.mark.parametrize("n", [30, 100])
def test_on_average_the_interval_covers_the_true_rate_as_often_as_it_says(n: int) -> None:
    """Brute force over the binomial distribution: a single rate may fall short, their mean may not."""
    intervals = [wilson(successes, n) for successes in range(n + 1)]
    rates = [step / 200 for step in range(1, 200)]
    covered = [
        sum(
            comb(n, k) * rate**k * (1 - rate) ** (n - k)
            for k, (low, high) in enumerate(intervals)
            if low <= rate <= high
        )
        for rate in rates
    ]
    assert 0.945 < sum(covered) / len(covered) < 0.96
    assert min(covered) > 0.83


def test_nothing_compared_leaves_everything_open() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert largest_unseen_defect_rate(0) == 1.0


@pytest.mark.parametrize(
    ("successes", "n", "confidence"), [(-1, 5, 0.9), (6, 5, 0.9), (1, 5, 0), (1, 5, 1), (0, 0, 2)]
)
def test_impossible_counts_are_refused(successes: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"successes|confidence"):
        wilson(successes, n, confidence)


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


# --- sample sizes -------------------------------------------------------------------------------------------


@given(st.floats(0.001, 0.3), CONFIDENCES)
def test_the_required_sample_gives_the_margin_at_the_worst_rate(margin: float, confidence: float) -> None:
    n = required_sample(margin, confidence)
    even = n + n % 2
    low, high = wilson(even // 2, even, confidence)
    assert (high - low) / 2 <= margin * (1 + 1e-9)
    if n > 4:
        fewer = (n - 2) // 2 * 2
        low, high = wilson(fewer // 2, fewer, confidence)
        assert (high - low) / 2 > margin


def test_one_point_at_95_percent_takes_9600_keys() -> None:
    assert required_sample(0.01) == 9_600


@pytest.mark.parametrize("margin", [0, 1, -0.1, float("nan")])
def test_an_impossible_margin_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        required_sample(margin)


@given(st.integers(1, 10**7), CONFIDENCES)
def test_the_unseen_defect_rate_would_stay_unseen_with_the_remaining_probability(
    keys: int, confidence: float
) -> None:
    rate = largest_unseen_defect_rate(keys, confidence)
    assert (1 - rate) ** keys == pytest.approx(1 - confidence, rel=1e-6)


def test_the_unseen_defect_rate_follows_the_rule_of_three() -> None:
    assert largest_unseen_defect_rate(3_000) == pytest.approx(3 / 3_000, rel=0.002)


@pytest.mark.parametrize(("keys", "confidence"), [(-1, 0.95), (10, 0), (10, 1)])
def test_an_impossible_question_about_unseen_defects_is_refused(keys: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="keys"):
        largest_unseen_defect_rate(keys, confidence)


# --- words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "words"),
    [
        (0, 0, "nothing compared"),
        (5, 5, "too few keys to tell (-43.4/+0 points), at worst 44 % of the keys wrong"),
        (100, 100, "wide margin (-3.7/+0 points), at worst 1 key in 27 wrong"),
        (1_017, 1_020, "fair margin (-0.57/+0.19 points), at worst 1 key in 116 wrong"),
        (10_000, 10_000, "narrow margin (-0.038/+0 points), at worst 1 key in 2,604 wrong"),
        (50, 100, "too few keys to tell (-9.6/+9.6 points), at worst 60 % of the keys wrong"),
    ],
)
def test_a_margin_in_words(successes: int, n: int, words: str) -> None:
    low, high = wilson(successes, n)
    assert margin_in_words(low, successes / n if n else 0.0, high, n) == words
