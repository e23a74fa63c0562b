"""Segments: how many, which of them, in what order."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.comparing.segments import (
    LEAST_SAMPLED,
    MAX_SEGMENTS,
    SegmentPlan,
    plan_segments,
)

MB = 1024 * 1024
GB = 1024 * MB


@given(st.integers(0, 2_000 * GB))
def test_a_segment_holds_16_to_32_mb(table_bytes: int) -> None:
    plan = plan_segments(table_bytes, segments=None)
    assert plan.whole
    if table_bytes > 32 * MB:
        assert 16 * MB <= table_bytes / plan.total <= 32 * MB


def test_the_number_of_segments_stays_within_what_a_scan_takes() -> None:
    assert plan_segments(0).total == 1
    assert plan_segments(100_000 * GB).total == MAX_SEGMENTS
    assert plan_segments(1000 * GB, segments=7).total == 7
    for wrong in (0, MAX_SEGMENTS + 1):
        with pytest.raises(ValueError, match="segments"):
            plan_segments(GB, segments=wrong)


@given(st.integers(1, 3_000))
def test_every_segment_of_a_whole_table_is_read_once(total: int) -> None:
    assert sorted(plan_segments(0, segments=total).segments) == list(range(total))


def test_neighbours_are_read_far_apart() -> None:
    assert plan_segments(0, segments=8).segments == (0, 4, 2, 6, 1, 5, 3, 7)
    order = plan_segments(0, segments=1000).segments
    near = sum(abs(a - b) < 10 for a, b in itertools.pairwise(order))
    assert near == 0


@given(st.integers(100, 1_000), st.integers(1, 100), st.integers(1, 100))
def test_a_larger_sample_holds_every_smaller_one(total: int, a: int, b: int) -> None:
    small, large = (set(plan_segments(0, rate, total).segments) for rate in sorted((a, b)))
    assert small <= large


@pytest.mark.parametrize("percent", [0.1, 1, 12.5, 50])
def test_a_sample_reads_its_share_of_the_segments_and_thirty_at_least(percent: float) -> None:
    plan = plan_segments(200 * GB, percent)
    assert not plan.whole
    assert len(plan.segments) >= LEAST_SAMPLED
    assert len(plan.segments) / plan.total == pytest.approx(percent / 100, rel=0.05)
    assert len(set(plan.segments)) == len(plan.segments)


def test_segments_grow_in_number_for_a_sample_but_a_table_of_few_pages_is_read_whole() -> None:
    grown = plan_segments(4 * GB, 1)
    assert (grown.total, len(grown.segments)) == (3_000, 30)
    assert plan_segments(100 * MB, 1).whole
    assert plan_segments(100 * MB, 1).total == plan_segments(100 * MB).total


def test_a_plan_of_all_segments_is_whole() -> None:
    assert SegmentPlan(2, (0, 1)).whole
    assert not SegmentPlan(2, (1,)).whole
