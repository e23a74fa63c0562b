"""What a sample says about the whole: intervals, quantiles and how many keys it takes.

Reads: counts. Writes: nothing. Never: I/O. Nothing compared leaves everything open.

Rates and confidences are shares in 0..1. One observation is a distinct key, not a read of it.
"""

import itertools
from collections.abc import Sequence
from math import ceil, exp, floor, lgamma, log, log1p

CONFIDENCE = 0.95
#: Upper bounds of the replication-lag histogram, dense between 1 and 30 s, where replicators and deadlines
#: are. Streams give creation times in whole seconds: the bounds below 1 s serve streams that give more.
LAG_BUCKETS_SECONDS = (
    0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0,
    60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
)  # fmt: skip
#: Widest distance from ratio to bound, in shares of 1, that each word still stands for.
_MARGIN_WORDS = ((0.005, "narrow margin"), (0.02, "fair margin"), (0.05, "wide margin"))


def exact_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact interval (low, high) of a rate (C. J. Clopper and E. S. Pearson, Biometrika 26, 1934).

    At no true rate does it cover less often than it says. (Wilson's does so on average, but where few keys
    are wrong, which is what matters here, in 84 of 100 only; see docs/how-it-judges.md.) (0, 1) for n = 0.
    Raises ValueError unless 0 <= successes <= n and 0 < confidence < 1.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence must lie between 0 and 1, not {confidence}")
    tail = (1 - confidence) / 2
    return _least(successes, n, tail), 1 - _least(n - successes, n, tail)


def _least(successes: int, n: int, tail: float) -> float:
    """The rate at which so many successes or more have the probability `tail`."""
    if successes == 0:
        return 0.0
    if successes == n:
        return float(tail ** (1 / n))
    low, high = 0.0, successes / n
    while low < (middle := (low + high) / 2) < high and high - low > 1e-14 * high:
        if _beta_share(successes, n - successes + 1, middle) < tail:
            low = middle
        else:
            high = middle
    return low


def _beta_share(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function I_x(a, b): the chance of a successes or more of a + b - 1.

    By its continued fraction (Lentz's method; Abramowitz and Stegun 26.5.8), which converges in about
    sqrt(max(a, b)) steps below its mean; above, it is mirrored.
    """
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_share(b, a, 1 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in itertools.count(1):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            c, d = 1 + term / c, 1 / (1 + term * d)
            fraction *= c * d
        if abs(c * d - 1) < 1e-12:
            break
    return front * fraction


def quantile_from_buckets(bounds: Sequence[float], counts: Sequence[int], q: float) -> float:
    """The q-quantile (0..1) of a histogram, interpolated as Prometheus' histogram_quantile does.

    counts: one per bound, not cumulative, and one more for what lies beyond the last bound, which is then
    the answer ("at least this"). Raises ValueError for empty counts or other lengths.
    """
    total = sum(counts)
    if len(counts) != len(bounds) + 1 or total == 0 or not 0 <= q <= 1:
        raise ValueError("a quantile needs counts, one more than there are bounds, and q within 0..1")
    rank = q * total
    below = 0
    start = 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and below + count >= rank:
            # Rounding may miss the bound by an ulp.
            return min(bound, start + (bound - start) * (rank - below) / count)
        below += count
        start = bound
    return start


def margin_in_words(low: float, ratio: float, high: float, keys: int) -> str:
    """How far to trust a success rate, for a person: its margin, and the worst that the interval allows."""
    if keys == 0:
        return "nothing compared"
    down, up = ratio - low, high - ratio
    widest = max(down, up)
    word = next((word for limit, word in _MARGIN_WORDS if widest <= limit), "too few keys to tell")
    return f"{word} (-{_points(down)}/+{_points(up)} points), at worst {_worst(1 - low)} wrong"


def share_text(share: float) -> str:
    """A share as a percentage with four decimals, cut and not rounded: only 1 is 100.0000%."""
    return f"{floor(share * 1e6 + 1e-9) / 1e4:.4f}%"


def at_most_text(share: float) -> str:
    """As `share_text`, of a share that is a bound from above: rounded up, and only 0 is 0.0000%."""
    return f"{ceil(share * 1e6 - 1e-9) / 1e4:.4f}%"


def _worst(rate: float) -> str:
    one_in = int(1 / rate) if rate > 0 else 0  # rounded towards the worse
    return f"1 key in {one_in:,}" if one_in >= 10 else f"{ceil(rate * 100)} % of the keys"


def _points(share: float) -> str:
    """A share in percentage points, with two significant digits below 1."""
    points = share * 100
    return f"{points:.1f}" if points >= 1 else f"{points:.2g}"
