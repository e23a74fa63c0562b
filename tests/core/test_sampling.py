"""The sampler keeps keys, the same ones everywhere."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.sampling import Sampler
from pipeline.core.statistics import exact_interval

KEYS = [b'"user#%d"' % number for number in range(20_000)]
PERCENTS = st.floats(min_value=0, max_value=100, exclude_min=True, allow_subnormal=False)


@given(PERCENTS, PERCENTS, st.binary())
def test_a_larger_percentage_keeps_all_that_a_smaller_one_keeps(a: float, b: float, key: bytes) -> None:
    small, large = sorted((a, b))
    assert Sampler(small).keeps(key) <= Sampler(large).keeps(key)


@given(st.binary())
def test_100_percent_keeps_every_key(key: bytes) -> None:
    assert Sampler(100).keeps(key)
    assert Sampler(100).threshold > b"\xff" * 8, "even the largest hash"


@pytest.mark.parametrize("percent", [0.5, 1, 5, 12.5, 50, 99])
def test_about_the_chosen_share_of_the_keys_is_kept(percent: float) -> None:
    low, high = exact_interval(sum(map(Sampler(percent).keeps, KEYS)), len(KEYS), confidence=0.9999)
    assert low <= percent / 100 <= high


def test_the_threshold_is_the_share_of_all_hashes() -> None:
    assert Sampler(50).threshold == b"\x80" + b"\x00" * 7
    assert Sampler(0.1).threshold == (2**64 // 1000).to_bytes(8)
    assert Sampler(1e-300).threshold == b"\x00" * 7 + b"\x01", "never nothing at all"


def test_another_process_keeps_the_same_keys() -> None:
    """Python's own hash() would differ: it is seeded per process."""
    script = (
        "from pipeline.core.sampling import Sampler\n"
        "s = Sampler(5)\n"
        "print([n for n in range(2000) if s.keeps(b'\"user#%d\"' % n)])"
    )
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    sampler = Sampler(5)
    assert outcome.stdout.strip() == str([number for number in range(2000) if sampler.keeps(KEYS[number])])


@pytest.mark.parametrize("percent", [0, -1, 100.1, float("nan"), float("inf")])
def test_a_percentage_out_of_range_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 100"):
        Sampler(percent)
