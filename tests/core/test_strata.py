"""The strata in numbers and words, and that no word promises more than the interval."""

import re

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.strata import in_words, strata
from tests.core.test_gate import compared, figures, ledger
from tests.report_states import healthy


@given(st.integers(1, 10**8), st.integers(0, 50))
def test_the_words_never_promise_more_than_the_interval(keys: int, wrong: int) -> None:
    changed, _ = strata(figures(ledger=ledger(keys_judged=keys, open={"missing": min(wrong, keys)})))
    assert changed.unseen is not None and changed.low is not None
    said = in_words(changed)
    if one_in := re.search(r"fewer than 1 key in ([\d,]+) is wrong", said):
        assert 1 / int(one_in[1].replace(",", "")) >= changed.unseen
    else:
        percent = re.search(r"at most ([\d.]+) % of the keys are wrong", said)
        assert percent and float(percent[1]) / 100 >= changed.unseen - 1e-9


def test_the_example_of_the_plan_is_said_as_planned() -> None:
    """300,000 keys, all right: a defect in 0.1 % would have shown 300 times."""
    changed, _ = strata(figures(ledger=ledger(keys_judged=300_000)))
    assert "a defect in 0.1 % of the keys would have shown about 300 times" in in_words(changed)


def test_nothing_compared_says_nothing() -> None:
    changed, whole = strata(figures(ledger=ledger(keys_judged=0), comparison=None))
    for one in (changed, whole):
        assert one.ratio is one.low is one.unseen is None
        assert "nothing can be said" in in_words(one) and "%" not in in_words(one)


def test_a_whole_table_is_counted_and_a_sample_of_segments_estimated_by_partition_keys() -> None:
    _, whole = strata(healthy())
    assert (
        whole.exact and whole.low == whole.high == 1 and "every one of the 30,000,000 keys" in in_words(whole)
    )
    _, part = strata(figures(comparison=compared(percent=10)))
    assert not part.exact and part.unit == "partition key" and (part.low or 1) < 1


def test_a_comparison_that_proves_nothing_yet_says_so() -> None:
    under_way = msgspec.structs.replace(compared(), done=10, finished_ms=None)
    _, whole = strata(figures(comparison=under_way))
    assert in_words(whole) == "10 of 1,000 segments were read: nothing can be said"
