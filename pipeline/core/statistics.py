"""What a sample says about the whole: intervals, quantiles and how many keys it takes.

Reads: counts. Writes: nothing. Never: says more than the counts do; nothing compared leaves everything open.

Rates and confidences are shares in 0..1. One observation is a distinct key, not a read of it.
"""

from collections.abc import Sequence
from math import ceil, sqrt
from statistics import NormalDist

CONFIDENCE = 0.95
#: Upper bounds of the replication-lag histogram, dense between 1 and 30 s, where replicators and deadlines
#: are. Streams give creation times in whole seconds: the bounds below 1 s serve streams that give more.
LAG_BUCKETS_SECONDS = (
    0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0,
    60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
)  # fmt: skip
#: Widest distance from ratio to bound, in shares of 1, that each word still stands for.
_MARGIN_WORDS = ((0.005, "narrow margin"), (0.02, "fair margin"), (0.05, "wide margin"))


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The Wilson score interval (low, high) of a rate (E. B. Wilson, JASA 22, 1927).

    Unlike the normal interval it stays inside 0..1 and has a width when all n succeed. (0, 1) for n = 0.
    Raises ValueError unless 0 <= successes <= n and 0 < confidence < 1.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    z = _z(confidence)
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    centre = rate + z * z / (2 * n)
    half = z * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends the exact bound is the end itself; rounding may miss it by an ulp.
    low = 0.0 if successes == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + half) / scale)
    return low, high


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
            return start + (bound - start) * (rank - below) / count
        below += count
        start = bound
    return start


def required_sample(margin: float, confidence: float = CONFIDENCE) -> int:
    """Keys needed for a Wilson interval of at most `margin` to either side of its middle, at any rate.

    At the worst rate, one half, the half-width is z / (2 sqrt(n + z²)); this is that solved for n.
    Raises ValueError unless 0 < margin < 1.
    """
    if not 0 < margin < 1:
        raise ValueError(f"a margin must lie between 0 and 1, not {margin}")
    z = _z(confidence)
    return max(1, ceil(z * z / (4 * margin * margin) - z * z))


def largest_unseen_defect_rate(keys: int, confidence: float = CONFIDENCE) -> float:
    """The largest share of wrong keys that `keys` keys, all found right, can have missed.

    The rate at which seeing none has probability 1 - confidence: about 3 / keys at 95 % (the "rule of
    three"; Hanley and Lippman-Hand, JAMA 249, 1983). 1 for no keys.
    """
    if keys < 0 or not 0 < confidence < 1:
        raise ValueError("keys must not be negative, and the confidence must lie between 0 and 1")
    return 1 - (1 - confidence) ** (1 / keys) if keys else 1.0


def margin_in_words(low: float, ratio: float, high: float, keys: int) -> str:
    """How far to trust a success rate, for a person: its margin, and the worst that the interval allows."""
    if keys == 0:
        return "nothing compared"
    down, up = ratio - low, high - ratio
    widest = max(down, up)
    word = next((word for limit, word in _MARGIN_WORDS if widest <= limit), "too few keys to tell")
    return f"{word} (-{_points(down)}/+{_points(up)} points), at worst {_worst(1 - low)} wrong"


def _worst(rate: float) -> str:
    one_in = int(1 / rate) if rate > 0 else 0  # rounded towards the worse
    return f"1 key in {one_in:,}" if one_in >= 10 else f"{ceil(rate * 100)} % of the keys"


def _points(share: float) -> str:
    """A share in percentage points, with two significant digits below 1."""
    points = share * 100
    return f"{points:.1f}" if points >= 1 else f"{points:.2g}"


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence must lie between 0 and 1, not {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)
