"""Samples: what is kept of the figures, and one row of them from tiers of any age."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.samples import TIERS_MS, Sample, sample_of, thinned, timeline
from tests.report_states import NOON_MS, healthy, with_ledger


def kept(instants: list[int]) -> dict[str, Sample]:
    """As `lua/sample.lua` keeps samples that say when they were made."""
    samples: dict[str, Sample] = {}
    for at_ms in sorted(instants):
        for tier, (width_ms, _) in enumerate(TIERS_MS):
            samples[f"{tier}:{at_ms // width_ms}"] = Sample(at_ms)
    newest = max(instants)
    return {
        name: one
        for name, one in samples.items()
        if int(name[2:]) >= (newest - TIERS_MS[int(name[0])][1]) // TIERS_MS[int(name[0])][0]
    }


@given(st.lists(st.integers(0, 100 * 86_400_000), min_size=1, max_size=200))
def test_the_timeline_is_in_order_and_ends_with_the_newest_sample(instants: list[int]) -> None:
    row = [one.at_ms for one in timeline(kept(instants))]
    assert row == sorted(row) and row[-1] == max(instants)
    oldest_kept = max(instants) - TIERS_MS[-1][1]
    assert all(at_ms >= oldest_kept - TIERS_MS[-1][0] for at_ms in row)
    assert len(row) <= sum(kept_ms // width_ms + 2 for width_ms, kept_ms in TIERS_MS)


def test_every_stretch_that_was_sampled_is_in_the_timeline() -> None:
    """Three days, each half minute: nowhere further apart than the coarsest tier that may stand there."""
    row = [one.at_ms for one in timeline(kept(list(range(0, 3 * 86_400_000, 30_000))))]
    steps = {after - before for before, after in itertools.pairwise(row)}
    assert min(steps) > 0 and max(steps) <= 3_600_000
    assert row[0] < 3_600_000


def test_a_sample_holds_what_is_wrong_so_that_more_is_worse() -> None:
    bad = with_ledger(healthy(), open={"missing": 3})
    fine, worse = sample_of(healthy()), sample_of(bad)
    assert worse.wrong and fine.wrong == 0 and worse.unseen and fine.unseen
    assert worse.wrong > fine.wrong and worse.unseen > fine.unseen
    assert (worse.open, fine.at_ms, fine.compared) == (3, NOON_MS, 1.0)


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=200, unique=True).map(sorted),
    st.integers(1, 50),
)
def test_a_thinned_row_is_short_and_hides_nothing_bad(instants: list[int], most: int) -> None:
    row = [Sample(at_ms, lag_p99=None if at_ms % 3 else at_ms % 7, open=at_ms % 5) for at_ms in instants]
    short = thinned(row, most)
    assert len(short) <= most or len(row) <= most
    assert [one.at_ms for one in short] == sorted({one.at_ms for one in short})
    assert short[-1].at_ms == row[-1].at_ms
    assert max(one.open for one in short) == max(one.open for one in row)
    lags = [[one.lag_p99 for one in of if one.lag_p99 is not None] for of in (row, short)]
    assert max(lags[0], default=None) == max(lags[1], default=None)
